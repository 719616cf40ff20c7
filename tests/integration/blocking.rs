//! Waiting for a lock: crowds, and what time does. One wait at a time is `tests/cases/blocking.md`. What disturbs a wait has files
//! of its own: other commands on the key (`vanished`), the clients themselves (`clients`), commands behind and before it
//! (`pipelines`), too few connections (`connections`).

use std::time::{Duration, Instant};

use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, assert_left, assert_punctual, fence_of, in_line,
    queue, queue_up, release, wait_for_lock, words,
};
use crate::support::wait::wait_waiting;
use crate::support::{Connection, Server, Value};

mod clients;
mod connections;
mod pipelines;
mod vanished;

/// Lets a wait for some other lock run its course: so much time passes on the server's own clock for waits.
fn wait_out(server: &Server, ms: u64) {
    let mut conn = server.connect();
    acquire(server, "elsewhere nobody");
    assert_eq!(conn.cmd(&["LOCK.ACQUIRE", "elsewhere", "me", "BLOCK", &ms.to_string()]), Value::Nil);
    release(server, "elsewhere", "nobody");
}

#[test]
fn first_come_first_served_one_at_a_time() {
    let server = Server::start();
    let mut last = acquire(&server, "k alice");
    let names = ["bob", "carol", "dave"];
    let mut waiters = names.map(|name| wait_for_lock(&server, "k", name));
    assert_eq!(queue(&server, "k"), names);
    release(&server, "k", "alice");
    for at in 0..names.len() {
        let fence = assert_granted(&server, &mut waiters[at], "k", names[at]);
        assert!(fence > last);
        last = fence;
        assert_eq!(queue(&server, "k"), names[at + 1..]);
        waiters[at + 1..].iter_mut().for_each(Connection::expect_nothing_pending);
        release(&server, "k", names[at]);
    }
    assert_eq!(server.cmd(&["EXISTS", "k"]), 0);
}

#[test]
fn one_wakes_and_all_others_sleep_on() {
    let server = Server::start();
    const N: usize = 500;
    let names: Vec<String> = (0..N).map(|n| format!("owner-{n}")).collect();
    let mut fences = vec![acquire(&server, "k first")];
    // They arrive through one looking glass in turn: their order is the order of their arrival.
    let mut waiters: Vec<Connection> = names.iter().map(|name| wait_for_lock(&server, "k", name)).collect();
    release(&server, "k", "first");
    for (name, waiter) in names.iter().zip(&mut waiters) {
        fences.push(fence_of(&waiter.read()));
        release(&server, "k", name);
    }
    assert!(fences.is_sorted_by(|a, b| a < b), "each grant has a higher fence than the one before");
    for waiter in &mut waiters {
        assert_eq!(waiter.cmd(&["PING"]), "PONG", "nobody was granted twice");
    }
    assert_eq!(server.info_int("lock_stats", "lock_handed_off"), N as i64);
    assert_eq!(server.info_int("lock_stats", "lock_granted"), N as i64 + 1);
}

#[test]
fn the_end_of_a_lease_hands_over_too() {
    let server = Server::start();
    let start = Instant::now();
    acquire(&server, "k alice PX 400");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    assert_granted(&server, &mut waiter, "k", "bob");
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert_eq!(ask(&server, "LOCK.RELEASE k alice"), 0);
}

#[test]
fn the_lease_begins_with_the_grant() {
    let server = Server::start();
    acquire(&server, "k alice");
    let command = words("LOCK.ACQUIRE k bob PX 50000 BLOCK 0 NOTE later WITHINFO");
    let mut waiter = queue_up(&server, server.connect(), &command);
    wait_out(&server, 300);
    release(&server, "k", "alice");
    let left = waiter.read().field("lease-ms").int();
    assert!((49_800..=50_000).contains(&left), "{left}");
    assert_eq!(server.cmd(&["LOCK.INFO", "k"]).field("holds").items()[0].field("note"), &"later");
}

