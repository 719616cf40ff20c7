//! Many who watch: all are told, the server goes on meanwhile, and nothing is left of them.

use std::time::{Duration, Instant};

use crate::steps::{acquire, ask, fence_of, observing, release, watch, words};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::at_once;

/// So many new connections that watch by this line.
fn crowd(server: &Server, count: usize, line: impl Fn(usize) -> String) -> Vec<Connection> {
    let before = observing(server);
    let crowd = (0..count).map(|n| {
        let mut conn = server.connect();
        conn.send(&words(&line(n)));
        conn
    });
    let crowd: Vec<Connection> = crowd.collect();
    wait_until("all to watch", || observing(server) == before + count as i64);
    crowd
}

#[test]
fn all_who_watch_one_lock_are_told_of_one_moment() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut observers = crowd(&server, 700, |_| "LOCK.AWAIT k FREE BLOCK 0".into());
    // Free for a moment only, and all are told of it.
    let mut conn = server.connect();
    conn.send_together(&[&words("LOCK.RELEASE k alice"), &words("LOCK.ACQUIRE k bob")]);
    assert_eq!(conn.read(), 1);
    fence_of(&conn.read());
    observers.iter_mut().for_each(|observer| assert_eq!(observer.read(), 1));
    assert_eq!(observing(&server), 0);
    assert_eq!(server.info_int("lock_stats", "lock_observed"), 700);
}

#[test]
fn all_locks_that_are_flushed_are_told_of() {
    let server = Server::start();
    for n in 0..300 {
        acquire(&server, &format!("k{n} alice"));
    }
    let mut observers = crowd(&server, 300, |n| format!("LOCK.AWAIT k{n} FREE BLOCK 0"));
    // A step on another lock comes before the server gets round to them.
    let mut conn = server.connect();
    conn.send_together(&[&words("FLUSHALL"), &words("LOCK.ACQUIRE other bob")]);
    assert_eq!(conn.read(), "OK");
    fence_of(&conn.read());
    observers.iter_mut().for_each(|observer| assert_eq!(observer.read(), 1));
}

/// The step itself does it: what comes next in the same packet finds nobody watching.
#[test]
fn whoever_watches_is_told_within_the_step() {
    let server = Server::start();
    for (make, what, change) in [
        ("LOCK.ACQUIRE k alice", "LOCK.AWAIT k FREE", "LOCK.RELEASE k alice"),
        ("LOCK.ACQUIRE k alice", "LOCK.AWAIT k CHANGED", "LOCK.TRANSFER k alice bob"),
        ("LOCK.ACQUIRE k alice", "LOCK.AWAIT k alice WANTED", "LOCK.REVOKE k"),
        ("LOCK.MACQUIRE alice 2 j k", "LOCK.AWAIT k FREE", "LOCK.MRELEASE alice 2 j k"),
        ("LATCH.SET k 1", "LATCH.AWAIT k", "LATCH.DOWN k"),
    ] {
        ask(&server, make);
        let mut observer = watch(&server, &format!("{what} BLOCK 0"));
        let replies = at_once(&server, &[&words(change), &["INFO", "lock_state"]]);
        assert!(replies[1].text().contains("lock_observing:0"), "{change}");
        assert_eq!(observer.read(), 1, "{what}");
        assert_eq!(ask(&server, "DEL k"), i64::from(!change.contains("RELEASE")));
    }
}

/// The cron looks at all keys in turn, and takes long with so many; nobody waits for that.
#[test]
fn whoever_watches_is_told_soon_of_what_others_do_to_the_key() {
    let server = Server::start();
    assert_eq!(ask(&server, "CONFIG SET hz 1"), "OK");
    acquire(&server, "other alice");
    let _crowd = crowd(&server, 800, |_| "LOCK.AWAIT other CHANGED BLOCK 0".into());
    for line in ["DEL k", "RENAME k l", "MOVE k 5", "SET k v", "PEXPIREAT k 1000", "SWAPDB 0 6"] {
        acquire(&server, "k alice");
        let mut observer = watch(&server, "LOCK.AWAIT k FREE BLOCK 0");
        let start = Instant::now();
        assert!(!matches!(ask(&server, line), Value::Error(_)), "{line}");
        match observer.read() {
            Value::Error(text) if line == "SET k v" => assert!(text.starts_with("WRONGTYPE "), "{text}"),
            reply => assert_eq!(reply, 1, "{line}"),
        }
        let took = start.elapsed();
        assert!(took < Duration::from_millis(1_500), "{line}: {took:?}, and the cron takes two seconds");
        ask(&server, "DEL k");
    }
}

#[test]
fn many_watches_end_together() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut observers = crowd(&server, 500, |_| "LOCK.AWAIT k FREE BLOCK 1500".into());
    observers.iter_mut().for_each(|observer| assert_eq!(observer.read(), Value::Nil));
    assert_eq!(observing(&server), 0);
    assert_eq!(server.info_int("lock_state", "lock_observer_bytes"), 0);
}

#[test]
fn a_step_on_a_lock_that_many_watch_is_short() {
    let server = Server::start();
    acquire(&server, "k alice");
    let _observers = crowd(&server, 1_000, |n| match n % 2 {
        0 => "LOCK.AWAIT k FREE BLOCK 0".into(),
        _ => "LOCK.AWAIT k alice WANTED BLOCK 0".into(),
    });
    let mut conn = server.connect();
    // The best of some: a busy machine makes each of them late.
    let best = (0..20).map(|_| {
        let start = Instant::now();
        assert_eq!(conn.cmd(&words("LOCK.RENEW k alice PX 30000")), 30_000);
        start.elapsed()
    });
    let best = best.min().unwrap();
    assert!(best < Duration::from_millis(2), "{best:?}");
    release(&server, "k", "alice");
}
