"""What every blocking block of Python must stand, and the tools for that.

The server listens on LOCK_PORT and is the process LOCK_PID; LOCK_CLUSTER_PORT is a cluster of one node. `locks` is the block.
"""
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import redis

PORT = int(os.environ["LOCK_PORT"])
URL = f"redis://localhost:{PORT}"
CLUSTER = f"redis://localhost:{os.environ['LOCK_CLUSTER_PORT']}"
SERVER = int(os.environ["LOCK_PID"])

admin = redis.Redis(port=PORT)


def info(field):
    """A number of INFO lock_state or lock_stats."""
    return int(admin.info("everything")["lock_" + field])


def until(what, condition, seconds=20):
    """Waits for a condition, and fails when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


def nothing_is_left():
    """Nobody holds a lock or waits for one, long before a lease could have ended."""
    until("locks and lines to be empty", lambda: info("held") == info("waiting") == 0, seconds=5)


def is_free(key):
    return admin.execute_command("LOCK.AWAIT", key, "FREE") == 1


def release_and_cut(key):
    """A hand-off to the first in line, and the end of all connections but this one, in one step."""
    pipe = admin.pipeline()
    pipe.execute_command("LOCK.RELEASE", key, "somebody")
    pipe.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    pipe.execute()


class Blocking:
    """For a module with Locks(url, lease=seconds, wait=seconds).hold(key)."""

    Locks = None
    lost = None  # what is raised when the lock was lost

    def fence(self, held):
        return held

    def tearDown(self):
        nothing_is_left()

    def test_two_hundred_callers_are_served_one_at_a_time(self):
        locks, inside, fences = self.Locks(URL), [], []

        def call(_):
            with locks.hold("crowd") as held:
                inside.append(1)
                self.assertEqual(len(inside), 1)
                fences.append(self.fence(held))
                inside.pop()

        with ThreadPoolExecutor(200) as pool:
            list(pool.map(call, range(200)))
        self.assertEqual(len(fences), 200)
        self.assertEqual(fences, sorted(set(fences)))

    def test_the_default_settings_outlast_the_socket_timeout_of_the_client(self):
        admin.execute_command("LOCK.ACQUIRE", "slow", "somebody", "PX", 7000)
        abandoned = info("abandoned")
        with self.Locks(URL).hold("slow"):
            self.assertEqual(info("abandoned"), abandoned)

    def test_a_busy_lock_is_a_timeout(self):
        admin.execute_command("LOCK.ACQUIRE", "busy", "somebody")
        with self.assertRaises(TimeoutError):
            with self.Locks(URL, wait=0.2).hold("busy"):
                self.fail("held")
        admin.execute_command("LOCK.RELEASE", "busy", "somebody")

    def test_an_exception_gives_the_lock_back(self):
        with self.assertRaises(KeyError):
            with self.Locks(URL).hold("raise"):
                raise KeyError
        self.assertTrue(is_free("raise"))

    def test_a_lost_lock_is_told(self):
        with self.assertRaises(self.lost):
            with self.Locks(URL).hold("lost"):
                admin.execute_command("LOCK.BREAK", "lost")

    def test_a_socket_timeout_leaves_nothing_behind(self):
        locks = self.Locks(URL, wait=0.1)  # the socket timeout is 5.1 s
        with locks.hold("warm"):
            pass
        os.kill(SERVER, signal.SIGSTOP)
        threading.Timer(5.5, os.kill, (SERVER, signal.SIGCONT)).start()
        with self.assertRaises(redis.TimeoutError):
            with locks.hold("stopped"):
                self.fail("held")
        self.assertTrue(is_free("stopped"))

    def test_waits_that_are_cut_at_the_grant_leave_nothing_behind(self):
        locks, failed = self.Locks(URL), []
        admin.execute_command("LOCK.ACQUIRE", "cut", "somebody", "NOEXPIRE")

        def call(_):
            try:
                with locks.hold("cut"):
                    pass
            except redis.ConnectionError:
                failed.append(1)

        with ThreadPoolExecutor(50) as pool:
            calls = pool.map(call, range(50))
            until("50 waits", lambda: info("waiting") == 50)
            release_and_cut("cut")
            list(calls)
        self.assertGreater(len(failed), 0)

    def test_a_killed_holder_keeps_the_lock_for_one_lease(self):
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            with self.Locks(URL, lease=1.5).hold("killed"):
                os.write(told, b"!")
                time.sleep(60)
        os.read(ready, 1)
        start = time.monotonic()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with self.Locks(URL).hold("killed"):
            self.assertLess(time.monotonic() - start, 3)

    def test_a_forked_child_does_not_hold_and_gives_nothing_back(self):
        child = -1
        try:
            with self.Locks(URL).hold("fork") as held:
                child = os.fork()
                if child == 0:
                    self.in_child(held)
                else:
                    self.assertEqual(os.waitpid(child, 0)[1], 0)
                    self.assertFalse(is_free("fork"))
        except self.lost:
            if child == 0:
                os._exit(0)
            raise
        finally:
            if child == 0:
                os._exit(1)

    def in_child(self, held):
        pass

    def test_a_dropped_lock_is_given_back(self):
        dropped = self.Locks(URL).hold("dropped")
        held = dropped.__enter__()
        del dropped
        self.assertTrue(is_free("dropped"), held)
