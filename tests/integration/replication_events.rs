//! What replicas and the AOF are told of things that no client asked for: leases end, keys are deleted, clients vanish. Never
//! the command in whose course it came to light.

use crate::steps::{acquire, acquire_by, in_line, queue_up_beside, words};
use crate::support::aof::read_aof;
use crate::support::stream::{apart, step, Words};
use crate::support::wait::{wait_blocked_clients, wait_waiting};
use crate::support::{assert_stream, wait_until, ReplicaStream, Server, Value};
use crate::traffic::{is_effect, lock_stat};

/// What is sent until this command has come; what takes the server a moment is waited for.
fn collect_until(stream: &mut ReplicaStream, server: &Server, last: &[&str]) -> Vec<Words> {
    let mut seen = Vec::new();
    wait_until(&format!("{last:?} in the stream"), || {
        seen.extend(stream.collect(server));
        seen.iter().any(|words| words == last)
    });
    seen
}

#[test]
fn a_wait_that_ends_without_a_grant_says_nothing() {
    let server = Server::start();
    acquire(&server, "k o NOEXPIRE");
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(server.cmd(&["LOCK.ACQUIRE", "k", "late", "BLOCK", "20"]), Value::Nil);

    let mut unblocked = in_line(&server, "LOCK.ACQUIRE k unblocked BLOCK 0");
    let killed = in_line(&server, "LOCK.ACQUIRE k gone BLOCK 0");
    let ids = blocked_ids(&server);
    let [unblocked_id, killed_id] = &ids[..] else { panic!("{ids:?}") };
    // Redis 7.0 unblocks no client of a module that has no timeout callback.
    if server.cmd(&["CLIENT", "UNBLOCK", unblocked_id, "ERROR"]) == 1 {
        assert!(unblocked.read().error().starts_with("UNBLOCKED"));
    } else {
        drop(unblocked);
    }
    assert_eq!(server.cmd(&["CLIENT", "KILL", "ID", killed_id]), 1);
    drop(killed);
    // A connection that was dropped is gone when the server has noticed it.
    wait_waiting(&server, "k", 0);
    let _superseded = in_line(&server, "LOCK.ACQUIRE k twice BLOCK 0");
    let mut again = server.connect();
    again.send(&["LOCK.ACQUIRE", "k", "twice", "BLOCK", "0"]);
    drop(in_line(&server, "LOCK.ACQUIRE k closes BLOCK 0"));
    wait_blocked_clients(&server, 1);
    assert_stream(&stream.collect(&server), &[]);
}

fn blocked_ids(server: &Server) -> Vec<String> {
    let list = server.cmd(&["CLIENT", "LIST"]).text();
    let blocked = list.lines().filter(|line| line.contains(" cmd=lock.acquire"));
    let mut ids: Vec<i64> = blocked
        .map(|line| {
            line.split([' ', '=']).nth(1).and_then(|id| id.parse().ok()).expect("an id in CLIENT LIST")
        })
        .collect();
    ids.sort_unstable();
    ids.iter().map(i64::to_string).collect()
}

#[test]
fn the_end_of_a_lease_is_stated_and_hands_the_lock_on() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    let fence = acquire(&server, "k o PX 30").to_string();
    assert_stream(
        &collect_until(&mut stream, &server, &["LOCK._FREE", "k", &fence]),
        &[&["LOCK._HOLD", "k", "o", &fence, "30"], &["LOCK._FREE", "k", &fence]],
    );

    let fence = acquire(&server, "k o PX 1000").to_string();
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    let next_fence = next.read().int().to_string();
    assert_stream(
        &stream.collect(&server),
        &[
            &["LOCK._HOLD", "k", "o", &fence, "1000"],
            &step(&[&["LOCK._FREE", "k", &fence], &["LOCK._HOLD", "k", "next", &next_fence, "30000"]]),
        ],
    );
}

#[test]
fn a_lease_that_is_over_is_ended_by_whoever_comes_first() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    let mut conn = server.connect();
    // One packet: the lease of 1 ms ends while the server sleeps in the script, before any timer can run.
    let busy = "local t=redis.call('TIME') local e=t[1]*1000000+t[2]+5000 \
                repeat t=redis.call('TIME') until t[1]*1000000+t[2]>e";
    conn.send_together(&[
        &["LOCK.ACQUIRE", "k", "o", "PX", "1"],
        &["EVAL", busy, "0"],
        &["LOCK.ACQUIRE", "k", "p"],
    ]);
    let first = conn.read().int().to_string();
    conn.read();
    let second = conn.read().int().to_string();
    assert_stream(
        &stream.collect(&server),
        &[
            &["LOCK._HOLD", "k", "o", &first, "1"],
            &step(&[&["LOCK._FREE", "k", &first], &["LOCK._HOLD", "k", "p", &second, "30000"]]),
        ],
    );
}

