"""The block of docs/waiting.md that waits in slices, with a client in its default settings: its place in line outlives the
socket timeouts, the connections and the patience of such clients."""
import threading
import unittest

import redis

from locks import acquire
from trials import PORT, admin, info, nothing_is_left, until


def in_line(key):
    return len(admin.execute_command("LOCK.WAITERS", key))


class Slices(unittest.TestCase):
    def tearDown(self):
        nothing_is_left()

    def test_clients_in_default_settings_keep_their_places_beside_patient_ones(self):
        admin.execute_command("LOCK.ACQUIRE", "slow", "somebody", "PX", 20_000)
        served, threads = [], []

        def by_default(name):
            client = redis.Redis(port=PORT)  # gives up a request after its own default timeout
            self.assertIsNotNone(acquire(client, "slow", name))
            served.append(name)
            client.execute_command("LOCK.RELEASE", "slow", name)

        def patiently(name):
            client = redis.Redis(port=PORT, socket_timeout=None)
            client.execute_command("LOCK.ACQUIRE", "slow", name, "BLOCK", 0)
            served.append(name)
            client.execute_command("LOCK.RELEASE", "slow", name)

        names = ["default-1", "patient-1", "default-2", "default-3", "patient-2"]
        for place, name in enumerate(names, start=1):
            work = by_default if name.startswith("default") else patiently
            threads.append(threading.Thread(target=work, args=[name], daemon=True))
            threads[-1].start()
            until(f"{name} to stand in line", lambda: in_line("slow") == place)
        for thread in threads:
            thread.join(60)
        self.assertEqual(served, names)

    def test_whoever_gives_up_leaves_nothing(self):
        admin.execute_command("LOCK.ACQUIRE", "busy", "somebody", "PX", 60_000)
        self.assertIsNone(acquire(redis.Redis(port=PORT), "busy", "bob", wait=1.5))
        self.assertEqual((in_line("busy"), info("tickets")), (0, 0))
        admin.execute_command("LOCK.RELEASE", "busy", "somebody")

    def test_a_cut_connection_costs_no_place(self):
        admin.execute_command("LOCK.ACQUIRE", "cut", "somebody", "PX", 60_000)
        fences, client = [], redis.Redis(port=PORT)

        def wait():
            fences.append(acquire(client, "cut", "bob"))

        first = threading.Thread(target=wait, daemon=True)
        first.start()
        until("bob to stand in line", lambda: in_line("cut") == 1)
        second = threading.Thread(
            target=lambda: fences.append(acquire(redis.Redis(port=PORT), "cut", "carol")), daemon=True)
        second.start()
        until("carol to stand in line", lambda: in_line("cut") == 2)
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        admin.execute_command("LOCK.RELEASE", "cut", "somebody")
        first.join(20)
        self.assertEqual(len(fences), 1, "carol waits behind bob")
        admin.execute_command("LOCK.RELEASE", "cut", "bob")
        second.join(20)
        self.assertLess(fences[0], fences[1])
        admin.execute_command("LOCK.RELEASE", "cut", "carol")


unittest.main()
