//! Locks of several slots on one node: while a command on one of them runs, nothing is found out about the others, and
//! nothing is done to them.

use super::{single, HIGH, LOW};
use crate::steps::{acquire, ask, in_line, watch};
use crate::support::{Connection, Server, Value};
use crate::traffic::{at_once, left, lock_stat, wait_quiet};

/// A lock in another slot that `holder` holds and `x` waits for, and one that `x` holds.
fn chain_over_two_slots(server: &Server) -> Connection {
    acquire(server, &format!("{HIGH} holder NOEXPIRE"));
    acquire(server, &format!("{LOW} x NOEXPIRE"));
    in_line(server, &format!("LOCK.ACQUIRE {HIGH} x BLOCK 0"))
}

/// The chain is as it was, and `holder` can still hand over.
fn assert_untouched(server: &Server, mut x: Connection) {
    x.expect_nothing_pending();
    assert_eq!((left(server, HIGH, "holder"), left(server, HIGH, "x")), (-1, 0));
    assert_eq!(ask(server, "DBSIZE"), 2);
    assert_eq!((lock_stat(server, "held"), lock_stat(server, "waiting")), (2, 1));
    assert_eq!(ask(server, &format!("LOCK.RELEASE {HIGH} holder")), 1);
    assert!(x.read().int() > 0);
    wait_quiet(server);
}

#[test]
fn a_wait_in_one_slot_does_nothing_to_a_lock_in_another() {
    let server = single();
    let x = chain_over_two_slots(&server);
    assert_eq!(ask(&server, &format!("LOCK.ACQUIRE {LOW} z BLOCK 50")), Value::Nil);
    // A circle through two slots is not found: the wait ends with its time.
    assert_eq!(ask(&server, &format!("LOCK.ACQUIRE {LOW} holder BLOCK 50")), Value::Nil);
    assert_untouched(&server, x);
}

#[test]
fn nor_does_a_transfer_or_a_ticket() {
    let server = single();
    let x = chain_over_two_slots(&server);
    acquire(&server, "{bar}2 q NOEXPIRE");
    assert!(ask(&server, "LOCK.TRANSFER {bar}2 q x NOEXPIRE").int() > 0);
    assert_eq!(ask(&server, "LOCK.RELEASE {bar}2 x"), 1);
    assert_eq!(ask(&server, &format!("LOCK.ACQUIRE {LOW} z QUEUE 60000")), Value::Nil);
    assert_eq!(ask(&server, &format!("LOCK.CANCEL {LOW} z")), 1);
    assert_untouched(&server, x);
}

#[test]
fn a_circle_in_one_slot_is_found() {
    let server = single();
    acquire(&server, "{bar}1 x");
    acquire(&server, "{bar}2 y");
    let mut x = in_line(&server, "LOCK.ACQUIRE {bar}2 x BLOCK 0");
    let reply = ask(&server, "LOCK.ACQUIRE {bar}1 y BLOCK 0");
    assert!(reply.error().starts_with("DEADLOCK "), "{reply:?}");
    assert_eq!(ask(&server, "LOCK.RELEASE {bar}2 y"), 1);
    assert!(x.read().int() > 0);
}

#[test]
fn who_watches_a_lock_is_told_nothing_by_a_command_on_another_slot() {
    let server = single();
    for round in 0..20 {
        acquire(&server, "{bar}2 holder NOEXPIRE");
        acquire(&server, &format!("{LOW} holder NOEXPIRE"));
        let mut free = watch(&server, &format!("LOCK.AWAIT {LOW} FREE BLOCK 0"));
        // The key is to be looked at again, and before that a command on another slot comes.
        let replies = at_once(
            &server,
            &[&["RENAME", "{bar}2", LOW], &["LOCK.ACQUIRE", HIGH, "q"], &["LOCK.RELEASE", HIGH, "q"]],
        );
        assert_eq!(replies[0], "OK");
        assert_eq!(replies[2], 1);
        free.expect_nothing_pending();
        let mut wanted = watch(&server, &format!("LOCK.AWAIT {LOW} holder WANTED BLOCK 0"));
        free.expect_nothing_pending();
        wanted.expect_nothing_pending();
        assert_eq!(ask(&server, &format!("LOCK.RELEASE {LOW} holder")), 1, "round {round}");
        assert_eq!(free.read(), 1);
        assert!(wanted.read().error().starts_with("NOTHELD "));
    }
}
