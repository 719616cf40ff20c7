//! What the module does not hear of while nobody uses it, and while locks are at rest: whatever happens then is known when it
//! matters, and nothing of it is lost.

use std::time::Instant;

use crate::load_aside::{fall_behind, is_serving_while_it_loads};
use crate::steps::{acquire, acquire_by, ask, digest, holder, words};
use crate::support::wait::wait_replica_in_sync;
use crate::support::{wait_until, Connection, ReplicaStream, Server, Stop, Value};
use crate::traffic::{follow, left, lock_stat, replica_of, wait_no_child, wait_same_data};

/// Kinds of events that are heard while the module is in use, and while locks are at rest.
const IN_USE: i64 = 9;
const AT_REST: i64 = 3;

fn heard(server: &Server) -> i64 {
    lock_stat(server, "server_events")
}

fn wait_heard(server: &Server, events: i64) {
    wait_until(&format!("{events} events to be heard"), || heard(server) == events);
}

/// A server whose one lock `k` is at rest.
fn rested() -> Server {
    let server = Server::start();
    acquire(&server, "k o PX 600000");
    wait_heard(&server, AT_REST);
    server
}

/// Holds `k` from a connection of its own, closes it, and waits for the end of the hold.
fn tie_and_close(server: &Server) {
    let mut conn = server.connect();
    acquire_by(&mut conn, "k tied NOEXPIRE TIED 0");
    drop(conn);
    wait_until("the tie to end", || ask(server, "EXISTS k") == 0);
}

#[test]
fn nothing_is_heard_before_the_first_lock_and_little_at_rest() {
    let server = Server::start();
    assert_eq!(heard(&server), 0);
    acquire(&server, "k o PX 600000");
    assert_eq!(heard(&server), IN_USE);
    wait_heard(&server, AT_REST);
    assert!(left(&server, "k", "o") > 0);
    assert_eq!(heard(&server), IN_USE);
    assert_eq!(ask(&server, "LOCK.RELEASE k o"), 1);
    wait_heard(&server, 0);
    // While somebody waits everything is heard.
    acquire(&server, "k o NOEXPIRE");
    wait_heard(&server, AT_REST);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k p QUEUE 4000"), Value::Nil);
    wait_until("the ticket to end", || {
        let info = server.info("modules");
        let (waiting, events) = (&info["lock_waiting"], &info["lock_server_events"]);
        assert!(waiting == "0" || *events == IN_USE.to_string(), "{waiting} wait, {events} events are heard");
        waiting == "0"
    });
    wait_heard(&server, AT_REST);
}

