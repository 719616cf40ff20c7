"""A server with the module, a hostile proxy before it, and waiting for what must become true."""

import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

import redis

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROXY = ROOT / "clients" / "conformance" / "proxy.py"

USUAL = {"lock.claim-ms": 1000, "lock.max-lease-ms": 604800000, "lock.max-waiters-per-key": 20000, "busy-reply-threshold": 5000}
USUAL["lock.recovery-window-ms"] = -1


def wait_until(what, condition, seconds=5.0):
    """The only place that sleeps to wait for something."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not so after {seconds} s: {what}"
        time.sleep(0.005)
    return result


def free_port():
    """One of which the port 10,000 above is free, too: a node of a cluster listens there. Both lie below those that the
    system gives to connections."""
    while True:
        port = random.randrange(12_000, 22_000)
        with socket.socket() as probe, socket.socket() as bus:
            try:
                probe.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
                return port
            except OSError:
                pass


class Server:
    def __init__(self, *options):
        self.port = free_port()
        self.dir = tempfile.TemporaryDirectory(prefix="fencelock-")
        binary, module = os.environ["SERVER_BIN"], os.environ["MODULE_PATH"]
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.dir.name, "--save", "", *options]
        command += ["--lock.recovery-window-ms", "-1"]
        self.log = open(os.path.join(self.dir.name, "log"), "wb")
        self.process = subprocess.Popen([*command, "--loadmodule", module], stdout=self.log, stderr=self.log)
        self.client = redis.Redis(port=self.port, decode_responses=True)
        wait_until("the server answers", self.answers, 20)

    def answers(self):
        try:
            return self.client.ping()
        except redis.ConnectionError:
            assert self.process.poll() is None, open(self.log.name).read()
            return False

    def cmd(self, *args):
        return self.client.execute_command(*args)

    def reset(self):
        """Empty, and as by default: what a test that failed may have left is gone."""
        self.cmd("REPLICAOF", "NO", "ONE")
        self.cmd("LOCK.RECOVERY", "END")
        self.cmd("ACL", "SETUSER", "default", "+@all")
        for name, value in USUAL.items():
            self.cmd("CONFIG", "SET", name, value)
        self.client.flushall()

    def info(self, key):
        reply = self.cmd("LOCK.INFO", key)
        return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))

    def holders(self, key):
        holds = self.info(key)["holds"]
        return [(hold if isinstance(hold, dict) else dict(zip(hold[::2], hold[1::2])))["owner"] for hold in holds]

    def waiting(self, key):
        return self.info(key)["waiting"]

    def idle(self, *keys):
        return all(not self.holders(key) and not self.waiting(key) for key in keys)

    def calls(self, command):
        return self.client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)

    def stop(self):
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.dir.cleanup()


class Proxy:
    def __init__(self, port):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, str(PROXY), str(port)], stdin=pipe, stdout=pipe, text=True)
        self.port = int(self.process.stdout.readline())

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def tell(self, line):
        assert self.ask(line) == "ok", line

    def struck(self):
        """Whether each fault so far has befallen something."""
        return self.ask("struck") == "ok"

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
