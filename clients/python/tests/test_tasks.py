"""The contract of the clients, with tasks."""

import asyncio
import gc
import time

import pytest
import pytest_asyncio
import redis.asyncio
import valkey.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fencelock.asyncio import DeadlockError, Latch, Lock, LockError, LockNotOwnedError, MultiLock, Semaphore, locked


@pytest_asyncio.fixture(params=[redis.asyncio.Redis, valkey.asyncio.Valkey], ids=["redis", "valkey"])
async def r(request, server):
    client = request.param(port=server.port)
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def through(proxy):
    client = redis.asyncio.Redis(port=proxy.port, socket_timeout=2, retry=Retry(NoBackoff(), 0))
    yield client
    await client.aclose()


async def until(what, condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not so after {seconds} s: {what}"
        await asyncio.sleep(0.005)
    return result


async def test_drop_in(r, server):
    async with r.lock("k", timeout=5, lock_class=Lock) as lock:
        assert server.holders("k") == [lock.local.token.decode()]
        assert lock.fence > 0 and await lock.owned() and await lock.locked() and not lock.lost.is_set()
    assert lock.fence is None and not await lock.owned() and server.idle("k")


async def test_waits_in_line(r, server):
    first, order = Lock(r, "k"), []
    await first.acquire()

    async def work(n):
        async with Lock(r, "k"):
            order.append(n)

    tasks = []
    for n in range(5):
        tasks.append(asyncio.create_task(work(n)))
        await until("it stands in line", lambda: server.waiting("k") == n + 1)
    await first.release()
    await asyncio.gather(*tasks)
    assert order == list(range(5)) and server.idle("k")


@pytest.mark.parametrize("pool_class", [redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool])
async def test_200_callers_on_a_pool_of_20(server, pool_class):
    server.cmd("CONFIG", "SET", "lock.claim-ms", 10000)  # the order is the point, not how busy this machine is
    client = redis.asyncio.Redis(connection_pool=pool_class(port=server.port, max_connections=20))
    first, order = Lock(client, "k"), []
    await first.acquire()

    async def work(n):
        async with Lock(client, "k", timeout=10):
            order.append(n)

    tasks = []
    for n in range(200):
        tasks.append(asyncio.create_task(work(n)))
        await until("it stands in line", lambda: server.waiting("k") == n + 1)
    await first.release()
    await asyncio.gather(*tasks)
    assert order == list(range(200))
    server.cmd("CONFIG", "SET", "lock.claim-ms", 1000)
    await client.aclose()
    await client.connection_pool.disconnect()


async def test_200_callers_at_once(server):
    client = redis.asyncio.Redis(port=server.port, max_connections=20)
    inside = 0

    async def work():
        nonlocal inside
        async with Semaphore(client, "k", 3):
            inside += 1
            assert inside <= 3
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(200)))
    assert server.idle("k")
    await client.aclose()


@pytest.mark.parametrize("pool_class", [redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool])
async def test_release_and_renewal_with_the_pool_exhausted(server, pool_class):
    pool = pool_class(port=server.port, max_connections=2)
    lock = Lock(redis.asyncio.Redis(connection_pool=pool), "k", timeout=4.5, renew=True)
    await lock.acquire()
    renewals = server.calls("lock.renew")
    taken = [await pool.get_connection() for _ in range(2)]
    await until("it is renewed", lambda: server.calls("lock.renew") > renewals)
    assert server.holders("k")
    await lock.release()  # and does not wait for a connection of the pool
    assert server.idle("k")
    for connection in taken:
        await pool.release(connection)
    await pool.disconnect()


async def test_renewed_until_the_release(r, server):
    async with Lock(r, "k", timeout=3, renew=True) as lock:
        await asyncio.sleep(3.5)
        assert await lock.owned() and not lock.lost.is_set()
    assert server.idle("k")


async def test_a_loss_is_told(r, server):
    reasons = []

    async def on_lost(reason):
        reasons.append(reason)

    lock = Lock(r, "k", timeout=3, renew=True, on_lost=on_lost)
    await lock.acquire()
    renewals = server.calls("lock.renew")
    server.cmd("LOCK.BREAK", "k")
    await asyncio.wait_for(lock.lost.wait(), 10)
    assert server.calls("lock.renew") == renewals + 1, "the next renewal tells of it"
    await until("it was called", lambda: reasons == ["broken"] == [lock.lost_reason])
    with pytest.raises(LockNotOwnedError, match="broken"):
        await lock.release()


async def test_what_was_told_as_lost_is_not_released_quietly(r, server):
    with pytest.raises(LockNotOwnedError, match="lease-over"):
        async with Lock(r, "k", timeout=1) as lock:
            server.cmd("LOCK.RENEW", "k", lock.local.token, "PX", 60000)
            await asyncio.wait_for(lock.lost.wait(), 10)
            assert server.holders("k")
    await until("it is free", lambda: server.idle("k"))


