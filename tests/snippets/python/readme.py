"""The block of README.md: the package of clients/python, installed as README says."""
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import redis
from fencelock import LockError

import locks
from trials import PORT, admin, info, is_free, nothing_is_left, release_and_cut, until

locks.client = redis.Redis(port=PORT)


class Readme(unittest.TestCase):
    def tearDown(self):
        nothing_is_left()

    def test_two_hundred_callers_are_served_one_at_a_time(self):
        inside, fences = [], []

        def write(invoice, fence):
            inside.append(1)
            self.assertEqual(len(inside), 1)
            fences.append(fence)
            inside.pop()

        with ThreadPoolExecutor(200) as pool:
            list(pool.map(lambda _: locks.pay(7, write), range(200)))
        self.assertEqual(len(fences), 200)
        self.assertEqual(fences, sorted(set(fences)))

    def test_a_caller_waits_in_the_server(self):
        admin.execute_command("LOCK.ACQUIRE", "invoice:8", "somebody", "NOEXPIRE")
        paid = threading.Event()
        caller = threading.Thread(target=locks.pay, args=(8, lambda *_, **__: paid.set()))
        caller.start()
        until("the wait", lambda: info("waiting") == 1)
        self.assertFalse(paid.is_set())
        admin.execute_command("LOCK.RELEASE", "invoice:8", "somebody")
        caller.join()
        self.assertTrue(paid.is_set())

    def test_an_exception_gives_the_lock_back(self):
        def write(invoice, fence):
            raise KeyError

        with self.assertRaises(KeyError):
            locks.pay(9, write)
        self.assertTrue(is_free("invoice:9"))

    def test_a_lost_lock_is_told(self):
        with self.assertRaises(LockError):
            locks.pay(10, lambda invoice, fence: admin.execute_command("LOCK.BREAK", "invoice:10"))

    def test_waits_that_are_cut_at_the_grant_leave_nothing_behind(self):
        admin.execute_command("LOCK.ACQUIRE", "invoice:11", "somebody", "NOEXPIRE")
        with ThreadPoolExecutor(20) as pool:
            calls = [pool.submit(locks.pay, 11, lambda *_, **__: None) for _ in range(20)]
            until("20 waits", lambda: info("waiting") == 20)
            release_and_cut("invoice:11")
            for call in calls:
                call.exception()
        self.assertTrue(is_free("invoice:11"))


unittest.main()
