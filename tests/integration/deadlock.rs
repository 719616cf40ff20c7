//! Deadlocks are refused before they begin, with the whole cycle told; whoever could still go on is let in. Here the ways in
//! which owners can come to wait for each other; what is told, and what it costs, have a file each.

mod cost;
mod telling;

use crate::group::line_up;
use crate::steps::{
    acquire, ask, assert_changes_nothing, digest, eval, fence_of, granted, queue, release, transaction, words,
};
use crate::support::{Connection, Server, Value};
use crate::traffic::{lock_stat, wait_quiet};

/// Runs lines that must all take a lock.
fn granted_all(server: &Server, lines: &[&str]) {
    for line in lines {
        granted(server, line);
    }
}

/// Connections whose lines wait for ever, each in line before the next one asks.
fn wait(server: &Server, lines: &[&str]) -> Vec<Connection> {
    lines.iter().map(|line| line_up(server, server.connect(), &format!("{line} BLOCK 0"))).collect()
}

/// The refusal of a wait that would close this cycle: owner, key, owner, key, … as they are shown.
fn cycle(links: &[&str]) -> String {
    let owners = links.iter().step_by(2);
    let keys = links.iter().skip(1).step_by(2);
    let next = owners.clone().cycle().skip(1);
    let links: Vec<String> = owners
        .zip(keys)
        .zip(next)
        .map(|((owner, key), next)| format!("'{owner}' waits for '{key}' behind '{next}'"))
        .collect();
    format!("DEADLOCK this wait would never end: {}; release what you hold and begin again", links.join(", "))
}

/// The line is refused with this cycle, with a time-out and without, leaves no trace, and is counted.
fn assert_refused(server: &Server, line: &str, links: &[&str]) {
    let before = (lock_stat(server, "deadlocks"), lock_stat(server, "waiting"));
    assert_changes_nothing(server, || {
        for wait in ["BLOCK 0", "BLOCK 60000"] {
            assert_eq!(ask(server, &format!("{line} {wait}")), cycle(links).as_str(), "{line}");
        }
    });
    assert_eq!((lock_stat(server, "deadlocks"), lock_stat(server, "waiting")), (before.0 + 2, before.1));
}

#[test]
fn two_owners() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b"]);
    let mut waiters = wait(&server, &["LOCK.ACQUIRE k1 b", "LOCK.ACQUIRE k1 other"]);
    assert_refused(&server, "LOCK.ACQUIRE k2 a", &["a", "k2", "b", "k1"]);
    assert_eq!(queue(&server, "k1"), ["b", "other"], "nobody else is disturbed");
    assert_eq!(queue(&server, "k2"), [""; 0]);
    waiters.iter_mut().for_each(Connection::expect_nothing_pending);
    // Who was refused goes on: it lets go, the other one gets what it waits for, and then there is no cycle.
    let mut conn = server.connect();
    assert!(conn.cmd(&words("LOCK.ACQUIRE k2 a BLOCK 0")).error().starts_with("DEADLOCK "));
    assert_eq!(conn.cmd(&words("LOCK.RELEASE k1 a")), 1);
    fence_of(&waiters[0].read());
    let mut conn = line_up(&server, conn, "LOCK.ACQUIRE k2 a BLOCK 0");
    assert_eq!(ask(&server, "LOCK.MRELEASE b 2 k1 k2"), 2);
    fence_of(&conn.read());
    fence_of(&waiters[1].read());
    wait_quiet(&server);
}

#[test]
fn three_owners() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b", "LOCK.ACQUIRE k3 c"]);
    let mut waiters = wait(&server, &["LOCK.ACQUIRE k2 a", "LOCK.ACQUIRE k3 b"]);
    assert_refused(&server, "LOCK.ACQUIRE k1 c", &["c", "k1", "a", "k2", "b", "k3"]);
    // As soon as one link is gone there is no cycle.
    release(&server, "k3", "c");
    fence_of(&waiters[1].read());
    acquire(&server, "k4 c");
    let mut third = wait(&server, &["LOCK.ACQUIRE k1 c"]);
    release(&server, "k2", "b");
    fence_of(&waiters[0].read());
    release(&server, "k1", "a");
    fence_of(&third[0].read());
}

