//! LOCK.GUARD: a command that runs only while a lock is held, so that whoever has lost it without noticing does no
//! harm.

mod counting;
mod rights;

use crate::cluster::single;
use crate::steps::{
    acquire, ask, assert_changes_nothing, digest, eval, is_modern, release, transaction, words,
};
use crate::support::{assert_stream, ReplicaStream, Server, Stop, Value};

/// LOCK.GUARD with these words.
fn guard(server: &Server, line: &str) -> Value {
    ask(server, &format!("LOCK.GUARD {line}"))
}

#[test]
fn the_holder_gets_the_reply_of_the_command() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    assert_eq!(guard(&server, &format!("k alice {fence} SET x 1")), "OK");
    assert_eq!(guard(&server, "k alice * incr x"), 2);
    assert_eq!(guard(&server, "k alice * GET x"), "2");
    assert_eq!(guard(&server, "k alice * GET nothing"), Value::Nil);
    assert_eq!(guard(&server, "k alice * RPUSH l a b"), 2);
    assert_eq!(guard(&server, "k alice * LRANGE l 0 -1").items().len(), 2);
    let mut conn = server.connect().hello3();
    assert_eq!(conn.cmd(&words("HSET h f v")), 1);
    assert!(matches!(conn.cmd(&words("LOCK.GUARD k alice * HGETALL h")), Value::Map(_)));
}

#[test]
fn nobody_else_gets_anything_done() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    assert_changes_nothing(&server, || {
        let refused = |line: &str, code: &str| {
            let reply = guard(&server, line);
            assert!(reply.error().starts_with(code), "{line}: {reply:?}");
        };
        refused(&format!("k bob {fence} SET x 1"), "NOTHELD ");
        refused("k bob * SET x 1", "NOTHELD ");
        refused("free alice * SET x 1", "NOTHELD ");
        refused(&format!("k alice {} SET x 1", fence - 1), "STALEFENCE ");
        refused(&format!("k alice {} SET x 1", fence + 1), "STALEFENCE ");
        refused("k alice 0 SET x 1", "BADARG ");
        refused("k alice x SET x 1", "BADARG ");
        refused("k alice *", "ERR wrong number");
        refused("k alice * LOCK.GUARD k alice * SET x 1", "BADARG ");
        for blocking in ["BLPOP l 0", "brpop l 0", "BZPOPMIN z 0", "XREAD BLOCK 0 STREAMS s $"] {
            refused(&format!("k alice * {blocking}"), "BADARG ");
        }
        for idle in ["SELECT 1", "select 0", "READONLY", "READWRITE", "ASKING"] {
            refused(&format!("k alice * {idle}"), "BADARG ");
        }
        for unfit in ["WAIT 1 0", "MULTI", "SUBSCRIBE c", "WATCH x", "NOSUCHCOMMAND x", "SET x", "GET"] {
            assert!(matches!(guard(&server, &format!("k alice * {unfit}")), Value::Error(_)), "{unfit}");
        }
    });
    assert!(guard(&server, &format!("k alice {} GET x", fence - 1)).error().contains(&fence.to_string()));
    assert_eq!(server.cmd(&["EXISTS", "x"]), 0);
    assert_eq!(ask(&server, "SET text value"), "OK");
    assert!(guard(&server, "text alice * SET x 1").error().starts_with("WRONGTYPE "));
}

#[test]
fn a_hold_that_is_over_guards_nothing_swept_or_not() {
    let server = Server::start();
    let replies = transaction(
        &mut server.connect(),
        &[
            &words("LOCK.ACQUIRE k alice PX 5"),
            &words("LOCK.GUARD k alice * SET x 1"),
            &words("DEBUG SLEEP 0.02"),
            &words("LOCK.GUARD k alice * SET x 2"),
        ],
    );
    assert_eq!(replies[1], "OK");
    assert!(replies[3].error().starts_with("NOTHELD "), "{:?}", replies[3]);
    assert_eq!(server.cmd(&["GET", "x"]), "1");
}

#[test]
fn shared_holds_and_permits_guard_too() {
    let server = Server::start();
    ask(&server, "LOCK.ACQUIRE r a SHARED");
    ask(&server, "LOCK.ACQUIRE r b SHARED");
    ask(&server, "LOCK.ACQUIRE s c LIMIT 3");
    for holder in ["r a", "r b", "s c"] {
        assert!(guard(&server, &format!("{holder} * INCR x")).int() > 0);
    }
    assert!(guard(&server, "s a * INCR x").error().starts_with("NOTHELD "));
}

#[test]
fn it_stands_in_transactions_and_scripts() {
    let server = Server::start();
    acquire(&server, "k alice");
    let replies = transaction(
        &mut server.connect(),
        &[
            &words("LOCK.GUARD k alice * INCR x"),
            &words("LOCK.RELEASE k alice"),
            &words("LOCK.GUARD k alice * INCR x"),
        ],
    );
    assert_eq!((&replies[0], &replies[1]), (&Value::Int(1), &Value::Int(1)));
    assert!(replies[2].error().starts_with("NOTHELD "));
    acquire(&server, "k alice");
    let script = "return redis.call('LOCK.GUARD', KEYS[1], 'alice', '*', 'INCR', KEYS[2])";
    assert_eq!(eval(&server, script, &["k", "x"]), 2);
    release(&server, "k", "alice");
    assert!(eval(&server, script, &["k", "x"]).error().contains("NOTHELD "));
    assert_eq!(server.cmd(&["GET", "x"]), "2");
}

