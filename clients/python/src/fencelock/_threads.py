"""Threads: the way to the server for a redis-py or valkey-py client. Here nothing suspends a coroutine."""

import functools
import math
import queue
import threading
import time

from . import _core, _locks
from ._core import LockError
from ._locks import LINGER, SILENT, logger

SENDERS = 4  # threads that send to one node at a time


def run(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a coroutine was suspended where nothing may be")


def blocking(method):
    @functools.wraps(method)
    def call(*args, **options):
        return run(method(*args, **options))

    return call


def started(name, function, *args):
    thread = threading.Thread(target=function, args=args, name=name, daemon=True)
    thread.start()
    return thread


class Line(_locks.Line):
    event, where, awaits = threading.Event, staticmethod(lambda: None), False

    def __init__(self, *args):
        super().__init__(*args)
        # A signal handler may take a lock in whatever moment. Two threads of one kind, which it may lead to, do no harm.
        self.spare_lock, self.thread_lock = threading.RLock(), threading.RLock()
        self.thread, self.wakes, self.listener = None, queue.SimpleQueue(), None
        self.senders = {}  # by node: threads, which a client may keep for longer than a request may take

    async def maybe(self, value):
        return value

    def shield(self, work, *args):
        return work(*args)

    async def on_spare(self, calls, limit, decode=False):
        self.watch(math.inf)  # which closes it in the end
        with self.spare_lock:
            spare, self.spare = self.spare or self.connection(), None  # meanwhile a signal handler has one of its own
            try:
                return await self.talk(await self.connected(spare, limit), calls, limit, decode)
            finally:
                self.spare = spare

    async def spread(self, send, work, limit):
        """With a cluster or sentinels the client may take longer, and then this thread would tell nobody that his lease is over."""
        if self.cluster is None and self.primary is None:
            return await send(work, limit)
        for node, part in self.by_node(work).items():
            senders = self.senders[node] = [thread for thread in self.senders.get(node, []) if thread.is_alive()]
            if len(senders) < SENDERS:
                senders.append(started("fencelock-send", blocking(send), part, limit))
            else:
                await self.keeper.answer(part, [TimeoutError(SILENT)] * len(part))

    async def pause(self, seconds):
        time.sleep(seconds)

    async def sleep_until(self, event, seconds):
        event.wait(seconds)

    def free(self):
        """Not of a pool that would block until somebody gives a connection back."""
        pool = getattr(self.pool, "pool", None)
        return pool is None or not pool.empty()

    def give_back(self, connection):
        self.pool.release(connection)

    def read(self, connection, limit, decode):
        usual = connection.socket_timeout
        if usual is not None and usual <= limit:
            return connection.read_response(disable_decoding=not decode)
        connection._sock.settimeout(limit)
        try:
            return connection.read_response(disable_decoding=not decode)
        finally:
            if connection._sock is not None:  # it is still connected
                connection._sock.settimeout(usual)

    async def connect(self, connection, limit):
        """A server may accept and then be silent, so the limit is for each reply of the greeting, too."""
        usual = connection.socket_timeout
        connection.socket_connect_timeout = connection.socket_timeout = min(limit, usual or limit)
        try:
            connection.connect()
        finally:
            connection.socket_timeout = usual
        connection._sock.settimeout(usual)

    async def hear(self, connection):
        return connection.read_response(disable_decoding=True) if connection.can_read(LINGER) else None

    def listen(self):
        with self.thread_lock:
            if self.listener is None:
                self.listener = started("fencelock-ear", self.hark)

    def hark(self):
        while True:
            run(self.keeper.ear.listen())
            with self.thread_lock:
                if not self.keeper.ear.watched():
                    self.listener = None
                    return

    async def dirty(self, connection):
        try:
            return connection.can_read()
        except _core.BROKEN:
            return True

    def wake(self, _=None):
        self.wakes.put(None)  # reentrant, for the garbage collector calls it too

    def watch(self, due):
        """Sees to it that the keeper's thread runs, and wakes in time. It ends when there is nothing to keep."""
        if due <= self.planned:
            with self.thread_lock:
                if self.thread is None:
                    self.thread = started("fencelock", self.keep)
                else:
                    self.wake()

    def keep(self):
        while True:
            self.planned = math.inf  # whoever comes from here on is not seen, and wakes this thread
            due, now = self.keeper.next(), time.monotonic()
            self.planned = now + LINGER if due is None else min(due, now + LINGER)
            try:
                self.wakes.get(timeout=max(0.0, self.planned - now))
            except queue.Empty:
                self.planned = math.inf
                with self.thread_lock:
                    if self.keeper.next() is None:
                        self.thread = None
                        break
            self.planned = -math.inf  # whoever comes meanwhile is seen after this turn
            try:
                run(self.keeper.turn())
            except Exception:  # a fault here must not end the renewal of all other locks
                logger.exception("a renewal failed")
                time.sleep(0.1)
        with self.spare_lock:
            if self.spare is not None and self.thread is None:
                self.spare.disconnect()

    def tell(self, on_lost, reason):
        if on_lost is not None:
            started("fencelock-lost", on_lost, reason)


class Lock(_locks.Lock):
    """`redis.lock.Lock`, and: first come first served, `fence`, `lost`, `on_lost=`, renewed while it is held.

    Use it as `Lock(client, "name")` or `client.lock("name", lock_class=Lock)`. Without `timeout` the lease is 30 seconds
    and is renewed until the release; with one it is not, unless `renew=True`. `on_lost` is called with the reason, in a
    thread of its own. `owner=` (or `token=`) names the holder: give all locks of one piece of work the same name, and the
    server finds deadlocks between them.
    """

    Line = Line
    release, extend, reacquire = map(blocking, (_locks.Lock.release, _locks.Lock.extend, _locks.Lock.reacquire))
    locked, owned, guard = map(blocking, (_locks.Lock.locked, _locks.Lock.owned, _locks.Lock.guard))

    def acquire(self, sleep=None, blocking=None, blocking_timeout=None, token=None):
        """Takes the lock, or waits in line for it. `sleep` counts only while the key holds another client's string."""
        return run(self._acquire(sleep, blocking, blocking_timeout, token))

    def __enter__(self):
        if self.acquire():
            return self
        raise self._unable()

    def __exit__(self, *_):
        try:
            self.release()
        except LockError:
            self._late()


class Semaphore(_locks.Limited, Lock):
    __doc__ = _locks.Limited.__doc__


class MultiLock(_locks.Several, Lock):
    __doc__ = _locks.Several.__doc__


class Latch(_locks.Latch):
    __doc__ = _locks.Latch.__doc__
    Line, down, wait = Line, blocking(_locks.Latch.down), blocking(_locks.Latch.wait)


def locked(template, client, **options):
    """A decorator: calls with the same name run one after the other. `client` may be a function that finds it."""

    def decorate(function):
        lock = _locks.maker(Lock, template, client, options, function)

        @functools.wraps(function)
        def call(*args, **kwargs):
            with lock(*args, **kwargs):
                return function(*args, **kwargs)

        return call

    return decorate
