//! LATCH.AWAIT: waiting until all have counted, and parties that meet by it.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;
use std::thread;

use super::{set, NO_LATCH};
use crate::onlookers::{user, RIGHT_TAKEN_AWAY};
use crate::steps::{
    acquire, ask, assert_changes_nothing, eval, is_modern, observing, set_string, transaction, watch,
    watch_from, words, wrong_arity,
};
use crate::support::wait::wait_replica_in_sync;
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{at_once, follow};

const OVERWRITTEN: &str = "WRONGTYPE the key was overwritten with a value that is not a latch";

/// Waits for the latch `k`.
fn watch_k(server: &Server) -> Connection {
    watch(server, "LATCH.AWAIT k BLOCK 0")
}

/// The parties still wait after everything that was asked of the server before.
#[track_caller]
fn assert_still_waits(server: &Server, conn: &mut Connection) {
    ask(server, "PING");
    conn.expect_nothing_pending();
    assert_eq!(observing(server), 1);
}

#[test]
fn all_who_wait_are_told_when_the_last_one_has_counted() {
    let server = Server::start();
    set(&server, "k 2");
    let mut parties = [(); 3].map(|()| watch_k(&server));
    assert_eq!(ask(&server, "LATCH.AWAIT k"), Value::Nil);
    assert_eq!(ask(&server, "LATCH.DOWN k a"), 1);
    assert_eq!(ask(&server, "LATCH.DOWN k a"), 1, "once for each id");
    assert_eq!(observing(&server), 3);
    parties.iter_mut().for_each(Connection::expect_nothing_pending);
    assert_eq!(ask(&server, "LATCH.DOWN k b"), 0);
    parties.iter_mut().for_each(|party| assert_eq!(party.read(), 1));
    // It stays open for all who come later.
    for line in ["LATCH.AWAIT k", "LATCH.AWAIT k BLOCK 0", "LATCH.AWAIT k block 5"] {
        assert_eq!(ask(&server, line), 1, "{line}");
    }
    assert_eq!(observing(&server), 0);
    assert_eq!(server.info_int("lock_stats", "lock_observed"), 3);
}

#[test]
fn a_latch_that_is_not_there_yet_is_waited_for() {
    let server = Server::start();
    assert_eq!(ask(&server, "LATCH.AWAIT k"), Value::Nil);
    let mut party = watch_k(&server);
    set(&server, "k 1");
    assert_still_waits(&server, &mut party);
    assert_eq!(ask(&server, "LATCH.DOWN k"), 0);
    assert_eq!(party.read(), 1);
}

#[test]
fn a_latch_that_goes_before_it_opens_is_waited_for_on() {
    let server = Server::start();
    for line in ["DEL k", "FLUSHALL", "PEXPIREAT k 1000", "RENAME k l", "MOVE k 5"] {
        set(&server, "k 2");
        let mut party = watch_k(&server);
        assert_eq!(ask(&server, "LATCH.DOWN k a"), 1);
        assert!(!matches!(ask(&server, line), Value::Error(_)), "{line}");
        assert_still_waits(&server, &mut party);
        set(&server, "k 1");
        assert_eq!(ask(&server, "LATCH.DOWN k a"), 0, "a new one");
        assert_eq!(party.read(), 1, "{line}");
        assert_eq!(ask(&server, "FLUSHALL"), "OK");
    }
    // The same when its own time is over.
    set(&server, "k 2 PX 50");
    let mut party = watch_k(&server);
    wait_until("the latch to be gone", || ask(&server, "EXISTS k") == 0);
    assert_still_waits(&server, &mut party);
    set(&server, "k 1");
    assert_eq!(ask(&server, "LATCH.DOWN k"), 0);
    assert_eq!(party.read(), 1);
}

#[test]
fn whoever_waited_when_it_opened_is_told_though_it_is_gone() {
    let server = Server::start();
    set(&server, "k 1");
    let mut party = watch_k(&server);
    let replies = at_once(&server, &[&["LATCH.DOWN", "k"], &["DEL", "k"], &["SET", "k", "v"]]);
    assert_eq!(replies[..2], [Value::Int(0), Value::Int(1)]);
    assert_eq!(party.read(), 1);
}

