"""The locks as the user sees them, and the way to the server, for threads and tasks alike.

All methods are coroutines here, as tasks need them. `_threads` runs each to its end.
"""

import contextlib
import inspect
import itertools
import logging
import math
import threading
import time

from . import _core
from ._core import BROKEN, REPLIED, LockError, LockNotOwnedError, ask, code, passing, settle, text

logger = logging.getLogger("fencelock")
LINGER = 1.0  # seconds without a hold, after which nothing is left running
FRESH = 0.5  # seconds for which sentinels are believed
SILENT = "no reply from the server"
LENGTHS = [b"\r\n$%d\r\n" % n for n in range(256)]  # what stands before a word


def packed(args, encode):
    """A request as it goes over the wire. The clients' own packers take several times as long."""
    parts = [b"*%d" % len(args)]
    for word in (args[0].encode(), *args[1:]):
        if type(word) is not bytes:
            word = b"%d" % word if type(word) is int else encode(word)
        parts += (LENGTHS[len(word)] if len(word) < 256 else b"\r\n$%d\r\n" % len(word), word)
    parts.append(b"\r\n")
    return b"".join(parts)


class Line:
    """The way to the server: the pool of a client, half of it for those who wait, and one spare connection.

    The spare one renews. It also serves whoever finds the pool exhausted, so that a release always gets through.
    What the pool and its connections do is to be awaited with `awaits`.
    """

    def __init__(self, home, client, loop):
        if (".asyncio." in str(type(home).__mro__)) != self.awaits:
            raise TypeError("For this client take the locks of " + ("fencelock" if self.awaits else "fencelock.asyncio"))
        self.pid, self.loop, self.pool = _core.PID, loop, home if hasattr(home, "connection_class") else None
        self.cluster = None if self.pool else client  # which finds the node and the connection itself
        timeout = getattr(self.pool, "connection_kwargs", {}).get("socket_timeout")
        self.slice = min(_core.SLICE, timeout / 2) if timeout else _core.SLICE
        self.room = _core.Room(getattr(self.pool, "max_connections", 32) // 2)
        self.keeper = _core.Keeper(self)
        self.name = ["LOCK"] if "valkey" in str(type(self.pool).__mro__) else []  # which it wants to give a connection
        self.primary = getattr(self.pool, "get_master_address", None)  # asks the sentinels, if there are any
        self.spare, self.planned, self.asked, self.down = None, math.inf, -math.inf, False

    @classmethod
    def of(cls, client):
        """The one of this client's pool in this process and event loop."""
        home, pid, loop = getattr(client, "connection_pool", None) or client, _core.PID, cls.where()
        lines = home.__dict__.get("_fencelock") or home.__dict__.setdefault("_fencelock", {})
        line = lines.get((pid, loop))
        if line is None:
            for old in [old for old in list(lines) if old[0] != pid or (old[1] and old[1].is_closed())]:
                lines.pop(old, None)
            line = lines.setdefault((pid, loop), cls(home, client, loop))
        return line

    async def call(self, args, wait=0.0, limit=_core.REPLY, decode=False):
        """Sends one request. The server may keep the reply for `wait` seconds, and then it may take `limit` more."""
        if self.cluster is not None:
            try:
                reply = await self.maybe(self.cluster.execute_command(*args))
            except _core.CLUSTER as error:
                if any(words in str(error) for words in _core.AWAY):
                    raise ConnectionError(str(error)) from None
                raise
            return reply.encode() if isinstance(reply, str) and not decode else reply
        if self.primary is not None:
            await self.follow()
        limit, connection, is_whole = limit + wait, None, False
        if self.free() and (wait or not self.down):
            try:
                taken = self.pool.get_connection(*self.name)
                connection = await taken if self.awaits else taken
            except BROKEN as error:
                if "Too many connections" not in str(error):
                    self.down = True  # the client has tried for long; the spare one tries once
                    raise
        if connection is None:
            replies = await self.on_spare([args], limit, decode)
            self.down = False
            if isinstance(replies[0], Exception):
                raise replies.pop()  # of which nothing here has hold, or its traceback would keep the caller's lock
            return replies[0]
        bare = getattr(connection, "_conn", connection)  # without the client's own cache, which knows nothing of locks
        try:
            if self.primary is not None and self.replaced(bare):
                await self.maybe(bare.disconnect())
                await self.maybe(bare.connect())
            sent = bare.send_packed_command([packed(args, bare.encoder.encode)])
            if self.awaits:
                await sent
            reply = self.read(bare, limit, decode)
            reply = await reply if self.awaits else reply
            is_whole = True
            return reply
        except REPLIED as error:
            is_whole = not passing(error)  # the next one may reach another server
            raise
        finally:
            if not is_whole:  # as when a thread was interrupted: its reply is for nobody else
                await self.maybe(bare.disconnect())
            given = self.give_back(connection)
            if self.awaits:
                await given

    async def batch(self, calls, limit):
        """Sends many requests in one go. The result has a reply or an error for each."""
        if self.cluster is None:
            await self.follow()
            return await self.on_spare(calls, limit)
        replies, end = [], time.monotonic() + limit
        for call in calls:
            try:
                if time.monotonic() > end:  # it may be wanted no more
                    raise TimeoutError(SILENT)
                replies.append(await self.call(call))
            except REPLIED + BROKEN + _core.CLUSTER as error:
                replies.append(error)
        return replies

    def by_node(self, work):
        """What the keeper has to send, for each server: one may be silent while the others answer."""
        nodes = {}
        for item in work:
            call, node = item[0], None
            if self.cluster is not None:
                with contextlib.suppress(*_core.CLUSTER):  # not known now, but perhaps when it is sent
                    node = self.cluster.get_node_from_key(call[4] if call[0] == "LOCK.MRENEW" else call[1]).name
            nodes.setdefault(node, []).append(item)
        return nodes

    async def follow(self):
        """Asks the sentinels, if there are any, whether the primary is still the same. The clients ask for a new connection
        only, but after a failover the old primary goes on for some seconds as if nothing were."""
        if self.primary is not None and time.monotonic() - self.asked > FRESH:
            self.asked = time.monotonic()
            try:
                await self.maybe(self.primary())
            except BROKEN:
                pass

    def replaced(self, connection):
        primary = getattr(self.pool, "master_address", None)
        return primary is not None and primary != (connection.host, connection.port)

    async def talk(self, connection, calls, limit, decode=False):
        """Sends many requests in one go on this connection."""
        sent = connection.send_packed_command([b"".join(map(packed, calls, itertools.repeat(connection.encoder.encode)))])
        if self.awaits:
            await sent
        replies, moved = [], False
        try:
            for _ in calls:
                try:
                    reply = self.read(connection, limit, decode)
                    replies.append(await reply if self.awaits else reply)
                except REPLIED as error:
                    replies.append(error.with_traceback(None))
                    moved = moved or passing(error)
        finally:
            if moved or len(replies) < len(calls):  # the next one may reach another server, or read what is for nobody else
                await self.maybe(connection.disconnect())
        return replies

    async def connected(self, spare, limit):
        await self.connect(spare, limit)
        if self.replaced(spare) or await self.dirty(spare):  # the server has closed it
            await self.maybe(spare.disconnect())
            await self.connect(spare, limit)
        return spare

    def connection(self, **options):
        """One that is not of the pool, but made like those."""
        usual = self.pool.connection_kwargs.items()
        options = {**{name: value for name, value in usual if "maint_" not in name or not options}, **options}
        connection = self.pool.connection_class(**options)
        connection.retry._retries = 0  # the keeper has its own idea of when to try again
        return connection

    async def enter(self, place, seconds):
        """Waits so long for a connection to wait on."""
        event = self.event()
        if not self.room.enter(place, event):
            await self.sleep_until(event, seconds)


def plain(key):
    """A key that can be one of a dictionary."""
    return bytes(key) if isinstance(key, (bytearray, memoryview)) else key


class ByThread(threading.local):
    """What a lock holds in each thread."""

    token = grip = None


class ForAll:
    token = grip = None


class Lock:
    """See `Lock` in `_threads` and `asyncio`."""

    def __init__(
        self, redis, name, timeout=None, sleep=0.1, blocking=True, blocking_timeout=None, thread_local=True,
        raise_on_release_error=True, *, renew=None, on_lost=None, owner=None, watch=False, max_hold=None,
    ):  # fmt: skip
        self.redis, self.name, self.timeout, self.sleep = redis, name, timeout, sleep
        self.blocking, self.blocking_timeout, self.thread_local = blocking, blocking_timeout, bool(thread_local)
        self.raise_on_release_error, self.on_lost, self.owner = raise_on_release_error, on_lost, owner
        self.renew, self.watch, self.max_hold = not timeout if renew is None else renew, watch, max_hold
        self._mode, self._keys, self._newest = [], [plain(name)], None
        if timeout:
            _core.milliseconds(timeout)  # or the ValueError
        if max_hold:
            _core.milliseconds(max_hold)
        self.local = ByThread() if thread_local else ForAll()

    @property
    def fence(self):
        """The fence of the hold: a number that only grows. Send it along with every write. None without a hold."""
        hold = self._hold()
        return hold.fence if hold else None

    @property
    def lost(self):
        """The Event of the newest hold, in whatever thread: set as soon as it ends without a release."""
        return self._newest.event() if self._newest else self.Line.event()

    @property
    def lost_reason(self):
        """Why the hold was lost, in one word as WITHINFO says it; empty while it was not."""
        return self.local.grip.hold.reason if self.local.grip else ""

    def shared(self):
        """The same lock for a reader: held by many readers at a time, and by no writer meanwhile."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, _mode=[b"SHARED"], _newest=None, local=type(self.local)())
        return other

    async def _acquire(self, sleep, blocking, timeout, token):
        owner = self.owner if token is None else token
        owner = _core.new_owner() if owner is None else owner.encode() if isinstance(owner, str) else owner
        sleep, blocking = self.sleep if sleep is None else sleep, self.blocking if blocking is None else blocking
        timeout = self.blocking_timeout if timeout is None else timeout
        grip = await _core.Acquire(self.Line.of(self.redis), self, owner, sleep, blocking, timeout).run()
        if grip is None:
            return False
        local = self.local
        before = local.grip
        if before and grip.hold.same(before.hold) and before.hold.line.keeper.forget(before.hold):
            grip.hold.lost = before.hold.event()  # it holds as before, and so does the Event that somebody may have
        local.token, local.grip, self._newest = owner, grip, grip.hold
        return True

    async def release(self):
        """Gives the lock back; the next in line has it in the same moment."""
        grip = self.local.grip
        if grip is None or self.local.token is None:
            raise self._not_owned("release")
        await grip.hold.line.shield(self._give_back, grip.hold)

    async def _give_back(self, hold):
        keeper = hold.line.keeper
        try:
            self.local.token = None
            keeper.forget(hold)
            if hold.line.pid != _core.PID:  # a fork of the holder holds nothing
                return
            if hold.over():
                raise self._gone("release", hold)
            await settle(hold, hold.release(), "release", 1.5)
        except LockNotOwnedError:
            if len(hold.keys) > 1 or hold.over():  # the others are still held, or all of them by the server's clock
                keeper.end(hold, time.monotonic() + hold.lease)
            raise
        except BaseException as error:  # of a signal handler, too; but a task does again what was broken off
            if (isinstance(error, Exception) or not hold.line.awaits) and (not isinstance(error, REPLIED) or passing(error)):
                keeper.end(hold, hold.until)
            raise

    async def extend(self, additional_time, replace_ttl=False):
        """Adds so many seconds to what is left of the lease, or sets it."""
        return await self._extend("extend", additional_time, replace_ttl)

    async def reacquire(self):
        """Sets the lease to `timeout` again."""
        return await self._extend("reacquire", self.timeout or _core.LEASE, True)

    async def _extend(self, verb, seconds, replace):
        hold, sent = self._held(verb), time.monotonic()
        if hold.renew:
            raise LockError(f"Cannot {verb} a lock " + ("that is renewed" if self.timeout else "with no timeout"), self.name)
        left = 0 if replace else hold.until - sent
        left = await settle(hold, hold.renewal(left + seconds), "extend")
        hold.begin(sent, left / 1000)
        return True

    async def locked(self):
        """Whether anybody holds the lock."""
        for key in self._keys:
            try:
                if await ask(self.Line.of(self.redis), ["LOCK.AWAIT", key, b"FREE"]) is None:
                    return True
            except REPLIED as error:
                if code(error) != "WRONGTYPE":
                    raise
                return True  # a string of somebody who uses SET NX
        return False

    async def owned(self):
        """Whether this object holds the lock, in this thread if it is `thread_local`. Asks the server, if it may be so."""
        hold = self._hold()
        try:
            return hold is not None and not hold.over() and await _core.held(hold)
        except LockNotOwnedError:
            return False

    async def guard(self, *args):
        """Runs a command in the server, in one step with a look whether the lock is held; if not, LockNotOwnedError."""
        hold = self._held("guard")
        if len(hold.keys) > 1:  # of which the server would look at one only
            raise LockError("Cannot guard with more than one key, as the server looks at one: use a Lock", self.name)
        try:
            return await hold.line.call(["LOCK.GUARD", hold.keys[0], hold.owner, hold.fence, *args], decode=True)
        except REPLIED as error:
            if code(error) not in ("NOTHELD", "STALEFENCE"):
                raise
            raise LockNotOwnedError(str(error), text(hold.keys[0])) from error

    def _hold(self):
        grip = self.local.grip
        held = grip is not None and self.local.token is not None and grip.hold.line.pid == _core.PID
        return grip.hold if held else None

    def _held(self, verb):
        hold = self._hold()
        if hold is None:
            raise self._not_owned(verb)
        if hold.over():  # asking could bring it back after a failover
            raise self._gone(verb, hold)
        return hold

    def _gone(self, verb, hold):
        return LockNotOwnedError(f"Cannot {verb} a lock that's no longer owned: {hold.over()}", self.name)

    def _not_owned(self, verb):
        return LockError(f"Cannot {verb} a lock that's not owned or is already unlocked.", self.name)

    def _unable(self):
        return LockError("Unable to acquire lock within the time specified", self.name)

    def _late(self):
        """In the except of a `with` that ends."""
        if self.raise_on_release_error:
            raise
        logger.warning("Lock was unlocked or no longer owned when exiting context manager.")


class Limited:
    """A lock for `limit` at a time. All who use the name say the same limit; `permits` of it are taken together."""

    def __init__(self, redis, name, limit, permits=1, **options):
        super().__init__(redis, name, **options)
        self._mode = [b"LIMIT", limit, b"PERMITS", permits]

    def shared(self):
        raise TypeError("a semaphore has no readers")


class Several:
    """Several locks, all or none, under one fence; who waits for them holds none. In a cluster they share a slot."""

    def __init__(self, redis, names, **options):
        if isinstance(names, (str, bytes, bytearray, memoryview)):
            raise TypeError("MultiLock takes a list of keys; for one key there is Lock")
        keys = list(map(plain, names))
        if not keys:
            raise ValueError("a MultiLock of no keys")
        super().__init__(redis, keys[0], **options)
        self._keys = keys


class Latch:
    """A gate that opens when `size` have counted, each once. Take a new name for each use."""

    def __init__(self, redis, name, size, life=86400):
        self.redis, self.name, self.size, self.life = redis, name, size, life

    async def down(self, who=None):
        """Counts, and tells how many are left. Whoever names itself counts once, however often it says so."""
        line, life = self.Line.of(self.redis), [b"PX", _core.milliseconds(self.life)] if self.life else []
        who = who or _core.new_owner()[-33:]
        await ask(line, ["LATCH.SET", self.name, self.size, *life])
        return await ask(line, ["LATCH.DOWN", self.name, who])

    async def wait(self, timeout=None):
        """Waits until all have counted; False if the time is over before."""
        line, stop = self.Line.of(self.redis), math.inf if timeout is None else time.monotonic() + timeout
        place = line.room.join(self)
        try:
            while True:
                left = max(0.0, min(line.slice, stop - time.monotonic()))
                await line.enter(place, min(left, _core.FIRST))
                block = int(left * 1000) if place.inside else 0
                reply = await ask(line, ["LATCH.AWAIT", self.name] + [b"BLOCK", block] * bool(block), block / 1000)
                if reply is not None or time.monotonic() >= stop:
                    return reply is not None
        finally:
            line.room.leave(place)


def maker(lock, template, client, options, function):
    """What makes the lock for the arguments of a call; its name is "invoice:{id}" filled in."""
    late = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if late or (inspect.iscoroutinefunction(function) and not lock.Line.awaits):
        hint = "take the lock inside it" if late else "use fencelock.asyncio.locked"
        raise TypeError(f"{function.__qualname__} runs after the call, when the lock is given back already: {hint}")
    signature = inspect.signature(function)

    def make(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return lock(client() if callable(client) else client, template.format_map(bound.arguments), **options)

    return make
