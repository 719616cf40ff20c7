"""Tasks: the way to the server for a redis.asyncio or valkey.asyncio client."""

import asyncio
import functools
import inspect
import math
import time

from . import _locks
from ._core import DeadlockError, LockError, LockNotOwnedError
from ._locks import LINGER, SILENT, logger

__all__ = ["DeadlockError", "Latch", "Lock", "LockError", "LockNotOwnedError", "MultiLock", "Semaphore", "locked"]

CANCELLING = hasattr(asyncio.Task, "cancelling")  # from Python 3.11 on


class Line(_locks.Line):
    event, where, awaits = asyncio.Event, staticmethod(asyncio.get_running_loop), True
    maybe, pause = staticmethod(lambda awaitable: awaitable), staticmethod(asyncio.sleep)

    def __init__(self, *args):
        super().__init__(*args)
        self.spare_lock, self.tasks, self.turning, self.listener = asyncio.Lock(), set(), None, None
        self.timer = self.closing = self.loop.call_soon(lambda: None)

    def spawn(self, coroutine):
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)  # the loop itself holds its tasks weakly
        task.add_done_callback(self.tasks.discard)
        return task

    async def call(self, *args, **options):
        task = asyncio.current_task()
        before = task.cancelling() if CANCELLING else 0
        reply = await super().call(*args, **options)
        if CANCELLING and task.cancelling() > before:  # up to 3.11, asyncio.wait_for may swallow it
            raise asyncio.CancelledError
        return reply

    async def within(self, limit, awaitable):
        try:
            if CANCELLING:
                async with asyncio.timeout(limit):  # without a task of its own
                    return await awaitable
            return await asyncio.wait_for(awaitable, limit)
        except asyncio.TimeoutError:
            raise TimeoutError(SILENT) from None

    async def batch(self, calls, limit):
        if self.cluster is None and self.primary is None:
            return await super().batch(calls, limit)
        return await self.within(limit, super().batch(calls, limit))  # whatever limits the client has of its own

    async def spread(self, send, work, limit):
        if self.cluster is None:
            return await send(work, limit)
        for part in self.by_node(work).values():
            self.spawn(send(part, limit))

    async def on_spare(self, calls, limit, decode=False):
        async def talk():
            return await self.talk(await self.connected(self.spare, limit), calls, limit, decode)

        async with self.spare_lock:
            self.spare = self.spare or self.connection()
            self.closing.cancel()
            try:
                return await self.within(limit, talk())
            finally:
                self.closing = self.loop.call_later(LINGER, self.close_spare)

    async def shield(self, work, *args):
        """A cancellation is told when this is done: what it broke off is done again, which the server takes for the same.
        All in it is bounded in time."""
        cancelled = None
        if CANCELLING:
            try:
                return await work(*args)
            except asyncio.CancelledError as caught:
                cancelled = caught
        task = self.spawn(work(*args))
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as caught:
                cancelled = caught
        if cancelled is not None:
            raise cancelled
        return task.result()

    async def sleep_until(self, event, seconds):
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def free(self):
        return self.pool.can_get_connection()

    async def give_back(self, connection):
        try:
            await self.pool.release(connection)
        except asyncio.CancelledError:
            if connection in getattr(self.pool, "_in_use_connections", ()):
                self.spawn(self.pool.release(connection))
            raise

    async def read(self, connection, limit, decode):
        usual = connection.socket_timeout
        connection.socket_timeout = limit if usual is None else min(limit, usual)
        try:
            return await connection.read_response(disable_decoding=not decode)
        finally:
            connection.socket_timeout = usual

    async def connect(self, connection, limit):
        await self.within(limit, connection.connect())

    async def hear(self, connection):
        return await connection.read_response(disable_decoding=True, timeout=LINGER, disconnect_on_error=False)

    def listen(self):
        if self.listener is None or self.listener.done():
            self.listener = self.spawn(self.keeper.ear.listen())

    async def dirty(self, connection):
        await self.pool.ensure_connection(connection)
        return False

    # The keeper: a timer for the next moment at which something is due, and then a task. Between them nothing runs.

    def wake(self, _=None):
        try:
            self.loop.call_soon_threadsafe(self.turn)  # the garbage collector may call from any thread
        except RuntimeError:
            pass  # the loop is closed, and all its connections with it

    def watch(self, due):
        if self.turning is None and due < self.planned:
            self.arm()

    def arm(self):
        due = self.keeper.next()
        self.planned = math.inf if due is None else due
        self.timer.cancel()
        if due is not None:
            self.timer = self.loop.call_later(max(0.0, due - time.monotonic()), self.turn)

    def close_spare(self):
        if self.keeper.ear.watched():  # it is tracked
            self.closing = self.loop.call_later(LINGER, self.close_spare)
        elif not self.spare_lock.locked():
            self.spawn(self.spare.disconnect())

    def turn(self):
        if self.turning is None:
            self.turning = self.spawn(self.keeper.turn())
            self.turning.add_done_callback(self.turned)

    def turned(self, task):
        self.turning = None
        if not task.cancelled() and task.exception() is not None:
            logger.error("a renewal failed", exc_info=task.exception())
        if not self.loop.is_closed():
            self.arm()

    def tell(self, on_lost, reason):
        if on_lost is not None:
            self.loop.call_soon(self.called, on_lost, reason)  # what it raises is for the loop's exception handler

    def called(self, on_lost, reason):
        result = on_lost(reason)
        if inspect.isawaitable(result):
            self.spawn(result)


class Lock(_locks.Lock):
    """`redis.asyncio.lock.Lock`, and: first come first served, `fence`, `lost`, `on_lost=`, renewed while it is held.

    The same as `fencelock.Lock`, with `async with` and `await`. `on_lost` may be a coroutine function.
    """

    Line = Line

    async def acquire(self, blocking=None, blocking_timeout=None, token=None):
        """Takes the lock, or waits in line for it. A cancelled wait leaves nothing behind."""
        return await self._acquire(None, blocking, blocking_timeout, token)

    async def __aenter__(self):
        if await self.acquire():
            return self
        raise self._unable()

    async def __aexit__(self, *_):
        try:
            await self.release()
        except LockError:
            self._late()


class Semaphore(_locks.Limited, Lock):
    __doc__ = _locks.Limited.__doc__


class MultiLock(_locks.Several, Lock):
    __doc__ = _locks.Several.__doc__


class Latch(_locks.Latch):
    __doc__ = _locks.Latch.__doc__
    Line = Line


def locked(template, client, **options):
    """A decorator: calls with the same name run one after the other. `client` may be a function that finds it."""

    def decorate(function):
        lock = _locks.maker(Lock, template, client, options, function)

        @functools.wraps(function)
        async def call(*args, **kwargs):
            async with lock(*args, **kwargs):
                return await function(*args, **kwargs)

        return call

    return decorate