#[test]
fn an_open_latch_that_comes_from_elsewhere_is_found() {
    for way in ["RENAME l k", "SWAPDB 0 5", "RESTORE"] {
        let server = Server::start();
        set(&server, "l 1");
        assert_eq!(ask(&server, "LATCH.DOWN l"), 0);
        assert_eq!(server.connect().select(5).cmd(&words("LATCH.SET k 1")), 1);
        assert_eq!(server.connect().select(5).cmd(&words("LATCH.DOWN k")), 0);
        let mut party = watch_k(&server);
        if way == "RESTORE" {
            let Value::Bulk(dump) = ask(&server, "DUMP l") else { panic!("no dump") };
            assert_eq!(server.cmd(&[&b"RESTORE"[..], &b"k"[..], b"0", &dump]), "OK");
        } else {
            assert_eq!(ask(&server, way), "OK");
        }
        assert_eq!(party.read(), 1, "{way}");
    }
}

#[test]
fn a_wait_that_is_over_is_nil_in_both_protocols() {
    let server = Server::start();
    let mut conn = server.connect();
    conn.send(&words("LATCH.AWAIT k BLOCK 20"));
    conn.expect_bytes(b"$-1\r\n");
    let mut conn = server.connect().hello3();
    conn.send(&words("LATCH.AWAIT k BLOCK 20"));
    conn.expect_bytes(b"_\r\n");
    set(&server, "k 1");
    assert_eq!(ask(&server, "LATCH.DOWN k"), 0);
    conn.send(&words("LATCH.AWAIT k BLOCK 20"));
    conn.expect_bytes(b":1\r\n");
    assert_eq!(observing(&server), 0);
}

#[test]
fn transactions_and_scripts_are_told_what_is_so_and_can_open_it() {
    let server = Server::start();
    set(&server, "k 2");
    let mut party = watch_k(&server);
    let (wait, down) = (words("LATCH.AWAIT k BLOCK 0"), words("LATCH.DOWN k"));
    let replies = transaction(&mut server.connect(), &[&wait, &down, &wait, &down, &wait]);
    assert_eq!(replies, [Value::Nil, Value::Int(1), Value::Nil, Value::Int(0), Value::Int(1)]);
    assert_eq!(party.read(), 1);
    set(&server, "l 1");
    let mut party = watch(&server, "LATCH.AWAIT l BLOCK 0");
    let script = "
        local before = redis.call('LATCH.AWAIT', KEYS[1], 'BLOCK', '0')
        redis.call('LATCH.DOWN', KEYS[1])
        return {before, redis.call('LATCH.AWAIT', KEYS[1])}";
    assert_eq!(eval(&server, script, &["l"]), Value::Array(vec![Value::Nil, Value::Int(1)]));
    assert_eq!(party.read(), 1);
    assert_eq!(server.cmd(&["EVAL_RO", "return redis.call('LATCH.AWAIT', KEYS[1])", "1", "l"]), 1);
}

#[test]
fn waiting_changes_nothing() {
    let server = Server::start();
    set(&server, "k 2");
    assert_changes_nothing(&server, || {
        for line in ["LATCH.AWAIT k", "LATCH.AWAIT k BLOCK 10", "LATCH.AWAIT none BLOCK 10"] {
            assert_eq!(ask(&server, line), Value::Nil, "{line}");
        }
    });
}

