//! Shared locks and semaphores: leases that end, clients that go, restarts. Who goes with whom is mostly
//! `tests/cases/modes.md`.

use crate::steps::{acquire, ask, digest, fence_of, holder, in_line, release};
use crate::support::{wait_until, Server, Stop, Value};

/// The owners that hold the lock, oldest first.
fn owners(server: &Server, key: &str) -> Vec<String> {
    let info = server.cmd(&["LOCK.INFO", key]);
    info.field("holds").items().iter().map(|hold| hold.field("owner").text()).collect()
}

#[test]
fn readers_share_and_a_writer_has_it_alone() {
    let server = Server::start();
    let first = acquire(&server, "k a SHARED");
    let second = acquire(&server, "k b SHARED");
    assert!(second > first, "each reader has a fence of its own");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k w"), Value::Nil);
    assert_eq!(owners(&server, "k"), ["a", "b"]);
    release(&server, "k", "a");
    release(&server, "k", "b");
    acquire(&server, "k w");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k a SHARED"), Value::Nil);
}

#[test]
fn each_reader_has_its_own_lease() {
    let server = Server::start();
    acquire(&server, "k short SHARED PX 300");
    acquire(&server, "k long SHARED PX 60000");
    wait_until("the short lease to end", || owners(&server, "k") == ["long"]);
    assert!(server.cmd(&["LOCK.CHECK", "k", "long"]).int() > 50_000);
    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "short"]), 0);
    assert_eq!(server.cmd(&["LOCK.RENEW", "k", "long", "PX", "70000"]), 70_000);
}

#[test]
fn a_semaphore_gives_no_more_than_it_has() {
    let server = Server::start();
    acquire(&server, "k a LIMIT 3 PERMITS 2");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k b LIMIT 3 PERMITS 2"), Value::Nil, "all or none");
    acquire(&server, "k c LIMIT 3");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k d LIMIT 3"), Value::Nil);
    let info = server.cmd(&["LOCK.INFO", "k"]);
    assert_eq!((info.field("mode").text(), info.field("limit").int()), ("semaphore".to_owned(), 3));
    release(&server, "k", "a");
    acquire(&server, "k b LIMIT 3 PERMITS 2");
}

#[test]
fn when_the_large_request_gives_up_the_small_ones_go() {
    let server = Server::start();
    acquire(&server, "k a LIMIT 3 PERMITS 2");
    let large = in_line(&server, "LOCK.ACQUIRE k large LIMIT 3 PERMITS 3 BLOCK 0");
    let mut small = in_line(&server, "LOCK.ACQUIRE k small LIMIT 3 BLOCK 0");
    drop(large);
    fence_of(&small.read());
    assert_eq!(owners(&server, "k"), ["a", "small"]);
    let mut short = in_line(&server, "LOCK.ACQUIRE k short LIMIT 3 PERMITS 3 BLOCK 200");
    let mut other = in_line(&server, "LOCK.ACQUIRE k other LIMIT 3 PERMITS 1 BLOCK 0");
    release(&server, "k", "small");
    other.expect_nothing_pending();
    assert_eq!(short.read(), Value::Nil);
    fence_of(&other.read());
}

#[test]
fn a_holder_that_dies_gives_its_permits_back_with_its_lease() {
    let server = Server::start();
    acquire(&server, "k a LIMIT 2 PERMITS 2 PX 300");
    let mut next = in_line(&server, "LOCK.ACQUIRE k b LIMIT 2 PERMITS 2 BLOCK 0");
    fence_of(&next.read());
    assert_eq!(holder(&server, "k").as_deref(), Some("b"));
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
            acquire(&server, line);
        }
        let before = digest(&server);
        server.cmd(&["DEBUG", "RELOAD"]);
        assert_eq!(digest(&server), before, "{conf:?}: reloaded");
        server.restart(Stop::Save);
        assert_eq!(digest(&server), before, "{conf:?}: restarted");
        assert_eq!((owners(&server, "rw").len(), owners(&server, "sem").len()), (2, 2));
        assert_eq!(ask(&server, "LOCK.ACQUIRE sem c LIMIT 3"), Value::Nil, "no permit is left");
    }
}
