"""Which request is sent when, and what its reply means: the same for threads and tasks, redis and valkey.

Nothing here does input or output, sleeps, or starts a thread; a `line` does (`_locks.Line`). All is written as coroutines.
With threads a line never suspends them, so that one `send` runs a coroutine to its end.
"""

import collections
import contextlib
import functools
import importlib
import itertools
import math
import os
import random
import socket
import threading
import time
import types
import weakref

LEASE = 30.0  # seconds, for a lock without timeout; renewed at a third of it
SLICE = 1.0  # seconds that one request waits in the server; shorter than the read timeout of any client
TICKET_MS = 5000  # how long a place in line outlives the last request for it
FIRST = 0.25  # seconds between two requests of whoever may be next and has no connection to wait on
OTHERS = 0.8  # the same for those behind; below the time in which a turn must be claimed
PATIENCE = 10.0  # seconds without one good reply, after which a wait ends with the last error
REPLY = 5.0  # seconds to wait for a reply
AGAIN = 0.3  # seconds until what must still go out is sent again


def _clients():
    for name in ("redis", "valkey"):
        with contextlib.suppress(ImportError):
            yield importlib.import_module(name + ".exceptions")


CLIENTS = list(_clients())


def _known(*names):
    """The exceptions of these names in the clients that are installed."""
    return tuple(getattr(client, name) for client in CLIENTS for name in names if hasattr(client, name))


BROKEN = _known("ConnectionError", "TimeoutError") + (OSError,)  # no reply; the request may have been obeyed
CLUSTER = _known("RedisClusterException", "ValkeyClusterException")  # the cluster's state, or a fault of the request:
AWAY = ("cannot be connected", "not covered", "could not agree")  # so it says if it is the cluster's state
REFUSED = _known("AuthenticationError", "AuthorizationError")  # among BROKEN, but asking again does not help
REPLIED = _known("ResponseError")  # the server said no
# What the clients make an error of its own of, and leave out of its message.
WORDS = {"ReadOnlyError": "READONLY", "TryAgainError": "TRYAGAIN", "MovedError": "MOVED", "AskError": "ASK"}
WORDS |= {"ClusterDownError": "CLUSTERDOWN", "MasterDownError": "MASTERDOWN", "NoPermissionError": "NOPERM"}
# Said in passing: the same owner asks again, and has its place or its lock as before.
PASSING = {"UNBLOCKED", "READONLY", "TRYAGAIN", "MOVED", "ASK", "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN"}
# As if somebody had the lock. A string: whoever uses SET NX has it. After a failover: it is not known yet who has it.
BUSY = {"WRONGTYPE", "RECOVERING"}
FINAL = {"NOPERM", "BADARG"}  # a renewal that is refused so will be refused again, until the lease is over


class LockError(*_known("LockError")):
    """The lock could not be had, or is not held. A LockError of the client library too."""

    def __init__(self, message="", lock_name=None):
        super().__init__(message, lock_name)  # redis-py's errors have more to set, or they cannot be printed
        Exception.__init__(self, message)
        self.message, self.lock_name = message, lock_name


class LockNotOwnedError(LockError, *_known("LockNotOwnedError")):
    """The lock was held and is not any more."""


class DeadlockError(LockError):
    """This wait would never end. Release all that is held, then begin again."""


def code(error):
    return WORDS.get(type(error).__name__) or str(error).split(" ", 1)[0]


def passing(error):
    return code(error) in PASSING


def final(reply):
    return code(reply) if isinstance(reply, REPLIED) and code(reply) in FINAL else ""


def text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def left_in(reply):
    """How many of something are left, of all keys at least; 0 if there is a string now. Or the error."""
    if type(reply) is list:
        return min(reply)
    return 0 if isinstance(reply, REPLIED) and code(reply) == "WRONGTYPE" else reply


HOST = socket.gethostname()[:64].encode()
chance = random.Random()  # not the one that a program may seed


def begin_process():
    """Sets what each process has of its own. Kept, as each lock and release needs it, and asking is a call of the system."""
    global PID, OWNER
    PID, OWNER = os.getpid(), b"%b:%d:" % (HOST, os.getpid())
    chance.seed()  # or all children of one process would come back at the same moments


begin_process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=begin_process)


def new_owner():
    return OWNER + chance.randbytes(8).hex().encode()


