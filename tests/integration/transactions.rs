//! Locks in steps of several commands, where time goes by or the step is long: WATCH, scripts and functions. The rest is
//! `tests/cases/transactions.md`.

use crate::onlookers::goes_through;
use crate::steps::{acquire, ask, assert_holds, fence_of, granted, wait_for_lock, waiting, words};
use crate::support::{wait_until, Connection, Server, Value};

#[test]
fn watch_sees_the_end_of_a_lease() {
    let server = Server::start();
    let server = &server;
    acquire(server, "k alice PX 300");
    let end = || wait_until("the lease to end", || ask(server, "EXISTS k") == 0);
    assert!(!goes_through(server, end), "the end of a lease");

    acquire(server, "k alice PX 500");
    let mut waiter = wait_for_lock(server, "k", "bob");
    assert!(!goes_through(server, || fence_of(&waiter.read())), "a hand-off at the end of a lease");
}

#[test]
fn watch_does_not_see_a_client_that_waits_and_leaves() {
    let server = Server::start();
    let server = &server;
    acquire(server, "k alice");
    let wait_and_leave = || {
        let mut waiter = wait_for_lock(server, "k", "bob");
        let id = ask(server, "CLIENT LIST").text();
        assert!(id.contains("cmd=lock.acquire"), "{id}");
        waiter.expect_nothing_pending();
        drop(waiter);
        wait_until("the waiter to leave", || waiting(server, "k") == 0);
    };
    assert!(goes_through(server, wait_and_leave), "a wait");
}

/// Takes the counter one up if the owner holds the lock.
const GUARDED: &str = "
    if redis.call('LOCK.CHECK', KEYS[1], ARGV[1], 'FENCE', ARGV[2]) == 0 then return redis.error_reply('NOTHELD the lock is lost') end
    return redis.call('INCR', KEYS[2])";

fn guarded(conn: &mut Connection, owner: &str, fence: i64) -> Value {
    conn.cmd(&["EVAL", GUARDED, "2", "k", "counter", owner, &fence.to_string()])
}

#[test]
fn a_script_guards_its_writes() {
    let server = Server::start();
    let mut conn = server.connect();
    let old = fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice PX 500")));
    assert_eq!(guarded(&mut conn, "alice", old), 1);
    assert_eq!(guarded(&mut conn, "bob", old), "NOTHELD the lock is lost");
    let mut bob = wait_for_lock(&server, "k", "bob");
    let new = fence_of(&bob.read());
    // Alice does not know yet that her time is up. Her write comes late and does no harm.
    assert_eq!(guarded(&mut conn, "alice", old), "NOTHELD the lock is lost");
    assert_eq!(guarded(&mut conn, "bob", old), "NOTHELD the lock is lost");
    assert_eq!(guarded(&mut conn, "bob", new), 2);
    assert_eq!(server.cmd(&["GET", "counter"]), "2");
}

#[test]
fn functions_are_like_scripts() {
    let server = Server::start();
    let library = "#!lua name=locks
        redis.register_function('take', function(keys, args)
            return redis.call('LOCK.ACQUIRE', keys[1], args[1], 'BLOCK', '0')
        end)
        redis.register_function{function_name='look', flags={'no-writes'}, callback=function(keys, args)
            return redis.call('LOCK.CHECK', keys[1], args[1])
        end}";
    assert_eq!(server.cmd(&["FUNCTION", "LOAD", library]), "locks");
    let fence = granted(&server, "FCALL take 1 k alice");
    assert_holds(&server, "k", "alice", fence);
    assert_eq!(ask(&server, "FCALL take 1 k bob"), Value::Nil, "nobody waits in a function");
    assert!(ask(&server, "FCALL_RO look 1 k alice").int() > 0);
    assert_eq!(ask(&server, "FCALL_RO look 1 k bob"), 0);
}
