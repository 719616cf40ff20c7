//! Watches that are disturbed: the key is deleted, moved or overwritten from outside, the client goes away or is sent away,
//! its rights are taken. Nobody watches in vain, and nothing is left of who has gone.

use std::time::Duration;

use crate::onlookers::{user, RIGHT_TAKEN_AWAY};
use crate::steps::{
    acquire, ask, assert_granted, fence_of, in_line, is_modern, observing, release, set_string,
    wait_for_lock, watch, watch_from, words,
};
use crate::support::wait::{let_pass, wait_waiting};
use crate::support::{wait_until, Connection, Server, Value};

const HOLD_ENDED: &str = "NOTHELD the hold has ended; acquire the lock again";
const OVERWRITTEN: &str = "WRONGTYPE the key was overwritten with a value that is not a lock";

/// Alice holds `k`; somebody watches it for each of the four conditions, the last of them as alice.
fn watched() -> (Server, [Connection; 4]) {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    let changed = format!("CHANGED FENCE {fence}");
    let observers = ["FREE", "CHANGED", &changed, "alice WANTED"]
        .map(|what| watch(&server, &format!("LOCK.AWAIT k {what} BLOCK 0")));
    (server, observers)
}

#[test]
fn a_lock_that_is_gone_is_free_and_has_changed() {
    for line in [
        "DEL k",
        "UNLINK k",
        "FLUSHALL",
        "FLUSHALL ASYNC",
        "FLUSHDB",
        "RENAME k elsewhere",
        "MOVE k 5",
        "SWAPDB 0 5",
        "PEXPIREAT k 1000",
        "MULTI|DEL k|EXEC",
        "EVAL return(redis.call('DEL',KEYS[1])) 1 k",
    ] {
        let (server, [mut free, mut changed, mut ended, mut alice]) = watched();
        for command in line.split('|') {
            assert!(!matches!(ask(&server, command), Value::Error(_)), "{line}");
        }
        for observer in [&mut free, &mut changed, &mut ended] {
            assert_eq!(observer.read(), 1, "{line}");
        }
        assert_eq!(alice.read(), HOLD_ENDED, "{line}");
        assert_eq!(observing(&server), 0);
    }
}

#[test]
fn a_lock_that_is_deleted_and_handed_on_was_not_free() {
    let (server, [mut free, mut changed, mut ended, mut alice]) = watched();
    let mut bob = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
    assert_eq!(alice.read(), 1, "bob wants it");
    assert_eq!(ask(&server, "DEL k"), 1);
    assert_granted(&server, &mut bob, "k", "bob");
    assert_eq!(changed.read(), 1);
    assert_eq!(ended.read(), 1);
    free.expect_nothing_pending();
    release(&server, "k", "bob");
    assert_eq!(free.read(), 1);
}

#[test]
fn a_lock_that_comes_from_elsewhere_is_a_change() {
    for line in ["RENAME l k", "SWAPDB 0 5"] {
        let server = Server::start();
        acquire(&server, "l alice");
        fence_of(&server.connect().select(5).cmd(&words("LOCK.ACQUIRE k alice")));
        let mut changed = watch(&server, "LOCK.AWAIT k CHANGED BLOCK 0");
        assert_eq!(ask(&server, line), "OK");
        assert_eq!(changed.read(), 1, "{line}");
    }
    let server = Server::start();
    acquire(&server, "k alice");
    let Value::Bulk(dump) = ask(&server, "DUMP k") else { panic!("no dump") };
    release(&server, "k", "alice");
    let mut changed = watch(&server, "LOCK.AWAIT k CHANGED BLOCK 0");
    assert_eq!(server.cmd(&[&b"RESTORE"[..], &b"k"[..], b"0", &dump]), "OK");
    assert_eq!(changed.read(), 1);
}

#[test]
fn other_databases_are_other_locks() {
    let (server, mut observers) = watched();
    let mut in_5 = server.connect().select(5);
    let mut free = watch_from(&server, in_5_with_hold(&server), "LOCK.AWAIT k FREE BLOCK 0");
    assert_eq!(in_5.cmd(&words("LOCK.RELEASE k alice")), 1);
    assert_eq!(free.read(), 1);
    assert_eq!(in_5.cmd(&words("FLUSHDB")), "OK");
    observers.iter_mut().for_each(Connection::expect_nothing_pending);
    assert_eq!(observing(&server), 4);
}

/// A connection to the database 5, where alice holds `k`.
fn in_5_with_hold(server: &Server) -> Connection {
    let mut conn = server.connect().select(5);
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice")));
    conn
}

#[test]
fn what_leaves_the_lock_there_is_nothing_to_those_who_watch() {
    let (server, mut observers) = watched();
    ask(&server, "SET text v");
    for line in ["PERSIST k", "EXPIRE k 1000", "DEBUG RELOAD", "RENAMENX text k", "FLUSHDB ASYNC"] {
        let conn = &mut server.connect();
        let conn = if line.starts_with("FLUSH") { &mut server.connect().select(5) } else { conn };
        assert!(!matches!(conn.cmd(&words(line)), Value::Error(_)), "{line}");
    }
    let_pass(Duration::from_millis(200));
    assert_eq!(observing(&server), 4);
    observers.iter_mut().for_each(Connection::expect_nothing_pending);
}

