//! What the server itself or a foreign command does to a lock's key, as far as it shows beyond one lock: eviction, memory
//! limits, keys that end by a time to live, names longer than a client may choose.

use std::time::Duration;

use crate::steps::{acquire, acquire_by, digest, in_line};
use crate::support::wait::{let_pass, wait_replica_in_sync};
use crate::support::{wait_until, ReplicaStream, Server, Stop, Value};
use crate::traffic::{at_once, follow, left, lock_stat, wait_no_child, wait_quiet};

/// Fills the memory with strings until `done`.
fn fill_memory_until(server: &Server, mut done: impl FnMut() -> bool) {
    let mut conn = server.connect();
    let text = "x".repeat(1000);
    for n in 0..50_000 {
        assert_eq!(conn.cmd(&["SET", &format!("filler-{n}"), &text]), "OK");
        if n % 50 == 0 && done() {
            return;
        }
    }
    panic!("memory was filled in vain");
}

fn limit_memory(server: &Server, policy: &str, room: i64) {
    assert_eq!(server.cmd(&["CONFIG", "SET", "maxmemory-policy", policy]), "OK");
    let limit = server.info_int("memory", "used_memory") + room;
    assert_eq!(server.cmd(&["CONFIG", "SET", "maxmemory", &limit.to_string()]), "OK");
}

#[test]
fn an_evicted_lock_is_free_and_goes_to_the_next_in_line() {
    // The backlog of the stream counts as used memory: a larger one takes up all the room, until there is nothing to evict.
    let server = Server::with(&["repl-backlog-size 16kb"]);
    let first = acquire(&server, "k o NOEXPIRE");
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    let mut stream = ReplicaStream::attach(&server);
    limit_memory(&server, "allkeys-lru", 1_000_000);
    fill_memory_until(&server, || lock_stat(&server, "granted") == 2);
    let second = next.read().int();
    assert!(second > first);
    // What was taken away by eviction is told as such, and before the grant that follows.
    let about_k: Vec<String> = stream
        .collect(&server)
        .into_iter()
        .filter(|words| words.get(1).is_some_and(|key| key == "k"))
        .map(|words| words[0].to_uppercase())
        .collect();
    assert!(["DEL", "UNLINK"].contains(&about_k[0].as_str()), "{about_k:?}");
    assert_eq!(about_k[1], "LOCK._HOLD");
    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "o"]), 0);
    // The new hold may have been evicted meanwhile, but nobody else can have it.
    assert!(matches!(left(&server, "k", "next"), 0..=30_000));
    wait_quiet(&server);
}

#[test]
fn a_server_that_may_evict_locks_says_so() {
    let server = Server::with(&["maxmemory 100mb", "maxmemory-policy allkeys-lru"]);
    assert!(server.log().contains("maxmemory-policy may evict locks"), "{}", server.log());
    let server = Server::with(&["maxmemory 100mb", "maxmemory-policy noeviction"]);
    assert!(!server.log().contains("may evict locks"), "{}", server.log());
}

#[test]
fn without_memory_locks_can_be_given_back_and_renewed_but_not_taken() {
    let server = Server::start();
    let mut conn = server.connect();
    acquire_by(&mut conn, "k o");
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    limit_memory(&server, "noeviction", -1000);
    assert!(conn.cmd(&["LOCK.ACQUIRE", "l", "o"]).error().starts_with("OOM "));
    assert_eq!(conn.cmd(&["LOCK.RENEW", "k", "o", "PX", "50000"]), 50_000);
    assert!(conn.cmd(&["LOCK.CHECK", "k", "o"]).int() > 0);
    assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    assert!(next.read().int() > 0, "who waits already is served");
    assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", "next"]), 1);
    assert_eq!(server.cmd(&["EXISTS", "k", "l"]), 0);
}

#[test]
fn a_key_that_is_found_expired_leaves_no_lease_behind() {
    let server = Server::start();
    let mut conn = server.connect();
    // Nobody but the command that comes next is to find out.
    assert_eq!(server.cmd(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]), "OK");
    let first = acquire_by(&mut conn, "k o PX 600000");
    assert_eq!(conn.cmd(&["PEXPIRE", "k", "5"]), 1);
    let_pass(Duration::from_millis(20));
    assert!(acquire_by(&mut conn, "k p PX 600000") > first);
    assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", "o"]), 0);
    assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", "p"]), 1);
    assert_eq!(lock_stat(&server, "held"), 0);
    assert_eq!(lock_stat(&server, "lease_index_entries"), 0);
}

