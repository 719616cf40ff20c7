"""Tasks: the way to the server for a redis.asyncio or valkey.asyncio client."""

import asyncio
import functools
import inspect
import math
import time

from . import _locks
from ._core import REPLIED, DeadlockError, LockError, LockNotOwnedError, passing
from ._locks import LINGER, logger

__all__ = ["DeadlockError", "Latch", "Lock", "LockError", "LockNotOwnedError", "MultiLock", "Semaphore", "locked"]


class Line(_locks.Line):
    event, where = asyncio.Event, staticmethod(asyncio.get_running_loop)
    maybe = run = staticmethod(lambda awaitable: awaitable)
    pause = staticmethod(asyncio.sleep)

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
        requests = getattr(asyncio.current_task(), "cancelling", int)  # known from Python 3.11 on
        before = requests()
        reply = await super().call(*args, **options)
        if requests() > before:  # which asyncio.wait_for swallows now and then, up to Python 3.11
            raise asyncio.CancelledError
        return reply

    async def within(self, limit, awaitable):
        try:
            return await asyncio.wait_for(awaitable, limit)
        except asyncio.TimeoutError:
            raise TimeoutError("no reply from the server") from None

    async def on_spare(self, limit, work, *args):
        async def talk():
            return await work(await self.spare_connection(limit), *args)

        async with self.spare_lock:
            self.closing.cancel()
            try:
                return await self.within(limit, talk())
            finally:
                self.closing = self.loop.call_later(LINGER, self.close_spare)

    async def shield(self, awaitable):
        """A cancellation is told when this is done. All in it is bounded in time."""
        task, cancelled = self.spawn(awaitable), None
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

    async def take(self):
        return await self.pool.get_connection(*self.name) if self.pool.can_get_connection() else None

    async def give_back(self, connection):
        try:
            await self.pool.release(connection)
        except asyncio.CancelledError:
            if connection in getattr(self.pool, "_in_use_connections", ()):
                self.spawn(self.pool.release(connection))
            raise

    async def talk(self, connection, args, limit, decode):
        await connection.send_packed_command(_locks.packed(args, connection.encoder.encode))
        try:
            return await self.read(connection, limit, decode)
        except REPLIED as error:
            if passing(error):
                await connection.disconnect()  # the next one may reach another server
            raise

    async def read(self, connection, limit, decode=False):
        reply, timeout = connection.read_response(disable_decoding=not decode), connection.socket_timeout
        return await (self.within(limit, reply) if timeout is None or timeout > limit else reply)

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

    def tell(self, grip):
        grip.loss.event().set()
        result = grip.on_lost and grip.on_lost(grip.reason)
        if inspect.isawaitable(result):
            self.spawn(result)


class Lock(_locks.Lock):
    """`redis.asyncio.lock.Lock`, and: first come first served, `fence`, `lost`, `on_lost=`, renewed while it is held.

    The same as `fencelock.Lock`, with `async with` and `await`. `on_lost` may be a coroutine function.
    """

    Line = Line

    async def __aenter__(self):
        if await self.acquire():
            return self
        raise LockError("Unable to acquire lock within the time specified", self.name)

    async def __aexit__(self, *_):
        try:
            await self.release()
        except LockError:
            if self.raise_on_release_error:
                raise
            logger.warning("Lock was unlocked or no longer owned when exiting context manager.")

    def acquire(self, blocking=None, blocking_timeout=None, token=None):
        """Takes the lock, or waits in line for it. A cancelled wait leaves nothing behind."""
        return self.Line.run(self._acquire(None, blocking, blocking_timeout, token))

    def release(self):
        """Gives the lock back, also when the task is cancelled meanwhile."""
        return self.Line.run(self._release())


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
