"""The block of docs/cookbook.md that applies each message once, on SQLite."""
import os
import sqlite3
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import redis
from fencelock import LockError

from locks import Superseded, consume
from trials import PORT, admin, nothing_is_left

MESSAGES = list(range(1, 101))


class Consumer(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        db = self.connect()
        with db:
            db.execute("CREATE TABLE queue (name TEXT PRIMARY KEY, done INTEGER NOT NULL, fence INTEGER NOT NULL)")
            db.execute("INSERT INTO queue VALUES ('orders', 0, 0)")
            db.execute("CREATE TABLE applied (message INTEGER)")
        db.close()

    def tearDown(self):
        db = self.connect()
        applied = [row[0] for row in db.execute("SELECT message FROM applied ORDER BY rowid")]
        self.assertEqual(applied, MESSAGES, "each once, in order")
        db.close()
        self.dir.cleanup()
        nothing_is_left()

    def connect(self, **options):
        return sqlite3.connect(os.path.join(self.dir.name, "db"), timeout=20, **options)

    def consumer(self, disturb=lambda message: None, **options):
        def apply(db, message):
            db.execute("INSERT INTO applied VALUES (?)", (message,))
            disturb(message)

        db = self.connect(**options)
        try:
            consume(redis.Redis(port=PORT), db, "orders", MESSAGES, apply)
        finally:
            db.close()

    def test_ten_consumers(self):
        with ThreadPoolExecutor(10) as pool:
            for call in [pool.submit(self.consumer) for _ in range(10)]:
                call.result()

    def test_consumers_that_fail_in_the_middle(self):
        def fail(message):
            if message % 30 == 0 and message not in failed:
                failed.append(message)
                raise KeyError

        failed = []
        with ThreadPoolExecutor(5) as pool:
            ends = [call.exception() for call in [pool.submit(self.consumer, fail) for _ in range(5)]]
        self.assertEqual([type(end) for end in ends].count(KeyError), 3)

    def test_one_that_was_paused_and_comes_back_does_nothing(self):
        for place in ("UPDATE queue SET fence", "UPDATE queue SET done"):
            with self.subTest(place):
                paused, go = threading.Event(), threading.Event()

                class Paused(sqlite3.Connection):  # before a transaction
                    def execute(self, sql, values):
                        if sql.startswith(place) and (isinstance(values, dict) or values[0] == 41):
                            paused.set()
                            go.wait(20)
                        return super().execute(sql, values)

                with ThreadPoolExecutor(1) as pool:
                    first = pool.submit(self.consumer, factory=Paused)
                    self.assertTrue(paused.wait(20))
                    admin.execute_command("LOCK.BREAK", "queue:orders")
                    self.consumer()
                    go.set()
                    self.assertIsInstance(first.exception(), LockError)
                    self.assertIsInstance(first.exception().__context__, Superseded)
                self.tearDown()
                self.setUp()
        self.consumer()


unittest.main()
