//! Locks that change from outside while others wait for them: deleted, flushed, renamed, moved, swapped, overwritten. The
//! queue belongs to the name, not to the key, so whatever stands there now is what the waiters deal with.

use crate::steps::{
    acquire, ask, assert_granted, fence_of, holder, holder_seen_by, queue, queue_up, queue_up_beside,
    release, set_string, wait_for_lock, waiting, words,
};
use crate::support::{wait_until, Connection, Server, Value};

const OVERWRITTEN: &str = "WRONGTYPE the key was overwritten with a value that is not a lock";

/// Alice holds `k`, and bob and carol wait for it.
fn contended() -> (Server, [Connection; 2]) {
    let server = Server::start();
    acquire(&server, "k alice");
    let waiters = ["bob", "carol"].map(|name| wait_for_lock(&server, "k", name));
    (server, waiters)
}

#[test]
fn when_the_key_is_gone_the_next_one_has_the_lock() {
    for line in [
        "DEL k",
        "UNLINK k",
        "FLUSHALL",
        "FLUSHALL ASYNC",
        "FLUSHDB",
        "FLUSHDB ASYNC",
        "RENAME k elsewhere",
        "RENAMENX k elsewhere",
        "MOVE k 5",
        "SWAPDB 0 5",
        "EXPIRE k -1",
        "PEXPIREAT k 1000",
    ] {
        let (server, [mut bob, mut carol]) = contended();
        let stale = ask(&server, "LOCK.ACQUIRE k alice").int();
        let mut conn = server.connect();
        // Who tries in between comes too late, though there may be no key.
        conn.send_together(&[&words(line), &words("LOCK.ACQUIRE k dave"), &words("LOCK.RELEASE k alice")]);
        assert!(!matches!(conn.read(), Value::Error(_)), "{line}");
        assert_eq!(conn.read(), Value::Nil, "{line}");
        assert_eq!(conn.read(), 0, "{line}");
        let fence = assert_granted(&server, &mut bob, "k", "bob");
        assert!(fence > stale, "{line}: {fence} after {stale}");
        carol.expect_nothing_pending();
        release(&server, "k", "bob");
        assert_granted(&server, &mut carol, "k", "carol");
    }
}

#[test]
fn it_may_also_be_a_script_or_a_transaction_that_deletes() {
    for line in ["MULTI|DEL k|EXEC", "EVAL return(redis.call('DEL',KEYS[1])) 1 k"] {
        let (server, [mut bob, _carol]) = contended();
        for command in line.split('|') {
            ask(&server, command);
        }
        assert_granted(&server, &mut bob, "k", "bob");
    }
}

#[test]
fn a_flush_serves_all_queues_of_its_databases_and_no_other() {
    for (line, also_in_5) in [("FLUSHALL", true), ("FLUSHDB", false)] {
        let server = Server::start();
        let mut in_5 = server.connect().select(5);
        fence_of(&in_5.cmd(&words("LOCK.ACQUIRE k alice")));
        let conn = server.connect().select(5);
        let mut other = queue_up_beside(&mut in_5, conn, &words("LOCK.ACQUIRE k bob BLOCK 0"));
        let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
        let mut waiters: Vec<Connection> = keys
            .iter()
            .map(|key| {
                acquire(&server, &format!("{key} alice"));
                wait_for_lock(&server, key, "bob")
            })
            .collect();
        assert_eq!(server.cmd(&[line]), "OK");
        for (key, waiter) in keys.iter().zip(&mut waiters) {
            assert_granted(&server, waiter, key, "bob");
        }
        if also_in_5 {
            fence_of(&other.read());
        } else {
            other.expect_nothing_pending();
            assert_eq!(holder_seen_by(&mut in_5, "k").as_deref(), Some("alice"));
        }
        // Of what was flushed no lease is left behind.
        assert_eq!(server.info_int("lock_state", "lock_lease_index_entries"), 51);
    }
}

