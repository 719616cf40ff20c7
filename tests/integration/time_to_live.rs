//! A time to live that somebody gave a lock's key: who is told how long it has the lock must not lose it earlier.

use crate::round_trips::assert_round_trips;
use crate::steps::{acquire, ask, assert_changes_nothing, granted, in_line};
use crate::support::{assert_stream, ReplicaStream, Server, Value};
use crate::traffic::follow;

const NONE: i64 = -1;

/// What makes a lock `k`, and what its owner then says: it is told in reply that it has the lock.
const TOLD: [(&str, &str); 15] = [
    ("LOCK.ACQUIRE k o", "LOCK.RENEW k o PX 60000"),
    ("LOCK.ACQUIRE k o", "LOCK.RENEW k o"),
    ("LOCK.ACQUIRE k o NOEXPIRE", "LOCK.RENEW k o NOEXPIRE"),
    ("LOCK.ACQUIRE k o", "LOCK.RENEW k o TIED 1000"),
    ("LOCK.ACQUIRE k o", "LOCK.ACQUIRE k o PX 60000"),
    // A lease that is longer already is left as it is.
    ("LOCK.ACQUIRE k o PX 60000", "LOCK.ACQUIRE k o PX 5"),
    ("LOCK.ACQUIRE k o NOEXPIRE", "LOCK.ACQUIRE k o QUEUE 5"),
    ("LOCK.ACQUIRE k o", "LOCK.ACQUIRE k o REENTRANT x"),
    ("LOCK.ACQUIRE k o SHARED", "LOCK.CONVERT k o SHARED"),
    ("LOCK.ACQUIRE k o SHARED", "LOCK.CONVERT k o EXCLUSIVE"),
    ("LOCK.ACQUIRE k o", "LOCK.CONVERT k o SHARED"),
    ("LOCK.MACQUIRE o 1 k", "LOCK.MACQUIRE o 1 k PX 5"),
    ("LOCK.ACQUIRE k o", "LOCK.MRENEW o 60000 2 l k"),
    ("LOCK.ACQUIRE k o", "LOCK.TRANSFER k o p"),
    ("LOCK.ACQUIRE k p", "LOCK.STEAL k o"),
];

fn expire(server: &Server) {
    assert_eq!(ask(server, "PEXPIRE k 100000"), 1);
}

#[test]
fn whoever_is_told_that_it_has_the_lock_does_not_lose_it_by_it() {
    let server = Server::start();
    for (made, told) in TOLD {
        granted(&server, made);
        expire(&server);
        ask(&server, told);
        assert_eq!(ask(&server, "PTTL k"), NONE, "{made}, {told}");
        assert_eq!(ask(&server, "DEL k"), 1, "{told}");
    }
}

#[test]
fn a_claim_takes_it_away() {
    let server = Server::start();
    for claim in
        ["LOCK.ACQUIRE k o", "LOCK.ACQUIRE k o QUEUE 5", "LOCK.RENEW k o", "LOCK.CONVERT k o EXCLUSIVE"]
    {
        acquire(&server, "k p");
        assert_eq!(ask(&server, "LOCK.ACQUIRE k o QUEUE 60000"), Value::Nil);
        assert_eq!(ask(&server, "LOCK.RELEASE k p"), 1);
        expire(&server);
        ask(&server, claim);
        assert_eq!(ask(&server, "PTTL k"), NONE, "{claim}");
        assert_eq!(ask(&server, "LOCK.RELEASE k o"), 1);
    }
}

#[test]
fn so_does_a_release_after_which_the_owner_is_still_in() {
    let server = Server::start();
    for id in ["x", "y"] {
        acquire(&server, &format!("k o REENTRANT {id}"));
    }
    expire(&server);
    assert_eq!(ask(&server, "LOCK.RELEASE k o REENTRANT x"), 1);
    assert_eq!(ask(&server, "PTTL k"), NONE);
}

#[test]
fn an_upgrade_that_waits_has_asked_too() {
    let server = Server::start();
    for owner in ["o", "p"] {
        acquire(&server, &format!("k {owner} SHARED"));
    }
    expire(&server);
    let _waiter = in_line(&server, "LOCK.CONVERT k o EXCLUSIVE BLOCK 0");
    assert_eq!(ask(&server, "PTTL k"), NONE);
}

#[test]
fn whoever_is_told_no_changes_nothing() {
    let server = Server::start();
    let fence = acquire(&server, "k o");
    expire(&server);
    assert_changes_nothing(&server, || {
        for told in [
            "LOCK.RENEW k p",
            "LOCK.RENEW k o FENCE 7",
            "LOCK.RENEW k o PX 0",
            "LOCK.ACQUIRE k p",
            "LOCK.ACQUIRE k o FENCE 7",
            "LOCK.ACQUIRE k o SHARED",
            "LOCK.MRENEW o 60000 2 k l FENCE 7",
            "LOCK.MACQUIRE o 2 k l",
            "LOCK.CONVERT k p SHARED",
            "LOCK.RELEASE k o REENTRANT x",
            "LOCK.CHECK k o",
            "LOCK.GUARD k o * PING",
            "LOCK.INFO k",
        ] {
            ask(&server, told);
            assert!(ask(&server, "PTTL k").int() > 0, "{told}");
        }
    });
    assert!(ask(&server, &format!("LOCK.CHECK k o FENCE {fence}")).int() > 0);
}

#[test]
fn a_replica_is_told_of_it() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    acquire(&primary, "k o PX 60000");
    let mut stream = ReplicaStream::attach(&primary);
    expire(&primary);
    assert_eq!(ask(&primary, "LOCK.RENEW k o PX 60000"), 60_000);
    expire(&primary);
    acquire(&primary, "k o PX 5");
    assert_stream(
        &stream.collect(&primary),
        &[
            &["PEXPIREAT", "k", "<ms>"],
            &["MULTI"],
            &["PERSIST", "k"],
            &["LOCK._RENEW", "k", "<fence>", "4294967295", "60000", "60000", "<ms>"],
            &["EXEC"],
            &["PEXPIREAT", "k", "<ms>"],
            // Nothing else has changed.
            &["PERSIST", "k"],
        ],
    );
}

#[test]
fn files_and_replicas_do_not_have_it_any_more() {
    let prepare = |server: &Server| {
        for (key, told) in
            [("k", "LOCK.RENEW k o NOEXPIRE"), ("l", "LOCK.ACQUIRE l o"), ("m", "LOCK.CONVERT m o SHARED")]
        {
            acquire(server, &format!("{key} o NOEXPIRE"));
            assert_eq!(ask(server, &format!("PEXPIRE {key} 100000")), 1);
            ask(server, told);
        }
    };
    assert_round_trips(&["k", "l", "m"], prepare, |server, from| {
        for key in ["k", "l", "m"] {
            assert_eq!(ask(server, &format!("PTTL {key}")), NONE, "{key} from {from}");
            assert_eq!(ask(server, &format!("LOCK.CHECK {key} o")), -1, "{key} from {from}");
        }
    });
}
