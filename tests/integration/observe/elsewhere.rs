//! Watching where nothing is decided: on replicas, in a server that becomes one or ceases to be one.

use super::assert_watches_end_on_time;
use crate::steps::{acquire, ask, fence_of, observing, release, wait_for_lock, watch, words};
use crate::support::wait::wait_replica_in_sync;
use crate::support::{wait_until, Server, Value};
use crate::traffic::follow;

/// A primary where alice holds `k`, and its replica; alice's fence.
fn two() -> (Server, Server, i64) {
    let (primary, replica) = (Server::start(), Server::start());
    let fence = acquire(&primary, "k alice");
    follow(&replica, &primary);
    (primary, replica, fence)
}

#[test]
fn a_replica_tells_of_what_its_primary_does() {
    let (primary, replica, fence) = two();
    let mut under = watch(&replica, &format!("LOCK.AWAIT k CHANGED FENCE {fence} BLOCK 0"));
    let mut free = watch(&replica, "LOCK.AWAIT k FREE BLOCK 0");
    let mut any = watch(&replica, "LOCK.AWAIT k CHANGED BLOCK 0");
    let mut bob = wait_for_lock(&primary, "k", "bob");
    release(&primary, "k", "alice");
    fence_of(&bob.read());
    assert_eq!(under.read(), 1);
    assert_eq!(any.read(), 1);
    release(&primary, "k", "bob");
    assert_eq!(free.read(), 1);
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(ask(&replica, "LOCK.AWAIT k FREE"), 1);
    let mut any = watch(&replica, "LOCK.AWAIT k CHANGED BLOCK 0");
    acquire(&primary, "k carol PX 300");
    assert_eq!(any.read(), 1);
    let mut free = watch(&replica, "LOCK.AWAIT k FREE BLOCK 0");
    assert_eq!(free.read(), 1, "the end of a lease arrives as well");
    assert_eq!(ask(&replica, "LOCK.AWAIT k CHANGED BLOCK 20"), Value::Nil);
    acquire(&primary, "k dave");
    wait_replica_in_sync(&primary, &replica);
    let mut free = watch(&replica, "LOCK.AWAIT k FREE BLOCK 0");
    assert_eq!(ask(&primary, "FLUSHALL"), "OK");
    assert_eq!(free.read(), 1);
}

#[test]
fn watches_on_a_replica_end_on_time() {
    let (_primary, replica, _) = two();
    assert_watches_end_on_time(&replica);
}

#[test]
fn a_full_sync_may_bring_a_change() {
    let (primary, replica, fence) = two();
    acquire(&primary, "l alice");
    wait_replica_in_sync(&primary, &replica);
    let mut same = watch(&replica, &format!("LOCK.AWAIT k CHANGED FENCE {fence} BLOCK 0"));
    let mut gone = watch(&replica, "LOCK.AWAIT l FREE BLOCK 0");
    let syncs = primary.info_int("stats", "sync_full");
    // In one packet: the link breaks, cannot be taken up again where it broke, and the lock ends meanwhile.
    let mut conn = primary.connect();
    conn.send_together(&[
        &words("CLIENT KILL TYPE replica"),
        &words("DEBUG CHANGE-REPL-ID"),
        &words("LOCK.RELEASE l alice"),
    ]);
    assert_eq!(conn.read(), 1);
    assert_eq!(conn.read(), "OK");
    assert_eq!(conn.read(), 1);
    assert_eq!(gone.read(), 1);
    assert_eq!(primary.info_int("stats", "sync_full"), syncs + 1);
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(observing(&replica), 1, "the other lock is still in the same hands");
    release(&primary, "k", "alice");
    assert_eq!(same.read(), 1);
}

#[test]
fn whom_to_ask_is_known_on_the_primary_only() {
    let (_primary, replica, _) = two();
    for line in ["LOCK.AWAIT k alice WANTED", "LOCK.AWAIT k alice WANTED BLOCK 0", "LOCK.REVOKE k"] {
        assert!(ask(&replica, line).error().starts_with("READONLY "), "{line}");
    }
}

#[test]
fn who_watches_a_server_that_becomes_a_replica_is_sent_away() {
    let (primary, replica, _) = two();
    let mut observer = watch(&primary, "LOCK.AWAIT k FREE BLOCK 0");
    follow(&primary, &replica);
    assert!(observer.read().error().starts_with("UNBLOCKED "));
    wait_until("nobody to watch", || observing(&primary) == 0);
}

#[test]
fn who_watches_a_replica_watches_on_when_it_is_promoted() {
    let (primary, replica, _) = two();
    let mut free = watch(&replica, "LOCK.AWAIT k FREE BLOCK 0");
    let mut timed = watch(&replica, "LOCK.AWAIT k FREE BLOCK 2000");
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    assert_eq!(timed.read(), Value::Nil);
    assert_eq!(ask(&replica, "LOCK.RENEW k alice PX 100"), 100);
    assert_eq!(free.read(), 1);
    wait_until("the lock to be free", || ask(&replica, "EXISTS k") == 0);
    assert_eq!(ask(&primary, "LOCK.CHECK k alice").int().signum(), 1, "the old primary does not know");
}