def milliseconds(seconds):
    if not 0.001 <= seconds < math.inf:
        raise ValueError(f"{seconds} seconds: a time must be finite, and 0.001 at least")
    return int(seconds * 1000)


def request(verb, keys, owner, *words):
    """With several keys it is another command, which says how many they are."""
    if len(keys) == 1:
        return ["LOCK." + verb, keys[0], owner, *words]
    return ["LOCK.M" + verb, owner, len(keys), *keys, *words]


def gone():
    """What a weak reference to a grip says when there is none."""


class Hold:
    """One grant, as the keeper knows it. It outlives the object that the user has."""

    reason, grip = "", staticmethod(gone)

    def __init__(self, line, lock, owner, fence, sent):
        self.line, self.owner, self.fence = line, owner, fence
        self.keys, self.mode, self.lease, self.renew = lock._keys, lock._mode, lock.timeout or LEASE, lock.renew
        self.watch = self.look = lock.watch  # look: the server is to be asked whether it is still held
        self.begin(sent, min(self.lease, lock.max_hold or math.inf))

    def begin(self, sent, seconds):
        """It lasts so long from the moment before the request on."""
        self.sent, self.until = sent, sent + seconds
        self.due = time.monotonic() + self.lease / 3 * (1.0 - 0.15 * chance.random()) if self.renew else self.until

    def same(self, other):
        """Whether both are the one grant that this owner has. The last of them in this process ends it."""
        return (self.fence, self.owner, self.keys) == (other.fence, other.owner, other.keys)

    def over(self):
        """Why it is not held any more, as far as is known without asking; empty if it may be held."""
        return self.reason or ("lease-over" if self.until <= time.monotonic() else "")

    def event(self):
        """The Event of its loss, made when somebody asks for it: most locks are given back before."""
        return self.__dict__.get("lost") or self.__dict__.setdefault("lost", self.line.event())

    def renewal(self, lease=None):
        """Says all that a server must know to which the hold is lost in a failover."""
        lease_ms, same = milliseconds(self.lease if lease is None else lease), [b"FENCE", self.fence, *self.mode]
        if len(self.keys) == 1:
            return ["LOCK.RENEW", self.keys[0], self.owner, b"PX", lease_ms, *same]
        return ["LOCK.MRENEW", self.owner, lease_ms, len(self.keys), *self.keys, *same]

    def release(self):
        return request("RELEASE", self.keys, self.owner, b"FENCE", self.fence)

    def check(self, key):
        return ["LOCK.CHECK", key, self.owner, b"FENCE", self.fence, b"WITHINFO"]


class Grip:
    """What the user's object has of a grant. When nobody has it any more, the hold ends."""

    def __init__(self, hold, on_lost):
        self.hold, self.on_lost = hold, on_lost
        hold.grip = weakref.ref(self, hold.line.wake)


class Room:
    """How many connections of a pool may wait at a time: half of them, for releases and others must get through.

    Who finds none asks now and then. A line is served from the front, so only the first in this process for each key
    must do so often. When it has left the line it wakes the next. A signal handler may join and leave in between, in
    the thread that has the lock: it leaves all as it was.
    """

    def __init__(self, size):
        self.free, self.lock, self.lines, self.asleep, self.ranks = size, threading.RLock(), {}, {}, itertools.count()

    def join(self, key):
        with self.lock:
            place = types.SimpleNamespace(key=key, rank=next(self.ranks), inside=False, event=None)
            self.lines[key] = (*self.lines.get(key, ()), place)
            return place

    def first(self, place):
        return self.lines[place.key][0] is place

    def enter(self, place, event):
        """Whether there is a connection for it; else it is `inside` when the event comes, or only first now."""
        with self.lock:
            place.event = event
            if not place.inside and self.free > 0:
                self.free -= 1
                place.inside = True
            elif not place.inside:
                self.asleep[place.rank] = place
            return place.inside

    def leave(self, place):
        with self.lock:
            line = self.lines[place.key] = tuple(other for other in self.lines[place.key] if other is not place)
            if not line:
                del self.lines[place.key]
            elif line[0].event:
                line[0].event.set()
            self.asleep.pop(place.rank, None)
            if place.inside and self.asleep:
                following = self.asleep.pop(min(self.asleep))
                following.inside = True
                following.event.set()
            elif place.inside:
                self.free += 1


