//! A1–A5. Holders who have lost their lock without noticing: stopped, starved, cut off. What they do late does no harm, they are told
//! at the first word they say, and whoever comes back in time has lost nothing.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::steps::{acquire_by, ask, assert_granted, assert_holds, granted, wait_for_lock, words};
use crate::support::cli::Cli;
use crate::support::wait::{let_pass, wait_replica_in_sync};
use crate::support::{Events, Proxy, Server, Stop, Value};
use crate::traffic::{follow, lock_stat, Dice};

/// The thread that renewed the lock started late or not at all: after half a minute of a job of five, another process had
/// the lock, and the first worked on. Here a process that is stopped past its lease finds its fence worth nothing when it
/// goes on, with whatever it says first, and the next holder has a higher one.
#[test]
fn a1_a_stopped_holder_has_nothing_left() {
    let server = Server::start();
    let mut holder = Cli::start(server.port());
    holder.send("LOCK.ACQUIRE k alice PX 2000");
    let answer = holder.answer().expect("a grant").concat();
    let old: i64 = answer.trim_start_matches("(integer) ").parse().expect("a fence");
    let mut bob = wait_for_lock(&server, "k", "bob");
    holder.signal("STOP");
    let new = assert_granted(&server, &mut bob, "k", "bob");
    assert!(new > old, "{new} after {old}");

    holder.signal("CONT");
    for (line, expected) in [
        (format!("LOCK.GUARD k alice {old} SET written by-alice"), "(error) NOTHELD "),
        (format!("LOCK.RENEW k alice FENCE {old}"), "(integer) 0"),
        ("LOCK.RENEW k alice PX 60000".to_owned(), "(integer) 0"),
        (format!("LOCK.CHECK k alice FENCE {old}"), "(integer) 0"),
        (format!("LOCK.ACQUIRE k alice FENCE {old}"), "(nil)"),
        (format!("LOCK.RELEASE k alice FENCE {old}"), "(integer) 0"),
        ("LOCK.RELEASE k alice".to_owned(), "(integer) 0"),
    ] {
        holder.send(&line);
        let answer = holder.answer().expect("an answer").concat();
        assert!(answer.starts_with(expected), "{line}: {answer}");
    }
    assert_holds(&server, "k", "bob", new);
    assert_eq!(server.cmd(&["EXISTS", "written"]), 0);
}