#[test]
fn after_a_foreign_delete_the_next_grant_follows_the_delete() {
    for (delete, effect) in [
        (&["DEL", "k"][..], &["DEL", "k"][..]),
        (&["UNLINK", "k"], &["UNLINK", "k"]),
        (&["FLUSHDB"], &["FLUSHDB"]),
        (&["FLUSHALL", "ASYNC"], &["FLUSHALL", "ASYNC"]),
    ] {
        let server = Server::start();
        acquire(&server, "k o");
        let mut stream = ReplicaStream::attach(&server);
        let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
        server.cmd(delete);
        let fence = next.read().int().to_string();
        let hold = ["LOCK._HOLD", "k", "next", &fence, "30000"];
        assert_stream(&stream.collect(&server), &[effect, &hold]);
    }
}

#[test]
fn effects_name_the_database_of_the_lock() {
    let server = Server::start();
    let mut conn = server.connect().select(5);
    let mut stream = ReplicaStream::attach(&server).with_select();
    let fence = acquire_by(&mut conn, "k o PX 1000").to_string();
    let mut looker = server.connect().select(5);
    let next = server.connect().select(5);
    let mut next = queue_up_beside(&mut looker, next, &words("LOCK.ACQUIRE k next BLOCK 0 PX 60"));
    // The one timer run that ends the first lease knows of no client; the second end has nobody behind it.
    let next_fence = next.read().int().to_string();
    let zero = acquire(&server, "k zero").to_string();
    let got = collect_until(&mut stream, &server, &["LOCK._FREE", "k", &next_fence]);
    assert_eq!(got[0], ["SELECT", "5"]);
    assert_eq!(in_databases(&got), {
        let hold = |owner: &str, fence: &str, lease: &str| format!("LOCK._HOLD k {owner} {fence} {lease}");
        [
            (5, hold("o", &fence, "1000")),
            (5, format!("LOCK._FREE k {fence}")),
            (5, hold("next", &next_fence, "60")),
            (0, hold("zero", &zero, "30000")),
            (5, format!("LOCK._FREE k {next_fence}")),
        ]
    });
}

/// Each command with the database it falls into, without SELECT and without times.
fn in_databases(got: &[Words]) -> Vec<(u32, String)> {
    let mut db = 0;
    let mut seen = Vec::new();
    for words in &apart(got) {
        match words[0].as_str() {
            "SELECT" => db = words[1].parse().unwrap(),
            _ => seen.push((db, words[..words.len().min(5)].join(" "))),
        }
    }
    seen
}

#[test]
fn a_grant_to_a_client_killed_in_the_same_packet_is_taken_back() {
    let server = Server::start();
    let mut admin = server.connect();
    let held = acquire_by(&mut admin, "k o").to_string();
    let mut doomed = server.connect();
    let id = doomed.id().to_string();
    doomed.send(&["LOCK.ACQUIRE", "k", "doomed", "BLOCK", "0"]);
    wait_blocked_clients(&server, 1);
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    let mut stream = ReplicaStream::attach(&server);
    admin.send_together(&[&["LOCK.RELEASE", "k", "o"], &["CLIENT", "KILL", "ID", &id]]);
    assert_eq!((admin.read(), admin.read()), (Value::Int(1), Value::Int(1)));
    let fence = next.read().int().to_string();
    assert_stream(
        &stream.collect(&server),
        &[
            &step(&[&["LOCK._FREE", "k", &held], &["LOCK._HOLD", "k", "doomed", "<fence>", "30000"]]),
            &step(&[&["LOCK._FREE", "k", "<fence>"], &["LOCK._HOLD", "k", "next", &fence, "30000"]]),
        ],
    );
    assert_eq!(lock_stat(&server, "undone"), 1);
}

#[test]
fn the_aof_says_the_same_as_the_stream_and_only_effects_through_a_storm() {
    let server = Server::with(&["appendonly yes", "appendfsync no"]);
    let mut stream = ReplicaStream::attach(&server);
    let mut admin = server.connect();
    for round in 0..20 {
        let key = format!("k{}", round % 3);
        acquire_by(&mut admin, &format!("{key} o"));
        let mut clients: Vec<_> =
            (0..6).map(|n| in_line(&server, &format!("LOCK.ACQUIRE {key} w{n} BLOCK 0 PX 40"))).collect();
        // The first two vanish in the packet that grants, one leaves by itself, the others get it by expiry.
        let ids = blocked_ids(&server);
        admin.send_together(&[
            &["LOCK.RELEASE", &key, "o"],
            &["CLIENT", "KILL", "ID", &ids[0]],
            &["CLIENT", "KILL", "ID", &ids[1]],
            &["CLIENT", "UNBLOCK", &ids[2], "ERROR"],
        ]);
        (0..4).for_each(|_| drop(admin.read()));
        drop(clients.remove(3));
        clients[3..].iter_mut().for_each(|client| assert!(client.read().int() > 0));
        wait_blocked_clients(&server, 0);
        wait_until("the lock to be free", || server.cmd(&["EXISTS", &key]) == 0);
    }
    let sent = stream.collect(&server);
    let odd: Vec<_> = sent.iter().filter(|words| !is_effect(&words[0])).collect();
    assert!(odd.is_empty(), "not an effect: {odd:?}");
    assert!(sent.len() > 100, "only {} commands: the storm did not happen", sent.len());
    let mut written = read_aof(&server).commands;
    // The mark that ends a collection is for replicas only on some servers, and for the AOF too on others.
    written.retain(|words| words[0] != "PUBLISH");
    assert_eq!(written, sent);
}
