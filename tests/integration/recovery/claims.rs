//! Owners that come back by their fence: whose hold stands, what must not come back, and what an owner may do before.

use super::{failover, is_recovering, LONG};
use crate::steps::{acquire, ask};
use crate::support::wait::{wait_blocked_clients, wait_replica_in_sync};
use crate::support::{wait_until, Server, Value};
use crate::traffic::{at_once, follow, left, lock_stat};

#[test]
fn of_holds_that_cannot_have_stood_together_the_newest_stands() {
    let (old, new) = failover(LONG);
    let renew = |line: &str, fence: i64| ask(&new, &format!("LOCK.RENEW {line} PX 60000 FENCE {fence}"));
    // Exclusive: whoever had it before is told so.
    let first = acquire(&old, "k first");
    assert_eq!(ask(&old, "LOCK.RELEASE k first"), 1);
    let second = acquire(&old, "k second");
    assert_eq!(renew("k first", first), 60_000);
    assert_eq!(renew("k second", second), 60_000);
    assert_eq!(renew("k first", first), 0);
    let lost = ask(&new, &format!("LOCK.CHECK k first FENCE {first} WITHINFO"));
    assert_eq!(lost.field("reason").text(), "displaced");
    assert_eq!((lock_stat(&new, "reinstated"), lock_stat(&new, "displaced")), (2, 1));
    // The other way round the older one does not come back at all.
    let older = acquire(&old, "l first");
    assert_eq!(ask(&old, "LOCK.RELEASE l first"), 1);
    let newer = acquire(&old, "l second");
    assert_eq!(renew("l second", newer), 60_000);
    assert_eq!(renew("l first", older), 0);
    assert!(left(&new, "l", "second") > 0);
    assert_eq!(lock_stat(&new, "displaced"), 1);
    // What has come back and was given back stays away, and what came before it too.
    assert_eq!(ask(&new, &format!("LOCK.RELEASE k second FENCE {second}")), 1);
    assert_eq!(renew("k second", second), 0);
    assert_eq!(renew("k first", first), 0);
    // Nothing is needed of what was never granted.
    assert_eq!(renew("k first", second + 3_600_000_000_000), 0);

    let readers: Vec<i64> =
        ["r", "s"].map(|owner| acquire(&old, &format!("readers {owner} SHARED"))).to_vec();
    assert_eq!(renew("readers s SHARED", readers[1]), 60_000);
    assert_eq!(renew("readers r SHARED", readers[0]), 60_000, "the older one stands beside it");
    let permits = ["a", "b"].map(|owner| acquire(&old, &format!("pool {owner} LIMIT 4 PERMITS 2")));
    assert_eq!(renew("pool a LIMIT 4 PERMITS 2", permits[0]), 60_000);
    assert_eq!(renew("pool b LIMIT 4 PERMITS 2", permits[1]), 60_000);
    assert_eq!(ask(&new, "LOCK.INFO pool").field("holds").items().len(), 2);
    // Several together, all or none.
    let both = ask(&old, "LOCK.MACQUIRE both 2 x y").int();
    let line = format!("LOCK.MRENEW both 60000 2 x y FENCE {both}");
    assert_eq!(ask(&new, &line), Value::Array(vec![Value::Int(60_000), Value::Int(60_000)]));
    assert_eq!(ask(&new, &format!("LOCK.MRELEASE both 2 x y FENCE {both}")), 2);
    let lost = ask(&old, "LOCK.MACQUIRE gone 2 v w").int();
    assert_eq!(ask(&new, &format!("LOCK.MRELEASE gone 2 v w FENCE {lost}")), 2, "it was never known here");
}

