"""The block of docs/fencing.md: a statement that a holder whose fence is older than the newest one changes nothing with. On SQLite."""
import sqlite3
import sys
import unittest

from trials import admin

with open(sys.argv.pop()) as block:
    STATEMENT = block.read()


class Fence(unittest.TestCase):
    def test_whoever_has_an_older_fence_changes_nothing(self):
        db = sqlite3.connect(":memory:")
        db.execute("CREATE TABLE invoice (id INTEGER PRIMARY KEY, state TEXT, fence INTEGER NOT NULL)")
        db.execute("INSERT INTO invoice VALUES (42, 'open', 0)")

        def changed(fence):
            return db.execute(STATEMENT, {"fence": fence}).rowcount

        alice = admin.execute_command("LOCK.ACQUIRE", "invoice:42", "alice")
        self.assertEqual(changed(alice), 1)
        admin.execute_command("LOCK.BREAK", "invoice:42")
        self.assertEqual(changed(alice), 1)    # nobody newer has written
        bob = admin.execute_command("LOCK.ACQUIRE", "invoice:42", "bob")
        self.assertEqual(changed(bob), 1)
        self.assertEqual(changed(bob), 1)      # a holder writes more than once
        self.assertEqual(changed(alice), 0)
        self.assertEqual(db.execute("SELECT * FROM invoice").fetchall(), [(42, "paid", bob)])


unittest.main()