def raises(reason):
    raise ValueError(reason)


async def raises_later(reason):
    raise ValueError(reason)


@pytest.mark.parametrize("on_lost", [raises, raises_later])
async def test_a_callback_that_raises_stops_no_renewal(r, server, on_lost, caplog):
    told, loop = [], asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    async with Lock(r, "k", timeout=3, renew=True, raise_on_release_error=False, on_lost=on_lost):
        async with Lock(r, "other", timeout=3, renew=True) as other:
            server.cmd("LOCK.BREAK", "k")
            await until("the loop was told", lambda: told == ["broken"])
            assert await other.owned() and "renewal" not in caplog.text


async def test_without_a_server_the_lock_is_lost_by_our_own_clock(through, proxy):
    lock, begun = Lock(through, "k", timeout=0.9, renew=True), time.monotonic()
    await lock.acquire()
    proxy.tell("refuse")
    proxy.tell("cut")
    await asyncio.wait_for(lock.lost.wait(), 10)
    assert time.monotonic() - begun >= 0.9 and lock.lost_reason == "lease-over"


async def test_a_half_open_connection_is_found_out(proxy):
    client = redis.asyncio.Redis(port=proxy.port, socket_timeout=None)
    lock = Lock(client, "k", timeout=1.2, renew=True)
    await lock.acquire()
    proxy.tell("fault LOCK.RENEW half-open")
    await asyncio.wait_for(lock.lost.wait(), 10)
    proxy.tell("heal")
    await client.aclose()


@pytest.mark.parametrize("kind", ["drop", "lose", "duplicate", "delay 300"])
@pytest.mark.parametrize("command", ["LOCK.ACQUIRE", "LOCK.RELEASE", "LOCK.CHECK"])
async def test_a_lost_reply(through, proxy, server, command, kind):
    proxy.tell(f"fault {command} {kind}")
    async with Lock(through, "k", timeout=10) as lock:
        assert await lock.owned()
    assert server.idle("k")


class Counted(NoBackoff):
    seen = []  # each further attempt of the client to connect

    def compute(self, failures):
        self.seen.append(failures)
        return 0


async def test_the_attempts_of_a_client_to_connect_do_not_multiply(proxy):
    client = redis.asyncio.Redis(port=proxy.port, retry=Retry(Counted(), 3))
    proxy.tell("refuse")
    with pytest.raises(redis.ConnectionError):
        await Lock(client, "k").acquire(blocking=False)
    assert Counted.seen == [1, 2, 3], "the client tried once as it does, and after that only we did"
    proxy.tell("accept")
    async with Lock(client, "k"):
        pass
    await client.aclose()


async def cancelled_after(turns, coroutine):
    """Whether it was still at work after so many turns of the event loop, in which case it was cancelled."""
    task = asyncio.create_task(coroutine)
    for _ in range(turns):
        if task.done():
            break
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
        return False
    except asyncio.CancelledError:
        return True


async def test_cancelled_at_every_point_of_a_free_lock(r, server):
    turns = 0
    while await cancelled_after(turns, Lock(r, "k").acquire(blocking_timeout=5)):
        await until(f"nothing is left after {turns} turns", lambda: server.idle("k"), 4)
        turns += 1
    assert turns > 0


