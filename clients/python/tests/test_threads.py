"""The contract of the clients, with threads."""

import asyncio
import gc
import math
import operator
import os
import signal
import socket
import threading
import time

import pytest
import redis
import redis.asyncio
import valkey
from redis.backoff import NoBackoff
from redis.cache import CacheConfig
from redis.retry import Retry
from support import wait_until

import fencelock.asyncio
from fencelock import DeadlockError, Latch, Lock, LockError, LockNotOwnedError, MultiLock, Semaphore, _core, _threads, locked


@pytest.fixture(params=[redis.Redis, valkey.Valkey], ids=["redis", "valkey"])
def r(request, server):
    with request.param(port=server.port) as client:
        yield client


@pytest.fixture
def through(proxy):
    with redis.Redis(port=proxy.port, socket_timeout=2, retry=Retry(NoBackoff(), 0)) as client:
        yield client


def in_thread(function, *args):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args)), daemon=True)
    thread.start()
    thread.result = lambda: thread.join(20) or result[0]
    return thread


def test_drop_in(r, server):
    with r.lock("k", timeout=5, lock_class=Lock) as lock:
        assert server.holders("k") == [lock.local.token.decode()]
        assert lock.fence > 0 and lock.owned() and lock.locked() and not lock.lost.is_set()
    assert lock.fence is None and not lock.owned() and server.idle("k")


def test_errors_are_those_of_the_client(r):
    package = redis if isinstance(r, redis.Redis) else valkey
    with pytest.raises(package.exceptions.LockError):
        Lock(r, "k").release()
    lock = Lock(r, "k")
    lock.acquire()
    r.delete("k")
    with pytest.raises(package.exceptions.LockNotOwnedError, match="deleted"):
        lock.release()


def test_waits_in_line(r, server):
    first = Lock(r, "k")
    first.acquire()
    order, threads = [], []

    def work(n):
        with Lock(r, "k") as lock:
            order.append((n, lock.fence))

    for n in range(5):
        threads.append(in_thread(work, n))
        wait_until("it stands in line", lambda: server.waiting("k") == n + 1)
    first.release()
    for thread in threads:
        thread.join(10)
    assert [n for n, _ in order] == list(range(5))
    assert order == sorted(order, key=lambda pair: pair[1])


