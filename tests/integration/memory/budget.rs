//! What the module keeps outside the keyspace is counted in bytes, as the server counts them, and bounded.

use super::used_memory;
use crate::steps::{acquire, ask, assert_changes_nothing, words};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::lock_stat;

/// Sends this command for each number, many in a packet; what the replies were.
pub(super) fn each(
    conn: &mut Connection,
    numbers: std::ops::Range<usize>,
    command: impl Fn(usize) -> Vec<String>,
) -> Vec<Value> {
    let numbers: Vec<usize> = numbers.collect();
    let mut replies = Vec::new();
    for some in numbers.chunks(50) {
        let commands: Vec<Vec<String>> = some.iter().map(|n| command(*n)).collect();
        let commands: Vec<Vec<&str>> =
            commands.iter().map(|words| words.iter().map(String::as_str).collect()).collect();
        conn.send_together(&commands.iter().map(Vec::as_slice).collect::<Vec<_>>());
        replies.extend(some.iter().map(|_| conn.read()));
    }
    replies
}

pub(super) fn owned(line: &str) -> Vec<String> {
    words(line).into_iter().map(str::to_owned).collect()
}

/// A name of this length that differs from the others.
pub(super) fn long(n: usize, len: usize) -> String {
    format!("{n:0>len$}")
}

/// Lets `work` take memory, and compares what INFO says of it with what the server says it has used.
#[track_caller]
fn assert_truth(server: &Server, what: &str, work: impl FnOnce(&mut Connection)) {
    // On a busy machine commands are slow, and the server keeps the words of each slow one.
    ask(server, "CONFIG SET slowlog-log-slower-than -1");
    ask(server, "SLOWLOG RESET");
    let clients = || server.info_int("clients", "connected_clients");
    let clients_before = clients();
    let (said_before, used_before) = (lock_stat(server, "memory_bytes"), used_memory(server));
    let mut conn = server.connect();
    work(&mut conn);
    // The buffers of a connection grow and shrink with the time: they go with it.
    drop(conn);
    wait_until("the connection to be gone", || clients() == clients_before);
    let said = lock_stat(server, "memory_bytes") - said_before;
    let used = used_memory(server) - used_before;
    println!("{what}: INFO says {said}, the server {used}");
    assert!(used > 2_000_000, "{what}: {used} bytes are too few to judge by");
    assert!(said * 100 > used * 98, "{what}: INFO says {said}, but it is {used}");
    assert!(said * 100 < used * 130, "{what}: INFO says {said}, but it is {used}");
}

/// Who waits for this lock waits to the end of the test, however long that takes.
fn hold_for_ever(server: &Server) {
    acquire(server, "k alice NOEXPIRE");
}

/// Waits for as many clients as there are, each with its own line.
fn wait_with(server: &Server, clients: &mut [Connection], line: impl Fn(usize) -> String, count: &str) {
    let before = lock_stat(server, count);
    clients.iter_mut().enumerate().for_each(|(n, client)| client.send(&words(&line(n))));
    wait_until("the clients to wait", || lock_stat(server, count) == before + clients.len() as i64);
}

fn connections(server: &Server, count: usize) -> Vec<Connection> {
    let mut clients: Vec<Connection> = (0..count).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.cmd(&["PING"]), "PONG"));
    clients
}

