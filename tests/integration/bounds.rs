//! MAXHOLD, MINHOLD and lock.lock-delay-ms: what bounds a hold beside its lease, and cooldowns. Here the bounds of a
//! hold; cooldowns, copies, what is shown and refusals have a file each.

mod cooldown;
mod copies;
mod refusals;
mod shown;

use std::time::{Duration, Instant};

use crate::group::line_up;
use crate::operate::shown;
use crate::steps::{
    acquire, ask, assert_granted, assert_left, fence_of, granted, holder, in_line, release, wait_for_lock,
    words,
};
use crate::support::{wait_until, Server, Value};
use crate::traffic::{left, lock_stat};

/// The owner does not hold `k`, and this is why.
#[track_caller]
fn assert_lost(server: &Server, owner: &str, reason: &str) {
    assert_eq!(ask(server, &format!("LOCK.CHECK k {owner} WITHINFO")).field("reason"), &reason);
}

#[test]
fn maxhold_ends_what_is_renewed() {
    let server = Server::start();
    let start = Instant::now();
    acquire(&server, "k alice PX 20000 MAXHOLD 500");
    let mut next = wait_for_lock(&server, "k", "bob");
    wait_until("the end, renewed as it is", || {
        let left_ms = ask(&server, "LOCK.RENEW k alice PX 20000").int();
        assert!((0..=500).contains(&left_ms), "the reply is what is really left: {left_ms}");
        left_ms == 0
    });
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert_granted(&server, &mut next, "k", "bob");
    assert_lost(&server, "alice", "max-hold");
    assert_eq!((lock_stat(&server, "expired"), lock_stat(&server, "closed")), (1, 0));
}

#[test]
fn maxhold_ends_what_has_no_lease() {
    let server = Server::start();
    acquire(&server, "k alice NOEXPIRE MAXHOLD 300");
    for line in ["LOCK.RENEW k alice NOEXPIRE", "LOCK.ACQUIRE k alice NOEXPIRE", "LOCK.RENEW k alice"] {
        ask(&server, line);
        assert!((1..=300).contains(&left(&server, "k", "alice")), "{line}");
        assert_eq!(shown(&server, "lease-ms"), -1, "{line}");
    }
    wait_until("the end", || ask(&server, "EXISTS k") == 0);
    assert_lost(&server, "alice", "max-hold");
    assert_eq!(lock_stat(&server, "lease_index_entries"), 0);
}

#[test]
fn a_lease_that_is_over_sooner_is_over() {
    let server = Server::start();
    acquire(&server, "k alice PX 30 MAXHOLD 600000");
    wait_until("the end", || holder(&server, "k").is_none());
    assert_lost(&server, "alice", "expired");
    // Of a lease that is cut short it is still the lease.
    acquire(&server, "k alice MAXHOLD 600000");
    assert_eq!(ask(&server, "LOCK.RENEW k alice PX 20"), 20);
    wait_until("the end", || holder(&server, "k").is_none());
    assert_lost(&server, "alice", "expired");
}

#[test]
fn bounds_count_from_the_grant() {
    let server = Server::start();
    acquire(&server, "k alice PX 700");
    let wait = "LOCK.ACQUIRE k bob NOEXPIRE MAXHOLD 50000 MINHOLD 40000 BLOCK 0";
    let mut bob = line_up(&server, server.connect(), wait);
    assert_granted(&server, &mut bob, "k", "bob");
    let waited = 600;
    assert!(shown(&server, "max-left-ms").int() > 50_000 - waited, "the wait is no part of it");
    assert!(shown(&server, "min-left-ms").int() > 40_000 - waited);
}

#[test]
fn the_same_owner_again_changes_no_bounds() {
    let server = Server::start();
    acquire(&server, "k alice PX 20000 MAXHOLD 400000 MINHOLD 300000");
    for line in [
        "LOCK.ACQUIRE k alice PX 30000",
        "LOCK.ACQUIRE k alice PX 30000 MAXHOLD 5 MINHOLD 5",
        "LOCK.ACQUIRE k alice MAXHOLD 900000 MINHOLD 900000",
        "LOCK.ACQUIRE k alice REENTRANT inner MAXHOLD 5",
        "LOCK.RENEW k alice PX 40000",
    ] {
        assert!(ask(&server, line).int() > 0, "{line}");
        assert_left(&shown(&server, "max-left-ms"), 400_000);
        assert_left(&shown(&server, "min-left-ms"), 300_000);
    }
    // Nor does it bound what was not.
    acquire(&server, "l alice PX 20000");
    acquire(&server, "l alice PX 20000 MAXHOLD 5");
    let info = ask(&server, "LOCK.INFO l");
    assert_eq!(info.field("holds").items()[0].field("max-left-ms"), &-1);
}

#[test]
fn each_hold_has_its_own_bounds() {
    let server = Server::start();
    acquire(&server, "k ann SHARED NOEXPIRE MAXHOLD 100");
    acquire(&server, "k ben SHARED NOEXPIRE MAXHOLD 500000");
    acquire(&server, "k cleo SHARED NOEXPIRE");
    wait_until("the first to end", || left(&server, "k", "ann") == 0);
    assert_left(&Value::Int(left(&server, "k", "ben")), 500_000);
    assert_eq!(left(&server, "k", "cleo"), -1);
    // And of a semaphore: permits that rest are missing for as long as they rest.
    acquire(&server, "s ann LIMIT 3 PERMITS 2 MINHOLD 500");
    acquire(&server, "s ben LIMIT 3");
    release(&server, "s", "ann");
    let mut next = line_up(&server, server.connect(), "LOCK.ACQUIRE s cleo LIMIT 3 BLOCK 0");
    release(&server, "s", "ben");
    fence_of(&next.read());
    assert_eq!(
        ask(&server, "LOCK.ACQUIRE s dora LIMIT 3"),
        Value::Nil,
        "two of three rest, and one is taken"
    );
    wait_until("the rest to be over", || ask(&server, "LOCK.ACQUIRE s dora LIMIT 3 PERMITS 2") != Value::Nil);
}

