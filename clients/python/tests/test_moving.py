"""A deployment that moves from redis-py's own locks, which are strings, to these: both kinds on one name exclude each other."""

import threading

import redis

from fencelock import Lock


def test_old_and_new_clients_on_one_name_exclude_each_other(server):
    client = redis.Redis(port=server.port)
    old = lambda: client.lock("k", timeout=10, sleep=0.01)  # noqa: E731
    new = lambda: Lock(client, "k", timeout=10)  # noqa: E731
    counter, inside, both, done = [0], [], [], []

    def work(make, kind):
        for _ in range(15):
            with make():
                inside.append(kind)
                both.append(len(inside))
                before = counter[0]
                client.get("anything")  # time for somebody else to come in, if anybody could
                counter[0] = before + 1
                inside.pop()
        done.append(kind)

    makers = [(old, "old"), (new, "new")] * 3
    threads = [threading.Thread(target=work, args=maker, daemon=True) for maker in makers]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert sorted(done) == ["new"] * 3 + ["old"] * 3
    assert counter == [90] and set(both) == {1}
    assert client.exists("k") == 0
    client.close()


def test_an_old_client_cannot_release_a_new_lock_by_its_script(server):
    client = redis.Redis(port=server.port)
    stale = client.lock("k", timeout=0.05)
    assert stale.acquire()
    server.cmd("DEL", "k")
    with Lock(client, "k", timeout=10) as lock:
        try:
            stale.release()
        except redis.RedisError:
            pass
        assert lock.owned() and not lock.lost.is_set()
    client.close()