#[test]
fn when_another_type_stands_there_all_waits_end() {
    for line in [
        "SET k v",
        "SETEX k 100 v",
        "RENAME text k",
        "COPY text k REPLACE",
        "SUNIONSTORE k members",
        "SWAPDB 0 5",
        "MULTI|DEL k|RPUSH k v|EXEC",
    ] {
        let (server, waiters) = contended();
        set_string(&server, "text");
        ask(&server, "SADD members a b");
        assert_eq!(server.connect().select(5).cmd(&words("SET k v")), "OK");
        for command in line.split('|') {
            assert!(!matches!(ask(&server, command), Value::Error(_)), "{line}");
        }
        for mut waiter in waiters {
            assert_eq!(waiter.read(), OVERWRITTEN, "{line}");
            assert_eq!(waiter.cmd(&["PING"]), "PONG");
        }
        assert_eq!(server.info_int("lock_state", "lock_waiting"), 0);
        assert_ne!(server.cmd(&["TYPE", "k"]), "redislock", "{line}");
        assert_eq!(server.cmd(&["EXISTS", "k"]), 1);
    }
}

#[test]
fn restored_over_the_key() {
    let (server, waiters) = contended();
    set_string(&server, "text");
    let Value::Bulk(text) = server.cmd(&["DUMP", "text"]) else { panic!("no dump") };
    let restore: [&[u8]; 5] = [b"RESTORE", b"k", b"0", &text, b"REPLACE"];
    assert_eq!(server.cmd(&restore), "OK");
    for mut waiter in waiters {
        assert_eq!(waiter.read(), OVERWRITTEN);
    }

    let (server, [mut bob, mut carol]) = contended();
    acquire(&server, "other eve");
    let Value::Bulk(other) = server.cmd(&["DUMP", "other"]) else { panic!("no dump") };
    let restore: [&[u8]; 5] = [b"RESTORE", b"k", b"0", &other, b"REPLACE"];
    assert_eq!(server.cmd(&restore), "OK");
    assert_eq!(holder(&server, "k").as_deref(), Some("eve"));
    bob.expect_nothing_pending();
    release(&server, "k", "eve");
    assert_granted(&server, &mut bob, "k", "bob");
    carol.expect_nothing_pending();
}

#[test]
fn a_value_that_is_gone_again_ends_no_wait() {
    let (server, [mut bob, _carol]) = contended();
    let mut conn = server.connect();
    conn.send_together(&[&words("SET k v"), &words("DEL k")]);
    assert_eq!(conn.read(), "OK");
    assert_eq!(conn.read(), 1);
    assert_granted(&server, &mut bob, "k", "bob");
}

#[test]
fn another_lock_in_its_place_is_waited_for() {
    let (server, [mut bob, mut carol]) = contended();
    acquire(&server, "other eve PX 500");
    assert_eq!(ask(&server, "RENAME other k"), "OK");
    assert_eq!(holder(&server, "k").as_deref(), Some("eve"));
    assert_eq!(queue(&server, "k"), ["bob", "carol"]);
    bob.expect_nothing_pending();
    // Its lease ends under the new name.
    assert_granted(&server, &mut bob, "k", "bob");
    release(&server, "k", "bob");
    assert_granted(&server, &mut carol, "k", "carol");
}

/// A hold that came to the place that `looker` has selected, and its last 500 ms: somebody waits there and gets it.
fn assert_lives_on_and_ends(looker: &mut Connection, conn: Connection, key: &str, fence: i64) {
    let check = words(&format!("LOCK.CHECK {key} alice FENCE {fence}")).join(" ");
    assert_eq!(looker.cmd(&words(&format!("LOCK.RENEW {key} alice"))), 500);
    assert!(looker.cmd(&words(&check)).int() > 0);
    let mut waiter = queue_up_beside(looker, conn, &["LOCK.ACQUIRE", key, "eve", "BLOCK", "0"]);
    fence_of(&waiter.read());
    assert_eq!(looker.cmd(&words(&check)), 0);
    assert_eq!(holder_seen_by(looker, key).as_deref(), Some("eve"));
}

