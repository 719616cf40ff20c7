"""The asyncio block."""
import asyncio
import os
import signal
import threading
import time
import unittest

import redis
import redis.asyncio

from locks import Locks
from trials import CLUSTER, SERVER, URL, admin, info, is_free, nothing_is_left, release_and_cut, until


class Asyncio(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)  # 200 tasks take minutes with it

    def tearDown(self):
        nothing_is_left()

    async def test_two_hundred_callers_are_served_one_at_a_time(self):
        locks, inside, fences = Locks(URL), [], []

        async def call():
            async with locks.hold("crowd") as fence:
                inside.append(1)
                await asyncio.sleep(0)
                self.assertEqual(len(inside), 1)
                fences.append(fence)
                inside.pop()

        await asyncio.gather(*(call() for _ in range(200)))
        self.assertEqual(len(fences), 200)
        self.assertEqual(fences, sorted(set(fences)))

    async def test_tasks_that_are_cancelled_at_the_grant_leave_nothing_behind(self):
        locks = Locks(URL)
        for round in range(20):
            admin.execute_command("LOCK.ACQUIRE", "cancel", "somebody", "NOEXPIRE")

            async def call():
                async with locks.hold("cancel"):
                    pass

            tasks = [asyncio.create_task(call()) for _ in range(6)]
            while info("waiting") < 6:
                await asyncio.sleep(0.001)
            admin.execute_command("LOCK.RELEASE", "cancel", "somebody")
            await asyncio.sleep(round * 0.0002)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            until("nothing to be held", lambda: is_free("cancel"), seconds=2)

    async def test_a_task_that_is_cancelled_twice_leaves_nothing_behind(self):
        async def call():
            async with Locks(URL).hold("twice"):
                await asyncio.sleep(60)

        for _ in range(20):
            task = asyncio.create_task(call())
            while is_free("twice"):
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            while not is_free("twice"):
                await asyncio.sleep(0.001)

    async def test_the_default_settings_outlast_the_socket_timeout_of_the_client(self):
        admin.execute_command("LOCK.ACQUIRE", "slow", "somebody", "PX", 7000)
        abandoned = info("abandoned")
        async with Locks(URL).hold("slow"):
            self.assertEqual(info("abandoned"), abandoned)

    async def test_a_busy_lock_is_a_timeout(self):
        admin.execute_command("LOCK.ACQUIRE", "busy", "somebody")
        with self.assertRaises(TimeoutError):
            async with Locks(URL, wait=0.2).hold("busy"):
                self.fail("held")
        admin.execute_command("LOCK.RELEASE", "busy", "somebody")

    async def test_an_exception_gives_the_lock_back(self):
        with self.assertRaises(KeyError):
            async with Locks(URL).hold("raise"):
                raise KeyError
        self.assertTrue(is_free("raise"))

    async def test_a_socket_timeout_leaves_nothing_behind(self):
        locks = Locks(URL, wait=0.1)  # the socket timeout is 5.1 s
        async with locks.hold("warm"):
            pass
        os.kill(SERVER, signal.SIGSTOP)
        threading.Timer(5.5, os.kill, (SERVER, signal.SIGCONT)).start()
        async with locks.hold("stopped"):  # its second request comes through
            pass
        self.assertTrue(is_free("stopped"))

    async def test_waits_that_are_cut_at_the_grant_are_asked_again(self):
        locks = Locks(URL)
        admin.execute_command("LOCK.ACQUIRE", "cut", "somebody", "NOEXPIRE")

        async def call():
            async with locks.hold("cut"):
                pass

        tasks = [asyncio.create_task(call()) for _ in range(50)]
        while info("waiting") < 50:
            await asyncio.sleep(0.01)
        release_and_cut("cut")
        await asyncio.gather(*tasks)  # their second requests come through

    async def test_work_may_outlast_the_lease(self):
        async with Locks(URL, lease=2).hold("long"):
            await asyncio.sleep(5)

    async def test_the_body_is_cancelled_when_the_lock_is_lost(self):
        start = time.monotonic()
        with self.assertRaises(TimeoutError):
            async with Locks(URL, lease=1.5).hold("broken"):
                admin.execute_command("LOCK.BREAK", "broken")
                await asyncio.sleep(60)
        self.assertLess(time.monotonic() - start, 1)

    async def test_the_body_is_cancelled_when_nobody_answers(self):
        start = time.monotonic()
        threading.Timer(2, os.kill, (SERVER, signal.SIGCONT)).start()
        with self.assertRaises((TimeoutError, redis.TimeoutError)):  # the second from giving it back
            async with Locks(URL, lease=1).hold("silent"):
                os.kill(SERVER, signal.SIGSTOP)
                try:
                    await asyncio.sleep(60)
                finally:
                    self.assertLess(time.monotonic() - start, 1.8)

    async def test_the_body_is_cancelled_when_a_refusal_stays(self):
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(2.5):
                async with Locks(URL, lease=3).hold("refused"):
                    admin.config_set("lock.max-lease-ms", 1000)
                    try:
                        await asyncio.sleep(60)
                    finally:
                        admin.config_set("lock.max-lease-ms", 604800000)

    async def test_on_a_cluster(self):
        locks = Locks(CLUSTER, lease=2, connect=redis.asyncio.RedisCluster.from_url)
        node = redis.Redis.from_url(CLUSTER)
        async with locks.hold("cluster"):
            for _ in range(5):
                node.client_kill_filter(_type="normal", skipme=True)
                await asyncio.sleep(0.3)
        async with locks.hold("cluster"):
            pass


unittest.main(warnings="ignore")
