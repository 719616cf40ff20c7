//! Steps of the wall clock, by an hour and by a day in both directions: leases and waits end when they were to end, fences
//! go on growing, and what was saved under a wrong clock can be loaded under the right one.

use std::time::{Duration, Instant};

use crate::clock_shim::{WallClock, DAY, HOUR};
use crate::steps::{acquire, acquire_by, digest, in_line, unix_us};
use crate::support::wait::wait_replica_in_sync;
use crate::support::{wait_until, Connection, Server, Stop, Value};
use crate::traffic::{follow, left, lock_stat, wait_quiet, wait_same_data};

mod moves;
mod swings;

/// How late an end may be seen on a busy machine. What would go wrong with the clock goes wrong by an hour.
const LATE: Duration = Duration::from_secs(2);

/// Waits for the reply and checks when it came, counted from `start`.
fn read_at(conn: &mut Connection, start: Instant, due_ms: u64) -> Value {
    let (due, reply) = (Duration::from_millis(due_ms), conn.read());
    let after = start.elapsed();
    assert!(after + Duration::from_millis(5) >= due, "{after:?} after the start, due after {due:?}");
    assert!(after <= due + LATE, "{after:?} after the start, due after {due:?}");
    reply
}

/// The server's own clock agrees that it has been stepped.
fn assert_stepped(server: &Server, by: i64) {
    // It may keep its idea of the time until the next run of its cron.
    wait_until("the step to be seen", || {
        let theirs: i64 = server.cmd(&["TIME"]).items()[0].text().parse().unwrap();
        (theirs - unix_us() / 1_000_000 - by).abs() <= 2
    });
}

fn leases_and_waits_end_on_time_though_the_clock_steps(by: i64) {
    let Some(clock) = WallClock::new("leases and waits while the clock steps") else { return };
    let server = clock.setup().start();
    acquire(&server, "for-ever o NOEXPIRE");
    acquire(&server, "long o PX 60000");
    let short = acquire(&server, "short o");
    let mut patient = in_line(&server, "LOCK.ACQUIRE short patient BLOCK 0 PX 400");
    let mut last = in_line(&server, "LOCK.ACQUIRE short last BLOCK 86400000");
    let mut slow = in_line(&server, "LOCK.ACQUIRE long slow BLOCK 0");
    let asked = Instant::now();
    let mut hasty = in_line(&server, "LOCK.ACQUIRE for-ever hasty BLOCK 600");
    let start = Instant::now();
    assert_eq!(server.cmd(&["LOCK.RENEW", "short", "o", "PX", "1000"]), 1000);

    clock.set(by);
    assert_stepped(&server, by);
    assert!((1..=1000).contains(&left(&server, "short", "o")));
    assert!((50_000..=60_000).contains(&left(&server, "long", "o")));
    assert_eq!(left(&server, "for-ever", "o"), -1);

    assert_eq!(read_at(&mut hasty, asked, 600), Value::Nil);
    let fence = read_at(&mut patient, start, 1000).int();
    assert!(fence > short);
    slow.expect_nothing_pending();
    assert!(read_at(&mut last, start, 1400).int() > fence);

    // A lease and a wait that begin after the step.
    let start = Instant::now();
    acquire(&server, "new o PX 600");
    let mut next = in_line(&server, "LOCK.ACQUIRE new next BLOCK 0");
    let asked = Instant::now();
    let mut timed = in_line(&server, "LOCK.ACQUIRE for-ever timed BLOCK 500");
    assert_eq!(read_at(&mut timed, asked, 500), Value::Nil);
    assert!(read_at(&mut next, start, 600).int() > fence);
    assert!((50_000..=60_000).contains(&left(&server, "long", "o")));
    assert_eq!(server.cmd(&["LOCK.RELEASE", "long", "o"]), 1);
    assert!(slow.read().int() > fence);
    wait_quiet(&server);
}

/// Without this all the rest would prove nothing about the module. It looks at the wall clock ten times a second, and dates
/// its fences by that.
#[test]
fn the_clock_of_the_module_is_stepped_with_the_servers() {
    let Some(clock) = WallClock::new("the module's clock") else { return };
    let server = clock.setup().start();
    for by in [DAY, 2 * DAY, 3 * DAY] {
        clock.set(by);
        assert_stepped(&server, by);
        wait_until("the step to be seen by the module", || {
            let fence = acquire(&server, "k o");
            assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
            (fence / 1_000_000 - unix_us() / 1_000_000 - by).abs() <= 2
        });
    }
}

#[test]
fn an_hour_ahead() {
    leases_and_waits_end_on_time_though_the_clock_steps(HOUR);
}

