//! LOCK.SCAN: which locks there are, complete whatever comes and goes meanwhile, and no more than the caller may see.

use std::collections::BTreeSet;

use crate::group::line_up;
use crate::steps::{acquire, ask, fence_of, release, set_string, wait_for_lock, words};
use crate::support::wait::wait_replica_in_sync;
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::follow;

/// The cursor and the names of one reply.
fn page(reply: &Value) -> (String, Vec<String>) {
    let [next, names] = reply.items() else { panic!("not a page: {reply:?}") };
    (next.text(), names.items().iter().map(Value::text).collect())
}

/// All names, from the first call to the last, with these options.
fn scan(conn: &mut Connection, options: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let (next, names) = page(&conn.cmd(&words(&format!("LOCK.SCAN {cursor} {options}"))));
        found.extend(names);
        if next == "0" {
            found.sort();
            return found;
        }
        cursor = next;
    }
}

fn scan_on(server: &Server, options: &str) -> Vec<String> {
    scan(&mut server.connect(), options)
}

#[test]
fn every_lock_is_found_and_nothing_else() {
    let server = Server::start();
    assert_eq!(scan_on(&server, ""), [""; 0]);
    acquire(&server, "leased alice");
    ask(&server, "LOCK.ACQUIRE endless alice NOEXPIRE");
    ask(&server, "LOCK.ACQUIRE shared alice SHARED");
    ask(&server, "LOCK.ACQUIRE shared bob SHARED");
    ask(&server, "LOCK.ACQUIRE cooling alice MINHOLD 60000");
    release(&server, "cooling", "alice");
    let _both = line_up(&server, server.connect(), "LOCK.MACQUIRE both 2 kept leased BLOCK 0");
    ask(&server, "LATCH.SET latch 2");
    set_string(&server, "string");
    let mut other = server.connect();
    other.cmd(&["SELECT", "1"]);
    other.cmd(&words("LOCK.ACQUIRE elsewhere alice"));

    let all = ["cooling", "endless", "kept", "leased", "shared"];
    assert_eq!(scan_on(&server, ""), all);
    assert_eq!(scan_on(&server, "COUNT 1"), all);
    assert_eq!(scan(&mut other, ""), ["elsewhere"]);
    assert_eq!(scan_on(&server, "MATCH *e"), ["kept"; 0]);
    assert_eq!(scan_on(&server, "MATCH *e[dk]*"), ["leased", "shared"]);
    assert_eq!(scan_on(&server, "CONTENDED"), ["kept", "leased"]);
    assert_eq!(scan_on(&server, "OWNER alice"), ["endless", "leased", "shared"]);
    assert_eq!(scan_on(&server, "OWNER both"), ["kept", "leased"]);
    assert_eq!(scan_on(&server, "OWNER bob CONTENDED"), [""; 0]);

    server.cmd(&["DEL", "leased"]);
    wait_until("both to be granted", || scan_on(&server, "CONTENDED").is_empty());
    server.cmd(&["RENAME", "endless", "renamed"]);
    server.cmd(&["SWAPDB", "0", "1"]);
    assert_eq!(scan(&mut other, ""), ["cooling", "kept", "leased", "renamed", "shared"]);
    other.cmd(&["FLUSHDB"]);
    assert_eq!(scan(&mut other, ""), [""; 0]);
    assert_eq!(scan_on(&server, ""), ["elsewhere"]);
}

#[test]
fn whatever_stays_is_found_once_while_others_come_and_go() {
    let server = Server::start();
    let mut conn = server.connect();
    let stays: BTreeSet<String> = (0..300).map(|n| format!("stays-{n}")).collect();
    for name in &stays {
        conn.cmd(&["LOCK.ACQUIRE", name, "alice", "PX", "600000"]);
    }
    // A lock that changes hands in each round is there all the time, too.
    conn.cmd(&words("LOCK.ACQUIRE passed-on alice PX 600000"));
    let (mut found, mut cursor, mut round) = (Vec::new(), "0".to_owned(), 0);
    loop {
        let (next, names) = page(&conn.cmd(&["LOCK.SCAN", &cursor, "COUNT", "5"]));
        found.extend(names);
        if next == "0" {
            break;
        }
        cursor = next;
        // First more and more, so that the index grows, then less.
        for n in 0..100 {
            let (new, old) = (format!("comes-{round}-{n}"), format!("comes-{}-{n}", round - 20));
            if round < 40 {
                conn.cmd(&["LOCK.ACQUIRE", &new, "bob", "PX", "600000"]);
            }
            conn.cmd(&["LOCK.RELEASE", &old, "bob"]);
        }
        let (holder, next_one) = if round % 2 == 0 { ("alice", "bob") } else { ("bob", "alice") };
        assert_eq!(conn.cmd(&["LOCK.TRANSFER", "passed-on", holder, next_one]).int().signum(), 1);
        round += 1;
    }
    assert!(round > 20, "only {round} calls");
    for name in stays.iter().chain(Some(&"passed-on".to_owned())) {
        assert_eq!(found.iter().filter(|found| *found == name).count(), 1, "{name}");
    }
}

