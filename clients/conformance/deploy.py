"""Starts servers with the module in one of the ways in which people run them, for clients in any language. It needs Python
alone, and openssl for TLS. All is on loopback, in a folder of its own, and ends with its standard input.

usage: SERVER_BIN=redis-server MODULE_PATH=module.so deploy.py KIND

    alone     one server that keeps an append-only file
    tls       one server that speaks TLS, and a user with no more rights than docs/access.md gives an application
    cluster   three primaries
    sentinel  a primary, a replica, and three sentinels

It prints one line of JSON when all is ready, "skipped: REASON" if this server has no TLS, or what is wrong:

    home        the port where the key "k" is, without TLS and for every right: for the test's own looks
    port        where a client begins: that of TLS, or of a node of the cluster
    sentinels   their ports, and `name`, the name of the primary there
    servers     all ports to which a client may come
    ca          a file with the certificate to trust, for the host "localhost"
    user, password

On "failover" (only with sentinels) it replies with the new `home`, as soon as all sentinels know it. The old primary goes on
for some ten seconds as if nothing were, and no client may ask it any more.
"""

import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

SERVER, MODULE = os.environ["SERVER_BIN"], os.environ["MODULE_PATH"]
LOCKS = "+lock.acquire +lock.release +lock.renew +lock.check +lock.cancel +lock.macquire +lock.mrelease +lock.mrenew"
RIGHTS = "on >secret resetkeys ~k ~{k}* resetchannels -@all +ping " + LOCKS


def free_port():
    """One of which the port 10,000 above is free, too: a node of a cluster listens there."""
    while True:
        port = random.randrange(12_000, 21_000)
        with socket.socket() as probe, socket.socket() as bus:
            try:
                probe.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
                return port
            except OSError:
                pass


def cmd(port, *words):
    """The reply as text: a line, or all the lines of what is longer."""
    request = f"*{len(words)}\r\n" + "".join(f"${len(str(word))}\r\n{word}\r\n" for word in words)
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def until(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise SystemExit(f"not so after {seconds} s: {what}")
        time.sleep(0.02)


class Taken(Exception):
    """Somebody else has taken a port since it was found free."""


class Deployment:
    def __init__(self, folder):
        self.folder, self.processes = pathlib.Path(folder), []

    def start(self, port, *options, module=True):
        folder = self.folder / str(port)
        folder.mkdir()
        config = folder / "conf"  # sentinels want one that they can write to
        lines = [f"port {port}", "bind 127.0.0.1", f"dir {folder}", *options]
        config.write_text("\n".join(lines + ["save ''", f"loadmodule {MODULE}"] * module) + "\n")
        log = open(folder / "log", "wb")
        words = [SERVER, str(config)] + ["--sentinel"] * (not module)
        self.processes.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        self.processes[-1].log = folder / "log"
        return port

    def answers(self, port):
        for process in self.processes:
            if process.poll() is not None:
                log = process.log.read_text()
                if "Address already in use" in log:
                    raise Taken
                if "tls-port" in log or "Failed finding TLS support" in log:
                    raise SystemExit("skipped: this server was built without TLS")
                raise SystemExit(f"this server does not start: {log[-300:]!r}")
        return cmd(port, "PING").startswith("+PONG")

    def alone(self):
        home = self.start(free_port(), "appendonly yes", "enable-debug-command yes", "lock.recovery-window-ms -1")
        until("the server answers", lambda: self.answers(home))
        return {"home": home, "port": home, "servers": [home]}

    def tls(self):
        words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        words += " -addext basicConstraints=critical,CA:FALSE"  # rustls wants no authority as a server
        names = ["-keyout", "key", "-out", "crt"]
        subprocess.run(["openssl", *words.split(), *names], check=True, capture_output=True, cwd=self.folder)
        key, crt, port = self.folder / "key", self.folder / "crt", free_port()
        options = [f"tls-port {port}", f"tls-cert-file {crt}", f"tls-key-file {key}", f"tls-ca-cert-file {crt}"]
        home = self.start(free_port(), *options, "tls-auth-clients no", "enable-debug-command yes")
        until("the server answers", lambda: self.answers(home))
        cmd(home, "ACL", "SETUSER", "app", *RIGHTS.split())
        return {"home": home, "port": port, "servers": [port], "ca": str(crt), "user": "app", "password": "secret"}

    def cluster(self):
        ports = [self.start(free_port(), "cluster-enabled yes", "cluster-node-timeout 5000") for _ in range(3)]
        for n, port in enumerate(ports):
            until("a node answers", lambda: self.answers(port))
            cmd(port, "CLUSTER", "ADDSLOTSRANGE", [0, 5461, 10923][n], [5460, 10922, 16383][n])
            cmd(port, "CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for port in ports[1:]:
            cmd(ports[0], "CLUSTER", "MEET", "127.0.0.1", port)
        whole = ("cluster_state:ok", "cluster_known_nodes:3")
        for port in ports:
            until("the cluster is whole", lambda: all(word in cmd(port, "CLUSTER", "INFO") for word in whole))
        return {"home": ports[1], "port": ports[0], "servers": ports}  # "k" is in slot 7629

    def sentinel(self):
        home = self.start(free_port())
        until("the primary answers", lambda: self.answers(home))
        replica = self.start(free_port(), f"replicaof 127.0.0.1 {home}")
        until("the replica is in step", lambda: "state=online" in cmd(home, "INFO", "replication"))
        self.pair, name = [home, replica], "locks"
        watch = [f"sentinel monitor {name} 127.0.0.1 {home} 2", f"sentinel down-after-milliseconds {name} 3000"]
        self.sentinels = [self.start(free_port(), *watch, module=False) for _ in range(3)]
        knows = ("num-slaves\r\n$1\r\n1", "num-other-sentinels\r\n$1\r\n2")
        for port in self.sentinels:
            until("a sentinel knows all", lambda: all(word in cmd(port, "SENTINEL", "MASTER", name) for word in knows))
        return {"home": home, "sentinels": self.sentinels, "name": name, "servers": self.pair + self.sentinels}

    def failover(self):
        old, new = self.pair
        until("the replica follows", lambda: "master_link_status:up" in cmd(new, "INFO", "replication"))
        cmd(self.sentinels[0], "SENTINEL", "FAILOVER", "locks")
        until("the replica is the primary", lambda: "role:master" in cmd(new, "INFO", "replication"))
        for port in self.sentinels:
            until("a sentinel knows", lambda: str(new) in cmd(port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "locks"))
        cmd(new, "LOCK.RECOVERY", "END")  # nothing was lost, so nobody has to wait
        self.pair = [new, old]
        return new


def main():
    while not served():
        pass


def served():
    """Serves until the standard input ends. Returns False if a port was taken, so that all must begin anew."""
    with tempfile.TemporaryDirectory(prefix="fencelock-") as folder:
        deployment = Deployment(folder)
        try:
            print(json.dumps(getattr(deployment, sys.argv[1])()), flush=True)
            for line in sys.stdin:
                print(getattr(deployment, line.strip())(), flush=True)
            return True
        except Taken:
            return False
        except SystemExit as end:
            print(end, flush=True)
            return True
        finally:
            for process in deployment.processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
