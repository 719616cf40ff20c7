//! Locks in cooldown after a hold, by MINHOLD or by lock.lock-delay-ms: nobody gets them, whoever waits waits, and the
//! cooldown ends by itself or by an operator.

use std::time::{Duration, Instant};

use super::assert_lost;
use crate::group::line_up;
use crate::onlookers::goes_through;
use crate::steps::{
    acquire, ask, assert_granted, fence_of, granted, holder, release, transaction, wait_for_lock, waiting,
    words,
};
use crate::support::{wait_until, Server, Value};
use crate::tied::kill;
use crate::traffic::{at_once, lock_stat};

/// A server whose locks have a cooldown of so long after ends that their owners did not want.
fn with_delay(ms: u32) -> Server {
    Server::with(&[format!("lock.lock-delay-ms {ms}")])
}

/// Longer than any test takes.
const LONG: u32 = 600_000;

/// The cooldown of `k`: the reason, and what is left; nothing if it does not.
fn cooldown(server: &Server) -> Option<(String, i64)> {
    let info = ask(server, "LOCK.INFO k");
    let cooling = info.field("cooling").items();
    assert!(cooling.len() < 2, "{info:?}");
    let cooldown = cooling.first()?;
    Some((cooldown.field("reason").text(), cooldown.field("left-ms").int()))
}

#[track_caller]
fn assert_cooldown(server: &Server, reason: &str, ms: i64) {
    let (why, left) = cooldown(server).expect("a cooldown");
    assert_eq!(why, reason);
    assert!(left <= ms && left > ms - 30_000, "{left} ms of {ms}");
}

#[test]
fn nobody_gets_a_lock_in_cooldown() {
    let server = Server::start();
    acquire(&server, "k alice MINHOLD 600000");
    release(&server, "k", "alice");
    assert_cooldown(&server, "min-hold", 600_000);
    for line in [
        "LOCK.ACQUIRE k alice",
        "LOCK.ACQUIRE k bob",
        "LOCK.ACQUIRE k bob SHARED",
        "LOCK.ACQUIRE k bob LIMIT 5",
        "LOCK.ACQUIRE k bob BLOCK 20",
        "LOCK.ACQUIRE k bob LIMIT 5 BLOCK 20",
        "LOCK.MACQUIRE bob 2 k free",
        "LOCK.MACQUIRE bob 2 k free BLOCK 20",
        "LOCK.TRANSFER k alice bob",
        "LOCK.CONVERT k alice SHARED",
    ] {
        assert_eq!(ask(&server, line), Value::Nil, "{line}");
    }
    for line in ["LOCK.RELEASE k alice", "LOCK.RENEW k alice", "LOCK.CHECK k alice", "LOCK.SETLIMIT k 5"] {
        assert_eq!(ask(&server, line), 0, "{line}");
    }
    assert!(ask(&server, "LOCK.GUARD k alice * PING").error().starts_with("NOTHELD "));
    assert_eq!((holder(&server, "k"), ask(&server, "EXISTS free").int()), (None, 0));
    assert_cooldown(&server, "min-hold", 600_000);
}

#[test]
fn whoever_waits_has_it_when_the_cooldown_is_over() {
    let server = Server::start();
    let start = Instant::now();
    acquire(&server, "k alice MINHOLD 400");
    let mut first = wait_for_lock(&server, "k", "bob");
    release(&server, "k", "alice");
    let mut second = wait_for_lock(&server, "k", "carol");
    assert_eq!((holder(&server, "k"), waiting(&server, "k")), (None, 2));
    assert_granted(&server, &mut first, "k", "bob");
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    assert_eq!(cooldown(&server), None);
    release(&server, "k", "bob");
    assert_granted(&server, &mut second, "k", "carol");
}

#[test]
fn a_cooldown_that_is_over_before_the_hold_is_none() {
    let server = Server::start();
    acquire(&server, "k alice MINHOLD 20");
    wait_until("the time to pass", || {
        ask(&server, "LOCK.INFO k").field("holds").items()[0].field("min-left-ms") == &0
    });
    release(&server, "k", "alice");
    assert_eq!(ask(&server, "EXISTS k"), 0);
    assert_eq!(lock_stat(&server, "lease_index_entries"), 0);
}

#[test]
fn a_lease_may_end_before_minhold_does() {
    let server = Server::start();
    acquire(&server, "k alice PX 20 MINHOLD 600000");
    wait_until("the lease to be over", || cooldown(&server).is_some());
    assert_cooldown(&server, "min-hold", 600_000);
    assert_lost(&server, "alice", "expired");
    let late = ask(&server, "LOCK.RELEASE k alice WITHINFO");
    assert_eq!((late.field("result"), late.field("reason").text()), (&Value::Int(0), "expired".to_owned()));
}