#[test]
fn a_few_locks_among_a_million_other_keys_cost_little() {
    let server = Server::start();
    for n in 0..10 {
        acquire(&server, &format!("lock-{n} alice"));
    }
    assert_eq!(server.cmd(&["DEBUG", "POPULATE", "1000000"]), "OK");
    server.cmd(&["CONFIG", "RESETSTAT"]);
    assert_eq!(scan_on(&server, "").len(), 10);
    let stats = server.info("commandstats")["cmdstat_lock.scan"].clone();
    let field =
        |name: &str| stats.split(',').find_map(|field| field.strip_prefix(name)).expect(name).to_owned();
    println!("{stats}");
    assert!(field("usec=").parse::<u64>().expect("a number") < 5_000, "{stats}");
}

#[test]
fn no_more_is_shown_than_the_caller_may_read() {
    let server = Server::start();
    for name in ["mine-1", "mine-2", "yours"] {
        fence_of(&server.cmd(&["LOCK.ACQUIRE", name, "alice"]));
    }
    ask(&server, "ACL SETUSER sam on >pw ~mine-* +lock.scan");
    let mut sam = server.connect();
    sam.cmd(&words("AUTH sam pw"));
    assert_eq!(scan(&mut sam, ""), ["mine-1", "mine-2"]);
    assert_eq!(scan(&mut sam, "OWNER alice MATCH y*"), [""; 0]);
    let _waits = wait_for_lock(&server, "yours", "bob");
    assert_eq!(scan(&mut sam, "CONTENDED"), [""; 0]);
}

#[test]
fn replicas_and_restarted_servers_find_the_same() {
    let (primary, replica) = (Server::start(), Server::start());
    acquire(&primary, "leased alice");
    ask(&primary, "LOCK.ACQUIRE endless alice NOEXPIRE");
    follow(&replica, &primary);
    wait_replica_in_sync(&primary, &replica);
    ask(&primary, "LOCK.ACQUIRE later alice NOEXPIRE");
    acquire(&primary, "gone alice");
    release(&primary, "gone", "alice");
    wait_replica_in_sync(&primary, &replica);
    for server in [&primary, &replica] {
        assert_eq!(scan_on(server, ""), ["endless", "later", "leased"]);
    }
    assert_eq!(primary.cmd(&["DEBUG", "RELOAD"]), "OK");
    assert_eq!(scan_on(&primary, ""), ["endless", "later", "leased"]);
}

#[test]
fn bad_words_are_refused() {
    let server = Server::start();
    for (request, refusal) in [
        ("LOCK.SCAN -1", "BADARG the cursor must be a whole number from 0 to 4294967295"),
        ("LOCK.SCAN 4294967296", "BADARG the cursor must be a whole number from 0 to 4294967295"),
        ("LOCK.SCAN 0 COUNT 0", "BADARG COUNT must be a whole number from 1 to 1000"),
        ("LOCK.SCAN 0 COUNT 1001", "BADARG COUNT must be a whole number from 1 to 1000"),
    ] {
        assert_eq!(ask(&server, request), refusal, "{request}");
    }
    let long = "*".repeat(257);
    assert_eq!(
        server.cmd(&["LOCK.SCAN", "0", "MATCH", &long]),
        "BADARG the pattern must have at most 256 bytes"
    );
    let stars = "*a".repeat(127);
    let name = "a".repeat(1000);
    fence_of(&server.cmd(&["LOCK.ACQUIRE", &name, "alice"]));
    assert_eq!(scan_on(&server, &format!("MATCH {stars}b")), [""; 0]);
    assert_eq!(scan_on(&server, &format!("MATCH {stars}")), [name]);
}