#[test]
fn wrong_words_are_refused() {
    let server = Server::start();
    let block = "BADARG BLOCK must be a whole number from 0 to 86400000";
    for (line, text) in [
        ("LATCH.AWAIT", wrong_arity("latch.await").as_str()),
        ("LATCH.AWAIT k 5", "BADARG unknown option '5'; see LOCK.HELP"),
        ("LATCH.AWAIT k BLOCK", "BADARG BLOCK needs a value"),
        (
            "LATCH.AWAIT k BLOCK 5 block 5",
            "BADARG BLOCK is given twice, or beside an option that excludes it",
        ),
        ("LATCH.AWAIT k BLOCK -1", block),
        ("LATCH.AWAIT k BLOCK 86400001", block),
        ("LATCH.AWAIT k BLOCK 9223372036854775808", block),
        ("LATCH.AWAIT k BLOCK 05", block),
        ("LATCH.AWAIT k BLOCK x", block),
    ] {
        assert_eq!(ask(&server, line), text, "{line}");
    }
    set_string(&server, "text");
    acquire(&server, "lock alice");
    for line in ["LATCH.AWAIT text", "LATCH.AWAIT text BLOCK 0", "LATCH.AWAIT lock BLOCK 0"] {
        assert_eq!(ask(&server, line), NO_LATCH, "{line}");
    }
    assert_eq!(observing(&server), 0);
}

#[test]
fn when_another_type_stands_there_the_wait_ends() {
    let server = Server::start();
    for line in ["SET k v", "LOCK.ACQUIRE k alice"] {
        for is_there in [false, true] {
            if is_there {
                set(&server, "k 2");
            }
            let mut party = watch_k(&server);
            let replies = at_once(&server, &[&["DEL", "k"], &words(line)]);
            assert_eq!(replies[0], i64::from(is_there));
            assert!(!matches!(replies[1], Value::Error(_)), "{line}");
            assert_eq!(party.read(), OVERWRITTEN, "{line}");
            assert_eq!(ask(&server, "DEL k"), 1);
        }
    }
    // Who watches a lock, and who waits for a latch, under one name.
    let mut party = watch_k(&server);
    let mut observer = watch(&server, "LOCK.AWAIT k CHANGED BLOCK 0");
    set(&server, "k 1");
    assert_eq!(observer.read(), "WRONGTYPE the key was overwritten with a value that is not a lock");
    assert_eq!(ask(&server, "LATCH.DOWN k"), 0);
    assert_eq!(party.read(), 1);
}

#[test]
fn of_those_who_have_gone_nothing_is_left() {
    let server = Server::start();
    set(&server, "k 2");
    let mut killed = server.connect();
    let id = killed.id().to_string();
    let mut killed = watch_from(&server, killed, "LATCH.AWAIT k BLOCK 0");
    let hangs_up = watch_k(&server);
    assert_eq!(server.cmd(&["CLIENT", "KILL", "ID", &id]), 1);
    killed.expect_closed();
    drop(hangs_up);
    wait_until("nobody to wait", || observing(&server) == 0);
    let mut conn = server.connect();
    let id = conn.id().to_string();
    let mut conn = watch_from(&server, conn, "LATCH.AWAIT k BLOCK 0");
    let unblocked = server.cmd(&["CLIENT", "UNBLOCK", &id]).int();
    assert_eq!(unblocked, i64::from(is_modern(&server)));
    if unblocked == 1 {
        assert_eq!(conn.read(), Value::Nil);
        assert_eq!(observing(&server), 0);
    }
}

#[test]
fn who_may_not_read_the_latch_any_more_is_told_nothing() {
    let server = Server::start();
    for (change, reply) in [
        ("-latch.await", Value::Error(RIGHT_TAKEN_AWAY.into())),
        ("resetkeys %W~k", Value::Error(RIGHT_TAKEN_AWAY.into())),
        ("resetkeys %R~k -lock.await", Value::Int(1)),
    ] {
        set(&server, "k 1");
        let mut party = watch_from(&server, user(&server, "~* +@all"), "LATCH.AWAIT k BLOCK 0");
        assert_eq!(ask(&server, &format!("ACL SETUSER temp {change}")), "OK");
        assert_eq!(ask(&server, "LATCH.DOWN k"), 0);
        assert_eq!(party.read(), reply, "{change}");
        assert_eq!(ask(&server, "DEL k"), 1);
    }
}

