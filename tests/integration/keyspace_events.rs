//! What is published about locks: each event once, in order, for the right key, and nothing when nothing has happened.

use crate::steps::{assert_granted, fence_of, hold, queue_up, release, wait_for_lock, words};
use crate::support::{wait_until, Events, Server, Value};

/// These events of `k` in the first database.
fn of_k(events: &[&str]) -> Vec<String> {
    events.iter().map(|event| format!("k {event}")).collect()
}

#[test]
fn a_lock_from_its_grant_to_its_end() {
    let server = Server::start();
    let mut listener = Events::listen_to(&server, "Kd");
    hold(&server, "k", "alice");
    assert_eq!(listener.heard(), of_k(&["lock.acquired"]));
    let mut waiter = wait_for_lock(&server, "k", "bob");
    assert_eq!(listener.heard(), of_k(&["lock.waiting"]));
    release(&server, "k", "alice");
    assert_granted(&server, &mut waiter, "k", "bob");
    assert_eq!(listener.heard(), of_k(&["lock.released", "lock.acquired"]));
    release(&server, "k", "bob");
    assert_eq!(listener.heard(), of_k(&["lock.released"]));
}

#[test]
fn the_end_of_a_lease() {
    let server = Server::start();
    let mut listener = Events::listen_to(&server, "Kd");
    fence_of(&server.cmd(&words("LOCK.ACQUIRE k alice PX 400")));
    let _waiter = queue_up(&server, server.connect(), &words("LOCK.ACQUIRE k bob BLOCK 0 PX 30"));
    let events = ["lock.acquired", "lock.waiting", "lock.expired", "lock.acquired", "lock.expired"];
    let heard: Vec<String> = events.iter().map(|_| listener.next()).collect();
    assert_eq!(heard, of_k(&events));
    assert!(listener.heard().is_empty());
}

#[test]
fn a_holder_that_is_asked() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let mut listener = Events::listen_to(&server, "Kd");
    assert_eq!(server.cmd(&words("LOCK.REVOKE k")), 1);
    assert_eq!(listener.heard(), of_k(&["lock.wanted"]));
    release(&server, "k", "alice");
    assert_eq!(listener.heard(), of_k(&["lock.released"]));
    assert_eq!(server.cmd(&words("LOCK.REVOKE k")), 0);
    assert!(listener.heard().is_empty(), "nobody was asked");
}

#[test]
fn what_changes_no_holder_is_not_published() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let mut listener = Events::listen_to(&server, "Kd");
    for line in [
        "LOCK.ACQUIRE k alice PX 60000",
        "LOCK.ACQUIRE k bob",
        "LOCK.ACQUIRE k bob PX 0",
        "LOCK.RENEW k alice PX 50000",
        "LOCK.RENEW k bob",
        "LOCK.RELEASE k bob",
        "LOCK.RELEASE free alice",
        "LOCK.CHECK k alice",
        "LOCK.INFO k",
        "LOCK.WAITERS k",
    ] {
        server.cmd(&words(line));
        assert!(listener.heard().is_empty(), "{line}");
    }
    // The end of a wait is not the lock's business, however it ends.
    let mut timed_out = server.connect();
    assert_eq!(timed_out.cmd(&words("LOCK.ACQUIRE k bob BLOCK 20")), Value::Nil);
    drop(wait_for_lock(&server, "k", "carol"));
    wait_until("the waiter to leave", || server.cmd(&words("LOCK.WAITERS k")) == Value::Array(vec![]));
    assert_eq!(listener.heard(), of_k(&["lock.waiting", "lock.waiting"]));
}

#[test]
fn by_the_channel_of_the_event_too() {
    let server = Server::start();
    let mut listener = Events::listen_to(&server, "Ed");
    let odd: &[u8] = b"odd\r\n\0key\xff";
    fence_of(&server.cmd(&[&b"LOCK.ACQUIRE"[..], odd, b"alice"]));
    assert_eq!(server.cmd(&[&b"LOCK.RELEASE"[..], odd, b"alice"]), 1);
    let name = odd.escape_ascii().to_string();
    let expected = ["lock.acquired", "lock.released"].map(|event| format!("__keyevent@0__:{event} {name}"));
    assert_eq!(listener.heard(), expected);
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
fn the_module_speaks_for_itself_alone() {
    let server = Server::start();
    // All classes: no `set`, no `del`, no `expired` of the server's own beside those of the module.
    let mut listener = Events::listen_to(&server, "KA");
    hold(&server, "k", "alice");
    let _waiter = wait_for_lock(&server, "k", "bob");
    release(&server, "k", "alice");
    let events = ["lock.acquired", "lock.waiting", "lock.released", "lock.acquired"];
    assert_eq!(listener.heard(), of_k(&events));
    release(&server, "k", "bob");
    assert_eq!(listener.heard(), of_k(&["lock.released"]));
}

#[test]
fn what_others_do_to_a_key_is_the_servers_to_tell() {
    let server = Server::start();
    let mut listener = Events::listen_to(&server, "KA");
    hold(&server, "k", "alice");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    assert_eq!(server.cmd(&words("DEL k")), 1);
    assert_granted(&server, &mut waiter, "k", "bob");
    assert_eq!(listener.heard(), of_k(&["lock.acquired", "lock.waiting", "del", "lock.acquired"]));
}

#[test]
fn a_grant_that_is_taken_back() {
    let server = Server::start();
    hold(&server, "k", "alice");
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

#[test]
fn inside_a_transaction_in_the_order_of_the_steps() {
    let server = Server::start();
    let mut listener = Events::listen_to(&server, "Kd");
    let mut conn = server.connect();
    conn.send_together(&[
        &["MULTI"],
        &words("LOCK.ACQUIRE k alice"),
        &words("LOCK.RELEASE k alice"),
        &words("LOCK.ACQUIRE k bob"),
        &["EXEC"],
    ]);
    (0..5).for_each(|_| drop(conn.read()));
    assert_eq!(listener.heard(), of_k(&["lock.acquired", "lock.released", "lock.acquired"]));
}

#[test]
fn switched_off_by_either_side() {
    let server = Server::with(&["lock.events no"]);
    let mut listener = Events::listen_to(&server, "KA");
    hold(&server, "k", "alice");
    release(&server, "k", "alice");
    assert!(listener.heard().is_empty());
    assert_eq!(server.cmd(&words("CONFIG SET lock.events yes")), "OK");
    hold(&server, "k", "alice");
    assert_eq!(listener.heard(), of_k(&["lock.acquired"]));
    assert_eq!(server.cmd(&words("CONFIG SET lock.events no")), "OK");
    release(&server, "k", "alice");
    assert!(listener.heard().is_empty());
    // The server's own switch: every class but that of modules.
    assert_eq!(server.cmd(&words("CONFIG SET lock.events yes")), "OK");
    assert_eq!(server.cmd(&words("CONFIG SET notify-keyspace-events KEg$lshzxetm")), "OK");
    hold(&server, "k", "alice");
    assert!(listener.heard().is_empty());
}