#[test]
fn a_try_is_nil_wherever_it_stands() {
    let server = Server::start();
    granted_all(
        &server,
        &["LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b", "LOCK.ACQUIRE s a SHARED", "LOCK.ACQUIRE s b SHARED"],
    );
    let _waiters = wait(&server, &["LOCK.ACQUIRE k1 b", "LOCK.CONVERT s b EXCLUSIVE"]);
    assert_changes_nothing(&server, || {
        for line in ["LOCK.ACQUIRE k2 a", "LOCK.MACQUIRE a 2 k2 k3", "LOCK.CONVERT s a EXCLUSIVE"] {
            assert_eq!(ask(&server, line), Value::Nil, "{line}");
            let blocking = format!("{line} BLOCK 0");
            let replies = transaction(&mut server.connect(), &[&words(&blocking), &words("PING")]);
            assert_eq!(replies, [Value::Nil, Value::Simple("PONG".into())], "{line}");
            assert!(ask(&server, &blocking).error().starts_with("DEADLOCK "), "{line}");
        }
        let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'a', 'BLOCK', 0)";
        assert_eq!(eval(&server, script, &["k2"]), Value::Nil);
    });
    assert_eq!(lock_stat(&server, "deadlocks"), 3, "what does not wait is not counted");
}

#[test]
fn through_shared_holds() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE rw c SHARED", "LOCK.ACQUIRE rw a SHARED", "LOCK.ACQUIRE k b"]);
    let _writer = wait(&server, &["LOCK.ACQUIRE rw b"]);
    assert_refused(&server, "LOCK.ACQUIRE k a", &["a", "k", "b", "rw"]);
    // Also when it would only read, as the other one writes.
    granted_all(&server, &["LOCK.ACQUIRE j b", "LOCK.ACQUIRE i b SHARED"]);
    assert_refused(&server, "LOCK.ACQUIRE j a SHARED", &["a", "j", "b", "rw"]);
    assert_refused(&server, "LOCK.ACQUIRE i a", &["a", "i", "b", "rw"]);
    // A reader beside readers does not wait at all.
    granted_all(&server, &["LOCK.ACQUIRE i a SHARED"]);
}

#[test]
fn permits_count_only_when_nobody_could_give_enough_back() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE s a LIMIT 2", "LOCK.ACQUIRE s c LIMIT 2", "LOCK.ACQUIRE k b"]);
    let mut on_s = wait(&server, &["LOCK.ACQUIRE s b LIMIT 2"]);
    // b needs one permit, and c could give it back.
    let mut on_k = wait(&server, &["LOCK.ACQUIRE k a"]);
    // Now nobody could but those who wait for b.
    assert_refused(&server, "LOCK.ACQUIRE k c", &["c", "k", "b", "s"]);
    assert_eq!(lock_stat(&server, "deadlocks"), 2);
    release(&server, "s", "c");
    fence_of(&on_s[0].read());
    release(&server, "k", "b");
    fence_of(&on_k[0].read());
}

#[test]
fn permits_that_are_too_few_even_if_others_give_theirs_back() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE s a LIMIT 3", "LOCK.ACQUIRE s c LIMIT 3", "LOCK.ACQUIRE k b"]);
    let _waiters = wait(&server, &["LOCK.ACQUIRE s b LIMIT 3 PERMITS 3"]);
    assert_refused(&server, "LOCK.ACQUIRE k a", &["a", "k", "b", "s"]);
}

#[test]
fn through_conversions() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE s a SHARED", "LOCK.ACQUIRE s b SHARED", "LOCK.ACQUIRE k a"]);
    let mut upgrade = wait(&server, &["LOCK.CONVERT s a EXCLUSIVE"]);
    assert_refused(&server, "LOCK.CONVERT s b EXCLUSIVE", &["b", "s", "a", "s"]);
    assert_refused(&server, "LOCK.ACQUIRE k b", &["b", "k", "a", "s"]);
    release(&server, "s", "b");
    fence_of(&upgrade[0].read());
    // And the other way round: the upgrade comes last.
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE s a SHARED", "LOCK.ACQUIRE s b SHARED", "LOCK.ACQUIRE k a"]);
    let mut waiter = wait(&server, &["LOCK.ACQUIRE k b"]);
    assert_refused(&server, "LOCK.CONVERT s a EXCLUSIVE", &["a", "s", "b", "k"]);
    release(&server, "k", "a");
    fence_of(&waiter[0].read());
    let mut upgrade = wait(&server, &["LOCK.CONVERT s a EXCLUSIVE"]);
    release(&server, "s", "b");
    fence_of(&upgrade[0].read());
}

