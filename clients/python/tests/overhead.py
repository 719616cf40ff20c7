"""Prints the processor time of a pair of acquire and release, above that of the raw commands on the same client."""

import time

import redis
from support import Server

from fencelock import Lock

PAIRS, CHUNKS = 20, 300


def main(client):
    reused = Lock(client, "k", timeout=30)

    def raw():
        client.execute_command("LOCK.ACQUIRE", "k", "owner", "PX", 30000)
        client.execute_command("LOCK.RELEASE", "k", "owner")

    def new():
        with Lock(client, "k", timeout=30):
            pass

    def again():
        with reused:
            pass

    def chunk(pair):
        begun = time.process_time()
        for _ in range(PAIRS):
            pair()
        return (time.process_time() - begun) / PAIRS * 1e6

    # In turns, so that a busy moment of the machine hits them alike; of many short runs one of the quick ones counts.
    runs = [[chunk(pair) for pair in (raw, new, again)] for _ in range(CHUNKS)]
    plain, *ours = (sorted(of)[CHUNKS // 10] for of in zip(*runs))
    over = [f"{us:.0f} us (+{100 * (us / plain - 1):.0f} %)" for us in ours]
    print(f"processor time of a pair: raw {plain:.0f} us, Lock {over[0]}, the same Lock again {over[1]}")


server = Server()
try:
    main(redis.Redis(port=server.port))
finally:
    server.stop()
