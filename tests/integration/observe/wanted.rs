//! A holder that listens for others who want its lock, and how it is asked to give it up.

use crate::group::line_up;
use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, eval, fence_of, granted, in_line, observing,
    release, set_string, transaction, wait_for_lock, watch, words, wrong_arity, WRONGTYPE,
};
use crate::support::{ReplicaStream, Server, Value};

const NOT_HELD: &str = "NOTHELD the owner does not hold the lock; nothing was done, so acquire it again";
const HOLD_ENDED: &str = "NOTHELD the hold has ended; acquire the lock again";

#[test]
fn a_holder_is_told_of_the_first_who_waits() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut alice = watch(&server, "LOCK.AWAIT k alice WANTED BLOCK 0");
    // Whoever only tries wants it no longer by the time somebody could tell.
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob"), Value::Nil);
    alice.expect_nothing_pending();
    let mut bob = wait_for_lock(&server, "k", "bob");
    assert_eq!(alice.read(), 1);
    assert_eq!(alice.cmd(&words("LOCK.AWAIT k alice WANTED")), 1, "still");
    assert_eq!(alice.cmd(&words("LOCK.AWAIT k alice WANTED BLOCK 0")), 1);
    assert_eq!(alice.cmd(&words("LOCK.RELEASE k alice")), 1);
    assert_granted(&server, &mut bob, "k", "bob");
}

#[test]
fn who_has_gone_does_not_want_it_any_more() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut bob = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 1000");
    assert_eq!(ask(&server, "LOCK.AWAIT k alice WANTED"), 1);
    assert_eq!(bob.read(), Value::Nil);
    assert_eq!(ask(&server, "LOCK.AWAIT k alice WANTED"), Value::Nil);
    let _alice = watch(&server, "LOCK.AWAIT k alice WANTED BLOCK 0");
}

#[test]
fn each_of_several_holders_is_in_the_way() {
    let server = Server::start();
    for mode in ["SHARED", "LIMIT 4 PERMITS 2"] {
        let mut readers = ["alice", "bob"].map(|name| {
            acquire(&server, &format!("k {name} {mode}"));
            watch(&server, &format!("LOCK.AWAIT k {name} WANTED BLOCK 0"))
        });
        let claim = if mode == "SHARED" { "" } else { "LIMIT 4 PERMITS 1" };
        let command = format!("LOCK.ACQUIRE k carol {claim} BLOCK 0");
        let mut carol = in_line(&server, &command);
        readers.iter_mut().for_each(|reader| assert_eq!(reader.read(), 1, "{mode}"));
        assert_eq!(ask(&server, "LOCK.BREAK k"), 2);
        fence_of(&carol.read());
        ask(&server, "LOCK.BREAK k");
    }
}

#[test]
fn nobody_is_in_its_own_way() {
    let server = Server::start();
    for name in ["alice", "bob"] {
        acquire(&server, &format!("k {name} SHARED"));
    }
    let mut alice = watch(&server, "LOCK.AWAIT k alice WANTED BLOCK 0");
    let mut bob = watch(&server, "LOCK.AWAIT k bob WANTED BLOCK 0");
    let mut upgrade = in_line(&server, "LOCK.CONVERT k alice EXCLUSIVE BLOCK 0");
    assert_eq!(bob.read(), 1);
    alice.expect_nothing_pending();
    release(&server, "k", "bob");
    fence_of(&upgrade.read());
    assert_eq!(alice.read(), HOLD_ENDED, "the shared hold has become another one");
}

#[test]
fn a_lock_that_is_not_in_the_way_is_not_wanted() {
    let server = Server::start();
    acquire(&server, "k alice SHARED");
    acquire(&server, "l bob");
    let mut alice = watch(&server, "LOCK.AWAIT k alice WANTED BLOCK 0");
    let mut bob = watch(&server, "LOCK.AWAIT l bob WANTED BLOCK 0");
    // This one fits beside alice, and waits for bob only.
    let _group = line_up(&server, server.connect(), "LOCK.MACQUIRE group 2 k l SHARED BLOCK 0");
    assert_eq!(bob.read(), 1);
    alice.expect_nothing_pending();
    assert_eq!(observing(&server), 1);
}

#[test]
fn who_does_not_hold_the_lock_is_told_so() {
    let server = Server::start();
    assert_eq!(ask(&server, "LOCK.AWAIT k alice WANTED BLOCK 0"), NOT_HELD);
    acquire(&server, "k bob");
    assert_eq!(ask(&server, "LOCK.AWAIT k alice WANTED BLOCK 0"), NOT_HELD);
    assert_eq!(ask(&server, "LOCK.AWAIT k FREE WANTED"), NOT_HELD, "FREE is an owner here");
    assert_eq!(ask(&server, "LOCK.ACQUIRE l FREE").int(), ask(&server, "LOCK.ACQUIRE l FREE").int());
    assert_eq!(ask(&server, "LOCK.AWAIT l FREE WANTED"), Value::Nil);
}

