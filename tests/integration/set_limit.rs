//! LOCK.SETLIMIT: another limit for a semaphore that is in use, where leases end, clients go, and of rights, replicas and files.
//! The rest is `tests/cases/set_limit.md`.

use crate::onlookers::{assert_writes_k, is_allowed};
use crate::round_trips::assert_round_trips;
use crate::steps::{
    acquire, ask, digest, fence_of, in_line, is_modern, queue, queue_up, release, transaction, words,
};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{follow, lock_stat, wait_quiet, wait_same_data};

/// Takes permits of `k`.
fn take_permits(server: &Server, owner: &str, limit: u32, permits: u32) -> i64 {
    acquire(server, &format!("k {owner} LIMIT {limit} PERMITS {permits} NOEXPIRE"))
}

/// A connection of its own that waits for permits of `k`.
fn wait_for(server: &Server, owner: &str, limit: u32, permits: u32) -> Connection {
    let line = format!("LOCK.ACQUIRE k {owner} LIMIT {limit} PERMITS {permits} NOEXPIRE BLOCK 0");
    in_line(server, &line)
}

fn set_limit(server: &Server, limit: u32) {
    assert_eq!(ask(server, &format!("LOCK.SETLIMIT k {limit}")), 1);
}

/// The text that tells of another limit.
fn other_limit(limit: u32) -> String {
    format!("LOCKLIMIT the semaphore has a limit of {limit}; ask with the same")
}

/// The limit of `k`, and its holders with their permits, oldest first.
#[track_caller]
fn assert_shown(server: &Server, limit: i64, holders: &[(&str, i64)]) {
    let info = ask(server, "LOCK.INFO k");
    assert_eq!(info.field("limit"), &limit);
    let rows = info.field("holds").items().iter();
    let rows: Vec<(String, i64)> =
        rows.map(|row| (row.field("owner").text(), row.field("permits").int())).collect();
    let rows: Vec<(&str, i64)> = rows.iter().map(|(owner, permits)| (owner.as_str(), *permits)).collect();
    assert_eq!(rows, holders);
}

#[test]
fn a_hold_with_more_permits_than_the_limit_is_a_hold() {
    let server = Server::start();
    let fence = take_permits(&server, "a", 9, 9);
    set_limit(&server, 1);
    assert_eq!(ask(&server, &format!("LOCK.RENEW k a PX 50000 FENCE {fence}")), 50_000);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k b LIMIT 1"), Value::Nil);
    let mut waiter = wait_for(&server, "b", 1, 1);
    assert_eq!(ask(&server, "LOCK.RENEW k a PX 200"), 200);
    fence_of(&waiter.read());
    assert_shown(&server, 1, &[("b", 1)]);
    assert_eq!(ask(&server, "LOCK.RELEASE k a WITHINFO").field("reason"), &"expired");
}

#[test]
fn a_wait_still_ends_on_time_and_with_its_client() {
    let server = Server::start();
    take_permits(&server, "a", 2, 2);
    let line = "LOCK.ACQUIRE k b LIMIT 2 BLOCK 300 WITHINFO";
    let mut short = in_line(&server, line);
    let gone = wait_for(&server, "c", 2, 1);
    let mut stays = wait_for(&server, "d", 2, 1);
    set_limit(&server, 1);
    assert_eq!(short.read().field("reason"), &"timeout");
    drop(gone);
    wait_until("the client to be gone", || queue(&server, "k") == ["d"]);
    release(&server, "k", "a");
    fence_of(&stays.read());
    wait_quiet(&server);
}

#[test]
fn a_grant_that_nobody_heard_of_goes_to_the_next() {
    let server = Server::start();
    take_permits(&server, "a", 1, 1);
    let mut conn = server.connect();
    let kill = format!("CLIENT KILL ID {}", conn.id());
    let mut doomed = queue_up(&server, conn, &words("LOCK.ACQUIRE k doomed LIMIT 1 NOEXPIRE BLOCK 0"));
    let mut next = wait_for(&server, "next", 1, 1);
    let lines = [words("LOCK.SETLIMIT k 2"), words("LOCK.INFO k"), words(&kill)];
    let replies = transaction(&mut server.connect(), &[&lines[0], &lines[1], &lines[2]]);
    assert_eq!(replies[1].field("holds").items().len(), 2, "it was granted");
    doomed.expect_closed();
    fence_of(&next.read());
    assert_shown(&server, 2, &[("a", 1), ("next", 1)]);
    assert_eq!(lock_stat(&server, "undone"), 1);
}