@pytest.mark.parametrize("pool_class", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_200_callers_on_a_pool_of_20(server, pool_class):
    server.cmd("CONFIG", "SET", "lock.claim-ms", 10000)  # the order is the point, not how busy this machine is
    pool = pool_class(port=server.port, max_connections=20)
    client = redis.Redis(connection_pool=pool)
    first = Lock(client, "k")
    first.acquire()
    order, threads = [], []

    def work(n):
        with Lock(client, "k", timeout=10):
            order.append(n)

    for n in range(200):
        threads.append(in_thread(work, n))
        wait_until("it stands in line", lambda: server.waiting("k") == n + 1)
    first.release()
    for thread in threads:
        thread.join(60)
    assert order == list(range(200))
    server.cmd("CONFIG", "SET", "lock.claim-ms", 1000)
    pool.disconnect()


def test_many_locks_on_a_pool_of_one(server):
    server.cmd("CONFIG", "SET", "lock.claim-ms", 10000)  # the order is the point, not how busy this machine is
    with redis.Redis(port=server.port, max_connections=1) as client:
        order = []
        first = Lock(client, "k")
        first.acquire()

        def work(n):
            with Lock(client, "k"):
                order.append(n)

        threads = []
        for n in range(5):
            threads.append(in_thread(work, n))
            wait_until("it stands in line", lambda: server.waiting("k") == n + 1)
        first.release()
        for thread in threads:
            thread.join(10)
        assert order == list(range(5))
    server.cmd("CONFIG", "SET", "lock.claim-ms", 1000)


@pytest.mark.parametrize("pool_class", [redis.ConnectionPool, redis.BlockingConnectionPool, valkey.ConnectionPool])
def test_release_and_renewal_with_the_pool_exhausted(server, pool_class):
    pool = pool_class(port=server.port, max_connections=2)
    client = (valkey.Valkey if pool_class.__module__.startswith("valkey") else redis.Redis)(connection_pool=pool)
    lock = Lock(client, "k", timeout=4.5, renew=True)
    lock.acquire()
    renewals = server.calls("lock.renew")
    taken = [pool.get_connection("x") if pool_class is valkey.ConnectionPool else pool.get_connection() for _ in range(2)]
    wait_until("it is renewed", lambda: server.calls("lock.renew") > renewals)
    assert server.holders("k")
    lock.release()  # and does not wait for a connection of the pool
    assert server.idle("k")
    for connection in taken:
        pool.release(connection)
    pool.disconnect()


def test_renewed_until_the_release(r, server):
    with Lock(r, "k", timeout=3, renew=True) as lock:
        time.sleep(3.5)
        assert lock.owned() and not lock.lost.is_set()
    assert server.idle("k")


def test_a_timeout_is_not_renewed(r, server):
    lock = Lock(r, "k", timeout=0.2)
    lock.acquire()
    assert lock.lost.wait(10) and lock.lost_reason == "lease-over"
    with pytest.raises(LockNotOwnedError, match="lease-over"):
        lock.extend(5)
    with pytest.raises(LockNotOwnedError, match="lease-over"):
        lock.release()


@pytest.mark.parametrize("keys", [["k"], ["a", "b"]])
def test_what_was_told_as_lost_is_not_released_quietly(r, server, keys):
    """The server may have it for longer, as when the reply to a renewal was lost. It is told in the background."""
    with pytest.raises(LockNotOwnedError, match="lease-over"):
        with MultiLock(r, keys, timeout=1) as lock:
            for key in keys:
                server.cmd("LOCK.RENEW", key, lock.local.token, "PX", 60000)
            server.cmd("LOCK.BREAK", *keys[1:]) if keys[1:] else None
            assert lock.lost.wait(10) and server.holders(keys[0])
    wait_until("it is free", lambda: server.idle(*keys))


def test_a_release_after_the_lease_asks_nobody(through, proxy):
    lock = Lock(through, "k", timeout=1)
    lock.acquire()
    assert lock.lost.wait(10)
    proxy.tell("refuse")
    proxy.tell("cut")
    with pytest.raises(LockNotOwnedError, match="lease-over"):
        lock.release()
    wait_until("it is tried in the background", proxy.struck)


@pytest.mark.parametrize("how", [["LOCK.BREAK", "k"], ["DEL", "k"], ["SET", "k", "x"], ["LOCK.STEAL", "k", "thief"]])
def test_a_loss_is_told(r, server, how):
    reasons, told = [], threading.Event()
    lock = Lock(r, "k", timeout=3, renew=True, on_lost=lambda reason: (reasons.append(reason), told.set()))
    lock.acquire()
    renewals = server.calls("lock.renew")
    server.cmd(*how)
    assert lock.lost.wait(10) and told.wait(10)
    assert server.calls("lock.renew") == renewals + 1, "the next renewal tells of it"
    expected = {"LOCK.BREAK": "broken", "DEL": "deleted", "SET": "overwritten", "LOCK.STEAL": "stolen"}[how[0]]
    assert reasons == [expected] == [lock.lost_reason]


def test_a_callback_that_raises_stops_no_renewal(r, server, monkeypatch, caplog):
    def on_lost(reason):
        raise ValueError(reason)

    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(str(args.exc_value)))
    with Lock(r, "k", timeout=3, renew=True, raise_on_release_error=False, on_lost=on_lost):
        with Lock(r, "other", timeout=3, renew=True) as other:
            server.cmd("LOCK.BREAK", "k")
            wait_until("the hook was told", lambda: told == ["broken"])
            assert other.owned() and "renewal" not in caplog.text


@pytest.mark.parametrize("watch", [False, True])
def test_a_thread_that_could_not_be_started_is_started_later(r, server, monkeypatch, watch):
    def start(thread):
        monkeypatch.undo()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start"):
        Lock(r, "k", watch=watch).acquire()
    with Lock(r, "k", timeout=3, renew=True, watch=watch) as lock:
        renewals = server.calls("lock.renew")
        wait_until("it is renewed", lambda: server.calls("lock.renew") > renewals)
        server.cmd("LOCK.BREAK", "k")
        assert lock.lost.wait(10)
        lock.raise_on_release_error = False


