//! QUEUE: a ticket keeps a place in line for a client that does not wait. Its life without hurry is `tests/cases/queue.md`; here is
//! what time does to it; what copies of the data know of it (`copies`), what else can happen to it (`disturbed`), where it is asked
//! for (`elsewhere`) and very many of them (`crowds`) have a file each.

use std::time::Duration;

use crate::operate::shown;
use crate::steps::{
    acquire, ask, assert_granted, assert_holds, assert_left, granted, holder, queue, release, wait_for_lock,
};
use crate::support::wait::let_pass;
use crate::support::{wait_until, Events, Server, Value};
use crate::traffic::lock_stat;

mod copies;
mod crowds;
mod disturbed;
mod elsewhere;
mod given_up;
mod notified;
mod rights;
mod slices;

/// Asks for a ticket that is good for a minute; the lock must not be the owner's yet.
fn get_ticket(server: &Server, key: &str, owner: &str) {
    assert_eq!(ask(server, &format!("LOCK.ACQUIRE {key} {owner} QUEUE 60000")), Value::Nil);
}

/// Asks again, now that it is the owner's turn; the fence.
fn claim(server: &Server, key: &str, owner: &str) -> i64 {
    assert_eq!(holder(server, key).as_deref(), Some(owner), "whose turn it is");
    let fence = acquire(server, &format!("{key} {owner} QUEUE 60000"));
    assert_holds(server, key, owner, fence);
    fence
}

/// Lets what a ticket is given wait for so long.
fn let_claims_take(server: &Server, ms: u64) {
    assert_eq!(ask(server, &format!("CONFIG SET lock.claim-ms {ms}")), "OK");
}

/// How many tickets there are.
fn tickets(server: &Server) -> i64 {
    server.info_int("lock_state", "lock_tickets")
}

#[test]
fn a_place_is_kept_as_long_as_it_is_asked_for() {
    let server = Server::start();
    let left_of_first = || ask(&server, "LOCK.WAITERS k").items()[0].field("left-ms").int();
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000"), Value::Nil);
    get_ticket(&server, "k", "carol");
    assert_left(&Value::Int(left_of_first()), 60_000);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob QUEUE 90000"), Value::Nil);
    assert!(left_of_first() > 60_000, "counted from now");
    assert_eq!(queue(&server, "k"), ["bob", "carol"], "in the same place");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob QUEUE 30"), Value::Nil, "it may be cut, too");
    wait_until("the place to be given up", || queue(&server, "k") == ["carol"]);
    assert_eq!(lock_stat(&server, "timed_out"), 1);
    get_ticket(&server, "k", "bob");
    assert_eq!(queue(&server, "k"), ["carol", "bob"], "at the end");
}

#[test]
fn what_nobody_claims_goes_to_the_next_in_line() {
    let server = Server::start();
    let_claims_take(&server, 50);
    // Nobody believes to have it, so there is no reason for a rest.
    assert_eq!(ask(&server, "CONFIG SET lock.lock-delay-ms 60000"), "OK");
    acquire(&server, "k alice");
    get_ticket(&server, "k", "bob");
    let mut carol = wait_for_lock(&server, "k", "carol");
    release(&server, "k", "alice");
    assert_granted(&server, &mut carol, "k", "carol");
    assert_eq!((lock_stat(&server, "unclaimed"), lock_stat(&server, "expired")), (1, 0));
    let late = ask(&server, "LOCK.RELEASE k bob WITHINFO");
    assert_eq!((late.field("result"), late.field("reason")), (&Value::Int(0), &Value::bulk("unclaimed")));
    get_ticket(&server, "k", "bob");
}

#[test]
fn with_nobody_next_what_is_not_claimed_is_free() {
    let server = Server::start();
    let_claims_take(&server, 1);
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000 NOEXPIRE MINHOLD 60000"), Value::Nil);
    release(&server, "k", "alice");
    wait_until("the key to be gone", || ask(&server, "EXISTS k") == 0);
    assert_eq!(lock_stat(&server, "unclaimed"), 1);
}