#[test]
fn tickets_take_what_info_says() {
    let with_k = || {
        let server = Server::start();
        hold_for_ever(&server);
        server
    };
    assert_truth(&with_k(), "tickets for one lock", |conn| {
        each(conn, 0..15_000, |n| owned(&format!("LOCK.ACQUIRE k owner-{n} QUEUE 3600000")));
    });
    assert_truth(&with_k(), "tickets with long owners and notes", |conn| {
        let options = owned("QUEUE 3600000 MAXHOLD 60000 NOTE");
        let request =
            |n| [owned("LOCK.ACQUIRE k"), vec![long(n, 250)], options.clone(), vec!["n".repeat(200)]];
        each(conn, 0..5_000, |n| request(n).concat());
    });
    let server = with_k();
    let mut holder = server.connect();
    each(&mut holder, 0..5_000, |n| owned(&format!("LOCK.ACQUIRE one-{n} alice NOEXPIRE")));
    assert_truth(&server, "one owner's tickets for many locks", |conn| {
        each(conn, 0..5_000, |n| owned(&format!("LOCK.ACQUIRE one-{n} bob QUEUE 3600000")));
    });
    assert_truth(&with_k(), "tickets for 64 locks with long names", |conn| {
        let names = |n| (1..64).map(move |at| long(64 * n + at, 1024));
        let request =
            |n| [owned(&format!("LOCK.MACQUIRE group-{n} 64 k")), names(n).collect(), owned("QUEUE 3600000")];
        each(conn, 0..150, |n| request(n).concat());
    });
    assert_truth(&with_k(), "tickets for the same 64 locks", |conn| {
        let names: Vec<String> = (1..64).map(|at| long(at, 1024)).collect();
        let request =
            |n| [owned(&format!("LOCK.MACQUIRE same-{n} 64 k")), names.clone(), owned("QUEUE 3600000")];
        each(conn, 0..600, |n| request(n).concat());
    });
}

#[test]
fn waiting_clients_take_what_info_says() {
    let server = Server::start();
    hold_for_ever(&server);
    let mut clients = connections(&server, 200);
    assert_truth(&server, "waiting clients", |_| {
        wait_with(&server, &mut clients, |n| format!("LOCK.ACQUIRE k waiter-{n} BLOCK 0"), "waiting");
    });
}

#[test]
fn clients_that_watch_take_what_info_says() {
    let server = Server::start();
    let mut clients = connections(&server, 200);
    assert_truth(&server, "clients that watch", |_| {
        let line = |n| format!("LOCK.AWAIT {} CHANGED BLOCK 0", long(n / 2, 300));
        wait_with(&server, &mut clients, line, "observing");
    });
}

#[test]
fn remembered_ends_take_what_info_says() {
    let server = Server::with(&["lock.loss-ledger-size 100000"]);
    assert_truth(&server, "remembered losses", |conn| {
        each(conn, 0..44_000, |n| owned(&format!("{} o", lose(n))));
    });
    assert_truth(&server, "remembered releases", |conn| {
        for some in (0..40_000).step_by(500) {
            let fences = each(conn, some..some + 500, |n| owned(&format!("LOCK.ACQUIRE r-{n} o")));
            let release = |n: usize| format!("LOCK.RELEASE r-{n} o FENCE {}", fences[n - some].int());
            each(conn, some..some + 500, |n| owned(&release(n)));
        }
    });
}

/// Takes one lock after the other, and ends its hold by another command than a release.
fn lose(n: usize) -> String {
    if n.is_multiple_of(2) {
        format!("LOCK.ACQUIRE k-{n}", n = n / 2)
    } else {
        format!("LOCK.BREAK k-{n} OWNER", n = n / 2)
    }
}

/// A server with this budget, in which `k` is held.
fn with_budget(bytes: usize) -> Server {
    let server = Server::with(&[format!("lock.max-memory-bytes {bytes}")]);
    hold_for_ever(&server);
    server
}

fn full(bytes: usize) -> String {
    format!("QUEUEFULL those who wait in this server take the {bytes} bytes that they may; raise lock.max-memory-bytes or try later")
}

