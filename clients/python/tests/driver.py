"""The driver of clients/conformance. Its ways: threads-redis, tasks-redis, threads-valkey, tasks-valkey."""

import asyncio
import concurrent.futures
import gc
import json
import os
import sys
import threading
import traceback

import redis.asyncio
import valkey.asyncio

import fencelock.asyncio

fencelock._threads.LINGER = fencelock.asyncio.LINGER = 0.2  # or each scenario would end with a second of waiting
NOT_ON_VALKEY = dict.fromkeys(["tls", "cluster", "sentinel"], "it is the same code as with redis-py")


class Threads:
    """Calls run on threads of their own."""

    locks, cannot = fencelock, {"cancel": "a thread that waits cannot be cancelled"}
    call = staticmethod(asyncio.to_thread)

    def left(self):
        return [thread.name for thread in threading.enumerate() if "fencelock" in thread.name]


class Tasks:
    """Calls are tasks of the event loop."""

    locks, cannot = fencelock.asyncio, {"fork": "a child that was forked has no event loop"}

    async def call(self, function, *args, **options):
        result = function(*args, **options)
        return await result if hasattr(result, "__await__") else result

    def left(self):
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name() != "driver"]


class Driver:
    def __init__(self, kind, library):
        self.world, package = Threads() if kind == "threads" else Tasks(), {"redis": redis, "valkey": valkey}[library]
        self.package = package if kind == "threads" else package.asyncio
        self.cannot = {**self.world.cannot, "close": "the library has no close of its own", **(NOT_ON_VALKEY if package is valkey else {})}
        self.call, self.locks = self.world.call, self.world.locks
        self.clients, self.held, self.calls, self.waiting = {}, {}, {}, []

    def connect(self, kind, ports, connections, timeout, name=None, user=None, password=None, ca=None, **_):
        if kind == "cluster":
            return self.package.cluster.RedisCluster(host="127.0.0.1", port=ports[0], socket_timeout=timeout)
        if kind == "sentinel":
            return self.package.sentinel.Sentinel([("127.0.0.1", port) for port in ports], socket_timeout=timeout).master_for(name)
        options = {"username": user, "password": password, "ssl": True, "ssl_ca_certs": ca} if kind == "tls" else {}
        options |= {"host": "localhost", "port": ports[0], "max_connections": connections}
        return self.package.Redis(socket_timeout=timeout, socket_connect_timeout=timeout, **options)

    def lock(self, who, program, keys, kind, limit, most, **options):
        options |= {"max_hold": most, "on_lost": lambda reason: say("lost", who, reason=reason)}
        if kind == "multi":
            return self.locks.MultiLock(self.clients[program], keys, **options)
        if kind == "semaphore":
            return self.locks.Semaphore(self.clients[program], keys[0], limit, **options)
        lock = self.locks.Lock(self.clients[program], keys[0], **options)
        return lock.shared() if kind == "shared" else lock

    async def open(self, program, **where):
        self.clients[program] = await self.call(self.connect, **where)

    async def acquire(self, who, wait, **request):
        self.calls[who] = asyncio.current_task()
        lock = self.held[who] = await self.call(self.lock, who, thread_local=False, sleep=0.05, **request)
        got = await self.call(lock.acquire, blocking=wait != 0, blocking_timeout=wait or None)
        return {"outcome": "held", "fence": lock.fence} if got else {"outcome": "busy"}

    async def cancel(self, who):
        self.calls[who].cancel()

    async def release(self, who):
        await self.call(self.held[who].release)

    async def extend(self, who, seconds):
        await self.call(self.held[who].extend, seconds, True)

    async def owned(self, who):
        return {"owned": await self.call(self.held[who].owned)}

    async def drop(self, who):
        del self.held[who]
        gc.collect()

    async def fork(self, who):
        child = os.fork()
        if child == 0:
            try:
                lock = self.held[who]
                os._exit(1 if lock.owned() or lock.release() else 0)
            finally:
                os._exit(2)
        return {"outcome": "ok" if os.waitpid(child, 0)[1] == 0 else "error"}

    async def exhaust(self):
        """Each waits for something that the player pushes."""
        size = self.clients[1].connection_pool.max_connections
        self.waiting = [asyncio.ensure_future(self.call(self.clients[1].blpop, "nothing")) for _ in range(size)]
        return {"taken": size}

    async def end(self):
        self.held.clear()
        for client in self.clients.values():
            await self.call(getattr(client, "aclose", client.close))
        self.clients.clear()

    async def left(self):
        return {"left": self.world.left()}

    async def obey(self, do, **request):
        try:
            answer = await getattr(self, do.replace("-", "_"))(**request)
        except self.locks.LockNotOwnedError:
            answer = {"outcome": "not-owned"}
        except (self.locks.LockError, redis.RedisError, valkey.ValkeyError, OSError) as error:
            answer = {"outcome": "error", "error": repr(error)}
        except asyncio.CancelledError:
            answer = {"outcome": "cancelled"}
        except Exception:  # a fault of the driver or of the library: it must not go unseen
            traceback.print_exc()
            os._exit(3)
        say(do, request.get("who"), **answer or {"outcome": "ok"})

    async def main(self):
        loop, lines, tasks = asyncio.get_running_loop(), asyncio.StreamReader(), []
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(400))
        asyncio.current_task().set_name("driver")
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        say("hello", cannot=self.cannot)
        async for line in lines:
            tasks.append(asyncio.create_task(self.obey(**json.loads(line)), name="driver"))  # or nobody would keep it


def say(do, who=None, **fields):
    """A line in one piece, from whatever thread."""
    os.write(1, json.dumps({"do": do, "who": who, **fields}).encode() + b"\n")


if __name__ == "__main__":
    asyncio.run(Driver(*sys.argv[1].split("-")).main())
