//! What remains when locks have come and gone: nothing. And what a waiter costs while it waits; how much all of them may
//! take is in `budget`, and what holds take outside the keyspace in `indexes`.

use crate::steps::{acquire, acquire_by, digest};
use crate::support::wait::wait_waiting;
use crate::support::{skip, wait_until, Connection, Server, Value};
use crate::traffic::{at_once, lock_stat, wait_quiet};

mod budget;
mod indexes;

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
fn the_server_is_told_what_a_lock_takes() {
    let server = Server::start();
    let usage = |key: &str| server.cmd(&["MEMORY", "USAGE", key]).int();
    acquire(&server, "plain o");
    acquire(&server, &format!("noted o NOTE {}", "n".repeat(200)));
    assert!((40..400).contains(&usage("plain")), "{}", usage("plain"));
    assert!((200..300).contains(&(usage("noted") - usage("plain"))), "{}", usage("noted"));
}

#[test]
fn locks_can_be_moved_about_in_memory() {
    let server = Server::with(&["hz 100"]);
    let set = ["CONFIG", "SET", "activedefrag", "yes"];
    if let Value::Error(text) = server.cmd(&set) {
        skip("active defragmentation", &text);
        return;
    }
    let all = [
        ("active-defrag-threshold-lower", "0"),
        ("active-defrag-ignore-bytes", "1"),
        ("active-defrag-cycle-min", "60"),
        ("active-defrag-cycle-max", "80"),
    ];
    for (name, value) in all {
        assert_eq!(server.cmd(&["CONFIG", "SET", name, value]), "OK");
    }
    let note = "n".repeat(100);
    let keys: Vec<String> = (0..5000).map(|n| format!("key-{n}")).collect();
    let take: Vec<_> =
        keys.iter().map(|key| ["LOCK.ACQUIRE", key, "o", "PX", "600000", "NOTE", &note]).collect();
    at_once(&server, &take.iter().map(|words| &words[..]).collect::<Vec<_>>());
    let release: Vec<_> = keys.iter().map(|key| ["LOCK.RELEASE", key, "o"]).collect();
    let (stay, go): (Vec<_>, Vec<_>) = release.iter().enumerate().partition(|(n, _)| n % 4 == 0);
    let released = |which: &[(usize, &[&str; 3])]| {
        let replies = at_once(&server, &which.iter().map(|(_, words)| &words[..]).collect::<Vec<_>>());
        assert!(replies.iter().all(|reply| *reply == 1));
    };
    // Holes all over the place.
    released(&go);
    wait_until("some locks to be moved", || server.info_int("stats", "active_defrag_key_hits") > 500);
    let before = digest(&server);
    assert_eq!(server.cmd(&["DEBUG", "RELOAD"]), "OK");
    assert_eq!(digest(&server), before);
    released(&stay);
    assert_eq!((lock_stat(&server, "held"), lock_stat(&server, "lease_index_entries")), (0, 0));
}

/// A lock can be renamed to whatever the keyspace takes; what the module remembers of it must not be as large.
#[test]
fn losses_under_huge_names_leave_nothing() {
    let server = Server::start();
    let huge = "x".repeat(2 << 20);
    let lose = || {
        acquire(&server, "k o");
        assert_eq!(server.cmd(&["RENAME", "k", &huge]), "OK");
        assert_eq!(server.cmd(&["DEL", &huge]), 1);
    };
    lose();
    let before = used_memory(&server);
    (0..20).for_each(|_| lose());
    wait_until("the memory to be given back", || used_memory(&server) - before < 1 << 20);
    let reason = |key: &str| server.cmd(&["LOCK.CHECK", key, "o", "WITHINFO"]).field("reason").text();
    assert_eq!((reason("k").as_str(), reason(&huge).as_str()), ("deleted", "deleted"));
}

#[test]
fn renewals_leave_nothing() {
    let server = Server::start();
    let mut conn = server.connect();
    acquire_by(&mut conn, "k o");
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
    acquire_by(&mut conn, "k o NOEXPIRE");
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
    assert!(lock_stat(&server, "waiter_bytes") < 5_000, "no more than small tables");
    // The server keeps what it used for a blocked client for a while, and gives it up bit by bit.
    wait_until("the memory to be given back", || used_memory(&server) - before < WAITERS * each / 10);
    // Who holds is not disturbed by all that.
    assert_eq!(conn.cmd(&["LOCK.CHECK", "k", "o"]), -1);
}

#[test]
fn short_waits_that_time_out_leave_nothing() {
    let server = Server::start();
    acquire(&server, "k o NOEXPIRE");
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