#[test]
fn through_waits_for_several_locks() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b"]);
    let _group = wait(&server, &["LOCK.MACQUIRE b 3 free k1 other"]);
    assert_refused(&server, "LOCK.ACQUIRE k2 a", &["a", "k2", "b", "k1"]);
    assert_refused(&server, "LOCK.MACQUIRE a 2 new k2", &["a", "k2", "b", "k1"]);
    assert_eq!(ask(&server, "LOCK.INFO new").field("waiting"), &0);
    // Two who want the same keys in another order do not wait for each other.
    granted_all(&server, &["LOCK.MACQUIRE z 2 x y"]);
    let mut orderly = wait(&server, &["LOCK.MACQUIRE p 2 x y", "LOCK.MACQUIRE q 2 y x"]);
    assert_eq!(ask(&server, "LOCK.MRELEASE z 2 x y"), 2);
    fence_of(&orderly[0].read());
    assert_eq!(ask(&server, "LOCK.MRELEASE p 2 x y"), 2);
    fence_of(&orderly[1].read());
}

#[test]
fn behind_those_who_came_before() {
    let server = Server::start();
    // Nobody who holds k1 waits, but b stands before a there and needs what a has.
    granted_all(&server, &["LOCK.ACQUIRE k1 c", "LOCK.ACQUIRE k2 a"]);
    let _group = wait(&server, &["LOCK.MACQUIRE b 2 k1 k2"]);
    assert_refused(&server, "LOCK.ACQUIRE k1 a", &["a", "k1", "b", "k2"]);
    // The same when b asked for one after the other, and when nobody holds k1.
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE k1 c", "LOCK.ACQUIRE k2 a"]);
    let _waits = wait(&server, &["LOCK.ACQUIRE k1 b", "LOCK.ACQUIRE k2 b"]);
    assert_refused(&server, "LOCK.ACQUIRE k1 a", &["a", "k1", "b", "k2"]);
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE k2 a"]);
    let _group = wait(&server, &["LOCK.MACQUIRE b 2 free k2"]);
    assert_refused(&server, "LOCK.ACQUIRE free a", &["a", "free", "b", "k2"]);
    // A reader behind a writer, though it would go with those who read.
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE rw c SHARED", "LOCK.ACQUIRE k a"]);
    let _writer = wait(&server, &["LOCK.MACQUIRE b 2 rw k"]);
    assert_refused(&server, "LOCK.ACQUIRE rw a SHARED", &["a", "rw", "b", "k"]);
}

#[test]
fn an_owner_with_several_waits() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE x z", "LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b", "LOCK.ACQUIRE y z"]);
    let mut waits = wait(&server, &["LOCK.ACQUIRE x b", "LOCK.ACQUIRE k1 b", "LOCK.ACQUIRE y b"]);
    assert_refused(&server, "LOCK.ACQUIRE k2 a", &["a", "k2", "b", "k1"]);
    // The asker's own other waits are no cycle, and do not hide one.
    acquire(&server, "w z");
    let _mine = wait(&server, &["LOCK.ACQUIRE w a"]);
    assert_refused(&server, "LOCK.ACQUIRE k2 a", &["a", "k2", "b", "k1"]);
    // Without that one wait there is none.
    release(&server, "k1", "a");
    fence_of(&waits[1].read());
    let _lets_in = wait(&server, &["LOCK.ACQUIRE k2 a"]);
}

#[test]
fn who_waits_behind_a_deadlock_of_others_is_not_blamed() {
    let server = Server::with(&["lock.deadlock-detection no"]);
    granted_all(&server, &["LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b"]);
    let mut waiters = wait(&server, &["LOCK.ACQUIRE k1 b", "LOCK.ACQUIRE k2 a"]);
    assert_eq!(lock_stat(&server, "deadlocks"), 0, "nobody looks");
    assert_eq!(ask(&server, "CONFIG SET lock.deadlock-detection yes"), "OK");
    acquire(&server, "k3 c");
    let _behind = wait(&server, &["LOCK.ACQUIRE k1 c", "LOCK.MACQUIRE d 2 k2 k3"]);
    // The knot comes apart when one of its holds ends, as leases do.
    release(&server, "k1", "a");
    fence_of(&waiters[0].read());
    release(&server, "k2", "b");
    fence_of(&waiters[1].read());
}