class Keeper:
    """The holds of one pool: renews those that are due, tells of those that are lost, ends those that were dropped."""

    def __init__(self, line):
        self.line, self.holds, self.ear = line, {}, Ear(line)
        self.debts = collections.deque()  # requests that must still go out, and until when

    def add(self, hold, on_lost):
        grip = Grip(hold, on_lost)
        self.holds[hold] = None
        if hold.watch and not self.ear.refused:
            self.line.listen()
        self.line.watch(time.monotonic() if hold.look and self.ear.id else hold.due)
        return grip

    def forget(self, hold):
        hold.grip = gone  # and with it the call when it is collected
        return hold in self.holds and self.holds.pop(hold, True) is None

    def owe(self, call, until):
        self.debts.append((until, call))
        self.line.watch(time.monotonic())

    def end(self, hold, until):
        """Has it released in the background. Key by key, as one of several may be lost."""
        for key in hold.keys:
            self.owe(request("RELEASE", [key], hold.owner, b"FENCE", hold.fence), until)

    def next(self):
        """When there is something to do next; None if there is nothing to keep."""
        times = [0.0 if hold.look and self.ear.id else min(hold.due, hold.until) for hold in list(self.holds)]
        return min(times + [time.monotonic() + AGAIN] * bool(self.debts), default=None)

    def lose(self, hold, reason):
        grip = hold.grip()
        if self.forget(hold) and grip:
            hold.reason = reason
            hold.event().set()
            self.line.tell(grip.on_lost, reason)

    async def turn(self):
        """Sends all that is due in one go. `work` has each request, and what is to be done with its reply."""
        now, limit, work, looks = time.monotonic(), REPLY, [], []
        for hold in list(self.holds):
            if hold.grip() is None:
                if self.forget(hold) and hold.renew and not any(map(hold.same, list(self.holds))):
                    self.end(hold, hold.until)
            elif hold.until <= now:
                self.lose(hold, "lease-over")
            else:
                if hold.renew and hold.due - now < hold.lease / 12:  # who is due soon comes along in the same batch
                    work.append((hold.renewal(), self.renewed, (hold, now)))
                    limit = min(limit, hold.until - now)
                    hold.look = hold.watch  # what was told meanwhile may have been lost with a connection
                if hold.look and self.ear.id:
                    hold.look = False
                    looks += [(hold.check(key), self.checked, (hold,)) for key in hold.keys]
        if looks:
            work += [(["CLIENT", b"TRACKING", b"ON", b"REDIRECT", self.ear.id], self.tracked, ()), *looks]
        while self.debts:
            until, call = self.debts.popleft()
            if until > now:
                work.append((call, self.paid, (call, until)))
        limit = max(0.05, limit)
        for hold, *_ in (what for _, then, what in work if then == self.renewed):
            hold.due = now + limit  # again if there is no reply by then
        if work:
            await self.line.spread(self.send, work, limit)

    async def send(self, work, limit):
        try:
            replies = await self.line.batch([call for call, _, _ in work], limit)
        except BROKEN + REPLIED as error:
            replies = [error] * len(work)
        await self.answer(work, replies)

    async def answer(self, work, replies):
        for (_, then, what), reply in zip(work, replies):
            await then(reply, *what)

    async def renewed(self, reply, hold, sent):
        left = left_in(reply)
        if left == 0:
            if hold in self.holds:  # and was not released meanwhile
                self.lose(hold, await why(hold))
        elif final(left):
            self.lose(hold, final(left))
        elif sent < hold.sent:  # a late reply, after that to a later renewal
            pass
        elif isinstance(left, int):
            hold.begin(sent, left / 1000)
        else:  # no reply, or an error: again soon, as long as the lease lasts
            hold.due = time.monotonic() + min(1.0, hold.lease / 12) * chance.uniform(0.5, 1.0)
            self.line.watch(hold.due)

    async def tracked(self, reply):
        if isinstance(reply, Exception):
            self.ear.id, self.ear.refused = None, bool(final(reply))

    async def checked(self, reply, hold):
        reason = None if isinstance(reply, Exception) and code(reply) != "WRONGTYPE" else reason_in(reply)
        if reason == "recovering":  # after a failover: a renewal brings it back
            hold.due = 0.0 if hold.renew else hold.due
        elif reason:
            self.lose(hold, reason)

    async def paid(self, reply, call, until):
        if isinstance(reply, BROKEN) and not isinstance(reply, REFUSED) or isinstance(reply, REPLIED) and passing(reply):
            self.debts.append((until, call))
            self.line.watch(time.monotonic() + AGAIN)


