"""The block of docs/cookbook.md for a job that several machines start."""
import os
import signal
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import redis
from fencelock import LockError

from locks import once
from trials import PORT, admin, info, nothing_is_left, until


def machine():
    return redis.Redis(port=PORT)


class Cron(unittest.TestCase):
    def setUp(self):
        admin.flushall()

    def tearDown(self):
        nothing_is_left()

    def test_of_many_twins_one_runs_each_time(self):
        runs = []
        for day in ("2026-11-27", "2026-11-28", "2026-11-29"):
            with ThreadPoolExecutor(20) as pool:
                ran = list(pool.map(lambda _: once(machine(), "nightly", day, lambda fence: runs.append((day, fence))), range(20)))
            self.assertEqual(ran.count(True), 1)
        self.assertEqual(len(runs), 3)
        self.assertEqual(runs, sorted(runs))

    def test_a_twin_that_is_late_does_not_run_an_earlier_time(self):
        self.assertTrue(once(machine(), "nightly", "2026-11-28", lambda fence: None))
        self.assertFalse(once(machine(), "nightly", "2026-11-27", self.fail))

    def test_when_the_first_one_fails_the_second_one_does_it(self):
        began, done = threading.Event(), []

        def fail(fence):
            began.set()
            until("the twin", lambda: info("waiting") == 1)
            raise KeyError

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(once, machine(), "nightly", "2026-11-28", fail)
            began.wait(5)
            second = pool.submit(once, machine(), "nightly", "2026-11-28", done.append)
            self.assertIsInstance(first.exception(), KeyError)
            self.assertTrue(second.result())
        self.assertEqual(len(done), 1)

    def test_when_the_first_one_dies_the_second_one_does_it_after_its_lease(self):
        ready, told = os.pipe()
        first = os.fork()
        if first == 0:
            once(machine(), "nightly", "2026-11-28", lambda fence: (os.write(told, b"!"), time.sleep(60)))
            os._exit(1)
        os.read(ready, 1)
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        done = []
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(once, machine(), "nightly", "2026-11-28", done.append)
            until("the twin", lambda: info("waiting") == 1)
            self.assertEqual(done, [])
            # The rest of the lease of the dead is made short, so that nobody has to wait for it.
            owner = admin.execute_command("LOCK.INFO", "{cron:nightly}:lock")[b"holds"][0][b"owner"]
            self.assertEqual(admin.execute_command("LOCK.RENEW", "{cron:nightly}:lock", owner, "PX", 300), 300)
            self.assertTrue(second.result())
        self.assertEqual(len(done), 1)

    def test_a_job_that_lost_its_lock_is_not_marked(self):
        with self.assertRaises(LockError):
            once(machine(), "nightly", "2026-11-28", lambda fence: admin.execute_command("LOCK.BREAK", "{cron:nightly}:lock"))
        self.assertIsNone(admin.get("{cron:nightly}:done"))


unittest.main()
