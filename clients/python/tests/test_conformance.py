"""Plays clients/conformance/scenarios.json with threads and with tasks, on redis-py and on valkey-py."""

import asyncio
import concurrent.futures
import gc
import json
import os
import threading
import time

import pytest
import redis
import redis.asyncio
import valkey
import valkey.asyncio
from support import ROOT, wait_until

import fencelock
import fencelock.asyncio

SCENARIOS = json.loads((ROOT / "clients" / "conformance" / "scenarios.json").read_text())


class Threads:
    """Calls run on threads. A call that waits cannot be cancelled."""

    package, can = fencelock, {"drop", "fork", "pool"}

    def __init__(self):
        self.pool = concurrent.futures.ThreadPoolExecutor(400)

    def start(self, function, *args, **options):
        return self.pool.submit(function, *args, **options)

    def close(self):
        self.pool.shutdown()


class Tasks:
    """Calls are tasks of an event loop on another thread. A fork has no such thread, so it can do nothing at all."""

    package, can = fencelock.asyncio, {"drop", "cancel", "pool"}

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
        wait_until("no task is left", lambda: not tasks(), 2)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Play:
    def __init__(self, world, client_class, server, proxy, scenario):
        self.world, self.server, self.proxy = world, server, proxy
        self.keys, options = scenario.get("keys", ["k"]), scenario.get("client", {})
        self.client = self.call(
            client_class,
            port=proxy.port,
            max_connections=options.get("connections", 50),
            socket_timeout=options.get("timeout", 5),
        )
        self.locks, self.calls, self.fences, self.believers = {}, {}, {}, {}
        self.crowd, self.order, self.taken = [], [], []

    def call(self, function, *args, **options):
        return self.world.start(function, *args, **options).result(30)

    def lock(self, step):
        kind, package = step.get("kind", "exclusive"), self.world.package
        options = {"timeout": step.get("timeout", 10), "renew": step.get("renew", False), "thread_local": False, "sleep": 0.05}
        if kind == "multi":
            return self.call(package.MultiLock, self.client, self.keys, **options)
        if kind == "semaphore":
            return self.call(package.Semaphore, self.client, self.keys[0], step["limit"], **options)
        lock = self.call(package.Lock, self.client, self.keys[0], **options)
        return self.call(lock.shared) if kind == "shared" else lock

    def outcome(self, who, future, expect, seconds):
        try:
            result = "held" if future.result(seconds) else "busy"
        except self.world.package.LockNotOwnedError:
            result = "not-owned"
        except self.world.package.LockError:
            result = "error"
        assert result == expect, f"{who}: {result}, expected {expect}"
        return result

    def believe(self, who, exclusive):
        lock = self.locks[who]
        others = [other for other in self.believers if not self.locks[other].lost.is_set()]
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
        future = self.world.start(self.locks[who].release)
        if expect == "ok":
            future.result(5)
        else:
            self.outcome(who, future, expect, 5)

    def owned(self, who, expect):
        assert self.call(self.locks[who].owned) is expect

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

    def until(self, within=5, **wanted):
        looks = {
            "waiting": lambda: self.server.waiting(self.keys[0]),
            "holders": lambda: len(self.server.holders(self.keys[0])),
            "blocked": lambda: self.server.client.info("clients")["blocked_clients"],
        }
        wait_until(f"{wanted}", lambda: all(looks[what]() == n for what, n in wanted.items()), within)

    def step(self, do, **fields):
        names = {"server": "on_server", "crowd": "start_crowd"}
        if do == "fault":
            self.proxy.tell(fields["line"])
        elif do == "sleep":
            time.sleep(fields["seconds"])
        else:
            getattr(self, names.get(do, do.replace("-", "_")))(**fields)

    def end(self):
        wait_until("no lock is held and nobody waits", lambda: self.server.idle(*self.keys), 2)
        self.proxy.tell("heal")
        self.locks.clear()
        self.calls.clear()
        self.call(getattr(self.client, "aclose", self.client.close))
        self.call(self.client.connection_pool.disconnect)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["name"] for scenario in SCENARIOS])
@pytest.mark.parametrize("way", ["threads-redis", "tasks-redis", "threads-valkey", "tasks-valkey"])
def test_scenario(server, proxy, scenario, way):
    world = Threads if way.startswith("threads") else Tasks
    missing = [need for need in scenario.get("needs", []) if need not in world.can]
    if missing or "not-yet" in scenario:
        pytest.skip(scenario.get("not-yet") or f"there is no {missing[0]} with {way}")
    package = redis if way.endswith("redis") else valkey
    classes = {Threads: getattr(package, "Redis"), Tasks: getattr(package.asyncio, "Redis")}
    connections = server.client.info("clients")["connected_clients"]
    play = Play(world(), classes[world], server, proxy, scenario)
    for step in scenario["steps"]:
        play.step(**step)
    play.end()
    wait_until("no connection is left", lambda: server.client.info("clients")["connected_clients"] <= connections, 3)
    play.world.close()
