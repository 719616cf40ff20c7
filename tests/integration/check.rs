//! LOCK.CHECK: whether an owner holds a lock, without touching it.

use crate::steps::{
    assert_changes_nothing, assert_left, eval, fence_of, hold, release, set_string, transaction,
    wait_for_lock, words, wrong_arity, WRONGTYPE,
};
use crate::support::{wait_until, Server, Value};

#[test]
fn it_tells_what_is_left() {
    let server = Server::start();
    server.cmd(&words("LOCK.ACQUIRE k alice PX 50000"));
    server.cmd(&words("LOCK.ACQUIRE l alice NOEXPIRE"));
    assert_left(&server.cmd(&words("LOCK.CHECK k alice")), 50_000);
    assert_eq!(server.cmd(&words("LOCK.CHECK l alice")), -1);
    for line in ["LOCK.CHECK k bob", "LOCK.CHECK k alic", "LOCK.CHECK k *", "LOCK.CHECK free alice"] {
        assert_eq!(server.cmd(&words(line)), 0, "{line}");
    }
    release(&server, "k", "alice");
    assert_eq!(server.cmd(&words("LOCK.CHECK k alice")), 0);
}

#[test]
fn it_counts_down_and_rounds_up() {
    let server = Server::start();
    server.cmd(&words("LOCK.ACQUIRE k alice PX 50000"));
    let first = server.cmd(&words("LOCK.CHECK k alice")).int();
    wait_until("time to pass", || server.cmd(&words("LOCK.CHECK k alice")).int() < first);
    // Rounded down, the last millisecond of a hold would read 0, as if it were over.
    let mut conn = server.connect();
    wait_until("a hold in its last millisecond", || {
        let replies = transaction(
            &mut conn,
            &[&words("LOCK.ACQUIRE last alice PX 1"), &words("LOCK.CHECK last alice")],
        );
        replies[1] == 1
    });
}

#[test]
fn a_waiter_does_not_hold() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let _waiter = wait_for_lock(&server, "k", "bob");
    assert_eq!(server.cmd(&words("LOCK.CHECK k bob")), 0);
}

#[test]
fn it_changes_nothing() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        for line in [
            "LOCK.CHECK k alice".to_owned(),
            "LOCK.CHECK k bob WITHINFO".to_owned(),
            "LOCK.CHECK free alice WITHINFO".to_owned(),
            format!("LOCK.CHECK k alice FENCE {fence} WITHINFO"),
        ] {
            server.cmd(&words(&line));
        }
    });
    assert_eq!(server.cmd(&["EXISTS", "free"]), 0);
}

#[test]
fn a_fence_must_be_the_holds_own() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_left(&server.cmd(&words(&format!("LOCK.CHECK k alice FENCE {fence}"))), 30_000);
    for other in [1, fence - 1, fence + 1, (1 << 53) - 1] {
        assert_eq!(server.cmd(&words(&format!("LOCK.CHECK k alice FENCE {other}"))), 0);
    }
    assert_eq!(server.cmd(&words(&format!("LOCK.CHECK k bob FENCE {fence}"))), 0);
}

#[test]
fn withinfo_tells_the_reason() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    let held = server.cmd(&words("LOCK.CHECK k alice WITHINFO"));
    assert_left(held.field("result"), 30_000);
    assert_eq!(held.field("lease-ms"), held.field("result"));
    assert_eq!(held.field("fence"), &fence);
    assert_eq!(held.field("reason"), &"held");
    assert_eq!(held.field("ago-ms"), &Value::Nil);
    assert_eq!(held.field("holder"), &Value::Nil);

    let not_mine = server.cmd(&words("LOCK.CHECK k bob WITHINFO"));
    assert_eq!(not_mine.field("result"), &0);
    assert_eq!(not_mine.field("fence"), &Value::Nil);
    assert_eq!(not_mine.field("reason"), &"not-held");
    assert_eq!(not_mine.field("holder"), &"alice");

    // A fence that is not the hold's: the owner is the holder, but of another hold.
    let other = server.cmd(&words("LOCK.CHECK k alice FENCE 7 WITHINFO"));
    assert_eq!(other.field("result"), &0);
    assert_eq!(other.field("reason"), &"other-fence");
    assert_eq!(other.field("fence"), &Value::Nil);
    // So it is for one of several, too.
    for reader in ["ann", "ben", "cleo"] {
        fence_of(&server.cmd(&["LOCK.ACQUIRE", "s", reader, "SHARED"]));
    }
    for reader in ["ann", "ben", "cleo"] {
        let other = server.cmd(&["LOCK.CHECK", "s", reader, "FENCE", "7", "WITHINFO"]);
        assert_eq!(
            (other.field("reason").text(), other.field("holder").text()),
            ("other-fence".into(), reader.into())
        );
    }

    server.cmd(&["DEL", "k"]);
    hold(&server, "k", "bob");
    let lost = server.cmd(&words("LOCK.CHECK k alice WITHINFO"));
    assert_eq!(lost.field("result"), &0);
    assert_eq!(lost.field("fence"), &fence);
    assert_eq!(lost.field("reason"), &"deleted");
    assert!(lost.field("ago-ms").int() >= 0);
    assert_eq!(lost.field("holder"), &"bob");
}

#[test]
fn another_type_is_refused() {
    let server = Server::start();
    set_string(&server, "k");
    assert_eq!(server.cmd(&words("LOCK.CHECK k alice")), WRONGTYPE);
    assert_eq!(server.cmd(&words("LOCK.CHECK k alice FENCE 7 WITHINFO")), WRONGTYPE);
}

#[test]
fn too_few_words_are_refused() {
    let server = Server::start();
    for line in ["LOCK.CHECK", "LOCK.CHECK k"] {
        assert_eq!(server.cmd(&words(line)), wrong_arity("lock.check").as_str());
    }
}

#[test]
fn in_a_transaction_it_guards_the_writes_beside_it() {
    let server = Server::start();
    server.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE"));
    let replies =
        transaction(&mut server.connect(), &[&words("LOCK.CHECK k alice"), &words("LOCK.CHECK k bob")]);
    assert_eq!(replies, [Value::Int(-1), Value::Int(0)]);
}

#[test]
fn in_a_script_that_may_only_read() {
    let server = Server::start();
    server.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE"));
    let script =
        "return {redis.call('LOCK.CHECK', KEYS[1], 'alice'), redis.call('LOCK.CHECK', KEYS[1], 'bob')}";
    let both = Value::Array(vec![Value::Int(-1), Value::Int(0)]);
    assert_eq!(eval(&server, script, &["k"]), both);
    assert_eq!(server.cmd(&["EVAL_RO", script, "1", "k"]), both);
}