class Ear:
    """A connection that hears at once when a watched lock changes. The keeper then asks whether the hold is still there.

    For what it asks it has the server track it (CLIENT TRACKING), and tell this connection. What is not heard, since a
    connection was broken or this user may not listen, the next renewal tells.
    """

    def __init__(self, line):
        self.line, self.id, self.refused = line, None, line.pool is None

    def watched(self):
        return any(hold.watch for hold in list(self.line.keeper.holds)) and not self.refused

    def look(self, encode=None, keys=None):
        """Asks about the holds of these keys; without keys about all, as after FLUSHALL."""
        for hold in list(self.line.keeper.holds):
            if keys is None or not set(keys).isdisjoint(map(encode, hold.keys)):
                hold.look = hold.watch
        self.line.wake()

    async def listen(self):
        """Until nothing is watched."""
        while self.watched():
            connection = self.line.connection(protocol=2)
            try:
                await self.line.connect(connection, REPLY)
                calls = [["CLIENT", b"ID"], ["SUBSCRIBE", b"__redis__:invalidate"]]
                replies = await self.line.talk(connection, calls, REPLY)
                for reply in replies:
                    if isinstance(reply, Exception):
                        raise reply
                self.id = replies[0]
                self.look()
                while self.id and not self.line.replaced(connection):
                    said = await self.line.hear(connection)
                    if said:
                        self.look(connection.encoder.encode, said[2])
                    elif not self.watched():
                        break
            except Exception as error:  # also of a parser: of FLUSHALL a server may tell in RESP3 where it must not
                self.refused = bool(final(error)) or isinstance(error, REFUSED)
                await self.line.pause(chance.uniform(0.02, 0.2))
            finally:
                self.id = None
                await self.line.maybe(connection.disconnect())


async def ask(line, args, wait=0.0, limit=REPLY):
    """Sends a request that may be sent twice, and replies the same."""
    for turn in range(3):
        try:
            return await line.call(args, wait, limit)
        except REFUSED:
            raise
        except BROKEN + REPLIED as error:
            if turn == 2 or (isinstance(error, REPLIED) and not passing(error)):
                raise
        await line.pause(chance.uniform(0.02, 0.1) * (turn + 1))


def reason_in(reply):
    """Why there is no hold, in the server's word; None if there is one."""
    if isinstance(reply, Exception):
        if code(reply) != "WRONGTYPE":
            raise reply
        return "overwritten"
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2])
    info = {text(name): value for name, value in pairs}
    return text(info["reason"]) if info["result"] == 0 else None


async def look(hold, send, **limit):
    """Asks about each of the keys; the result is the first reason why there is no hold, if any."""
    for key in hold.keys:
        try:
            reason = reason_in(await send(hold.check(key), **limit))
        except REPLIED as error:
            reason = reason_in(error)
        if reason:
            return reason
    return None


async def why(hold):
    """The reason why a hold has ended."""
    try:
        return await look(hold, hold.line.call, limit=1.0) or "unknown"
    except BROKEN + REPLIED:
        return "unknown"


async def held(hold):
    """Asks the server, and tells of a loss."""
    reason = await look(hold, functools.partial(ask, hold.line))
    if reason == "recovering":  # after a failover: a renewal brings it back
        await settle(hold, hold.renewal(), "find")
    elif reason:
        hold.line.keeper.lose(hold, reason)
        return False
    return True


async def settle(hold, args, verb, limit=REPLY):
    """Sends what only the holder may say. Raises LockNotOwnedError if the hold has ended."""
    try:
        left = left_in(await ask(hold.line, args, 0.0, limit))
    except REPLIED as error:
        left = left_in(error)
        if left != 0:
            raise
    if left == 0:
        reason = await why(hold)
        hold.line.keeper.lose(hold, reason)
        raise LockNotOwnedError(f"Cannot {verb} a lock that's no longer owned: {reason}", text(hold.keys[0]))
    return left