#[test]
fn only_the_commands_own_effects_are_replicated() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always"]);
    acquire(&server, "k alice");
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(guard(&server, "k alice * SET x 1 EX 1000 NX"), "OK");
    assert_eq!(guard(&server, "k alice * GET x"), "1");
    assert!(matches!(guard(&server, "k bob * SET x 2"), Value::Error(_)));
    assert_eq!(guard(&server, "k alice * LOCK.RELEASE k alice"), 1);
    let seen = stream.collect(&server);
    // Newer servers say the end of life in milliseconds of the clock.
    let [set, free] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(set[..3], ["SET", "x", "1"]);
    assert_stream(std::slice::from_ref(free), &[&["LOCK._FREE", "k", "<fence>"]]);
    let before = digest(&server);
    server.restart(Stop::Kill);
    assert_eq!(digest(&server), before);
}

#[test]
fn the_inner_command_has_the_rights_of_the_caller() {
    let server = Server::start();
    acquire(&server, "k alice");
    let rules = "ACL SETUSER app on nopass resetkeys ~k ~mine:* -@all +lock.guard +set +get +auth";
    assert_eq!(ask(&server, rules), "OK");
    let mut app = server.connect();
    assert_eq!(app.cmd(&words("AUTH app none")), "OK");
    assert_eq!(app.cmd(&words("LOCK.GUARD k alice * SET mine:x 1")), "OK");
    for forbidden in ["SET other 1", "DEL mine:x", "FLUSHALL", "ACL LIST"] {
        let reply = app.cmd(&words(&format!("LOCK.GUARD k alice * {forbidden}")));
        assert!(matches!(reply, Value::Error(_)), "{forbidden}: {reply:?}");
    }
    assert!(app.cmd(&words("LOCK.GUARD other alice * GET mine:x")).error().starts_with("NOPERM "));
    assert_eq!(ask(&server, "EXISTS other"), 0);
    assert_eq!(ask(&server, "GET mine:x"), "1");
    // The server can tell beforehand.
    let dry = |line: &str| ask(&server, &format!("ACL DRYRUN app LOCK.GUARD {line}"));
    assert_eq!(dry("k alice * SET mine:x 1"), "OK");
    assert_ne!(dry("k alice * SET other 1"), "OK");
    assert_ne!(dry("other alice * SET mine:x 1"), "OK");
}

#[test]
fn keys_of_the_inner_command_are_declared() {
    let server = Server::start();
    let keys = |line: &str| {
        let reply = ask(&server, &format!("COMMAND GETKEYS LOCK.GUARD {line}"));
        reply.items().iter().map(Value::text).collect::<Vec<_>>()
    };
    assert_eq!(keys("k alice * MSET a 1 b 2"), ["k", "a", "b"]);
    assert_eq!(keys("k alice 7 EVAL script 2 a b c"), ["k", "a", "b"]);
    assert_eq!(keys("k alice * PING"), ["k"]);
    assert_eq!(keys("k alice * NOSUCHCOMMAND a"), ["k"]);
    let reply = ask(&server, "COMMAND GETKEYSANDFLAGS LOCK.GUARD k alice * GET a");
    assert_eq!(reply.items()[0].items()[0], "k");
}

/// The server asks for the keys before the command can refuse itself.
#[test]
fn guards_in_one_another_are_refused_however_many() {
    let server = Server::start();
    acquire(&server, "k alice");
    for depth in [1, 2, 20_000] {
        let guards = ["LOCK.GUARD", "k", "alice", "*"].repeat(depth + 1);
        let refused = server.cmd(&[&guards[..], &["GET", "k"]].concat());
        assert!(refused.error().starts_with("BADARG a guard inside a guard"), "{refused:?}");
        let keys = server.cmd(&[&["COMMAND", "GETKEYS"], &guards[..], &["GET", "other"]].concat());
        assert_eq!(keys.items().iter().map(Value::text).collect::<Vec<_>>(), ["k"]);
    }
}

#[test]
fn in_a_cluster_all_keys_are_in_one_slot() {
    let server = single();
    acquire(&server, "{t}k alice");
    assert_eq!(guard(&server, "{t}k alice * SET {t}x 1"), "OK");
    assert!(guard(&server, "{t}k alice * SET elsewhere 1").error().starts_with("CROSSSLOT "));
    assert_eq!(server.cmd(&["EXISTS", "elsewhere"]), 0);
}

#[test]
fn when_memory_is_short_the_inner_command_decides() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "SET x 1"), "OK");
    assert_eq!(ask(&server, "CONFIG SET maxmemory 1"), "OK");
    assert!(guard(&server, "k alice * SET y 1").error().starts_with("OOM "));
    assert_eq!(guard(&server, "k alice * GET x"), "1");
    assert_eq!(guard(&server, "k alice * DEL x"), 1);
}

#[test]
fn a_replica_runs_nothing() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "REPLICAOF 127.0.0.1 1"), "OK");
    assert!(guard(&server, "k alice * SET x 1").error().starts_with("READONLY "));
    assert!(is_modern(&server) || server.cmd(&["EXISTS", "x"]) == 0);
}

#[test]
fn nothing_is_guarded_where_nobody_can_say_whether_it_blocks() {
    let server = Server::with(&["rename-command COMMAND \"\""]);
    acquire(&server, "k alice");
    let refused =
        "INTERNAL the lock module needs COMMAND, which this server does not have; undo its rename-command";
    assert_changes_nothing(&server, || {
        for line in ["BLPOP l 0", "SET x 1", "NOSUCHCOMMAND x"] {
            assert_eq!(guard(&server, &format!("k alice * {line}")).error(), refused, "{line}");
        }
    });
}