/// A lock that was to be held for ever was lost in a failover: one renewal failed, and no other was tried. Here a hold
/// belongs to its owner and not to a connection: over a cut connection, a killed server and a failover the owner renews what
/// it has, and nobody else came in.
#[test]
fn a2_a_holder_that_reconnects_renews_what_it_has() {
    let mut primary = Server::with(&["appendonly yes", "appendfsync always"]);
    let replica = Server::start();
    let mut holder = primary.connect();
    let for_ever = acquire_by(&mut holder, "for-ever alice NOEXPIRE").to_string();
    let leased = acquire_by(&mut holder, "leased alice PX 600000").to_string();
    let renews = |server: &Server, after: &str| {
        let mut holder = server.connect();
        for key in ["for-ever", "leased"] {
            assert_eq!(holder.cmd(&["LOCK.ACQUIRE", key, "bob"]), Value::Nil, "{key} after {after}");
        }
        assert_eq!(holder.cmd(&["LOCK.RENEW", "for-ever", "alice", "FENCE", &for_ever]), -1, "{after}");
        assert_eq!(holder.cmd(&["LOCK.RENEW", "leased", "alice", "FENCE", &leased]), 600_000, "{after}");
    };
    let id = holder.id().to_string();
    assert_eq!(primary.cmd(&["CLIENT", "KILL", "ID", &id]), 1);
    holder.expect_closed();
    renews(&primary, "a cut connection");
    primary.restart(Stop::Kill);
    renews(&primary, "a killed server");
    follow(&replica, &primary);
    renews(&primary, "a full sync");
    wait_replica_in_sync(&primary, &replica);
    primary.stop(Stop::Kill);
    assert_eq!(replica.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
    renews(&replica, "a failover");
}

/// On a machine without time to spare the thread that renewed was late; the lock was lost, and nobody was told. Here clients
/// renew at a third of the lease, and are late now and then, as a starved thread is: each loss is told to the client that
/// asks, by its fence and its reason, and published; and there are no others.
#[test]
fn a3_every_loss_is_told() {
    const CLIENTS: u64 = 8;
    const LOSSES: i64 = 12;
    const LEASE_MS: u64 = 30;
    let server = Server::start();
    let mut events = Events::listen(&server);
    let renewed = AtomicI64::new(0);
    let client = |number: u64| {
        let (mut conn, mut dice) = (server.connect(), Dice::new(number));
        let (key, owner) = (format!("k{number}"), format!("owner-{number}"));
        for _ in 0..LOSSES {
            let fence = acquire_by(&mut conn, &format!("{key} {owner} PX {LEASE_MS}")).to_string();
            let report = loop {
                let is_starved = dice.roll(6) == 0;
                let_pass(Duration::from_millis(LEASE_MS / 3 + if is_starved { LEASE_MS } else { 0 }));
                let report = conn.cmd(&["LOCK.RENEW", &key, &owner, "FENCE", &fence, "WITHINFO"]);
                if report.field("result") == &0 {
                    break report;
                }
                assert_eq!(report.field("result"), &(LEASE_MS as i64));
                renewed.fetch_add(1, Ordering::Relaxed);
            };
            assert_eq!(report.field("reason"), &"expired");
            assert_eq!(report.field("fence").int().to_string(), fence);
            assert!(report.field("ago-ms").int() >= 0);
        }
    };
    std::thread::scope(|scope| {
        for number in 1..=CLIENTS {
            scope.spawn(move || client(number));
        }
    });
    let renewed = renewed.into_inner();
    println!("{renewed} renewals came in time, {} did not", CLIENTS as i64 * LOSSES);
    assert!(renewed > 0, "nobody was ever in time");
    let published = events.heard().iter().filter(|event| event.ends_with(" lock.expired")).count();
    let told = CLIENTS as i64 * LOSSES;
    assert_eq!((lock_stat(&server, "expired"), published as i64), (told, told));
}

/// A client that was cut off went on writing, and over what the next holder had written. No server can stop a write that
/// does not ask; here the one that asks is refused, whether it is written to this server or elsewhere with the fence.
#[test]
fn a4_a_late_write_is_refused_where_it_is_guarded() {
    let server = Server::start();
    let mut late = Cli::start(server.port());
    let mut say = |line: &str| {
        late.send(line);
        late.answer().expect("an answer").concat()
    };
    let told = say("LOCK.ACQUIRE k alice PX 60000");
    let old: i64 = told.trim_start_matches("(integer) ").parse().expect("a fence");
    assert_eq!(say(&format!("LOCK.GUARD k alice {old} SET guarded alice")), "OK");
    assert_eq!(say(&format!("LOCK.FENCE newest {old}")), "(integer) 1");

    // Over the head of the one who does not know.
    let new = granted(&server, "LOCK.STEAL k bob").to_string();
    for line in [&format!("LOCK.GUARD k bob {new} SET guarded bob"), "SET unguarded bob"] {
        assert_eq!(ask(&server, line), "OK", "{line}");
    }
    assert_eq!(ask(&server, &format!("LOCK.FENCE newest {new}")), 1);

    assert!(say(&format!("LOCK.GUARD k alice {old} SET guarded alice")).starts_with("(error) NOTHELD "));
    assert_eq!(say(&format!("LOCK.FENCE newest {old}")), "(integer) 0");
    assert_eq!(ask(&server, "GET guarded"), "bob");
    assert_eq!(say("SET unguarded alice"), "OK");
    assert_eq!(ask(&server, "GET unguarded"), "alice", "what does not ask is not refused");
}

/// A scheduler was cut off and sent its tasks for another half a minute, beside its successor. Here a hold can be tied to its
/// connection: when the line breaks, both its ends are told, the next has the lock at once, and the old one learns why
/// when it is back.
#[test]
fn a5_a_broken_line_ends_a_tied_hold_on_both_ends() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let mut old = proxy.connect();
    let fence = acquire_by(&mut old, "k old NOEXPIRE TIED 0");
    let mut next = wait_for_lock(&server, "k", "next");
    proxy.cut();
    old.expect_closed();
    assert_granted(&server, &mut next, "k", "next");
    let line = format!("LOCK.RENEW k old FENCE {fence} WITHINFO");
    let told = proxy.connect().cmd(&words(&line));
    assert_eq!((told.field("result"), told.field("fence")), (&Value::Int(0), &Value::Int(fence)));
    assert_eq!(told.field("reason"), &"connection-closed");
}

/// The same where neither end notices that the line is dead: the lease ends the hold for both.
#[test]
fn a5_a_dead_line_that_nobody_notices_is_ended_by_the_lease() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let mut old = proxy.connect();
    acquire_by(&mut old, "k old PX 500 TIED 600000");
    let mut next = wait_for_lock(&server, "k", "next");
    proxy.pass_requests(0);
    proxy.pass_replies(0);
    old.send(&words("LOCK.RENEW k old PX 600000"));
    assert_granted(&server, &mut next, "k", "next");
}