#[test]
fn the_bounds_of_a_hold_count_from_the_turn() {
    let server = Server::start();
    let_claims_take(&server, 60_000);
    acquire(&server, "k alice");
    let line = "LOCK.ACQUIRE k bob QUEUE 60000 NOEXPIRE MAXHOLD 600000 MINHOLD 500000";
    assert_eq!(ask(&server, line), Value::Nil);
    release(&server, "k", "alice");
    let_pass(Duration::from_millis(100));
    granted(&server, line);
    assert!(shown(&server, "max-left-ms").int() <= 599_900);
    assert!(shown(&server, "min-left-ms").int() <= 499_900);
}

#[test]
fn the_lease_begins_with_the_claim() {
    let server = Server::start();
    let_claims_take(&server, 20_000);
    for (lease, expected) in [("PX 90000", 90_000), ("PX 20000", 20_000), ("PX 20000 MAXHOLD 10000", 10_000)]
    {
        acquire(&server, "k alice");
        let line = format!("LOCK.ACQUIRE k bob QUEUE 60000 {lease}");
        assert_eq!(ask(&server, &line), Value::Nil);
        release(&server, "k", "alice");
        assert!(ask(&server, "LOCK.CHECK k bob").int() <= 20_000, "{lease}: until then it is short");
        granted(&server, &line);
        assert_left(&ask(&server, "LOCK.CHECK k bob"), expected);
        release(&server, "k", "bob");
    }
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000 NOEXPIRE"), Value::Nil);
    release(&server, "k", "alice");
    assert_left(&ask(&server, "LOCK.CHECK k bob"), 20_000);
    acquire(&server, "k bob QUEUE 60000 NOEXPIRE");
    assert_eq!(ask(&server, "LOCK.CHECK k bob"), -1);
}

#[test]
fn whoever_is_heard_of_has_claimed() {
    let server = Server::start();
    let_claims_take(&server, 20_000);
    for (line, expected) in [
        ("LOCK.RENEW k bob", 90_000),
        ("LOCK.RENEW k bob PX 50000", 50_000),
        ("LOCK.MRENEW bob 40000 1 k", 40_000),
        ("LOCK.ACQUIRE k bob", 90_000),
        ("LOCK.ACQUIRE k bob BLOCK 5", 90_000),
        ("LOCK.CONVERT k bob EXCLUSIVE", 90_000),
    ] {
        acquire(&server, "k alice");
        assert_eq!(ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000 PX 90000"), Value::Nil);
        release(&server, "k", "alice");
        ask(&server, line);
        assert_left(&ask(&server, "LOCK.CHECK k bob"), expected);
        release(&server, "k", "bob");
    }
    assert_eq!(lock_stat(&server, "unclaimed"), 0);
}

#[test]
fn a_turn_is_published_and_a_claim_is_not() {
    let server = Server::start();
    let_claims_take(&server, 200);
    acquire(&server, "k alice");
    let mut listener = Events::listen_to(&server, "Kd");
    get_ticket(&server, "k", "bob");
    get_ticket(&server, "k", "carol");
    get_ticket(&server, "k", "carol");
    release(&server, "k", "alice");
    // Bob does not come, and Carol does.
    let events = ["waiting", "waiting", "released", "acquired", "expired", "acquired"];
    let heard: Vec<String> = events.iter().map(|_| listener.next()).collect();
    assert_eq!(heard, events.map(|event| format!("k lock.{event}")));
    claim(&server, "k", "carol");
    assert!(listener.heard().is_empty());
}

#[test]
fn withinfo_tells_a_place_from_a_refusal_and_a_turn_from_a_hold() {
    let server = Server::start();
    acquire(&server, "k alice");
    let poll = || ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000 WITHINFO");
    for _ in 0..2 {
        let told = poll();
        assert_eq!(told.field("result"), &Value::Nil);
        assert_eq!(
            (told.field("reason").text(), told.field("holder").text()),
            ("queued".into(), "alice".into())
        );
    }
    release(&server, "k", "alice");
    let told = poll();
    assert_eq!(told.field("reason").text(), "granted");
    assert_eq!(told.field("result"), told.field("fence"));
    assert_eq!(poll().field("reason").text(), "already-held");
}
