"""The block of docs/cookbook.md for at most three calls at a time."""
import os
import signal
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import redis

from locks import call
from trials import PORT, admin, info, nothing_is_left, until


class Workers(unittest.TestCase):
    def tearDown(self):
        nothing_is_left()

    def test_three_at_a_time_and_all_have_their_turn(self):
        inside, most, lock = [], [0], threading.Lock()

        def send(request):
            with lock:
                inside.append(request)
                most[0] = max(most[0], len(inside))
            if request < 3:  # the first ones stay until there are three, and many more who could come in
                until("three at a time", lambda: most[0] == 3 and info("waiting") > 50)
            with lock:
                inside.remove(request)
            return -request

        machines = [redis.Redis(port=PORT) for _ in range(4)]
        with ThreadPoolExecutor(100) as pool:
            replies = list(pool.map(lambda n: call(machines[n % 4], send, n), range(100)))
        self.assertEqual(replies, [-n for n in range(100)])
        self.assertEqual(most[0], 3)

    def test_a_call_that_fails_gives_its_permit_back(self):
        def send(request):
            raise KeyError

        for _ in range(5):
            with self.assertRaises(KeyError):
                call(redis.Redis(port=PORT), send, 1)

    def test_a_worker_that_dies_gives_its_permit_back_within_its_lease(self):
        workers = [self.worker() for _ in range(3)]
        with ThreadPoolExecutor(1) as pool:
            fourth = pool.submit(call, redis.Redis(port=PORT), lambda request: request, 4)
            until("the fourth to wait", lambda: info("waiting") == 1)
            died = time.monotonic()
            os.kill(workers[0], signal.SIGKILL)
            self.assertEqual(fourth.result(), 4)
        self.assertLess(time.monotonic() - died, 11)
        admin.execute_command("LOCK.BREAK", "upstream")

    def worker(self):
        """A process that has a permit and is at work until it is killed."""
        ready, told = os.pipe()
        process = os.fork()
        if process == 0:
            call(redis.Redis(port=PORT), lambda request: (os.write(told, b"!"), time.sleep(60)), 1)
            os._exit(1)
        self.addCleanup(os.waitpid, process, 0)
        self.addCleanup(os.kill, process, signal.SIGKILL)
        os.read(ready, 1)
        return process


unittest.main()
