//! Locks in steps of several commands: MULTI and EXEC, WATCH, scripts and functions. Nothing waits inside such a step, and
//! nobody comes between a check and the writes that it guards.

use crate::onlookers::goes_through;
use crate::steps::{
    assert_granted, assert_holds, eval, fence_of, hold, release, transaction, wait_for_lock, waiting, words,
};
use crate::support::{wait_until, Connection, Server, Value};

#[test]
fn a_transaction_is_one_step_for_those_who_wait() {
    let server = Server::start();
    let first = hold(&server, "k", "alice");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    // Given back and taken again inside: bob was in line and has it before the next command of the transaction.
    let replies = transaction(
        &mut server.connect(),
        &[&words("LOCK.RELEASE k alice"), &words("LOCK.ACQUIRE k alice"), &words("LOCK.INFO k")],
    );
    assert_eq!(replies[0], 1);
    assert_eq!(replies[1], Value::Nil);
    assert_eq!(replies[2].field("holds").items()[0].field("owner"), &"bob");
    let fence = assert_granted(&server, &mut waiter, "k", "bob");
    assert!(fence > first);
}

#[test]
fn a_discarded_transaction_takes_nothing() {
    let server = Server::start();
    let mut conn = server.connect();
    assert_eq!(conn.cmd(&["MULTI"]), "OK");
    assert_eq!(conn.cmd(&words("LOCK.ACQUIRE k alice")), "QUEUED");
    assert_eq!(conn.cmd(&["DISCARD"]), "OK");
    assert_eq!(server.cmd(&["EXISTS", "k"]), 0);
    // A word that cannot be right is refused when it is queued, and the whole with it.
    assert_eq!(conn.cmd(&["MULTI"]), "OK");
    assert_eq!(conn.cmd(&words("LOCK.ACQUIRE k alice")), "QUEUED");
    assert!(matches!(conn.cmd(&words("LOCK.ACQUIRE k")), Value::Error(_)));
    assert!(conn.cmd(&["EXEC"]).error().starts_with("EXECABORT "));
    assert_eq!(server.cmd(&["EXISTS", "k"]), 0);
}

#[test]
fn a_refusal_inside_stands_alone() {
    let server = Server::start();
    let replies = transaction(
        &mut server.connect(),
        &[
            &words("LOCK.ACQUIRE k alice PX nonsense"),
            &words("LOCK.ACQUIRE k alice"),
            &words("LOCK.CHECK k alice"),
        ],
    );
    assert!(replies[0].error().starts_with("BADARG "));
    assert_holds(&server, "k", "alice", fence_of(&replies[1]));
    assert!(replies[2].int() > 0);
}

#[test]
fn watch_sees_each_change_of_the_holder() {
    let server = Server::start();
    let server = &server;
    let ask = |line: &str| server.cmd(&words(line));
    assert!(!goes_through(server, || hold(server, "k", "alice")), "a grant");
    assert!(!goes_through(server, || release(server, "k", "alice")), "a release");

    hold(server, "k", "alice");
    let _waiter = wait_for_lock(server, "k", "bob");
    assert!(!goes_through(server, || release(server, "k", "alice")), "a hand-off");

    assert!(!goes_through(server, || assert_eq!(ask("DEL k"), 1)), "a deletion");
    hold(server, "k", "alice");
    let mut waiter = wait_for_lock(server, "k", "bob");
    let hand_off = || {
        assert_eq!(ask("DEL k"), 1);
        fence_of(&waiter.read());
    };
    assert!(!goes_through(server, hand_off), "a deletion and a hand-off");
    release(server, "k", "bob");

    fence_of(&ask("LOCK.ACQUIRE k alice PX 300"));
    let end = || wait_until("the lease to end", || ask("EXISTS k") == 0);
    assert!(!goes_through(server, end), "the end of a lease");

    fence_of(&ask("LOCK.ACQUIRE k alice PX 500"));
    let mut waiter = wait_for_lock(server, "k", "bob");
    assert!(!goes_through(server, || fence_of(&waiter.read())), "a hand-off at the end of a lease");

    // Back to the same holder is not the same hold.
    let again = || {
        release(server, "k", "bob");
        hold(server, "k", "bob");
    };
    assert!(!goes_through(server, again), "a release and a grant");
}