#[test]
fn several_locks_are_bounded_alike() {
    let server = Server::start();
    let line = "LOCK.MACQUIRE alice 2 k l NOEXPIRE MAXHOLD 300000 MINHOLD 200000 TIED 100000";
    let mut conn = server.connect();
    fence_of(&conn.cmd(&words(line)));
    for key in ["k", "l"] {
        let info = server.cmd(&["LOCK.INFO", key]);
        let hold = &info.field("holds").items()[0];
        assert_left(hold.field("max-left-ms"), 300_000);
        assert_left(hold.field("min-left-ms"), 200_000);
        assert_eq!((hold.field("grace-ms").int(), hold.field("client-id").int()), (100_000, conn.id()));
    }
    assert_eq!(ask(&server, "LOCK.MRELEASE alice 2 k l"), 2);
    for key in ["k", "l"] {
        assert_eq!(server.cmd(&["LOCK.INFO", key]).field("mode"), &"cooling");
        assert_eq!(server.cmd(&["LOCK.ACQUIRE", key, "bob"]), Value::Nil);
    }
    assert_eq!(ask(&server, "LOCK.MACQUIRE bob 2 k l"), Value::Nil);
}

#[test]
fn a_conversion_keeps_the_bounds() {
    let server = Server::start();
    acquire(&server, "k alice SHARED NOEXPIRE MAXHOLD 300000 MINHOLD 200000");
    for mode in ["EXCLUSIVE", "SHARED", "EXCLUSIVE"] {
        granted(&server, &format!("LOCK.CONVERT k alice {mode}"));
        assert_left(&shown(&server, "max-left-ms"), 300_000);
        assert_left(&shown(&server, "min-left-ms"), 200_000);
    }
    release(&server, "k", "alice");
    assert_eq!(
        ask(&server, "LOCK.ACQUIRE k bob SHARED"),
        Value::Nil,
        "its cooldown is of the mode that it had at last"
    );
}

#[test]
fn a_transfer_hands_the_bounds_on() {
    let server = Server::start();
    acquire(&server, "k alice NOEXPIRE MAXHOLD 300000 MINHOLD 200000");
    granted(&server, "LOCK.TRANSFER k alice bob");
    assert_left(&shown(&server, "max-left-ms"), 300_000);
    assert_left(&shown(&server, "min-left-ms"), 200_000);
    assert!(ask(&server, "LOCK.RENEW k bob NOEXPIRE").int() > 0, "the cap is his as well");
    // Somebody who waited with bounds of its own has the narrower of both.
    let carol = "LOCK.ACQUIRE k carol NOEXPIRE MAXHOLD 100000 MINHOLD 50000 BLOCK 0";
    let mut carol = line_up(&server, server.connect(), carol);
    granted(&server, "LOCK.TRANSFER k bob carol");
    fence_of(&carol.read());
    assert_left(&shown(&server, "max-left-ms"), 100_000);
    assert_left(&shown(&server, "min-left-ms"), 200_000);
    release(&server, "k", "carol");
    assert_eq!(ask(&server, "LOCK.INFO k").field("mode"), &"cooling");
}

#[test]
fn who_waits_with_bounds_and_is_handed_a_hold_with_others_has_the_stricter_of_both() {
    let server = Server::start();
    for (given, asked) in [((300_000, 200_000), (500_000, 400_000)), ((500_000, 400_000), (300_000, 200_000))]
    {
        acquire(&server, &format!("k alice NOEXPIRE MAXHOLD {} MINHOLD {}", given.0, given.1));
        let line = format!("LOCK.ACQUIRE k bob NOEXPIRE MAXHOLD {} MINHOLD {} BLOCK 0", asked.0, asked.1);
        let mut bob = in_line(&server, &line);
        granted(&server, "LOCK.TRANSFER k alice bob NOEXPIRE");
        fence_of(&bob.read());
        assert_left(&shown(&server, "max-left-ms"), 300_000);
        assert_left(&shown(&server, "min-left-ms"), 400_000);
        assert_eq!(ask(&server, "DEL k"), 1);
    }
}

#[test]
fn a_theft_has_its_own() {
    let server = Server::start();
    acquire(&server, "k alice NOEXPIRE MAXHOLD 300000 MINHOLD 200000");
    granted(&server, "LOCK.STEAL k bob NOEXPIRE");
    assert_eq!((shown(&server, "max-left-ms").int(), shown(&server, "min-left-ms").int()), (-1, 0));
    granted(&server, "LOCK.STEAL k eve NOEXPIRE MAXHOLD 500000 MINHOLD 400000");
    assert_left(&shown(&server, "max-left-ms"), 500_000);
    assert_left(&shown(&server, "min-left-ms"), 400_000);
}

#[test]
fn all_of_them_together() {
    let server = Server::start();
    let mut conn = server.connect();
    // MINHOLD may be longer than MAXHOLD: the hold ends, and the cooldown goes on.
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice PX 20000 TIED 100000 MAXHOLD 200 MINHOLD 600000")));
    wait_until("the end", || holder(&server, "k").is_none());
    assert_lost(&server, "alice", "max-hold");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k alice WITHINFO").field("reason"), &"min-hold");
    ask(&server, "LOCK.BREAK k");
    // The grace of a tie goes no further than the cap.
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE TIED 600000 MAXHOLD 500")));
    super::tied::close(&server, conn);
    wait_until("the end", || holder(&server, "k").is_none());
    assert_lost(&server, "alice", "max-hold");
}