class Acquire:
    """One try to have the lock, or one wait in line for it, under one owner from the first request to the last.

    The first request asks for the lock or a place in line, and is answered at once. The next ones wait in the server.
    """

    place = None
    queued = again = asking = False

    def __init__(self, line, lock, owner, poll, blocking, timeout):
        self.line, self.lock, self.owner, self.poll = line, lock, owner, poll  # poll: how often to look where no line can form
        self.base = request("ACQUIRE", lock._keys, owner, b"PX", milliseconds(lock.timeout or LEASE), *lock._mode)
        if lock.max_hold:
            self.base += [b"MAXHOLD", milliseconds(lock.max_hold)]
        self.good = time.monotonic()  # when the server last gave a reply that counts
        self.stop = math.inf if timeout is None else self.good + timeout
        self.blocking = blocking and (timeout is None or timeout > 0)

    async def run(self):
        """The result is a grip, or None."""
        try:
            while True:
                error, pause = None, 0.0
                try:
                    grip = await self.once()
                    if grip is not None:
                        return grip
                    self.good = time.monotonic()
                except REPLIED + BROKEN as caught:
                    self.asking = self.asking and not isinstance(caught, REPLIED)
                    pause = self.judge(caught)
                    error = None if code(caught) in BUSY else caught
                    self.queued = False
                if time.monotonic() + pause >= self.stop or not (self.blocking or pause):
                    if error is not None:
                        raise error
                    break
                if pause:
                    await self.line.pause(pause)
        except GeneratorExit:
            raise
        except BaseException:
            await self.line.shield(self.give_up)
            raise
        finally:
            if self.place is not None:
                self.line.room.leave(self.place)
        if self.blocking or self.again:
            await self.line.shield(self.give_up)
        return None

    async def give_up(self):
        """Leaves neither a place in line nor a grant that came in the last moment."""
        call = request("RELEASE", self.lock._keys, self.owner, b"CANCEL")
        try:
            await self.line.call(call, limit=1.0)
        except BROKEN:
            self.asking = True
        except REPLIED:
            pass  # a string is there now, so neither the lock nor the line
        if self.asking:  # on another connection a request may be on its way yet, so give up once more in a moment
            self.line.keeper.owe(call, time.monotonic() + (self.lock.timeout or LEASE))

    async def once(self):
        line, keys, block = self.line, self.lock._keys, 0
        if self.queued:
            if not self.place.inside:
                often = len(keys) > 1 or line.room.first(self.place)
                await line.enter(self.place, min(FIRST if often else OTHERS, self.stop - time.monotonic()))
            if self.place.inside:
                block = int(max(0.0, min(line.slice, self.stop - time.monotonic())) * 1000)
        words = [b"BLOCK", block] if block else []
        if self.blocking:
            words += [b"QUEUE", TICKET_MS]
        sent, self.asking = time.monotonic(), True
        fence = await line.call(self.base + words, block / 1000)
        self.asking = False
        if fence is None:
            self.queued = self.blocking
            if self.queued and self.place is None:
                self.place = line.room.join(tuple(keys))
            return None
        hold = Hold(line, self.lock, self.owner, int(fence), sent)
        if block:  # the turn may have come some time ago: claim it, and count from now
            sent = time.monotonic()
            left_ms = left_in(await line.call(hold.renewal()))
            if left_ms == 0:  # too late, the next in line has it; so stand in line again
                self.queued = False
                return None
            hold.begin(sent, left_ms / 1000)
        return line.keeper.add(hold, self.lock.on_lost)

    def judge(self, error):
        """After how many seconds to ask again; 0 if the lock is simply busy. Raises what asking again cannot mend."""
        word = code(error)
        if word in BUSY:
            self.good = time.monotonic()
            return self.poll if self.blocking else 0.0
        if word in ("DEADLOCK", "LOCKMODE", "LOCKLIMIT", "QUEUEFULL"):
            raise (DeadlockError if word == "DEADLOCK" else LockError)(str(error), text(self.lock._keys[0])) from error
        if isinstance(error, REFUSED) or (isinstance(error, REPLIED) and not passing(error)):
            raise error
        if time.monotonic() - self.good > PATIENCE if self.blocking else self.again:
            raise error
        self.again = True
        return chance.uniform(0.02, 0.2)
