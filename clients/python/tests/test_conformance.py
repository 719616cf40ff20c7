"""Plays clients/conformance/scenarios.json with threads and with tasks, on redis-py and on valkey-py, and some of it in a
cluster, over TLS and through a failover."""

import asyncio
import concurrent.futures
import gc
import json
import os
import threading
import time

import pytest
import redis
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
import valkey
import valkey.asyncio
from support import ROOT, Deployed, Server, wait_until

import fencelock
import fencelock.asyncio

BRIEF = os.environ.get("BRIEF")
CAN = {"many", "owner", "key", "extend", "two-programs", "watch"}
NO_REPLY = redis.RedisError, valkey.ValkeyError, OSError
SCENARIOS = json.loads((ROOT / "clients" / "conformance" / "scenarios.json").read_text())


class Threads:
    """Calls run on threads. A call that waits cannot be cancelled."""

    package, can = fencelock, CAN | {"drop", "fork", "pool"}

    def __init__(self):
        self.pool = concurrent.futures.ThreadPoolExecutor(400)

    def start(self, function, *args, **options):
        return self.pool.submit(function, *args, **options)

    def close(self):
        self.pool.shutdown()


class Tasks:
    """Calls are tasks of an event loop on another thread. A fork has no such thread, so it can do nothing at all."""

    package, can = fencelock.asyncio, CAN | {"drop", "cancel", "pool"}

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def start(self, function, *args, **options):
        async def call():
            result = function(*args, **options)
            return await result if hasattr(result, "__await__") else result

        return asyncio.run_coroutine_threadsafe(call(), self.loop)

    def close(self):
        tasks = lambda: [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        wait_until("no task is left", lambda: not tasks(), 10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Play:
    def __init__(self, world, connect, server, proxy, keys=("k",)):
        self.world, self.server, self.proxy, self.keys = world, server, proxy, keys
        self.clients = [self.call(connect), self.call(connect)]  # of two programs
        self.client = self.clients[0]
        self.locks, self.calls, self.fences, self.believers = {}, {}, {}, {}
        self.crowd, self.order, self.taken, self.next = [], [], [], None

    def call(self, function, *args, **options):
        return self.world.start(function, *args, **options).result(30)

    def lock(self, step):
        kind, package = step.get("kind", "exclusive"), self.world.package
        options = {"timeout": step.get("timeout", 10), "renew": step.get("renew", False), "thread_local": False, "sleep": 0.05}
        options.update(owner=step.get("owner"), watch=step.get("watch", False))
        client, key = self.clients[step.get("program", 1) - 1], step.get("key", self.keys[0])
        if kind == "multi":
            return self.call(package.MultiLock, client, self.keys, **options)
        if kind == "semaphore":
            return self.call(package.Semaphore, client, key, step["limit"], **options)
        lock = self.call(package.Lock, client, key, **options)
        return self.call(lock.shared) if kind == "shared" else lock

    def outcome(self, who, future, expect, seconds):
        error = None
        assert not concurrent.futures.wait([future], seconds).not_done, f"{who} still waits"
        try:
            result = "held" if future.result() else "busy"
        except self.world.package.LockNotOwnedError:
            result = "not-owned"
        except (self.world.package.LockError, *NO_REPLY) as caught:
            result, error = "error", repr(caught)
        assert result == expect or expect == "not-held" != result != "held", f"{who}: {result}, expected {expect}: {error}"
        return result

    def believe(self, who, exclusive):
        lock = self.locks[who]
        others = [one for one in self.believers if not self.locks[one].lost.is_set() and self.locks[one].name == lock.name]
        assert not (exclusive and others), f"{who} and {others} believe in one lock at one moment"
        self.believers[who], self.fences[who] = True, lock.fence

    def acquire(self, who, expect=None, later=False, **step):
        lock = self.locks[who] = self.lock(step)
        wait = step.get("wait")
        waits = {"blocking": wait != 0, "blocking_timeout": wait or None}
        self.calls[who] = self.world.start(lock.acquire, **waits), step.get("kind", "exclusive") in ("exclusive", "multi")
        if not later:
            self.join(who, expect)

    def join(self, who, expect, within=5):
        future, exclusive = self.calls[who]
        if self.outcome(who, future, expect, within) == "held":
            self.believe(who, exclusive)

    def cancel(self, who):
        self.calls[who][0].cancel()

    def release(self, who, expect):
        self.believers.pop(who, None)
        self.settled(who, expect, self.locks[who].release)

    def settled(self, who, expect, function, *args):
        future = self.world.start(function, *args)
        if expect == "ok":
            future.result(5)
        else:
            self.outcome(who, future, expect, 5)

    def extend(self, who, seconds, expect):
        self.settled(who, expect, self.locks[who].extend, seconds, True)

    def many(self, n, timeout):
        self.keys = [f"k:{number}" for number in range(n)]
        for key in self.keys:
            lock = self.locks[key] = self.lock({"key": key, "timeout": timeout, "renew": True})
            assert self.call(lock.acquire, blocking=False)

    def release_many(self):
        for key in self.keys:
            self.call(self.locks[key].release)

    def reads(self, renewals, **fields):
        looks = lambda: (self.server.calls("lock.renew"), self.server.client.info("stats")["total_reads_processed"])
        before = looks()
        time.sleep(fields["for"])
        done, reads = (now - then for now, then in zip(looks(), before))
        assert done >= renewals and reads <= fields["at-most"], f"{done} renewals in {reads} reads"
        assert not any(self.locks[key].lost.is_set() for key in self.keys)

    def restart(self):
        self.server.restart()

    def failover(self):
        self.server.failover()

    def successor(self):
        self.server = self.next
        self.server.cmd("REPLICAOF", "127.0.0.1", 1)
        self.server.cmd("REPLICAOF", "NO", "ONE")
        self.proxy.tell(f"server {self.server.port}")

    def start_successor(self):
        self.next = Server()
        self.next.cmd("CONFIG", "SET", "lock.recovery-window-ms", 10000)
        self.next.cmd("LOCK.ACQUIRE", "before", "other")

    def unblock(self, **fields):
        for client in self.server.client.client_list():
            if "b" in client["flags"]:
                self.server.cmd("CLIENT", "UNBLOCK", client["id"], fields["with"])

    def owned(self, who, expect, within=30):
        assert self.world.start(self.locks[who].owned).result(within) is expect

    def lost(self, who, within, reason):
        wait_until(f"{who} is told of the loss", self.locks[who].lost.is_set, within)
        assert self.locks[who].lost_reason == reason

    def not_lost(self, who, **seconds):
        time.sleep(seconds["for"])
        assert not self.locks[who].lost.is_set()

    def drop(self, who):
        del self.locks[who], self.calls[who], self.believers[who]
        gc.collect()

    def fork(self, who):
        child = os.fork()
        if child == 0:
            lock = self.locks[who]
            os._exit(1 if lock.owned() or lock.release() else 0)
        assert os.waitpid(child, 0)[1] == 0

    def rising(self, who):
        fences = [self.fences[name] for name in who]
        assert fences == sorted(set(fences))

    def start_crowd(self, n):
        def one(number, lock):
            self.order.append(number)
            return lock.release()

        for number in range(n):
            lock, before = self.lock({}), self.server.waiting(self.keys[0])
            future = self.world.start(lock.acquire)
            self.crowd.append(future)
            future.add_done_callback(lambda _, n=number, lock=lock: self.world.start(one, n, lock))
            wait_until("it is in line", lambda: self.server.waiting(self.keys[0]) == before + 1)

    def crowd_in_order(self, within):
        wait_until("all had their turn", lambda: len(self.order) == len(self.crowd), within)
        assert self.order == sorted(self.order)

    def exhaust(self):
        named = [] if "redis" in type(self.client).__module__ else ["x"]
        for _ in range(self.client.connection_pool.max_connections):
            self.taken.append(self.call(self.client.connection_pool.get_connection, *named))

    def give_back(self):
        for connection in self.taken:
            self.call(self.client.connection_pool.release, connection)

    def on_server(self, args, **expected):
        reply = self.server.cmd(*args)
        assert reply == expected.get("reply", reply)

    def until(self, within=5, key=None, **wanted):
        key = key or self.keys[0]
        looks = {
            "waiting": lambda: self.server.waiting(key),
            "holders": lambda: len(self.server.holders(key)),
            "mode": lambda: self.server.info(key)["mode"],
            "blocked": lambda: self.server.client.info("clients")["blocked_clients"],
        }
        wait_until(f"{wanted}", lambda: all(looks[what]() == n for what, n in wanted.items()), within)

    def step(self, do, **fields):
        names = {"server": "on_server", "crowd": "start_crowd"}
        if do == "fault":
            self.proxy and self.proxy.tell(fields["line"])
        elif do == "sleep":
            time.sleep(fields["seconds"])
        else:
            getattr(self, names.get(do, do.replace("-", "_")))(**fields)

    def end(self):
        wait_until("no lock is held and nobody waits", lambda: self.server.idle(*self.keys), 4)
        self.proxy and self.proxy.tell("heal")
        self.locks.clear()
        self.calls.clear()
        for client in self.clients:
            self.call(getattr(client, "aclose", client.close))
            if hasattr(client, "connection_pool"):
                self.call(client.connection_pool.disconnect)


def reason_to_skip(scenario, way, can):
    missing = [need for need in scenario.get("needs", []) if need not in can]
    reason = scenario.get("not-yet") or scenario.get("except", {}).get("python")
    if BRIEF and scenario.get("thorough"):
        return "only in the long form"
    return reason or (missing and f"there is no {missing[0]} with {way}")


def play(world_class, way, connect, server, proxy, scenario, more):
    reason = reason_to_skip(scenario, way, world_class.can | more)
    if reason:
        pytest.skip(reason)
    world = world_class()
    play = Play(world, connect, server, proxy, scenario.get("keys", ["k"]))
    try:
        if "successor" in scenario.get("needs", []):
            play.start_successor()
        for step in scenario["steps"]:
            play.step(**step)
        play.end()
    finally:  # also of one that failed, or its holds would be renewed on
        play.locks.clear()
        play.calls.clear()
        if play.next:
            play.next.stop()
    return world


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["name"] for scenario in SCENARIOS])
@pytest.mark.parametrize("way", ["threads-redis", "tasks-redis", "threads-valkey", "tasks-valkey"])
def test_scenario(server, proxy, scenario, way):
    package, world_class = redis if way.endswith("redis") else valkey, Threads if way.startswith("threads") else Tasks
    client_class = package.Redis if world_class is Threads else package.asyncio.Redis
    options = scenario.get("client", {})
    pool = {"max_connections": options.get("connections", 50), "socket_timeout": options.get("timeout", 5)}
    connections = server.client.info("clients")["connected_clients"]
    port = server.port if "direct" in options else proxy.port
    more = {"restart", "unblock", "successor"}
    world = play(world_class, way, lambda: client_class(port=port, **pool), server, proxy, scenario, more)
    wait_until("no connection is left", lambda: server.client.info("clients")["connected_clients"] <= connections, 10)
    world.close()