async def test_cancelled_at_every_point_of_a_hand_off(r, server):
    for turns in range(40):
        server.cmd("LOCK.ACQUIRE", "k", "other")
        lock = Lock(r, "k", timeout=10)
        waiting = asyncio.create_task(lock.acquire())
        await until("it waits", lambda: server.waiting("k") == 1)
        if turns % 2:
            await until("it waits on its connection", lambda: server.client.info()["blocked_clients"])
        server.cmd("LOCK.RELEASE", "k", "other")
        for _ in range(turns // 2):
            await asyncio.sleep(0)
        if waiting.cancel():
            with pytest.raises(asyncio.CancelledError):
                await waiting
        else:
            await lock.release()
        await until(f"nothing is left after {turns} turns", lambda: server.idle("k"), 4)


async def test_cancelled_at_every_point_of_a_release(r, server):
    for turns in range(30):
        lock = Lock(r, "k")
        await lock.acquire()
        if await cancelled_after(turns, lock.release()) and lock.local.token is not None:
            await lock.release()
        assert server.idle("k"), turns


async def test_cancelled_with_the_pool_exhausted(server):
    client = redis.asyncio.Redis(port=server.port, max_connections=2)
    server.cmd("LOCK.ACQUIRE", "k", "other")
    tasks = [asyncio.create_task(Lock(client, "k").acquire()) for _ in range(10)]
    await until("they wait", lambda: server.waiting("k") == 10)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert server.waiting("k") == 0
    assert await client.ping()
    await client.aclose()


async def test_a_timeout_around_a_wait_leaves_nothing(r, server):
    server.cmd("LOCK.ACQUIRE", "k", "other")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(Lock(r, "k").acquire(), 0.3)
    assert server.waiting("k") == 0


async def test_a_dropped_lock_ends(r, server):
    await Lock(r, "k").acquire()
    gc.collect()
    await until("the lock is free", lambda: server.idle("k"), 4)


async def test_the_lock_of_a_task_that_died_ends(r, server):
    async def work():
        lock = Lock(r, "k")
        await lock.acquire()
        raise ZeroDivisionError

    await asyncio.gather(asyncio.create_task(work()), return_exceptions=True)
    gc.collect()
    await until("the lock is free", lambda: server.idle("k"), 4)


async def test_no_task_is_left(r, server):
    renewals = server.calls("lock.renew")
    async with Lock(r, "k", timeout=3, renew=True):
        await until("it is renewed", lambda: server.calls("lock.renew") > renewals)
    await until("this task is alone", lambda: len(asyncio.all_tasks()) == 1, 10)


def test_the_end_of_the_loop_leaves_nothing(server):
    async def main():
        client = redis.asyncio.Redis(port=server.port)
        lock = Lock(client, "k")
        await lock.acquire()
        waiting = asyncio.create_task(Lock(client, "k").acquire())
        await until("it waits", lambda: server.waiting("k") == 1)
        assert not waiting.done()

    asyncio.run(main())
    assert server.waiting("k") == 0


async def test_string_locks_exclude_ours(r, server):
    old = r.lock("k", timeout=2)
    assert await old.acquire()
    assert not await Lock(r, "k").acquire(blocking=False)
    async with Lock(r, "k", sleep=0.02) as lock:
        assert not await old.acquire(blocking=False) and await lock.owned()


async def test_readers_and_a_writer(r):
    lock = Lock(r, "k")
    one, two = lock.shared(), lock.shared()
    assert await one.acquire() and await two.acquire() and not await lock.acquire(blocking=False)
    await one.release()
    await two.release()
    async with lock:
        assert not await one.acquire(blocking=False)


async def test_multi_lock(r, server):
    server.cmd("LOCK.ACQUIRE", "b", "other")
    lock = MultiLock(r, ["a", "b"], timeout=3, renew=True)
    assert not await lock.acquire(blocking_timeout=0.2)
    assert server.waiting("a") == 0 and not server.holders("a")
    waiting = asyncio.create_task(lock.acquire())
    await until("it waits", lambda: server.waiting("a") == 1)
    server.cmd("LOCK.RELEASE", "b", "other")
    assert await waiting
    await asyncio.sleep(3.5)
    assert await lock.owned(), lock.lost_reason
    await lock.release()
    assert server.idle("a", "b")


async def test_latch(r):
    waiting = asyncio.create_task(Latch(r, "l", 2).wait())
    latch = Latch(r, "l", 2)
    assert not await latch.wait(timeout=0.1)
    assert await latch.down("one") == 1 and await latch.down("one") == 1 and await latch.down() == 0
    assert await waiting is True


async def test_guard(r, server):
    async with Lock(r, "{k}:lock", raise_on_release_error=False) as lock:
        assert await lock.guard("SET", "{k}", "painted")
        server.cmd("LOCK.BREAK", "{k}:lock")
        with pytest.raises(LockNotOwnedError):
            await lock.guard("SET", "{k}", "late")
    assert server.client.get("{k}") == "painted"


async def test_locked(r, server):
    @locked("k:{id}", lambda: r, timeout=5)
    async def work(id):
        return server.holders(f"k:{id}")

    assert len(await work(id=7)) == 1 and server.idle("k:7")


def generator():
    yield


async def async_generator():
    yield


@pytest.mark.parametrize("function", [generator, async_generator])
async def test_locked_refuses_what_would_run_after_the_release(r, function):
    with pytest.raises(TypeError, match="runs after the call"):
        locked("k", r)(function)


async def test_errors(r, server):
    async with Semaphore(r, "k", 3):
        with pytest.raises(LockError, match="LOCKLIMIT"):
            await Semaphore(r, "k", 4).acquire()
    async with Lock(r, "a", owner="me"):
        server.cmd("LOCK.ACQUIRE", "b", "other")
        server.cmd("LOCK.ACQUIRE", "a", "other", "QUEUE", 10000)
        with pytest.raises(DeadlockError):
            await Lock(r, "b", owner="me").acquire()


async def test_1000_locks_are_renewed_in_few_requests(server):
    client = redis.asyncio.Redis(port=server.port)
    locks = [Lock(client, f"k{n}", timeout=9, renew=True) for n in range(1000)]
    for lock in locks:
        await lock.acquire()
    before, packets = server.calls("lock.renew"), server.client.info()["total_reads_processed"]
    await asyncio.sleep(6.5)
    assert not any(lock.lost.is_set() for lock in locks)
    renewals = server.calls("lock.renew") - before
    reads = server.client.info()["total_reads_processed"] - packets
    assert renewals >= 2000 and reads < renewals / 10
    for lock in locks:
        await lock.release()
    await client.aclose()