#[test]
fn a_hold_that_was_taken_elsewhere_lives_on_there() {
    for (line, key, db) in [("RENAME k other", "other", 0), ("MOVE k 5", "k", 5), ("SWAPDB 0 5", "k", 5)] {
        let server = Server::start();
        let fence = acquire(&server, "k alice PX 60000");
        assert_eq!(ask(&server, "LOCK.ACQUIRE k alice PX 1"), fence);
        assert_eq!(ask(&server, "LOCK.RENEW k alice PX 500"), 500);
        ask(&server, line);
        let mut looker = server.connect().select(db);
        assert_lives_on_and_ends(&mut looker, server.connect().select(db), key, fence);
        assert_eq!(holder(&server, "k"), None, "{line}");
    }
}

#[test]
fn a_hold_that_was_taken_elsewhere_ends_there_unwatched() {
    for line in ["RENAME k other", "MOVE k 5", "SWAPDB 0 5"] {
        let server = Server::start();
        acquire(&server, "k alice PX 100");
        ask(&server, line);
        wait_until("the key to go", || server.info_int("lock_state", "lock_held") == 0);
        assert!(server.info("keyspace").is_empty(), "{line}");
    }
}

#[test]
fn a_lock_cannot_be_copied() {
    let server = Server::start();
    acquire(&server, "k alice");
    let reply = ask(&server, "COPY k other");
    assert!(matches!(reply, Value::Error(_)), "{reply:?}");
    assert_eq!(server.cmd(&["EXISTS", "other"]), 0);
}

#[test]
fn a_time_to_live_that_somebody_set_ends_the_hold_early() {
    let (server, [mut bob, _carol]) = contended();
    assert_eq!(ask(&server, "PEXPIRE k 200"), 1);
    assert_granted(&server, &mut bob, "k", "bob");
    assert_eq!(server.cmd(&["PTTL", "k"]), -1, "the next hold has none");
}

#[test]
fn a_time_to_live_that_somebody_set_ends_with_its_hold() {
    let (server, [mut bob, _carol]) = contended();
    assert_eq!(ask(&server, "PEXPIRE k 60000"), 1);
    release(&server, "k", "alice");
    let fence = assert_granted(&server, &mut bob, "k", "bob");
    assert_eq!(server.cmd(&["PTTL", "k"]), -1, "it was not meant for bob");
    // The same at the end of a lease.
    let mut conn = server.connect();
    conn.send_together(&[&words("LOCK.RENEW k bob PX 100"), &words("PEXPIRE k 60000")]);
    assert_eq!(conn.read(), 100);
    assert_eq!(conn.read(), 1);
    wait_until("carol to have it", || holder(&server, "k").as_deref() == Some("carol"));
    assert_eq!(server.cmd(&["PTTL", "k"]), -1);
    assert_eq!(ask(&server, &format!("LOCK.CHECK k bob FENCE {fence}")), 0);
}

/// Two databases, each with a lock `k` or something else in its place, and in each of them one who waits.
struct TwoDatabases {
    server: Server,
    zero: Connection,
    five: Connection,
}

impl TwoDatabases {
    fn new() -> TwoDatabases {
        let server = Server::start();
        let (zero, five) = (server.connect(), server.connect().select(5));
        TwoDatabases { server, zero, five }
    }

    fn swap(&mut self) {
        assert_eq!(self.zero.cmd(&words("SWAPDB 0 5")), "OK");
    }

    fn wait_in_0(&mut self, owner: &str) -> Connection {
        let command = ["LOCK.ACQUIRE", "k", owner, "BLOCK", "0"];
        queue_up(&self.server, self.server.connect(), &command)
    }