#[test]
fn an_hour_back() {
    leases_and_waits_end_on_time_though_the_clock_steps(-HOUR);
}

#[test]
fn a_day_ahead() {
    leases_and_waits_end_on_time_though_the_clock_steps(DAY);
}

#[test]
fn a_day_back() {
    leases_and_waits_end_on_time_though_the_clock_steps(-DAY);
}

#[test]
fn a_clock_that_swings_moves_no_lease() {
    let Some(clock) = WallClock::new("a swinging clock") else { return };
    let server = clock.setup().start();
    let start = Instant::now();
    acquire(&server, "k o PX 1500");
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    while start.elapsed() < Duration::from_millis(1400) {
        let swing = if (start.elapsed().as_millis() / 50).is_multiple_of(2) { 5 } else { -5 };
        clock.set(swing);
        assert!(left(&server, "k", "o") > 0);
    }
    read_at(&mut next, start, 1500);
}

#[test]
fn a_lease_at_rest_ends_on_time_though_the_clock_is_set_back() {
    let Some(clock) = WallClock::new("a lease at rest while the clock is set back") else { return };
    let server = clock.setup().start();
    let start = Instant::now();
    acquire(&server, "k o PX 8000");
    wait_until("the lock to be at rest", || lock_stat(&server, "server_events") == 3);
    clock.set(-HOUR);
    wait_until("the lease to end", || server.cmd(&["EXISTS", "k"]) == 0);
    let ended = start.elapsed();
    assert!(ended >= Duration::from_secs(8) && ended < Duration::from_secs(8) + LATE, "{ended:?}");
}

#[test]
fn fences_grow_while_the_clock_steps() {
    let Some(clock) = WallClock::new("fences while the clock steps") else { return };
    let server = clock.setup().start();
    let mut last = 0;
    for by in [0, HOUR, 0, -HOUR, DAY, -DAY, 0] {
        clock.set(by);
        for _ in 0..3 {
            let fence = acquire(&server, "k o");
            assert!(fence > last, "{fence} after {last} with the clock {by} s off");
            assert!(fence < 1 << 53);
            last = fence;
            assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
        }
    }
}

#[test]
fn what_was_saved_while_the_clock_was_ahead_can_be_loaded_when_it_is_right() {
    let Some(clock) = WallClock::new("a load after the clock was set right") else { return };
    for conf in [
        &["appendonly no"][..],
        &["appendonly yes", "appendfsync always"],
        &["appendonly yes", "appendfsync always", "aof-use-rdb-preamble no"],
    ] {
        clock.set(DAY);
        let mut server = clock.setup().conf(conf).start();
        let fence = acquire(&server, "k o NOEXPIRE");
        acquire(&server, "l o PX 600000");
        clock.set(0);
        let before = digest(&server);
        server.restart(Stop::Save);
        assert_eq!(digest(&server), before, "{conf:?}");
        assert_eq!(left(&server, "k", "o"), -1, "{conf:?}");
        // The wall deadline lies a day ahead, but nobody gets more than the lease.
        assert!((1..=600_000).contains(&left(&server, "l", "o")), "{conf:?}");
        assert!(acquire(&server, "m o") > fence, "{conf:?}");
        server.cmd(&["DEL", "k", "l", "m"]);
        server.restart(Stop::Save);
        assert!(acquire(&server, "k o") > fence, "{conf:?}: the newest fence was forgotten");
    }
}

#[test]
fn a_reload_in_place_works_after_the_clock_was_set_right() {
    let Some(clock) = WallClock::new("a reload after the clock was set right") else { return };
    clock.set(DAY);
    let server = clock.setup().conf(&["appendonly yes"]).start();
    acquire(&server, "k o NOEXPIRE");
    clock.set(0);
    let before = digest(&server);
    for reload in ["RELOAD", "LOADAOF"] {
        assert_eq!(server.cmd(&["DEBUG", reload]), "OK");
        assert_eq!(digest(&server), before, "{reload}");
    }
}

#[test]
fn a_file_is_read_by_the_wall_clock_and_never_gives_more_than_the_lease() {
    let Some(clock) = WallClock::new("a load while the clock steps") else { return };
    for conf in [&["appendonly no"][..], &["appendonly yes", "appendfsync always"]] {
        // The server is down for an hour, half an hour, or comes up before it went down.
        for (by, hold_lasts) in [(HOUR, false), (HOUR / 2, true), (-HOUR / 2, true), (-DAY, true)] {
            clock.set(0);
            let mut server = clock.setup().conf(conf).start();
            let lease_ms = 45 * 60 * 1000;
            acquire(&server, &format!("k o PX {lease_ms}"));
            server.stop(Stop::Save);
            clock.set(by);
            server.start_again();
            let left_ms = left(&server, "k", "o");
            assert_eq!(left_ms > 0, hold_lasts, "{by}: {left_ms} ms");
            let expected = lease_ms - by.max(0) * 1000;
            assert!(left_ms <= expected.max(0), "{by}: {left_ms} ms are left");
            assert!(left_ms > expected - 20_000 || expected < 0, "{by}: {left_ms} ms are left");
        }
    }
}

