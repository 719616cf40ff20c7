//! What is still true after the server was saved, reloaded, rewritten, stopped or killed: the holds, what is left of their
//! leases, and the order of fences. Damaged and foreign payloads are the business of `dump_restore.rs`.

use std::time::{Duration, Instant};

use crate::steps::{acquire, acquire_by, ask, digest, in_line};
use crate::support::aof::{read_aof, Base};
use crate::support::wait::{let_pass, wait_waiting};
use crate::support::{wait_until, Server, Setup, Stop, Value};
use crate::traffic::{left, lock_stat, wait_no_child, wait_quiet, Traffic};

/// How much a slow test may lose of a lease without anything being wrong.
const SLACK_MS: i64 = 10_000;

/// Holds of every shape, in two databases.
fn acquire_some(server: &Server) {
    let (mut zero, mut five) = (server.connect(), server.connect().select(5));
    let note = ["LOCK.ACQUIRE", "for-ever", "o", "NOEXPIRE", "NOTE", "until somebody says so"];
    assert!(zero.cmd(&note).int() > 0);
    assert!(zero.cmd(&["LOCK.ACQUIRE", "long", "host 7 / process 4711", "PX", "600000"]).int() > 0);
    acquire_by(&mut zero, &format!("longest {} PX 604800000 NOTE {}", "o".repeat(256), "n".repeat(256)));
    acquire_by(&mut five, "long other EX 300");
    let odd: [&[u8]; 4] = [b"LOCK.ACQUIRE", b"\0\r\n\xff key", b"\0\r\n\xff owner", b"NOEXPIRE"];
    assert!(five.cmd(&odd).int() > 0);
    acquire_by(&mut zero, "given-back o");
    assert_eq!(zero.cmd(&["LOCK.RELEASE", "given-back", "o"]), 1);
}

/// The locks of `acquire_some` are held with nearly all of their leases.
fn assert_locks_are_held(server: &Server) {
    assert_eq!(left(server, "for-ever", "o"), -1);
    for (lease, got) in [
        (600_000, left(server, "long", "host 7 / process 4711")),
        (604_800_000, left(server, "longest", &"o".repeat(256))),
        (300_000, server.connect().select(5).cmd(&["LOCK.CHECK", "long", "other"]).int()),
    ] {
        assert!(got <= lease && got > lease - SLACK_MS, "{got} of {lease} ms are left");
    }
    // What was there before a reload may be freed by another thread.
    wait_until("five locks to be counted", || lock_stat(server, "held") == 5);
    assert_eq!(lock_stat(server, "lease_index_entries"), 3, "a lease that nobody watches never ends");
}

#[test]
fn a_snapshot_brings_the_locks_back_time_and_again() {
    let mut server = Server::start();
    acquire_some(&server);
    let before = digest(&server);
    for _ in 0..3 {
        server.restart(Stop::Save);
        assert_eq!(digest(&server), before);
        assert_locks_are_held(&server);
    }
}

#[test]
fn the_aof_brings_the_locks_back_with_and_without_preamble_and_rewrite() {
    for preamble in ["yes", "no"] {
        let preamble_line = format!("aof-use-rdb-preamble {preamble}");
        let mut server = Server::with(&["appendonly yes", "appendfsync always", &preamble_line]);
        acquire_some(&server);
        let before = digest(&server);
        for _ in 0..2 {
            server.restart(Stop::Kill);
            assert_eq!(digest(&server), before);
            assert_locks_are_held(&server);
            server.cmd(&["BGREWRITEAOF"]);
            wait_no_child(&server);
        }
        match read_aof(&server).base {
            Base::Snapshot => assert_eq!(preamble, "yes"),
            Base::Commands(commands) => {
                assert_eq!(preamble, "no");
                assert_eq!(commands.len(), 5, "{commands:?}");
                assert!(commands.iter().all(|words| words[0] == "LOCK._HOLD"), "{commands:?}");
            }
            Base::None => panic!("no base after a rewrite"),
        }
    }
}

#[test]
fn a_reload_in_place_changes_nothing_and_keeps_the_queue() {
    for preamble in ["yes", "no"] {
        let server = Server::with(&["appendonly yes", &format!("aof-use-rdb-preamble {preamble}")]);
        acquire_some(&server);
        let mut first = in_line(&server, "LOCK.ACQUIRE for-ever first BLOCK 0");
        let mut second = in_line(&server, "LOCK.ACQUIRE for-ever second BLOCK 0");
        let before = digest(&server);
        for reload in ["DEBUG RELOAD", "DEBUG LOADAOF", "DEBUG RELOAD NOFLUSH MERGE", "DEBUG RELOAD"] {
            assert_eq!(ask(&server, reload), "OK");
            assert_eq!(digest(&server), before, "{reload}");
            assert_locks_are_held(&server);
            wait_waiting(&server, "for-ever", 2);
        }
        assert_eq!(server.cmd(&["LOCK.RELEASE", "for-ever", "o"]), 1);
        let fence = first.read().int();
        assert_eq!(server.cmd(&["LOCK.RELEASE", "for-ever", "first"]), 1);
        assert!(second.read().int() > fence);
        assert_eq!(server.cmd(&["LOCK.RELEASE", "for-ever", "second"]), 1);
        wait_quiet(&server);
    }
}

