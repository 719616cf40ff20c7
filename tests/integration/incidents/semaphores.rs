//! Semaphores: permits are counted once, come back from whoever has died, and a free semaphore is nothing at all.

use std::time::{Duration, Instant};

use super::holds::Holds;
use crate::steps::{acquire_by, assert_punctual, fence_of, transaction, words};
use crate::support::cli::Cli;
use crate::support::resp::encode;
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{lock_stat, Dice};

/// A permit whose lease had run out could still be released, and was counted a second time: the semaphore then gave out
/// more than it had, or said that there was room when there was none. Here a late release is told so and changes nothing,
/// and at each step as many permits are taken as the holds that stand have.
#[test]
fn i2_permits_are_counted_once() {
    const LIMIT: i64 = 5;
    const OWNERS: u64 = 8;
    let server = Server::start();
    let mut lock = Holds::new(server.connect(), "k");
    let mut dice = Dice::new(2);
    let mut late = 0;
    // Whether it was a release of nothing.
    let mut step = || {
        let mut is_late = false;
        let number = dice.roll(OWNERS);
        let (owner, permits) = (format!("owner-{number}"), 1 + number as i64 % 3);
        let lease = match dice.roll(8) {
            0 => Duration::from_secs(60),
            _ => Duration::from_millis(1 + dice.roll(10)),
        };
        match dice.roll(8) {
            0..4 => {
                let kind = ["LIMIT", "5", "PERMITS", &permits.to_string()];
                lock.acquire(&owner, lease, permits, LIMIT, &kind);
            }
            4 => lock.renew(&owner, Some(lease)),
            _ => is_late = !lock.release(&owner),
        }
        let taken = lock.check();
        assert!(taken <= LIMIT, "{taken} of {LIMIT} permits are taken");
        is_late
    };
    // How many steps that takes depends on how fast the machine is: on a fast one nearly all is released before it runs out.
    let many = |name: &str| lock_stat(&server, name) > 100;
    let all_came = (0..20_000).any(|_| {
        late += (0..50).filter(|_| step()).count();
        many("expired") && many("released") && late > 100
    });
    println!("{} holds were released, {late} releases came to nothing", lock_stat(&server, "released"));
    assert!(all_came, "too few permits ran out, or were given back, or were released too late");
    // And all of them are there in the end.
    for n in 0..OWNERS {
        lock.release(&format!("owner-{n}"));
    }
    assert_eq!(lock.check(), 0);
    lock.acquire("all", Duration::from_secs(60), LIMIT, LIMIT, &["LIMIT", "5", "PERMITS", "5"]);
    assert_eq!(lock.check(), LIMIT);
}

/// The same where it is decided: the lease has ended, and nobody has noticed yet.
#[test]
fn i2_a_permit_that_has_run_out_cannot_be_given_back() {
    let server = Server::start();
    // Inside a transaction no timer runs.
    let replies = transaction(
        &mut server.connect(),
        &[
            &words("LOCK.ACQUIRE k short LIMIT 3 PERMITS 2 PX 20"),
            &words("LOCK.ACQUIRE k long LIMIT 3"),
            &words("DEBUG SLEEP 0.03"),
            &words("LOCK.RELEASE k short"),
            &words("LOCK.ACQUIRE k next LIMIT 3 PERMITS 2"),
            &words("LOCK.RELEASE k short"),
            &words("LOCK.ACQUIRE k none LIMIT 3"),
            &words("LOCK.INFO k"),
        ],
    );
    assert_eq!((&replies[3], &replies[5]), (&Value::Int(0), &Value::Int(0)), "too late");
    fence_of(&replies[4]);
    assert_eq!(replies[6], Value::Nil, "three are taken");
    let permits: Vec<(String, i64)> = replies[7]
        .field("holds")
        .items()
        .iter()
        .map(|hold| (hold.field("owner").text(), hold.field("permits").int()))
        .collect();
    assert_eq!(permits, [("long".to_owned(), 1), ("next".to_owned(), 2)]);
    assert_eq!((lock_stat(&server, "expired"), lock_stat(&server, "released")), (1, 0));
}

