//! RELEASE … CANCEL and MRELEASE … CANCEL: what a client sends that gives up, in one request, whether it waits or has got
//! the lock meanwhile.

use super::{get_ticket, let_claims_take, tickets};
use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, fence_of, holder, queue, release, wait_for_lock,
    waiting, words,
};
use crate::support::{assert_stream, ReplicaStream, Server, Value};
use crate::traffic::lock_stat;

#[test]
fn a_wait_a_ticket_and_both_end_and_the_next_is_served() {
    let server = Server::start();
    acquire(&server, "k alice SHARED");
    let mut waits = wait_for_lock(&server, "k", "bob");
    let mut reader = server.connect();
    reader.send(&words("LOCK.ACQUIRE k carol SHARED BLOCK 0"));
    crate::support::wait::wait_waiting_on(&mut server.connect(), "k", 2);
    let told = ask(&server, "LOCK.RELEASE k bob CANCEL WITHINFO");
    assert_eq!((told.field("result"), told.field("reason")), (&Value::Int(1), &Value::bulk("cancelled")));
    assert_eq!(waits.read(), Value::Nil);
    fence_of(&reader.read());
    get_ticket(&server, "k", "bob");
    assert_eq!(ask(&server, "LOCK.RELEASE k bob CANCEL"), 1);
    waits.send(&words("LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000"));
    crate::support::wait::wait_waiting_on(&mut server.connect(), "k", 1);
    assert_eq!(ask(&server, "LOCK.RELEASE k bob CANCEL"), 1);
    assert_eq!(waits.read(), Value::Nil);
    assert_eq!((waiting(&server, "k"), tickets(&server), lock_stat(&server, "cancelled")), (0, 0, 3));
    assert_eq!(ask(&server, "LOCK.RELEASE k bob CANCEL"), 0, "nothing is left to end");
}

#[test]
fn a_turn_that_came_meanwhile_is_given_back() {
    let server = Server::start();
    let_claims_take(&server, 60_000);
    acquire(&server, "k alice");
    get_ticket(&server, "k", "bob");
    let mut carol = wait_for_lock(&server, "k", "carol");
    release(&server, "k", "alice");
    let told = ask(&server, "LOCK.RELEASE k bob CANCEL WITHINFO");
    assert_eq!((told.field("result"), told.field("reason")), (&Value::Int(1), &Value::bulk("released")));
    assert_granted(&server, &mut carol, "k", "carol");
}

#[test]
fn a_hold_and_the_wait_for_its_upgrade_end_together() {
    let server = Server::start();
    for owner in ["alice", "bob"] {
        acquire(&server, &format!("k {owner} SHARED"));
    }
    assert_eq!(ask(&server, "LOCK.CONVERT k bob EXCLUSIVE QUEUE 60000"), Value::Nil);
    assert_eq!(ask(&server, "LOCK.RELEASE k bob CANCEL"), 1);
    assert_eq!((waiting(&server, "k"), holder(&server, "k").as_deref()), (0, Some("alice")));
    release(&server, "k", "alice");
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn without_the_word_a_wait_is_left_alone() {
    let server = Server::start();
    acquire(&server, "k alice");
    get_ticket(&server, "k", "bob");
    assert_eq!(ask(&server, "LOCK.RELEASE k bob"), 0);
    assert_eq!(queue(&server, "k"), ["bob"]);
    let fence = acquire(&server, "l bob");
    assert_eq!(
        ask(&server, &format!("LOCK.RELEASE k bob FENCE {fence} CANCEL")),
        1,
        "the fence is the hold's"
    );
    assert_eq!(waiting(&server, "k"), 0);
}

#[test]
fn several_locks_are_given_up_at_once() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "LOCK.MACQUIRE bob 2 k l QUEUE 60000"), Value::Nil);
    acquire(&server, "m bob");
    assert_eq!(ask(&server, "LOCK.MRELEASE bob 3 k l m CANCEL"), 1, "the one that it held");
    assert_eq!((waiting(&server, "k"), waiting(&server, "l"), tickets(&server)), (0, 0, 0));
    let_claims_take(&server, 60_000);
    assert_eq!(ask(&server, "LOCK.MACQUIRE bob 2 k l QUEUE 60000"), Value::Nil);
    release(&server, "k", "alice");
    assert_eq!(ask(&server, "LOCK.MRELEASE bob 2 k l CANCEL"), 2, "its turn had come");
    assert_eq!(ask(&server, "EXISTS k l"), 0);
}

#[test]
fn the_stream_has_the_end_of_the_hold_alone() {
    let server = Server::start();
    acquire(&server, "k alice");
    get_ticket(&server, "k", "bob");
    let fence = acquire(&server, "l bob").to_string();
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(ask(&server, "LOCK.RELEASE k bob CANCEL"), 1);
    assert_stream(&stream.collect(&server), &[]);
    assert_eq!(ask(&server, "LOCK.RELEASE l bob CANCEL"), 1);
    assert_stream(&stream.collect(&server), &[&["LOCK._FREE", "l", &fence]]);
}

#[test]
fn refused_words_end_nothing() {
    let server = Server::start();
    acquire(&server, "k bob SHARED REENTRANT x");
    acquire(&server, "k alice SHARED");
    assert_eq!(ask(&server, "LOCK.CONVERT k bob EXCLUSIVE QUEUE 60000"), Value::Nil);
    assert_changes_nothing(&server, || {
        let reply = ask(&server, "LOCK.RELEASE k bob CANCEL");
        assert!(reply.error().starts_with("LOCKMODE "), "{reply:?}");
        let reply = ask(&server, "LOCK.RELEASE k bob CANCEL CANCEL");
        assert_eq!(reply, "BADARG CANCEL is given twice, or beside an option that excludes it");
        let reply = ask(&server, "LOCK.MRENEW bob 5 1 k CANCEL");
        assert_eq!(reply, "BADARG unknown option 'CANCEL'; see LOCK.HELP");
    });
    assert_eq!(queue(&server, "k"), ["bob"]);
    assert_eq!(ask(&server, "LOCK.RELEASE k bob REENTRANT x CANCEL"), 1);
    assert_eq!(waiting(&server, "k"), 0);
}
