//! Hundreds of clients that come, wait, are killed, unblocked and cut off, on one lock and on many. Afterwards the order in
//! which the server itself told of holds and ends is checked: at most one holder at any time, fences that only grow, and
//! every grant that a client was told of among them.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::resp::encode;
use crate::support::stream::{apart, Words};
use crate::support::{wait_until, Connection, ReplicaStream, Server, Value};
use crate::traffic::{is_effect, lock_stat, try_cmd, wait_quiet, Dice};

const CLIENTS: u64 = 200;
const SPAN: Duration = Duration::from_secs(3);

/// A grant as a client was told of it.
#[derive(Debug)]
struct Grant {
    db: u32,
    key: String,
    owner: String,
    fence: i64,
}

/// What all clients of one storm share.
struct Storm {
    port: u16,
    keys: u64,
    stop: AtomicBool,
    /// How many grants clients were told of, and how many clients were killed or unblocked.
    grants: AtomicI64,
    hits: AtomicI64,
    /// The ids of the connected clients, 0 for none.
    ids: Vec<AtomicI64>,
}

/// One client: until the storm is over it waits for locks, and then releases them, lets them expire or hangs up.
fn client(storm: &Storm, number: u64) -> Vec<Grant> {
    let mut dice = Dice::new(number + 1);
    let mut grants = Vec::new();
    let mut link: Option<(Connection, u32)> = None;
    while !storm.stop.load(Relaxed) {
        let (mut conn, db) = match link.take() {
            Some(link) => link,
            None => match connect(storm, number, &mut dice) {
                Ok(link) => link,
                Err(_) => continue,
            },
        };
        let key = format!("lock-{}", dice.roll(storm.keys));
        let owner = format!("client-{number}");
        let (lease, wait) = ((5 + dice.roll(60)).to_string(), (1 + dice.roll(200)).to_string());
        let take = ["LOCK.ACQUIRE", &key, &owner, "PX", &lease, "BLOCK", &wait];
        if dice.roll(10) == 0 {
            // Hangs up without waiting for the answer.
            let _ = conn.raw().get_mut().write_all(&encode(&take));
            continue;
        }
        match try_cmd(&mut conn, &take) {
            Ok(Value::Int(fence)) => {
                storm.grants.fetch_add(1, Relaxed);
                grants.push(Grant { db, key: key.clone(), owner: owner.clone(), fence });
                match dice.roll(8) {
                    0 => continue,
                    1 => {}
                    _ => {
                        // Whoever was too slow has lost it, which is no fault.
                        let released = try_cmd(&mut conn, &["LOCK.RELEASE", &key, &owner]);
                        assert!(matches!(released, Ok(Value::Int(0 | 1)) | Err(_)), "{released:?}");
                    }
                }
            }
            Ok(Value::Nil) => {}
            // What it has taken and left behind can be what it would wait for itself.
            Ok(Value::Error(text)) if text.starts_with("DEADLOCK ") => {}
            Ok(Value::Error(text)) => assert!(text.starts_with("UNBLOCKED "), "{text}"),
            Ok(other) => panic!("{other:?}"),
            Err(_) => continue,
        }
        link = Some((conn, db));
    }
    grants
}

/// A connection in one of two databases, in one of two protocols.
fn connect(storm: &Storm, number: u64, dice: &mut Dice) -> std::io::Result<(Connection, u32)> {
    let mut conn = Connection::open(storm.port)?;
    let db = if dice.roll(2) == 0 { 0 } else { 5 };
    try_cmd(&mut conn, &["SELECT", &db.to_string()])?;
    if dice.roll(2) == 0 {
        try_cmd(&mut conn, &["HELLO", "3"])?;
    }
    if let Value::Int(id) = try_cmd(&mut conn, &["CLIENT", "ID"])? {
        storm.ids[number as usize].store(id, Relaxed);
    }
    Ok((conn, db))
}

/// Kills and unblocks whom it meets, until the storm is over.
fn trouble(storm: &Storm, mut conn: Connection) {
    let mut dice = Dice::new(4711);
    while !storm.stop.load(Relaxed) {
        let id = || storm.ids[dice.roll(CLIENTS) as usize].load(Relaxed).to_string();
        let ids: Vec<String> = std::iter::repeat_with(id).take(4).collect();
        let mut commands = vec![
            vec!["CLIENT", "KILL", "ID", &ids[0]],
            vec!["CLIENT", "UNBLOCK", &ids[1], "TIMEOUT"],
            vec!["CLIENT", "UNBLOCK", &ids[2], "ERROR"],
        ];
        // In one step with an end that grants.
        if dice.roll(3) == 0 {
            commands.insert(0, vec!["DEL", "lock-0"]);
        }
        let packet: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
        conn.send_together(&packet);
        let hits = packet.iter().filter(|_| conn.read() == 1).count();
        storm.hits.fetch_add(hits as i64, Relaxed);
    }
}

