//! Re-entry: an owner that enters its hold under several ids and leaves under them, in every order and up to the limits. One
//! request at a time is `tests/cases/reentrant.md`; what files and replicas are told of ids stands in `copies`.

use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, assert_holds, fence_of, in_line, queue_up, release,
    transaction, words,
};
use crate::support::{Server, Value};
use crate::traffic::{lock_stat, wait_quiet};

mod copies;

/// How many ids a hold may have, and how long each of them.
const IDS_MAX: usize = 256;
const ID_BYTES_MAX: usize = 64;

const TAKEN_WITH_IDS: &str =
    "LOCKMODE the lock was taken with REENTRANT; release it with REENTRANT and the id, or ALL";

/// Alice enters `k`.
fn enter(server: &Server, id: &str) -> i64 {
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "k", "alice", "REENTRANT", id]))
}

/// Alice leaves `k`; whether she was in under this id.
fn leave(server: &Server, id: &str) -> i64 {
    server.cmd(&["LOCK.RELEASE", "k", "alice", "REENTRANT", id]).int()
}

/// Under how many ids the first holder of `k` is in, 0 if there is none.
fn entries(server: &Server) -> i64 {
    let info = ask(server, "LOCK.INFO k");
    info.field("holds").items().first().map_or(0, |hold| hold.field("entries").int())
}

#[test]
fn the_hold_ends_with_the_last_id_in_any_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let server = Server::start();
        let ids = ["outer", "inner", "innermost"];
        let fence = enter(&server, ids[0]);
        for (at, id) in ids.into_iter().enumerate() {
            assert_eq!(enter(&server, id), fence, "one fence for all");
            assert_eq!(entries(&server), at as i64 + 1);
        }
        let mut bob = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
        for (at, index) in order.into_iter().enumerate() {
            assert_holds(&server, "k", "alice", fence);
            bob.expect_nothing_pending();
            assert_eq!(leave(&server, ids[index]), 1);
            assert_eq!(leave(&server, ids[index]), 0, "the same request again");
            assert_eq!(entries(&server), if at < 2 { 2 - at as i64 } else { 1 });
        }
        assert!(assert_granted(&server, &mut bob, "k", "bob") > fence);
    }
}

#[test]
fn all_ends_the_hold_at_once() {
    for ids in [&[""][..], &["", "one"], &["one"], &["one", "two", "three"]] {
        let server = Server::start();
        let mut fence = 0;
        for id in ids {
            fence = if id.is_empty() { acquire(&server, "k alice") } else { enter(&server, id) };
        }
        let mut bob = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
        assert_eq!(ask(&server, &format!("lock.release k alice all fence {fence}")), 1);
        assert_granted(&server, &mut bob, "k", "bob");
        assert_eq!(ask(&server, "LOCK.RELEASE k alice ALL"), 0);
        assert_eq!(entries(&server), 1, "what Alice was in under is nothing to Bob");
    }
}

#[test]
fn one_lease_ends_them_all() {
    let server = Server::start();
    for id in ["one", "two"] {
        acquire(&server, &format!("k alice PX 300 REENTRANT {id}"));
    }
    let mut bob = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
    assert_granted(&server, &mut bob, "k", "bob");
    assert_eq!((leave(&server, "one"), leave(&server, "two")), (0, 0));
    release(&server, "k", "bob");
    // The next hold of the same owner begins anew.
    acquire(&server, "k alice");
    assert_eq!(entries(&server), 1);
    release(&server, "k", "alice");
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn a_wait_with_an_id_ends_like_any_other() {
    let server = Server::start();
    acquire(&server, "k bob");
    let mut short = server.connect();
    short.send(&words("LOCK.ACQUIRE k alice REENTRANT one BLOCK 50"));
    assert_eq!(short.read(), Value::Nil);
    drop(in_line(&server, "LOCK.ACQUIRE k alice REENTRANT one BLOCK 0"));
    wait_quiet(&server);
    release(&server, "k", "bob");
    assert_eq!(entries(&server), 0);
}

#[test]
fn a_grant_that_nobody_heard_of_is_taken_back_unless_the_owner_has_entered_since() {
    for enters in [false, true] {
        let server = Server::start();
        acquire(&server, "k bob");
        let mut conn = server.connect();
        let kill = format!("CLIENT KILL ID {}", conn.id());
        let mut doomed =
            queue_up(&server, conn, &words("LOCK.ACQUIRE k alice REENTRANT one NOEXPIRE BLOCK 0"));
        let second = if enters { "LOCK.ACQUIRE k alice REENTRANT two" } else { "PING" };
        let lines = ["LOCK.RELEASE k bob", second, &kill].map(words);
        let replies = transaction(&mut server.connect(), &lines.each_ref().map(Vec::as_slice));
        assert_eq!((&replies[0], &replies[2]), (&Value::Int(1), &Value::Int(1)));
        doomed.expect_closed();
        wait_quiet(&server);
        assert_eq!(entries(&server), if enters { 2 } else { 0 });
        assert_eq!(lock_stat(&server, "undone"), i64::from(!enters));
    }
}

#[test]
fn as_many_ids_as_there_may_be_and_one_more() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    acquire(&server, "k alice NOEXPIRE");
    let id = |n: usize| format!("{n:0>ID_BYTES_MAX$}");
    // The plain entry counts as one of them.
    (1..IDS_MAX).for_each(|n| assert_eq!(enter(&server, &id(n)), fence));
    assert_eq!(entries(&server), IDS_MAX as i64);
    let text = "LOCKLIMIT the owner is in under 256 ids already; release some of them first";
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, &format!("LOCK.ACQUIRE k alice PX 70000 REENTRANT {}", id(IDS_MAX))), text);
        assert_eq!(ask(&server, "LOCK.ACQUIRE k alice BLOCK 0 REENTRANT more"), text);
        assert_eq!(enter(&server, &id(7)), fence, "one that is there already is not one more");
    });
    release(&server, "k", "alice");
    assert_eq!(enter(&server, &id(IDS_MAX)), fence);
    assert_changes_nothing(&server, || assert_eq!(ask(&server, "LOCK.ACQUIRE k alice"), text));
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    assert_eq!(entries(&server), IDS_MAX as i64);
    (1..=IDS_MAX).for_each(|n| assert_eq!(leave(&server, &id(n)), 1, "{n}"));
    assert_eq!(ask(&server, "EXISTS k"), 0);
}
