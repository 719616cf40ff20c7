//! A wall clock that is set ahead and back again, over and over, beside leases and waits that end all the time: the server
//! goes on serving, and everything ends when it was to end.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::LATE;
use crate::clock_shim::{WallClock, HOUR};
use crate::steps::{acquire, in_line};
use crate::support::wait::let_pass;
use crate::support::{wait_until, Server, Value};
use crate::traffic::{left, lock_stat, wait_quiet, Dice};

const CLIENTS: u64 = 24;

/// How many leases a client begins at once.
const LEASES: u64 = 100;

const STEPS: u64 = 80;

/// A server that stands still does so for a second at least; a busy machine may do the same to one PING, by chance.
const PING_MAX: Duration = Duration::from_millis(900);
const SLOW_PINGS_MAX: usize = 1;

/// A client that takes locks for some time and waits for others, until it is told to stop. Many leases end in each
/// ms, and some last for seconds.
fn wait_and_hold(server: &Server, number: u64, stop: &AtomicBool) {
    let (mut conn, mut dice) = (server.connect(), Dice::new(number + 1));
    conn.set_deadline(LATE * 5);
    for round in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        // Each time somebody else: who still held another lock could close a deadlock.
        let owner = format!("client-{number}-{round}");
        let takes: Vec<[String; 2]> = (0..LEASES)
            .map(|_| {
                let lease_ms = if dice.roll(20) > 0 { 1 + dice.roll(20) } else { 100 + dice.roll(5_000) };
                [format!("own-{number}-{}", dice.roll(10_000)), lease_ms.to_string()]
            })
            .collect();
        let takes: Vec<[&str; 5]> =
            takes.iter().map(|[key, lease]| ["LOCK.ACQUIRE", key, &owner, "PX", lease]).collect();
        conn.send_together(&takes.iter().map(<[&str; 5]>::as_slice).collect::<Vec<_>>());
        for _ in 0..LEASES {
            let reply = conn.read();
            assert!(matches!(reply, Value::Int(_) | Value::Nil), "{reply:?}");
        }
        let (key, lease) = (format!("lock-{}", dice.roll(6)), (1 + dice.roll(20)).to_string());
        let wait = (1 + dice.roll(20)).to_string();
        match conn.cmd(&["LOCK.ACQUIRE", &key, &owner, "PX", &lease, "BLOCK", &wait]) {
            Value::Nil => {}
            Value::Int(fence) if fence > 0 => {
                if dice.roll(4) == 0 {
                    conn.cmd(&["LOCK.RELEASE", &key, &owner]);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Steps that go `by` seconds ahead and, some ms later, back to the true time.
fn nobody_is_kept_waiting_by_steps(by: i64) {
    let Some(clock) = WallClock::new("a clock that goes back beside much work") else { return };
    // A timer that the step has put off is found by the cron.
    let server = clock.setup().conf(&["hz 100"]).start();
    let start = Instant::now();
    acquire(&server, "long o PX 600000");
    let mut timed = in_line(&server, "LOCK.ACQUIRE long timed BLOCK 86400000");

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || wait_and_hold(server, number, stop));
        }
        let mut conn = server.connect();
        conn.set_deadline(LATE * 5);
        let mut pings = Vec::new();
        for step in 0..STEPS {
            clock.set(by);
            let_pass(Duration::from_millis(5 + step % 7));
            clock.set(0);
            let back = Instant::now();
            assert_eq!(conn.cmd(&["PING"]), "PONG");
            pings.push(back.elapsed());
            let_pass(Duration::from_millis(15 + step % 10));
        }
        stop.store(true, Relaxed);
        pings.retain(|ping| *ping > PING_MAX);
        assert!(pings.len() <= SLOW_PINGS_MAX, "PINGs took {pings:?}");
    });
    let left_ms = left(&server, "long", "o");
    let passed_ms = i64::try_from(start.elapsed().as_millis()).unwrap();
    assert!(
        (600_000 - passed_ms - 1..=600_000).contains(&left_ms),
        "{left_ms} ms are left after {passed_ms} ms"
    );
    timed.expect_nothing_pending();
    assert_eq!(server.cmd(&["LOCK.RELEASE", "long", "o"]), 1);
    assert!(timed.read().int() > 0);
    assert_eq!(server.cmd(&["LOCK.RELEASE", "long", "timed"]), 1);
    wait_quiet(&server);
    wait_until("all leases to be over", || lock_stat(&server, "lease_index_entries") == 0);
}

#[test]
fn a_second() {
    nobody_is_kept_waiting_by_steps(1);
}

#[test]
fn five_seconds() {
    nobody_is_kept_waiting_by_steps(5);
}

#[test]
fn an_hour() {
    nobody_is_kept_waiting_by_steps(HOUR);
}