#[test]
fn nobody_waits_beyond_the_budget() {
    const BYTES: usize = 1_000_000;
    let server = with_budget(BYTES);
    let mut conn = server.connect();
    let names: Vec<String> = (1..64).map(|at| long(at, 1024)).collect();
    let request =
        |n| [owned(&format!("LOCK.MACQUIRE group-{n} 64 k")), names.clone(), owned("QUEUE 3600000")].concat();
    let replies = each(&mut conn, 0..100, request);
    let given = replies.iter().filter(|reply| **reply == Value::Nil).count();
    assert!((5..100).contains(&given), "{given}");
    assert!(replies[given..].iter().all(|reply| *reply == full(BYTES).as_str()));
    assert_eq!(lock_stat(&server, "tickets"), given as i64);
    let bytes = lock_stat(&server, "memory_bytes");
    assert!((BYTES as i64..BYTES as i64 + 200_000).contains(&bytes), "{bytes}");
    let ticket = "LOCK.ACQUIRE k bob QUEUE 3600000";
    assert_changes_nothing(&server, || {
        let note = "n".repeat(200);
        let known = request(0).into_iter().chain(["NOTE".to_owned(), note]).collect::<Vec<_>>();
        assert_eq!(server.cmd(&known), full(BYTES).as_str(), "the same with a note takes more");
        for line in [
            ticket,
            "LOCK.ACQUIRE k bob BLOCK 0",
            "LOCK.ACQUIRE k bob BLOCK 10 QUEUE 3600000",
            "LOCK.MACQUIRE bob 2 k l BLOCK 0",
            "LOCK.AWAIT k FREE BLOCK 0",
            "LATCH.AWAIT gate BLOCK 0",
        ] {
            assert_eq!(server.connect().cmd(&words(line)), full(BYTES).as_str(), "{line}");
        }
        assert_eq!(server.cmd(&request(0)), Value::Nil, "who has a ticket may ask again");
        assert_eq!(ask(&server, "LOCK.ACQUIRE k bob"), Value::Nil, "and a try needs no room");
    });
    // Whoever leaves makes room, and so does a larger budget.
    assert_eq!(ask(&server, "LOCK.CANCEL k group-0"), 1);
    assert_eq!(ask(&server, ticket), Value::Nil);
    assert_eq!(ask(&server, "CONFIG SET lock.max-memory-bytes 2000000"), "OK");
    assert_eq!(server.cmd(&request(1_000)), Value::Nil);
    // A smaller one sends nobody away.
    assert_eq!(ask(&server, "CONFIG SET lock.max-memory-bytes 0"), "OK");
    assert_eq!(lock_stat(&server, "tickets"), given as i64 + 1);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k carol QUEUE 1"), full(0).as_str());
    assert_eq!(ask(&server, ticket), Value::Nil);
}

#[test]
fn ends_are_remembered_in_what_those_who_wait_leave() {
    const BYTES: i64 = 200_000;
    let server = with_budget(BYTES as usize);
    let reason = |n| ask(&server, &format!("LOCK.CHECK k-{n} o WITHINFO")).field("reason").text();
    let mut conn = server.connect();
    each(&mut conn, 0..8_000, |n| owned(&format!("{} o", lose(n))));
    let ends = lock_stat(&server, "loss_ledger_bytes");
    assert!((BYTES / 3..=BYTES).contains(&ends), "{ends}");
    assert_eq!((reason(0).as_str(), reason(3_999).as_str()), ("not-held", "broken"));
    let mut clients = connections(&server, 5);
    wait_with(&server, &mut clients, |n| format!("LOCK.ACQUIRE k waiter-{n} BLOCK 0"), "waiting");
    assert!(lock_stat(&server, "memory_bytes") <= BYTES);
    assert!(lock_stat(&server, "loss_ledger_bytes") > 0);
    assert_eq!(reason(3_999), "broken", "the newest stays longest");
    let mut more = connections(&server, 1);
    wait_with(&server, &mut more, |_| "LOCK.AWAIT k FREE BLOCK 0".to_owned(), "observing");
    assert_eq!(lock_stat(&server, "loss_ledger_bytes"), 0);
    assert_eq!(reason(3_999), "not-held");
    drop((clients, more));
    wait_until("them to be gone", || lock_stat(&server, "memory_bytes") < 5_000);
}
