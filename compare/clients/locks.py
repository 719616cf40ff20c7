"""One client of a lock from Python, driven line by line; see src/peers/child.rs for the words."""

import sys

peer, lease_ms, poll_ms, name, owner, *ports = sys.argv[1:]
lease, poll, port = int(lease_ms) / 1000, int(poll_ms) / 1000, int(ports[0])


def redis_py():
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


def python_redis_lock():
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


def kazoo():
    from kazoo.client import KazooClient

    client = KazooClient(hosts=f"127.0.0.1:{port}", timeout=lease)
    client.start()
    lock = client.Lock("/" + name)

    def release():
        return bool(lock.release())

    return lock.acquire, release


acquire, release = {"redispy": redis_py, "pythonredislock": python_redis_lock, "kazoo": kazoo}[peer]()
print("ready", flush=True)
for line in sys.stdin:
    try:
        if line == "acquire\n":
            print("held -" if acquire() else "error refused", flush=True)
        else:
            print("released", int(release()), flush=True)
    except Exception as error:
        print("error", type(error).__name__, str(error).replace("\n", " "), flush=True)
