//! LOCK.ACQUIRE without waiting: fences in their order, and what takes its time. The replies are `tests/cases/acquire.md`; what a
//! wait is like stands in `blocking`.

use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_holds, assert_left, fence_of, release, unix_us,
    wait_for_lock, words,
};
use crate::support::{wait_until, Server, Value};

#[test]
fn a_free_lock_is_granted_with_a_fence_made_of_the_time() {
    let server = Server::start();
    let before = unix_us();
    let fence = acquire(&server, "k alice");
    assert!((before..=unix_us()).contains(&fence), "{fence}");
    assert_holds(&server, "k", "alice", fence);
}

#[test]
fn every_grant_has_a_higher_fence_whatever_the_key_and_the_owner() {
    let server = Server::start();
    let mut last = 0;
    for (key, owner) in [("a", "x"), ("b", "x"), ("c", "y")].into_iter().cycle().take(300) {
        let fence = acquire(&server, &format!("{key} {owner}"));
        assert!(fence > last, "{fence} after {last}");
        release(&server, key, owner);
        last = fence;
    }
}

#[test]
fn a_held_lock_is_nil_and_stays_as_it_is() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    assert_changes_nothing(&server, || {
        let mut conn = server.connect();
        conn.send(&words("LOCK.ACQUIRE k bob PX 5 NOTE mine"));
        conn.expect_bytes(b"$-1\r\n");
    });
    assert_holds(&server, "k", "alice", fence);
}

#[test]
fn the_same_owner_gets_the_same_fence_and_changes_nothing_by_asking_for_less() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    assert_changes_nothing(&server, || {
        // The last one has another note too: the hold keeps the one it began with.
        for line in ["LOCK.ACQUIRE k alice PX 5", "LOCK.ACQUIRE k alice EX 1 BLOCK 0 NOTE other"] {
            assert_eq!(ask(&server, line), fence, "{line}");
        }
    });
    assert_left(&ask(&server, "LOCK.CHECK k alice"), 30_000);
}

#[test]
fn a_note_is_kept_for_people() {
    let server = Server::start();
    let note_of = |key: &str| server.cmd(&["LOCK.INFO", key]).field("holds").items()[0].field("note").clone();
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "k", "alice", "NOTE", "nightly build, 7"]));
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "l", "alice", "NOTE", ""]));
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "m", "alice"]));
    assert_eq!(note_of("k"), "nightly build, 7");
    assert_eq!(note_of("l"), "");
    assert_eq!(note_of("m"), "");
}

#[test]
fn a_try_never_overtakes_a_waiter() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    let mut conn = server.connect();
    conn.send_together(&[&words("LOCK.RELEASE k alice"), &words("LOCK.ACQUIRE k carol")]);
    assert_eq!(conn.read(), 1);
    assert_eq!(conn.read(), Value::Nil);
    let fence = fence_of(&waiter.read());
    assert_holds(&server, "k", "bob", fence);
}

#[test]
fn another_value_whose_time_is_up_is_no_longer_there() {
    let server = Server::start();
    // The server keeps it until somebody comes for it.
    assert_eq!(ask(&server, "DEBUG SET-ACTIVE-EXPIRE 0"), "OK");
    for line in ["LOCK.CHECK k alice", "LOCK.RELEASE k alice", "LOCK.RENEW k alice"] {
        assert_eq!(ask(&server, "SET k text PX 1"), "OK");
        wait_until("the string to be too old", || ask(&server, line) == 0);
    }
    assert_eq!(ask(&server, "SET k text PX 1"), "OK");
    let granted = || matches!(ask(&server, "LOCK.ACQUIRE k alice"), Value::Int(_));
    wait_until("the string to be too old", granted);
    assert_eq!(server.cmd(&["PTTL", "k"]), -1);
    release(&server, "k", "alice");
}