#[test]
fn watch_does_not_see_what_leaves_the_holder_in_place() {
    let server = Server::start();
    let server = &server;
    let ask = |line: &str| server.cmd(&words(line));
    assert!(goes_through(server, || assert_eq!(ask("LOCK.RELEASE k alice"), 0)), "nothing to release");
    let fence = hold(server, "k", "alice");
    assert!(goes_through(server, || assert_eq!(ask("LOCK.RENEW k alice PX 50000"), 50_000)), "a renewal");
    assert!(goes_through(server, || assert_eq!(ask("LOCK.RENEW k alice PX 40000"), 40_000)), "a cut");
    let raise = || assert_eq!(ask("LOCK.ACQUIRE k alice PX 60000"), fence);
    assert!(goes_through(server, raise), "the same owner again");
    assert!(goes_through(server, || assert_eq!(ask("LOCK.ACQUIRE k bob"), Value::Nil)), "a try");
    assert!(goes_through(server, || assert_eq!(ask("LOCK.RELEASE k bob"), 0)), "another's release");
    assert!(goes_through(server, || ask("LOCK.CHECK k alice")), "a look");
    assert!(goes_through(server, || ask("LOCK.INFO k")), "a look");
    assert!(goes_through(server, || hold(server, "other", "bob")), "another lock");
    let wait_and_leave = || {
        let mut waiter = wait_for_lock(server, "k", "bob");
        let id = ask("CLIENT LIST").text();
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
fn a_fence_is_whole_in_a_script() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    let script = "
        local fence = redis.call('LOCK.ACQUIRE', KEYS[1], 'alice')
        return {fence, string.format('%.0f', fence), redis.call('LOCK.CHECK', KEYS[1], 'alice', 'FENCE',
            string.format('%.0f', fence)) > 0 and 1 or 0}";
    let reply = eval(&server, script, &["k"]);
    let expected = [Value::Int(fence), Value::bulk(fence.to_string()), Value::Int(1)];
    assert_eq!(reply, Value::Array(expected.to_vec()));
}

#[test]
fn a_script_takes_and_gives_back_within_its_step() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    let script = "
        local released = redis.call('LOCK.RELEASE', KEYS[1], 'alice')
        local again = redis.call('LOCK.ACQUIRE', KEYS[1], 'alice', 'BLOCK', '0')
        local report = redis.call('LOCK.ACQUIRE', KEYS[1], 'alice', 'WITHINFO')
        return {released, tostring(again), report[8], report[12]}";
    let reply = eval(&server, script, &["k"]);
    let expected = [Value::Int(1), Value::bulk("false"), Value::bulk("held"), Value::bulk("bob")];
    assert_eq!(reply, Value::Array(expected.to_vec()));
    assert_granted(&server, &mut waiter, "k", "bob");
}

#[test]
fn an_error_comes_through_a_script_with_its_code() {
    let server = Server::start();
    server.cmd(&words("SET text value"));
    let script = "return redis.pcall('LOCK.ACQUIRE', KEYS[1], 'alice', 'PX', '0')";
    let text = "BADARG PX must be a whole number from 1 to 604800000";
    assert_eq!(eval(&server, script, &["k"]), text);
    let script = "return redis.pcall('LOCK.ACQUIRE', KEYS[1], 'alice').err";
    assert!(eval(&server, script, &["text"]).text().starts_with("WRONGTYPE "));
}

#[test]
fn a_script_that_may_only_read_takes_no_lock() {
    let server = Server::start();
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'alice')";
    assert!(matches!(server.cmd(&["EVAL_RO", script, "1", "k"]), Value::Error(_)));
    assert_eq!(server.cmd(&["EXISTS", "k"]), 0);
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
    let fence = fence_of(&server.cmd(&words("FCALL take 1 k alice")));
    assert_holds(&server, "k", "alice", fence);
    assert_eq!(server.cmd(&words("FCALL take 1 k bob")), Value::Nil, "nobody waits in a function");
    assert!(server.cmd(&words("FCALL_RO look 1 k alice")).int() > 0);
    assert_eq!(server.cmd(&words("FCALL_RO look 1 k bob")), 0);
}
