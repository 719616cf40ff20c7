"""Clients of locks from Python: one, driven line by line, or a crowd of threads; see src/peers/child.rs for the words."""

import sys
import threading
import time

DRAIN_SECONDS = 5


def redis_py(port, lease, poll, name):
    import redis
    from redis.exceptions import LockNotOwnedError

    lock = redis.Redis(port=port).lock(name, timeout=lease, sleep=poll)

    def release():
        try:
            lock.release()
            return True
        except LockNotOwnedError:
            return False

    return lock.acquire, release


def python_redis_lock(port, lease, poll, name):
    import redis
    import redis_lock

    # The library wants whole seconds.
    lock = redis_lock.Lock(redis.StrictRedis(port=port), name, expire=max(1, round(lease)))

    def release():
        try:
            lock.release()
            return True
        except redis_lock.NotAcquired:
            return False

    return lock.acquire, release


def kazoo(port, lease, poll, name):
    from kazoo.client import KazooClient

    client = KazooClient(hosts=f"127.0.0.1:{port}", timeout=lease)
    client.start()
    lock = client.Lock("/" + name)

    def release():
        return bool(lock.release())

    return lock.acquire, release


PEERS = {"redispy": redis_py, "pythonredislock": python_redis_lock, "kazoo": kazoo}


def say(*words):
    print(*words, flush=True)


def one(peer, lease_ms, poll_ms, name, owner, *ports):
    acquire, release = PEERS[peer](int(ports[0]), int(lease_ms) / 1000, int(poll_ms) / 1000, name)
    say("ready")
    for line in sys.stdin:
        try:
            if line == "acquire\n":
                say("held -" if acquire() else "error refused")
            else:
                say("released", int(release()))
        except Exception as error:
            say("error", type(error).__name__, str(error).replace("\n", " "))


def crowd(peer, lease_ms, poll_ms, clients, hold_ms, names, prefix, *ports):
    hold, now = int(hold_ms) / 1000, time.monotonic_ns
    locks = []
    for index in range(int(clients)):
        name = prefix if names == "one" else f"{prefix}n{index}"
        locks.append(PEERS[peer](int(ports[0]), int(lease_ms) / 1000, int(poll_ms) / 1000, name))
    ends = threading.Event()
    events, waiting, errors = [], [None] * len(locks), []

    def work(index, acquire, release):
        try:
            while not ends.is_set():
                asked = waiting[index] = now()
                acquire()
                granted = now()
                waiting[index] = None
                if hold:
                    time.sleep(hold)
                releasing = now()
                release()
                events.append((index, asked, granted, releasing, now()))
                if hold:
                    time.sleep(hold)
        except Exception as error:
            errors.append(error)

    say("ready")
    while sys.stdin.readline() == "go\n":
        ends.clear()
        events.clear()
        threads = [threading.Thread(target=work, args=(i, *lock), daemon=True) for i, lock in enumerate(locks)]
        say("now", now())
        for thread in threads:
            thread.start()
        sys.stdin.readline()
        ends.set()
        deadline = time.monotonic() + DRAIN_SECONDS
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        for error in errors:
            say("error", type(error).__name__, str(error).replace("\n", " "))
        print("".join("%d %d %d %d %d\n" % event for event in list(events)), end="")
        for since in waiting:
            if since is not None:
                say("waiting", since)
        say("end")


mode, *words = sys.argv[1:]
{"one": one, "crowd": crowd}[mode](*words)
