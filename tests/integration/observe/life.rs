//! Watching locks whose holds are bound to more than a lease, and locks in cooldown.

use crate::steps::{acquire, ask, fence_of, release, watch, words};
use crate::support::wait::wait_replica_in_sync;
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::follow;

/// Two who watch `k`, for FREE and for CHANGED.
fn watched(server: &Server) -> [Connection; 2] {
    ["FREE", "CHANGED"].map(|what| watch(server, &format!("LOCK.AWAIT k {what} BLOCK 0")))
}

#[test]
fn a_hold_that_ends_at_its_bound_is_told_of() {
    let server = Server::start();
    acquire(&server, "k alice NOEXPIRE MAXHOLD 300");
    let observers = watched(&server);
    observers
        .into_iter()
        .for_each(|mut observer| assert_eq!(observer.read(), 1, "it lasted as long as it may"));
    let mut alice = server.connect();
    fence_of(&alice.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE TIED 20")));
    let observers = watched(&server);
    drop(alice);
    observers
        .into_iter()
        .for_each(|mut observer| assert_eq!(observer.read(), 1, "its connection has closed"));
}

/// Whether alice released it, or lost it.
#[test]
fn a_lock_in_cooldown_is_not_free() {
    let server = Server::start();
    for (delay, terms, end) in [
        ("0", "MINHOLD 60000", "LOCK.RELEASE k alice"),
        ("60000", "", "LOCK.BREAK k"),
        ("60000", "PX 200", "PING"),
        ("60000", "MAXHOLD 200", "PING"),
    ] {
        assert_eq!(ask(&server, &format!("CONFIG SET lock.lock-delay-ms {delay}")), "OK");
        acquire(&server, &format!("k alice {terms}"));
        let [mut free, mut changed] = watched(&server);
        assert!(!matches!(ask(&server, end), Value::Error(_)), "{end}");
        assert_eq!(changed.read(), 1, "{end}");
        wait_until("the cooldown", || ask(&server, "LOCK.INFO k").field("mode").text() == "cooling");
        assert_eq!(ask(&server, "LOCK.AWAIT k FREE"), Value::Nil, "{terms} {end}");
        assert_eq!(ask(&server, "LOCK.REVOKE k"), 0, "there is nobody to ask");
        free.expect_nothing_pending();
        let mut unchanged = watch(&server, "LOCK.AWAIT k CHANGED BLOCK 0");
        assert_eq!(ask(&server, "LOCK.BREAK k"), 1, "its cooldown");
        assert_eq!(free.read(), 1, "{terms} {end}");
        unchanged.expect_nothing_pending();
        acquire(&server, "k alice");
        assert_eq!(unchanged.read(), 1);
        assert_eq!(ask(&server, "CONFIG SET lock.lock-delay-ms 0"), "OK");
        release(&server, "k", "alice");
    }
}

#[test]
fn a_lock_that_has_cooled_is_free() {
    let (server, replica) = (Server::start(), Server::start());
    follow(&replica, &server);
    acquire(&server, "k alice MINHOLD 3000");
    wait_replica_in_sync(&server, &replica);
    // They watch from before the release on: on a slow machine the rest can be over by then.
    let observers = [&server, &replica].map(|server| watch(server, "LOCK.AWAIT k FREE BLOCK 0"));
    release(&server, "k", "alice");
    observers.into_iter().for_each(|mut observer| assert_eq!(observer.read(), 1));
    assert_eq!(ask(&server, "EXISTS k"), 0, "and nobody has looked at it in between");
}

/// While the server may not write, nobody can tell yet that the lock will have a cooldown.
#[test]
fn a_lease_that_is_over_does_not_make_a_lock_free_that_is_to_rest() {
    let server = Server::start();
    assert_eq!(ask(&server, "CONFIG SET lock.lock-delay-ms 60000"), "OK");
    acquire(&server, "k alice PX 200");
    let mut free = watch(&server, "LOCK.AWAIT k FREE BLOCK 0");
    assert_eq!(ask(&server, "CLIENT PAUSE 20000 WRITE"), "OK");
    wait_until("the lease to be over", || ask(&server, "LOCK.CHECK k alice") == 0);
    assert_eq!(ask(&server, "LOCK.AWAIT k FREE BLOCK 300"), Value::Nil);
    assert_eq!(ask(&server, "CLIENT UNPAUSE"), "OK");
    wait_until("the cooldown", || ask(&server, "LOCK.INFO k").field("mode").text() == "cooling");
    free.expect_nothing_pending();
}
