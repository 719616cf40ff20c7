"""A server with the module, redis_exporter and Prometheus, each for real: what test.py and story.py start.

They are told by the environment where these are: SERVER_BIN=redis-server MODULE_PATH=module.so PROGRAMS=DIR
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = pathlib.Path(os.environ["PROGRAMS"])
WITH_THE_MODULE = "--loadmodule", os.environ["MODULE_PATH"]
DEADLINE_S = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, check, missing=lambda: ""):
    """Returns what check returns, as soon as that is true."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"monitoring: waited {DEADLINE_S} s for {what} {missing()}")


class Redis:
    """One connection, that speaks RESP2."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def send(self, line):
        words = line.split()
        request = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        self.socket.sendall(f"*{len(words)}\r\n{request}".encode())

    def read(self):
        line = self.file.readline()[:-2]
        if not line:
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:]
        if kind == b"$" and rest != b"-1":
            return self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*" and rest != b"-1":
            return [self.read() for _ in range(int(rest))]
        return int(rest) if kind == b":" else None if rest == b"-1" else rest.decode()

    def ask(self, line):
        self.send(line)
        return self.read()

    def close(self):
        self.file.close()
        self.socket.close()


def answers(port):
    try:
        return Redis(port).ask("PING") == "PONG"
    except OSError:
        return False


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.read().decode()
    except (urllib.error.URLError, OSError):
        return ""


class Stage:
    """Servers, and a Prometheus that looks at them. All end with it; their logs are shown if it ends by an error."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lock-monitoring-"))
        self.processes = []
        self.prometheus = None

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        if error:
            for log in self.folder.glob("*.log"):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *command):
        log = open(self.folder / f"{pathlib.Path(command[0]).name}.log", "ab")
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder))
        return self.processes[-1]

    def start_server(self, port, *options):
        """Started a second time on the same port, it has the files of the first time."""
        folder = self.folder / str(port)
        folder.mkdir(exist_ok=True)
        server = self.start(os.environ["SERVER_BIN"], "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir",
                            str(folder), *options)
        wait_until("the server", lambda: answers(port))
        return server

    def watch(self, ports, every="1s", rules=lambda text: text):
        """Lets Prometheus look at these servers, by rules that a function has changed. Returns what they are called there."""
        instances = []
        for port in ports:
            instances.append(f"127.0.0.1:{free_port()}")
            self.start(str(PROGRAMS / "prometheus-redis-exporter"), "-redis.addr", f"redis://127.0.0.1:{port}", "-script",
                       str(HERE / "redis-lock.lua"), "-web.listen-address", instances[-1])
        (self.folder / "rules").mkdir()
        for name in ["redis-lock.yml", "redis-lock-alerts.yml"]:
            (self.folder / "rules" / name).write_text(rules((HERE / "rules" / name).read_text()))
        config = (HERE / "prometheus.yml").read_text()
        for what, instead in [("127.0.0.1:9121", '", "'.join(instances)), (": 15s", f": {every}"),
                              ("rules/", f"{self.folder}/rules/")]:
            assert what in config, what
            config = config.replace(what, instead)
        (self.folder / "prometheus.yml").write_text(config)
        address = f"127.0.0.1:{free_port()}"
        self.start(str(PROGRAMS / "prometheus"), "--config.file=prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
                   f"--web.listen-address={address}")
        self.prometheus = f"http://{address}"
        wait_until("the first figures", lambda: self.query("redis_lock_held"))
        return instances

    def query(self, expr):
        reply = get(f"{self.prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expr}))
        return json.loads(reply)["data"]["result"] if reply else []
