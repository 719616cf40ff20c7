//! Queues and wake-ups: waits that leave something behind, locks that nobody is told are free, the dead in line, and
//! crowds.

use std::time::{Duration, Instant};

use crate::steps::{
    acquire, acquire_by, assert_granted, assert_punctual, fence_of, in_line, queue, release, transaction,
};
use crate::support::cli::Cli;
use crate::support::resp::encode;
use crate::support::wait::{wait_blocked_clients, wait_waiting, wait_waiting_on};
use crate::support::{skip, wait_until, Connection, Server, Value};
use crate::traffic::{lock_stat, Dice};

/// A fair lock kept the end of each wait as a sum over the waits before it, and those that had timed out stayed in the
/// sum: after a day of short waits the queue reached hours into the future, and nobody got in. Here a wait that has ended
/// is gone: its room is free, and whoever comes next waits for as long as it said and gets the lock when that is free.
#[test]
fn g1_a_hundred_thousand_short_waits_leave_nothing() {
    const CLIENTS: usize = 100;
    const PACKETS: usize = 10;
    const WAITS: usize = 100;
    let server = Server::start();
    let locks = ["k0", "k1", "k2", "k3"];
    for key in locks {
        acquire(&server, &format!("{key} o NOEXPIRE"));
    }
    // One in each line has all the time in the world, so that no queue is ever made anew.
    let mut patient =
        locks.map(|key| in_line(&server, &format!("LOCK.ACQUIRE {key} patient NOEXPIRE BLOCK 0")));
    let used = || server.info_int("memory", "used_memory");
    let before = used();
    let mut clients: Vec<Connection> = (0..CLIENTS).map(|_| server.connect()).collect();
    let mut waits = 0;
    for _ in 0..PACKETS {
        for (n, client) in clients.iter_mut().enumerate() {
            let mut packet = Vec::new();
            for _ in 0..WAITS {
                waits += 1;
                let owner = format!("owner-{waits}");
                packet.extend(encode(&["LOCK.ACQUIRE", locks[n % 4], &owner, "BLOCK", "1"]));
            }
            client.send_bytes(&packet);
        }
        for client in &mut clients {
            (0..WAITS).for_each(|_| assert_eq!(client.read(), Value::Nil));
        }
    }
    assert_eq!((lock_stat(&server, "timed_out"), lock_stat(&server, "waiting")), (waits, 4));
    assert_eq!(server.info_int("clients", "blocked_clients"), 4);
    // What the server itself spends on a client goes with the client. Of the waits, less than four bytes for each are left.
    drop(clients);
    wait_until("the memory to be given back", || used() - before < 400_000);
    for (key, patient) in locks.iter().zip(&mut patient) {
        let mut next = in_line(&server, &format!("LOCK.ACQUIRE {key} next BLOCK 60000"));
        let rows = server.cmd(&["LOCK.WAITERS", key]);
        let left = rows.items()[1].field("left-ms").int();
        assert!((30_000..=60_000).contains(&left), "{left} ms are left of a minute");
        release(&server, key, "o");
        assert_granted(&server, patient, key, "patient");
        release(&server, key, "patient");
        assert_granted(&server, &mut next, key, "next");
    }
}

/// Who stands first in line although there is room for it.
fn kept_waiting(looker: &mut Connection, key: &str) -> Option<String> {
    let replies = transaction(looker, &[&["LOCK.INFO", key], &["LOCK.WAITERS", key, "COUNT", "1"]]);
    let (info, next) = (&replies[0], replies[1].items().first()?);
    let permits = |row: &Value| row.field("permits").int();
    let taken: i64 = info.field("holds").items().iter().map(permits).sum();
    let fits = match info.field("mode").text().as_str() {
        "free" => true,
        "shared" => next.field("mode") == &"shared",
        "semaphore" => taken + permits(next) <= info.field("limit").int(),
        _ => false,
    };
    fits.then(|| next.field("owner").text())
}

