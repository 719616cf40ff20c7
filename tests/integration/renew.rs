//! LOCK.RENEW: it sets the lease of a hold and never makes one.

use crate::steps::{
    ask, assert_changes_nothing, assert_holds, assert_left, eval, fence_of, hold, release, set_string,
    transaction, words, wrong_arity, WRONGTYPE,
};
use crate::support::{wait_until, Server, Value};

#[test]
fn a_renewal_sets_the_lease_up_or_down() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    for (options, left_ms) in
        [("PX 90000", 90_000), ("PX 20000", 20_000), ("EX 50", 50_000), ("NOEXPIRE", -1)]
    {
        assert_eq!(server.cmd(&words(&format!("LOCK.RENEW k alice {options}"))), left_ms, "{options}");
        let info = server.cmd(&["LOCK.INFO", "k"]);
        let seen = &info.field("holds").items()[0];
        assert_eq!(seen.field("lease-ms"), &left_ms, "{options}");
        assert_eq!(seen.field("fence"), &fence, "a renewal keeps the fence");
        match left_ms {
            -1 => assert_eq!(server.cmd(&words("LOCK.CHECK k alice")), -1),
            _ => assert_left(&server.cmd(&words("LOCK.CHECK k alice")), left_ms),
        }
    }
    assert_eq!(server.cmd(&words("LOCK.RENEW k alice PX 70000")), 70_000, "a hold without expiry gets one");
}

#[test]
fn without_a_time_it_is_the_holds_own_lease_again() {
    let server = Server::start();
    server.cmd(&words("LOCK.ACQUIRE k alice PX 40000"));
    assert_eq!(server.cmd(&words("LOCK.RENEW k alice")), 40_000);
    server.cmd(&words("LOCK.RENEW k alice PX 50000"));
    assert_eq!(server.cmd(&words("LOCK.RENEW k alice")), 50_000);
    server.cmd(&words("LOCK.ACQUIRE k alice PX 60000"));
    assert_eq!(server.cmd(&words("LOCK.RENEW k alice")), 60_000);
    server.cmd(&words("LOCK.ACQUIRE l alice NOEXPIRE"));
    assert_eq!(server.cmd(&words("LOCK.RENEW l alice")), -1);
}

#[test]
fn a_lease_that_is_too_long_by_now_is_not_given_again() {
    let server = Server::start();
    for (key, lease) in
        [("renewed", "PX 60000"), ("handed-over", "PX 60000"), ("shorter", "PX 20000"), ("never", "NOEXPIRE")]
    {
        fence_of(&ask(&server, &format!("LOCK.ACQUIRE {key} alice {lease}")));
    }
    assert_eq!(ask(&server, "CONFIG SET lock.max-lease-ms 30000"), "OK");
    assert!(ask(&server, "LOCK.CHECK renewed alice").int() > 50_000, "what runs is not cut");
    assert_eq!(ask(&server, "LOCK.RENEW renewed alice"), 30_000);
    assert_eq!(ask(&server, "LOCK.RENEW shorter alice"), 20_000);
    assert_eq!(ask(&server, "LOCK.RENEW never alice"), -1);
    fence_of(&ask(&server, "LOCK.TRANSFER handed-over alice bob"));
    assert_left(&ask(&server, "LOCK.CHECK handed-over bob"), 30_000);
    // The hold has the shorter lease from now on.
    assert_eq!(ask(&server, "CONFIG SET lock.max-lease-ms 90000"), "OK");
    assert_eq!(ask(&server, "LOCK.RENEW renewed alice"), 30_000);
}

#[test]
fn the_time_counts_from_the_renewal() {
    let server = Server::start();
    server.cmd(&words("LOCK.ACQUIRE k alice PX 30000"));
    wait_until("a part of the lease to pass", || server.cmd(&words("LOCK.CHECK k alice")).int() <= 29_990);
    // It sets and never adds: together with what was left it would be nearly 60 s.
    assert_eq!(server.cmd(&words("LOCK.RENEW k alice PX 30000")), 30_000);
    assert_left(&server.cmd(&words("LOCK.CHECK k alice")), 30_000);
}