#[test]
fn the_operator_may_have_nobody_look() {
    let server = Server::start();
    granted_all(
        &server,
        &["LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b", "LOCK.ACQUIRE s a SHARED", "LOCK.ACQUIRE s b SHARED"],
    );
    let mut waiters = wait(&server, &["LOCK.ACQUIRE k1 b"]);
    assert_eq!(server.config("lock.deadlock-detection"), "yes");
    assert_eq!(ask(&server, "CONFIG SET lock.deadlock-detection no"), "OK");
    let short = ask(&server, "LOCK.ACQUIRE k2 a BLOCK 30");
    assert_eq!(short, Value::Nil, "it waited, and that ended by its time-out");
    let _upgrade = wait(&server, &["LOCK.CONVERT s a EXCLUSIVE"]);
    // That two upgrades wait for each other is plain to see.
    let reply = ask(&server, "LOCK.CONVERT s b EXCLUSIVE BLOCK 0");
    assert_eq!(reply, cycle(&["b", "s", "a", "s"]).as_str());
    waiters[0].expect_nothing_pending();
}

#[test]
fn databases_have_nothing_to_do_with_each_other() {
    let server = Server::start();
    let mut in_5 = server.connect().select(5);
    granted_all(&server, &["LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b"]);
    for line in ["LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b"] {
        fence_of(&in_5.cmd(&words(line)));
    }
    // The same names, but the links of the would-be cycle are in two databases.
    let mut zero = wait(&server, &["LOCK.ACQUIRE k1 b"]);
    let mut five = line_up(&server, server.connect().select(5), "LOCK.ACQUIRE k2 a BLOCK 0");
    assert_eq!(lock_stat(&server, "deadlocks"), 0);
    // In each of them for itself there is one to be closed.
    assert_refused(&server, "LOCK.ACQUIRE k2 a", &["a", "k2", "b", "k1"]);
    let reply = in_5.cmd(&words("LOCK.ACQUIRE k1 b BLOCK 0"));
    assert_eq!(reply, cycle(&["b", "k1", "a", "k2"]).as_str());
    release(&server, "k1", "a");
    fence_of(&zero[0].read());
    assert_eq!(in_5.cmd(&words("LOCK.RELEASE k2 b")), 1);
    fence_of(&five.read());
}

#[test]
fn leases_that_are_over_and_owners_that_wait_for_themselves() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b"]);
    let mut waiter = wait(&server, &["LOCK.ACQUIRE k1 b"]);
    // What it holds already it does not wait for.
    let fence = ask(&server, "LOCK.CHECK k1 a");
    assert!(fence.int() > 0);
    acquire(&server, "k1 a BLOCK 0");
    // Asking anew for the same place is no cycle with oneself.
    let mut anew = wait(&server, &["LOCK.ACQUIRE k1 b"]);
    assert_eq!(waiter[0].read(), Value::Nil);
    let before = digest(&server);
    let reply = ask(&server, "LOCK.ACQUIRE k2 a BLOCK 0");
    assert!(reply.error().starts_with("DEADLOCK "));
    assert_eq!(digest(&server), before);
    // The hold that would close the cycle ends, while nothing may be written and its key stays.
    let replies = crate::traffic::at_once(
        &server,
        &[&words("LOCK.RENEW k2 b PX 50"), &words("CLIENT PAUSE 20000 WRITE")],
    );
    assert_eq!(replies[0], 50);
    crate::support::wait_until("the lease to be over", || ask(&server, "LOCK.CHECK k2 b") == 0);
    let mut conn = server.connect();
    conn.send(&words("LOCK.ACQUIRE k2 a BLOCK 0"));
    assert_eq!(ask(&server, "CLIENT UNPAUSE"), "OK");
    fence_of(&conn.read());
    release(&server, "k1", "a");
    fence_of(&anew[0].read());
}
