//! LOCK.SETLIMIT: another limit for a semaphore that is in use. Who comes in, who keeps what it has, who is sent away, and
//! what copies and onlookers are told.

use crate::onlookers::{assert_writes_k, goes_through, is_allowed};
use crate::round_trips::assert_round_trips;
use crate::steps::{
    ask, assert_changes_nothing, digest, eval, fence_of, hold, is_modern, queue, queue_up, release,
    set_string, transaction, words, wrong_arity, WRONGTYPE,
};
use crate::support::stream::step;
use crate::support::{assert_stream, wait_until, Connection, Events, ReplicaStream, Server, Value};
use crate::traffic::{follow, lock_stat, wait_quiet, wait_same_data};

/// Takes permits of `k`.
fn take(server: &Server, owner: &str, limit: u32, permits: u32) -> i64 {
    fence_of(&ask(server, &format!("LOCK.ACQUIRE k {owner} LIMIT {limit} PERMITS {permits} NOEXPIRE")))
}

/// A connection of its own that waits for permits of `k`.
fn wait_for(server: &Server, owner: &str, limit: u32, permits: u32) -> Connection {
    let line = format!("LOCK.ACQUIRE k {owner} LIMIT {limit} PERMITS {permits} NOEXPIRE BLOCK 0");
    queue_up(server, server.connect(), &words(&line))
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
fn a_higher_limit_lets_those_in_who_fit_in_their_order() {
    let server = Server::start();
    take(&server, "a", 2, 2);
    let mut one = wait_for(&server, "one", 2, 1);
    let mut two = wait_for(&server, "two", 2, 2);
    let mut small = wait_for(&server, "small", 2, 1);
    set_limit(&server, 4);
    fence_of(&one.read());
    assert_shown(&server, 4, &[("a", 2), ("one", 1)]);
    // One permit is left, and it is kept for the one that is next.
    two.expect_nothing_pending();
    small.expect_nothing_pending();
    assert_eq!(ask(&server, "LOCK.ACQUIRE k new LIMIT 4"), Value::Nil);
    set_limit(&server, 6);
    assert!(fence_of(&two.read()) < fence_of(&small.read()));
    assert_shown(&server, 6, &[("a", 2), ("one", 1), ("two", 2), ("small", 1)]);
    wait_quiet(&server);
}

#[test]
fn a_lower_limit_takes_nothing_away_and_gives_nothing_until_it_fits() {
    let server = Server::start();
    let fence = take(&server, "a", 5, 3);
    take(&server, "b", 5, 1);
    set_limit(&server, 2);
    assert_shown(&server, 2, &[("a", 3), ("b", 1)]);
    assert_eq!(ask(&server, &format!("LOCK.CHECK k a FENCE {fence}")), -1);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k c LIMIT 2"), Value::Nil);
    let mut waiter = wait_for(&server, "c", 2, 2);
    release(&server, "k", "a");
    // One of two is in use.
    waiter.expect_nothing_pending();
    fence_of(&ask(&server, "LOCK.ACQUIRE k b LIMIT 2"));
    release(&server, "k", "b");
    fence_of(&waiter.read());
    assert_eq!(ask(&server, "LOCK.ACQUIRE k d LIMIT 2"), Value::Nil);
}

#[test]
fn a_hold_with_more_permits_than_the_limit_is_a_hold() {
    let server = Server::start();
    let fence = take(&server, "a", 9, 9);
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
fn from_then_on_all_must_say_the_new_limit() {
    let server = Server::start();
    let fence = take(&server, "a", 3, 1);
    set_limit(&server, 4);
    assert_changes_nothing(&server, || {
        for line in ["k b LIMIT 3", "k a LIMIT 3", "k b LIMIT 3 BLOCK 0"] {
            assert_eq!(ask(&server, &format!("LOCK.ACQUIRE {line}")), other_limit(4).as_str(), "{line}");
        }
        assert_eq!(ask(&server, "LOCK.ACQUIRE k a LIMIT 4"), fence);
    });
    take(&server, "b", 4, 3);
    // Free again, the semaphore has no limit of its own.
    release(&server, "k", "a");
    release(&server, "k", "b");
    take(&server, "c", 7, 7);
}

#[test]
fn who_waits_and_fits_waits_on_with_the_new_limit_and_its_place() {
    let server = Server::start();
    take(&server, "a", 4, 4);
    let mut first = wait_for(&server, "first", 4, 2);
    let mut second = wait_for(&server, "second", 4, 1);
    set_limit(&server, 2);
    assert_eq!(queue(&server, "k"), ["first", "second"]);
    release(&server, "k", "a");
    fence_of(&first.read());
    assert_shown(&server, 2, &[("first", 2)]);
    second.expect_nothing_pending();
    set_limit(&server, 3);
    fence_of(&second.read());
}

#[test]
fn who_waits_for_more_is_sent_away_and_those_behind_come_in() {
    let server = Server::start();
    take(&server, "a", 4, 1);
    let line = "LOCK.ACQUIRE k large LIMIT 4 PERMITS 4 BLOCK 0 WITHINFO";
    let mut large = queue_up(&server, server.connect(), &words(line));
    let mut small = wait_for(&server, "small", 4, 1);
    let mut three = wait_for(&server, "three", 4, 3);
    set_limit(&server, 3);
    assert_eq!(large.read(), other_limit(3).as_str());
    fence_of(&small.read());
    assert_shown(&server, 3, &[("a", 1), ("small", 1)]);
    assert_eq!(queue(&server, "k"), ["three"]);
    set_limit(&server, 1);
    assert_eq!(three.read(), other_limit(1).as_str());
    assert_eq!(large.cmd(&["PING"]), "PONG", "it was told once");
    wait_quiet(&server);
}

#[test]
fn who_waits_for_several_semaphores_is_sent_away() {
    for limit in [1, 3] {
        let server = Server::start();
        take(&server, "a", 2, 2);
        let line = words("LOCK.MACQUIRE both 2 k other LIMIT 2 BLOCK 0");
        let mut both = server.connect();
        both.send(&line);
        wait_until("the wait to begin", || queue(&server, "k") == ["both"]);
        let mut behind = queue_up(&server, server.connect(), &words("LOCK.ACQUIRE other b LIMIT 2 BLOCK 0"));
        set_limit(&server, limit);
        assert_eq!(both.read(), other_limit(limit).as_str());
        fence_of(&behind.read());
        wait_quiet(&server);
    }
}

#[test]
fn a_wait_still_ends_on_time_and_with_its_client() {
    let server = Server::start();
    take(&server, "a", 2, 2);
    let line = "LOCK.ACQUIRE k b LIMIT 2 BLOCK 300 WITHINFO";
    let mut short = queue_up(&server, server.connect(), &words(line));
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
    take(&server, "a", 1, 1);
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
fn a_free_lock_is_zero_and_the_same_limit_changes_nothing() {
    let server = Server::start();
    take(&server, "a", 3, 1);
    let _waiter = wait_for(&server, "b", 3, 3);
    let mut events = Events::listen(&server);
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LOCK.SETLIMIT free 3"), 0);
        set_limit(&server, 3);
        assert!(goes_through(&server, || set_limit(&server, 3)));
    });
    assert!(events.heard().is_empty());
    // A lease that has ended leaves nobody to set a limit for.
    fence_of(&ask(&server, "LOCK.ACQUIRE over a LIMIT 2 PX 50"));
    wait_until("the lease to end", || ask(&server, "LOCK.SETLIMIT over 3") == 0);
    assert_eq!(ask(&server, "EXISTS over"), 0);
}

#[test]
fn the_smallest_and_the_largest_limit() {
    let server = Server::start();
    take(&server, "a", 1, 1);
    set_limit(&server, 1_000_000);
    take(&server, "b", 1_000_000, 999_999);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k c LIMIT 1000000 PERMITS 1"), Value::Nil);
    set_limit(&server, 1);
    assert_shown(&server, 1, &[("a", 1), ("b", 999_999)]);
}

#[test]
fn what_has_no_limit_is_refused() {
    let server = Server::start();
    hold(&server, "k", "a");
    fence_of(&ask(&server, "LOCK.ACQUIRE rw a SHARED"));
    set_string(&server, "text");
    let no_limit = |mode: &str| {
        format!("LOCKMODE the lock is in {mode} use and has no limit; SETLIMIT is for semaphores")
    };
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LOCK.SETLIMIT k 3"), no_limit("exclusive").as_str());
        assert_eq!(ask(&server, "LOCK.SETLIMIT rw 3"), no_limit("shared").as_str());
        assert_eq!(ask(&server, "LOCK.SETLIMIT text 3"), WRONGTYPE);
        for line in ["LOCK.SETLIMIT", "LOCK.SETLIMIT k", "LOCK.SETLIMIT k 3 4", "LOCK.SETLIMIT k 3 WITHINFO"]
        {
            assert_eq!(ask(&server, line), wrong_arity("lock.setlimit").as_str(), "{line}");
        }
    });
}

