//! What replicas and files are told of ties, word for word, and what is left of a tie that comes back from them.

use std::time::Duration;

use super::{close, kill, tied, wait_gone, LONG};
use crate::golden::{dump, restore};
use crate::operate::shown;
use crate::steps::{
    ask, assert_granted, digest, fence_of, granted, holder, release, transaction, wait_for_lock, words,
};
use crate::support::aof::read_aof;
use crate::support::stream::step;
use crate::support::wait::let_pass;
use crate::support::{assert_stream, skip, wait_until, ReplicaStream, Server, Stop, Value};
use crate::traffic::{at_once, is_effect, left, lock_stat, wait_no_child, ALL};

/// An exclusive hold without expiry as it stands in the stream.
macro_rules! hold_of {
    ($owner:literal, $fence:literal) => {
        &["LOCK._HOLD", "k", $owner, $fence, "-1"]
    };
}

/// A tie without other bounds.
macro_rules! tie_of {
    ($fence:literal, $grace:literal, $client:literal) => {
        &["LOCK._BOUNDS", "k", $fence, "-1", "-1", "-1", "-1", $grace, "<text>", $client]
    };
}

#[test]
fn a_tie_from_its_beginning_to_its_end() {
    let server = Server::with(&["appendonly yes", "appendfsync always"]);
    let mut stream = ReplicaStream::attach(&server);
    let mut alice = tied(&server, "LOCK.ACQUIRE k alice PX 60000 TIED 20000");
    let first = alice.id();
    let mut back = server.connect();
    let second = back.id();
    assert_eq!(back.cmd(&words("LOCK.RENEW k alice NOEXPIRE TIED 0")), -1);
    kill(&server, &mut alice);
    // The same again is no news.
    fence_of(&back.cmd(&words("LOCK.ACQUIRE k alice TIED 0")));
    kill(&server, &mut back);
    wait_gone(&server);
    let told = stream.collect(&server);
    let expected: [&[&str]; 3] = [
        &step(&[
            &["LOCK._HOLD", "k", "alice", "<fence>", "60000"],
            tie_of!("<fence>", "20000", "<client-1>"),
        ]),
        &step(&[
            &["LOCK._RENEW", "k", "<fence>", ALL, "-1", "-1", "-1"],
            tie_of!("<fence>", "0", "<client-2>"),
        ]),
        &["LOCK._FREE", "k", "<fence>"],
    ];
    let bindings = assert_stream(&told, &expected);
    assert_eq!(
        (bindings["client-1"].clone(), bindings["client-2"].clone()),
        (first.to_string(), second.to_string())
    );
    assert_eq!(read_aof(&server).commands, told, "the AOF says the same");
}

#[test]
fn a_grace_is_told_as_a_shorter_hold() {
    let server = Server::start();
    let alice = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 100");
    let mut next = wait_for_lock(&server, "k", "bob");
    let mut stream = ReplicaStream::attach(&server);
    drop(alice);
    assert_granted(&server, &mut next, "k", "bob");
    assert_stream(
        &stream.collect(&server),
        &[
            &step(&[
                &["LOCK._RENEW", "k", "<fence>", ALL, "-1", "100", "<ms>"],
                tie_of!("<fence>", "100", "<client>"),
            ]),
            &step(&[&["LOCK._FREE", "k", "<fence>"], &["LOCK._HOLD", "k", "bob", "<fence-2>", "30000"]]),
        ],
    );
}

#[test]
fn a_kill_is_never_told() {
    let server = Server::with(&["appendonly yes", "appendfsync always"]);
    let mut doomed = ["a", "b", "c"].map(|key| tied(&server, &format!("LOCK.ACQUIRE {key} alice TIED 0")));
    let [a, b, c] = &mut doomed;
    let (a, b, c) = (a.id().to_string(), b.id().to_string(), c.id().to_string());
    let mut stream = ReplicaStream::attach(&server);
    at_once(&server, &[&["CLIENT", "KILL", "ID", &a], &["SET", "x", "1"]]);
    transaction(&mut server.connect(), &[&["CLIENT", "KILL", "ID", &b], &["SET", "x", "2"]]);
    let script = "redis.call('SET', KEYS[1], 3) return 1";
    transaction(&mut server.connect(), &[&["EVAL", script, "1", "x"], &["CLIENT", "KILL", "ID", &c]]);
    wait_until("all to be free", || ask(&server, "EXISTS a b c") == 0);
    let told = stream.collect(&server);
    let aof = read_aof(&server).commands;
    for words in told.iter().chain(&aof) {
        assert!(words[0] == "SET" || is_effect(&words[0]), "{words:?}");
    }
    assert_eq!(told.iter().filter(|words| words[0] == "LOCK._FREE").count(), 3);
    assert!(aof.ends_with(&told), "the AOF says the same");
}