/// The message that a lease had ended got lost, or came when nobody listened yet: the lock was free, and all who wanted it
/// waited for ever. Here no lock has room for the first in line for longer than the server takes to come round, whatever
/// has just happened: a release, the end of a lease or of a wait, a deleted key, a client that is gone.
#[test]
fn g2_no_lock_is_free_while_somebody_waits_for_it() {
    let server = Server::start();
    let mut looker = server.connect();
    let mut dice = Dice::new(4);
    let mut clients: Vec<Option<(Connection, String)>> = (0..12).map(|_| None).collect();
    let mut events = 0;
    let mut event = || {
        events += 1;
        let is_semaphore = dice.roll(2) == 0;
        let key = if is_semaphore { "semaphore" } else { "door" };
        let held = looker.cmd(&["LOCK.INFO", key]);
        let holds = held.field("holds").items();
        let holder =
            holds.get(dice.roll(8) as usize % holds.len().max(1)).map(|hold| hold.field("owner").text());
        let client = &mut clients[dice.roll(12) as usize];
        match (dice.roll(10), holder) {
            (0, Some(holder)) => drop(looker.cmd(&["LOCK.RENEW", key, &holder, "PX", "1"])),
            (1, _) => drop(looker.cmd(&["DEL", key])),
            (2 | 3, Some(holder)) => drop(looker.cmd(&["LOCK.RELEASE", key, &holder])),
            (4, _) => {
                if let Some((_, id)) = client.take() {
                    drop(looker.cmd(&["CLIENT", "KILL", "ID", &id]));
                }
            }
            _ => {
                // Whoever was here before hangs up.
                let mut conn = server.connect();
                let id = conn.id().to_string();
                let (owner, permits) = (format!("owner-{events}"), (1 + dice.roll(3)).to_string());
                let kind: &[&str] = match dice.roll(2) {
                    _ if is_semaphore => &["LIMIT", "3", "PERMITS", &permits],
                    0 => &["SHARED"],
                    _ => &[],
                };
                let lease = (1 + dice.roll(30)).to_string();
                let lease: &[&str] = if dice.roll(2) == 0 { &["NOEXPIRE"] } else { &["PX", &lease] };
                let wait = if dice.roll(4) == 0 { (1 + dice.roll(20)).to_string() } else { "0".to_owned() };
                conn.send(&[&["LOCK.ACQUIRE", key, &owner, "BLOCK", &wait], kind, lease].concat());
                *client = Some((conn, id));
            }
        }
        for key in ["semaphore", "door"] {
            let mut first = None;
            wait_until("the first in line to be let in", || {
                first = kept_waiting(&mut looker, key);
                first.is_none()
            });
        }
    };
    let least = [("handed_off", 400), ("expired", 100), ("vanished", 100), ("released", 100)];
    wait_until("hundreds of events of each kind", || {
        (0..50).for_each(|_| event());
        least.iter().all(|(name, least)| lock_stat(&server, name) > *least)
    });
}

/// A process died while it stood first in line. Its place was not tied to its connection, so the lock was kept for it, and
/// all behind it starved. Here the line closes up when a process is killed, and the next release is for the living.
#[test]
fn g3_the_dead_in_line_hold_nobody_up() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut dead: Vec<Cli> = Vec::new();
    for n in 1..=3 {
        let mut cli = Cli::start(server.port());
        cli.send(&format!("LOCK.ACQUIRE k dead-{n} NOEXPIRE BLOCK 0"));
        wait_waiting(&server, "k", n);
        dead.push(cli);
    }
    let mut bob = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
    // The head of the line is killed and seen to be gone; the two behind it are killed a moment before the release.
    drop(dead.remove(0));
    wait_waiting(&server, "k", 3);
    assert_eq!(queue(&server, "k"), ["dead-2", "dead-3", "bob"]);
    drop(dead);
    let start = Instant::now();
    release(&server, "k", "alice");
    assert_granted(&server, &mut bob, "k", "bob");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?} is not at once", start.elapsed());
    assert_eq!(queue(&server, "k"), [] as [&str; 0]);
}

