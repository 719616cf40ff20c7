//! What replicas and files are told when a hold changes hands: ends and grants in one piece, and data that are the same
//! everywhere.

use super::{ask, owners, take};
use crate::group::line_up;
use crate::steps::{assert_changes_nothing, assert_holds, digest, eval, fence_of, hold, transaction, words};
use crate::support::aof::read_aof;
use crate::support::stream::step;
use crate::support::{assert_stream, wait_until, ReplicaStream, Server, Stop};
use crate::traffic::{follow, is_effect, wait_no_child, wait_same_data, ALL};

/// An exclusive hold without expiry as it stands in the stream.
macro_rules! hold_of {
    ($key:literal, $owner:literal, $fence:literal) => {
        &["LOCK._HOLD", $key, $owner, $fence, "-1"]
    };
}

#[test]
fn ends_and_grants_of_one_step_stand_together() {
    let server = Server::start();
    take(&server, "LOCK.ACQUIRE k alice NOEXPIRE NOTE why");
    let _waiter = line_up(&server, server.connect(), "LOCK.ACQUIRE k carol NOEXPIRE BLOCK 0");
    let mut stream = ReplicaStream::attach(&server);
    take(&server, "LOCK.TRANSFER k alice bob PX 5000");
    take(&server, "LOCK.STEAL k eve NOEXPIRE");
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1);
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1);
    take(&server, "LOCK.STEAL k eve LIMIT 3 PERMITS 2 NOEXPIRE NOTE mine");
    assert_stream(
        &stream.collect(&server),
        &[
            &step(&[
                &["LOCK._FREE", "k", "<fence>"],
                &["LOCK._HOLD", "k", "bob", "<fence-2>", ALL, ALL, "5000", "5000", "<ms>", "why"],
            ]),
            &step(&[&["LOCK._FREE", "k", "<fence-2>"], hold_of!("k", "eve", "<fence-3>")]),
            // To who waits.
            &step(&[&["LOCK._FREE", "k", "<fence-3>"], hold_of!("k", "carol", "<fence-4>")]),
            &["LOCK._FREE", "k", "<fence-4>"],
            &["LOCK._HOLD", "k", "eve", "<fence-5>", "3", "2", "-1", "-1", "-1", "mine"],
        ],
    );
}

#[test]
fn all_holds_end_before_anybody_is_served() {
    let server = Server::start();
    for (owner, permits) in [("ann", 1), ("ben", 2)] {
        take(&server, &format!("LOCK.ACQUIRE k {owner} LIMIT 3 PERMITS {permits} NOEXPIRE"));
    }
    let mut next = line_up(&server, server.connect(), "LOCK.ACQUIRE k cleo LIMIT 3 NOEXPIRE BLOCK 0");
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(ask(&server, "LOCK.BREAK k"), 2);
    fence_of(&next.read());
    take(&server, "LOCK.ACQUIRE k dora LIMIT 3 NOEXPIRE");
    assert_eq!(ask(&server, "LOCK.BREAK k OWNER cleo REASON enough"), 1);
    take(&server, "LOCK.STEAL k eve NOEXPIRE");
    assert_stream(
        &stream.collect(&server),
        &[
            &step(&[
                &["LOCK._FREE", "k", "<fence-ann>"],
                &["LOCK._FREE", "k", "<fence-ben>"],
                &["LOCK._HOLD", "k", "cleo", "<fence-cleo>", "3", "1", "-1", "-1", "-1"],
            ]),
            &["LOCK._HOLD", "k", "dora", "<fence-dora>", "3", "1", "-1", "-1", "-1"],
            &["LOCK._FREE", "k", "<fence-cleo>"],
            &step(&[&["LOCK._FREE", "k", "<fence-dora>"], hold_of!("k", "eve", "<fence-eve>")]),
        ],
    );
}

#[test]
fn what_came_to_nothing_says_nothing() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let mut waiter = line_up(&server, server.connect(), "LOCK.ACQUIRE k bob BLOCK 0");
    assert_changes_nothing(&server, || {
        for line in [
            "LOCK.TRANSFER k bob alice",
            "LOCK.BREAK k OWNER bob",
            "LOCK.BREAK free",
            "LOCK.CANCEL k bob",
            "LOCK.CANCEL k bob",
        ] {
            ask(&server, line);
        }
    });
    waiter.read();
}