def test_a_lock_that_comes_just_when_the_keeper_has_looked_is_renewed_in_time(r, server, monkeypatch):
    short = Lock(r, "short", timeout=0.6, renew=True, thread_local=False)
    with Lock(r, "k") as other:
        line, looks = other.local.grip.hold.line, []
        look, renewals = line.keeper.next, server.calls("lock.renew")

        def looked():
            due = look()
            looks.append(due)
            if len(looks) == 2:  # the first was whether it may end, and after this one it sleeps
                short.acquire()
            return due

        monkeypatch.setattr(_threads, "LINGER", 1.0)  # as users have it
        wait_until("it sleeps", lambda: math.isfinite(line.planned))
        monkeypatch.setattr(line.keeper, "next", looked)
        wait_until("it is renewed, or lost", lambda: server.calls("lock.renew") > renewals or short.lost.is_set())
        assert short.owned()
        short.release()


def test_what_could_not_be_sent_is_sent_again_after_a_pause(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        client = redis.Redis(port=closed.getsockname()[1], retry=Retry(NoBackoff(), 0))
    keeper, tries = _threads.Line.of(client).keeper, []
    paid = keeper.paid

    async def counted(*args):
        tries.append(time.monotonic())
        await paid(*args)

    monkeypatch.setattr(_threads, "LINGER", 1.0)  # as users have it
    monkeypatch.setattr(keeper, "paid", counted)
    keeper.owe(["PING"], time.monotonic() + 2.0)
    wait_until("nothing is owed", lambda: not keeper.debts and len(tries) > 4)
    assert min(later - earlier for earlier, later in zip(tries, tries[1:])) > 0.9 * _core.AGAIN


@pytest.mark.parametrize("inside", ["thread_lock", "spare_lock", "room.lock"])
def test_a_signal_handler_may_take_a_lock(r, server, inside):
    """Whatever the thread that it interrupts is about to do."""
    server.cmd("LOCK.ACQUIRE", "busy", "other")
    line, done = _threads.Line.of(r), []

    def handle(*_):
        done.append(Lock(r, "busy").acquire(blocking_timeout=0.1))
        with Lock(r, "free") as lock:
            done.append(lock.owned())

    before = signal.signal(signal.SIGUSR1, handle)
    with operator.attrgetter(inside)(line):
        signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    assert done == [False, True] and server.idle("free") and not server.waiting("busy")


def test_a_signal_handler_talks_on_a_connection_of_its_own(server):
    with redis.Redis(port=server.port, max_connections=1) as client:
        line, replies = _threads.Line.of(client), []
        taken = client.connection_pool.get_connection()
        read = line.read

        def interrupted(*args):
            line.read = read
            signal.raise_signal(signal.SIGUSR1)
            return read(*args)

        line.read = interrupted
        before = signal.signal(signal.SIGUSR1, lambda *_: replies.append(_threads.run(line.call(["ECHO", b"inner"]))))
        replies.append(_threads.run(line.call(["ECHO", b"outer"])))
        signal.signal(signal.SIGUSR1, before)
        assert replies == [b"inner", b"outer"]
        client.connection_pool.release(taken)


def test_without_a_server_the_lock_is_lost_by_our_own_clock(through, proxy):
    lock, begun = Lock(through, "k", timeout=0.9, renew=True), time.monotonic()
    lock.acquire()
    proxy.tell("refuse")
    proxy.tell("cut")
    assert lock.lost.wait(10)
    assert time.monotonic() - begun >= 0.9 and lock.lost_reason == "lease-over"


def test_a_half_open_connection_is_found_out(proxy, server):
    with redis.Redis(port=proxy.port, socket_timeout=None) as client:
        lock = Lock(client, "k", timeout=1.2, renew=True)
        lock.acquire()
        proxy.tell("fault LOCK.RENEW half-open")
        assert lock.lost.wait(10)
        proxy.tell("heal")


def test_a_short_outage_costs_no_lock(through, proxy, server):
    with Lock(through, "k", timeout=6, renew=True) as lock:
        renewals = server.calls("lock.renew")
        proxy.tell("refuse")
        proxy.tell("cut")
        time.sleep(2.5)  # a third of the lease and more
        assert server.calls("lock.renew") == renewals
        proxy.tell("accept")
        wait_until("it is renewed", lambda: server.calls("lock.renew") > renewals)
        assert lock.owned() and not lock.lost.is_set()


@pytest.mark.parametrize("kind", ["drop", "lose", "duplicate", "delay 300"])
@pytest.mark.parametrize("command", ["LOCK.ACQUIRE", "LOCK.RELEASE", "LOCK.CHECK"])
def test_a_lost_reply(through, proxy, server, command, kind):
    proxy.tell(f"fault {command} {kind}")
    with Lock(through, "k", timeout=10) as lock:
        assert lock.owned()
    assert server.idle("k")


@pytest.mark.parametrize("kind", ["drop", "lose", "duplicate", "delay 300"])
def test_a_cut_while_waiting_keeps_the_place(through, proxy, server, kind):
    server.cmd("LOCK.ACQUIRE", "k", "other")
    lock, later = Lock(through, "k", timeout=10), Lock(redis.Redis(port=server.port), "k", timeout=10)
    first = in_thread(lock.acquire)
    wait_until("it stands in line", lambda: server.waiting("k") == 1)
    second = in_thread(later.acquire)
    wait_until("the other one too", lambda: server.waiting("k") == 2)
    proxy.tell(f"fault LOCK.ACQUIRE {kind}")
    proxy.tell("cut")
    time.sleep(0.3)
    server.cmd("LOCK.RELEASE", "k", "other")
    assert first.result()
    assert server.waiting("k") == 1
    server.cmd("LOCK.RELEASE", "k", server.holders("k")[0])
    assert second.result()


def test_a_claim_that_comes_too_late_waits_again(server, through, proxy):
    server.cmd("CONFIG", "SET", "lock.claim-ms", "50")
    try:
        server.cmd("LOCK.ACQUIRE", "k", "other")
        lock = Lock(through, "k", timeout=10)
        waiting = in_thread(lambda: lock.acquire() and lock.owned() and (lock.release() or True))
        wait_until("it waits on its connection", lambda: server.client.info()["blocked_clients"])
        proxy.tell("fault LOCK.ACQUIRE drop")
        wait_until("its next request is the one whose reply is lost", proxy.struck)
        wait_until("it waits again", lambda: server.client.info()["blocked_clients"])
        server.cmd("LOCK.RELEASE", "k", "other")
        assert waiting.result()
    finally:
        server.cmd("CONFIG", "SET", "lock.claim-ms", "1000")


@pytest.mark.parametrize("taken", [0, 1])
def test_who_is_told_readonly_asks_over_another_connection(server, taken):
    """Whether its own connection is one of the pool or the one beside it: the next may reach the new primary."""
    with redis.Redis(port=server.port, max_connections=1) as client:
        lock = Lock(client, "k", timeout=10)
        lock.acquire()
        connections = [client.connection_pool.get_connection() for _ in range(taken)]
        before = server.client.info("stats")["total_connections_received"]
        server.cmd("REPLICAOF", "127.0.0.1", 1)
        try:
            with pytest.raises(redis.exceptions.ReadOnlyError):
                lock.release()
        finally:
            server.cmd("REPLICAOF", "NO", "ONE")
        assert server.client.info("stats")["total_connections_received"] - before >= 2 + taken
        for connection in connections:
            client.connection_pool.release(connection)


def test_a_dropped_lock_ends(r, server):
    Lock(r, "k").acquire()
    gc.collect()
    wait_until("the lock is free", lambda: server.idle("k"), 10)


def test_a_dropped_lock_with_a_timeout_lasts(r, server):
    Lock(r, "k", timeout=5).acquire()
    gc.collect()
    time.sleep(0.2)
    assert server.holders("k")


def dropped(server):
    """Waits until the keeper has looked after what was dropped, which is one request later at the latest."""
    gc.collect()
    renewals = server.calls("lock.renew")
    wait_until("the other hold is renewed", lambda: server.calls("lock.renew") > renewals, 10)


def test_who_takes_its_lock_again_has_one_hold(r, server):
    lock = Lock(r, "k", timeout=3, renew=True, owner="leader")
    assert lock.acquire(blocking=False)
    fence, lost = lock.fence, lock.lost
    assert lock.acquire(blocking=False) and lock.fence == fence
    dropped(server)
    assert lock.owned() and not Lock(r, "k").acquire(blocking=False)
    server.cmd("LOCK.BREAK", "k")
    assert lost.wait(10) and lock.lost.is_set()


def test_a_dropped_lock_does_not_end_another_of_the_same_owner(r, server):
    one, other = (Lock(r, "k", timeout=3, renew=True, owner="leader") for _ in range(2))
    assert one.acquire() and other.acquire()
    del other
    dropped(server)
    assert one.owned() and server.holders("k") == ["leader"]
    del one
    gc.collect()
    wait_until("the last one ends it", lambda: server.idle("k"), 10)


def test_a_released_lock_ends_for_its_owner(r, server):
    one, other = (Lock(r, "k", timeout=3, renew=True, owner="leader") for _ in range(2))
    assert one.acquire() and other.acquire()
    other.release()
    assert server.idle("k") and one.lost.wait(10) and one.lost_reason == "released"


def test_the_lock_of_a_dead_thread_ends(r, server):
    lock = Lock(r, "k")
    assert in_thread(lock.acquire).result()
    wait_until("the lock is free", lambda: server.idle("k"), 10)


def test_a_fork_holds_nothing(r, server):
    with Lock(r, "k") as lock:
        child = os.fork()
        if child == 0:
            try:
                fine = not lock.owned() and lock.fence is None
                lock.release()
                with Lock(r, "other"):
                    fine = fine and not Lock(r, "k").acquire(blocking=False)
                os._exit(0 if fine else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert lock.owned()
    assert server.idle("k", "other")


def test_a_fork_has_a_name_and_chances_of_its_own():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, _core.new_owner())
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    ours, theirs = (owner.rsplit(b":", 2) for owner in (_core.new_owner(), os.read(read, 200)))
    os.close(read), os.close(write)
    assert (int(ours[1]), int(theirs[1])) == (os.getpid(), child)
    assert ours[2] != theirs[2]


@pytest.mark.parametrize("timeout", [5, None])
def test_an_interrupted_wait_leaves_nothing(server, timeout):
    client = redis.Redis(port=server.port, socket_timeout=timeout)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background ignores it
    server.cmd("LOCK.ACQUIRE", "k", "other")

    def interrupt():
        wait_until("it waits", lambda: server.waiting("k") == 1)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        Lock(client, "k").acquire()
    signal.signal(signal.SIGINT, before)
    wait_until("nobody waits", lambda: server.waiting("k") == 0, 4)
    assert server.holders("k") == ["other"]
    assert client.get("nothing") is None, "no connection of the pool is owed the reply to another request"
    client.close()


@pytest.mark.parametrize("at", ["keeper.forget", "call"])
def test_an_interrupted_release_is_made_up_for(r, server, at):
    lock = Lock(r, "k", timeout=20)
    lock.acquire()
    *path, name = ("line." + at).split(".")
    place = operator.attrgetter(".".join(path))(lock.local.grip.hold)

    def interrupted(*_, **__):
        delattr(place, name)
        raise KeyboardInterrupt

    setattr(place, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.release()
    wait_until("the lock is free", lambda: server.idle("k"))
    with pytest.raises(LockError, match="already unlocked"):
        lock.release()


def test_a_wait_with_a_time_leaves_nothing(r, server):
    server.cmd("LOCK.ACQUIRE", "k", "other")
    begun = time.monotonic()
    assert not Lock(r, "k", blocking_timeout=0.3).acquire()
    assert 0.3 <= time.monotonic() - begun < 10 and server.waiting("k") == 0  # the other has it for 30 s


def test_a_server_that_is_away_gives_an_error(through, proxy, server):
    proxy.tell("refuse")
    with pytest.raises(redis.ConnectionError):
        Lock(through, "k", blocking_timeout=0.5).acquire()
    with pytest.raises(redis.ConnectionError):
        Lock(through, "k").acquire(blocking=False)


class Counted(NoBackoff):
    seen = []  # each further attempt of the client to connect

    def compute(self, failures):
        self.seen.append(failures)
        return 0


def test_the_attempts_of_a_client_to_connect_do_not_multiply(proxy, server):
    with redis.Redis(port=proxy.port, retry=Retry(Counted(), 3)) as client:
        lock = Lock(client, "k", timeout=20)
        lock.acquire()
        proxy.tell("refuse")
        proxy.tell("cut")
        Counted.seen.clear()
        for call in (lock.release, Lock(client, "other").acquire):
            with pytest.raises(redis.ConnectionError):
                call(**({} if call == lock.release else {"blocking": False}))
            assert Counted.seen == [1, 2, 3], "the client tried once as it does, and after that only we did"
        proxy.tell("accept")
        wait_until("it is released", lambda: server.idle("k"))
        assert lock.acquire() and not _threads.Line.of(client).down
        lock.release()


def test_string_locks_exclude_ours(r, server):
    old = r.lock("k", timeout=2)
    assert old.acquire()
    assert not Lock(r, "k").acquire(blocking=False)
    with Lock(r, "k", sleep=0.02) as lock:
        assert not old.acquire(blocking=False)
        assert lock.owned()


def test_readers_and_a_writer(r, server):
    lock = Lock(r, "k")
    one, two = lock.shared(), lock.shared()
    assert one.acquire() and two.acquire() and not lock.acquire(blocking=False)
    one.release()
    two.release()
    with lock:
        assert not one.acquire(blocking=False)


def test_semaphore(r, server):
    three = [Semaphore(r, "k", 3) for _ in range(4)]
    assert [s.acquire(blocking=False) for s in three] == [True, True, True, False]
    with pytest.raises(LockError, match="LOCKLIMIT"):
        Semaphore(r, "k", 4).acquire()
    with pytest.raises(LockError, match="LOCKMODE"):
        Lock(r, "k").acquire()
    waiting = in_thread(Semaphore(r, "k", 3, permits=2, timeout=5).acquire)
    wait_until("it waits", lambda: server.waiting("k") == 1)
    three[0].release()
    three[1].release()
    assert waiting.result()


def test_multi_lock(r, server):
    server.cmd("LOCK.ACQUIRE", "b", "other")
    lock = MultiLock(r, ["a", "b"], timeout=3, renew=True)
    assert not lock.acquire(blocking_timeout=0.2)
    assert server.waiting("a") == 0 and not server.holders("a")
    waiting = in_thread(lambda: lock.acquire() and (time.sleep(3.5), lock.owned(), lock.release()))
    wait_until("it waits", lambda: server.waiting("a") == 1)
    server.cmd("LOCK.RELEASE", "b", "other")
    assert waiting.result() == (None, True, None)
    assert server.idle("a", "b")


def test_latch(r, server):
    latch = Latch(r, "l", 2)
    waiting = in_thread(latch.wait)
    assert not Latch(r, "l", 2).wait(timeout=0.1)
    assert latch.down("one") == 1 and latch.down("one") == 1 and latch.down() == 0
    assert waiting.result() is True


def test_guard(r, server):
    lock = Lock(r, "{k}:lock")
    with lock:
        assert lock.guard("SET", "{k}", "painted")
        assert lock.guard("GET", "{k}") == b"painted"
        server.cmd("LOCK.BREAK", "{k}:lock")
        with pytest.raises(LockNotOwnedError):
            lock.guard("SET", "{k}", "late")
        lock.raise_on_release_error = False
    assert server.client.get("{k}") == "painted"


def test_locked(r, server):
    @locked("k:{id}", r, timeout=5)
    def work(id, other=1):
        return server.holders(f"k:{id}")

    assert work(7)[0].split(":")[1] == str(os.getpid()) and server.idle("k:7")


async def coroutine():
    pass


def generator():
    yield


async def async_generator():
    yield


@pytest.mark.parametrize("function", [coroutine, generator, async_generator])
def test_locked_refuses_what_would_run_after_the_release(server, function):
    with redis.Redis(port=server.port) as client, pytest.raises(TypeError, match="runs after the call"):
        locked("k", client)(function)


def test_what_cannot_be_is_said_at_once(r):
    for timeout in (0.0001, math.inf, math.nan, -1):
        with pytest.raises(ValueError, match="seconds"):
            Lock(r, "k", timeout=timeout)
    with pytest.raises(ValueError, match="no keys"):
        MultiLock(r, [])
    with pytest.raises(TypeError, match="list of keys"):
        MultiLock(r, "ab")
    with pytest.raises(TypeError, match="no readers"):
        Semaphore(r, "k", 2).shared()
    with redis.Redis() as client, pytest.raises(TypeError, match="locks of fencelock$"):
        asyncio.run(fencelock.asyncio.Lock(client, "k").acquire())
    with pytest.raises(TypeError, match="fencelock.asyncio"):
        Lock(redis.asyncio.Redis(), "k").acquire()
    with pytest.raises(TypeError, match="fencelock.asyncio"):
        Lock(redis.asyncio.RedisCluster(host="localhost"), "k").acquire()


def test_the_lease_is_set_as_asked(r, server):
    with Lock(r, "k", renew=False) as lock:
        assert lock.extend(60) and server.left("k") > 30000
        assert lock.reacquire() and server.left("k") <= 30000
        for seconds, replace in ((0, True), (-100, False), (math.nan, False)):
            with pytest.raises(ValueError, match="seconds"):
                lock.extend(seconds, replace)
    with Lock(r, "k") as lock, pytest.raises(LockError, match="no timeout"):
        lock.extend(5)
    with Lock(r, "k", timeout=5, renew=True) as lock, pytest.raises(LockError, match="is renewed"):
        lock.extend(5)


def test_all_keys_of_a_multi_lock_count(r, server):
    server.cmd("LOCK.ACQUIRE", "b", "other")
    lock = MultiLock(r, (key for key in ("a", "b")))
    assert lock.locked() and not lock.acquire(blocking=False)
    server.cmd("LOCK.RELEASE", "b", "other")
    assert not lock.locked()
    with lock, pytest.raises(LockError, match="more than one key"):
        lock.guard("GET", "a")


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda word: memoryview(bytearray(word))])
def test_a_key_may_be_bytes_of_any_kind(r, server, kind):
    with Lock(r, "k"):
        waiting = in_thread(Lock(r, kind(b"k")).acquire)
        wait_until("it stands in line", lambda: server.waiting("k") == 1)
    assert waiting.result()


