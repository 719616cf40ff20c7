//! L1–L3. What a hold depends on besides its lease: memory that runs short, and a connection that is not its holder's alone.

use crate::steps::{acquire, ask, assert_granted, assert_holds, assert_left, fence_of, wait_for_lock, words};
use crate::support::{wait_until, Proxy, Server, Value};
use crate::tied::kill;

/// Unlocking was refused when the server was out of memory, and so nothing became free. Here only what makes new locks is
/// refused: a holder goes on, gives its lock back, and the one who waits has it.
#[test]
fn l1_without_memory_locks_can_still_be_given_back() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut bob = wait_for_lock(&server, "k", "bob");
    assert_eq!(ask(&server, "CONFIG SET maxmemory 1"), "OK");
    assert!(ask(&server, "LOCK.ACQUIRE other alice").error().starts_with("OOM "));
    assert_eq!(ask(&server, "LOCK.RENEW k alice PX 60000"), 60_000);
    assert_left(&ask(&server, "LOCK.CHECK k alice"), 60_000);
    assert_eq!(ask(&server, "LOCK.RELEASE k alice"), 1);
    assert_granted(&server, &mut bob, "k", "bob");
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1);
}

/// Held locks were evicted, as any other key, and nobody was told. Here a lock has no time to live of the server's, so it is
/// safe wherever only such keys are evicted; and where all are, its holder is told, and the next fence is higher.
#[test]
fn l1_an_evicted_lock_is_told_as_lost() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    assert_eq!(ask(&server, "SET text short EX 600"), "OK");
    assert_eq!(ask(&server, "CONFIG SET maxmemory-policy volatile-lru"), "OK");
    assert_eq!(ask(&server, "CONFIG SET maxmemory 1"), "OK");
    wait_until("the other key to be evicted", || ask(&server, "EXISTS text") == 0);
    assert_holds(&server, "k", "alice", fence);

    assert_eq!(ask(&server, "CONFIG SET maxmemory-policy allkeys-lru"), "OK");
    wait_until("the lock to be evicted", || ask(&server, "EXISTS k") == 0);
    let told = ask(&server, &format!("LOCK.RENEW k alice FENCE {fence} WITHINFO"));
    assert_eq!((told.field("result"), told.field("reason").text().as_str()), (&Value::Int(0), "deleted"));
    assert_eq!(ask(&server, "CONFIG SET maxmemory 0"), "OK");
    assert!(acquire(&server, "k bob") > fence);
}

/// A lock of a session stayed with a pooled connection when the client had gone, or went with one that somebody else
/// was given. Here a hold is its owner's, and the connection counts only where it is tied; nothing that a pool does to clean
/// a connection ends it, and its next user is not its holder.
#[test]
fn l2_a_pool_may_clean_a_connection_but_not_close_it() {
    let server = Server::start();
    let mut pooled = server.connect();
    let fence = fence_of(&pooled.cmd(&words("LOCK.ACQUIRE k first PX 600000 TIED 0")));
    let mut next = wait_for_lock(&server, "k", "next");
    for line in ["SELECT 5", "AUTH default any", "CLIENT SETNAME other", "HELLO 2", "DISCARD", "RESET"] {
        pooled.cmd(&words(line));
        assert_holds(&server, "k", "first", fence);
    }
    assert_eq!(pooled.cmd(&words("LOCK.RELEASE k second")), 0, "whoever has the connection now");
    next.expect_nothing_pending();
    kill(&server, &mut pooled);
    assert_granted(&server, &mut next, "k", "next");
}

/// The same where the connection is half open, and the server cannot know: there is always a lease behind a tie.
#[test]
fn l2_a_half_open_connection_keeps_a_lock_no_longer_than_its_lease() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let mut pooled = proxy.connect();
    fence_of(&pooled.cmd(&words("LOCK.ACQUIRE k first PX 500 TIED 0")));
    let mut next = wait_for_lock(&server, "k", "next");
    proxy.pass_requests(0);
    proxy.pass_replies(0);
    assert_granted(&server, &mut next, "k", "next");
}

/// A leader lost its office each hour, when its pool replaced the connection. Here a tie can have a grace: whoever is back on
/// another connection in time has the hold it had, tied to the new one.
#[test]
fn l3_a_connection_may_be_replaced_within_the_grace() {
    let server = Server::start();
    let mut conn = server.connect();
    let fence = fence_of(&conn.cmd(&words("LOCK.ACQUIRE k leader NOEXPIRE TIED 600000")));
    let mut next = wait_for_lock(&server, "k", "next");
    for _ in 0..3 {
        kill(&server, &mut conn);
        conn = server.connect();
        assert_eq!(conn.cmd(&words(&format!("LOCK.RENEW k leader FENCE {fence} TIED 600000"))), -1);
        assert_holds(&server, "k", "leader", fence);
    }
    next.expect_nothing_pending();
    // Without a grace the same ends the hold.
    assert_eq!(conn.cmd(&words("LOCK.RENEW k leader TIED 0")), -1);
    kill(&server, &mut conn);
    assert_granted(&server, &mut next, "k", "next");
}