    fn wait_in_5(&mut self, owner: &str) -> Connection {
        let command = ["LOCK.ACQUIRE", "k", owner, "BLOCK", "0"];
        queue_up_beside(&mut self.five, self.server.connect().select(5), &command)
    }
}

#[test]
fn swapped_with_an_empty_database() {
    let mut dbs = TwoDatabases::new();
    fence_of(&dbs.zero.cmd(&words("LOCK.ACQUIRE k alice")));
    let mut bob = dbs.wait_in_0("bob");
    dbs.swap();
    assert_granted(&dbs.server, &mut bob, "k", "bob");
    assert_eq!(holder_seen_by(&mut dbs.five, "k").as_deref(), Some("alice"));
}

#[test]
fn swapped_with_a_database_where_the_lock_is_held_too() {
    let mut dbs = TwoDatabases::new();
    fence_of(&dbs.zero.cmd(&words("LOCK.ACQUIRE k alice")));
    fence_of(&dbs.five.cmd(&words("LOCK.ACQUIRE k eve")));
    let mut bob = dbs.wait_in_0("bob");
    dbs.swap();
    assert_eq!(holder_seen_by(&mut dbs.zero, "k").as_deref(), Some("eve"));
    bob.expect_nothing_pending();
    assert_eq!(dbs.five.cmd(&words("LOCK.RELEASE k alice")), 1);
    assert_eq!(waiting(&dbs.server, "k"), 1);
    assert_eq!(dbs.zero.cmd(&words("LOCK.RELEASE k eve")), 1);
    assert_granted(&dbs.server, &mut bob, "k", "bob");
}

#[test]
fn swapped_while_some_wait_in_both() {
    let mut dbs = TwoDatabases::new();
    fence_of(&dbs.zero.cmd(&words("LOCK.ACQUIRE k alice PX 600")));
    fence_of(&dbs.five.cmd(&words("LOCK.ACQUIRE k eve")));
    let (mut bob, mut mallory) = (dbs.wait_in_0("bob"), dbs.wait_in_5("mallory"));
    dbs.swap();
    // Who waits in 5 now waits for alice, whose lease ends there.
    fence_of(&mallory.read());
    assert_eq!(holder_seen_by(&mut dbs.five, "k").as_deref(), Some("mallory"));
    bob.expect_nothing_pending();
    assert_eq!(dbs.zero.cmd(&words("LOCK.RELEASE k eve")), 1);
    assert_granted(&dbs.server, &mut bob, "k", "bob");
}

#[test]
fn swapped_twice_is_not_swapped() {
    let mut dbs = TwoDatabases::new();
    fence_of(&dbs.zero.cmd(&words("LOCK.ACQUIRE k alice")));
    let mut bob = dbs.wait_in_0("bob");
    dbs.zero.send_together(&[&words("SWAPDB 0 5"), &words("SWAPDB 5 0"), &["PING"]]);
    assert_eq!(
        [dbs.zero.read(), dbs.zero.read(), dbs.zero.read()].map(|reply| reply.text()),
        ["OK", "OK", "PONG"]
    );
    assert_eq!(holder(&dbs.server, "k").as_deref(), Some("alice"));
    bob.expect_nothing_pending();
    release(&dbs.server, "k", "alice");
    assert_granted(&dbs.server, &mut bob, "k", "bob");
}

#[test]
fn a_reload_keeps_the_hold_and_the_queue() {
    let (server, [mut bob, mut carol]) = contended();
    let fence = ask(&server, "LOCK.ACQUIRE k alice").int();
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k alice"), fence);
    assert_eq!(queue(&server, "k"), ["bob", "carol"]);
    bob.expect_nothing_pending();
    release(&server, "k", "alice");
    assert_granted(&server, &mut bob, "k", "bob");
    release(&server, "k", "bob");
    assert_granted(&server, &mut carol, "k", "carol");
}
