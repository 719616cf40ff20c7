"""The block of docs/cookbook.md with which all instances of a release begin, on SQLite."""
import os
import sqlite3
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import redis
from fencelock import LockError

from locks import migrate
from trials import PORT, admin, nothing_is_left

STEPS = [
    "CREATE TABLE invoice (id INTEGER PRIMARY KEY)",
    "ALTER TABLE invoice ADD COLUMN state TEXT",
    "INSERT INTO invoice VALUES (42, 'open')",
    "CREATE INDEX state ON invoice (state)",
]


class Migrations(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.dir.cleanup()
        nothing_is_left()

    def connect(self):
        return sqlite3.connect(os.path.join(self.dir.name, "db"), timeout=20)

    def instance(self, steps):
        db = self.connect()
        migrate(redis.Redis(port=PORT), db, steps)
        rows = db.execute("SELECT id, state FROM invoice").fetchall()
        db.close()
        return rows

    def test_twenty_instances_migrate_once(self):
        with ThreadPoolExecutor(20) as pool:
            self.assertEqual(list(pool.map(self.instance, [STEPS] * 20)), [[(42, "open")]] * 20)
        db = self.connect()
        self.assertEqual([row[0] for row in db.execute("SELECT step FROM migration ORDER BY step")], [1, 2, 3, 4])
        self.assertEqual(len(db.execute("SELECT DISTINCT fence FROM migration").fetchall()), 1, "one did it all")
        self.assertEqual(self.instance(STEPS + ["UPDATE invoice SET state = 'paid'"]), [(42, "paid")])

    def test_a_step_that_fails_leaves_nothing_and_is_tried_again(self):
        with self.assertRaises(sqlite3.OperationalError):
            self.instance(STEPS[:3] + ["UPDATE nothing SET x = 1"])
        self.assertEqual(self.instance(STEPS), [(42, "open")])

    def test_a_runner_that_lost_its_lock_cannot_repeat_a_step(self):
        test = self

        class Steps(list):  # while the first runner looks, another one takes over and does the work
            def __getitem__(self, part):
                admin.execute_command("LOCK.BREAK", "migrations")
                test.instance(STEPS)
                return super().__getitem__(part)

        with self.assertRaises((LockError, sqlite3.IntegrityError)) as told:
            self.instance(Steps(STEPS))
        self.assertIsInstance(told.exception.__context__ or told.exception, sqlite3.IntegrityError)
        self.assertEqual(self.instance(STEPS), [(42, "open")])


unittest.main()
