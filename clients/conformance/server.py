"""What the player has beside the driver: a server that it asks, and the programs of this folder that it talks to."""

import pathlib
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
USUAL = {"lock.claim-ms": 1000, "lock.max-lease-ms": 604800000, "lock.max-waiters-per-key": 20000, "busy-reply-threshold": 5000}
USUAL["lock.recovery-window-ms"] = -1


class Failed(Exception):
    """Something is not as it must be."""


def until(what, condition, seconds=5.0):
    """The only place that sleeps to wait for something."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"not so after {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.005)


class Script:
    """A program of this folder that answers each line with a line, and ends with its standard input."""

    def __init__(self, name, *args):
        command, pipe = [sys.executable, str(HERE / name), *map(str, args)], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def line(self):
        return self.process.stdout.readline().strip()

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.line()

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Server:
    """A server on this port, asked over one connection."""

    def __init__(self, port):
        self.port, self.replies = port, None

    def cmd(self, *words):
        """The reply with texts in place of bytes. Sentinels cut the connections of a server that gets another role, so a
        request is sent again."""
        words = [str(word).encode() for word in words]
        request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        try:
            reply = self.ask(request)
        except OSError:
            self.close()
            reply = self.ask(request)
        if isinstance(reply, Failed):
            raise reply
        return reply

    def ask(self, request):
        if not self.replies:
            self.connection = socket.create_connection(("127.0.0.1", self.port), 30)
            self.replies = self.connection.makefile("rb")
        self.connection.sendall(request)
        return self.reply()

    def reply(self):
        line = self.replies.readline()
        if not line:
            raise ConnectionError("the server has closed the connection")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))] if rest != "-1" else None
        if kind == b"$":
            return self.replies.read(int(rest) + 2)[:-2].decode("utf-8", "replace") if rest != "-1" else None
        return Failed(rest) if kind == b"-" else int(rest) if kind == b":" else rest

    def close(self):
        if self.replies:
            self.replies.close()
            self.connection.close()
            self.replies = None

    def answers(self):
        try:
            return self.cmd("PING") == "PONG"
        except (OSError, Failed):
            self.close()
            return False

    def reset(self):
        """Empty, and as by default."""
        self.cmd("REPLICAOF", "NO", "ONE")
        self.cmd("LOCK.RECOVERY", "END")
        self.cmd("ACL", "SETUSER", "default", "+@all")
        for name, value in USUAL.items():
            self.cmd("CONFIG", "SET", name, value)
        self.cmd("FLUSHALL")

    def restart(self):
        """In the same process, with what is in its append-only file."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"DEBUG RESTART\r\n")
            connection.recv(1)
        self.close()
        until("the server answers again", self.answers, 10)

    def promote(self):
        """Makes it a replica, and a primary again."""
        self.cmd("REPLICAOF", "127.0.0.1", 1)
        self.cmd("REPLICAOF", "NO", "ONE")

    def unblock(self, how):
        for line in self.cmd("CLIENT", "LIST").splitlines():
            client = dict(field.split("=", 1) for field in line.split())
            if "b" in client["flags"]:
                self.cmd("CLIENT", "UNBLOCK", client["id"], how)

    def info(self, key):
        reply = self.cmd("LOCK.INFO", key)
        return dict(zip(reply[::2], reply[1::2]))

    def holders(self, key):
        return len(self.info(key)["holds"])

    def waiting(self, key):
        return self.info(key)["waiting"]

    def idle(self, keys):
        return all(not self.holders(key) and not self.waiting(key) for key in keys)

    def figure(self, section, name):
        """A number of INFO, or 0. Of commandstats it is that of the calls."""
        for line in self.cmd("INFO", section).splitlines():
            if line.startswith(name + ":"):
                return int(line[len(name) + 1 :].removeprefix("calls=").split(",")[0])
        return 0

    def connections(self):
        return self.figure("clients", "connected_clients")
