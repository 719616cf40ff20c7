//! LOCK.STATS, and what LOCK.INFO, WITHINFO and the log say of the same: how long, who, how it was lost.

use std::time::Duration;

use crate::steps::{acquire, ask, fence_of, in_line, release, wait_for_lock, words};
use crate::support::wait::let_pass;
use crate::support::{wait_until, Server, Value};

fn times(stats: &Value, name: &str) -> Vec<i64> {
    let times = stats.field(name);
    ["count", "p50", "p99", "p99.9", "max"].map(|field| times.field(field).int()).to_vec()
}

/// Powers of two, and how many times are below each and not below the one before.
fn buckets(stats: &Value, name: &str) -> Vec<(i64, i64)> {
    let told = stats.field(name).field("buckets").items();
    told.chunks(2).map(|pair| (pair[0].int(), pair[1].int())).collect()
}

#[test]
fn times_are_counted_from_the_line_to_the_grant_and_to_the_end() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut bob = wait_for_lock(&server, "k", "bob");
    let_pass(Duration::from_millis(60));
    release(&server, "k", "alice");
    fence_of(&bob.read());
    release(&server, "k", "bob");
    // What came by asking once has not waited.
    let stats = ask(&server, "LOCK.STATS");
    let (waits, holds) = (times(&stats, "wait-us"), times(&stats, "hold-us"));
    assert_eq!((waits[0], holds[0]), (1, 2));
    assert!((60_000..2_000_000).contains(&waits[4]) && waits[1] == waits[4], "{waits:?}");
    assert!(holds[4] >= 60_000 && holds[1] < holds[4], "{holds:?}");
    assert_eq!(times(&stats, "handoff-delay-us"), [1, 0, 0, 0, 0], "nobody is late after a release");
    assert_eq!(stats.field("wait-us").field("sum"), &waits[4]);
    let power_of = |us: i64| i64::try_from((us.cast_unsigned() + 1).next_power_of_two()).unwrap();
    assert_eq!(buckets(&stats, "wait-us"), [(power_of(waits[4]), 1)]);
    assert_eq!(buckets(&stats, "handoff-delay-us"), [(1, 1)]);
    assert_eq!(buckets(&stats, "hold-us").iter().map(|(_, count)| count).sum::<i64>(), 2);
    assert_eq!(stats.field("ended").field("released"), &2);

    assert_eq!(ask(&server, "LOCK.STATS RESET"), "OK");
    let stats = ask(&server, "LOCK.STATS");
    assert_eq!((times(&stats, "wait-us")[0], times(&stats, "hold-us")[0]), (0, 0));
    assert_eq!(buckets(&stats, "hold-us"), []);
    assert_eq!(stats.field("ended").field("released"), &0);
    assert_eq!(server.info_int("lock_stats", "lock_released"), 2, "INFO goes on");
}

#[test]
fn the_end_of_a_lease_is_told_with_how_late_it_was_noticed() {
    let server = Server::start();
    ask(&server, "LOCK.ACQUIRE k alice PX 50");
    let mut bob = wait_for_lock(&server, "k", "bob");
    fence_of(&bob.read());
    let stats = ask(&server, "LOCK.STATS");
    let delays = times(&stats, "handoff-delay-us");
    assert!(delays[0] == 1 && delays[4] < 1_000_000, "{delays:?}");
    let [loss] = stats.field("losses").items() else { panic!("one loss: {stats:?}") };
    let told = ["key", "owner", "reason"].map(|field| loss.field(field).text());
    assert_eq!(told, ["k", "alice", "expired"]);
}

#[test]
fn the_locks_that_are_waited_for_most_come_first() {
    let server = Server::start();
    for (key, waits) in [("often", 5), ("once", 1), ("never", 0)] {
        acquire(&server, &format!("{key} alice"));
        for n in 0..waits {
            ask(&server, &format!("LOCK.ACQUIRE {key} w{n} QUEUE 60000"));
            ask(&server, &format!("LOCK.ACQUIRE {key} w{n} QUEUE 60000"));
        }
    }
    let stats = ask(&server, "LOCK.STATS");
    let named = stats.field("contended").items().iter();
    let named: Vec<_> =
        named.map(|of| (of.field("key").text(), of.field("waits").int(), of.field("error").int())).collect();
    assert_eq!(named, [("often".to_owned(), 5, 0), ("once".to_owned(), 1, 0)]);
}

