"""The same locks in a cluster, for a user with few rights, and over TLS."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time

import pytest
import redis
import redis.asyncio
import redis.cluster
from support import RIGHTS, Server, kit, wait_until

import fencelock
import fencelock.asyncio


@pytest.fixture(scope="module")
def cluster():
    server = Server("--cluster-enabled", "yes")
    server.cmd("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until("the cluster is there", lambda: "ok" in str(server.cmd("CLUSTER", "INFO")).split("cluster_state")[1][:5], 10)
    yield server
    server.stop()


def test_cluster(cluster):
    client = redis.cluster.RedisCluster(host="127.0.0.1", port=cluster.port)
    with fencelock.Lock(client, "k", timeout=4.5, renew=True) as lock:
        assert not fencelock.Lock(client, "k").acquire(blocking_timeout=1.5)
        assert lock.owned() and not lock.lost.is_set()
    with fencelock.MultiLock(client, ["{k}:a", "{k}:b"]), fencelock.Semaphore(client, "{k}:c", 2):
        assert not cluster.idle("{k}:a")
    assert cluster.idle("k", "{k}:a", "{k}:b", "{k}:c")
    client.close()


def test_locks_of_several_slots_are_refused_at_once(cluster):
    client = redis.cluster.RedisCluster(host="127.0.0.1", port=cluster.port)
    began = time.monotonic()
    with pytest.raises(redis.exceptions.RedisClusterException):
        fencelock.MultiLock(client, ["a", "b"]).acquire()
    assert time.monotonic() - began < 5
    client.close()


def test_cluster_with_tasks(cluster):
    async def main():
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster.port)
        async with fencelock.asyncio.Lock(client, "k", timeout=4.5, renew=True) as lock:
            assert not await fencelock.asyncio.Lock(client, "k").acquire(blocking_timeout=1.5)
            assert await lock.owned() and not lock.lost.is_set()
        await client.aclose()

    asyncio.run(main())
    assert cluster.idle("k")


@contextlib.contextmanager
def with_a_silent_node():
    """The port of a cluster, the node that has "b", and a function that stops the one that has "k"."""
    deployed = kit.Script("deploy.py", "cluster")
    told = json.loads(deployed.line())
    nodes = [kit.Server(port) for port in told["servers"]]
    for node in nodes:
        node.cmd("CONFIG", "SET", "cluster-require-full-coverage", "no")
    home, other = nodes[1], nodes[0]  # "k" is in slot 7629, "b" in slot 3300
    pid = home.figure("server", "process_id")
    try:
        yield told["port"], other, lambda: os.kill(pid, signal.SIGSTOP)
    finally:
        os.kill(pid, signal.SIGCONT)
        for node in nodes:
            node.close()
        deployed.stop()


LEASES = ("k", 6), ("b", 2)  # the second ends while a reply for the first may still come


def renewals(node):
    return node.figure("commandstats", "cmdstat_lock.renew")


def test_a_silent_node_of_a_cluster_costs_no_lock_of_another(monkeypatch):
    monkeypatch.setattr(fencelock._threads, "SENDERS", 1)
    with with_a_silent_node() as (port, other, stop):
        client = redis.cluster.RedisCluster(host="127.0.0.1", port=port)
        lost, kept = (fencelock.Lock(client, key, timeout=timeout, renew=True) for key, timeout in LEASES)
        assert lost.acquire() and kept.acquire()
        stop()
        assert lost.lost.wait(9), "its lease is over"
        before = renewals(other)
        wait_until("the other is renewed", lambda: renewals(other) >= before + 2, 10)
        assert not kept.lost.is_set() and kept.owned()
        assert [thread.name for thread in threading.enumerate()].count("fencelock-send") <= 2, "one for each node"
        kept.release()
    client.close()


def test_a_silent_node_of_a_cluster_costs_no_lock_of_another_with_tasks():
    async def main(port, other, stop):
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=port)
        lost, kept = (fencelock.asyncio.Lock(client, key, timeout=timeout, renew=True) for key, timeout in LEASES)
        assert await lost.acquire() and await kept.acquire()
        stop()
        await asyncio.wait_for(lost.lost.wait(), 9)
        before = renewals(other)
        await asyncio.to_thread(wait_until, "the other is renewed", lambda: renewals(other) >= before + 2, 10)
        assert not kept.lost.is_set() and await kept.owned()
        await kept.release()
        await client.aclose()

    with with_a_silent_node() as told:
        asyncio.run(main(*told))


def use(looks, **options):
    client = redis.Redis(username="app", password="secret", **options)
    looks.cmd("CONFIG", "RESETSTAT")
    looks.cmd("LOCK.ACQUIRE", "k", "other", "PX", 300)
    with fencelock.Lock(client, "k", timeout=4.5, renew=True) as lock:
        wait_until("it was renewed", lambda: looks.figure("commandstats", "cmdstat_lock.renew") >= 2)
        assert lock.owned()
    assert looks.idle(["k"])
    with pytest.raises(redis.exceptions.NoPermissionError):
        fencelock.Lock(client, "elsewhere").acquire()
    client.close()


def test_a_user_with_few_rights(server):
    server.cmd("ACL", "SETUSER", "app", *RIGHTS.split())
    use(server.kit, port=server.port)
    server.cmd("ACL", "DELUSER", "app")


def test_tls():
    deployed = kit.Script("deploy.py", "tls")
    try:
        line = deployed.line()
        if line.startswith("skipped: "):
            pytest.skip(line)
        told = json.loads(line)
        looks = kit.Server(told["home"])
        use(looks, host="localhost", port=told["port"], ssl=True, ssl_ca_certs=told["ca"])
        looks.close()
    finally:
        deployed.stop()
