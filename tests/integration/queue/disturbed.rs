//! What else can happen to a ticket: it is taken out, replaced, stuck, too many, or its lock goes away under it.

use super::{claim, get_ticket, let_claims_take, tickets};
use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, assert_left, fence_of, granted, holder, queue,
    release, set_string, wait_for_lock, waiting, words, WRONGTYPE,
};
use crate::support::{wait_until, Server, Value};
use crate::traffic::lock_stat;

#[test]
fn a_cancelled_ticket_is_out_of_line() {
    let server = Server::start();
    acquire(&server, "k alice");
    get_ticket(&server, "k", "bob");
    get_ticket(&server, "k", "carol");
    assert_eq!(ask(&server, "LOCK.CANCEL k bob"), 1);
    assert_eq!(ask(&server, "LOCK.CANCEL k bob"), 0);
    assert_eq!(queue(&server, "k"), ["carol"]);
    release(&server, "k", "alice");
    assert_eq!(ask(&server, "LOCK.CANCEL k carol"), 0, "her turn has come: she gives it back");
    release(&server, "k", "carol");
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn a_ticket_and_a_wait_of_one_owner_take_over_each_others_place() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waits = wait_for_lock(&server, "k", "bob");
    get_ticket(&server, "k", "carol");
    get_ticket(&server, "k", "bob");
    assert_eq!(waits.read(), Value::Nil, "the older one ends");
    assert_eq!((queue(&server, "k"), tickets(&server)), (vec!["bob".to_owned(), "carol".to_owned()], 2));
    waits.send(&words("LOCK.ACQUIRE k bob BLOCK 0"));
    wait_until("the client to wait", || tickets(&server) == 1);
    assert_eq!(queue(&server, "k"), ["bob", "carol"]);
    release(&server, "k", "alice");
    assert_granted(&server, &mut waits, "k", "bob");
}

#[test]
fn a_ticket_for_something_else_is_another_ticket() {
    let server = Server::start();
    acquire(&server, "k alice");
    get_ticket(&server, "k", "bob");
    get_ticket(&server, "k", "carol");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob SHARED QUEUE 60000"), Value::Nil);
    let rows = ask(&server, "LOCK.WAITERS k");
    let bob = &rows.items()[0];
    assert_eq!((bob.field("owner").text(), bob.field("mode").text()), ("bob".into(), "shared".into()));
    // For more than before it goes to the end of both lines.
    assert_eq!(ask(&server, "LOCK.MACQUIRE bob 2 k l QUEUE 60000"), Value::Nil);
    assert_eq!(queue(&server, "k"), ["carol", "bob"]);
    assert_eq!(queue(&server, "l"), ["bob"]);
}

#[test]
fn a_ticket_that_would_wait_for_ever_is_refused() {
    let server = Server::start();
    acquire(&server, "red alice");
    acquire(&server, "blue bob");
    get_ticket(&server, "red", "bob");
    for line in ["LOCK.ACQUIRE blue alice QUEUE 60000", "LOCK.MACQUIRE alice 2 blue green QUEUE 60000"] {
        let reply = ask(&server, line);
        assert!(reply.error().starts_with("DEADLOCK "), "{line}: {reply:?}");
    }
    assert_eq!((waiting(&server, "blue"), waiting(&server, "green")), (0, 0));
    // And a client that would wait for a ticket.
    let reply = server.connect().cmd(&words("LOCK.ACQUIRE blue alice BLOCK 0"));
    assert!(reply.error().starts_with("DEADLOCK "), "{reply:?}");
    release(&server, "blue", "bob");
    release(&server, "red", "alice");
    claim(&server, "red", "bob");
}

#[test]
fn what_is_given_on_purpose_need_not_be_claimed() {
    let server = Server::start();
    let_claims_take(&server, 1);
    for line in ["LOCK.TRANSFER k alice bob PX 60000", "LOCK.STEAL k bob PX 60000"] {
        acquire(&server, "k alice");
        get_ticket(&server, "k", "bob");
        granted(&server, line);
        assert_left(&ask(&server, "LOCK.CHECK k bob"), 60_000);
        assert_eq!(waiting(&server, "k"), 0);
        release(&server, "k", "bob");
    }
}

#[test]
fn a_limit_is_lowered_below_what_a_ticket_asks_for() {
    let server = Server::start();
    acquire(&server, "k alice LIMIT 3 PERMITS 2");
    for (owner, permits) in [("bob", 3), ("carol", 2)] {
        let line = format!("LOCK.ACQUIRE k {owner} LIMIT 3 PERMITS {permits} QUEUE 60000");
        assert_eq!(ask(&server, &line), Value::Nil);
    }
    assert_eq!(ask(&server, "LOCK.SETLIMIT k 2"), 1);
    assert_eq!(queue(&server, "k"), ["carol"]);
    release(&server, "k", "alice");
    acquire(&server, "k carol LIMIT 2 PERMITS 2 QUEUE 60000");
}