#[test]
fn a_transaction_and_a_script_are_one_piece() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    let lines = ["LOCK.STEAL k alice NOEXPIRE", "LOCK.TRANSFER k alice bob", "LOCK.BREAK k"];
    let commands = lines.map(words);
    let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
    transaction(&mut server.connect(), &commands);
    let calls =
        lines.map(|line| format!("redis.call('{}')", line.replace(' ', "', '")).replace("'k'", "KEYS[1]"));
    eval(&server, &calls.join(" "), &["k"]);
    let piece = |first, second| {
        [
            vec!["MULTI"],
            vec!["LOCK._HOLD", "k", "alice", first, "-1"],
            step(&[&["LOCK._FREE", "k", first], &["LOCK._HOLD", "k", "bob", second, "-1"]]),
            vec!["LOCK._FREE", "k", second],
            vec!["EXEC"],
        ]
    };
    let expected = [piece("<fence-1>", "<fence-2>"), piece("<fence-3>", "<fence-4>")].concat();
    let expected: Vec<&[&str]> = expected.iter().map(Vec::as_slice).collect();
    assert_stream(&stream.collect(&server), &expected);
}

/// Brings locks into every state that these commands leave.
fn change_hands(server: &Server) {
    for line in [
        "LOCK.ACQUIRE t alice PX 60000 NOTE why",
        "LOCK.TRANSFER t alice bob",
        "LOCK.ACQUIRE k ann SHARED",
        "LOCK.ACQUIRE k ben SHARED NOEXPIRE",
        "LOCK.ACQUIRE k cleo SHARED REENTRANT one",
        "LOCK.TRANSFER k ann dora EX 90",
        "LOCK.BREAK k OWNER ben",
        "LOCK.ACQUIRE s ann LIMIT 3 PERMITS 2",
        "LOCK.STEAL s eve NOEXPIRE NOTE mine",
        "LOCK.MACQUIRE ann 2 m n",
        "LOCK.TRANSFER n ann ben NOEXPIRE",
        "LOCK.ACQUIRE b ann",
        "LOCK.BREAK b",
    ] {
        assert!(ask(server, line).int() > 0, "{line}");
    }
}

#[test]
fn a_replica_has_the_same_data() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    change_hands(&primary);
    wait_same_data(&primary, &replica);
    assert_eq!(owners(&replica), ["cleo", "dora"]);
    assert_eq!(replica.cmd(&words("EXISTS b")), 0);
}

#[test]
fn files_have_the_same_data() {
    for conf in [
        &["appendonly no"][..],
        &["appendonly yes", "appendfsync always"],
        &["appendonly yes", "aof-use-rdb-preamble no"],
    ] {
        let mut server = Server::with(conf);
        change_hands(&server);
        let before = digest(&server);
        assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
        assert_eq!(digest(&server), before, "{conf:?}: reloaded");
        if conf[0] == "appendonly yes" {
            let told = read_aof(&server).commands;
            assert!(told.iter().all(|words| is_effect(&words[0])), "{told:?}");
            server.restart(Stop::Kill);
            assert_eq!(digest(&server), before, "{conf:?}: from the AOF");
            ask(&server, "BGREWRITEAOF");
            wait_no_child(&server);
        }
        server.restart(Stop::Save);
        assert_eq!(digest(&server), before, "{conf:?}: restarted");
        assert_eq!(owners(&server), ["cleo", "dora"]);
    }
}

#[test]
fn a_replica_takes_no_orders() {
    let (primary, replica) = (Server::start(), Server::start());
    let fence = hold(&primary, "k", "alice");
    follow(&replica, &primary);
    for writable in ["yes", "no"] {
        assert_eq!(replica.cmd(&["CONFIG", "SET", "replica-read-only", writable]), "OK");
        for line in ["LOCK.TRANSFER k alice bob", "LOCK.CANCEL k bob", "LOCK.BREAK k", "LOCK.STEAL k eve"] {
            assert!(ask(&replica, line).error().starts_with("READONLY "), "{line}");
        }
    }
    wait_until("the replica to be as it was", || digest(&replica) == digest(&primary));
    assert_holds(&primary, "k", "alice", fence);
}