#[test]
fn there_is_room_for_so_many() {
    let server = Server::start();
    assert_eq!(ask(&server, "CONFIG SET lock.max-waiters 3 lock.max-waiters-per-key 2"), "OK");
    let _parties = [(); 2].map(|()| watch_k(&server));
    let full = ask(&server, "LATCH.AWAIT k BLOCK 0");
    assert_eq!(full, "QUEUEFULL 2 clients wait for this key; raise lock.max-waiters-per-key or try later");
    let _other = watch(&server, "LATCH.AWAIT l BLOCK 0");
    let full = ask(&server, "LATCH.AWAIT m BLOCK 0");
    assert_eq!(full, "QUEUEFULL 3 clients wait in this server; raise lock.max-waiters or try later");
}

#[test]
fn a_replica_tells_of_what_its_primary_counts() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let mut party = watch_k(&replica);
    set(&primary, "k 2");
    assert_eq!(ask(&primary, "LATCH.DOWN k a"), 1);
    wait_replica_in_sync(&primary, &replica);
    assert_still_waits(&replica, &mut party);
    assert_eq!(ask(&primary, "LATCH.DOWN k b"), 0);
    assert_eq!(party.read(), 1);
    assert_eq!(ask(&replica, "LATCH.AWAIT k"), 1);
    // A full sync that brings an open one.
    let mut party = watch(&primary, "LATCH.AWAIT l BLOCK 0");
    let mut late = watch(&replica, "LATCH.AWAIT l BLOCK 0");
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    set(&primary, "l 1");
    assert_eq!(ask(&primary, "LATCH.DOWN l"), 0);
    assert_eq!(party.read(), 1);
    let mut sent_away = watch(&replica, "LATCH.AWAIT m BLOCK 0");
    assert_eq!(observing(&replica), 2);
    follow(&replica, &primary);
    for conn in [&mut late, &mut sent_away] {
        assert!(conn.read().error().starts_with("UNBLOCKED "));
    }
    assert_eq!(ask(&replica, "LATCH.AWAIT l BLOCK 0"), 1);
}

#[test]
fn a_reload_keeps_those_who_wait() {
    let server = Server::start();
    set(&server, "k 2");
    let mut party = watch_k(&server);
    assert_eq!(ask(&server, "LATCH.DOWN k a"), 1);
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    assert_still_waits(&server, &mut party);
    assert_eq!(ask(&server, "LATCH.DOWN k a"), 1);
    assert_eq!(ask(&server, "LATCH.DOWN k b"), 0);
    assert_eq!(party.read(), 1);
}

/// The recipe of the documentation: nobody goes on before all have come, round after round.
#[test]
fn parties_meet_at_a_barrier_in_each_round() {
    const PARTIES: usize = 6;
    const ROUNDS: usize = 25;
    let server = Server::start();
    let arrived: Arc<Vec<AtomicUsize>> = Arc::new((0..ROUNDS).map(|_| AtomicUsize::new(0)).collect());
    let parties: Vec<_> = (0..PARTIES)
        .map(|party| {
            let (mut conn, arrived) = (server.connect(), Arc::clone(&arrived));
            thread::spawn(move || {
                for (round, arrived) in arrived.iter().enumerate() {
                    arrived.fetch_add(1, SeqCst);
                    let key = format!("meet:{round}");
                    let setters = conn.cmd(&["LATCH.SET", &key, &PARTIES.to_string(), "PX", "600000"]).int();
                    assert!((0..=1).contains(&setters));
                    // Sent twice, as after a lost reply.
                    for _ in 0..=party % 2 {
                        conn.cmd(&["LATCH.DOWN", &key, &party.to_string()]).int();
                    }
                    assert_eq!(conn.cmd(&["LATCH.AWAIT", &key, "BLOCK", "60000"]), 1);
                    assert_eq!(arrived.load(SeqCst), PARTIES, "party {party} went on too early in {round}");
                }
            })
        })
        .collect();
    parties.into_iter().for_each(|party| party.join().expect("a party"));
    assert_eq!(observing(&server), 0);
    for round in 0..ROUNDS {
        assert_eq!(ask(&server, &format!("LATCH.INFO meet:{round}")).field("left"), &0);
    }
}
