//! Waiting without taking: `LOCK.AWAIT` for FREE and CHANGED, and how such a wait ends. What a holder hears and how it is
//! asked (`wanted`), what happens to keys and clients meanwhile (`disturbed`), copies and moves (`elsewhere`), many at once
//! (`crowds`), ends and rests that a hold was bound to (`life`) and the recipes of the documentation (`recipes`) have files of their own.

use std::time::{Duration, Instant};

use crate::group::line_up;
use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, assert_punctual, eval, fence_of, granted, in_line,
    observing, release, set_string, transaction, wait_for_lock, waiting, watch, words, WRONGTYPE,
};
use crate::support::{Connection, Server, Value};

mod crowds;
mod disturbed;
mod elsewhere;
mod life;
mod recipes;
mod wanted;

#[test]
fn what_is_so_is_told_at_once() {
    let server = Server::start();
    for line in ["LOCK.AWAIT k FREE", "LOCK.AWAIT k free BLOCK 0", "LOCK.AWAIT k CHANGED FENCE 7 BLOCK 0"] {
        assert_eq!(ask(&server, line), 1, "{line}");
    }
    let fence = acquire(&server, "k alice");
    for (line, expected) in [
        ("LOCK.AWAIT k FREE".to_owned(), Value::Nil),
        (format!("LOCK.AWAIT k CHANGED FENCE {fence}"), Value::Nil),
        (format!("LOCK.AWAIT k CHANGED FENCE {}", fence + 1), Value::Int(1)),
        (format!("LOCK.AWAIT k CHANGED FENCE {} BLOCK 0", fence - 1), Value::Int(1)),
    ] {
        assert_eq!(ask(&server, &line), expected, "{line}");
    }
    assert_eq!(observing(&server), 0);
}

#[test]
fn free_is_told_when_the_last_hold_ends() {
    let server = Server::start();
    for (take, give) in [
        ("LOCK.ACQUIRE k alice", "LOCK.RELEASE k alice"),
        ("LOCK.ACQUIRE k alice NOEXPIRE", "LOCK.BREAK k"),
        ("LOCK.ACQUIRE k alice PX 300", "PING"),
        ("LOCK.MACQUIRE alice 2 k l", "LOCK.MRELEASE alice 2 l k"),
    ] {
        granted(&server, take);
        let mut observer = watch(&server, "LOCK.AWAIT k FREE BLOCK 0");
        ask(&server, give);
        assert_eq!(observer.read(), 1, "{give}");
    }
    let readers = ["alice", "bob"].map(|name| format!("LOCK.ACQUIRE k {name} SHARED"));
    readers.iter().for_each(|line| assert!(granted(&server, line) > 0));
    let mut observer = watch(&server, "LOCK.AWAIT k FREE BLOCK 0");
    release(&server, "k", "alice");
    observer.expect_nothing_pending();
    release(&server, "k", "bob");
    assert_eq!(observer.read(), 1);
    assert_eq!(server.info_int("lock_stats", "lock_observed"), 5);
}

#[test]
fn a_lock_that_is_handed_over_was_never_free() {
    let server = Server::start();
    acquire(&server, "k alice PX 300");
    let mut bob = wait_for_lock(&server, "k", "bob");
    let mut group = line_up(&server, server.connect(), "LOCK.MACQUIRE group 2 k l BLOCK 0");
    let mut observer = watch(&server, "LOCK.AWAIT k FREE BLOCK 0");
    // By the end of a lease, by a release, and to one who takes several locks in that step.
    assert_granted(&server, &mut bob, "k", "bob");
    release(&server, "k", "bob");
    fence_of(&group.read());
    assert_eq!(observing(&server), 1);
    observer.expect_nothing_pending();
    assert_eq!(ask(&server, "LOCK.MRELEASE group 2 k l"), 2);
    assert_eq!(observer.read(), 1);
}

#[test]
fn a_lock_that_is_kept_for_somebody_is_free() {
    let server = Server::start();
    acquire(&server, "k alice");
    acquire(&server, "l bob");
    let _group = line_up(&server, server.connect(), "LOCK.MACQUIRE group 2 k l BLOCK 0");
    let mut observer = watch(&server, "LOCK.AWAIT k FREE BLOCK 0");
    release(&server, "k", "alice");
    assert_eq!(observer.read(), 1);
    assert_eq!(ask(&server, "LOCK.AWAIT k FREE"), 1);
}

#[test]
fn changed_under_a_fence_is_told_when_that_hold_ends() {
    let server = Server::start();
    for line in [
        "LOCK.RELEASE k alice",
        "LOCK.TRANSFER k alice bob",
        "LOCK.STEAL k bob",
        "LOCK.BREAK k",
        "LOCK.CONVERT k alice EXCLUSIVE",
    ] {
        let fence = acquire(&server, "k alice SHARED");
        let mut observer = watch(&server, &format!("LOCK.AWAIT k CHANGED FENCE {fence} BLOCK 0"));
        ask(&server, line);
        assert_eq!(observer.read(), 1, "{line}");
        ask(&server, "LOCK.BREAK k");
    }
}

