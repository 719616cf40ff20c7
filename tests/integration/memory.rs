//! What remains when locks have come and gone: nothing. And what a waiter costs while it waits.

use crate::support::wait::wait_waiting;
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{acquire, acquire_on, lock_stat, wait_quiet};

/// Rounds of acquire and release in one packet.
const ROUNDS: usize = 500;

/// Takes and gives back locks `rounds * ROUNDS` times, with leases that are far from over.
fn come_and_go(conn: &mut Connection, rounds: usize, names: usize) {
    for round in 0..rounds {
        let keys: Vec<String> =
            (0..ROUNDS).map(|n| format!("key-{}", (round * ROUNDS + n) % names)).collect();
        let commands: Vec<[&str; 5]> = keys
            .iter()
            .flat_map(|key| [["LOCK.ACQUIRE", key, "o", "PX", "600000"], ["LOCK.RELEASE", key, "o", "", ""]])
            .collect();
        let commands: Vec<&[&str]> =
            commands.iter().map(|words| if words[4].is_empty() { &words[..3] } else { &words[..] }).collect();
        conn.send_together(&commands);
        for _ in 0..ROUNDS {
            assert!(conn.read().int() > 0);
            assert_eq!(conn.read(), 1);
        }
    }
}

fn used_memory(server: &Server) -> i64 {
    server.info_int("memory", "used_memory")
}

#[test]
fn a_hundred_thousand_locks_that_came_and_went_leave_nothing() {
    let server = Server::start();
    let mut conn = server.connect();
    // Buffers and tables grow to their size once.
    come_and_go(&mut conn, 20, 50_000);
    let before = used_memory(&server);
    come_and_go(&mut conn, 200, 50_000);
    let grown = used_memory(&server) - before;
    assert_eq!(lock_stat(&server, "lease_index_entries"), 0);
    assert_eq!(lock_stat(&server, "held"), 0);
    assert_eq!(lock_stat(&server, "granted"), 110_000);
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
    // Less than a byte for each of them.
    assert!(grown < 100_000, "{grown} bytes are left behind");
}

#[test]
fn renewals_leave_nothing() {
    let server = Server::start();
    let mut conn = server.connect();
    acquire(&mut conn, &["k", "o"]);
    let mut renew = |times: usize| {
        for n in 0..times / ROUNDS {
            let lease = (1_000_000 - n).to_string();
            let command = ["LOCK.RENEW", "k", "o", "PX", &lease];
            conn.send_together(&vec![&command[..]; ROUNDS]);
            (0..ROUNDS).for_each(|_| assert!(conn.read().int() > 0));
        }
    };
    renew(10_000);
    let before = used_memory(&server);
    renew(50_000);
    assert_eq!(lock_stat(&server, "lease_index_entries"), 1);
    assert!(used_memory(&server) - before < 50_000);
}

#[test]
fn waiters_cost_what_info_says_and_give_it_back() {
    const WAITERS: i64 = 200;
    let server = Server::start();
    let mut conn = server.connect();
    acquire(&mut conn, &["k", "o", "NOEXPIRE"]);
    let mut clients: Vec<Connection> = (0..WAITERS).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.cmd(&["PING"]), "PONG"));
    let before = used_memory(&server);
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&["LOCK.ACQUIRE", "k", &format!("waiter-{n}"), "BLOCK", "0", "PX", "600000"]);
    }
    wait_waiting(&server, "k", WAITERS);
    let each = (used_memory(&server) - before) / WAITERS;
    let said = lock_stat(&server, "waiter_bytes") / WAITERS;
    println!("a waiter costs {each} bytes; INFO says {said}");
    assert!(each < 60_000, "a waiter costs {each} bytes");
    assert!(said * 2 > each && said < each * 2, "INFO says {said}, but it is {each}");
    drop(clients);
    wait_quiet(&server);
    assert_eq!(lock_stat(&server, "waiter_bytes"), 0);
    // The server keeps what it used for a blocked client for a while, and gives it up bit by bit.
    wait_until("the memory to be given back", || used_memory(&server) - before < WAITERS * each / 10);
    // Who holds is not disturbed by all that.
    assert_eq!(conn.cmd(&["LOCK.CHECK", "k", "o"]), -1);
}

#[test]
fn short_waits_that_time_out_leave_nothing() {
    let server = Server::start();
    acquire_on(&server, &["k", "o", "NOEXPIRE"]);
    let mut clients: Vec<Connection> = (0..50).map(|_| server.connect()).collect();
    let mut round = || {
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(&["LOCK.ACQUIRE", "k", &format!("waiter-{n}"), "BLOCK", "2"]);
        }
        clients.iter_mut().for_each(|client| assert_eq!(client.read(), Value::Nil));
    };
    (0..5).for_each(|_| round());
    wait_quiet(&server);
    let before = used_memory(&server);
    (0..40).for_each(|_| round());
    wait_quiet(&server);
    assert_eq!(lock_stat(&server, "timed_out"), 45 * 50);
    assert!(used_memory(&server) - before < 100_000, "{before} -> {}", used_memory(&server));
}
