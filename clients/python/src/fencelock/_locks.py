"""The locks as the user sees them, and the way to the server, for threads and tasks alike.

Each method of a lock hands a coroutine to `run`. That of `_threads.Line` runs it to its end and returns the result, that of
`asyncio.Line` returns it to be awaited.
"""

import inspect
import logging
import math
import os
import threading
import time
from types import SimpleNamespace

from . import _core
from ._core import BROKEN, REPLIED, LockError, LockNotOwnedError, ask, code, held, passing, settle, text

_making = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_making=threading.Lock()))
logger = logging.getLogger("fencelock")
LINGER = 1.0  # seconds without a hold, after which nothing is left running
FRESH = 0.5  # seconds for which sentinels are believed


def packed(args, encode):
    """A request as it goes over the wire. The clients' own packers take several times as long."""
    words = [word if type(word) is bytes else b"%d" % word if type(word) is int else encode(word) for word in args[1:]]
    words.insert(0, args[0].encode())
    return [b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])]


class Line:
    """The way to the server: the pool of a client, half of it for those who wait, and one spare connection.

    The spare one renews. It also serves whoever finds the pool exhausted, so that a release always gets through.
    """

    def __init__(self, home, client, loop):
        self.pid, self.loop = os.getpid(), loop
        self.pool = home if hasattr(home, "connection_class") else None
        self.cluster = None if self.pool else client  # which finds the node and the connection itself
        timeout = getattr(self.pool, "connection_kwargs", {}).get("socket_timeout")
        self.slice = min(_core.SLICE, timeout / 2) if timeout else _core.SLICE
        self.room = _core.Room(getattr(self.pool, "max_connections", 32) // 2)
        self.keeper = _core.Keeper(self)
        self.name = ["LOCK"] if "valkey" in str(type(self.pool).__mro__) else []  # which it wants to give a connection
        self.spare, self.planned, self.asked = None, math.inf, -math.inf

    @classmethod
    def of(cls, client):
        home, loop = getattr(client, "connection_pool", None) or client, cls.where()
        line = home.__dict__.get("_fencelock")
        if line is None or line.pid != os.getpid() or line.loop is not loop:  # new, or a fork, or another event loop
            with _making:
                line = home.__dict__.get("_fencelock")
                if line is None or line.pid != os.getpid() or line.loop is not loop:
                    line = home.__dict__["_fencelock"] = cls(home, client, loop)
        return line

    async def call(self, args, wait=0.0, limit=_core.REPLY, decode=False):
        """Sends one request. The server may keep the reply for `wait` seconds, and then it may take `limit` more."""
        limit += wait
        if self.cluster is not None:
            reply = await self.maybe(self.cluster.execute_command(*args))
            return reply.encode() if isinstance(reply, str) and not decode else reply
        await self.follow()
        try:
            connection = await self.take()
        except BROKEN as error:
            if "Too many connections" not in str(error):
                raise
            connection = None
        if connection is None:
            return await self.on_spare(limit, self.talk, args, limit, decode)
        try:
            if self.replaced(connection):
                await self.maybe(connection.disconnect())
                await self.maybe(connection.connect())
            return await self.talk(connection, args, limit, decode)
        finally:
            await self.give_back(connection)

    async def batch(self, calls, limit):
        """Sends many requests in one go. The result has a reply or an error for each."""
        if self.cluster is not None:
            return [await self.catch(self.call(call)) for call in calls]
        await self.follow()
        return await self.on_spare(limit, self.talk_batch, calls, limit)

    async def follow(self):
        """Asks the sentinels, if there are any, whether the primary is still the same. The clients ask for a new connection
        only, but after a failover the old primary goes on for some seconds as if nothing were."""
        find = getattr(self.pool, "get_master_address", None)
        if find is not None and time.monotonic() - self.asked > FRESH:
            self.asked = time.monotonic()
            try:
                await self.maybe(find())
            except BROKEN:
                pass

    def replaced(self, connection):
        primary = getattr(self.pool, "master_address", None)
        return primary is not None and primary != (connection.host, connection.port)

    async def talk_batch(self, connection, calls, limit):
        await self.maybe(connection.send_packed_command(connection.pack_commands(calls)))
        return [await self.catch(self.read(connection, limit)) for _ in calls]

    @staticmethod
    async def catch(awaitable):
        try:
            return await awaitable
        except REPLIED as error:
            return error

    async def spare_connection(self, limit):
        if self.spare is None:
            self.spare = self.connection()
        await self.connect(self.spare, limit)
        if self.replaced(self.spare) or await self.dirty(self.spare):  # the server has closed it
            await self.maybe(self.spare.disconnect())
            await self.connect(self.spare, limit)
        return self.spare

    def connection(self, **options):
        """One that is not of the pool, but made like those."""
        usual = self.pool.connection_kwargs.items()
        options = {**{name: value for name, value in usual if "maint_" not in name or not options}, **options}
        connection = self.pool.connection_class(**options)
        connection.retry._retries = 0  # the keeper has its own idea of when to try again
        return connection

    async def enter(self, rank, seconds):
        """Waits for a connection to wait on; tells whether there is one."""
        event = self.event()
        if self.room.enter(rank, event):
            return True
        try:
            await self.sleep_until(event, seconds)
        except BaseException:
            if self.room.entered(rank):
                self.room.leave()
            raise
        return self.room.entered(rank)


class Lock:
    """See `Lock` in `_threads` and `asyncio`."""

    def __init__(
        self, redis, name, timeout=None, sleep=0.1, blocking=True, blocking_timeout=None, thread_local=True,
        raise_on_release_error=True, *, renew=None, on_lost=None, owner=None, watch=False,
    ):  # fmt: skip
        self.redis, self.name, self.timeout, self.sleep = redis, name, timeout, sleep
        self.blocking, self.blocking_timeout, self.thread_local = blocking, blocking_timeout, bool(thread_local)
        self.raise_on_release_error, self.on_lost, self.owner = raise_on_release_error, on_lost, owner
        self.renew, self.watch = not timeout if renew is None else renew, watch
        self._mode, self._keys = [], [name]
        self._fresh()

    def _fresh(self):
        self.local = threading.local() if self.thread_local else SimpleNamespace()
        self.local.token = self.local.grip = self._loss = None

    @property
    def fence(self):
        """The fence of the hold: a number that only grows. Send it along with every write. None without a hold."""
        grip = self._grip()
        return grip.hold.fence if grip else None

    @property
    def lost(self):
        """The Event of the newest hold, in whatever thread: set as soon as it ends without a release."""
        if self._loss is None:
            self._loss = _core.Loss(self.Line.event)
        return self._loss.event()

    @property
    def lost_reason(self):
        """Why the hold was lost, in one word as WITHINFO says it; empty while it was not."""
        grip = getattr(self.local, "grip", None)
        return grip.reason if grip else ""

    def shared(self):
        """The same lock for a reader: held by many readers at a time, and by no writer meanwhile."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, _mode=[b"SHARED"])
        other._fresh()
        return other

    def extend(self, additional_time, replace_ttl=False):
        """Adds so many seconds to what is left of the lease, or sets it."""
        return self.Line.run(self._extend(self._timed("extend"), additional_time, replace_ttl))

    def reacquire(self):
        """Sets the lease to `timeout` again."""
        return self.Line.run(self._extend(self._timed("reacquire"), self.timeout, True))

    def locked(self):
        """Whether anybody holds the lock."""
        return self.Line.run(self._locked())

    def owned(self):
        """Whether this object holds the lock, in this thread if it is `thread_local`. Asks the server, if it may be so."""
        return self.Line.run(self._owned(self._grip()))

    def guard(self, *args):
        """Runs a command in the server, in one step with a look whether the lock is held; if not, LockNotOwnedError."""
        return self.Line.run(self._guard(self._held("guard"), args))

    def _grip(self):
        grip = getattr(self.local, "grip", None)
        held = grip and getattr(self.local, "token", None) is not None and grip.hold.pid == os.getpid()
        return grip if held else None

    def _held(self, verb):
        grip = self._grip()
        if grip is None:
            raise LockError(f"Cannot {verb} a lock that's not owned or is already unlocked.", self.name)
        if grip.over():  # asking could bring it back after a failover
            raise LockNotOwnedError(f"Cannot {verb} a lock that's no longer owned: {grip.over()}", self.name)
        return grip.hold

    def _timed(self, verb):
        hold = self._held(verb)
        if hold.renew:
            raise LockError(f"Cannot {verb} a lock with no timeout", self.name)
        return hold

    async def _acquire(self, sleep, blocking, timeout, token):
        line, owner = self.Line.of(self.redis), self.owner if token is None else token
        owner = _core.new_owner() if owner is None else owner.encode() if isinstance(owner, str) else owner
        lease, sleep = self.timeout or _core.LEASE, self.sleep if sleep is None else sleep
        blocking = self.blocking if blocking is None else blocking
        timeout = self.blocking_timeout if timeout is None else timeout
        wanted = self._keys, self._mode, lease, self.renew, self.watch, blocking, timeout, sleep, self.on_lost
        grip = await _core.Acquire(line, owner, *wanted).run()
        if grip is None:
            return False
        self.local.token, self.local.grip, self._loss = owner, grip, grip.loss
        return True

    async def _release(self):
        grip = getattr(self.local, "grip", None)
        if grip is not None and grip.hold.pid != os.getpid():
            return  # a fork of the holder holds nothing
        hold = self._held("release") if grip is None or self.local.token is None else grip.hold
        self.local.token, line = None, grip.line
        line.keeper.forget(hold)
        await line.shield(self._give_back(line, hold))

    async def _give_back(self, line, hold):
        try:
            await settle(line, hold, hold.release(), "release")
        except BROKEN + REPLIED as error:
            if isinstance(error, BROKEN) or passing(error):
                line.keeper.owe(hold.release(), hold.until)
            raise
        except LockNotOwnedError:
            if len(hold.keys) > 1:  # one of them was lost, and nothing was released yet
                await ask(line, ["LOCK.MRELEASE", hold.owner, len(hold.keys), *hold.keys])
            raise

    async def _extend(self, hold, seconds, replace):
        line, sent = self.Line.of(self.redis), time.monotonic()
        left = 0 if replace else hold.until - sent
        left = await settle(line, hold, hold.renewal(int((left + seconds) * 1000)), "extend")
        hold.until = sent + left / 1000
        hold.plan()
        return True

    async def _locked(self):
        try:
            return await ask(self.Line.of(self.redis), ["LOCK.AWAIT", self._keys[0], b"FREE"]) is None
        except REPLIED as error:
            if code(error) != "WRONGTYPE":
                raise
            return True  # a string of somebody who uses SET NX

    async def _owned(self, grip):
        try:
            return grip is not None and not grip.over() and await held(grip.line, grip.hold)
        except LockNotOwnedError:
            return False

    async def _guard(self, hold, args):
        words = ["LOCK.GUARD", hold.keys[0], hold.owner, hold.fence, *args]
        try:
            return await self.Line.of(self.redis).call(words, decode=True)
        except REPLIED as error:
            if code(error) not in ("NOTHELD", "STALEFENCE"):
                raise
            raise LockNotOwnedError(str(error), text(hold.keys[0])) from error


class Limited:
    """A lock for `limit` at a time. All who use the name say the same limit; `permits` of it are taken together."""

    def __init__(self, redis, name, limit, permits=1, **options):
        super().__init__(redis, name, **options)
        self._mode = [b"LIMIT", limit, b"PERMITS", permits]


class Several:
    """Several locks, all or none, under one fence; who waits for them holds none. In a cluster they share a slot."""

    def __init__(self, redis, names, **options):
        super().__init__(redis, names[0], **options)
        self._keys = list(names)


class Latch:
    """A gate that opens when `size` have counted, each once. Take a new name for each use."""

    def __init__(self, redis, name, size, life=86400):
        self.redis, self.name, self.size, self.life = redis, name, size, life

    def down(self, who=None):
        """Counts, and tells how many are left. Whoever names itself counts once, however often it says so."""
        return self.Line.run(self._down(who or _core.new_owner()[-33:]))

    def wait(self, timeout=None):
        """Waits until all have counted; False if the time is over before."""
        return self.Line.run(self._wait(timeout))

    async def _down(self, who):
        line, life = self.Line.of(self.redis), [b"PX", int(self.life * 1000)] if self.life else []
        await ask(line, ["LATCH.SET", self.name, self.size, *life])
        return await ask(line, ["LATCH.DOWN", self.name, who])

    async def _wait(self, timeout):
        line, rank, inside = self.Line.of(self.redis), next(_core.ranks), False
        stop = math.inf if timeout is None else time.monotonic() + timeout
        try:
            while True:
                left = max(0.0, min(line.slice, stop - time.monotonic()))
                inside = inside or await line.enter(rank, min(left, _core.FIRST))
                block = int(left * 1000) if inside else 0
                reply = await ask(line, ["LATCH.AWAIT", self.name] + [b"BLOCK", block] * bool(block), block / 1000)
                if reply is not None or time.monotonic() >= stop:
                    return reply is not None
        finally:
            if inside:
                line.room.leave()


def maker(lock, template, client, options, function):
    """What makes the lock for the arguments of a call; its name is "invoice:{id}" filled in."""
    signature = inspect.signature(function)

    def make(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return lock(client() if callable(client) else client, template.format_map(bound.arguments), **options)

    return make
