//! What finds a hold by its end, by its name and by its connection lies outside the keyspace, and belongs to the key: MEMORY
//! USAGE counts it with the key, `used_memory` has it, and so `maxmemory` bounds it.

use super::budget::{each, long, owned};
use super::used_memory;
use crate::steps::ask;
use crate::support::{Connection, Server, Value};
use crate::traffic::lock_stat;

const LOCKS: usize = 30_000;

/// Takes so many locks with names of this length, all by this line.
fn acquire_many(conn: &mut Connection, locks: usize, name_len: usize, options: &str) -> Vec<Value> {
    each(conn, 0..locks, |n| {
        [owned("LOCK.ACQUIRE"), vec![long(n, name_len)], owned(&format!("owner {options}"))].concat()
    })
}

#[test]
fn a_key_counts_with_what_finds_its_holds() {
    for (name_len, options) in
        [(8, "PX 600000"), (8, "NOEXPIRE"), (100, "PX 600000"), (40, "PX 600000 TIED 600000")]
    {
        let server = Server::start();
        let mut conn = server.connect();
        // Buffers and the first block of each index grow to their size once.
        acquire_many(&mut conn, 200, 20, options);
        each(&mut conn, 0..50, |_| vec!["ECHO".to_owned(), "x".repeat(20_000)]);
        let (used_before, index_before) = (used_memory(&server), lock_stat(&server, "index_bytes"));
        let replies = acquire_many(&mut conn, LOCKS, name_len, options);
        assert!(replies.iter().all(|reply| reply.int() > 0));
        let each_lock = |bytes: i64| bytes / LOCKS as i64;
        let used = each_lock(used_memory(&server) - used_before);
        let index = each_lock(lock_stat(&server, "index_bytes") - index_before);
        let key = long(LOCKS / 2, name_len);
        let usage = server.cmd(&["MEMORY", "USAGE", &key]).int();
        println!(
            "names of {name_len}, {options}: used {used}, MEMORY USAGE {usage}, of which indexes {index}"
        );
        assert!(index > 40 && index < used, "{index} of {used}");
        assert!(usage * 100 > used * 75 && usage * 100 < used * 125, "{usage} of {used}");
        // None of it is a wait or a memory of one.
        assert!(lock_stat(&server, "memory_bytes") < 5_000);
        // Names are given back with their holds; the rest is kept for the next ones.
        let peak = lock_stat(&server, "index_bytes");
        let released =
            each(&mut conn, 0..LOCKS, |n| vec!["LOCK.RELEASE".into(), long(n, name_len), "owner".into()]);
        assert!(released.iter().all(|reply| *reply == 1));
        let given_back = each_lock(peak - lock_stat(&server, "index_bytes"));
        assert!(given_back >= if name_len > 16 { name_len as i64 } else { 0 }, "{given_back}");
    }
}

#[test]
fn maxmemory_bounds_what_finds_holds() {
    const MAX: i64 = 20_000_000;
    let server = Server::start();
    let mut conn = server.connect();
    let used = used_memory(&server);
    assert_eq!(ask(&server, &format!("CONFIG SET maxmemory {}", used + MAX)), "OK");
    let replies = acquire_many(&mut conn, 100_000, 200, "PX 600000 TIED 600000");
    let (taken, refused): (Vec<&Value>, Vec<&Value>) =
        replies.iter().partition(|reply| matches!(reply, Value::Int(_)));
    let taken = taken.len();
    assert!((10_000..90_000).contains(&taken), "{taken}");
    assert!(refused.iter().all(|reply| reply.error().starts_with("OOM ")));
    let index = lock_stat(&server, "index_bytes");
    assert!((taken as i64 * 200..MAX).contains(&index), "{index} for {taken}");
    assert!(used_memory(&server) < used + MAX + 1_000_000);
}