#[test]
fn only_the_holder_renews() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        for other in ["bob", "alic", "alice\0", "*"] {
            assert_eq!(server.cmd(&["LOCK.RENEW", "k", other, "PX", "90000"]), 0, "{other:?}");
        }
        assert_eq!(server.cmd(&words("LOCK.RENEW free alice PX 90000")), 0);
    });
    assert_left(&server.cmd(&words("LOCK.CHECK k alice")), 30_000);
    assert_holds(&server, "k", "alice", fence);
}

#[test]
fn nothing_comes_back_to_life() {
    let server = Server::start();
    hold(&server, "released", "alice");
    let mut conn = server.connect();
    conn.send_together(&[
        &words("LOCK.RELEASE released alice"),
        &words("LOCK.RENEW released alice PX 90000"),
    ]);
    assert_eq!(conn.read(), 1);
    assert_eq!(conn.read(), 0);
    server.cmd(&words("LOCK.ACQUIRE expired alice PX 1"));
    wait_until("the lease to end", || server.cmd(&words("LOCK.CHECK expired alice")) == 0);
    assert_eq!(server.cmd(&words("LOCK.RENEW expired alice PX 90000")), 0);
    hold(&server, "deleted", "alice");
    server.cmd(&["DEL", "deleted"]);
    assert_eq!(server.cmd(&words("LOCK.RENEW deleted alice PX 90000")), 0);
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
}

#[test]
fn a_fence_must_be_the_holds_own() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        for other in [1, fence - 1, fence + 1, (1 << 53) - 1] {
            assert_eq!(server.cmd(&words(&format!("LOCK.RENEW k alice PX 90000 FENCE {other}"))), 0);
        }
    });
    assert_eq!(server.cmd(&words(&format!("LOCK.RENEW k alice PX 90000 FENCE {fence}"))), 90_000);
}

#[test]
fn withinfo_tells_the_reason() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    let renewed = server.cmd(&words("LOCK.RENEW k alice PX 90000 WITHINFO"));
    assert_eq!(renewed.field("result"), &90_000);
    assert_eq!(renewed.field("fence"), &fence);
    assert_eq!(renewed.field("lease-ms"), &90_000);
    assert_eq!(renewed.field("reason"), &"renewed");
    assert_eq!(renewed.field("holder"), &Value::Nil);

    let not_mine = server.cmd(&words("LOCK.RENEW k bob WITHINFO"));
    assert_eq!(not_mine.field("result"), &0);
    assert_eq!(not_mine.field("reason"), &"not-held");
    assert_eq!(not_mine.field("holder"), &"alice");

    assert_eq!(server.cmd(&words("LOCK.RENEW k alice PX 1")), 1);
    wait_until("the lease to end", || server.cmd(&words("LOCK.CHECK k alice")) == 0);
    let late = server.cmd(&words("LOCK.RENEW k alice WITHINFO"));
    assert_eq!(late.field("result"), &0);
    assert_eq!(late.field("fence"), &fence);
    assert_eq!(late.field("reason"), &"expired");
    assert!(late.field("ago-ms").int() >= 0);
}

#[test]
fn another_type_is_refused() {
    let server = Server::start();
    set_string(&server, "k");
    assert_changes_nothing(&server, || {
        assert_eq!(server.cmd(&words("LOCK.RENEW k alice")), WRONGTYPE);
        assert_eq!(server.cmd(&words("LOCK.RENEW k alice PX 5 FENCE 7 WITHINFO")), WRONGTYPE);
    });
}

#[test]
fn too_few_words_are_refused() {
    let server = Server::start();
    for line in ["LOCK.RENEW", "LOCK.RENEW k"] {
        assert_eq!(server.cmd(&words(line)), wrong_arity("lock.renew").as_str());
    }
}

#[test]
fn in_a_transaction_and_in_a_script() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let renew = words("LOCK.RENEW k alice PX 90000");
    let replies = transaction(&mut server.connect(), &[&renew, &words("LOCK.RENEW k bob")]);
    assert_eq!(replies, [Value::Int(90_000), Value::Int(0)]);
    let script = "return redis.call('LOCK.RENEW', KEYS[1], 'alice', 'PX', '80000')";
    assert_eq!(eval(&server, script, &["k"]), 80_000);
    release(&server, "k", "alice");
    assert_eq!(eval(&server, script, &["k"]), 0);
}