fn a_replica_with_another_clock_agrees(by: i64) {
    let Some(theirs) = WallClock::new("a replica with another clock") else { return };
    theirs.set(by);
    for early in [true, false] {
        let (primary, replica) = (Server::start(), theirs.setup().conf(&["appendonly yes"]).start());
        let take = || {
            acquire(&primary, "k o PX 60000");
            acquire(&primary, "l o NOEXPIRE NOTE n");
            acquire(&primary, "m o PX 100")
        };
        // The locks come in the snapshot, or one by one.
        if early {
            take();
            follow(&replica, &primary);
        } else {
            follow(&replica, &primary);
            take();
        }
        assert_stepped(&replica, by);
        wait_replica_in_sync(&primary, &replica);
        wait_same_data(&replica, &primary);
        let (here, there) = (left(&primary, "k", "o"), left(&replica, "k", "o"));
        assert!((here - there).abs() < 2000, "{here} ms are left here and {there} there");
        assert_eq!(left(&replica, "l", "o"), -1);
        wait_until("the short lease to be over", || replica.cmd(&["EXISTS", "m"]) == 0);
        wait_same_data(&replica, &primary);
        let fence = acquire(&primary, "last o");
        wait_replica_in_sync(&primary, &replica);
        assert_eq!(replica.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
        assert!(acquire(&replica, "next o") > fence);
        assert!(left(&replica, "k", "o") > 40_000);
    }
}

/// A lock that is restored on the primary arrives as a payload, which has the primary's clock in it.
fn a_replica_with_another_clock_restores(by: i64) {
    let Some(theirs) = WallClock::new("a replica with another clock, and RESTORE") else { return };
    theirs.set(by);
    let (primary, replica) = (Server::start(), theirs.setup().start());
    follow(&replica, &primary);
    assert_stepped(&replica, by);
    let mut conn = primary.connect();
    let fences = [acquire_by(&mut conn, "k o PX 60000"), acquire_by(&mut conn, "l o NOEXPIRE")];
    for key in ["k", "l"] {
        let Value::Bulk(payload) = conn.cmd(&["DUMP", key]) else { panic!("no payload of {key}") };
        assert_eq!(conn.cmd(&["DEL", key]), 1);
        conn.send(&[&b"RESTORE"[..], key.as_bytes(), b"0", &payload]);
        assert_eq!(conn.read(), "OK");
    }
    wait_replica_in_sync(&primary, &replica);
    wait_same_data(&replica, &primary);
    let (here, there) = (left(&primary, "k", "o"), left(&replica, "k", "o"));
    assert!((here - there).abs() < 2000, "{here} ms are left here and {there} there");
    assert_eq!(replica.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
    assert_eq!(acquire(&replica, "k o"), fences[0]);
    assert_eq!(acquire(&replica, "l o"), fences[1]);
    assert!(acquire(&replica, "next o") > fences[1]);
}

#[test]
fn a_replica_whose_clock_is_ahead_restores_what_the_primary_did() {
    a_replica_with_another_clock_restores(DAY);
}

#[test]
fn a_replica_whose_clock_is_behind_restores_what_the_primary_did() {
    a_replica_with_another_clock_restores(-DAY);
}

#[test]
fn a_replica_whose_clock_is_ahead_agrees() {
    a_replica_with_another_clock_agrees(DAY);
}

#[test]
fn a_replica_whose_clock_is_behind_agrees() {
    a_replica_with_another_clock_agrees(-DAY);
}

#[test]
fn the_wheel_is_empty_after_all_that() {
    let Some(clock) = WallClock::new("the lease index after steps of the clock") else { return };
    let server = clock.setup().start();
    for by in [0, DAY, -DAY, HOUR] {
        clock.set(by);
        for n in 0..20 {
            acquire(&server, &format!("k{by}-{n} o PX {}", 10 + n));
        }
    }
    wait_until("all leases to be over", || lock_stat(&server, "lease_index_entries") == 0);
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
    assert_eq!(lock_stat(&server, "expired"), 80);
}
