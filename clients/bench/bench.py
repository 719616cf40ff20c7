"""What the client libraries cost: prints one table of all languages.

usage: bench.py SERVER_BIN MODULE NAME=PROGRAM...

It starts a server, and one program for each name, in which {port} stands for that of the server. A program reads lines,
does what they say, and answers each with "ok":

    raw N           N pairs of LOCK.ACQUIRE and LOCK.RELEASE by the bare client
    lib N           N pairs of acquire and release by the library
    hold N LEASE    N locks with this lease in ms, renewed; "drop 0" gives them back
    turn KEY        acquires and releases; prints the clock ("wall" or "monotonic") at which it had the lock, in ns
    rtt N           N times PING by the bare client, after a rest; prints how long each took, in ns

The programs take turns, so that a slow moment of the machine befalls all. Each figure is the median of the rounds. All run on
one processor: a bare pair costs several times as much where client and server wake each other on two, and which of it happens is
chance.
"""

import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS, PAIRS, WARM = 9, 2_000, 6_000
HELD, LEASE = 1_000, 6.0
TURNS = 200
PAUSE = 0.012  # in which a program comes to rest: before a hand-over, and before the PING that it is compared with


def cpu(pid):
    """What all threads of a process have used of the processors, in seconds."""
    return time.clock_gettime((~pid << 3) | 2)


class Server:
    def __init__(self, binary, module):
        self.dir = tempfile.TemporaryDirectory()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.dir.name, "--save", "",
             "--loadmodule", module], stdout=subprocess.DEVNULL)
        for _ in range(400):
            try:
                self.socket = socket.create_connection(("127.0.0.1", self.port))
                break
            except OSError:
                time.sleep(0.05)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, *words):
        self.socket.sendall(self.packed(*words))

    def packed(self, *words):
        parts = [str(word).encode() for word in words]
        return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)

    def reply(self):
        line = self.file.readline()[:-2].decode()
        if line[0] == "$" and line != "$-1":
            return self.file.read(int(line[1:]) + 2)[:-2].decode()
        if line[0] == "*" and line != "*-1":
            return [self.reply() for _ in range(int(line[1:]))]
        if line[0] == "-":
            raise SystemExit(line)
        return line[1:]

    def ask(self, *words):
        self.send(*words)
        return self.reply()

    def stat(self, section, name):
        """The number after this name; 0 if there is none."""
        for line in self.ask("INFO", section).lower().splitlines():
            if line.startswith(name):
                return int(line[len(name):].split(",")[0])
        return 0

    def renewals(self):
        names = ("cmdstat_lock.renew:calls=", "cmdstat_lock.mrenew:calls=")
        return sum(self.stat("commandstats", name) for name in names)


class Program:
    def __init__(self, name, command, server):
        self.name, self.server = name, server
        self.process = subprocess.Popen(
            [word.replace("{port}", str(server.port)) for word in shlex.split(command)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.figures = {"raw": [], "lib": [], "server raw": [], "server lib": []}

    def send(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        lines = []
        while (line := self.process.stdout.readline()) != "ok\n":
            if not line:
                raise SystemExit(f"{self.name} has ended")
            lines.append(line.strip())
        return lines

    def ask(self, line):
        self.send(line)
        return self.answer()

    def pairs(self, kind, n):
        """The processor time of one pair in µs, here and in the server."""
        before = cpu(self.process.pid), cpu(self.server.process.pid)
        self.ask(f"{kind} {n}")
        after = cpu(self.process.pid), cpu(self.server.process.pid)
        return [(now - then) / n * 1e6 for then, now in zip(before, after)]

    def round(self, flip):
        for kind in ("lib", "raw") if flip else ("raw", "lib"):
            here, there = self.pairs(kind, PAIRS)
            self.figures[kind].append(here)
            self.figures["server " + kind].append(there)

    def renew(self):
        """Renewals and packets that the server read, for each third of the lease, with so many locks held."""
        server = self.server
        self.ask(f"hold {HELD} {int(LEASE * 1000)}")
        time.sleep(LEASE / 2)
        before = server.renewals(), server.stat("stats", "total_reads_processed:")
        time.sleep(LEASE)
        after = server.renewals(), server.stat("stats", "total_reads_processed:")
        self.ask("drop 0")
        own = 3  # of this program, between the two figures
        return (after[0] - before[0]) / 3, (after[1] - before[1] - own) / 3

    def turn(self, n):
        """From the release by somebody else to the moment in which the library has returned, in µs."""
        server, key = self.server, f"turn:{n}"
        server.ask("LOCK.ACQUIRE", key, "bench", "PX", 60000)
        self.send(f"turn {key}")
        while server.ask("LOCK.INFO", key)[7] != "1":
            time.sleep(0.001)
        time.sleep(PAUSE)
        release = server.packed("LOCK.RELEASE", key, "bench")
        clocks = {"wall": time.time_ns(), "monotonic": time.monotonic_ns()}
        server.socket.sendall(release)
        clock, at = self.answer()[0].split()  # before the reply to us, for which we would take the processor from the library
        server.reply()
        return (int(at) - clocks[clock]) / 1000


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def main():
    binary, module, *programs = sys.argv[1:]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    server = Server(binary, module)
    all_of_them = [Program(*program.split("=", 1), server) for program in programs]
    try:
        for program in all_of_them:
            for kind in ("raw", "lib"):
                program.ask(f"{kind} {WARM}")
        for n in range(ROUNDS):
            for program in all_of_them:
                program.round(n % 2)
        turns = {program: [] for program in all_of_them}
        rtts = {program: [] for program in all_of_them}
        for n in range(TURNS):
            for program in all_of_them:
                turns[program].append(program.turn(n))
                time.sleep(PAUSE)
                rtts[program] += [int(ns) / 1000 for ns in program.ask("rtt 1")]
        version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.split()
        print(f"{version[0]} {version[2][2:]}, {ROUNDS} rounds of {PAIRS} pairs, {TURNS} hand-overs, {HELD} locks with a lease of {LEASE:.0f} s; "
              f"loopback, one of {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
        print("| | Raw, µs | Library, µs | Ratio | Server raw, µs | Server library, µs | Renewals | Packets "
              "| RTT p50, µs | RTT p99, µs | Hand-over p50, µs | Hand-over p99, µs | p50 in RTT | p99 in RTT p99 |")
        print("|---|" + "---|" * 13)
        for program in all_of_them:
            figures = {name: statistics.median(values) for name, values in program.figures.items()}
            ratio = statistics.median(lib / raw for raw, lib in zip(program.figures["raw"], program.figures["lib"]))
            renewals, packets = program.renew()
            rtt, turn = rtts[program], turns[program]
            low, high = quantile(rtt, 0.5), quantile(rtt, 0.99)
            print(f"| {program.name} | {figures['raw']:.1f} | {figures['lib']:.1f} | {ratio:.2f} "
                  f"| {figures['server raw']:.1f} | {figures['server lib']:.1f} | {renewals:.0f} | {packets:.0f} "
                  f"| {low:.0f} | {high:.0f} | {quantile(turn, 0.5):.0f} | {quantile(turn, 0.99):.0f} "
                  f"| {quantile(turn, 0.5) / low:.1f} | {quantile(turn, 0.99) / high:.1f} |", flush=True)
    finally:
        for program in all_of_them:
            program.process.kill()
        server.process.kill()
        server.process.wait()


main()