#[test]
fn a_lease_that_is_over_is_kept_for_its_owner_whose_renewal_may_be_lost() {
    let (old, new) = (Server::start(), Server::with(&[LONG]));
    follow(&new, &old);
    // In one packet, so that the primary cannot end the lease before it is paused.
    at_once(&old, &[&["LOCK.ACQUIRE", "over", "o", "PX", "50"], &["CLIENT", "PAUSE", "60000", "WRITE"]]);
    wait_until("the lock to arrive and its lease to be over", || {
        new.cmd(&["EXISTS", "over"]) == 1 && left(&new, "over", "o") == 0
    });
    let (primary, replica) = (Server::start(), Server::with(&[LONG]));
    follow(&replica, &primary);
    acquire(&primary, "soon o PX 5000");
    wait_replica_in_sync(&primary, &replica);
    for server in [&new, &replica] {
        assert_eq!(ask(server, "REPLICAOF NO ONE"), "OK");
    }
    assert_eq!(ask(&new, "LOCK.RENEW over o PX 50000"), 50_000, "before the window opened");
    wait_until("its lease to be over", || left(&replica, "soon", "o") == 0);
    assert_eq!(ask(&replica, "LOCK.RENEW soon o PX 50000"), 50_000, "while it is open");
    assert!(ask(&new, "LOCK.RECOVERY END").int() > 0);
    assert_eq!(ask(&new, "LOCK.RELEASE over o"), 1);
}

#[test]
fn a_lost_hold_has_to_be_renewed_before_something_else_is_done_to_it() {
    let (old, new) = failover(LONG);
    let fence = acquire(&old, "k alice REENTRANT a PX 60000");
    let permits = acquire(&old, "pool alice LIMIT 5 PERMITS 3");
    for line in [
        format!("LOCK.TRANSFER k alice bob FENCE {fence}"),
        format!("LOCK.CONVERT k alice SHARED FENCE {fence}"),
        format!("LOCK.RELEASE k alice REENTRANT a FENCE {fence}"),
        format!("LOCK.RELEASE k alice AFTER 1000 FENCE {fence}"),
        format!("LOCK.RELEASE pool alice PERMITS 1 FENCE {permits}"),
        format!("LOCK.GUARD k alice {fence} GET x"),
    ] {
        assert!(is_recovering(&ask(&new, &line)), "{line}");
    }
    assert_eq!(ask(&new, &format!("LOCK.RENEW pool alice LIMIT 5 PERMITS 3 FENCE {permits}")), 30_000);
    assert_eq!(ask(&new, &format!("LOCK.RELEASE pool alice PERMITS 1 FENCE {permits}")), 1);
    assert_eq!(ask(&new, "LOCK.INFO pool").field("holds").items()[0].field("permits").int(), 2);
    for _ in 0..2 {
        assert_eq!(
            ask(&new, &format!("LOCK.RELEASE k alice FENCE {fence}")),
            1,
            "the same again has the same reply"
        );
    }
}

#[test]
fn a_hold_of_which_the_renewal_was_lost_is_told_to_come_back() {
    let (primary, replica) = (Server::start(), Server::with(&[LONG]));
    follow(&replica, &primary);
    let fence = acquire(&primary, "k alice PX 5000");
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    wait_until("its lease to be over", || left(&replica, "k", "alice") == 0);
    let told = ask(&replica, &format!("LOCK.CHECK k alice FENCE {fence} WITHINFO"));
    assert_eq!((told.field("result").int(), told.field("reason").text()), (0, "recovering".into()));
    for line in
        [format!("LOCK.GUARD k alice {fence} GET x"), format!("LOCK.CONVERT k alice SHARED FENCE {fence}")]
    {
        assert!(is_recovering(&ask(&replica, &line)), "{line}");
    }
    assert_eq!(ask(&replica, &format!("LOCK.RENEW k alice PX 60000 FENCE {fence}")), 60_000);
    assert_eq!(ask(&replica, &format!("LOCK.GUARD k alice {fence} GET x")), Value::Nil);
}

#[test]
fn a_hold_is_not_said_to_be_lost_where_a_newer_one_stands() {
    let (old, new) = failover(LONG);
    let first = acquire(&old, "k first");
    assert_eq!(ask(&old, "LOCK.RELEASE k first"), 1);
    let second = acquire(&old, "k second");
    assert_eq!(ask(&new, &format!("LOCK.RENEW k second FENCE {second}")), 30_000);
    assert!(ask(&new, &format!("LOCK.GUARD k first {first} GET x")).error().starts_with("NOTHELD "));
    let older = acquire(&old, "r rita SHARED");
    let newer = acquire(&old, "r rob SHARED");
    assert_eq!(ask(&new, &format!("LOCK.RELEASE r rob FENCE {newer}")), 1);
    let told = ask(&new, &format!("LOCK.CHECK r rita FENCE {older} WITHINFO"));
    assert_eq!(told.field("reason").text(), "recovering", "she may have shared it");
}

