//! BLOCK beside QUEUE: a client waits for the turn of its owner's ticket, and the place in line outlives the wait, however
//! that ends.

use super::{let_claims_take, tickets};
use crate::steps::{
    acquire, ask, assert_granted, assert_holds, assert_left, fence_of, granted, in_line, is_modern, queue,
    queue_up, release, set_string, wait_for_lock, waiting, words,
};
use crate::support::wait::wait_waiting_on;
use crate::support::{skip, wait_until, Connection, Server, Value};
use crate::traffic::lock_stat;

/// How many clients are kept waiting.
fn blocked(server: &Server) -> i64 {
    server.info_int("clients", "blocked_clients")
}

/// A new connection whose client waits for the turn of this owner's ticket.
fn wait_by(server: &Server, line: &str) -> Connection {
    send_to(server, server.connect(), line)
}

/// The same on this connection.
fn send_to(server: &Server, mut conn: Connection, line: &str) -> Connection {
    let before = blocked(server);
    conn.send(&words(line));
    wait_until(&format!("`{line}` to wait"), || blocked(server) > before);
    conn
}

/// The place of the first in line, and what is left of it.
fn first_place(server: &Server) -> (String, String, i64) {
    let rows = ask(server, "LOCK.WAITERS k");
    let first = &rows.items()[0];
    (first.field("owner").text(), first.field("kind").text(), first.field("left-ms").int())
}

#[test]
fn a_free_lock_is_granted_at_once_and_for_its_lease() {
    let server = Server::start();
    let_claims_take(&server, 1);
    let fence = acquire(&server, "k bob PX 90000 BLOCK 1000 QUEUE 60000");
    assert_holds(&server, "k", "bob", fence);
    assert_left(&ask(&server, "LOCK.CHECK k bob"), 90_000);
    assert_eq!((lock_stat(&server, "queued"), tickets(&server)), (0, 0));
}