@pytest.fixture(scope="module", params=["cluster"] if BRIEF else ["tls", "cluster", "sentinel"])
def deployed(request):
    server = Deployed(request.param)
    yield server, request.param
    server.stop()


def connect(kind, told, package):
    if kind == "cluster":
        return package.cluster.RedisCluster(host="127.0.0.1", port=told["port"])
    if kind == "sentinel":
        return package.sentinel.Sentinel([("127.0.0.1", port) for port in told["sentinels"]]).master_for(told["name"])
    return package.Redis(
        host="localhost", port=told["port"], username=told["user"], password=told["password"], ssl=True, ssl_ca_certs=told["ca"]
    )


PLACED = [scenario for scenario in SCENARIOS if "on" in scenario]


@pytest.mark.parametrize("way", ["threads", "tasks"])
@pytest.mark.parametrize("scenario", PLACED, ids=[scenario["name"] for scenario in PLACED])
def test_deployment(deployed, scenario, way):
    server, kind = deployed
    if kind not in scenario["on"]:
        pytest.skip(f"it says nothing of {kind}")
    server.client.flushall()
    world_class, package = (Threads, redis) if way == "threads" else (Tasks, redis.asyncio)
    play(world_class, way, lambda: connect(kind, server.told, package), server, None, scenario, {"failover"}).close()
