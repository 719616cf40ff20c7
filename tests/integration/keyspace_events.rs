//! What is published about locks when time goes by and clients go. What commands publish is `tests/cases/events.md`.

use crate::steps::{acquire, ask, assert_granted, fence_of, in_line, queue_up, wait_for_lock, words};
use crate::support::{wait_until, Events, Server, Value};

/// These events of `k` in the first database.
fn of_k(events: &[&str]) -> Vec<String> {
    events.iter().map(|event| format!("k {event}")).collect()
}

#[test]
fn the_end_of_a_lease() {
    let server = Server::start();
    let mut listener = Events::listen_to(&server, "Kd");
    acquire(&server, "k alice PX 400");
    let _waiter = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0 PX 30");
    let events = ["lock.acquired", "lock.waiting", "lock.expired", "lock.acquired", "lock.expired"];
    let heard: Vec<String> = events.iter().map(|_| listener.next()).collect();
    assert_eq!(heard, of_k(&events));
    assert!(listener.heard().is_empty());
}

#[test]
fn a_client_that_leaves_its_wait_is_not_published() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut listener = Events::listen_to(&server, "Kd");
    drop(wait_for_lock(&server, "k", "carol"));
    wait_until("the waiter to leave", || ask(&server, "LOCK.WAITERS k") == Value::Array(vec![]));
    assert_eq!(listener.heard(), of_k(&["lock.waiting"]));
}

#[test]
fn of_the_database_in_which_it_happened() {
    let server = Server::start();
    let mut listener = Events::listen_to(&server, "Kd");
    let mut five = server.connect().select(5);
    fence_of(&five.cmd(&words("LOCK.ACQUIRE k alice PX 50")));
    assert_eq!(listener.next(), "__keyspace@5__:k lock.acquired");
    assert_eq!(listener.next(), "__keyspace@5__:k lock.expired");
}

#[test]
fn a_grant_that_is_taken_back() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut doomed = server.connect();
    let id = doomed.id().to_string();
    let mut doomed = queue_up(&server, doomed, &words("LOCK.ACQUIRE k bob BLOCK 0"));
    let mut next = wait_for_lock(&server, "k", "carol");
    let mut listener = Events::listen_to(&server, "Kd");
    let mut conn = server.connect();
    conn.send_together(&[&words("LOCK.RELEASE k alice"), &["CLIENT", "KILL", "ID", &id]]);
    doomed.expect_closed();
    assert_granted(&server, &mut next, "k", "carol");
    let events = ["lock.released", "lock.acquired", "lock.released", "lock.acquired"];
    assert_eq!(listener.heard(), of_k(&events));
}
