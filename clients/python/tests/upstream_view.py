"""A pytest plugin: redis-py's own lock tests, on our locks.

The tests read the key of a lock raw. This view shows them a lock as they know it: a string with the owner, that expires.
A lock that is renewed looks like one without a time to live, which is what it is for its user.
"""

import functools

import redis
import redis.asyncio
import redis.asyncio.lock
import redis.lock

import fencelock
import fencelock.asyncio
from fencelock._core import LEASE

redis.lock.Lock = fencelock.Lock
redis.asyncio.lock.Lock = fencelock.asyncio.Lock


def pytest_collection_modifyitems(config, items):
    """Leaves out the tests that count the sleeps of a polling loop, which there is none of."""
    polling = [item for item in items if "fake_lock_time" in item.fixturenames]
    config.hook.pytest_deselected(items=polling)
    items[:] = [item for item in items if item not in polling]


def look(reply):
    """The first hold in what LOCK.INFO replies, in RESP2 or RESP3."""
    as_map = lambda pairs: pairs if isinstance(pairs, dict) else dict(zip(pairs[::2], pairs[1::2]))
    text = lambda value: value if isinstance(value, str) else value.decode()
    holds = {text(name): value for name, value in as_map(reply).items()}["holds"]
    return {text(name): value for name, value in as_map(holds[0]).items()} if holds else None


def owner(hold):
    return hold and hold["owner"]


def left(hold, unit):
    return -2 if hold is None else -1 if hold["lease-ms"] == LEASE * 1000 else -(-hold["left-ms"] // unit)


def view(cls, method, shown, asking):
    plain = getattr(cls, method)

    @functools.wraps(plain)
    def sync(self, name, *args, **kwargs):
        if self.type(name) not in (b"redislock", "redislock"):
            return plain(self, name, *args, **kwargs)
        return shown(self, look(self.execute_command("LOCK.INFO", name)), name, *args)

    @functools.wraps(plain)
    async def tasks(self, name, *args, **kwargs):
        if await self.type(name) not in (b"redislock", "redislock"):
            return await plain(self, name, *args, **kwargs)
        result = shown(self, look(await self.execute_command("LOCK.INFO", name)), name, *args)
        return await result if hasattr(result, "__await__") else result

    setattr(cls, method, tasks if asking else sync)


for cls, asking in ((redis.Redis, False), (redis.asyncio.Redis, True)):
    view(cls, "get", lambda self, hold, name: owner(hold), asking)
    view(cls, "ttl", lambda self, hold, name: left(hold, 1000), asking)
    view(cls, "pttl", lambda self, hold, name: left(hold, 1), asking)
    view(cls, "pexpire", lambda self, hold, name, ms: self.execute_command("LOCK.RENEW", name, owner(hold), "PX", ms), asking)