#[test]
fn a_lease_ends_in_time_though_all_are_at_rest() {
    let server = Server::start();
    let start = Instant::now();
    acquire(&server, "k o PX 8000");
    wait_heard(&server, AT_REST);
    wait_until("the lease to end", || ask(&server, "EXISTS k") == 0);
    assert!((8_000..11_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(lock_stat(&server, "expired"), 1);
    // It is remembered that it ran out, until all data go.
    wait_heard(&server, AT_REST);
    assert_eq!(ask(&server, "LOCK.RELEASE k o WITHINFO").field("reason").text(), "expired");
}

#[test]
fn data_that_are_emptied_at_rest_are_forgotten() {
    let server = rested();
    assert_eq!(ask(&server, "FLUSHALL"), "OK");
    wait_until("the index to be empty", || lock_stat(&server, "lease_index_entries") == 0);
    acquire(&server, "k o PX 600000");
    assert_eq!(ask(&server, "DEL k"), 1);
    wait_heard(&server, AT_REST);
    assert_eq!(ask(&server, "FLUSHALL"), "OK");
    assert_ne!(ask(&server, "LOCK.RELEASE k o WITHINFO").field("reason").text(), "deleted");
}

#[test]
fn databases_that_are_swapped_at_rest_keep_their_leases() {
    let server = Server::start();
    acquire(&server, "k o PX 8000");
    wait_heard(&server, AT_REST);
    assert_eq!(ask(&server, "SWAPDB 0 1"), "OK");
    let mut other = server.connect().select(1);
    assert_eq!(other.cmd(&["EXISTS", "k"]), 1);
    wait_until("the lease to end", || other.cmd(&["EXISTS", "k"]) == 0);
    assert_eq!(lock_stat(&server, "expired"), 1);
}

#[test]
fn a_lock_that_is_renamed_at_rest_ends_under_its_new_name() {
    let server = Server::start();
    acquire(&server, "k o PX 8000");
    wait_heard(&server, AT_REST);
    assert_eq!(ask(&server, "RENAME k l"), "OK");
    assert_eq!(heard(&server), IN_USE);
    assert_eq!(ask(&server, "EXISTS l"), 1);
    wait_until("the lease to end", || ask(&server, "EXISTS l") == 0);
    assert_eq!(lock_stat(&server, "lease_index_entries"), 0);
}

#[test]
fn a_role_that_changes_unheard_is_known_to_the_next_command() {
    for server in [Server::start(), rested()] {
        assert_eq!(ask(&server, "CONFIG SET replica-read-only no"), "OK");
        let mut conn = server.connect();
        conn.send_together(&[&words("REPLICAOF 127.0.0.1 1"), &words("LOCK.ACQUIRE free o")]);
        assert_eq!(conn.read(), "OK");
        let reply = conn.read();
        assert!(reply.error().starts_with("READONLY "), "{reply:?}");
        conn.send_together(&[&words("REPLICAOF NO ONE"), &words("LOCK.ACQUIRE free o")]);
        assert_eq!(conn.read(), "OK");
        assert!(conn.read().int() > 0);
    }
}

#[test]
fn a_primary_at_rest_finds_out_that_it_is_a_replica_and_again_a_primary() {
    let server = Server::start();
    acquire(&server, "k o PX 8000");
    wait_heard(&server, AT_REST);
    assert_eq!(ask(&server, "REPLICAOF 127.0.0.1 1"), "OK");
    wait_heard(&server, IN_USE);
    assert_eq!(ask(&server, "REPLICAOF NO ONE"), "OK");
    wait_until("the lease to end", || ask(&server, "EXISTS k") == 0);
}

#[test]
fn a_reader_that_comes_unheard_misses_nothing() {
    for server in [Server::start(), rested()] {
        let mut stream = ReplicaStream::attach(&server);
        acquire(&server, "new o");
        assert_eq!(stream.collect(&server).len(), 1);
    }
    for server in [Server::start(), rested()] {
        for on in ["CONFIG SET appendonly yes", "BGREWRITEAOF"] {
            let mut conn = server.connect();
            conn.send_together(&[&words(on), &["LOCK.ACQUIRE", on, "o"]]);
            conn.read().text();
            assert!(conn.read().int() > 0);
            wait_no_child(&server);
            let before = digest(&server);
            assert_eq!(ask(&server, "DEBUG LOADAOF"), "OK");
            assert_eq!(digest(&server), before, "after {on}");
            // A load is a use of the module.
            wait_heard(&server, AT_REST);
        }
    }
}

#[test]
fn a_replica_that_comes_unheard_has_what_the_first_command_did() {
    for primary in [Server::start(), rested()] {
        let replica = Server::start();
        // Its snapshot is being made when the first command comes.
        assert_eq!(ask(&primary, "CONFIG SET rdb-key-save-delay 100000"), "OK");
        replica_of(&replica, &primary);
        wait_until("the replica to be seen", || primary.info_int("replication", "connected_slaves") == 1);
        acquire(&primary, "new o NOEXPIRE");
        assert_eq!(ask(&primary, "CONFIG SET rdb-key-save-delay 0"), "OK");
        wait_replica_in_sync(&primary, &replica);
        wait_same_data(&primary, &replica);
        assert_eq!(left(&replica, "new", "o"), -1);
    }
}

#[test]
fn the_first_tie_after_a_load_and_after_a_promotion_is_heard_to_end() {
    let mut server = Server::start();
    acquire(&server, "l o PX 600000");
    let mut conn = server.connect();
    acquire_by(&mut conn, "old o NOEXPIRE TIED 0");
    server.restart(Stop::Save);
    // Whose connection is not here ends.
    wait_until("the loaded tie to end", || ask(&server, "EXISTS old") == 0);
    tie_and_close(&server);

    server.restart(Stop::Save);
    tie_and_close(&server);

    let replica = Server::start();
    follow(&replica, &server);
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    tie_and_close(&replica);
    wait_heard(&replica, AT_REST);
    tie_and_close(&replica);
}

#[test]
fn a_tie_is_heard_to_end_after_no_more_was_heard_of_clients() {
    let server = Server::start();
    for _ in 0..2 {
        tie_and_close(&server);
        // What ended is remembered.
        wait_heard(&server, AT_REST);
    }
    let mut conn: Connection = server.connect();
    acquire_by(&mut conn, "k o NOEXPIRE TIED 0");
    assert_eq!(heard(&server), IN_USE + 1);
    assert_eq!(holder(&server, "k").as_deref(), Some("o"));
}

/// A server that will load aside what a primary sends.
fn loads_aside(more: &str) -> Server {
    let interval = "loading-process-events-interval-bytes 1024";
    Server::with(&["repl-diskless-load swapdb", "repl-timeout 5", interval, more])
}

#[test]
fn what_is_loaded_aside_unheard_has_an_index_of_its_own() {
    for has_lock in [true, false] {
        let primary =
            Server::with(&["repl-diskless-sync yes", "repl-backlog-size 16kb", "rdbcompression no"]);
        if has_lock {
            acquire(&primary, "old o PX 600000");
        }
        let from_start = format!("replicaof 127.0.0.1 {}", primary.port());
        // It is told whose replica it is when it starts, or becomes one unheard.
        let replica = loads_aside(if has_lock { &from_start } else { "" });
        if has_lock {
            wait_replica_in_sync(&primary, &replica);
        } else {
            follow(&replica, &primary);
            // In every snapshot of Redis 7.0 is something of the module's.
            assert_eq!(heard(&replica), if replica.version() < (7, 2, 0) { IN_USE } else { 0 });
        }
        wait_same_data(&primary, &replica);
        fall_behind(&primary, &replica, || {
            let mut conn = primary.connect();
            for n in 0..800 {
                acquire_by(&mut conn, &format!("lock-{n} o PX 600000 NOTE {}", "n".repeat(250)));
            }
            acquire_by(&mut conn, "short o PX 6000");
        });
        wait_until("the replica to load and to serve", || is_serving_while_it_loads(&replica));
        let old = i64::from(has_lock);
        assert_eq!(["held", "lease_index_entries"].map(|name| lock_stat(&replica, name)), [old, old]);
        assert_eq!(left(&replica, "lock-1", "o"), 0);
        assert_eq!(left(&replica, "old", "o") > 0, has_lock);
        wait_same_data(&primary, &replica);
        assert!(replica.log().contains("Swapping active DB with loaded DB"));
        assert_eq!(lock_stat(&replica, "lease_index_entries"), 801 + old);
        assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
        wait_until("the short lease to end", || ask(&replica, "EXISTS short") == 0);
        assert_eq!(lock_stat(&replica, "lease_index_entries"), 800 + old);
    }
}
