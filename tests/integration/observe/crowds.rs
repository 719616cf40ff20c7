//! Many who watch: all are told, the server goes on meanwhile, and nothing is left of them.

use std::time::{Duration, Instant};

use crate::steps::{fence_of, hold, observing, release, words};
use crate::support::{wait_until, Connection, Server, Value};

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
    hold(&server, "k", "alice");
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
        hold(&server, &format!("k{n}"), "alice");
    }
    let mut observers = crowd(&server, 300, |n| format!("LOCK.AWAIT k{n} FREE BLOCK 0"));
    // A step on another lock comes before the server gets round to them.
    let mut conn = server.connect();
    conn.send_together(&[&words("FLUSHALL"), &words("LOCK.ACQUIRE other bob")]);
    assert_eq!(conn.read(), "OK");
    fence_of(&conn.read());
    observers.iter_mut().for_each(|observer| assert_eq!(observer.read(), 1));
}

#[test]
fn many_watches_end_together() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let mut observers = crowd(&server, 500, |_| "LOCK.AWAIT k FREE BLOCK 1500".into());
    observers.iter_mut().for_each(|observer| assert_eq!(observer.read(), Value::Nil));
    assert_eq!(observing(&server), 0);
    assert_eq!(server.info_int("lock_state", "lock_waiter_bytes"), 0);
}

#[test]
fn a_step_on_a_lock_that_many_watch_is_short() {
    let server = Server::start();
    hold(&server, "k", "alice");
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
