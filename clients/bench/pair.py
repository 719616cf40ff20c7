"""The program of clients/bench in Python, on redis-py. See bench.py for what it obeys."""

import sys
import time

import redis
from fencelock import Lock

r = redis.Redis(port=int(sys.argv[1]))
held = []

for line in sys.stdin:
    word, *args = line.split()
    if word == "raw":
        for _ in range(int(args[0])):
            fence = r.execute_command("LOCK.ACQUIRE", "raw", "bench:12345:0123456789abcdef", "PX", 30000)
            r.execute_command("LOCK.RELEASE", "raw", "bench:12345:0123456789abcdef", "FENCE", fence)
    elif word == "lib":
        for _ in range(int(args[0])):
            lock = Lock(r, "pair")
            lock.acquire()
            lock.release()
    elif word == "hold":
        for n in range(int(args[0])):
            held.append(Lock(r, f"held:{n}", timeout=int(args[1]) / 1000, renew=True))
            held[-1].acquire()
    elif word == "drop":
        for lock in held:
            lock.release()
        held.clear()
    elif word == "turn":
        lock = Lock(r, args[0])
        lock.acquire()
        print("wall", time.time_ns())
        lock.release()
    elif word == "rtt":
        for _ in range(int(args[0])):
            begun = time.perf_counter_ns()
            r.execute_command("PING")
            print(time.perf_counter_ns() - begun)
    print("ok", flush=True)
