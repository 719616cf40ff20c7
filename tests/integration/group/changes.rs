//! Keys that change under a wait for several of them, and servers that may not write: deleted, flushed, swapped,
//! overwritten, paused, demoted.

use super::{assert_all_granted, give_back, line_up, macquire, macquire_in_line};
use crate::steps::{
    ask, assert_granted, fence_of, holder, queue, release, set_string, wait_for_lock, waiting, words,
};
use crate::support::wait::wait_replica_in_sync;
use crate::support::{wait_until, Server, Value};
use crate::traffic::{at_once, follow, lock_stat, replica_of, wait_quiet, wait_same_data};

const OVERWRITTEN: &str = "WRONGTYPE the key was overwritten with a value that is not a lock";

/// Alice holds `a` and `b`, which she took together.
fn contended() -> Server {
    let server = Server::start();
    fence_of(&macquire(&server, "alice 2 a b"));
    server
}

/// Nobody holds `c`, which is kept for the first of those who wait for several locks.
#[test]
fn a_free_key_with_another_type_ends_the_wait_and_the_others_go_on() {
    for line in ["SET c text", "RPUSH c item", "MULTI|SET c text|EXEC", "COPY text c", "RENAME text c"] {
        let server = contended();
        set_string(&server, "text");
        let mut waiter = macquire_in_line(&server, "w 4 a b c d NOEXPIRE");
        let mut behind = wait_for_lock(&server, "d", "next");
        let mut too = macquire_in_line(&server, "too 2 c e");
        let mut on_b = wait_for_lock(&server, "b", "on-b");
        for command in line.split('|') {
            assert!(!matches!(ask(&server, command), Value::Error(_)), "{line}");
        }
        assert_eq!(waiter.read(), OVERWRITTEN, "{line}");
        assert_eq!(too.read(), OVERWRITTEN, "{line}");
        assert_granted(&server, &mut behind, "d", "next");
        assert_eq!((waiting(&server, "a"), queue(&server, "b")), (0, vec!["on-b".to_owned()]), "{line}");
        assert_eq!(waiter.cmd(&["PING"]), "PONG");
        assert_eq!(give_back(&server, "alice 2 a b"), 2);
        assert_granted(&server, &mut on_b, "b", "on-b");
        assert_eq!(server.cmd(&["EXISTS", "c"]), 1);
    }
}

#[test]
fn a_held_key_with_another_type_ends_the_wait_and_the_others_go_on() {
    for line in ["SET b text", "RENAME text b", "COPY text b REPLACE", "MULTI|DEL b|RPUSH b item|EXEC"] {
        let server = contended();
        set_string(&server, "text");
        let mut waiter = macquire_in_line(&server, "w 3 free a b");
        let mut behind = wait_for_lock(&server, "free", "next");
        let mut too = macquire_in_line(&server, "too 2 b e");
        let mut on_a = wait_for_lock(&server, "a", "on-a");
        for command in line.split('|') {
            assert!(!matches!(ask(&server, command), Value::Error(_)), "{line}");
        }
        assert_eq!(waiter.read(), OVERWRITTEN, "{line}");
        assert_eq!(too.read(), OVERWRITTEN, "{line}");
        assert_granted(&server, &mut behind, "free", "next");
        assert_eq!(queue(&server, "a"), ["on-a"]);
        assert_eq!(holder(&server, "a").as_deref(), Some("alice"), "what it has beside that is its own");
        release(&server, "a", "alice");
        assert_granted(&server, &mut on_a, "a", "on-a");
        assert_eq!(waiter.cmd(&["PING"]), "PONG");
        wait_quiet(&server);
    }
}

/// The grant finds out at the latest.
#[test]
fn nobody_gets_some_of_them_when_one_has_another_type() {
    let server = contended();
    let mut waiter = macquire_in_line(&server, "w 3 a b c");
    let mut conn = server.connect();
    conn.send_together(&[&words("SET c text"), &words("LOCK.MRELEASE alice 2 a b")]);
    assert_eq!(conn.read(), "OK");
    assert_eq!(conn.read(), 2);
    assert_eq!(waiter.read(), OVERWRITTEN);
    wait_quiet(&server);
    assert_eq!((holder(&server, "a"), holder(&server, "b")), (None, None));
    assert_eq!(lock_stat(&server, "granted"), 2, "alice's");
}

