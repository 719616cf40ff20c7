//! Shared locks and semaphores: who goes with whom, one line for all of them, and each hold with a life of its own.

use crate::steps::{assert_changes_nothing, digest, fence_of, holder, queue_up, release, waiting};
use crate::support::stream::step;
use crate::support::{assert_stream, wait_until, Connection, ReplicaStream, Server, Stop, Value};

/// LOCK.ACQUIRE with these words.
fn acquire(server: &Server, line: &str) -> Value {
    server.cmd(&command(line))
}

fn command(line: &str) -> Vec<&str> {
    ["LOCK.ACQUIRE"].into_iter().chain(line.split_whitespace()).collect()
}

fn in_line(server: &Server, line: &str) -> Connection {
    queue_up(server, server.connect(), &command(line))
}

/// The owners that hold the lock, oldest first.
fn owners(server: &Server, key: &str) -> Vec<String> {
    let info = server.cmd(&["LOCK.INFO", key]);
    info.field("holds").items().iter().map(|hold| hold.field("owner").text()).collect()
}

#[test]
fn readers_share_and_a_writer_has_it_alone() {
    let server = Server::start();
    let first = fence_of(&acquire(&server, "k a SHARED"));
    let second = fence_of(&acquire(&server, "k b SHARED"));
    assert!(second > first, "each reader has a fence of its own");
    assert_eq!(acquire(&server, "k w"), Value::Nil);
    assert_eq!(owners(&server, "k"), ["a", "b"]);
    release(&server, "k", "a");
    release(&server, "k", "b");
    fence_of(&acquire(&server, "k w"));
    assert_eq!(acquire(&server, "k a SHARED"), Value::Nil);
}

#[test]
fn no_reader_overtakes_a_waiting_writer_and_a_run_of_readers_goes_together() {
    let server = Server::start();
    fence_of(&acquire(&server, "k a SHARED"));
    let mut writer = in_line(&server, "k w BLOCK 0");
    let mut readers: Vec<Connection> =
        ["b", "c"].map(|o| in_line(&server, &format!("k {o} SHARED BLOCK 0"))).into();
    let mut last = in_line(&server, "k x BLOCK 0");
    assert_eq!(acquire(&server, "k d SHARED"), Value::Nil, "a try waits behind the writer");
    release(&server, "k", "a");
    fence_of(&writer.read());
    assert_eq!(owners(&server, "k"), ["w"]);
    release(&server, "k", "w");
    for reader in &mut readers {
        fence_of(&reader.read());
    }
    assert_eq!(owners(&server, "k"), ["b", "c"]);
    release(&server, "k", "b");
    last.expect_nothing_pending();
    release(&server, "k", "c");
    fence_of(&last.read());
}

#[test]
fn each_reader_has_its_own_lease() {
    let server = Server::start();
    fence_of(&acquire(&server, "k short SHARED PX 300"));
    fence_of(&acquire(&server, "k long SHARED PX 60000"));
    wait_until("the short lease to end", || owners(&server, "k") == ["long"]);
    assert!(server.cmd(&["LOCK.CHECK", "k", "long"]).int() > 50_000);
    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "short"]), 0);
    assert_eq!(server.cmd(&["LOCK.RENEW", "k", "long", "PX", "70000"]), 70_000);
}

#[test]
fn a_semaphore_gives_no_more_than_it_has() {
    let server = Server::start();
    fence_of(&acquire(&server, "k a LIMIT 3 PERMITS 2"));
    assert_eq!(acquire(&server, "k b LIMIT 3 PERMITS 2"), Value::Nil, "all or none");
    fence_of(&acquire(&server, "k c LIMIT 3"));
    assert_eq!(acquire(&server, "k d LIMIT 3"), Value::Nil);
    let info = server.cmd(&["LOCK.INFO", "k"]);
    assert_eq!((info.field("mode").text(), info.field("limit").int()), ("semaphore".to_owned(), 3));
    release(&server, "k", "a");
    fence_of(&acquire(&server, "k b LIMIT 3 PERMITS 2"));
}

#[test]
fn a_large_request_is_not_overtaken_by_small_ones() {
    let server = Server::start();
    fence_of(&acquire(&server, "k a LIMIT 3 PERMITS 2"));
    let mut large = in_line(&server, "k large LIMIT 3 PERMITS 3 BLOCK 0");
    let mut small = in_line(&server, "k small LIMIT 3 BLOCK 0");
    assert_eq!(acquire(&server, "k tiny LIMIT 3"), Value::Nil, "one permit is left, and somebody waits");
    release(&server, "k", "a");
    fence_of(&large.read());
    small.expect_nothing_pending();
    release(&server, "k", "large");
    fence_of(&small.read());
}