#[test]
fn of_several_holds_the_newest_counts() {
    let server = Server::start();
    acquire(&server, "k bob SHARED");
    let fence = acquire(&server, "k alice SHARED PX 400");
    let mut observers = [format!("CHANGED BLOCK 0 FENCE {fence}"), "CHANGED BLOCK 0".into()]
        .map(|what| watch(&server, &format!("LOCK.AWAIT k {what}")));
    release(&server, "k", "bob");
    assert_eq!(observing(&server), 2, "an older one has ended");
    observers.iter_mut().for_each(Connection::expect_nothing_pending);
    observers
        .iter_mut()
        .for_each(|observer| assert_eq!(observer.read(), 1, "the lease of the newest has ended"));
}

#[test]
fn changed_without_a_fence_is_told_at_the_next_change_of_holders() {
    let server = Server::start();
    for (before, line) in [
        ("PING", "LOCK.ACQUIRE k bob"),
        ("LOCK.ACQUIRE k alice", "LOCK.RELEASE k alice"),
        ("LOCK.ACQUIRE k alice", "LOCK.TRANSFER k alice bob"),
        ("LOCK.ACQUIRE k alice", "LOCK.STEAL k alice"),
        ("LOCK.ACQUIRE k alice SHARED", "LOCK.ACQUIRE k bob SHARED"),
        ("LOCK.ACQUIRE k alice SHARED", "LOCK.CONVERT k alice EXCLUSIVE"),
        ("LOCK.ACQUIRE k alice PX 200", "PING"),
    ] {
        ask(&server, before);
        let mut observer = watch(&server, "LOCK.AWAIT k CHANGED BLOCK 0");
        assert!(!matches!(ask(&server, line), Value::Error(_) | Value::Nil), "{line}");
        assert_eq!(observer.read(), 1, "{before}, then {line}");
        ask(&server, "LOCK.BREAK k");
    }
}

#[test]
fn what_leaves_the_holders_as_they_are_is_no_change() {
    let server = Server::start();
    for (mode, lines) in [
        (
            "",
            &["LOCK.ACQUIRE k alice PX 60000", "LOCK.RENEW k alice", "LOCK.ACQUIRE k alice REENTRANT x"][..],
        ),
        ("", &["LOCK.ACQUIRE k bob", "LOCK.RELEASE k bob", "LOCK.REVOKE k", "LOCK.INFO k"]),
        ("", &["LOCK.CONVERT k alice SHARED"]),
        ("LIMIT 3", &["LOCK.SETLIMIT k 5"]),
    ] {
        ask(&server, &format!("LOCK.ACQUIRE k alice {mode}"));
        let mut observer = watch(&server, "LOCK.AWAIT k CHANGED BLOCK 0");
        for line in lines {
            assert!(!matches!(ask(&server, line), Value::Error(_)), "{line}");
        }
        assert_eq!(observing(&server), 1, "{lines:?}");
        observer.expect_nothing_pending();
        ask(&server, "LOCK.BREAK k");
        assert_eq!(observer.read(), 1);
    }
}

#[test]
fn changed_sees_a_hand_off() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    let mut bob = wait_for_lock(&server, "k", "bob");
    let mut under = watch(&server, &format!("LOCK.AWAIT k CHANGED FENCE {fence} BLOCK 0"));
    let mut any = watch(&server, "LOCK.AWAIT k CHANGED BLOCK 0");
    release(&server, "k", "alice");
    assert_granted(&server, &mut bob, "k", "bob");
    assert_eq!(under.read(), 1);
    assert_eq!(any.read(), 1);
}

#[test]
fn a_change_needs_something_to_compare_with() {
    let server = Server::start();
    let refused = "BADARG CHANGED needs FENCE, to compare with a hold, or BLOCK, to wait for the next change";
    assert_eq!(ask(&server, "LOCK.AWAIT k CHANGED"), refused);
}

#[test]
fn a_watch_that_is_over_is_nil() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    for what in ["FREE", "CHANGED", &format!("CHANGED FENCE {fence}"), "alice WANTED"] {
        let mut observer = server.connect();
        observer.send(&words(&format!("LOCK.AWAIT k {what} BLOCK 20")));
        observer.expect_bytes(b"$-1\r\n");
        let mut observer = server.connect().hello3();
        observer.send(&words(&format!("LOCK.AWAIT k {what} BLOCK 1")));
        observer.expect_bytes(b"_\r\n");
    }
    assert_eq!(observing(&server), 0);
    assert_eq!(server.info_int("lock_stats", "lock_unobserved"), 8);
}

#[test]
fn watches_end_on_time() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_watches_end_on_time(&server);
}