#[test]
fn when_another_type_stands_there_all_watches_end() {
    for line in ["SET k v", "RENAME text k", "SUNIONSTORE k members", "MULTI|DEL k|RPUSH k v|EXEC"] {
        let (server, observers) = watched();
        set_string(&server, "text");
        ask(&server, "SADD members a");
        for command in line.split('|') {
            assert!(!matches!(ask(&server, command), Value::Error(_)), "{line}");
        }
        for mut observer in observers {
            assert_eq!(observer.read(), OVERWRITTEN, "{line}");
        }
        assert_eq!(observing(&server), 0);
    }
}

#[test]
fn data_that_somebody_puts_where_nothing_was_end_a_watch_too() {
    let server = Server::start();
    let mut changed = watch(&server, "LOCK.AWAIT k CHANGED BLOCK 0");
    set_string(&server, "k");
    assert_eq!(changed.read(), OVERWRITTEN);
}

#[test]
fn of_those_who_have_gone_nothing_is_left() {
    let (server, [mut killed, hangs_up, mut stays, alice]) = watched();
    let mut doomed = server.connect();
    let id = doomed.id().to_string();
    let mut doomed = watch_from(&server, doomed, "LOCK.AWAIT k FREE BLOCK 60000");
    assert_eq!(server.cmd(&["CLIENT", "KILL", "ID", &id]), 1);
    doomed.expect_closed();
    drop(hangs_up);
    drop(alice);
    wait_until("two to be left", || observing(&server) == 2);
    // In the packet that frees the lock, too.
    let mut late = server.connect();
    let late_id = late.id().to_string();
    let mut late = watch_from(&server, late, "LOCK.AWAIT k FREE BLOCK 0");
    let mut conn = server.connect();
    conn.send_together(&[&words("LOCK.RELEASE k alice"), &["CLIENT", "KILL", "ID", &late_id]]);
    assert_eq!(conn.read(), 1);
    assert_eq!(conn.read(), 1);
    late.expect_closed();
    assert_eq!(killed.read(), 1);
    assert_eq!(stays.read(), 1);
    assert_eq!(observing(&server), 0);
    wait_until("their clients to be gone", || server.info_int("clients", "blocked_clients") == 0);
}

#[test]
fn unblocked_by_an_operator() {
    let server = Server::start();
    acquire(&server, "k alice");
    for (form, reply) in [
        ("TIMEOUT", Value::Nil),
        ("ERROR", Value::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK".into())),
    ] {
        let mut conn = server.connect();
        let id = conn.id().to_string();
        let mut conn = watch_from(&server, conn, "LOCK.AWAIT k FREE BLOCK 0");
        let done = server.cmd(&["CLIENT", "UNBLOCK", &id, form]).int();
        assert_eq!(done, i64::from(is_modern(&server)));
        if done == 1 {
            assert_eq!(conn.read(), reply);
            assert_eq!(conn.cmd(&["PING"]), "PONG");
        } else {
            conn.expect_nothing_pending();
        }
        drop(conn);
        wait_until("nobody to watch", || observing(&server) == 0);
    }
}

#[test]
fn who_may_not_read_the_lock_any_more_is_told_nothing() {
    let server = Server::start();
    for (change, reply) in [
        ("-lock.await", Value::Error(RIGHT_TAKEN_AWAY.into())),
        ("resetkeys", Value::Error(RIGHT_TAKEN_AWAY.into())),
        ("resetkeys %R~k", Value::Int(1)),
        ("resetkeys ~k -lock.acquire", Value::Int(1)),
    ] {
        acquire(&server, "k alice");
        let mut observer = watch_from(&server, user(&server, "~* +@all"), "LOCK.AWAIT k FREE BLOCK 0");
        assert_eq!(ask(&server, &format!("ACL SETUSER temp {change}")), "OK");
        observer.expect_nothing_pending();
        release(&server, "k", "alice");
        assert_eq!(observer.read(), reply, "{change}");
    }
}

#[test]
fn during_a_pause_watches_end_on_time_and_the_rest_comes_after_it() {
    let server = Server::start();
    acquire(&server, "k alice PX 300");
    let mut free = watch(&server, "LOCK.AWAIT k FREE BLOCK 0");
    let mut timed = watch(&server, "LOCK.AWAIT k FREE BLOCK 1000");
    let mut changed = watch(&server, "LOCK.AWAIT k CHANGED BLOCK 0");
    let mut bob = wait_for_lock(&server, "k", "bob");
    assert_eq!(ask(&server, "CLIENT PAUSE 20000 WRITE"), "OK");
    assert_eq!(timed.read(), Value::Nil);
    wait_waiting(&server, "k", 1);
    // Its lease is over, and bob only cannot be given it yet.
    assert_eq!(changed.read(), 1);
    assert_eq!(ask(&server, "LOCK.CHECK k alice"), 0);
    assert_eq!(ask(&server, "LOCK.AWAIT k FREE"), Value::Nil);
    free.expect_nothing_pending();
    assert_eq!(ask(&server, "CLIENT UNPAUSE"), "OK");
    assert_granted(&server, &mut bob, "k", "bob");
    free.expect_nothing_pending();
    release(&server, "k", "bob");
    assert_eq!(free.read(), 1);
}