#[test]
fn when_all_is_flushed_the_first_of_each_queue_has_its_turn() {
    let lines = ["FLUSHALL", "FLUSHALL ASYNC", "FLUSHDB", "FLUSHDB ASYNC", "SWAPDB 0 5", "SWAPDB 5 0"];
    // Whether somebody asks in one packet with it, or nobody touches the locks.
    for (line, comes_right_after) in lines.into_iter().flat_map(|line| [(line, true), (line, false)]) {
        let server = contended();
        let stale = fence_of(&macquire(&server, "alice 2 a b"));
        let mut waiter = macquire_in_line(&server, "w 3 a b c");
        let mut second = macquire_in_line(&server, "second 2 c d");
        let mut apart = wait_for_lock(&server, "b", "third");
        let mut conn = server.connect();
        if comes_right_after {
            conn.send_together(&[
                &words(line),
                &words("LOCK.MACQUIRE dave 2 d e"),
                &words("LOCK.MACQUIRE dave 2 a e"),
            ]);
            assert_eq!(conn.read(), "OK", "{line}");
            (0..2).for_each(|_| assert_eq!(conn.read(), Value::Nil, "{line}"));
        } else {
            assert_eq!(conn.cmd(&words(line)), "OK", "{line}");
        }
        let fence = assert_all_granted(&server, &mut waiter, &["a", "b", "c"], "w");
        assert!(fence > stale);
        second.expect_nothing_pending();
        apart.expect_nothing_pending();
        assert_eq!(give_back(&server, "w 3 a b c"), 3);
        assert_all_granted(&server, &mut second, &["c", "d"], "second");
        assert_granted(&server, &mut apart, "b", "third");
    }
}

#[test]
fn a_database_that_is_swapped_in_has_holders_of_its_own() {
    let server = contended();
    let mut in_5 = server.connect().select(5);
    fence_of(&in_5.cmd(&words("LOCK.MACQUIRE eve 2 b c")));
    let mut waiter = macquire_in_line(&server, "w 2 a b");
    let mut there = line_up(&server, server.connect().select(5), "LOCK.MACQUIRE v 2 a b BLOCK 0");
    assert_eq!(ask(&server, "SWAPDB 0 5"), "OK");
    waiter.expect_nothing_pending();
    there.expect_nothing_pending();
    // In the first database now: eve's hold of b and c, and the one who waits for a and b.
    assert_eq!(holder(&server, "b").as_deref(), Some("eve"));
    release(&server, "b", "eve");
    assert_all_granted(&server, &mut waiter, &["a", "b"], "w");
    assert_eq!(in_5.cmd(&words("LOCK.MRELEASE alice 2 a b")), 2);
    fence_of(&there.read());
}

#[test]
fn during_a_pause_nothing_is_granted_and_waits_end_in_time() {
    let server = contended();
    let mut waiter = macquire_in_line(&server, "w 3 a b c");
    let mut timed = line_up(&server, server.connect(), "LOCK.MACQUIRE timed 2 c d BLOCK 300");
    let mut last = wait_for_lock(&server, "d", "last");
    at_once(&server, &[&words("LOCK.MRENEW alice 100 2 a b"), &words("CLIENT PAUSE 20000 WRITE")]);
    assert_eq!(timed.read(), Value::Nil);
    wait_until("the leases to be over", || {
        ask(&server, "LOCK.CHECK a alice") == 0 && ask(&server, "LOCK.CHECK b alice") == 0
    });
    waiter.expect_nothing_pending();
    last.expect_nothing_pending();
    assert_eq!(ask(&server, "EXISTS a b c d"), 2);
    assert_eq!(ask(&server, "CLIENT UNPAUSE"), "OK");
    assert_all_granted(&server, &mut waiter, &["a", "b", "c"], "w");
    assert_granted(&server, &mut last, "d", "last");
}

#[test]
fn whoever_is_demoted_sends_its_waiters_away() {
    let (server, other) = (contended(), Server::start());
    follow(&other, &server);
    let mut waiters = ["w 2 a b", "v 3 b c d"].map(|line| macquire_in_line(&server, line));
    assert_eq!(ask(&other, "REPLICAOF NO ONE"), "OK");
    replica_of(&server, &other);
    for waiter in &mut waiters {
        // Some servers are faster than the module, and say so in their own words.
        let reply = waiter.read();
        assert!(reply.error().starts_with("UNBLOCKED "), "{reply:?}");
    }
    wait_quiet(&server);
    wait_replica_in_sync(&other, &server);
    for line in ["LOCK.MACQUIRE w 2 c d", "LOCK.MRELEASE alice 2 a b", "LOCK.MRENEW alice 5000 2 a b"] {
        assert!(ask(&server, line).error().starts_with("READONLY "), "{line}");
    }
    // The new primary knows what was granted together.
    fence_of(&macquire(&other, "alice 2 b a"));
    assert_eq!(give_back(&other, "alice 2 a b"), 2);
    fence_of(&macquire(&other, "w 2 a b"));
    wait_same_data(&server, &other);
    assert_eq!(lock_stat(&server, "waiting"), 0);
}
