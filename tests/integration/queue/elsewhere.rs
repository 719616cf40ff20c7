//! Where a ticket is asked for: in transactions, in scripts, under a guard, for several locks, in other databases.

use super::{claim, get_ticket, let_claims_take, tickets};
use crate::steps::{
    acquire, acquire_by, ask, assert_granted, assert_holds, assert_left, eval, fence_of, granted, holder,
    queue, release, transaction, wait_for_lock, words,
};
use crate::support::{wait_until, Server, Value};
use crate::traffic::lock_stat;

#[test]
fn in_transactions_and_scripts_a_ticket_is_a_ticket() {
    let server = Server::start();
    let mut conn = server.connect();
    acquire(&server, "k alice");
    let poll = |owner| format!("LOCK.ACQUIRE k {owner} QUEUE 60000");
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'carol', 'QUEUE', 60000)";
    assert_eq!(transaction(&mut conn, &[&words(&poll("bob"))]), [Value::Nil]);
    assert_eq!(eval(&server, script, &["k"]), Value::Nil);
    assert_eq!(queue(&server, "k"), ["bob", "carol"]);
    release(&server, "k", "alice");
    let told = transaction(&mut conn, &[&words(&poll("bob")), &["LOCK.RELEASE", "k", "bob"]]);
    assert_eq!((fence_of(&told[0]) > 0, &told[1]), (true, &Value::Int(1)));
    let fence = fence_of(&eval(&server, script, &["k"]));
    assert_holds(&server, "k", "carol", fence);
}

#[test]
fn a_ticket_under_a_guard() {
    let server = Server::start();
    acquire(&server, "k alice");
    acquire(&server, "gate bob");
    let line = "LOCK.GUARD gate bob * LOCK.ACQUIRE k bob QUEUE 60000";
    assert_eq!(ask(&server, line), Value::Nil);
    assert_eq!(queue(&server, "k"), ["bob"]);
    release(&server, "k", "alice");
    let fence = granted(&server, line);
    assert_holds(&server, "k", "bob", fence);
}

#[test]
fn a_guard_claims_the_turn_for_who_may_change_the_lock() {
    let server = Server::start();
    let_claims_take(&server, 60_000);
    for (user, rights, lease_ms) in [("may", "~*", 90_000), ("may-not", "%R~k ~x", 60_000)] {
        acquire(&server, "k alice");
        assert_eq!(ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000 PX 90000"), Value::Nil);
        release(&server, "k", "alice");
        assert_eq!(ask(&server, &format!("ACL SETUSER {user} on >secret {rights} +@all")), "OK");
        let mut conn = server.connect();
        assert_eq!(conn.cmd(&["AUTH", user, "secret"]), "OK");
        assert_eq!(conn.cmd(&words("LOCK.GUARD k bob * SET x 1")), "OK");
        assert_left(&ask(&server, "LOCK.CHECK k bob"), lease_ms);
        release(&server, "k", "bob");
    }
}

#[test]
fn several_locks_have_one_ticket() {
    let server = Server::start();
    acquire(&server, "k alice");
    acquire(&server, "l anna");
    let poll = || ask(&server, "LOCK.MACQUIRE bob 2 k l QUEUE 60000");
    assert_eq!((poll(), poll()), (Value::Nil, Value::Nil));
    assert_eq!((tickets(&server), lock_stat(&server, "queued")), (1, 1));
    get_ticket(&server, "k", "carol");
    release(&server, "k", "alice");
    assert_eq!((poll(), holder(&server, "k")), (Value::Nil, None), "nobody passes it");
    release(&server, "l", "anna");
    let fence = fence_of(&poll());
    for key in ["k", "l"] {
        assert_holds(&server, key, "bob", fence);
    }
    assert_eq!(ask(&server, "LOCK.MRELEASE bob 2 k l"), 2);
    claim(&server, "k", "carol");
}

#[test]
fn several_locks_that_nobody_claims_all_go_on() {
    let server = Server::start();
    let_claims_take(&server, 50);
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "LOCK.MACQUIRE bob 2 k l QUEUE 60000"), Value::Nil);
    let mut carol = wait_for_lock(&server, "k", "carol");
    let mut dora = wait_for_lock(&server, "l", "dora");
    release(&server, "k", "alice");
    assert_granted(&server, &mut carol, "k", "carol");
    assert_granted(&server, &mut dora, "l", "dora");
    assert_eq!(lock_stat(&server, "unclaimed"), 2);
}

#[test]
fn a_ticket_for_less_than_before_can_have_its_turn_at_once() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "LOCK.MACQUIRE bob 2 k l QUEUE 60000"), Value::Nil);
    let fence = acquire(&server, "l bob QUEUE 60000");
    assert_holds(&server, "l", "bob", fence);
    assert_eq!((tickets(&server), lock_stat(&server, "unclaimed")), (0, 0));
    assert!(ask(&server, "LOCK.CHECK l bob").int() > 1_000, "it was claimed with that");
}

#[test]
fn each_database_has_its_own_line() {
    let server = Server::start();
    let mut other = server.connect().select(5);
    acquire(&server, "k alice");
    acquire_by(&mut other, "k alice");
    get_ticket(&server, "k", "bob");
    assert_eq!(other.cmd(&words("LOCK.RELEASE k alice")), 1);
    assert_eq!(holder(&server, "k").as_deref(), Some("alice"));
    assert_eq!(ask(&server, "SWAPDB 0 5"), "OK");
    wait_until("the turn in the database that is empty now", || {
        holder(&server, "k").as_deref() == Some("bob")
    });
    claim(&server, "k", "bob");
}