/// A way for a hold of `alice` on `k` to end, and what it is called.
type End = (fn(&Server), &'static str);

const ENDS: [End; 4] = [
    (
        |server| {
            acquire(server, "k alice PX 20");
        },
        "expired",
    ),
    (
        |server| {
            acquire(server, "k alice NOEXPIRE MAXHOLD 20");
        },
        "max-hold",
    ),
    (
        |server| {
            let mut conn = server.connect();
            fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE TIED 0")));
            kill(server, &mut conn);
        },
        "connection-closed",
    ),
    (
        |server| {
            acquire(server, "k alice");
            assert_eq!(ask(server, "LOCK.BREAK k"), 1);
        },
        "broken",
    ),
];

#[test]
fn a_lock_has_a_cooldown_after_ends_that_the_owner_may_not_know_of() {
    let server = with_delay(LONG);
    for (end, reason) in ENDS {
        end(&server);
        wait_until(reason, || cooldown(&server).is_some());
        assert_cooldown(&server, "lock-delay", i64::from(LONG));
        assert_lost(&server, "alice", reason);
        let refused = ask(&server, "LOCK.ACQUIRE k bob WITHINFO");
        assert_eq!(
            (refused.field("result"), refused.field("reason").text()),
            (&Value::Nil, "lock-delay".to_owned())
        );
        assert_eq!(ask(&server, "LOCK.BREAK k"), 1, "the cooldown ends");
        assert_eq!(ask(&server, "EXISTS k"), 0);
    }
}

#[test]
fn a_lock_has_no_cooldown_after_other_ends() {
    let server = with_delay(LONG);
    for line in
        ["LOCK.RELEASE k alice", "LOCK.RELEASE k alice ALL", "DEL k", "FLUSHALL", "LOCK.MRELEASE alice 1 k"]
    {
        acquire(&server, "k alice");
        ask(&server, line);
        assert_eq!(cooldown(&server), None, "{line}");
        assert_eq!(ask(&server, "EXISTS k"), 0, "{line}");
    }
    acquire(&server, "k alice");
    granted(&server, "LOCK.TRANSFER k alice bob");
    granted(&server, "LOCK.STEAL k carol");
    assert_eq!((cooldown(&server), holder(&server, "k").as_deref()), (None, Some("carol")));
}

#[test]
fn the_longer_cooldown_counts() {
    let server = with_delay(300_000);
    for (minhold, reason, ms) in [("200000", "lock-delay", 300_000), ("500000", "min-hold", 500_000)] {
        acquire(&server, &format!("k alice PX 20 MINHOLD {minhold}"));
        wait_until("the end of the lease", || cooldown(&server).is_some());
        assert_cooldown(&server, reason, ms);
        ask(&server, "LOCK.BREAK k");
    }
}

#[test]
fn the_setting_is_for_ends_from_then_on() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "CONFIG SET lock.lock-delay-ms 600000"), "OK");
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1);
    assert_eq!(ask(&server, "CONFIG SET lock.lock-delay-ms 0"), "OK");
    assert_cooldown(&server, "lock-delay", 600_000);
    acquire(&server, "l alice");
    assert_eq!(ask(&server, "LOCK.BREAK l"), 1);
    assert_eq!(ask(&server, "EXISTS l"), 0);
    assert!(ask(&server, "CONFIG SET lock.lock-delay-ms 3600001").error().starts_with("ERR "));
}

#[test]
fn whoever_waits_through_a_delay() {
    let server = with_delay(300);
    acquire(&server, "k alice");
    let mut next = wait_for_lock(&server, "k", "bob");
    let start = Instant::now();
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1);
    next.expect_nothing_pending();
    assert_granted(&server, &mut next, "k", "bob");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
}

#[test]
fn an_operator_ends_a_cooldown() {
    let server = with_delay(LONG);
    // A break of the hold is an end like others; the next one is of the cooldown. Only that of one owner, if it is named.
    for owner in ["ann", "ben"] {
        acquire(&server, &format!("k {owner} SHARED MINHOLD 600000"));
        release(&server, "k", owner);
    }
    let mut next = wait_for_lock(&server, "k", "cleo");
    assert_eq!(ask(&server, "LOCK.BREAK k OWNER nobody"), 0);
    assert_eq!(ask(&server, "LOCK.BREAK k OWNER ann"), 1);
    assert_cooldown(&server, "min-hold", 600_000);
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1);
    assert_granted(&server, &mut next, "k", "cleo");
    // A hold and a cooldown of another go in one.
    release(&server, "k", "cleo");
    acquire(&server, "k ann LIMIT 2 MINHOLD 600000");
    acquire(&server, "k ben LIMIT 2");
    release(&server, "k", "ann");
    assert_eq!(ask(&server, "LOCK.BREAK k"), 2);
    assert_cooldown(&server, "lock-delay", i64::from(LONG));
    // A thief need not wait.
    let fence = granted(&server, "LOCK.STEAL k eve");
    assert_eq!((cooldown(&server), holder(&server, "k").as_deref()), (None, Some("eve")));
    assert!(fence > 0);
}

