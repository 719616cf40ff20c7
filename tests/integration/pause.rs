//! While clients are paused nothing may be written: leases that end and waiters that vanish are seen to afterwards. Waits
//! change no data, so they end in time. A server that stood still makes up for it without doing anything twice.

use std::time::{Duration, Instant};

use crate::steps::{acquire, acquire_by, in_line};
use crate::support::stream::apart;
use crate::support::wait::{let_pass, wait_blocked_clients, wait_waiting};
use crate::support::{wait_until, ReplicaStream, Server, Value};
use crate::traffic::{at_once, follow, left, lock_stat, wait_quiet, wait_same_data};

/// Longer than anything that is to happen during a pause.
const PAUSE_MS: &str = "20000";

const PAUSE: &[&str] = &["CLIENT", "PAUSE", PAUSE_MS, "WRITE"];

fn unpause(server: &Server) {
    assert_eq!(server.cmd(&["CLIENT", "UNPAUSE"]), "OK");
}

fn offset(server: &Server) -> i64 {
    server.info_int("replication", "master_repl_offset")
}

#[test]
fn leases_that_end_during_a_pause_are_handed_on_after_it() {
    let (server, replica) = (Server::with(&["appendonly yes"]), Server::start());
    follow(&replica, &server);
    acquire(&server, "k o");
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    let mut second = in_line(&server, "LOCK.ACQUIRE k second BLOCK 0");
    at_once(
        &server,
        &[&["LOCK.ACQUIRE", "alone", "o", "PX", "100"], &["LOCK.RENEW", "k", "o", "PX", "100"], PAUSE],
    );
    let before = offset(&server);
    let_pass(Duration::from_millis(400));
    assert_eq!(left(&server, "k", "o"), 0, "over, although nobody may say so");
    assert_eq!(server.cmd(&["EXISTS", "k", "alone"]), 2);
    next.expect_nothing_pending();
    assert_eq!(offset(&server), before, "something was sent during the pause");
    unpause(&server);
    let fence = next.read().int();
    wait_until("the other lease to be over", || server.cmd(&["EXISTS", "alone"]) == 0);
    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "next"]), 1);
    assert!(second.read().int() > fence);
    wait_same_data(&replica, &server);
}

#[test]
fn waits_end_and_waiters_vanish_during_a_pause() {
    let server = Server::start();
    acquire(&server, "k o");
    let mut timed = in_line(&server, "LOCK.ACQUIRE k timed BLOCK 1000");
    let closes = in_line(&server, "LOCK.ACQUIRE k closes BLOCK 0");
    let mut killed = server.connect();
    let id = killed.id().to_string();
    killed.send(&["LOCK.ACQUIRE", "k", "killed", "BLOCK", "0"]);
    wait_waiting(&server, "k", 3);
    let mut last = in_line(&server, "LOCK.ACQUIRE k last BLOCK 0");
    let mut stream = ReplicaStream::attach(&server);
    at_once(&server, &[&["LOCK.RENEW", "k", "o", "PX", "150"], PAUSE]);
    drop(closes);
    assert_eq!(server.cmd(&["CLIENT", "KILL", "ID", &id]), 1);
    // The lease is over before this wait is, but the lock cannot be handed on.
    assert_eq!(timed.read(), Value::Nil);
    wait_waiting(&server, "k", 1);
    last.expect_nothing_pending();
    unpause(&server);
    let fence = last.read().int().to_string();
    let holds: Vec<_> =
        apart(&stream.collect(&server)).into_iter().filter(|words| words[0] == "LOCK._HOLD").collect();
    // The one grant.
    assert_eq!(holds.len(), 1, "{holds:?}");
    assert_eq!(holds[0][3], fence);
    wait_quiet(&server);
}

#[test]
fn a_pause_of_everything_ends_by_itself() {
    let server = Server::start();
    acquire(&server, "k o");
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    let mut timed = server.connect();
    let start = Instant::now();
    timed.send(&["LOCK.ACQUIRE", "k", "timed", "BLOCK", "400"]);
    wait_waiting(&server, "k", 2);
    at_once(&server, &[&["LOCK.RENEW", "k", "o", "PX", "100"], &["CLIENT", "PAUSE", "900", "ALL"]]);
    // Its wait is over before the pause is.
    assert_eq!(timed.read(), Value::Nil);
    let fence = next.read().int();
    assert!(start.elapsed() >= Duration::from_millis(890), "served during the pause");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(fence > 0);
    assert!(left(&server, "k", "next") > 0);
}

#[test]
fn a_pause_that_begins_in_the_transaction_that_grants() {
    let with_pause: [&[&[&str]]; 4] = [
        &[&["LOCK.RELEASE", "k", "o"], PAUSE],
        &[PAUSE, &["LOCK.RELEASE", "k", "o"]],
        &[&["DEL", "k"], PAUSE],
        &[PAUSE, &["FLUSHALL"]],
    ];
    for commands in with_pause {
        let (server, replica) = (Server::start(), Server::start());
        follow(&replica, &server);
        let mut conn = server.connect();
        acquire_by(&mut conn, "k o");
        let mut doomed = server.connect();
        let id = doomed.id().to_string();
        doomed.send(&["LOCK.ACQUIRE", "k", "doomed", "BLOCK", "0"]);
        wait_blocked_clients(&server, 1);
        let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
        let kill = ["CLIENT", "KILL", "ID", &id];
        conn.send_together(&[&[&["MULTI"][..]], commands, &[&kill, &["EXEC"]]].concat());
        (0..commands.len() + 2).for_each(|_| drop(conn.read()));
        let results = conn.read();
        assert!(results.items().iter().all(|one| !matches!(one, Value::Error(_))), "{results:?}");
        // The grant to the killed client, if there was one, can only be taken back after the pause.
        let before = offset(&server);
        let_pass(Duration::from_millis(250));
        assert_eq!(offset(&server), before, "{commands:?}: something was sent during the pause");
        next.expect_nothing_pending();
        unpause(&server);
        assert!(next.read().int() > 0, "{commands:?}");
        assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", "next"]), 1);
        wait_quiet(&server);
        wait_same_data(&replica, &server);
    }
}

