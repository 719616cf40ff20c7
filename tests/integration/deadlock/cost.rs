//! What it costs the server to find out that a wait would never end, with thousands of waiters to look at. A connection
//! can wait only once, so there is one for each of them: as many as fit into the usual limits of a process.

use crate::steps::{ask, words};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{at_once, lock_stat};

/// Connections that wait in each test. A server has 35 KB for each.
const WAITERS: usize = 2_000;

/// The most that one refused request may take in the server.
const LIMIT_US: i64 = 1_000;

/// Takes `lock-n` as `owner-n` for every n, all in one packet.
fn acquire_all(server: &Server, count: usize) {
    let lines: Vec<String> =
        (0..count).map(|n| format!("LOCK.ACQUIRE lock-{n} owner-{n} NOEXPIRE")).collect();
    let commands: Vec<Vec<&str>> = lines.iter().map(|line| words(line)).collect();
    let replies = at_once(server, &commands.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert!(replies.iter().all(|reply| matches!(reply, Value::Int(_))));
}

/// Connections that wait, one for each line; nobody looks for deadlocks meanwhile.
fn wait_all(server: &Server, lines: impl Iterator<Item = String>) -> Vec<Connection> {
    assert_eq!(ask(server, "CONFIG SET lock.deadlock-detection no"), "OK");
    let before = lock_stat(server, "waiting");
    let waiters: Vec<Connection> = lines
        .map(|line| {
            let mut conn = server.connect();
            conn.send(&words(&format!("{line} BLOCK 0")));
            conn
        })
        .collect();
    let all = before + waiters.len() as i64;
    wait_until("all of them to be in line", || lock_stat(server, "waiting") == all);
    assert_eq!(ask(server, "CONFIG SET lock.deadlock-detection yes"), "OK");
    waiters
}

/// The time in µs that the server takes for the request, as it counts itself, and the reply: the least of several, as a
/// busy machine takes its time from everybody. Who is let in waits for a moment, which is not counted.
fn least(server: &Server, line: &str) -> (i64, Value) {
    let once = || {
        assert_eq!(ask(server, "CONFIG RESETSTAT"), "OK");
        let reply = ask(server, &format!("{line} BLOCK 1"));
        let stats = server.info("commandstats");
        let stat = stats.iter().find(|(name, _)| name.eq_ignore_ascii_case("cmdstat_lock.acquire"));
        let (_, stat) = stat.expect("the statistics");
        let field = |name: &str| stat.split(',').find_map(|pair| pair.strip_prefix(name)?.parse().ok());
        assert_eq!(field("calls="), Some(1), "{stat}");
        (field("usec=").unwrap(), reply)
    };
    let (us, reply) = (0..20).map(|_| once()).min_by_key(|(us, _)| *us).unwrap();
    println!("{line}: {us} µs");
    (us, reply)
}

#[track_caller]
fn assert_cheap(us: i64) {
    assert!(us <= LIMIT_US, "{us} µs with {WAITERS} waiters");
}

#[track_caller]
fn assert_deadlock(reply: &Value) {
    assert!(matches!(reply, Value::Error(text) if text.starts_with("DEADLOCK ")), "{reply:?}");
}

fn with_room_for(waiters: usize) -> Server {
    Server::with(&[&format!("maxclients {}", waiters + waiters / 8 + 100)])
}

#[test]
fn behind_one_long_queue() {
    let server = with_room_for(WAITERS);
    acquire_all(&server, 2);
    let lines = (2..=WAITERS).map(|n| format!("LOCK.ACQUIRE lock-1 owner-{n}"));
    let _crowd = wait_all(&server, lines);
    let _knot = wait_all(&server, ["LOCK.ACQUIRE lock-0 owner-1".to_owned()].into_iter());
    let (us, reply) = least(&server, "LOCK.ACQUIRE lock-1 owner-0");
    assert_deadlock(&reply);
    assert_cheap(us);
    assert_eq!(lock_stat(&server, "waiting"), WAITERS as i64);
}

#[test]
fn behind_a_queue_whose_owners_wait_elsewhere_too() {
    let server = with_room_for(WAITERS);
    acquire_all(&server, 2);
    let lines = (2..=WAITERS).map(|n| format!("LOCK.MACQUIRE owner-{n} 2 lock-1 other-{n}"));
    let _crowd = wait_all(&server, lines);
    let _knot = wait_all(&server, ["LOCK.ACQUIRE lock-0 owner-1".to_owned()].into_iter());
    // So many cannot be judged in the time that there is: who asks may be let in, and leases end it.
    assert_cheap(least(&server, "LOCK.ACQUIRE lock-1 owner-0").0);
    assert_cheap(least(&server, "LOCK.ACQUIRE lock-1 newcomer").0);
}

#[test]
fn a_hundred_who_wait_elsewhere_too_hide_no_deadlock() {
    let server = Server::start();
    acquire_all(&server, 2);
    let lines = (2..102).map(|n| format!("LOCK.MACQUIRE owner-{n} 2 lock-1 other-{n}"));
    let _crowd = wait_all(&server, lines);
    let _knot = wait_all(&server, ["LOCK.ACQUIRE lock-0 owner-1".to_owned()].into_iter());
    let (us, reply) = least(&server, "LOCK.ACQUIRE lock-1 owner-0");
    assert_deadlock(&reply);
    assert_cheap(us);
}

/// `owner-0` waits for `lock-1`, whose owner waits for `lock-2`, and so on; the last one waits for nothing.
fn chain(owners: usize) -> (Server, Vec<Connection>) {
    let server = with_room_for(owners);
    acquire_all(&server, owners);
    let lines = (1..owners).map(|n| format!("LOCK.ACQUIRE lock-{n} owner-{}", n - 1));
    let waiters = wait_all(&server, lines);
    (server, waiters)
}

#[test]
fn round_a_long_chain_of_owners() {
    let (server, _chain) = chain(WAITERS);
    // Perhaps too many to be judged, but never too slow.
    assert_cheap(least(&server, &format!("LOCK.ACQUIRE lock-0 owner-{}", WAITERS - 1)).0);
    assert_cheap(least(&server, "LOCK.ACQUIRE lock-0 newcomer").0);
    assert_eq!(lock_stat(&server, "waiting"), WAITERS as i64 - 1);
}

#[test]
fn a_chain_of_a_hundred_owners_is_followed_to_its_end() {
    const OWNERS: usize = 100;
    let (server, _chain) = chain(OWNERS);
    let (us, reply) = least(&server, &format!("LOCK.ACQUIRE lock-0 owner-{}", OWNERS - 1));
    assert_deadlock(&reply);
    assert!(reply.error().contains(&format!("and so on, {OWNERS} owners in all")), "{reply:?}");
    assert_cheap(us);
    let (us, reply) = least(&server, "LOCK.ACQUIRE lock-0 newcomer");
    assert_eq!(reply, Value::Nil, "nobody waits for it");
    assert_cheap(us);
}
