"""A server with the module, a hostile proxy before it, and waiting for what must become true."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import redis

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "conformance"))
import server as kit
from deploy import RIGHTS, free_port

__all__ = ["RIGHTS", "Proxy", "Server", "kit", "wait_until"]


def wait_until(what, condition, seconds=5.0):
    """The only place that sleeps to wait for something."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not so after {seconds} s: {what}"
        time.sleep(0.005)
    return result


class Server:
    def __init__(self, *options):
        self.port = free_port()
        self.dir = tempfile.TemporaryDirectory(prefix="fencelock-")
        binary, module = os.environ["SERVER_BIN"], os.environ["MODULE_PATH"]
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.dir.name, "--save", "", *options]
        command += ["--lock.recovery-window-ms", "-1"]
        self.log = open(os.path.join(self.dir.name, "log"), "wb")
        self.process = subprocess.Popen([*command, "--loadmodule", module], stdout=self.log, stderr=self.log)
        self.client, self.kit = redis.Redis(port=self.port, decode_responses=True), kit.Server(self.port)
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
        self.kit.reset()

    def info(self, key):
        reply = self.cmd("LOCK.INFO", key)
        return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))

    def holders(self, key):
        holds = self.info(key)["holds"]
        return [(hold if isinstance(hold, dict) else dict(zip(hold[::2], hold[1::2])))["owner"] for hold in holds]

    def left(self, key):
        hold = self.info(key)["holds"][0]
        return (hold if isinstance(hold, dict) else dict(zip(hold[::2], hold[1::2])))["left-ms"]

    def waiting(self, key):
        return self.info(key)["waiting"]

    def idle(self, *keys):
        return all(not self.holders(key) and not self.waiting(key) for key in keys)

    def calls(self, command):
        return self.client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)

    def stop(self):
        self.client.close()
        self.kit.close()
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.dir.cleanup()


class Proxy(kit.Script):
    def __init__(self, port):
        super().__init__("proxy.py", port)
        self.port = int(self.line())

    def tell(self, line):
        answer = super().tell(line)
        assert answer == "ok", f"{line}: {answer}"

    def struck(self):
        """Whether each fault so far has befallen something."""
        return super().tell("struck") == "ok"
