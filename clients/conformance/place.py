"""Where a scenario is played: servers of deploy.py, and the proxy before them."""

import json

from server import Failed, Script, Server


class Missing(Exception):
    """There is no such place with this server."""


class Place:
    """Servers in one of the ways in which people run them. The library speaks to them through the proxy."""

    def __init__(self, kind):
        self.kind, self.deployed, self.next = kind, Script("deploy.py", kind), None
        line = self.deployed.line()
        if not line.startswith("{"):
            self.deployed.stop()
            raise Missing(line.removeprefix("skipped: ")) if line.startswith("skipped: ") else Failed(line or "deploy.py has ended")
        self.told = json.loads(line)
        self.first = self.server = Server(self.told["home"])
        servers = self.told["servers"]
        self.proxy = Script("proxy.py", *["--sealed"] * (kind == "tls"), *servers)
        self.proxied = dict(zip(servers, map(int, self.proxy.line().split())))

    def where(self, client):
        """What the driver has to know to connect."""
        told = {name: self.told[name] for name in ("name", "user", "password", "ca") if name in self.told}
        ports = self.told.get("sentinels") or [self.told["port"]]
        return {**told, "kind": self.kind, "ports": ports if client.get("direct") else [self.proxied[port] for port in ports]}

    def tell(self, line):
        if self.proxy.tell(line) != "ok":
            raise Failed(f"the proxy does not know: {line}")

    def unmet(self):
        """The faults that have struck nothing; empty if each has."""
        answer = self.proxy.tell("struck")
        return "" if answer == "ok" else answer

    def clean(self, needs):
        """As before each scenario, with a successor for those that need one."""
        self.tell("heal")
        if self.kind == "alone":
            self.server.reset()
        else:
            self.server.cmd("FLUSHALL")
        if "successor" in needs:
            self.next = Script("deploy.py", "alone")
            self.successor = Server(json.loads(self.next.line())["home"])
            self.successor.cmd("CONFIG", "SET", "lock.recovery-window-ms", 10000)
            self.successor.cmd("LOCK.ACQUIRE", "before", "other")

    def end_successor(self):
        if self.next:
            self.successor.close()
            self.next.stop()
            self.next = None

    def failover(self):
        self.server.close()
        self.server = Server(int(self.deployed.tell("failover")))
        return self.server

    def stop(self):
        self.end_successor()
        self.server.close()
        self.proxy.stop()
        self.deployed.stop()