#[test]
fn waits_end_on_time() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_punctual(&server, || {
        let mut waits: Vec<_> = (0..120)
            .map(|n| {
                let (mut conn, wait) = (server.connect(), Duration::from_millis(100 + 4 * n));
                let due = Instant::now() + wait;
                let (owner, ms) = (n.to_string(), wait.as_millis().to_string());
                conn.send(&["LOCK.ACQUIRE", "k", &owner, "BLOCK", &ms]);
                (conn, due)
            })
            .collect();
        let end = |(conn, due): &mut (Connection, Instant)| {
            assert_eq!(conn.read(), Value::Nil);
            Instant::now().checked_duration_since(*due)
        };
        waits.iter_mut().map(end).collect()
    });
}

#[test]
fn the_end_of_one_wait_is_nothing_to_the_others() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut first = wait_for_lock(&server, "k", "bob");
    let mut second = in_line(&server, "LOCK.ACQUIRE k carol BLOCK 400");
    let mut third = wait_for_lock(&server, "k", "dave");
    assert_eq!(second.read(), Value::Nil);
    assert_eq!(queue(&server, "k"), ["bob", "dave"]);
    release(&server, "k", "alice");
    assert_granted(&server, &mut first, "k", "bob");
    release(&server, "k", "bob");
    assert_granted(&server, &mut third, "k", "dave");
}

#[test]
fn the_same_owner_elsewhere_takes_the_place_over() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut older = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 400");
    let mut carol = wait_for_lock(&server, "k", "carol");
    let mut newer = server.connect();
    newer.send(&words("LOCK.ACQUIRE k bob PX 50000 BLOCK 0"));
    assert_eq!(older.read(), Value::Nil);
    assert_eq!(queue(&server, "k"), ["bob", "carol"], "the place is kept");
    // The older wait's end is forgotten with it.
    wait_out(&server, 450);
    assert_eq!(queue(&server, "k"), ["bob", "carol"]);
    release(&server, "k", "alice");
    assert_granted(&server, &mut newer, "k", "bob");
    assert_left(&ask(&server, "LOCK.CHECK k bob"), 50_000);
    carol.expect_nothing_pending();
    assert_eq!(older.cmd(&["PING"]), "PONG", "the older one was told once");
    // The one that has gone has no say over the one that came.
    drop(older);
    release(&server, "k", "bob");
    assert_granted(&server, &mut carol, "k", "carol");
}

#[test]
fn two_who_wait_for_each_other_wait_no_longer_than_they_said() {
    let server = Server::start();
    // Otherwise the second is refused at once.
    assert_eq!(ask(&server, "CONFIG SET lock.deadlock-detection no"), "OK");
    acquire(&server, "k alice");
    acquire(&server, "l bob");
    let mut alice = in_line(&server, "LOCK.ACQUIRE l alice BLOCK 400");
    let mut bob = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 60000");
    assert_eq!(alice.read(), Value::Nil);
    // Alice gives up what she has, and with it the knot is undone.
    assert_eq!(alice.cmd(&words("LOCK.RELEASE k alice")), 1);
    assert_granted(&server, &mut bob, "k", "bob");
}

#[test]
fn the_queue_of_a_lock_has_an_end() {
    let server = Server::start();
    assert_eq!(ask(&server, "CONFIG SET lock.max-waiters-per-key 2"), "OK");
    acquire(&server, "k alice");
    acquire(&server, "l alice");
    let bob = wait_for_lock(&server, "k", "bob");
    let _carol = wait_for_lock(&server, "k", "carol");
    let full = "QUEUEFULL 2 clients wait for this key; raise lock.max-waiters-per-key or try later";
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LOCK.ACQUIRE k dave BLOCK 0"), full);
    });
    let _elsewhere = wait_for_lock(&server, "l", "dave");
    drop(bob);
    wait_waiting(&server, "k", 1);
    let _dave = wait_for_lock(&server, "k", "dave");
    assert_eq!(queue(&server, "k"), ["carol", "dave"]);
}