/// The message that wakes a waiter was sent once and could be missed; whoever missed it slept until a poll half a minute
/// later found the lock free. Here a hand-off is the reply itself: of hundreds none is missed, and none sleeps first.
#[test]
fn g4_no_hand_off_is_missed() {
    let server = Server::start();
    let mut looker = server.connect();
    let mut alice = (server.connect(), "alice");
    acquire_by(&mut alice.0, "k alice NOEXPIRE");
    let mut bob = (in_line(&server, "LOCK.ACQUIRE k bob NOEXPIRE BLOCK 0"), "bob");
    assert_punctual(&server, || {
        let mut late = Vec::new();
        for _ in 0..500 {
            let (giver, name) = &mut alice;
            let start = Instant::now();
            giver.send(&["LOCK.RELEASE", "k", name]);
            fence_of(&bob.0.read());
            let took = start.elapsed();
            assert!(took < Duration::from_secs(2), "a hand-off took {took:?}");
            late.push(Some(took));
            assert_eq!(giver.read(), 1);
            // Back in line, and only now: whatever asks for a lock finds it free if nobody has noticed before.
            giver.send(&["LOCK.ACQUIRE", "k", name, "NOEXPIRE", "BLOCK", "0"]);
            wait_waiting_on(&mut looker, "k", 1);
            std::mem::swap(&mut alice, &mut bob);
        }
        late
    });
}

/// What the tests that run at the same time may need.
const SPARE_FILES: usize = 2_000;

/// How many files this process may have open.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("read the limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of open files");
    line.split_whitespace().nth(3).expect("a number of files").parse().unwrap_or(usize::MAX)
}

/// The processor time that the server has used so far, in seconds.
fn cpu(server: &Server) -> f64 {
    let info = server.info("cpu");
    ["used_cpu_user", "used_cpu_sys"].iter().map(|field| info[*field].parse::<f64>().unwrap()).sum()
}

/// All of these clients wait for one lock, which is then handed on so many times in one packet. What that cost the server,
/// in seconds of processor time.
fn hand_over(server: &Server, clients: &mut [Connection], times: usize) -> f64 {
    let key = format!("lock-{}", clients.len());
    let mut conn = server.connect();
    acquire_by(&mut conn, &format!("{key} first NOEXPIRE"));
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&["LOCK.ACQUIRE", &key, &n.to_string(), "NOEXPIRE", "BLOCK", "0"]);
    }
    wait_blocked_clients(server, clients.len() as i64);
    let line = line_of(&mut conn, &key);
    let (go, stay) = line.split_at(times);
    let holders = std::iter::once("first").chain(go.iter().map(String::as_str)).take(times);
    let packet: Vec<u8> = holders.flat_map(|owner| encode(&["LOCK.RELEASE", &key, owner])).collect();
    let number = |owner: &String| owner.parse::<usize>().unwrap();

    let before = cpu(server);
    conn.send_bytes(&packet);
    (0..times).for_each(|_| assert_eq!(conn.read(), 1));
    for n in go.iter().map(number) {
        fence_of(&clients[n].read());
    }
    let cost = cpu(server) - before;
    assert_eq!(server.info_int("clients", "blocked_clients"), stay.len() as i64);
    stay.iter().map(number).for_each(|n| clients[n].expect_nothing_pending());
    cost
}

/// The owners in a line, however many replies it takes.
fn line_of(conn: &mut Connection, key: &str) -> Vec<String> {
    let mut line: Vec<String> = Vec::new();
    loop {
        let mut words = vec!["LOCK.WAITERS", key, "COUNT", "10000"];
        words.extend(line.last().iter().flat_map(|last| ["AFTER", last.as_str()]));
        let rows = conn.cmd(&words);
        if rows.items().is_empty() {
            return line;
        }
        line.extend(rows.items().iter().map(|row| row.field("owner").text()));
    }
}

/// A server that woke or searched all waiters of a lock at each release stood still when thousands waited for one. Here a
/// thousand hand-offs cost no more when ten thousand wait than when a thousand do, and whoever is not meant sleeps on.
#[test]
fn g5_a_crowd_costs_no_more_than_a_few() {
    const FEW: usize = 1_000;
    const MANY: usize = 10_000;
    let files = open_files();
    if files < MANY + SPARE_FILES {
        skip("a crowd of waiters", &format!("only {files} open files are allowed (ulimit -n)"));
        return;
    }
    let server = Server::with(&["maxclients 12000"]);
    let mut clients: Vec<Connection> = (0..MANY).map(|_| server.connect()).collect();
    let few = hand_over(&server, &mut clients[..FEW], FEW);
    let crowd = hand_over(&server, &mut clients, FEW);
    println!("{FEW} hand-offs took {few} s among as many waiters and {crowd} s among {MANY}");
    assert!(crowd < 2.0 * few + 0.01, "{crowd} s among {MANY} waiters, {few} s among {FEW}");
}
