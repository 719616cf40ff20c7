"""The blocking block that renews."""
import time
import unittest

import redis

from locks import Locks, LockLost
from trials import CLUSTER, PORT, URL, Blocking, admin, info, is_free, release_and_cut, until


class Renewing(Blocking, unittest.TestCase):
    Locks = Locks
    lost = LockLost

    def fence(self, held):
        return held.fence

    def in_child(self, held):
        assert not held.held()
        try:
            held.renew()
        except LockLost:
            return
        raise AssertionError("the child renews")

    def test_work_may_outlast_the_lease(self):
        with Locks(URL, lease=2).hold("long") as held:
            end = time.monotonic() + 5
            while time.monotonic() < end:
                self.assertTrue(held.held())
                time.sleep(0.01)
            held.renew()

    def test_a_lock_that_is_taken_away_is_not_believed_to_be_held(self):
        with self.assertRaises(LockLost):
            with Locks(URL, lease=1.5).hold("broken") as held:
                admin.execute_command("LOCK.BREAK", "broken")
                until("the loss to be noticed", lambda: not held.held(), seconds=1)
                with self.assertRaises(LockLost):
                    held.renew()

    def test_nothing_is_held_after_the_end(self):
        with Locks(URL).hold("over") as held:
            self.assertTrue(held.held())
        self.assertFalse(held.held())
        with self.assertRaises(LockLost):
            held.renew()

    def test_a_dropped_lock_is_renewed_no_more(self):
        dropped = Locks(URL, lease=0.3).hold("forgotten")
        held = dropped.__enter__()
        del dropped
        self.assertFalse(held.held())
        renewed = info("renewed")
        time.sleep(0.5)
        self.assertEqual(info("renewed"), renewed)

    def test_a_refusal_that_stays_is_told_at_once(self):
        with self.assertRaises(LockLost) as told:
            with Locks(URL, lease=3).hold("refused") as held:
                admin.config_set("lock.max-lease-ms", 1000)
                until("the refusal to be noticed", lambda: not held.held(), seconds=2)
                admin.config_set("lock.max-lease-ms", 604800000)
                admin.execute_command("LOCK.BREAK", "refused")
        self.assertIn("BADARG", str(told.exception.__cause__))

    def test_a_right_that_is_taken_away_is_told_at_once(self):
        admin.execute_command(*"ACL SETUSER app on >app ~* &* +@all".split())
        with self.assertRaises(redis.exceptions.NoPermissionError):
            with Locks(f"redis://app:app@localhost:{PORT}", lease=3).hold("forbidden") as held:
                admin.execute_command(*"ACL SETUSER app -lock.renew -lock.release".split())
                until("the refusal to be noticed", lambda: not held.held(), seconds=2)
        self.assertIsInstance(held.error, redis.exceptions.NoPermissionError)
        admin.execute_command("LOCK.BREAK", "forbidden")

    def test_a_connection_that_is_cut_does_not_end_the_hold(self):
        with Locks(URL, lease=2).hold("reconnect") as held:
            for _ in range(5):
                release_and_cut("none")
                held.renew()
                time.sleep(0.3)
            self.assertTrue(held.held())

    def test_on_a_cluster(self):
        locks = Locks(CLUSTER, lease=2, connect=redis.RedisCluster.from_url)
        node = redis.Redis.from_url(CLUSTER)
        with locks.hold("cluster") as held:
            for _ in range(5):
                node.client_kill_filter(_type="normal", skipme=True)
                time.sleep(0.3)
                self.assertTrue(held.held())
        with locks.hold("cluster"):
            pass


unittest.main()
