//! Very many tickets: what one costs, and that a turn costs the same however many wait.

use super::tickets;
use crate::steps::{acquire, ask, words};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::lock_stat;

/// Room for all of them in one line.
const ROOM: &str = "lock.max-waiters-per-key 200000";

/// Sends a line for each of these owners, and lets `each` see the replies.
fn for_each(
    conn: &mut Connection,
    owners: std::ops::Range<usize>,
    line: impl Fn(usize) -> String,
    each: impl Fn(Value),
) {
    let owners: Vec<usize> = owners.collect();
    for some in owners.chunks(1_000) {
        let lines: Vec<String> = some.iter().map(|owner| line(*owner)).collect();
        let lines: Vec<Vec<&str>> = lines.iter().map(|line| words(line)).collect();
        let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
        conn.send_together(&lines);
        lines.iter().for_each(|_| each(conn.read()));
    }
}

fn get_tickets(conn: &mut Connection, count: usize) {
    let line = |owner| format!("LOCK.ACQUIRE k owner-{owner} QUEUE 3600000");
    for_each(conn, 0..count, line, |reply| assert_eq!(reply, Value::Nil));
}

/// Microseconds that the server has spent in a command.
fn spent_us(server: &Server, command: &str) -> i64 {
    let stats = server.info("commandstats");
    let stat = &stats[&format!("cmdstat_{command}")];
    stat.split(',').find_map(|part| part.strip_prefix("usec=")).and_then(|n| n.parse().ok()).unwrap()
}

/// What the cheapest 500 turns cost each, in ns, while at least half of so many wait. A turn is a claim, and the
/// release that gives the next its turn. The cheapest, as the machine may be busy.
fn cost_of_a_turn(server: &Server, count: usize) -> i64 {
    let mut conn = server.connect();
    acquire(server, "k first");
    get_tickets(&mut conn, count);
    assert_eq!(tickets(server), count as i64);
    assert_eq!(ask(server, "LOCK.RELEASE k first"), 1);
    let line = |n: usize| {
        let owner = n / 2;
        match n % 2 {
            0 => format!("LOCK.ACQUIRE k owner-{owner} QUEUE 60000"),
            _ => format!("LOCK.RELEASE k owner-{owner}"),
        }
    };
    let mut costs = Vec::new();
    for first in (0..count / 2).step_by(500) {
        assert_eq!(ask(server, "CONFIG RESETSTAT"), "OK");
        for_each(&mut conn, 2 * first..2 * (first + 500), line, |reply| assert!(reply.int() > 0));
        costs.push(2 * (spent_us(server, "lock.acquire") + spent_us(server, "lock.release")));
    }
    for_each(&mut conn, count / 2 * 2..2 * count, line, |reply| assert!(reply.int() > 0));
    assert_eq!((tickets(server), ask(server, "EXISTS k")), (0, Value::Int(0)));
    assert_eq!(lock_stat(server, "unclaimed"), 0);
    costs.into_iter().min().unwrap()
}

#[test]
fn a_ticket_costs_a_few_hundred_bytes() {
    let server = Server::with(&[ROOM]);
    let used = || server.info_int("memory", "used_memory");
    let mut conn = server.connect();
    acquire(&server, "k alice");
    get_tickets(&mut conn, 1);
    let before = used();
    get_tickets(&mut conn, 100_000);
    let each = (used() - before) / 100_000;
    println!("a ticket: {each} bytes");
    assert!(each <= 400, "{each} bytes for a ticket");
}

#[test]
fn a_hundred_thousand_tickets_drain_like_a_thousand() {
    let server = Server::with(&["lock.claim-ms 60000", ROOM]);
    let cost_of_few = (0..10).map(|_| cost_of_a_turn(&server, 1_000)).min().unwrap();
    let cost_of_many = cost_of_a_turn(&server, 100_000);
    println!("a turn: {cost_of_few} ns with 1,000 tickets, {cost_of_many} ns with 100,000");
    assert!(cost_of_many <= 4 * cost_of_few, "{cost_of_many} ns a turn, {cost_of_few} ns with few");
}

#[test]
fn the_tickets_of_an_overwritten_lock_end_a_few_at_a_time() {
    const COUNT: usize = 5_000;
    let server = Server::start();
    ask(&server, "LOCK.ACQUIRE lock-0 holder NOEXPIRE");
    let keys: Vec<String> = (0..64).map(|n| format!("lock-{n}")).collect();
    let line = |owner| format!("LOCK.MACQUIRE owner-{owner} 64 {} QUEUE 3600000", keys.join(" "));
    for_each(&mut server.connect(), 0..COUNT, line, |reply| assert_eq!(reply, Value::Nil));
    assert_eq!(tickets(&server), COUNT as i64);
    // A lock that nobody holds, and that all wait for: the server must go on serving others while they are told.
    assert_eq!(ask(&server, "SET lock-5 text"), "OK");
    let mut seen = Vec::new();
    wait_until("the last ticket to end", || {
        seen.push(tickets(&server));
        seen.last() == Some(&0)
    });
    assert!(seen.iter().any(|left| (1..COUNT as i64).contains(left)), "all at once: {seen:?}");
    assert_eq!(lock_stat(&server, "failed"), COUNT as i64);
}

#[test]
fn what_tickets_took_up_is_given_back_bit_by_bit_when_the_server_becomes_a_replica() {
    const COUNT: usize = 100_000;
    let server = Server::with(&[ROOM]);
    let used = || server.info_int("memory", "used_memory");
    acquire(&server, "k alice");
    let mut conn = server.connect();
    get_tickets(&mut conn, 1);
    let before = used();
    get_tickets(&mut conn, COUNT);
    let full = used();
    // Nobody listens there. Sent together, so that nothing comes between.
    conn.send_together(&[&words("REPLICAOF 127.0.0.1 1"), &words("INFO memory")]);
    assert_eq!(conn.read(), "OK");
    let memory = conn.read().text();
    let line = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let after: i64 = line.trim().parse().unwrap();
    assert_eq!(tickets(&server), 0);
    assert!(full - after < (full - before) / 2, "of {} bytes {} at once", full - before, full - after);
    wait_until("all of it to be given back", || used() - before < (full - before) / 10);
}
