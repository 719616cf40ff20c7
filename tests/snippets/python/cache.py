"""The block of docs/cookbook.md that fills a cache once."""
import unittest
from concurrent.futures import ThreadPoolExecutor

import redis
from fencelock import LockError

from locks import cached
from trials import PORT, admin, info, nothing_is_left, until


class Cache(unittest.TestCase):
    def setUp(self):
        admin.flushall()
        self.client = redis.Redis(port=PORT)

    def tearDown(self):
        nothing_is_left()

    def test_of_two_hundred_one_computes(self):
        computed = []

        def compute():
            until("others to wait", lambda: info("waiting") > 0)
            computed.append(1)
            return "value"

        with ThreadPoolExecutor(200) as pool:
            values = list(pool.map(lambda _: cached(self.client, "page", compute), range(200)))
        self.assertEqual(values, [b"value"] * 200)
        self.assertEqual(len(computed), 1)
        self.assertGreater(admin.ttl("{page}:entry"), 50)
        self.assertEqual(cached(self.client, "page", self.fail), b"value")

    def test_when_one_fails_the_next_one_tries(self):
        tries = []

        def compute():
            tries.append(1)
            if len(tries) == 1:
                until("another to wait", lambda: info("waiting") == 1)
                raise KeyError
            return "value"

        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(cached, self.client, "page", compute) for _ in range(2)]
        ends = sorted(str(type(call.exception()).__name__) for call in calls)
        self.assertEqual(ends, ["KeyError", "NoneType"])
        self.assertEqual(len(tries), 2)

    def test_whoever_lost_the_lock_overwrites_nothing(self):
        def compute():
            admin.execute_command("LOCK.BREAK", "{page}:fill")
            admin.set("{page}:entry", "newer")
            return "older"

        with self.assertRaises(LockError):
            cached(self.client, "page", compute)
        self.assertEqual(admin.get("{page}:entry"), b"newer")


unittest.main()