#[test]
fn a_holder_learns_that_its_hold_has_ended() {
    let server = Server::start();
    for (terms, line) in [
        ("", "LOCK.RELEASE k alice"),
        ("", "LOCK.BREAK k"),
        ("", "LOCK.STEAL k alice"),
        ("", "LOCK.TRANSFER k alice bob"),
        ("PX 200", "PING"),
    ] {
        acquire(&server, &format!("k alice {terms}"));
        let mut alice = watch(&server, "LOCK.AWAIT k alice WANTED BLOCK 0");
        ask(&server, line);
        assert_eq!(alice.read(), HOLD_ENDED, "{line}");
        ask(&server, "LOCK.BREAK k");
    }
    // Renewed, converted and entered once more it is the same hold.
    acquire(&server, "k alice");
    let mut alice = watch(&server, "LOCK.AWAIT k alice WANTED BLOCK 0");
    for line in ["LOCK.RENEW k alice", "LOCK.ACQUIRE k alice REENTRANT x", "LOCK.CONVERT k alice SHARED"] {
        assert!(!matches!(ask(&server, line), Value::Error(_)), "{line}");
    }
    assert_eq!(observing(&server), 1);
    alice.expect_nothing_pending();
}

#[test]
fn holders_are_asked() {
    let server = Server::start();
    assert_eq!(ask(&server, "LOCK.REVOKE k"), 0);
    for name in ["alice", "bob"] {
        acquire(&server, &format!("k {name} SHARED"));
    }
    let mut listening = watch(&server, "LOCK.AWAIT k alice WANTED BLOCK 0");
    assert_eq!(ask(&server, "LOCK.REVOKE k"), 2);
    assert_eq!(listening.read(), 1);
    // It is kept for those who listen later, until their hold ends, and concerns nobody who comes later.
    for line in ["LOCK.AWAIT k alice WANTED BLOCK 0", "LOCK.AWAIT k bob WANTED"] {
        assert_eq!(ask(&server, line), 1, "{line}");
    }
    acquire(&server, "k carol SHARED");
    assert_eq!(ask(&server, "LOCK.AWAIT k carol WANTED"), Value::Nil);
    ask(&server, "LOCK.RENEW k bob PX 50000");
    assert_eq!(ask(&server, "RENAME k l"), "OK");
    assert_eq!(ask(&server, "LOCK.AWAIT l bob WANTED"), 1);
    release(&server, "l", "bob");
    acquire(&server, "l bob SHARED");
    assert_eq!(ask(&server, "LOCK.AWAIT l bob WANTED"), Value::Nil);
    assert_eq!(ask(&server, "LOCK.REVOKE l"), 3);
    assert_eq!(ask(&server, "LOCK.REVOKE l"), 3, "as often as one likes");
    let fence = granted(&server, "LOCK.TRANSFER l bob dave");
    assert!(fence > 0);
    assert_eq!(ask(&server, "LOCK.AWAIT l dave WANTED"), Value::Nil, "dave was not asked");
}

#[test]
fn a_hold_that_is_over_is_not_asked() {
    let server = Server::start();
    let mut conn = server.connect();
    conn.send_together(&[
        &words("LOCK.ACQUIRE k alice PX 1"),
        &words("DEBUG SLEEP 0.01"),
        &words("LOCK.REVOKE k"),
    ]);
    fence_of(&conn.read());
    assert_eq!(conn.read(), "OK");
    assert_eq!(conn.read(), 0);
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn asking_takes_nothing_away() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LOCK.REVOKE k"), 1);
        assert_eq!(ask(&server, "LOCK.REVOKE none"), 0);
        assert_eq!(ask(&server, "LOCK.AWAIT k alice WANTED"), 1);
    });
    assert_eq!(ask(&server, "LOCK.REVOKE"), wrong_arity("lock.revoke").as_str());
    assert_eq!(ask(&server, "LOCK.REVOKE k alice"), wrong_arity("lock.revoke").as_str());
    set_string(&server, "text");
    assert_eq!(ask(&server, "LOCK.REVOKE text"), WRONGTYPE);
}

#[test]
fn transactions_and_scripts_ask_and_hear() {
    let server = Server::start();
    acquire(&server, "k alice");
    let ask = words("LOCK.REVOKE k");
    let hear = words("LOCK.AWAIT k alice WANTED BLOCK 0");
    let replies = transaction(&mut server.connect(), &[&hear, &ask, &hear]);
    assert_eq!(replies, [Value::Nil, Value::Int(1), Value::Int(1)]);
    acquire(&server, "l alice");
    assert_eq!(eval(&server, "return redis.call('LOCK.REVOKE', KEYS[1])", &["l"]), 1);
}

#[test]
fn what_was_asked_is_not_stored() {
    let server = Server::start();
    acquire(&server, "k alice");
    let before = ask(&server, "DEBUG DIGEST-VALUE k");
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(ask(&server, "LOCK.REVOKE k"), 1);
    assert_eq!(ask(&server, "LOCK.RENEW k alice PX 30000"), 30_000);
    let sent = stream.collect(&server);
    let [hold] = &sent[..] else { panic!("only the renewal is told: {sent:?}") };
    assert_eq!(hold.len(), 7, "and nothing more than of a plain hold: {hold:?}");
    assert_eq!(ask(&server, "DEBUG DIGEST-VALUE k"), before);
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    assert_eq!(ask(&server, "LOCK.AWAIT k alice WANTED"), Value::Nil, "it is a hint, and ends with the load");
}
