//! B1–B4. Grants that are no good any more when they arrive, and leases that a client believes in for too long.

use std::time::Duration;

use super::holds::Holds;
use crate::group::line_up;
use crate::steps::{
    acquire, acquire_by, ask, assert_granted, assert_holds, assert_left, fence_of, holder, in_line, queue,
    queue_up, release, wait_for_lock, words,
};
use crate::support::wait::let_pass;
use crate::support::{wait_until, Proxy, Server, Value};
use crate::traffic::{at_once, lock_stat, Dice};

/// A waiter was granted the lock after the end of its own wait, or of its session, as nobody looked again. Here whoever is
/// gone, sent away, too late or without the right when the release comes has nothing, and the next in line has the lock:
/// all in one packet, so that nothing can be noticed in between.
#[test]
fn b1_whoever_is_gone_by_then_is_not_granted_the_lock() {
    for (case, before, after) in [
        ("its wait is over", "DEBUG SLEEP 0.2", "PING"),
        ("it is killed before", "CLIENT KILL ID id", "PING"),
        ("it is killed after", "PING", "CLIENT KILL ID id"),
        ("its user is deleted before", "ACL DELUSER worker", "PING"),
        ("its user is deleted after", "PING", "ACL DELUSER worker"),
        ("its right is taken away before", "ACL SETUSER worker resetkeys ~other", "PING"),
    ] {
        let server = Server::start();
        assert_eq!(ask(&server, "ACL SETUSER worker on nopass allkeys allcommands"), "OK");
        acquire(&server, "k alice");
        let mut late = server.connect();
        let id = late.id().to_string();
        assert_eq!(late.cmd(&words("AUTH worker any")), "OK");
        let wait = if case == "its wait is over" { "100" } else { "0" };
        let _late = queue_up(&server, late, &["LOCK.ACQUIRE", "k", "worker", "BLOCK", wait]);
        let mut next = wait_for_lock(&server, "k", "next");
        let (before, after) = (before.replace("id", &id), after.replace("id", &id));
        let replies = at_once(&server, &[&words(&before), &words("LOCK.RELEASE k alice"), &words(&after)]);
        assert_eq!(replies[1], 1, "{case}");
        println!("{case}");
        assert_granted(&server, &mut next, "k", "next");
        assert_eq!(ask(&server, "LOCK.CHECK k worker"), 0, "{case}");
    }
}

/// A lock was said to be taken when it was over already: its time counted from the first attempt, and the last one took
/// long. Here a lease begins with its grant, however long the wait was, and a reply says what is left of it.
#[test]
fn b2_a_lease_begins_with_the_grant() {
    const LEASE_MS: i64 = 2_000;
    let server = Server::start();
    acquire(&server, "k alice");
    let line = format!("LOCK.ACQUIRE k bob PX {LEASE_MS} BLOCK 0 WITHINFO");
    let mut waiter = in_line(&server, &line);
    // Longer than the whole lease.
    let_pass(Duration::from_millis(LEASE_MS as u64 + 100));
    release(&server, "k", "alice");
    let report = waiter.read();
    assert_left(report.field("lease-ms"), LEASE_MS);
    assert_holds(&server, "k", "bob", report.field("fence").int());
}

/// A client worked out for itself until when its lock was good, by its own clock and some milliseconds for the drift, and
/// called it good when it was over. What a client makes of it is the client's; but it need not reckon: here every reply
/// says how much is left, to within a millisecond and never for a hold that is over, and whoever counts from the moment it
/// asked stops before the lease does.
#[test]
fn b3_what_is_said_of_a_lease_is_so() {
    let server = Server::start();
    let mut lock = Holds::new(server.connect(), "k");
    let mut dice = Dice::new(5);
    let mut step = || {
        let owner = format!("owner-{}", dice.roll(3));
        let lease = match dice.roll(8) {
            0 => Duration::from_secs(60),
            _ => Duration::from_millis(1 + dice.roll(10)),
        };
        match dice.roll(8) {
            0..4 => lock.acquire(&owner, lease, 1, 1, &[]),
            4 | 5 => lock.renew(&owner, Some(lease)),
            6 => lock.renew(&owner, None),
            _ => {
                lock.release(&owner);
            }
        }
        assert!(lock.check() <= 1, "two hold it");
    };
    wait_until("hundreds of leases to end", || {
        (0..50).for_each(|_| step());
        lock_stat(&server, "expired") > 200
    });
}

/// A client came back from a broken connection, found what its dying session had left, took it for its own, and lost it with
/// the session a moment later. Here whoever comes back with the owner of before has the hold of before under the fence of
/// before, and with the whole lease that it asks for now.
#[test]
fn b4_who_comes_back_is_not_given_a_hold_that_is_about_to_end() {
    let server = Server::start();
    let mut old = server.connect();
    let fence = acquire_by(&mut old, "k worker PX 2000");
    let mut next = wait_for_lock(&server, "k", "next");
    drop(old);
    let back = server.connect().cmd(&words("LOCK.ACQUIRE k worker PX 600000 WITHINFO"));
    assert_eq!((back.field("fence"), back.field("lease-ms")), (&Value::Int(fence), &Value::Int(600_000)));
    // Past the end of the lease that the old connection asked for.
    let_pass(Duration::from_millis(2100));
    assert_holds(&server, "k", "worker", fence);
    next.expect_nothing_pending();
}

/// The same where the name is made for the connection alone: nobody who comes later is that owner.
#[test]
fn b4_a_name_that_the_server_made_is_for_one() {
    let server = Server::start();
    let mut old = server.connect();
    let granted = old.cmd(&words("LOCK.ACQUIRE k *"));
    let owner = granted.items()[0].text();
    drop(old);
    let mut back = server.connect();
    for line in ["LOCK.ACQUIRE k *", "LOCK.ACQUIRE k * BLOCK 1"] {
        assert_eq!(back.cmd(&words(line)), Value::Nil, "{line}");
    }
    for line in ["LOCK.RELEASE k *", "LOCK.RENEW k *", "LOCK.CHECK k *"] {
        assert_eq!(back.cmd(&words(line)), 0, "{line}");
    }
    assert_eq!(holder(&server, "k"), Some(owner));
}

/// The same for a place in line: the connection is dead and nobody can know yet. Whoever comes back takes the place over,
/// so that the grant is not sent to the dead.
#[test]
fn b4_who_comes_back_has_its_place_in_line() {
    let server = Server::start();
    acquire(&server, "k alice");
    let proxy = Proxy::to(&server);
    let mut dying = queue_up(&server, proxy.connect(), &words("LOCK.ACQUIRE k worker BLOCK 0"));
    let _later = wait_for_lock(&server, "k", "later");
    proxy.pass_replies(0);
    let mut back = line_up(&server, server.connect(), "LOCK.ACQUIRE k worker BLOCK 0");
    assert_eq!(queue(&server, "k"), ["worker", "later"]);
    release(&server, "k", "alice");
    let fence = fence_of(&back.read());
    proxy.cut();
    dying.expect_closed();
    assert_holds(&server, "k", "worker", fence);
}