#[test]
fn in_a_transaction_and_in_a_script() {
    let server = Server::start();
    take(&server, "a", 1, 1);
    let lines = ["LOCK.SETLIMIT k 2", "LOCK.ACQUIRE k b LIMIT 2", "LOCK.SETLIMIT k 1", "LOCK.SETLIMIT k 0"]
        .map(words);
    let replies = transaction(&mut server.connect(), &lines.each_ref().map(Vec::as_slice));
    assert_eq!((&replies[0], &replies[2]), (&Value::Int(1), &Value::Int(1)));
    fence_of(&replies[1]);
    assert!(replies[3].error().starts_with("BADARG "));
    assert_shown(&server, 1, &[("a", 1), ("b", 1)]);
    let script = "return redis.call('LOCK.SETLIMIT', KEYS[1], '5')";
    assert_eq!(eval(&server, script, &["k"]), 1);
    assert_eq!(eval(&server, script, &["free"]), 0);
    assert_shown(&server, 5, &[("a", 1), ("b", 1)]);
}

#[test]
fn watch_and_events_tell_of_it() {
    let server = Server::start();
    take(&server, "a", 1, 1);
    let mut waiter = wait_for(&server, "b", 1, 1);
    let mut events = Events::listen(&server);
    assert!(!goes_through(&server, || set_limit(&server, 2)));
    fence_of(&waiter.read());
    assert_eq!(events.heard(), ["k lock.limited", "k lock.acquired"]);
    assert!(!goes_through(&server, || set_limit(&server, 1)));
    assert_eq!(events.heard(), ["k lock.limited"]);
}

