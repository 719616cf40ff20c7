//! What replicas, files and payloads say of locks that were granted together: the effects word for word and in one piece,
//! and data that are the same everywhere.

use super::{give_back, line_up, macquire, macquire_in_line, renew};
use crate::golden::{dump, restore};
use crate::steps::{acquire, ask, digest, fence_of, release, transaction, words};
use crate::support::aof::read_aof;
use crate::support::stream::Words;
use crate::support::{assert_stream, wait_until, ReplicaStream, Server, Stop, Value};
use crate::traffic::{follow, lock_stat, wait_no_child, wait_quiet, wait_same_data, ALL};

/// A hold of two locks as it stands in the stream.
macro_rules! hold_of_two {
    ($key:literal, $owner:literal, $fence:literal, $lease:literal) => {
        &["LOCK._HOLD", $key, $owner, $fence, ALL, ALL, $lease, $lease, "<ms>", "", "2"]
    };
}

#[test]
fn the_end_of_a_lease_and_the_grant_stand_together() {
    let server = Server::start();
    acquire(&server, "a alice PX 60000");
    let mut waiter = macquire_in_line(&server, "w 2 a b PX 5000");
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(ask(&server, "LOCK.RENEW a alice PX 100"), 100);
    fence_of(&waiter.read());
    assert_stream(
        &stream.collect(&server),
        &[
            &["LOCK._RENEW", "a", "<fence>", ALL, "100", "100", "<ms>"],
            &["MULTI"],
            &["LOCK._FREE", "a", "<fence>"],
            hold_of_two!("a", "w", "<fence-2>", "5000"),
            hold_of_two!("b", "w", "<fence-2>", "5000"),
            &["EXEC"],
        ],
    );
}

#[test]
fn a_grant_that_goes_back_goes_back_in_one_piece() {
    let server = Server::start();
    acquire(&server, "a alice");
    let mut conn = server.connect();
    let id = conn.id().to_string();
    let doomed = line_up(&server, conn, "LOCK.MACQUIRE doomed 2 a b PX 5000 BLOCK 0");
    let mut stream = ReplicaStream::attach(&server);
    let kill = ["CLIENT", "KILL", "ID", &id];
    let replies = transaction(&mut server.connect(), &[&words("LOCK.RELEASE a alice"), &kill]);
    assert_eq!((replies[0].int(), replies[1].int()), (1, 1));
    drop(doomed);
    wait_until("the grant to be taken back", || lock_stat(&server, "undone") == 2);
    assert_stream(
        &stream.collect(&server),
        &[
            &["MULTI"],
            &["LOCK._FREE", "a", "<fence>"],
            hold_of_two!("a", "doomed", "<fence-2>", "5000"),
            hold_of_two!("b", "doomed", "<fence-2>", "5000"),
            &["EXEC"],
            &["MULTI"],
            &["LOCK._FREE", "a", "<fence-2>"],
            &["LOCK._FREE", "b", "<fence-2>"],
            &["EXEC"],
        ],
    );
}

#[test]
fn a_replica_has_the_same() {
    let (primary, replica) = (Server::start(), Server::start());
    // Some before the full sync and some after it.
    fence_of(&macquire(&primary, "alice 3 a b c PX 600000 NOTE n"));
    follow(&replica, &primary);
    wait_same_data(&replica, &primary);
    fence_of(&macquire(&primary, "bob 2 d e SHARED NOEXPIRE"));
    fence_of(&macquire(&primary, "carol 2 e d SHARED PX 600000"));
    fence_of(&macquire(&primary, "dave 2 s t LIMIT 5 PERMITS 2"));
    let mut waiter = macquire_in_line(&primary, "erin 3 a b f");
    assert_eq!(renew(&primary, "bob 600000 2 d e"), [600_000, 600_000]);
    assert_eq!(give_back(&primary, "alice 2 a b"), 2);
    fence_of(&waiter.read());
    release(&primary, "d", "carol");
    wait_same_data(&replica, &primary);
    let shown = ask(&replica, "LOCK.INFO f");
    let shown = &shown.field("holds").items()[0];
    assert_eq!((shown.field("owner").text(), shown.field("keys").int()), ("erin".into(), 3));
}

/// Groups of every kind, some of them no longer whole.
fn acquire_some(server: &Server) {
    fence_of(&macquire(server, "alice 3 a b c PX 600000 NOTE n"));
    fence_of(&macquire(server, "bob 2 d e NOEXPIRE"));
    fence_of(&macquire(server, "r1 2 x y SHARED NOEXPIRE"));
    fence_of(&macquire(server, "r2 2 y z SHARED EX 600"));
    fence_of(&macquire(server, "s1 2 s t LIMIT 3 PERMITS 2"));
    release(server, "e", "bob");
}

/// Who took them together can still say so.
fn assert_together(server: &Server, what: &str) {
    for line in ["alice 3 c a b NOTE n", "r1 2 y x SHARED", "s1 2 s t LIMIT 3 PERMITS 2"] {
        let reply = macquire(server, line);
        assert!(matches!(reply, Value::Int(_)), "{what}: {line}: {reply:?}");
    }
    assert_eq!(macquire(server, "bob 2 d e"), super::OTHER_GROUP, "{what}");
}

#[test]
fn they_survive_every_kind_of_restart() {
    for conf in [&["appendonly no"][..], &["appendonly yes"], &["appendonly yes", "aof-use-rdb-preamble no"]]
    {
        let mut server = Server::with(conf);
        acquire_some(&server);
        let before = digest(&server);
        assert_eq!(server.cmd(&["DEBUG", "RELOAD"]), "OK");
        assert_eq!(digest(&server), before, "{conf:?}: reloaded");
        if conf[0] == "appendonly yes" {
            server.restart(Stop::Kill);
            assert_eq!(digest(&server), before, "{conf:?}: killed");
            wait_no_child(&server);
            assert!(!matches!(server.cmd(&["BGREWRITEAOF"]), Value::Error(_)));
            wait_no_child(&server);
        }
        server.restart(Stop::Save);
        assert_eq!(digest(&server), before, "{conf:?}: restarted");
        assert_together(&server, &format!("{conf:?}"));
    }
}

#[test]
fn the_aof_never_has_half_a_grant() {
    let server = Server::with(&["appendonly yes", "appendfsync always"]);
    acquire(&server, "a alice");
    let mut waiter = macquire_in_line(&server, "w 2 a b");
    release(&server, "a", "alice");
    fence_of(&waiter.read());
    wait_quiet(&server);
    let commands: Vec<Words> = read_aof(&server).commands;
    let names: Vec<&str> = commands.iter().map(|words| words[0].as_str()).collect();
    assert_eq!(names, ["LOCK._HOLD", "MULTI", "LOCK._FREE", "LOCK._HOLD", "LOCK._HOLD", "EXEC"]);
}

#[test]
fn dump_and_restore() {
    let server = Server::start();
    acquire_some(&server);
    let before = digest(&server);
    for key in ["a", "b", "c", "d", "x", "y", "z", "s", "t"] {
        let payload = dump(&server, key);
        assert_eq!(server.cmd(&["DEL", key]), 1);
        assert_eq!(restore(&server, key, &payload), "OK");
    }
    assert_eq!(digest(&server), before);
    assert_together(&server, "restored");
}