#[test]
fn a_cooldown_goes_with_its_key() {
    let server = Server::start();
    for line in ["DEL k", "UNLINK k", "FLUSHALL", "FLUSHDB ASYNC", "SET k text"] {
        acquire(&server, "k alice MINHOLD 600000");
        release(&server, "k", "alice");
        assert_cooldown(&server, "min-hold", 600_000);
        let mut next = wait_for_lock(&server, "k", "bob");
        ask(&server, line);
        if line.starts_with("SET") {
            assert!(next.read().error().starts_with("WRONGTYPE "));
            ask(&server, "DEL k");
        } else {
            assert_granted(&server, &mut next, "k", "bob");
            release(&server, "k", "bob");
        }
        wait_until(&format!("{line}: nothing to be left"), || lock_stat(&server, "lease_index_entries") == 0);
        assert_eq!(lock_stat(&server, "vanished"), 0, "nobody has lost a hold by that");
    }
}

#[test]
fn a_cooldown_moves_with_its_key() {
    let server = Server::start();
    for (line, db) in [("RENAME l k", 0), ("MOVE k 5", 5), ("SWAPDB 0 5", 5)] {
        let key = if line.starts_with("RENAME") { "l" } else { "k" };
        acquire(&server, &format!("{key} alice MINHOLD 500"));
        release(&server, key, "alice");
        assert!(!matches!(ask(&server, line), Value::Error(_)), "{line}");
        let mut there = server.connect().select(db);
        assert_eq!(there.cmd(&words("LOCK.ACQUIRE k bob")), Value::Nil, "{line}");
        // It ends there by itself.
        wait_until(&format!("{line}: the cooldown to be over"), || there.cmd(&words("EXISTS k")) == 0);
        assert_eq!(lock_stat(&server, "lease_index_entries"), 0, "{line}");
    }
}

#[test]
fn an_upgrade_waits_for_a_cooldown() {
    let server = Server::start();
    acquire(&server, "k ann SHARED MINHOLD 400");
    acquire(&server, "k ben SHARED");
    release(&server, "k", "ann");
    let refused = ask(&server, "LOCK.CONVERT k ben EXCLUSIVE WITHINFO");
    assert_eq!(
        (refused.field("result"), refused.field("reason").text()),
        (&Value::Nil, "min-hold".to_owned())
    );
    acquire(&server, "k cleo SHARED");
    release(&server, "k", "cleo");
    let mut ben = line_up(&server, server.connect(), "LOCK.CONVERT k ben EXCLUSIVE BLOCK 0");
    ben.expect_nothing_pending();
    assert_granted(&server, &mut ben, "k", "ben");
    assert_eq!(ask(&server, "LOCK.INFO k").field("mode"), &"exclusive");
}

#[test]
fn what_watch_sees_of_a_cooldown() {
    let server = Server::start();
    acquire(&server, "k alice MINHOLD 600000");
    assert!(!goes_through(&server, || release(&server, "k", "alice")));
    assert!(goes_through(&server, || ask(&server, "LOCK.ACQUIRE k bob")));
    assert!(!goes_through(&server, || ask(&server, "LOCK.BREAK k")));
}

#[test]
fn during_a_pause_a_cooldown_goes_on() {
    let server = Server::start();
    acquire(&server, "k alice MINHOLD 300");
    let mut next = wait_for_lock(&server, "k", "bob");
    at_once(&server, &[&words("LOCK.RELEASE k alice"), &words("CLIENT PAUSE 20000 WRITE")]);
    wait_until("the cooldown to be over", || cooldown(&server).is_none());
    next.expect_nothing_pending();
    assert_eq!(ask(&server, "EXISTS k"), 1, "nobody may say so");
    ask(&server, "CLIENT UNPAUSE");
    assert_granted(&server, &mut next, "k", "bob");
}

#[test]
fn in_a_transaction() {
    let server = Server::start();
    let replies = transaction(
        &mut server.connect(),
        &[
            &words("LOCK.ACQUIRE k alice MINHOLD 600000 MAXHOLD 5"),
            &words("DEBUG SLEEP 0.02"),
            &words("LOCK.RENEW k alice WITHINFO"),
            &words("LOCK.ACQUIRE k bob"),
            &words("LOCK.BREAK k"),
            &words("LOCK.ACQUIRE k bob"),
        ],
    );
    assert_eq!(replies[2].field("reason"), &"max-hold");
    assert_eq!((&replies[3], &replies[4]), (&Value::Nil, &Value::Int(1)));
    assert!(fence_of(&replies[5]) > fence_of(&replies[0]));
}