def test_a_deadlock_is_told(r, server):
    a = Lock(r, "a", owner="me")
    with a:
        server.cmd("LOCK.ACQUIRE", "b", "other")
        raw = redis.Redis(port=server.port)
        waiting = in_thread(raw.execute_command, "LOCK.ACQUIRE", "a", "other", "BLOCK", 10000)
        wait_until("the other waits", lambda: server.waiting("a") == 1)
        with pytest.raises(DeadlockError):
            Lock(r, "b", owner="me").acquire()
    assert waiting.result()


def test_1000_locks_are_renewed_in_few_requests(server):
    client = redis.Redis(port=server.port)
    locks = [Lock(client, f"k{n}", timeout=9, renew=True) for n in range(1000)]
    for lock in locks:
        lock.acquire()
    before, packets = server.calls("lock.renew"), server.client.info()["total_reads_processed"]
    time.sleep(6.5)
    assert not any(lock.lost.is_set() for lock in locks)
    renewals = server.calls("lock.renew") - before
    reads = server.client.info()["total_reads_processed"] - packets
    assert renewals >= 2000
    assert reads < renewals / 10, f"{renewals} renewals came in {reads} reads"
    for lock in locks:
        lock.release()
    client.close()


def test_a_client_that_caches(server):
    with redis.Redis(port=server.port, protocol=3, cache_config=CacheConfig()) as client:
        try:
            client.ping()
        except redis.ConnectionError as error:
            pytest.skip(f"with this server the client does not cache: {error}")
        with Lock(client, "k", timeout=3, renew=True) as lock:
            assert lock.owned() and client.set("painted", "blue") and client.get("painted") == b"blue"
            server.cmd("SET", "painted", "red")
            wait_until("the cache hears of it", lambda: client.get("painted") == b"red")
        assert server.idle("k")


def test_no_connection_is_left(server):
    before = server.client.info()["connected_clients"]
    with redis.Redis(port=server.port) as client:
        renewals = server.calls("lock.renew")
        with Lock(client, "k", timeout=3, renew=True):
            wait_until("it is renewed", lambda: server.calls("lock.renew") > renewals)
    client.connection_pool.disconnect()
    wait_until("all connections are closed", lambda: server.client.info()["connected_clients"] <= before, 10)


def test_threads_and_tasks_have_the_same_names():
    assert set(fencelock.__all__) == set(fencelock.asyncio.__all__)