#[test]
fn a_release_of_what_was_tied_and_a_transfer() {
    let server = Server::start();
    let mut conn = tied(&server, &format!("LOCK.ACQUIRE k alice NOEXPIRE {LONG}"));
    let mut stream = ReplicaStream::attach(&server);
    granted(&server, "LOCK.TRANSFER k alice bob");
    release(&server, "k", "bob");
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice SHARED NOEXPIRE TIED 7")));
    fence_of(&conn.cmd(&words("LOCK.CONVERT k alice EXCLUSIVE")));
    release(&server, "k", "alice");
    assert_stream(
        &stream.collect(&server),
        &[
            &step(&[&["LOCK._FREE", "k", "<fence>"], hold_of!("bob", "<fence-2>")]),
            &["LOCK._FREE", "k", "<fence-2>"],
            &step(&[
                &["LOCK._HOLD", "k", "alice", "<fence-3>", ALL, "1", "-1", "-1", "-1"],
                tie_of!("<fence-3>", "7", "<client>"),
            ]),
            &step(&[hold_of!("alice", "<fence-4>"), tie_of!("<fence-4>", "7", "<client>")]),
            &["LOCK._FREE", "k", "<fence-4>"],
        ],
    );
}

/// All ways in which a server's data outlive it.
const FILES: [&[&str]; 3] = [
    &["appendonly no"],
    &["appendonly yes", "appendfsync always"],
    &["appendonly yes", "appendfsync always", "aof-use-rdb-preamble no"],
];

#[test]
fn after_a_restart_there_is_a_grace() {
    for conf in FILES {
        for rewrite in [false, true] {
            let mut server = Server::with(conf);
            let conn = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE NOTE kept TIED 600");
            let keeps = tied(&server, &format!("LOCK.ACQUIRE l alice NOEXPIRE {LONG}"));
            let before = digest(&server);
            if rewrite && conf.len() > 1 {
                ask(&server, "BGREWRITEAOF");
                wait_no_child(&server);
            }
            let how = if conf.len() > 1 && !rewrite { Stop::Kill } else { Stop::Save };
            server.restart(how);
            drop((conn, keeps));
            assert_eq!(digest(&server), before, "{conf:?}");
            wait_until("the connection to be missed", || shown(&server, "client-id") == 0);
            assert!((1..=600).contains(&left(&server, "k", "alice")), "{conf:?}: no instant end");
            let mut next = wait_for_lock(&server, "k", "bob");
            // Whoever comes back in time keeps it.
            let mut back = server.connect();
            assert_eq!(back.cmd(&words("LOCK.RENEW l alice TIED 0")), -1);
            assert_granted(&server, &mut next, "k", "bob");
            assert_eq!((lock_stat(&server, "closed"), lock_stat(&server, "tied")), (1, 1), "{conf:?}");
            drop(back);
            wait_until("the other to end", || holder(&server, "l").is_none());
        }
    }
}

#[test]
fn live_connections_survive_a_reload() {
    for conf in FILES {
        let server = Server::with(conf);
        let mut conn = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
        let gone = tied(&server, "LOCK.ACQUIRE l alice NOEXPIRE TIED 0");
        let reload = if conf.len() > 1 { "DEBUG LOADAOF" } else { "DEBUG RELOAD" };
        assert_eq!(ask(&server, reload), "OK");
        // Nothing is cut behind the back of who is there: whatever is done about ties after a load is done by then.
        let_pass(Duration::from_millis(150));
        assert_eq!(
            (shown(&server, "client-id").int(), left(&server, "k", "alice")),
            (conn.id(), -1),
            "{conf:?}"
        );
        assert_eq!(lock_stat(&server, "tied"), 2, "{conf:?}");
        drop(gone);
        wait_until("the one to end", || holder(&server, "l").is_none());
        drop(conn);
        wait_gone(&server);
    }
}

#[test]
fn a_payload_brings_its_tie_along() {
    let (server, other) = (Server::start(), Server::start());
    // The same server, the connection is there.
    let mut conn = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 300");
    let payload = dump(&server, "k");
    ask(&server, "DEL k");
    assert_eq!(restore(&server, "k", &payload), "OK");
    assert_eq!((shown(&server, "client-id").int(), left(&server, "k", "alice")), (conn.id(), -1));
    ask(&server, "DEL k");
    close(&server, conn);
    // It is not there any more, or it is that of another server.
    for server in [&server, &other] {
        assert_eq!(restore(server, "k", &payload), "OK");
        wait_until("the connection to be missed", || shown(server, "client-id") == 0);
        let left_ms = left(server, "k", "alice");
        assert!((1..=300).contains(&left_ms), "a grace and no more: {left_ms}");
        wait_gone(server);
        assert_eq!(lock_stat(server, "closed"), if std::ptr::eq(server, &raw const other) { 1 } else { 2 });
    }
}

#[test]
fn effects_that_a_client_sends_are_held_to_their_ties() {
    let (source, server) = (Server::start(), Server::start());
    if matches!(ask(&server, "LOCK._FREE k 1"), Value::Error(text) if text.starts_with("NOPERM ")) {
        skip("effects that a client sends are held to their ties", "this server takes none from clients");
        return;
    }
    let mut stream = ReplicaStream::attach(&source);
    let _conn = tied(&source, "LOCK.ACQUIRE k alice NOEXPIRE TIED 300");
    // As a slot that moves in.
    for words in stream.collect(&source).iter().filter(|words| words[0].starts_with("LOCK.")) {
        assert_eq!(server.cmd(words), 1, "{words:?}");
    }
    wait_until("the connection to be missed", || shown(&server, "client-id") == 0);
    assert_ne!(ask(&server, "LOCK.CHECK k alice"), Value::Int(-1));
    wait_gone(&server);
}
