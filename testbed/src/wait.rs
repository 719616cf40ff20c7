//! Waiting for a condition, with a deadline. The only file of testbed and server tests that may sleep: everything else
//! states what it waits for and lets this file poll.

use std::time::{Duration, Instant};

use crate::resp::{Connection, Value};
use crate::server::Server;

/// Long enough for a slow, busy machine; no test waits this long unless it fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks: short, so that waiting costs a test little.
const PAUSE: Duration = Duration::from_millis(2);

/// Polls until `cond` holds; panics with `what` when the deadline passes.
#[track_caller]
pub fn wait_until(what: &str, mut cond: impl FnMut() -> bool) {
    wait_for(what, || cond().then_some(()));
}

/// Polls until `probe` yields a value and returns it; panics with `what` when the deadline passes.
#[track_caller]
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    poll(DEADLINE, probe).unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain for: {what}"))
}

/// Polls until `probe` yields a value, or gives up after `limit`.
pub fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Lets `span` pass on the real clock, for the few tests whose subject is that time passes while nothing happens.
pub fn let_pass(span: Duration) {
    let start = Instant::now();
    wait_until("the clock to go on", || start.elapsed() >= span);
}

/// Panics unless one of five rounds takes no longer than `limit`: a busy machine makes some of them late.
pub fn assert_takes_at_most(limit: Duration, mut round: impl FnMut() -> Duration) {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|took| *took > limit) {
        assert!(seen.len() < 5, "no round took {limit:?} or less: {seen:?}");
        seen.push(round());
    }
    println!("took {seen:?}");
}

/// Until the server counts exactly `n` blocked clients.
pub fn wait_blocked_clients(server: &Server, n: i64) {
    wait_until(&format!("{n} blocked clients"), || server.info_int("clients", "blocked_clients") == n);
}

/// Until exactly `n` waiters queue for `key` in database 0.
pub fn wait_waiting(server: &Server, key: &str, n: i64) {
    wait_waiting_on(&mut server.connect(), key, n);
}

/// The same, in the database that `conn` has selected.
pub fn wait_waiting_on(conn: &mut Connection, key: &str, n: i64) {
    wait_until(&format!("{n} waiters on {key}"), || {
        conn.cmd(&["LOCK.INFO", key]).get("waiting") == Some(&Value::Int(n))
    });
}

/// Until the replica's link is up and it has applied everything the primary has sent.
pub fn wait_replica_in_sync(primary: &Server, replica: &Server) {
    wait_until("the replica to be in sync", || {
        let theirs = replica.info("replication");
        theirs.get("master_link_status").is_some_and(|status| status == "up")
            && theirs.get("slave_repl_offset") == primary.info("replication").get("master_repl_offset")
    });
}
