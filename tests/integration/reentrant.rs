//! Re-entry: an owner that enters its hold under several ids and leaves under them. One hold, one fence, one lease; the hold
//! ends with the last id, and never before. What files and replicas are told of ids stands in `copies`.

use crate::onlookers::goes_through;
use crate::steps::{
    ask, assert_changes_nothing, assert_granted, assert_holds, assert_left, eval, fence_of, hold, queue,
    queue_up, release, transaction, words,
};
use crate::support::{Connection, Events, Server, Value};
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

fn wait_in_line(server: &Server, line: &str) -> Connection {
    queue_up(server, server.connect(), &words(line))
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
        let mut bob = wait_in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
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
fn it_is_a_set_and_not_a_count() {
    let server = Server::start();
    let fence = enter(&server, "once");
    assert_eq!(ask(&server, "LOCK.RENEW k alice PX 600000"), 600_000);
    assert_changes_nothing(&server, || {
        for _ in 0..3 {
            assert_eq!(enter(&server, "once"), fence);
        }
    });
    assert_eq!(entries(&server), 1);
    assert_eq!(leave(&server, "once"), 1);
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn no_id_is_an_id_of_its_own() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_eq!(enter(&server, "id"), fence);
    assert_eq!(hold(&server, "k", "alice"), fence);
    assert_eq!(entries(&server), 2);
    release(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LOCK.RELEASE k alice"), TAKEN_WITH_IDS);
        assert_eq!(ask(&server, &format!("LOCK.RELEASE k alice FENCE {fence} WITHINFO")), TAKEN_WITH_IDS);
    });
    // The other way round, and the plain entry may come last.
    assert_eq!(hold(&server, "k", "alice"), fence);
    assert_eq!(leave(&server, "id"), 1);
    assert_eq!(leave(&server, "id"), 0);
    assert_holds(&server, "k", "alice", fence);
    release(&server, "k", "alice");
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn who_is_not_in_leaves_nothing() {
    let server = Server::start();
    let fence = enter(&server, "id");
    hold(&server, "plain", "alice");
    assert_changes_nothing(&server, || {
        for line in [
            "LOCK.RELEASE k alice REENTRANT i".to_owned(),
            "LOCK.RELEASE k alice REENTRANT ID".to_owned(),
            "LOCK.RELEASE k alice REENTRANT id2".to_owned(),
            "LOCK.RELEASE k bob REENTRANT id".to_owned(),
            "LOCK.RELEASE k bob ALL".to_owned(),
            "LOCK.RELEASE k bob".to_owned(),
            "LOCK.RELEASE free alice REENTRANT id".to_owned(),
            "LOCK.RELEASE free alice ALL".to_owned(),
            "LOCK.RELEASE plain alice REENTRANT id".to_owned(),
            format!("LOCK.RELEASE k alice REENTRANT id FENCE {}", fence + 1),
            format!("LOCK.RELEASE k alice ALL FENCE {}", fence + 1),
            format!("LOCK.RELEASE k alice FENCE {}", fence + 1),
        ] {
            assert_eq!(ask(&server, &line), 0, "{line}");
        }
    });
    assert_eq!(ask(&server, &format!("LOCK.RELEASE k alice FENCE {fence} REENTRANT id")), 1);
}

#[test]
fn all_ends_the_hold_at_once() {
    for ids in [&[""][..], &["", "one"], &["one"], &["one", "two", "three"]] {
        let server = Server::start();
        let mut fence = 0;
        for id in ids {
            fence = if id.is_empty() { hold(&server, "k", "alice") } else { enter(&server, id) };
        }
        let mut bob = wait_in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
        assert_eq!(ask(&server, &format!("lock.release k alice all fence {fence}")), 1);
        assert_granted(&server, &mut bob, "k", "bob");
        assert_eq!(ask(&server, "LOCK.RELEASE k alice ALL"), 0);
        assert_eq!(entries(&server), 1, "what Alice was in under is nothing to Bob");
    }
}

#[test]
fn a_reentry_never_shortens_the_lease_and_may_raise_it() {
    let server = Server::start();
    fence_of(&ask(&server, "LOCK.ACQUIRE k alice PX 60000"));
    for (line, lease_ms) in [
        ("REENTRANT one PX 10", 60_000),
        ("REENTRANT one PX 10", 60_000),
        // The default of 30 s.
        ("REENTRANT two", 60_000),
        ("REENTRANT three PX 120000", 120_000),
        ("REENTRANT three PX 200000", 200_000),
        ("REENTRANT four EX 1", 200_000),
    ] {
        fence_of(&ask(&server, &format!("LOCK.ACQUIRE k alice {line}")));
        assert_left(&ask(&server, "LOCK.CHECK k alice"), lease_ms);
        let info = ask(&server, "LOCK.INFO k");
        assert_eq!(info.field("holds").items()[0].field("lease-ms"), &lease_ms, "{line}");
    }
    // Nor does leaving.
    assert_eq!(leave(&server, "three"), 1);
    assert_left(&ask(&server, "LOCK.CHECK k alice"), 200_000);
    fence_of(&ask(&server, "LOCK.ACQUIRE k alice REENTRANT five NOEXPIRE"));
    fence_of(&ask(&server, "LOCK.ACQUIRE k alice REENTRANT six PX 10"));
    assert_eq!(ask(&server, "LOCK.CHECK k alice"), -1);
}

#[test]
fn one_lease_ends_them_all() {
    let server = Server::start();
    for id in ["one", "two"] {
        fence_of(&ask(&server, &format!("LOCK.ACQUIRE k alice PX 300 REENTRANT {id}")));
    }
    let mut bob = wait_in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
    assert_granted(&server, &mut bob, "k", "bob");
    assert_eq!((leave(&server, "one"), leave(&server, "two")), (0, 0));
    release(&server, "k", "bob");
    // The next hold of the same owner begins anew.
    hold(&server, "k", "alice");
    assert_eq!(entries(&server), 1);
    release(&server, "k", "alice");
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn the_note_of_the_first_stays_and_a_fence_still_confirms() {
    let server = Server::start();
    let fence = fence_of(&ask(&server, "LOCK.ACQUIRE k alice REENTRANT one NOTE first"));
    assert_eq!(ask(&server, &format!("LOCK.ACQUIRE k alice REENTRANT two NOTE second FENCE {fence}")), fence);
    let info = ask(&server, "LOCK.INFO k");
    assert_eq!(info.field("holds").items()[0].field("note"), &"first");
    assert_changes_nothing(&server, || {
        let other = format!("LOCK.ACQUIRE k alice REENTRANT three FENCE {}", fence + 1);
        assert_eq!(ask(&server, &other), Value::Nil);
        assert_eq!(
            ask(&server, "LOCK.ACQUIRE k alice REENTRANT three LIMIT 2").error().split(' ').next(),
            Some("LOCKMODE")
        );
        assert_eq!(ask(&server, &format!("LOCK.ACQUIRE free alice REENTRANT one FENCE {fence}")), Value::Nil);
    });
    assert_eq!(entries(&server), 2);
}

#[test]
fn readers_and_holders_of_permits_enter_too() {
    let server = Server::start();
    for mode in ["SHARED", "LIMIT 2 PERMITS 1"] {
        for owner in ["alice", "bob"] {
            for id in ["one", "two"] {
                fence_of(&ask(&server, &format!("LOCK.ACQUIRE k {owner} {mode} REENTRANT {id}")));
            }
        }
        let info = ask(&server, "LOCK.INFO k");
        let rows: Vec<(i64, i64)> = info
            .field("holds")
            .items()
            .iter()
            .map(|row| (row.field("permits").int(), row.field("entries").int()))
            .collect();
        assert_eq!(rows, [(1, 2), (1, 2)], "{mode}: no permits more");
        assert_eq!((leave(&server, "one"), leave(&server, "two")), (1, 1));
        assert_eq!(ask(&server, "LOCK.CHECK k alice"), 0);
        assert_eq!(ask(&server, "LOCK.RELEASE k bob ALL"), 1, "{mode}");
    }
}

#[test]
fn withinfo_tells_of_those_who_are_still_in() {
    let server = Server::start();
    let granted = ask(&server, "LOCK.ACQUIRE k alice REENTRANT one PX 60000 WITHINFO");
    let fence = fence_of(granted.field("result"));
    assert_eq!(granted.field("reason"), &"granted");
    let again = ask(&server, "LOCK.ACQUIRE k alice REENTRANT two WITHINFO");
    assert_eq!(
        (again.field("result"), again.field("reason")),
        (&Value::Int(fence), &Value::bulk("already-held"))
    );

    let first = ask(&server, "LOCK.RELEASE k alice REENTRANT one WITHINFO");
    assert_eq!((first.field("result"), first.field("fence")), (&Value::Int(1), &Value::Int(fence)));
    assert_eq!(first.field("reason"), &"still-held");
    assert_left(first.field("lease-ms"), 60_000);

    let unknown = ask(&server, "LOCK.RELEASE k alice REENTRANT one WITHINFO");
    assert_eq!(unknown.field("result"), &0);

    let last = ask(&server, "LOCK.RELEASE k alice REENTRANT two WITHINFO");
    assert_eq!((last.field("result"), last.field("fence")), (&Value::Int(1), &Value::Int(fence)));
    assert_eq!((last.field("reason"), last.field("lease-ms")), (&Value::bulk("released"), &Value::Nil));

    enter(&server, "one");
    enter(&server, "two");
    assert_eq!(ask(&server, "LOCK.RELEASE k alice ALL WITHINFO").field("reason"), &"released");
    let gone = ask(&server, "LOCK.RELEASE k alice REENTRANT one WITHINFO");
    assert_eq!((gone.field("result"), gone.field("reason")), (&Value::Int(0), &Value::bulk("not-held")));
}

#[test]
fn a_wait_enters_under_its_id() {
    let server = Server::start();
    hold(&server, "k", "bob");
    let mut alice = wait_in_line(&server, "LOCK.ACQUIRE k alice REENTRANT one BLOCK 0");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k alice REENTRANT two"), Value::Nil);
    release(&server, "k", "bob");
    let fence = assert_granted(&server, &mut alice, "k", "alice");
    assert_eq!(ask(&server, "LOCK.RELEASE k alice"), TAKEN_WITH_IDS);
    // Whoever is in already does not wait, whoever waits.
    let _bob = wait_in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
    assert_eq!(alice.cmd(&words("LOCK.ACQUIRE k alice REENTRANT two BLOCK 0")), fence);
    assert_eq!((leave(&server, "one"), leave(&server, "two")), (1, 1));
}

#[test]
fn another_wait_of_the_same_owner_takes_the_place_with_its_own_id() {
    let server = Server::start();
    hold(&server, "k", "bob");
    let mut older = wait_in_line(&server, "LOCK.ACQUIRE k alice REENTRANT one BLOCK 0 WITHINFO");
    let mut newer = server.connect();
    newer.send(&words("LOCK.ACQUIRE k alice REENTRANT two BLOCK 0"));
    let report = older.read();
    assert_eq!((report.field("result"), report.field("reason")), (&Value::Nil, &Value::bulk("superseded")));
    assert_eq!(queue(&server, "k"), ["alice"]);
    release(&server, "k", "bob");
    assert_granted(&server, &mut newer, "k", "alice");
    assert_eq!((leave(&server, "one"), leave(&server, "two")), (0, 1));
}

#[test]
fn a_wait_with_an_id_ends_like_any_other() {
    let server = Server::start();
    hold(&server, "k", "bob");
    let mut short = server.connect();
    short.send(&words("LOCK.ACQUIRE k alice REENTRANT one BLOCK 50"));
    assert_eq!(short.read(), Value::Nil);
    drop(wait_in_line(&server, "LOCK.ACQUIRE k alice REENTRANT one BLOCK 0"));
    wait_quiet(&server);
    release(&server, "k", "bob");
    assert_eq!(entries(&server), 0);
}

#[test]
fn a_grant_that_nobody_heard_of_is_taken_back_unless_the_owner_has_entered_since() {
    for enters in [false, true] {
        let server = Server::start();
        hold(&server, "k", "bob");
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
    let fence = hold(&server, "k", "alice");
    fence_of(&ask(&server, "LOCK.ACQUIRE k alice NOEXPIRE"));
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

#[test]
fn ids_are_bytes() {
    let server = Server::start();
    let odd: [&[u8]; 6] = [b"\0", b"a\0b", b"a\0", b"\r\n", b"\xff\xfe", b" id "];
    for id in odd {
        fence_of(&server.cmd(&[&b"LOCK.ACQUIRE"[..], b"k", b"alice", b"REENTRANT", id]));
    }
    assert_eq!(entries(&server), 6);
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    for id in odd {
        assert_eq!(server.cmd(&[&b"LOCK.RELEASE"[..], b"k", b"alice", b"REENTRANT", id]), 1);
    }
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn in_a_transaction_and_in_a_script() {
    let server = Server::start();
    let lines = [
        "LOCK.ACQUIRE k alice REENTRANT one BLOCK 0",
        "LOCK.ACQUIRE k alice REENTRANT two BLOCK 0",
        "LOCK.RELEASE k alice",
        "LOCK.RELEASE k alice REENTRANT one",
        "LOCK.ACQUIRE k bob REENTRANT one BLOCK 0",
    ]
    .map(words);
    let replies = transaction(&mut server.connect(), &lines.each_ref().map(Vec::as_slice));
    assert_eq!(fence_of(&replies[0]), fence_of(&replies[1]));
    assert_eq!(replies[2], TAKEN_WITH_IDS);
    assert_eq!((&replies[3], &replies[4]), (&Value::Int(1), &Value::Nil));
    let script = "redis.call('LOCK.ACQUIRE', KEYS[1], 'alice', 'REENTRANT', 'three')
                  return {redis.call('LOCK.RELEASE', KEYS[1], 'alice', 'REENTRANT', 'two'),
                          redis.call('LOCK.RELEASE', KEYS[1], 'alice', 'ALL')}";
    assert_eq!(eval(&server, script, &["k"]), Value::Array(vec![Value::Int(1), Value::Int(1)]));
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn watch_and_events_tell_of_the_hold_and_not_of_its_ids() {
    let server = Server::start();
    let mut events = Events::listen(&server);
    assert!(!goes_through(&server, || enter(&server, "one")));
    assert_eq!(events.heard(), ["k lock.acquired"]);
    assert!(goes_through(&server, || enter(&server, "two")), "the holder is the same");
    assert!(goes_through(&server, || leave(&server, "one")));
    assert!(events.heard().is_empty());
    assert!(!goes_through(&server, || leave(&server, "two")));
    assert_eq!(events.heard(), ["k lock.released"]);
}
