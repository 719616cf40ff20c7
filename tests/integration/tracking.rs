//! Client tracking on lock keys: a push says that a lock has changed hands, in whatever way, and none that it was renewed.
//! docs/waiting.md has it as a signal, for those who wait by a ticket and for holders that may lose their lock.

use crate::steps::{acquire, ask, fence_of, granted, release, wait_for_lock, words};
use crate::support::{wait_until, Connection, Server, Value};

/// A connection that is told of changes of what it has read, or of all locks.
fn tracking(server: &Server, how: &str) -> Connection {
    let mut conn = server.connect().hello3();
    assert_eq!(conn.cmd(&words(&format!("CLIENT TRACKING ON {how}"))), "OK");
    conn
}

/// Waits for a push, which must be about this key.
fn assert_told(conn: &mut Connection, key: &str, what: &str) {
    let push = conn.read();
    let Value::Push(items) = &push else { panic!("{what}: {push:?}") };
    assert_eq!(items[0], "invalidate", "{what}");
    assert_eq!(items[1].items(), [Value::bulk(key)], "{what}");
}

/// Looks at the lock, so that the next change of it is told; whatever was told until then is over.
fn look(conn: &mut Connection, line: &str) -> Value {
    conn.send(&words(line));
    loop {
        match conn.read() {
            Value::Push(_) => {}
            reply => return reply,
        }
    }
}

/// All ways in which a lock changes hands, each told once to a client that has looked before. `looking` is how it looks.
fn every_change_is_told(server: &Server, conn: &mut Connection, looking: &str) {
    // A key that is not there is looked at too.
    look(conn, looking);
    acquire(server, "k alice");
    assert_told(conn, "k", "a grant");

    // A renewal changes what is left, which no cache may count on, and not the holder.
    look(conn, looking);
    assert_eq!(ask(server, "LOCK.RENEW k alice PX 50000"), 50_000);
    assert_eq!(conn.cmd(&["PING"]), "PONG", "a renewal is not told");

    let mut bob = wait_for_lock(server, "k", "bob");
    assert_eq!(conn.cmd(&["PING"]), "PONG", "that somebody waits is not told");
    release(server, "k", "alice");
    fence_of(&bob.read());
    assert_told(conn, "k", "a hand-off");

    look(conn, looking);
    granted(server, "LOCK.TRANSFER k bob carol PX 40");
    assert_told(conn, "k", "a transfer");

    look(conn, looking);
    assert_told(conn, "k", "the end of a lease");
    wait_until("the lock to be free", || ask(server, "EXISTS k") == 0);

    look(conn, looking);
    acquire(server, "k dora");
    assert_told(conn, "k", "a grant");
    look(conn, looking);
    assert_eq!(ask(server, "LOCK.BREAK k"), 1);
    assert_told(conn, "k", "a hold that an operator ended");
}

#[test]
fn a_client_that_has_read_a_lock_is_told_of_every_change_of_hands() {
    for looking in ["LOCK.CHECK k alice", "LOCK.INFO k"] {
        let server = Server::start();
        every_change_is_told(&server, &mut tracking(&server, ""), looking);
    }
}

#[test]
fn a_client_that_tracks_a_prefix_is_told_without_reading() {
    let server = Server::start();
    let mut conn = tracking(&server, "BCAST PREFIX k");
    acquire(&server, "other alice");
    every_change_is_told(&server, &mut conn, "PING");
}

/// The wake-up of one that waits by a ticket, and so on a connection that many share.
#[test]
fn a_ticket_whose_turn_has_come_is_told_by_a_push() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut conn = tracking(&server, "");
    assert_eq!(conn.cmd(&words("LOCK.ACQUIRE k bob QUEUE 60000")), Value::Nil);
    assert_eq!(conn.cmd(&words("LOCK.CHECK k bob")), 0);
    release(&server, "k", "alice");
    assert_told(&mut conn, "k", "the turn");
    assert!(look(&mut conn, "LOCK.ACQUIRE k bob QUEUE 60000").int() > 0);
}

/// The signal of a loss to the holder itself.
#[test]
fn a_holder_that_has_lost_its_lock_is_told_by_a_push() {
    let server = Server::start();
    let mut conn = tracking(&server, "");
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice PX 600000")));
    assert!(look(&mut conn, "LOCK.CHECK k alice").int() > 0);
    assert_eq!(ask(&server, "DEL k"), 1);
    assert_told(&mut conn, "k", "a deletion");
    assert_eq!(conn.cmd(&words("LOCK.CHECK k alice")), 0);
}
