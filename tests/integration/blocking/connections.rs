//! Waiting takes connections, and some are kept for clients that do not wait: a holder that comes back can always release.

use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, in_line, release, wait_for_lock, watch, words,
};
use crate::support::{Connection, Server, Value};

fn full(waiting: usize) -> String {
    format!(
        "QUEUEFULL {waiting} clients wait in this server, and its other connections are kept free; raise maxclients or try later"
    )
}

fn cap(server: &Server) -> i64 {
    server.info_int("lock_state", "lock_max_waiters")
}

fn set(server: &Server, settings: &str) {
    assert_eq!(ask(server, &format!("CONFIG SET {settings}")), "OK");
}

#[test]
fn those_who_wait_leave_room_for_a_holder_that_comes_back() {
    let server = Server::with(&["maxclients 40"]);
    acquire(&server, "k alice");
    acquire(&server, "l alice");
    assert_eq!(ask(&server, "LATCH.SET gate 1"), 1);
    let mut observer = watch(&server, "LOCK.AWAIT l FREE BLOCK 0");
    let mut waiters: Vec<Connection> = (0..35)
        .map(|n| {
            let line = format!("LOCK.ACQUIRE k waiter-{n} BLOCK 0");
            in_line(&server, &line)
        })
        .collect();
    assert_changes_nothing(&server, || {
        let mut late = server.connect();
        for line in [
            "LOCK.ACQUIRE k late BLOCK 0",
            "LOCK.MACQUIRE late 2 m l BLOCK 0",
            "LOCK.AWAIT k FREE BLOCK 0",
            "LATCH.AWAIT gate BLOCK 0",
        ] {
            assert_eq!(late.cmd(&words(line)), full(36).as_str(), "{line}");
        }
        assert_eq!(late.cmd(&words("LOCK.ACQUIRE k late")), Value::Nil, "a try needs no room");
    });
    acquire(&server, "n late QUEUE 60000");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k late QUEUE 60000"), Value::Nil, "nor does a ticket");
    release(&server, "k", "alice");
    assert_granted(&server, &mut waiters[0], "k", "waiter-0");
    release(&server, "l", "alice");
    assert_eq!(observer.read(), 1);
    let _now = wait_for_lock(&server, "k", "late-too");
}

#[test]
fn the_room_follows_the_settings() {
    let server = Server::with(&["maxclients 40", "lock.reserved-clients-percent 50"]);
    assert_eq!(cap(&server), 20);
    acquire(&server, "k alice");
    let _bob = wait_for_lock(&server, "k", "bob");
    let _carol = in_line(&server, "LOCK.ACQUIRE k carol BLOCK 0");
    for (settings, now) in [
        ("lock.reserved-clients-percent 10", 36),
        ("maxclients 60", 54),
        ("lock.max-waiters 30", 30),
        ("maxclients 20", 18),
        ("lock.reserved-clients-percent 0", 20),
        ("lock.reserved-clients-percent 99", 0),
        ("maxclients 100", 1),
        ("lock.reserved-clients-percent 98", 2),
    ] {
        set(&server, settings);
        assert_eq!(cap(&server), now, "{settings}");
    }
    let ask = |line: &str| server.connect().cmd(&words(line));
    assert_eq!(ask("LOCK.ACQUIRE k dave BLOCK 0"), full(2).as_str());
    // A smaller number sends nobody away.
    set(&server, "maxclients 50");
    assert_eq!(server.info_int("lock_state", "lock_waiting"), 2);
    assert_eq!(ask("LOCK.ACQUIRE k dave BLOCK 0"), full(1).as_str());
    set(&server, "maxclients 200");
    let _dave = in_line(&server, "LOCK.ACQUIRE k dave BLOCK 0");
    set(&server, "lock.max-waiters 3");
    let other = "QUEUEFULL 3 clients wait in this server; raise lock.max-waiters or try later";
    assert_eq!(ask("LOCK.ACQUIRE k eve BLOCK 0"), other);
}