/// Goes through what the server told its replicas, in its order; how many grants there were.
fn check(told: &[Words], grants: &[Grant]) -> usize {
    let mut db = 0;
    let mut holders: HashMap<(u32, String), (String, i64)> = HashMap::new();
    let mut newest: HashMap<(u32, String), i64> = HashMap::new();
    let mut given: HashMap<i64, (u32, String, String)> = HashMap::new();
    for words in &apart(told) {
        let place = |at: usize| (db, words[at].clone());
        match words[0].as_str() {
            "SELECT" => db = words[1].parse().unwrap(),
            "LOCK._HOLD" => {
                let (place, owner, fence) = (place(1), &words[2], words[3].parse::<i64>().unwrap());
                if let Some((holder, held)) = holders.get(&place) {
                    assert_eq!((holder, *held), (owner, fence), "two holders of {place:?}");
                    continue;
                }
                let last = newest.insert(place.clone(), fence).unwrap_or(0);
                assert!(fence > last, "{fence} after {last} for {place:?}");
                let twice = given.insert(fence, (place.0, place.1.clone(), owner.clone()));
                assert!(twice.is_none(), "fence {fence} was given twice: {twice:?}");
                holders.insert(place, (owner.clone(), fence));
            }
            "LOCK._FREE" => {
                let gone = holders.remove(&place(1)).map(|(_, fence)| fence.to_string());
                assert_eq!(gone.as_ref(), Some(&words[2]), "an end without a hold of {:?}", place(1));
            }
            // A delete that found nothing is not told.
            "DEL" => assert!(holders.remove(&place(1)).is_some()),
            other => assert!(is_effect(other), "{words:?}"),
        }
    }
    for Grant { db, key, owner, fence } in grants {
        let known = given.get(fence);
        assert_eq!(known, Some(&(*db, key.clone(), owner.clone())), "fence {fence}");
    }
    assert!(holders.is_empty(), "still held in the end: {holders:?}");
    given.len()
}

fn rage(keys: u64, threads: u32) {
    let server = Server::with(&["maxclients 1000", &format!("io-threads {threads}")]);
    let mut stream = ReplicaStream::attach(&server).with_select();
    let storm = Arc::new(Storm {
        port: server.port(),
        keys,
        stop: AtomicBool::new(false),
        grants: AtomicI64::new(0),
        hits: AtomicI64::new(0),
        ids: (0..CLIENTS).map(|_| AtomicI64::new(0)).collect(),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let storm = Arc::clone(&storm);
            std::thread::spawn(move || client(&storm, number))
        })
        .collect();
    let troubled = {
        let (storm, conn) = (Arc::clone(&storm), server.connect());
        std::thread::spawn(move || trouble(&storm, conn))
    };
    let end = Instant::now() + SPAN;
    let mut told = Vec::new();
    wait_until("the storm to be over", || {
        told.extend(stream.collect(&server));
        // A busy machine takes longer to make a storm of it.
        let is_storm = storm.grants.load(Relaxed) > 300 && storm.hits.load(Relaxed) > 100;
        Instant::now() >= end && is_storm
    });
    storm.stop.store(true, Relaxed);
    troubled.join().expect("the trouble failed");
    let grants: Vec<Grant> =
        clients.into_iter().flat_map(|client| client.join().expect("a client failed")).collect();

    // All quiet: every wait has ended, every lease is over, nobody is left.
    wait_quiet(&server);
    wait_until("all locks to be free", || lock_stat(&server, "held") == 0);
    assert_eq!(lock_stat(&server, "lease_index_entries"), 0);
    told.extend(stream.collect(&server));
    let given = check(&told, &grants);
    let (hits, undone) = (storm.hits.load(Relaxed), lock_stat(&server, "undone"));
    println!("{given} grants, {} answers with a fence, {hits} clients hit, {undone} undone", grants.len());
    assert_eq!(given as i64, lock_stat(&server, "granted"));
}

#[test]
fn a_storm_on_one_lock() {
    rage(1, 1);
}

#[test]
fn a_storm_on_many_locks() {
    rage(20, 1);
}

#[test]
fn a_storm_on_a_server_with_threads() {
    rage(5, 2);
}

/// The checker is shown to see what it is for.
#[test]
fn the_checker_notices_two_holders_old_fences_and_lost_grants() {
    let told = |lines: &[&str]| -> Vec<Words> {
        lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    };
    let fine = told(&[
        "LOCK._HOLD k a 7",
        "LOCK._HOLD k a 7",
        "LOCK._FREE k 7",
        "SELECT 5",
        "LOCK._HOLD k b 8",
        "DEL k",
    ]);
    let grant = |fence| Grant { db: 0, key: "k".into(), owner: "a".into(), fence };
    assert_eq!(check(&fine, &[grant(7)]), 2);
    let fails = |lines: &[&str], grants: &[Grant]| {
        let lines = told(lines);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&lines, grants))).is_err()
    };
    assert!(fails(&["LOCK._HOLD k a 7", "LOCK._HOLD k b 8", "LOCK._FREE k 8"], &[]), "two holders");
    assert!(
        fails(&["LOCK._HOLD k a 7", "LOCK._FREE k 7", "LOCK._HOLD k b 6", "LOCK._FREE k 6"], &[]),
        "old fence"
    );
    assert!(fails(&["LOCK._HOLD k a 7", "LOCK._FREE k 8"], &[]), "wrong end");
    assert!(fails(&["LOCK._HOLD k a 7", "LOCK._FREE k 7"], &[grant(9)]), "lost grant");
    assert!(fails(&["LOCK._HOLD k a 7"], &[]), "left over");
    assert!(fails(&["LOCK.ACQUIRE k a"], &[]), "no effect");
}