/// Permits of processes that had crashed were lost: the semaphore shrank from crash to crash, until nobody could get in.
/// Here each permit has a lease, and comes back when that ends: to whoever waits, never early, and a moment after at most.
#[test]
fn i3_permits_of_the_dead_come_back_with_their_leases() {
    const PERMITS: usize = 120;
    let limit = PERMITS.to_string();
    let server = Server::start();
    assert_punctual(&server, || {
        let mut holder = Cli::start(server.port());
        for n in 0..PERMITS {
            holder.send(&format!("LOCK.ACQUIRE k holder-{n} LIMIT {limit} PX {}", 1_500 + 4 * n));
        }
        for _ in 0..PERMITS {
            let answer = holder.answer().expect("an answer");
            assert!(answer[0].starts_with("(integer) "), "{answer:?}");
        }
        // Killed, not closed.
        drop(holder);
        let from = Instant::now();
        let info = server.cmd(&["LOCK.INFO", "k"]);
        let to = Instant::now();
        let lefts: Vec<u64> =
            info.field("holds").items().iter().map(|hold| hold.field("left-ms").int() as u64).collect();
        assert_eq!(lefts.len(), PERMITS, "they live on until their time is over");
        let mut next: Vec<Connection> = (0..PERMITS).map(|_| server.connect()).collect();
        for (n, conn) in next.iter_mut().enumerate() {
            conn.send(&["LOCK.ACQUIRE", "k", &format!("next-{n}"), "LIMIT", &limit, "BLOCK", "0"]);
        }
        let mut late = Vec::new();
        for (conn, left) in next.iter_mut().zip(lefts) {
            fence_of(&conn.read());
            let now = Instant::now();
            // What is left is rounded up to a millisecond.
            let is_early = now < from + Duration::from_millis(left - 1);
            late.push((!is_early).then(|| now.saturating_duration_since(to + Duration::from_millis(left))));
        }
        // The semaphore has its full size.
        for (n, conn) in next.iter_mut().enumerate() {
            assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", &format!("next-{n}")]), 1);
        }
        acquire_by(&mut next[0], &format!("k all LIMIT {limit} PERMITS {limit}"));
        assert_eq!(next[0].cmd(&["LOCK.RELEASE", "k", "all"]), 1);
        late
    });
}

/// Locks and semaphores that were free again kept their names, and whatever had been made for them, until the server was
/// full. Here nothing is left of a name that nobody holds, however its hold has ended.
#[test]
fn i4_names_that_come_and_go_leave_nothing() {
    const NAMES: usize = 1_000_000;
    const PACKET: usize = 500;
    // What is remembered of ended holds is full after the first names.
    let server = Server::with(&["lock.loss-ledger-size 1000"]);
    let mut conn = server.connect();
    let mut dice = Dice::new(3);
    let mut come_and_go = |names: usize| {
        for _ in 0..names / PACKET {
            let mut packet = Vec::new();
            for _ in 0..PACKET {
                let length = 20 + dice.roll(100) as usize;
                let name = format!("{:0length$x}", dice.roll(u64::MAX));
                let kind: &[&str] =
                    [&[][..], &["SHARED"], &["LIMIT", "3"], &["NOTE", "for people"]][dice.roll(4) as usize];
                let (lease, end): (&str, &[&str]) = match dice.roll(20) {
                    // Left to its lease.
                    0 => ("1", &["PING"]),
                    1 => ("600000", &["DEL", &name]),
                    _ => ("600000", &["LOCK.RELEASE", &name, "o"]),
                };
                packet.extend(encode(&[&["LOCK.ACQUIRE", &name, "o", "PX", lease], kind].concat()));
                packet.extend(encode(end));
            }
            conn.send_bytes(&packet);
            for _ in 0..PACKET {
                fence_of(&conn.read());
                let end = conn.read();
                assert!(end == 1 || end == "PONG", "{end:?}");
            }
        }
        wait_until("the last leases to end", || lock_stat(&server, "held") == 0);
        assert_eq!(server.cmd(&["DBSIZE"]), 0);
        assert_eq!(lock_stat(&server, "lease_index_entries"), 0);
        (server.info_int("memory", "used_memory"), server.info_int("memory", "used_memory_rss"))
    };
    // Buffers and tables grow to their size once.
    let before = come_and_go(NAMES / 20);
    let after = come_and_go(NAMES);
    let (used, resident) = (after.0 - before.0, after.1 - before.1);
    println!("{NAMES} names left {used} bytes in use and {resident} resident");
    assert_eq!(lock_stat(&server, "granted"), (NAMES + NAMES / 20) as i64);
    // A fraction of a byte for each of them; the allocator may keep some pages.
    assert!(used < 200_000, "{used} bytes are left behind");
    assert!(resident < 16_000_000, "{resident} bytes of memory have come");
}