#[test]
fn who_may_set_it() {
    let server = Server::start();
    take(&server, "a", 1, 1);
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
    take(&server, "a", 3, 2);
    hold(&server, "own", "a");
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
fn the_limit_is_stated_before_those_who_come_in() {
    let server = Server::start();
    let a = take(&server, "a", 2, 2).to_string();
    let mut waiter = wait_for(&server, "b", 2, 1);
    let mut stream = ReplicaStream::attach(&server);
    set_limit(&server, 4);
    let b = fence_of(&waiter.read()).to_string();
    set_limit(&server, 4);
    set_limit(&server, 1);
    assert_eq!(ask(&server, "LOCK.RENEW k b PX 50000"), 50_000);
    release(&server, "k", "a");
    assert_stream(
        &stream.collect(&server),
        &[
            &step(&[&["LOCK._LIMIT", "k", "4"], &["LOCK._HOLD", "k", "b", &b, "4", "1", "-1", "-1", "-1"]]),
            &["LOCK._LIMIT", "k", "1"],
            &["LOCK._RENEW", "k", &b, "1", "50000", "50000", "<ms>"],
            &["LOCK._FREE", "k", &a],
        ],
    );
}

#[test]
fn a_replica_follows_and_sets_nothing() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    take(&primary, "a", 5, 3);
    take(&primary, "b", 5, 2);
    set_limit(&primary, 2);
    wait_same_data(&replica, &primary);
    assert_shown(&replica, 2, &[("a", 3), ("b", 2)]);
    // What happens to a hold beyond the limit goes the same way.
    assert_eq!(ask(&primary, "LOCK.RENEW k a PX 600000"), 600_000);
    fence_of(&ask(&primary, "LOCK.ACQUIRE k b LIMIT 2 PERMITS 2 REENTRANT again"));
    wait_same_data(&replica, &primary);
    assert_shown(&replica, 2, &[("a", 3), ("b", 2)]);
    assert!(ask(&replica, "LOCK.SETLIMIT k 3").error().starts_with("READONLY "));
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    assert_eq!(ask(&replica, "LOCK.ACQUIRE k c LIMIT 2"), Value::Nil);
    set_limit(&replica, 6);
    take(&replica, "c", 6, 1);
}

#[test]
fn a_semaphore_beyond_its_limit_survives_every_round_trip() {
    let prepare = |server: &Server| {
        take(server, "a", 5, 3);
        take(server, "b", 5, 2);
        fence_of(&ask(server, "LOCK.ACQUIRE up a LIMIT 2 PX 600000"));
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
        take(server, "c", 2, 2);
        fence_of(&ask(server, "LOCK.ACQUIRE up b LIMIT 1000000 PERMITS 999999"));
    });
}