#[test]
fn a_lock_that_is_deleted_goes_to_the_first_ticket() {
    let server = Server::start();
    for line in ["DEL k", "FLUSHALL", "RENAME k elsewhere"] {
        acquire(&server, "k alice");
        get_ticket(&server, "k", "bob");
        ask(&server, line);
        wait_until(line, || holder(&server, "k").as_deref() == Some("bob"));
        claim(&server, "k", "bob");
        ask(&server, "FLUSHALL");
    }
}

#[test]
fn a_turn_that_is_deleted_goes_to_the_next() {
    let server = Server::start();
    let_claims_take(&server, 60_000);
    acquire(&server, "k alice");
    get_ticket(&server, "k", "bob");
    get_ticket(&server, "k", "carol");
    release(&server, "k", "alice");
    assert_eq!(ask(&server, "DEL k"), 1);
    wait_until("the next to have its turn", || holder(&server, "k").as_deref() == Some("carol"));
    get_ticket(&server, "k", "bob");
}

#[test]
fn a_key_that_is_overwritten_has_no_tickets() {
    let server = Server::start();
    acquire(&server, "k alice");
    get_ticket(&server, "k", "bob");
    set_string(&server, "k");
    wait_until("the ticket to be gone", || tickets(&server) == 0);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000"), WRONGTYPE);
    assert_eq!(ask(&server, "DEL k"), 1);
    acquire(&server, "k bob QUEUE 60000");
}

#[test]
fn tickets_have_a_cap_of_their_own() {
    let server = Server::with(&["lock.max-tickets 2", "lock.max-waiters 1"]);
    acquire(&server, "k alice");
    acquire(&server, "l alice");
    let _client = wait_for_lock(&server, "k", "zoe");
    get_ticket(&server, "k", "bob");
    get_ticket(&server, "l", "bob");
    let full = "QUEUEFULL 2 tickets wait in this server; raise lock.max-tickets or try later";
    for line in
        ["LOCK.ACQUIRE k carol QUEUE 5", "LOCK.ACQUIRE k zoe QUEUE 5", "LOCK.MACQUIRE carol 2 k m QUEUE 5"]
    {
        assert_eq!(ask(&server, line), full, "{line}");
    }
    get_ticket(&server, "k", "bob");
    let reply = server.connect().cmd(&words("LOCK.ACQUIRE l carol BLOCK 0"));
    assert!(reply.error().starts_with("QUEUEFULL 1 clients "), "{reply:?}");
    assert_eq!(ask(&server, "LOCK.CANCEL l bob"), 1);
    get_ticket(&server, "k", "carol");
    assert_eq!(tickets(&server), 2);
}

#[test]
fn one_lock_has_room_for_as_many_tickets_as_clients() {
    let server = Server::with(&["lock.max-waiters-per-key 2"]);
    acquire(&server, "k alice");
    acquire(&server, "l alice");
    for owner in ["bob", "carol"] {
        get_ticket(&server, "k", owner);
    }
    let full = "QUEUEFULL 2 tickets wait for this key; raise lock.max-waiters-per-key or try later";
    assert_changes_nothing(&server, || {
        for line in ["LOCK.ACQUIRE k dave QUEUE 5000", "LOCK.MACQUIRE dave 2 l k QUEUE 5000"] {
            assert_eq!(ask(&server, line), full, "{line}");
        }
        get_ticket(&server, "k", "bob");
    });
    get_ticket(&server, "l", "dave");
    let _client = wait_for_lock(&server, "k", "zoe");
    assert_eq!(ask(&server, "LOCK.CANCEL k bob"), 1);
    get_ticket(&server, "k", "dave");
}

#[test]
fn a_hold_is_tied_to_the_connection_that_claims_it() {
    let server = Server::start();
    acquire(&server, "k alice");
    let line = words("LOCK.ACQUIRE k bob QUEUE 60000 NOEXPIRE TIED 0");
    let mut asks = server.connect();
    assert_eq!(asks.cmd(&line), Value::Nil);
    drop(asks);
    release(&server, "k", "alice");
    let mut claims = server.connect();
    fence_of(&claims.cmd(&line));
    assert_eq!(ask(&server, "LOCK.CHECK k bob"), -1);
    drop(claims);
    wait_until("the hold to end", || ask(&server, "EXISTS k") == 0);
    assert_eq!(lock_stat(&server, "closed"), 1);
}

#[test]
fn a_ticket_enters_under_its_id() {
    let server = Server::start();
    acquire(&server, "k alice");
    let line = "LOCK.ACQUIRE k bob QUEUE 60000 REENTRANT x";
    assert_eq!(ask(&server, line), Value::Nil);
    release(&server, "k", "alice");
    granted(&server, line);
    assert_eq!(ask(&server, "LOCK.RELEASE k bob REENTRANT x"), 1);
    assert_eq!(ask(&server, "EXISTS k"), 0);
}