#[test]
fn ten_losses_and_ten_deadlocks_are_kept_and_shown_to_whom_they_concern() {
    let server = Server::start();
    for n in 0..12 {
        acquire(&server, &format!("mine-{n} alice"));
        ask(&server, &format!("LOCK.BREAK mine-{n}"));
    }
    acquire(&server, "mine-k alice");
    acquire(&server, "yours bob");
    let _alice = in_line(&server, "LOCK.ACQUIRE yours alice BLOCK 0");
    let mut refused_text = String::new();
    for _ in 0..12 {
        let refused = ask(&server, "LOCK.ACQUIRE mine-k bob BLOCK 0");
        assert!(refused.error().starts_with("DEADLOCK "), "{refused:?}");
        refused_text = refused.error().to_owned();
    }
    let stats = ask(&server, "LOCK.STATS");
    let keys: Vec<String> =
        stats.field("losses").items().iter().map(|loss| loss.field("key").text()).collect();
    assert_eq!(keys, (2..12).rev().map(|n| format!("mine-{n}")).collect::<Vec<_>>());
    let deadlocks = stats.field("deadlocks").items();
    assert_eq!(deadlocks.len(), 10);
    let cycle = |deadlock: &Value| -> Vec<(String, String)> {
        let links = deadlock.field("cycle").items().iter();
        links.map(|link| (link.field("owner").text(), link.field("waits-for").text())).collect()
    };
    let pair = |owner: &str, key: &str| (owner.to_owned(), key.to_owned());
    assert_eq!(cycle(&deadlocks[0]), [pair("bob", "mine-k"), pair("alice", "yours")]);

    ask(&server, "ACL SETUSER sam on >pw ~mine-k +lock.stats");
    let mut sam = server.connect();
    sam.cmd(&words("AUTH sam pw"));
    let seen = sam.cmd(&words("LOCK.STATS"));
    assert_eq!(seen.field("losses").items().len(), 0);
    assert_eq!(cycle(&seen.field("deadlocks").items()[0]), [pair("bob", "mine-k"), pair("?", "?")]);

    // The log has one line for all of a second.
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("lock: event=deadlock ")).collect();
    assert!((1..=3).contains(&lines.len()), "{lines:?}");
    let told = format!("left-out=0 why=\"{}\"", refused_text.trim_start_matches("DEADLOCK "));
    assert!(lines[0].ends_with(&told), "{lines:?} {told}");
}

#[test]
fn a_cap_that_is_reached_is_in_the_log() {
    let server = Server::with(&["lock.max-tickets 1"]);
    acquire(&server, "k alice");
    ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000");
    let refused = ask(&server, "LOCK.ACQUIRE k carol QUEUE 60000");
    assert!(refused.error().starts_with("QUEUEFULL "), "{refused:?}");
    wait_until("the line", || server.log().contains("lock: event=cap client="));
    assert!(server.log().contains("lock.max-tickets"), "{}", server.log());
}

#[test]
fn info_tells_since_when_and_from_where() {
    let server = Server::start();
    let mut conn = server.connect();
    conn.cmd(&words("LOCK.ACQUIRE k alice TIED 1000"));
    let id = conn.cmd(&["CLIENT", "ID"]).int();
    let addr = conn.cmd(&["CLIENT", "INFO"]).text();
    let addr = addr.split(' ').find_map(|field| field.strip_prefix("addr=")).expect("an address").to_owned();
    let_pass(Duration::from_millis(30));
    ask(&server, "LOCK.RENEW k alice");
    let info = ask(&server, "LOCK.INFO k");
    let hold = &info.field("holds").items()[0];
    assert_eq!((hold.field("client-id").int(), hold.field("client-addr").text()), (id, addr));
    let held = hold.field("held-ms").int();
    assert!((30..10_000).contains(&held), "a renewal is no new grant: {held}");
}

#[test]
fn a_try_tells_how_long_the_holder_has_and_how_many_come_first() {
    let server = Server::start();
    ask(&server, "LOCK.ACQUIRE k alice PX 60000");
    let told = |line: &str| {
        let reply = ask(&server, line);
        (reply.field("reason").text(), reply.field("holder-ms").clone(), reply.field("ahead").clone())
    };
    let (reason, left, ahead) = told("LOCK.ACQUIRE k bob WITHINFO");
    assert!((59_000..=60_000).contains(&left.int()));
    assert_eq!((reason.as_str(), ahead), ("held", Value::Int(0)));
    assert_eq!(told("LOCK.ACQUIRE k bob QUEUE 60000 WITHINFO").2, 0);
    assert_eq!(told("LOCK.ACQUIRE k carol QUEUE 60000 WITHINFO").2, 1);
    assert_eq!(told("LOCK.ACQUIRE k dave WITHINFO").2, 2);
    assert_eq!(told("LOCK.ACQUIRE k carol BLOCK 20 QUEUE 60000 WITHINFO").2, 1);
    assert_eq!(told("LOCK.CHECK k alice WITHINFO"), ("held".to_owned(), Value::Nil, Value::Nil));
    ask(&server, "LOCK.RENEW k alice NOEXPIRE");
    assert_eq!(told("LOCK.ACQUIRE k dave WITHINFO").1, -1);
}

#[test]
fn the_log_tells_the_version_when_the_module_is_loaded() {
    let server = Server::start();
    let line = concat!("lock: version ", env!("CARGO_PKG_VERSION"));
    assert_eq!(server.log().lines().filter(|told| told.ends_with(line)).count(), 1, "{}", server.log());
}