#[test]
fn several_are_released_together_though_one_has_come_back() {
    let (old, new) = failover(LONG);
    let fence = ask(&old, "LOCK.MACQUIRE al 3 a b c").int();
    let back = ask(&new, &format!("LOCK.MRENEW al 60000 1 a FENCE {fence}"));
    assert_eq!(back, Value::Array(vec![Value::Int(60_000)]));
    for _ in 0..2 {
        assert_eq!(ask(&new, &format!("LOCK.MRELEASE al 3 a b c FENCE {fence}")), 3);
    }
    assert_eq!(ask(&new, &format!("LOCK.RENEW b al FENCE {fence}")), 0);
    assert_eq!(ask(&new, "EXISTS a"), 0);
}

#[test]
fn an_owner_that_waits_for_what_comes_back_is_told_to_wait_no_more() {
    let (old, new) = failover(LONG);
    let fence = acquire(&old, "k al");
    let mut wait = new.connect();
    wait.send(&["LOCK.ACQUIRE", "k", "al", "BLOCK", "0", "WITHINFO"]);
    wait_blocked_clients(&new, 1);
    assert_eq!(ask(&new, &format!("LOCK.RENEW k al FENCE {fence}")), 30_000);
    assert_eq!(wait.read().field("reason").text(), "superseded");
}

#[test]
fn many_holds_that_are_over_keep_nobody_from_renewing_several_locks() {
    let (primary, replica) = (Server::start(), Server::with(&[LONG]));
    follow(&replica, &primary);
    for owner in 0..600 {
        let owner = owner.to_string();
        assert!(primary.cmd(&["LOCK.MACQUIRE", &owner, "2", "x", "y", "SHARED", "PX", "8000"]).int() > 0);
    }
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    wait_until("the last lease to be over", || left(&replica, "x", "599") == 0);
    let both = ask(&replica, "LOCK.MRENEW 599 60000 2 x y");
    assert_eq!(both, Value::Array(vec![Value::Int(60_000), Value::Int(60_000)]));
}

#[test]
fn what_is_broken_in_the_window_does_not_come_back() {
    let (old, new) = failover(LONG);
    let lost = acquire(&old, "k alice");
    let reader = acquire(&old, "r alice SHARED");
    assert_eq!((ask(&new, "LOCK.BREAK k"), ask(&new, "LOCK.BREAK r")), (Value::Int(0), Value::Int(0)));
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice FENCE {lost}")), 0);
    assert_eq!(ask(&new, &format!("LOCK.RENEW r alice FENCE {reader} SHARED")), 0);
}

#[test]
fn what_was_flushed_in_the_window_does_not_come_back() {
    let (old, new) = failover(LONG);
    let lost = acquire(&old, "k alice");
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice FENCE {lost}")), 30_000);
    let other = acquire(&old, "l alice");
    assert_eq!(ask(&new, "FLUSHALL"), "OK");
    for line in [format!("k alice FENCE {lost}"), format!("l alice FENCE {other}")] {
        assert_eq!(ask(&new, &format!("LOCK.RENEW {line}")), 0, "{line}");
    }
    assert!(ask(&new, "LOCK.RECOVERY").int() > 0);
}

#[test]
fn a_hold_that_came_back_and_was_deleted_stays_away() {
    let (old, new) = failover(LONG);
    for (key, deed) in [("a", "DEL a"), ("b", "RENAME b c"), ("d", "SWAPDB 0 1")] {
        let fence = acquire(&old, &format!("{key} alice"));
        let renew = format!("LOCK.RENEW {key} alice FENCE {fence}");
        assert_eq!(ask(&new, &renew), 30_000, "{deed}");
        let _ = ask(&new, deed);
        if deed.starts_with("SWAPDB") {
            let mut other = new.connect();
            assert_eq!(other.cmd(&["SELECT", "1"]), "OK");
            assert_eq!(other.cmd(&["LOCK.RELEASE", key, "alice"]), 1);
            let words: Vec<&str> = renew.split(' ').collect();
            assert_eq!(other.cmd(&words), 0, "{deed}");
        } else {
            assert_eq!(ask(&new, &renew), 0, "{deed}");
        }
    }
}
