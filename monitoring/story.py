"""Makes the picture of docs/monitoring.md: plays a bad day in some two minutes on the stage of stage.py, and lets picture.py draw
it.

usage: see stage.py; python3 story.py picture.png
"""

import random
import sys
import threading
import time

import picture
from stage import WITH_THE_MODULE, Redis, Stage, free_port, wait_until

# Leases are short, so that the recovery window is. No more memory for those who wait than shows in a picture.
OPTIONS = (*WITH_THE_MODULE, "--appendonly", "yes", "--lock.default-lease-ms", "10000", "--lock.max-lease-ms",
           "60000", "--lock.max-memory-bytes", "2097152")


def waiting(redis, key):
    return redis.ask(f"LOCK.INFO {key}")[7]


def work(port, name, stop):
    """Takes one of three locks, holds it for a moment, renews it, gives it back. It is a new owner when the server was away."""
    dice = random.Random(name)
    while not stop.is_set():
        owner = f"{name}-{dice.randrange(10**6)}"
        try:
            redis = Redis(port)
            while not stop.is_set():
                key = f"job{dice.randrange(3)}"
                if isinstance(redis.ask(f"LOCK.ACQUIRE {key} {owner} BLOCK 60000"), int):
                    stop.wait(dice.uniform(0.02, 0.06))
                    redis.ask(f"LOCK.RENEW {key} {owner}")
                    stop.wait(dice.uniform(0.02, 0.06))
                    redis.ask(f"LOCK.RELEASE {key} {owner}")
                stop.wait(dice.expovariate(5))
        except OSError:
            stop.wait(0.2)


def one_after_the_other(port, name, redis):
    """One of the crowd: has the lock for a quarter of a second when its turn has come."""
    redis.read()
    time.sleep(0.25)
    redis.ask(f"LOCK.RELEASE report {name}")


def a_queue_grows(port):
    """Somebody holds a lock for long, and 40 come who want it. Returns them."""
    redis = Redis(port)
    redis.ask("LOCK.ACQUIRE report slow")
    crowd = {}
    for n in range(40):
        name = f"client{n}"
        crowd[name] = Redis(port)
        crowd[name].send(f"LOCK.ACQUIRE report {name} BLOCK 0")
        redis.ask("LOCK.RENEW report slow")
        time.sleep(0.4)
    return crowd


def half_of_it_gives_up(port, crowd):
    """Twenty close their connections. Then the lock is given back, and the others have it one after the other."""
    for name in list(crowd)[::2]:
        crowd.pop(name).close()
        time.sleep(0.15)
    redis = Redis(port)
    redis.ask("LOCK.RENEW report slow")
    wait_until("the others alone to wait", lambda: waiting(redis, "report") == len(crowd))
    threads = [threading.Thread(target=one_after_the_other, args=(port, name, of)) for name, of in crowd.items()]
    for thread in threads:
        thread.start()
    redis.ask("LOCK.RELEASE report slow")
    for thread in threads:
        thread.join()


def holders_crash(port):
    """Leases end that nobody renews; connections end that holds are tied to; locks are deleted, and one is broken."""
    redis = Redis(port)
    for n in range(40):
        redis.ask(f"LOCK.ACQUIRE lease{n} crashed PX 300")
        if n % 3 == 0:
            tied = Redis(port)
            tied.ask(f"LOCK.ACQUIRE tied{n} crashed TIED 0")
            tied.close()
        if n % 8 == 0:
            redis.ask(f"LOCK.ACQUIRE deleted{n} alice")
            redis.ask(f"DEL deleted{n}")
        if n == 20:
            redis.ask("LOCK.ACQUIRE stuck alice")
            redis.ask("LOCK.BREAK stuck")
        time.sleep(0.25)


def deadlocks(port):
    """Two take two locks in different orders: one is refused, asks for too long a lease, too, and gives back what it has."""
    alice, bob = Redis(port), Redis(port)
    for _ in range(20):
        alice.ask("LOCK.ACQUIRE left alice")
        bob.ask("LOCK.ACQUIRE right bob")
        bob.send("LOCK.ACQUIRE left bob BLOCK 0")
        wait_until("bob to wait", lambda: waiting(alice, "left") == 1)
        refused = alice.ask("LOCK.ACQUIRE right alice BLOCK 0")
        assert refused.startswith("DEADLOCK"), refused
        alice.ask("LOCK.ACQUIRE elsewhere alice PX 9999999")
        alice.ask("LOCK.RELEASE left alice")
        bob.read()
        bob.ask("LOCK.RELEASE left bob")
        bob.ask("LOCK.RELEASE right bob")
        time.sleep(0.5)


def holders_leave(port):
    """Five locks whose owner never comes back to them."""
    redis = Redis(port)
    for n in range(5):
        redis.ask(f"LOCK.ACQUIRE left{n} gone")


def main():
    port, stop, marks = free_port(), threading.Event(), []

    def mark(text):
        marks.append((time.time(), text))

    with Stage() as stage:
        server = stage.start_server(port, *OPTIONS)
        stage.watch([port], every="2s")
        start = time.time()
        workers = [threading.Thread(target=work, args=(port, f"worker{n}", stop)) for n in range(6)]
        for worker in workers:
            worker.start()
        try:
            time.sleep(20)
            mark("One lock is held for long, and 40 come who want it.")
            crowd = a_queue_grows(port)
            mark("20 of them close their connections; then the others have it, one after the other.")
            half_of_it_gives_up(port, crowd)
            time.sleep(10)
            mark("Holders crash. Some had a lease, some a tied connection. Locks are deleted.")
            holders_crash(port)
            time.sleep(12)
            mark("Two take two locks in different orders; one of them asks for too long a lease, too.")
            deadlocks(port)
            time.sleep(12)
            mark("The server is killed and started again, with a recovery window of 10 s.")
            holders_leave(port)
            server.kill()
            server.wait()
            time.sleep(2)
            stage.start_server(port, *OPTIONS)
            time.sleep(28)
        finally:
            stop.set()
        picture.draw(stage.prometheus, start, time.time(), sys.argv[1], marks)
        for worker in workers:
            worker.join()


main()
