//! The recipes of the documentation, as clients would run them.

use std::collections::BTreeSet;
use std::thread;

use crate::steps::{acquire, ask, fence_of, holder, release, wait_for_lock, watch, words};
use crate::support::{Connection, Server, Value};

/// A holder that keeps its lock until somebody wants it.
#[test]
fn a_lock_that_is_kept_until_somebody_wants_it() {
    let server = Server::start();
    let fence = acquire(&server, "cache alice NOEXPIRE");
    let mut listener = watch(&server, "LOCK.AWAIT cache alice WANTED BLOCK 0");
    let commands = || server.info_int("stats", "total_commands_processed");
    let before = commands();
    // Nobody else can have it before this loop says so, and the server is not asked once.
    let mut sum = 0;
    for n in 0..1_000 {
        listener.expect_nothing_pending();
        sum += n;
    }
    assert_eq!(sum, 499_500);
    assert_eq!(commands(), before + 1, "but for the question itself");
    let mut bob = wait_for_lock(&server, "cache", "bob");
    assert_eq!(listener.read(), 1);
    assert_eq!(listener.cmd(&words("LOCK.RELEASE cache alice")), 1);
    assert!(fence_of(&bob.read()) > fence);
    // Whoever wants it back gets in line.
    let again = wait_for_lock(&server, "cache", "alice");
    let mut listener = watch_as(&server, "bob");
    assert_eq!(listener, Value::Int(1));
    drop(again);
    release(&server, "cache", "bob");
    listener = ask(&server, "LOCK.AWAIT cache bob WANTED");
    assert!(listener.error().starts_with("NOTHELD "));
}

/// What a holder is told at once.
fn watch_as(server: &Server, owner: &str) -> Value {
    server.cmd(&["LOCK.AWAIT", "cache", owner, "WANTED", "BLOCK", "0"])
}

/// An observer that follows a leader: whoever leads, and that it leads no more.
fn follow_leaders(mut conn: Connection, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let info = conn.cmd(&words("LOCK.INFO leader"));
        let hold = info
            .field("holds")
            .items()
            .first()
            .map(|hold| (hold.field("owner").text(), hold.field("fence").int()));
        let Some((owner, fence)) = hold else {
            // Nobody leads: the next grant is a change, unless it came meanwhile.
            conn.cmd(&words("LOCK.AWAIT leader CHANGED BLOCK 100"));
            continue;
        };
        seen.push(owner.clone());
        if owner == last {
            return seen;
        }
        assert_eq!(
            conn.cmd(&["LOCK.AWAIT", "leader", "CHANGED", "FENCE", &fence.to_string(), "BLOCK", "0"]),
            1
        );
    }
}

#[test]
fn observers_of_a_leader_miss_no_end() {
    let server = Server::start();
    acquire(&server, "leader node-0");
    let followers: Vec<_> = (0..3)
        .map(|_| {
            let conn = server.connect();
            thread::spawn(move || follow_leaders(conn, "node-50"))
        })
        .collect();
    for n in 0..50 {
        let next = format!("node-{}", n + 1);
        let mut waiting = wait_for_lock(&server, "leader", &next);
        release(&server, "leader", &format!("node-{n}"));
        fence_of(&waiting.read());
        assert_eq!(holder(&server, "leader"), Some(next));
    }
    for follower in followers {
        let seen = follower.join().expect("a follower");
        let each: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(each.len(), seen.len(), "each leader is seen once: {seen:?}");
        assert_eq!(seen.last().map(String::as_str), Some("node-50"));
    }
}