#[test]
fn when_the_large_request_gives_up_the_small_ones_go() {
    let server = Server::start();
    fence_of(&acquire(&server, "k a LIMIT 3 PERMITS 2"));
    let large = in_line(&server, "k large LIMIT 3 PERMITS 3 BLOCK 0");
    let mut small = in_line(&server, "k small LIMIT 3 BLOCK 0");
    drop(large);
    fence_of(&small.read());
    assert_eq!(owners(&server, "k"), ["a", "small"]);
    let mut short = in_line(&server, "k short LIMIT 3 PERMITS 3 BLOCK 200");
    let mut other = in_line(&server, "k other LIMIT 3 PERMITS 1 BLOCK 0");
    release(&server, "k", "small");
    other.expect_nothing_pending();
    assert_eq!(short.read(), Value::Nil);
    fence_of(&other.read());
}

#[test]
fn a_holder_that_dies_gives_its_permits_back_with_its_lease() {
    let server = Server::start();
    fence_of(&acquire(&server, "k a LIMIT 2 PERMITS 2 PX 300"));
    let mut next = in_line(&server, "k b LIMIT 2 PERMITS 2 BLOCK 0");
    fence_of(&next.read());
    assert_eq!(holder(&server, "k").as_deref(), Some("b"));
}

#[test]
fn other_kinds_of_use_are_refused_and_change_nothing() {
    let server = Server::start();
    fence_of(&acquire(&server, "sem a LIMIT 3"));
    fence_of(&acquire(&server, "own a"));
    fence_of(&acquire(&server, "rw a SHARED"));
    let refusals = [
        ("sem b", "LOCKMODE"),
        ("sem b SHARED", "LOCKMODE"),
        ("sem b LIMIT 4", "LOCKLIMIT"),
        ("sem b LIMIT 4 BLOCK 0", "LOCKLIMIT"),
        ("sem a LIMIT 3 PERMITS 2", "LOCKMODE"),
        ("own b LIMIT 3", "LOCKMODE"),
        ("own a SHARED", "LOCKMODE"),
        ("rw a", "LOCKMODE"),
        ("rw b LIMIT 1 BLOCK 0", "LOCKMODE"),
        ("new b PERMITS 1", "BADARG"),
        ("new b SHARED PERMITS 1", "BADARG"),
        ("new b LIMIT 2 PERMITS 3 BLOCK 0", "BADARG"),
        ("new b LIMIT 0", "BADARG"),
        ("new b LIMIT 1000001", "BADARG"),
        ("new b SHARED LIMIT 2", "BADARG"),
    ];
    assert_changes_nothing(&server, || {
        for (line, code) in refusals {
            let reply = acquire(&server, line);
            assert!(matches!(&reply, Value::Error(text) if text.starts_with(code)), "{line}: {reply:?}");
        }
    });
    assert_eq!(waiting(&server, "sem") + waiting(&server, "rw"), 0);
}

#[test]
fn effects_say_limit_and_permits() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    acquire(&server, "rw a SHARED PX 5000");
    acquire(&server, "sem a LIMIT 3 PERMITS 2 NOEXPIRE");
    let mut next = in_line(&server, "sem b LIMIT 3 PERMITS 3 NOEXPIRE BLOCK 0");
    release(&server, "sem", "a");
    next.read();
    assert_stream(
        &stream.collect(&server),
        &[
            &["LOCK._HOLD", "rw", "a", "<fence-1>", "4294967295", "1", "5000", "5000", "<ms>"],
            &["LOCK._HOLD", "sem", "a", "<fence-2>", "3", "2", "-1", "-1", "-1"],
            &step(&[
                &["LOCK._FREE", "sem", "<fence-2>"],
                &["LOCK._HOLD", "sem", "b", "<fence-3>", "3", "3", "-1", "-1", "-1"],
            ]),
        ],
    );
}

#[test]
fn they_survive_every_kind_of_restart() {
    for conf in [&["appendonly no"][..], &["appendonly yes"], &["appendonly yes", "aof-use-rdb-preamble no"]]
    {
        let mut server = Server::with(conf);
        for line in [
            "rw a SHARED NOEXPIRE",
            "rw b SHARED PX 60000",
            "sem a LIMIT 3 PERMITS 2 NOEXPIRE",
            "sem b LIMIT 3",
        ] {
            fence_of(&acquire(&server, line));
        }
        let before = digest(&server);
        server.cmd(&["DEBUG", "RELOAD"]);
        assert_eq!(digest(&server), before, "{conf:?}: reloaded");
        server.restart(Stop::Save);
        assert_eq!(digest(&server), before, "{conf:?}: restarted");
        assert_eq!((owners(&server, "rw").len(), owners(&server, "sem").len()), (2, 2));
        assert_eq!(acquire(&server, "sem c LIMIT 3"), Value::Nil, "no permit is left");
    }
}