#[test]
fn a_lease_goes_on_through_reloads_and_restarts_and_ends_once() {
    let lease = Duration::from_millis(2500);
    let mut server = Server::with(&["appendonly yes", "appendfsync always"]);
    let granted = Instant::now();
    acquire(&server, "k o PX 2500");
    for round in 0..6 {
        match round % 3 {
            0 => assert_eq!(server.cmd(&["DEBUG", "RELOAD"]), "OK"),
            1 => server.restart(Stop::Save),
            _ => server.restart(Stop::Kill),
        }
        // Asked before the clock is read, so that an answer of 0 cannot be excused by the time in between.
        let left = left(&server, "k", "o");
        let elapsed = granted.elapsed();
        assert!(left > 0 || elapsed >= lease, "over after {elapsed:?}");
        assert!(left <= 2500, "{left} ms");
    }
    let asked = granted.elapsed();
    assert!(server.cmd(&["LOCK.ACQUIRE", "k", "next", "BLOCK", "0"]).int() > 0);
    let elapsed = granted.elapsed();
    assert!(elapsed >= lease.checked_sub(Duration::from_millis(5)).unwrap(), "over after {elapsed:?} only");
    // The server has just started, perhaps on a busy machine: that the lease ends is the point here, not when.
    assert!(elapsed < lease.max(asked) + Duration::from_secs(5), "{elapsed:?} for a lease of {lease:?}");
}

#[test]
fn a_lease_runs_while_the_server_is_down() {
    for conf in [&["appendonly no"], &["appendonly yes"]] {
        let mut server = Server::with(conf);
        acquire(&server, "over o PX 400");
        acquire(&server, "half o PX 600000");
        server.stop(Stop::Save);
        let_pass(Duration::from_millis(700));
        server.start_again();
        assert!(left(&server, "half", "o") <= 600_000 - 700);
        assert_eq!(left(&server, "over", "o"), 0);
        wait_until("the lock to be gone", || server.cmd(&["EXISTS", "over"]) == 0);
        acquire(&server, "over p");
    }
}

#[test]
fn a_snapshot_made_during_traffic_can_be_loaded() {
    let server = Server::start();
    acquire(&server, "k o NOEXPIRE");
    let traffic = Traffic::start(&server, 4);
    for _ in 0..3 {
        server.cmd(&["BGSAVE"]);
        wait_no_child(&server);
        let copy = Setup::new().file(&server.dir().join("dump.rdb"), "dump.rdb").start();
        assert_eq!(left(&copy, "k", "o"), -1);
        assert_eq!(lock_stat(&copy, "held"), copy.cmd(&["DBSIZE"]).int());
    }
    traffic.stop();
}

#[test]
fn lock_changes_count_as_changes_for_save_points() {
    // The first server has nobody who listens, the second an AOF: the module counts in another way.
    for conf in [&["appendonly no"], &["appendonly yes"]] {
        let server = Server::with(conf);
        let mut conn = server.connect();
        let changes = || server.info_int("persistence", "rdb_changes_since_last_save");
        let counted_after = |what: &str, before: i64| {
            wait_until(&format!("{what} to be counted"), || changes() > before);
            // Whatever else is to be counted has been when the cron has run twice.
            let_pass(Duration::from_millis(220));
            changes()
        };
        let mut count = changes();
        acquire_by(&mut conn, "k o PX 50000");
        count = counted_after("a grant", count);
        assert_eq!(conn.cmd(&["LOCK.RENEW", "k", "o", "PX", "60000"]), 60_000);
        count = counted_after("a renewal", count);

        acquire_by(&mut conn, "k o PX 50");
        assert_eq!(conn.cmd(&["LOCK.ACQUIRE", "k", "p"]), Value::Nil);
        assert_eq!(conn.cmd(&["LOCK.RENEW", "k", "p"]), 0);
        assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", "p"]), 0);
        let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0 PX 1000");
        let_pass(Duration::from_millis(220));
        assert_eq!(changes(), count, "what changed nothing was counted");

        assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
        next.read().int();
        count = counted_after("a hand-off", count);
        wait_until("the lease to be over", || server.cmd(&["EXISTS", "k"]) == 0);
        counted_after("an expiry", count);
    }
}

#[test]
fn a_save_point_is_reached_by_lock_changes_alone() {
    let mut server = Server::with(&["save 1 2"]);
    acquire(&server, "k o NOEXPIRE");
    acquire(&server, "l o NOEXPIRE");
    wait_until("the save point", || {
        server.info_int("persistence", "rdb_changes_since_last_save") == 0
            && server.dir().join("dump.rdb").exists()
    });
    wait_no_child(&server);
    server.restart(Stop::Kill);
    assert_eq!((left(&server, "k", "o"), left(&server, "l", "o")), (-1, -1));
}

#[test]
fn a_shutdown_with_waiters_is_a_clean_end() {
    let mut server = Server::start();
    acquire(&server, "k o NOEXPIRE");
    let mut waiters: Vec<_> =
        (0..20).map(|n| in_line(&server, &format!("LOCK.ACQUIRE k w{n} BLOCK 0"))).collect();
    server.stop(Stop::Save);
    waiters.iter_mut().for_each(super::support::resp::Connection::expect_closed);
    assert!(server.log().contains("ready to exit, bye bye"), "{}", server.log());
    server.start_again();
    assert_eq!(left(&server, "k", "o"), -1);
    assert_eq!(lock_stat(&server, "waiting"), 0);
}

#[test]
fn memory_that_was_lost_is_not_believed_to_be_held() {
    let mut server = Server::start();
    let fence = acquire(&server, "k o NOEXPIRE");
    server.restart(Stop::Kill);
    assert_eq!(left(&server, "k", "o"), 0);
    assert!(acquire(&server, "k p") > fence);
}