#[test]
fn slices_keep_one_place_throughout() {
    let server = Server::start();
    let held = acquire(&server, "k alice");
    let mut bob = server.connect();
    let slice = words("LOCK.ACQUIRE k bob BLOCK 20 QUEUE 60000");
    assert_eq!(bob.cmd(&slice), Value::Nil);
    let mut carol = wait_for_lock(&server, "k", "carol");
    for _ in 0..3 {
        assert_eq!(bob.cmd(&slice), Value::Nil);
        assert_eq!((queue(&server, "k"), tickets(&server)), (vec!["bob".to_owned(), "carol".to_owned()], 1));
    }
    let told = bob.cmd(&words("LOCK.ACQUIRE k bob BLOCK 20 QUEUE 60000 WITHINFO"));
    assert_eq!((told.field("result"), told.field("reason")), (&Value::Nil, &Value::bulk("queued")));
    assert_eq!(told.field("holder"), &Value::bulk("alice"));
    assert_eq!((lock_stat(&server, "queued"), lock_stat(&server, "timed_out")), (2, 0), "it never left");
    let mut bob = send_to(&server, bob, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000 PX 90000");
    release(&server, "k", "alice");
    let fence = assert_granted(&server, &mut bob, "k", "bob");
    assert!(fence > held);
    assert_left(&ask(&server, "LOCK.CHECK k bob"), 1_000);
    assert_left(&ask(&server, &format!("LOCK.RENEW k bob FENCE {fence}")), 90_000);
    carol.expect_nothing_pending();
}

#[test]
fn a_closed_connection_leaves_its_place() {
    let server = Server::start();
    acquire(&server, "k alice");
    let bob = wait_by(&server, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000");
    let mut carol = wait_for_lock(&server, "k", "carol");
    drop(bob);
    wait_until("the client to be gone", || blocked(&server) == 1);
    let (owner, kind, left) = first_place(&server);
    assert_eq!((owner.as_str(), kind.as_str()), ("bob", "ticket"));
    assert_left(&Value::Int(left), 60_000);
    let mut bob = wait_by(&server, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000");
    release(&server, "k", "alice");
    assert_granted(&server, &mut bob, "k", "bob");
    carol.expect_nothing_pending();
    assert_eq!(lock_stat(&server, "abandoned"), 0);
}

#[test]
fn a_killed_and_an_unblocked_client_leave_their_places() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut bob = server.connect();
    let id = bob.cmd(&["CLIENT", "ID"]).int();
    let bob = send_to(&server, bob, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000");
    assert_eq!(ask(&server, &format!("CLIENT KILL ID {id}")), 1);
    wait_until("the client to be gone", || blocked(&server) == 0);
    assert_eq!(queue(&server, "k"), ["bob"]);
    drop(bob);
    if !is_modern(&server) {
        skip("CLIENT UNBLOCK", "this server lets no module's wait be ended by it");
        return;
    }
    for (how, told) in [("TIMEOUT", None), ("ERROR", Some("UNBLOCKED"))] {
        let mut bob = server.connect();
        let id = bob.cmd(&["CLIENT", "ID"]).int();
        let mut bob = send_to(&server, bob, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000");
        assert_eq!(ask(&server, &format!("CLIENT UNBLOCK {id} {how}")), 1);
        let reply = bob.read();
        match told {
            None => assert_eq!(reply, Value::Nil),
            Some(code) => assert!(reply.error().starts_with(code), "{reply:?}"),
        }
        assert_eq!(queue(&server, "k"), ["bob"], "{how}");
    }
}

#[test]
fn the_place_is_kept_for_so_long_after_the_slice() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut bob = server.connect();
    assert_eq!(bob.cmd(&words("LOCK.ACQUIRE k bob BLOCK 1 QUEUE 1")), Value::Nil);
    wait_until("the place to be given up", || waiting(&server, "k") == 0);
    assert_eq!(lock_stat(&server, "timed_out"), 1);
    let _bob = send_to(&server, bob, "LOCK.ACQUIRE k bob BLOCK 60000 QUEUE 60000");
    let (_, _, left) = first_place(&server);
    assert_left(&Value::Int(left), 120_000);
}

#[test]
fn a_turn_that_nobody_claims_costs_the_line_one_claim() {
    let server = Server::start();
    let_claims_take(&server, 50);
    acquire(&server, "k alice");
    // This client gave up, and its connection is open: it never reads what it is told.
    let _bob = wait_by(&server, "LOCK.ACQUIRE k bob PX 600000 BLOCK 0 QUEUE 60000");
    let mut carol = wait_for_lock(&server, "k", "carol");
    release(&server, "k", "alice");
    assert_granted(&server, &mut carol, "k", "carol");
    assert_eq!((lock_stat(&server, "unclaimed"), lock_stat(&server, "expired")), (1, 0));
}

#[test]
fn a_turn_of_a_client_that_died_is_still_its_owners() {
    let server = Server::start();
    let_claims_take(&server, 60_000);
    acquire(&server, "k alice");
    let mut bob = server.connect();
    let id = bob.cmd(&["CLIENT", "ID"]).int().to_string();
    let _bob = send_to(&server, bob, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000");
    let mut both = server.connect();
    both.send_together(&[&["LOCK.RELEASE", "k", "alice"], &["CLIENT", "KILL", "ID", &id]]);
    assert_eq!((both.read(), both.read()), (Value::Int(1), Value::Int(1)));
    let fence = acquire(&server, "k bob BLOCK 0 QUEUE 60000");
    assert_holds(&server, "k", "bob", fence);
    assert_left(&ask(&server, "LOCK.CHECK k bob"), 30_000);
    assert_eq!(lock_stat(&server, "undone"), 0);
}

#[test]
fn the_newest_client_of_an_owner_has_its_place() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut older = wait_by(&server, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000 WITHINFO");
    let _carol = wait_for_lock(&server, "k", "carol");
    let mut newer = server.connect();
    newer.send(&words("LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000"));
    let told = older.read();
    assert_eq!((told.field("result"), told.field("reason")), (&Value::Nil, &Value::bulk("superseded")));
    drop(older);
    wait_waiting_on(&mut server.connect(), "k", 2);
    // The older client goes, and what it leaves must not be the newer one's place.
    assert_eq!(queue(&server, "k"), ["bob", "carol"]);
    release(&server, "k", "alice");
    assert_granted(&server, &mut newer, "k", "bob");
}

#[test]
fn a_wait_a_ticket_and_both_take_over_from_each_other() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waits = wait_for_lock(&server, "k", "bob");
    let _carol = wait_for_lock(&server, "k", "carol");
    let mut both = server.connect();
    both.send(&words("LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000"));
    assert_eq!(waits.read(), Value::Nil, "the wait has ended");
    wait_until("the ticket to be there", || tickets(&server) == 1);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000"), Value::Nil);
    assert_eq!(both.read(), Value::Nil, "a ticket alone is left");
    assert_eq!((queue(&server, "k"), blocked(&server)), (vec!["bob".to_owned(), "carol".to_owned()], 1));
    let mut both = send_to(&server, both, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000");
    waits.send(&words("LOCK.ACQUIRE k bob BLOCK 0"));
    assert_eq!(both.read(), Value::Nil, "a wait alone is left");
    assert_eq!((queue(&server, "k"), tickets(&server)), (vec!["bob".to_owned(), "carol".to_owned()], 0));
    release(&server, "k", "alice");
    assert_granted(&server, &mut waits, "k", "bob");
}

#[test]
fn several_locks_are_waited_for_in_slices() {
    let server = Server::start();
    acquire(&server, "k alice");
    let line = "LOCK.MACQUIRE bob 2 k l BLOCK 20 QUEUE 60000";
    let mut bob = server.connect();
    assert_eq!(bob.cmd(&words(line)), Value::Nil);
    let mut carol = wait_for_lock(&server, "l", "carol");
    assert_eq!(bob.cmd(&words(line)), Value::Nil);
    assert_eq!(
        (queue(&server, "k"), queue(&server, "l")),
        (vec!["bob".to_owned()], vec!["bob".to_owned(), "carol".to_owned()])
    );
    let mut bob = send_to(&server, bob, "LOCK.MACQUIRE bob 2 k l BLOCK 0 QUEUE 60000");
    release(&server, "k", "alice");
    let fence = assert_granted(&server, &mut bob, "k", "bob");
    assert_holds(&server, "l", "bob", fence);
    assert_eq!(ask(&server, "LOCK.MRELEASE bob 2 k l"), 2);
    assert_granted(&server, &mut carol, "l", "carol");
}

#[test]
fn an_upgrade_is_waited_for_in_slices_and_needs_no_claim() {
    let server = Server::start();
    let_claims_take(&server, 1);
    for owner in ["alice", "bob"] {
        acquire(&server, &format!("k {owner} SHARED PX 60000"));
    }
    let mut bob = server.connect();
    let line = words("LOCK.CONVERT k bob EXCLUSIVE BLOCK 20 QUEUE 60000 WITHINFO");
    for _ in 0..2 {
        let told = bob.cmd(&line);
        assert_eq!((told.field("result"), told.field("reason")), (&Value::Nil, &Value::bulk("queued")));
    }
    assert_eq!(ask(&server, "LOCK.CONVERT k bob EXCLUSIVE QUEUE 60000"), Value::Nil);
    let mut bob = send_to(&server, bob, "LOCK.CONVERT k bob EXCLUSIVE BLOCK 0 QUEUE 60000");
    release(&server, "k", "alice");
    let fence = assert_granted(&server, &mut bob, "k", "bob");
    assert_left(&ask(&server, "LOCK.CHECK k bob"), 60_000);
    assert_eq!(granted(&server, "LOCK.CONVERT k bob EXCLUSIVE QUEUE 60000"), fence);
}

#[test]
fn a_cancelled_place_is_gone_and_its_client_told() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut bob = wait_by(&server, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000 WITHINFO");
    assert_eq!(ask(&server, "LOCK.CANCEL k bob"), 1);
    assert_eq!(bob.read().field("reason"), &Value::bulk("cancelled"));
    assert_eq!(waiting(&server, "k"), 0);
    let mut bob = wait_by(&server, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000");
    set_string(&server, "k");
    assert!(bob.read().error().starts_with("WRONGTYPE "));
    assert_eq!(tickets(&server), 0);
}

#[test]
fn a_client_at_a_ticket_counts_as_a_client() {
    let server = Server::with(&["lock.max-waiters 1"]);
    acquire(&server, "k alice");
    let line = "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000";
    let older = wait_by(&server, line);
    let full = ask(&server, "LOCK.ACQUIRE k carol BLOCK 0 QUEUE 60000");
    assert!(full.error().starts_with("QUEUEFULL 1 clients "), "{full:?}");
    assert_eq!(queue(&server, "k"), ["bob"], "nothing was changed");
    let newer = queue_up_again(&server, line);
    assert_eq!(queue(&server, "k"), ["bob"], "the owner's own client makes room");
    drop((older, newer));
    wait_until("the clients to be gone", || blocked(&server) == 0);
    let _carol = in_line(&server, "LOCK.ACQUIRE k carol BLOCK 0 QUEUE 60000");
}

/// Sends the line of an owner that waits already; the older client of it is told.
fn queue_up_again(server: &Server, line: &str) -> Connection {
    let mut conn = server.connect();
    let id = conn.cmd(&["CLIENT", "ID"]).int();
    conn.send(&words(line));
    wait_until("the newer client to wait", || {
        let told = ask(server, &format!("CLIENT LIST ID {id}"));
        told.text().contains("flags=b")
    });
    conn
}

#[test]
fn on_a_demoted_server_places_end_and_clients_are_told() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut bob = wait_by(&server, "LOCK.ACQUIRE k bob BLOCK 0 QUEUE 60000");
    assert_eq!(ask(&server, "REPLICAOF 127.0.0.1 1"), "OK");
    let reply = bob.read();
    assert!(reply.error().starts_with("UNBLOCKED "), "{reply:?}");
    assert_eq!(tickets(&server), 0);
}

#[test]
fn a_grant_of_which_nobody_is_heard_is_counted() {
    let server = Server::start();
    let untouched = || lock_stat(&server, "untouched");
    acquire(&server, "k alice");
    let mut bob = wait_for_lock(&server, "k", "bob");
    release(&server, "k", "alice");
    fence_of(&bob.read());
    assert_eq!(ask(&server, "LOCK.RENEW k bob PX 1"), 1);
    wait_until("the lease to end", || ask(&server, "EXISTS k") == 0);
    assert_eq!(untouched(), 0, "a renewal is a word");
    acquire(&server, "k alice");
    let waits = words("LOCK.ACQUIRE k bob PX 30 BLOCK 0");
    let mut bob = queue_up(&server, server.connect(), &waits);
    release(&server, "k", "alice");
    fence_of(&bob.read());
    wait_until("the lease to end", || ask(&server, "EXISTS k") == 0);
    assert_eq!((untouched(), lock_stat(&server, "expired")), (1, 2));
    // What was taken at once is known to whoever asked.
    acquire(&server, "k alice PX 1");
    wait_until("the lease to end", || ask(&server, "EXISTS k") == 0);
    assert_eq!((untouched(), lock_stat(&server, "expired")), (1, 3));
}