/// Somebody holds `k` meanwhile.
fn assert_watches_end_on_time(server: &Server) {
    assert_punctual(server, || {
        let mut watches: Vec<_> = (0..120)
            .map(|n| {
                let (mut conn, wait) = (server.connect(), Duration::from_millis(100 + 4 * n));
                let due = Instant::now() + wait;
                conn.send(&["LOCK.AWAIT", "k", "FREE", "BLOCK", &wait.as_millis().to_string()]);
                (conn, due)
            })
            .collect();
        let end = |(conn, due): &mut (Connection, Instant)| {
            assert_eq!(conn.read(), Value::Nil);
            Instant::now().checked_duration_since(*due)
        };
        watches.iter_mut().map(end).collect()
    });
}

#[test]
fn an_observer_is_in_nobodys_way() {
    let server = Server::start();
    acquire(&server, "k alice");
    let _free = watch(&server, "LOCK.AWAIT k FREE BLOCK 0");
    assert_eq!(waiting(&server, "k"), 0);
    release(&server, "k", "alice");
    // A try is not overtaken by it, and no hold is made for it.
    acquire(&server, "k bob");
    let mut carol = wait_for_lock(&server, "k", "carol");
    let _again = watch(&server, "LOCK.AWAIT k FREE BLOCK 0");
    release(&server, "k", "bob");
    assert_granted(&server, &mut carol, "k", "carol");
}

#[test]
fn where_nothing_can_wait_it_tells_what_is_so() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    let changed = format!("LOCK.AWAIT k CHANGED FENCE {} BLOCK 0", fence + 1);
    let lines = [
        "LOCK.AWAIT k FREE BLOCK 0",
        "LOCK.AWAIT k CHANGED BLOCK 0",
        &changed,
        "LOCK.AWAIT k alice WANTED BLOCK 0",
        "LOCK.AWAIT l FREE BLOCK 0",
    ];
    let commands: Vec<Vec<&str>> = lines.iter().map(|line| words(line)).collect();
    let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
    let expected = [Value::Nil, Value::Nil, Value::Int(1), Value::Nil, Value::Int(1)];
    assert_eq!(transaction(&mut server.connect(), &commands), expected);
    for (line, expected) in lines.iter().zip(expected) {
        let script = format!("return redis.call('{}')", line.replace(' ', "','"));
        assert_eq!(eval(&server, &script, &["k"]), expected, "{line}");
    }
    assert_eq!(observing(&server), 0);
}

#[test]
fn watching_changes_nothing() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    assert_changes_nothing(&server, || {
        for line in [
            "LOCK.AWAIT k FREE",
            "LOCK.AWAIT k FREE BLOCK 10",
            "LOCK.AWAIT k CHANGED BLOCK 10",
            &format!("LOCK.AWAIT k CHANGED FENCE {fence} BLOCK 10"),
            "LOCK.AWAIT k alice WANTED BLOCK 10",
        ] {
            assert_eq!(ask(&server, line), Value::Nil, "{line}");
        }
    });
}

#[test]
fn of_another_type_nothing_is_told() {
    let server = Server::start();
    set_string(&server, "k");
    for what in ["FREE", "FREE BLOCK 0", "CHANGED BLOCK 0", "CHANGED FENCE 7", "alice WANTED"] {
        assert_eq!(ask(&server, &format!("LOCK.AWAIT k {what}")), WRONGTYPE, "{what}");
    }
}

#[test]
fn there_is_room_for_so_many() {
    let server = Server::start();
    assert_eq!(ask(&server, "CONFIG SET lock.max-waiters 4 lock.max-waiters-per-key 2"), "OK");
    acquire(&server, "k alice");
    acquire(&server, "l alice");
    let mut observers = [(); 2].map(|()| watch(&server, "LOCK.AWAIT k FREE BLOCK 0"));
    let full = ask(&server, "LOCK.AWAIT k FREE BLOCK 0");
    assert!(full.error().starts_with("QUEUEFULL 2 clients wait for this key"), "{full:?}");
    // Those who want the lock have a room of their own, and share that of the server.
    let _bob = wait_for_lock(&server, "k", "bob");
    let _carol = in_line(&server, "LOCK.ACQUIRE k carol BLOCK 0");
    for line in ["LOCK.AWAIT l FREE BLOCK 0", "LOCK.ACQUIRE l bob BLOCK 0"] {
        let full = ask(&server, line);
        assert!(full.error().starts_with("QUEUEFULL 4 clients wait in this server"), "{line}: {full:?}");
    }
    for kind in ["waiter", "observer"] {
        let bytes = server.info_int("lock_state", &format!("lock_{kind}_bytes"));
        assert!((2 * 36_000..2 * 38_000).contains(&bytes), "{bytes} for two clients");
    }
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1);
    assert_eq!(observing(&server), 2, "bob has it now");
    observers.iter_mut().for_each(Connection::expect_nothing_pending);
}