#[test]
fn a_lock_under_a_name_that_no_client_could_give_it_is_replicated_and_saved() {
    let (short, long) = ("s".repeat(5000), "l".repeat(5000));
    for preamble in ["yes", "no"] {
        let aof = ["appendonly yes", "appendfsync always", &format!("aof-use-rdb-preamble {preamble}")];
        let (mut primary, replica) = (Server::with(&aof), Server::start());
        follow(&replica, &primary);
        acquire(&primary, "s o PX 800");
        acquire(&primary, "l o NOEXPIRE");
        assert_eq!(primary.cmd(&["RENAME", "s", &short]), "OK");
        assert_eq!(primary.cmd(&["RENAME", "l", &long]), "OK");
        wait_until("the lease to be over", || primary.cmd(&["EXISTS", &short]) == 0);
        wait_replica_in_sync(&primary, &replica);
        assert_eq!(replica.cmd(&["EXISTS", &short]), 0, "the end of the lease did not reach the replica");
        assert_eq!(digest(&replica), digest(&primary));

        primary.cmd(&["BGREWRITEAOF"]);
        wait_no_child(&primary);
        let before = digest(&primary);
        primary.restart(Stop::Kill);
        assert_eq!(
            primary.cmd(&["EXISTS", &long]),
            1,
            "preamble {preamble}: the lock was lost by the restart"
        );
        assert_eq!(digest(&primary), before);
    }
}

#[test]
fn leases_end_under_new_names_in_new_databases_and_on_replicas_too() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let replies = at_once(
        &primary,
        &[
            &["LOCK.ACQUIRE", "renamed", "o", "PX", "300"],
            &["LOCK.ACQUIRE", "moved", "o", "PX", "300"],
            &["LOCK.ACQUIRE", "swapped", "o", "PX", "300"],
            &["RENAME", "renamed", "renamed-2"],
            &["MOVE", "moved", "5"],
            &["SWAPDB", "0", "7"],
            &["DBSIZE"],
        ],
    );
    assert_eq!(
        replies[3..],
        [Value::Simple("OK".into()), Value::Int(1), Value::Simple("OK".into()), Value::Int(0)]
    );
    let fence = acquire(&primary, "renamed p PX 600000");
    wait_until("the leases to be over", || lock_stat(&primary, "expired") == 3);
    assert_eq!(lock_stat(&primary, "lease_index_entries"), 1);
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(digest(&replica), digest(&primary));
    assert_eq!(lock_stat(&replica, "held"), 1);

    // The replica knows where its leases are as well: once promoted, it ends them by itself.
    at_once(
        &primary,
        &[
            &["LOCK.ACQUIRE", "renamed-3", "o", "PX", "300"],
            &["LOCK.ACQUIRE", "swapped-3", "o", "PX", "300"],
            &["RENAME", "renamed-3", "renamed-4"],
            &["SWAPDB", "0", "9"],
            &["CLIENT", "PAUSE", "20000", "WRITE"],
        ],
    );
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(replica.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
    wait_until("the leases to be over", || lock_stat(&replica, "expired") == 2);
    let kept = replica.connect().select(9).cmd(&["LOCK.CHECK", "renamed", "p", "FENCE", &fence.to_string()]);
    assert!(kept.int() > 0);
    assert_ne!(kept, Value::Nil);
}

#[test]
fn a_flush_in_the_background_ends_everything_and_wakes_everybody() {
    let server = Server::start();
    let mut conn = server.connect();
    for n in 0..2000 {
        acquire_by(&mut conn, &format!("k{n} o PX 600000"));
    }
    let mut waiters: Vec<_> =
        (0..20).map(|n| in_line(&server, &format!("LOCK.ACQUIRE k{n} next BLOCK 0 PX 600000"))).collect();
    let newest = lock_stat(&server, "last_fence");
    assert_eq!(server.cmd(&["FLUSHALL", "ASYNC"]), "OK");
    for waiter in &mut waiters {
        assert!(waiter.read().int() > newest);
    }
    assert_eq!(server.cmd(&["DBSIZE"]), 20);
    assert_eq!(lock_stat(&server, "lease_index_entries"), 20);
    wait_until("the old locks to be freed", || lock_stat(&server, "held") == 20);
    wait_quiet(&server);
}