#[test]
fn changes_that_nobody_listened_to_wait_for_the_end_of_a_pause_too() {
    let server = Server::start();
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    let commands: Vec<_> = keys.iter().map(|key| ["LOCK.ACQUIRE", key, "o", "PX", "50"]).collect();
    let mut commands: Vec<&[&str]> = commands.iter().map(|words| &words[..]).collect();
    commands.push(PAUSE);
    at_once(&server, &commands);
    let_pass(Duration::from_millis(300));
    assert_eq!(server.cmd(&["DBSIZE"]), 100);
    unpause(&server);
    wait_until("the leases to be over", || server.cmd(&["DBSIZE"]) == 0);
    assert_eq!(lock_stat(&server, "expired"), 100);
}

#[test]
fn a_shutdown_that_waits_for_a_replica_is_quiet_and_can_be_called_off() {
    let (server, replica) = (Server::start(), Server::start());
    follow(&replica, &server);
    acquire(&server, "k o");
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    replica.signal("STOP");
    // The renewal is what the replica has not confirmed, or the server would not wait for it.
    let mut killer = server.connect();
    killer.send_together(&[&["LOCK.RENEW", "k", "o", "PX", "200"], &["SHUTDOWN", "NOSAVE"]]);
    wait_until("the shutdown to wait", || server.log().contains("Waiting for replicas before shutting down"));
    let before = offset(&server);
    let_pass(Duration::from_millis(400));
    assert_eq!(server.cmd(&["EXISTS", "k"]), 1);
    assert_eq!(offset(&server), before, "something was sent during the shutdown");
    assert_eq!(server.cmd(&["SHUTDOWN", "ABORT"]), "OK");
    assert!(next.read().int() > 0);
    replica.signal("CONT");
    wait_same_data(&replica, &server);
}

#[test]
fn a_server_that_slept_makes_up_for_it_in_order() {
    let server = Server::start();
    let mut conn = server.connect();
    acquire_by(&mut conn, "k o");
    acquire_by(&mut conn, "live o");
    let mut first = in_line(&server, "LOCK.ACQUIRE k first BLOCK 0 PX 2500");
    let mut hasty = in_line(&server, "LOCK.ACQUIRE k hasty BLOCK 700");
    let mut second = in_line(&server, "LOCK.ACQUIRE k second BLOCK 0");
    let shorten = ["LOCK.RENEW", "k", "o", "PX", "100"];
    at_once(&server, &[&shorten, &["LOCK.RENEW", "live", "o", "PX", "5000"], &["DEBUG", "SLEEP", "1.2"]]);
    // While it slept one lease ended and so did one wait. The first in line has a whole lease from its grant on.
    let fence = first.read().int();
    let left_ms = left(&server, "k", "first");
    assert!(left_ms > 1300, "the lease began before the grant: {left_ms} ms are left");
    assert_eq!(hasty.read(), Value::Nil);
    assert!(left(&server, "live", "o") > 0, "a live lease was dropped");
    second.expect_nothing_pending();
    assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", "first"]), 1);
    assert!(second.read().int() > fence);
    wait_quiet(&server);
}

#[test]
fn a_process_that_was_stopped_makes_up_for_it_too() {
    let server = Server::start();
    acquire(&server, "k o");
    acquire(&server, "live o PX 20000");
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    let mut hasty = in_line(&server, "LOCK.ACQUIRE live hasty BLOCK 500");
    assert_eq!(server.cmd(&["LOCK.RENEW", "k", "o", "PX", "200"]), 200);
    server.signal("STOP");
    let_pass(Duration::from_millis(600));
    server.signal("CONT");
    assert!(next.read().int() > 0);
    assert_eq!(hasty.read(), Value::Nil);
    assert!(left(&server, "live", "o") > 0);
}

#[test]
fn a_failover_that_is_called_off_goes_on_as_before() {
    let (server, replica) = (Server::start(), Server::start());
    follow(&replica, &server);
    acquire(&server, "k o");
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    replica.signal("STOP");
    let replies = at_once(&server, &[&["LOCK.RENEW", "k", "o", "PX", "200"], &["FAILOVER"]]);
    assert_eq!(replies[1], "OK");
    let_pass(Duration::from_millis(500));
    assert_eq!(server.cmd(&["EXISTS", "k"]), 1, "the stream must be quiet while the replica catches up");
    next.expect_nothing_pending();
    assert_eq!(server.cmd(&["FAILOVER", "ABORT"]), "OK");
    assert!(next.read().int() > 0);
    replica.signal("CONT");
    wait_same_data(&replica, &server);
}