#[test]
fn a_lease_that_has_ended_leaves_nobody_to_set_a_limit_for() {
    let server = Server::start();
    acquire(&server, "over a LIMIT 2 PX 50");
    wait_until("the lease to end", || ask(&server, "LOCK.SETLIMIT over 3") == 0);
    assert_eq!(ask(&server, "EXISTS over"), 0);
}

#[test]
fn who_may_set_it() {
    let server = Server::start();
    take_permits(&server, "a", 1, 1);
    assert_writes_k(&server, "LOCK.SETLIMIT k 2");
    assert!(is_allowed(&server, "~* +@all -@blocking", "LOCK.SETLIMIT k 2"), "it never waits");
    if is_modern(&server) {
        assert!(!is_allowed(&server, "~* +@all -@dangerous", "LOCK._LIMIT k 2"));
    } else {
        assert!(ask(&server, "LOCK._LIMIT k 9").error().starts_with("NOPERM "));
    }
    assert_shown(&server, 2, &[("a", 1)]);
}

#[test]
fn an_administrator_cannot_state_a_limit_that_cannot_be() {
    let server = Server::start();
    if !is_modern(&server) {
        return crate::support::skip(
            "an_administrator_cannot_state_a_limit_that_cannot_be",
            "nobody may use internal commands here",
        );
    }
    take_permits(&server, "a", 3, 2);
    acquire(&server, "own a");
    let before = digest(&server);
    for limit in ["0", "-1", "1000001", "4294967295", "x", "03"] {
        let text = "BADARG the effect has a field that cannot be true; nothing was changed";
        assert_eq!(ask(&server, &format!("LOCK._LIMIT k {limit}")), text, "{limit}");
    }
    // What is no semaphore has none, whoever says so.
    for line in ["LOCK._LIMIT own 3", "LOCK._LIMIT free 3"] {
        assert_eq!(ask(&server, line), 0, "{line}");
    }
    assert_eq!(digest(&server), before);
}

#[test]
fn a_replica_follows_and_sets_nothing() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    take_permits(&primary, "a", 5, 3);
    take_permits(&primary, "b", 5, 2);
    set_limit(&primary, 2);
    wait_same_data(&replica, &primary);
    assert_shown(&replica, 2, &[("a", 3), ("b", 2)]);
    // What happens to a hold beyond the limit goes the same way.
    assert_eq!(ask(&primary, "LOCK.RENEW k a PX 600000"), 600_000);
    acquire(&primary, "k b LIMIT 2 PERMITS 2 REENTRANT again");
    wait_same_data(&replica, &primary);
    assert_shown(&replica, 2, &[("a", 3), ("b", 2)]);
    assert!(ask(&replica, "LOCK.SETLIMIT k 3").error().starts_with("READONLY "));
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    assert_eq!(ask(&replica, "LOCK.ACQUIRE k c LIMIT 2"), Value::Nil);
    set_limit(&replica, 6);
    take_permits(&replica, "c", 6, 1);
}

#[test]
fn a_semaphore_beyond_its_limit_survives_every_round_trip() {
    let prepare = |server: &Server| {
        take_permits(server, "a", 5, 3);
        take_permits(server, "b", 5, 2);
        acquire(server, "up a LIMIT 2 PX 600000");
        set_limit(server, 2);
        assert_eq!(ask(server, "LOCK.SETLIMIT up 1000000"), 1);
    };
    assert_round_trips(&["k", "up"], prepare, |server, what| {
        assert_shown(server, 2, &[("a", 3), ("b", 2)]);
        assert_eq!(ask(server, "LOCK.ACQUIRE k c LIMIT 2"), Value::Nil, "{what}");
        assert_eq!(ask(server, "LOCK.ACQUIRE k c LIMIT 5"), other_limit(2).as_str(), "{what}");
        release(server, "k", "a");
        assert_eq!(ask(server, "LOCK.ACQUIRE k c LIMIT 2"), Value::Nil, "{what}: two of two are in use");
        release(server, "k", "b");
        take_permits(server, "c", 2, 2);
        acquire(server, "up b LIMIT 1000000 PERMITS 999999");
    });
}
