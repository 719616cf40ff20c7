//! Waiting for several locks: one place in all queues, nothing held meanwhile, all of them in the step in which the last
//! becomes free, and a wait that ends leaves all of its queues at once.

use super::{assert_all_granted, assert_holds_all, give_back, line_up, macquire, macquire_in_line};
use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, eval, fence_of, holder, is_modern, queue, release,
    transaction, wait_for_lock, waiting, words,
};
use crate::support::wait::wait_waiting;
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{lock_stat, wait_quiet};

/// Alice holds `a`, bob holds `b`.
fn two_held() -> Server {
    let server = Server::start();
    acquire(&server, "a alice");
    acquire(&server, "b bob");
    server
}

#[test]
fn it_holds_nothing_until_it_holds_all() {
    let server = two_held();
    let mut waiter = macquire_in_line(&server, "w 3 a b free");
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LOCK.CHECK free w"), 0);
        // It comes first there, so nobody else gets what is free.
        assert_eq!(ask(&server, "LOCK.ACQUIRE free dave"), Value::Nil);
        assert_eq!(macquire(&server, "dave 2 free other"), Value::Nil);
        assert_eq!(server.cmd(&["EXISTS", "free", "other"]), 0);
    });
    assert_eq!((waiting(&server, "a"), waiting(&server, "b"), waiting(&server, "free")), (1, 1, 1));
    assert_eq!(lock_stat(&server, "waiting"), 1, "one waiter in three queues");
    release(&server, "a", "alice");
    assert_eq!(server.cmd(&["EXISTS", "a"]), 0);
    waiter.expect_nothing_pending();
    release(&server, "b", "bob");
    assert_all_granted(&server, &mut waiter, &["a", "b", "free"], "w");
    wait_quiet(&server);
}

#[test]
fn all_come_in_the_step_in_which_the_last_is_free() {
    for last in [
        "LOCK.RELEASE b bob",
        "LOCK.MRELEASE bob 1 b",
        "DEL b",
        "UNLINK b",
        "RENAME b elsewhere",
        "MOVE b 5",
        "EXPIRE b -1",
        "EVAL return(redis.call('DEL',KEYS[1])) 1 b",
        "EVAL return(redis.call('LOCK.RELEASE',KEYS[1],'bob')) 1 b",
    ] {
        let server = two_held();
        let mut waiter = macquire_in_line(&server, "w 2 a b");
        release(&server, "a", "alice");
        let mut conn = server.connect();
        // Whoever comes right behind finds all of them taken.
        conn.send_together(&[
            &words(last),
            &words("LOCK.ACQUIRE a dave"),
            &words("LOCK.ACQUIRE b dave"),
            &words("LOCK.MACQUIRE dave 2 b a"),
            &words("LOCK.CHECK a w"),
            &words("LOCK.CHECK b w"),
        ]);
        assert!(!matches!(conn.read(), Value::Error(_)), "{last}");
        (0..3).for_each(|_| assert_eq!(conn.read(), Value::Nil, "{last}"));
        (0..2).for_each(|_| assert!(conn.read().int() > 0, "{last}"));
        assert_all_granted(&server, &mut waiter, &["a", "b"], "w");
    }
}

#[test]
fn all_come_with_the_end_of_the_last_lease() {
    let server = Server::start();
    acquire(&server, "a alice PX 150");
    acquire(&server, "b bob PX 400");
    let mut waiter = macquire_in_line(&server, "w 2 a b");
    let fence = assert_all_granted(&server, &mut waiter, &["a", "b"], "w");
    assert_eq!(lock_stat(&server, "expired"), 2);
    assert_holds_all(&server, &["a", "b"], "w", fence);
}

#[test]
fn who_comes_first_is_served_first_in_every_queue() {
    let server = two_held();
    let mut first = macquire_in_line(&server, "w1 2 a b");
    let mut on_a = wait_for_lock(&server, "a", "w2");
    let mut on_b = wait_for_lock(&server, "b", "w3");
    let mut second = macquire_in_line(&server, "w4 2 b a");
    let mut last = wait_for_lock(&server, "b", "w5");
    assert_eq!(queue(&server, "a"), ["w1", "w2", "w4"]);
    assert_eq!(queue(&server, "b"), ["w1", "w3", "w4", "w5"]);
    release(&server, "b", "bob");
    on_b.expect_nothing_pending();
    release(&server, "a", "alice");
    assert_all_granted(&server, &mut first, &["a", "b"], "w1");
    on_a.expect_nothing_pending();
    on_b.expect_nothing_pending();
    assert_eq!(give_back(&server, "w1 2 a b"), 2);
    assert_granted(&server, &mut on_a, "a", "w2");
    assert_granted(&server, &mut on_b, "b", "w3");
    release(&server, "b", "w3");
    last.expect_nothing_pending();
    assert_eq!(holder(&server, "b"), None, "kept for the one who comes first");
    release(&server, "a", "w2");
    assert_all_granted(&server, &mut second, &["a", "b"], "w4");
    release(&server, "b", "w4");
    assert_granted(&server, &mut last, "b", "w5");
}

#[test]
fn groups_that_overlap_go_one_after_the_other_and_others_together() {
    let server = Server::start();
    fence_of(&macquire(&server, "alice 5 k1 k2 k3 k4 k5"));
    let mut low = macquire_in_line(&server, "low 2 k1 k2");
    let mut middle = macquire_in_line(&server, "middle 2 k2 k3");
    let mut high = macquire_in_line(&server, "high 2 k3 k4");
    let mut apart = macquire_in_line(&server, "apart 2 k4 k5");
    let mut conn = server.connect();
    assert_eq!(conn.cmd(&words("LOCK.MRELEASE alice 5 k5 k4 k3 k2 k1")), 5);
    assert_all_granted(&server, &mut low, &["k1", "k2"], "low");
    for waiter in [&mut middle, &mut high, &mut apart] {
        waiter.expect_nothing_pending();
    }
    // The first of them lets the second in, and only then the third can have its turn.
    release(&server, "k2", "low");
    assert_all_granted(&server, &mut middle, &["k2", "k3"], "middle");
    high.expect_nothing_pending();
    assert_eq!(give_back(&server, "middle 2 k3 k2"), 2);
    assert_all_granted(&server, &mut high, &["k3", "k4"], "high");
    release(&server, "k4", "high");
    assert_all_granted(&server, &mut apart, &["k4", "k5"], "apart");
    wait_quiet(&server);
}

#[test]
fn readers_and_permits_in_line() {
    let server = Server::start();
    acquire(&server, "a alice");
    acquire(&server, "s alice LIMIT 3 PERMITS 3");
    let mut readers = ["r1", "r2"].map(|name| macquire_in_line(&server, &format!("{name} 2 a b SHARED")));
    let mut writer = macquire_in_line(&server, "w 2 a b");
    let mut large = macquire_in_line(&server, "large 2 s t LIMIT 3 PERMITS 2");
    let mut small = macquire_in_line(&server, "small 2 t s LIMIT 3");
    release(&server, "a", "alice");
    for (reader, name) in readers.iter_mut().zip(["r1", "r2"]) {
        let fence = fence_of(&reader.read());
        for key in ["a", "b"] {
            assert!(server.cmd(&["LOCK.CHECK", key, name, "FENCE", &fence.to_string()]).int() > 0);
        }
    }
    assert_eq!(give_back(&server, "r1 2 a b"), 2);
    release(&server, "a", "r2");
    writer.expect_nothing_pending();
    release(&server, "b", "r2");
    assert_all_granted(&server, &mut writer, &["a", "b"], "w");
    release(&server, "s", "alice");
    fence_of(&large.read());
    fence_of(&small.read());
    assert_eq!(macquire(&server, "x 2 s t LIMIT 3"), Value::Nil);
}

#[test]
fn a_wait_that_takes_too_long_leaves_all_queues() {
    let server = two_held();
    let mut timed = in_line_for(&server, "w 3 a b free BLOCK 150 WITHINFO");
    let mut behind = wait_for_lock(&server, "free", "next");
    let reply = timed.read();
    assert_eq!((reply.field("result"), reply.field("reason").text()), (&Value::Nil, "timeout".into()));
    assert_eq!(reply.field("holder"), &"alice");
    assert_granted(&server, &mut behind, "free", "next");
    assert_eq!((waiting(&server, "a"), waiting(&server, "b")), (0, 0));
    assert_eq!(lock_stat(&server, "timed_out"), 1, "one wait, however many keys");
    wait_quiet(&server);
}

fn in_line_for(server: &Server, line: &str) -> Connection {
    line_up(server, server.connect(), &format!("LOCK.MACQUIRE {line}"))
}

/// What ends a wait from outside, and what the one who waited is told; nothing when its connection is closed.
#[test]
fn a_waiter_that_is_sent_away_lets_all_its_queues_go_on() {
    let server = two_held();
    let mut ways = vec![("CLIENT KILL ID <id>", None)];
    if is_modern(&server) {
        ways.push(("CLIENT UNBLOCK <id>", Some(Value::Nil)));
        ways.push(("CLIENT UNBLOCK <id> TIMEOUT", Some(Value::Nil)));
        let unblocked = "UNBLOCKED client unblocked via CLIENT UNBLOCK".to_owned();
        ways.push(("CLIENT UNBLOCK <id> ERROR", Some(Value::Error(unblocked))));
    }
    for (line, told) in ways {
        let mut conn = server.connect();
        let id = conn.id().to_string();
        let mut doomed = line_up(&server, conn, "LOCK.MACQUIRE w 4 x a b y BLOCK 0");
        let mut on_x = wait_for_lock(&server, "x", "on-x");
        let mut group = macquire_in_line(&server, "group 2 y z");
        assert_eq!(ask(&server, &line.replace("<id>", &id)), 1);
        assert_granted(&server, &mut on_x, "x", "on-x");
        assert_all_granted(&server, &mut group, &["y", "z"], "group");
        match told {
            Some(told) => assert_eq!(doomed.read(), told, "{line}"),
            None => doomed.expect_closed(),
        }
        assert_eq!((waiting(&server, "a"), waiting(&server, "b")), (0, 0), "{line}");
        release(&server, "x", "on-x");
        assert_eq!(give_back(&server, "group 2 y z"), 2);
    }
    // It may also just hang up.
    let doomed = macquire_in_line(&server, "w 3 x a b");
    let mut on_x = wait_for_lock(&server, "x", "on-x");
    drop(doomed);
    assert_granted(&server, &mut on_x, "x", "on-x");
    wait_waiting(&server, "b", 0);
}

#[test]
fn who_asks_anew_gives_up_its_earlier_waits() {
    // The earlier wait, the new one, and where that stands: where the earlier one stood if it wants nothing more.
    for (earlier, anew, queue_of_a) in [
        ("LOCK.MACQUIRE w 2 a b", "LOCK.MACQUIRE w 2 a b", ["w", "other"]),
        ("LOCK.MACQUIRE w 2 a b", "LOCK.MACQUIRE w 2 b a", ["w", "other"]),
        ("LOCK.MACQUIRE w 3 a b x", "LOCK.MACQUIRE w 2 a b", ["w", "other"]),
        ("LOCK.MACQUIRE w 2 a b", "LOCK.ACQUIRE a w", ["w", "other"]),
        ("LOCK.MACQUIRE w 2 a b", "LOCK.MACQUIRE w 3 a b x", ["other", "w"]),
        ("LOCK.MACQUIRE w 2 a x", "LOCK.MACQUIRE w 2 a b", ["other", "w"]),
        ("LOCK.ACQUIRE a w", "LOCK.MACQUIRE w 2 a b", ["other", "w"]),
    ] {
        let server = two_held();
        let mut gone = line_up(&server, server.connect(), &format!("{earlier} BLOCK 0 WITHINFO"));
        let mut other = wait_for_lock(&server, "a", "other");
        let mut stays = line_up(&server, server.connect(), &format!("{anew} BLOCK 0"));
        let reply = gone.read();
        assert_eq!(reply.field("result"), &Value::Nil);
        assert_eq!(reply.field("reason"), &"superseded", "{earlier}, {anew}");
        assert_eq!(queue(&server, "a"), queue_of_a, "{earlier}, {anew}");
        let in_x = i64::from(anew.contains(" x"));
        assert_eq!((waiting(&server, "x"), lock_stat(&server, "waiting")), (in_x, 2), "{earlier}, {anew}");
        assert_eq!(lock_stat(&server, "superseded"), 1);
        release(&server, "a", "alice");
        if queue_of_a[0] == "other" {
            assert_granted(&server, &mut other, "a", "other");
            release(&server, "a", "other");
        }
        release(&server, "b", "bob");
        fence_of(&stays.read());
    }
}

#[test]
fn what_is_given_up_goes_to_those_behind() {
    let server = two_held();
    let mut gone = macquire_in_line(&server, "w 3 x a y");
    let mut on_x = wait_for_lock(&server, "x", "on-x");
    let mut on_y = macquire_in_line(&server, "on-y 2 y z");
    let mut smaller = macquire_in_line(&server, "w 2 a x");
    assert_eq!(gone.read(), Value::Nil);
    assert_all_granted(&server, &mut on_y, &["y", "z"], "on-y");
    on_x.expect_nothing_pending();
    // Two waits at once for what it had asked for one after the other.
    let mut also = wait_for_lock(&server, "b", "w");
    let mut both = macquire_in_line(&server, "w 2 a b");
    assert_eq!(smaller.read(), Value::Nil);
    assert_eq!(also.read(), Value::Nil);
    assert_granted(&server, &mut on_x, "x", "on-x");
    release(&server, "a", "alice");
    release(&server, "b", "bob");
    assert_all_granted(&server, &mut both, &["a", "b"], "w");
}

#[test]
fn who_asks_anew_without_waiting_gives_nothing_up() {
    let server = two_held();
    let mut waiter = macquire_in_line(&server, "w 2 a b");
    assert_eq!(macquire(&server, "w 2 a b"), Value::Nil);
    assert_eq!(ask(&server, "LOCK.ACQUIRE a w"), Value::Nil);
    release(&server, "a", "alice");
    release(&server, "b", "bob");
    assert_all_granted(&server, &mut waiter, &["a", "b"], "w");
}

#[test]
fn where_one_queue_is_full_none_is_joined() {
    let server = Server::with(&["lock.max-waiters-per-key 2"]);
    acquire(&server, "a alice");
    let _waiters = ["w1", "w2"].map(|name| wait_for_lock(&server, "a", name));
    assert_changes_nothing(&server, || {
        for keys in ["2 a b", "2 b a"] {
            let reply = macquire(&server, &format!("w3 {keys} BLOCK 0"));
            assert!(reply.error().starts_with("QUEUEFULL 2 clients wait for this key"), "{reply:?}");
        }
    });
    assert_eq!(waiting(&server, "b"), 0);
    assert_eq!(ask(&server, "CONFIG SET lock.max-waiters 3 lock.max-waiters-per-key 10"), "OK");
    let _third = macquire_in_line(&server, "w3 2 a b");
    assert_eq!(lock_stat(&server, "waiting"), 3);
    assert!(macquire(&server, "w4 2 a b BLOCK 0")
        .error()
        .starts_with("QUEUEFULL 3 clients wait in this server"));
}

#[test]
fn it_never_waits_in_a_transaction_or_a_script() {
    let server = two_held();
    let mut conn = server.connect();
    let replies = transaction(
        &mut conn,
        &[
            &words("LOCK.MACQUIRE w 2 a free BLOCK 0"),
            &words("LOCK.MACQUIRE w 2 free other BLOCK 0"),
            &words("LOCK.MACQUIRE w 2 a b BLOCK 10 WITHINFO"),
            &words("LOCK.MRENEW w 60000 2 free a"),
            &words("LOCK.MRELEASE w 3 a free other"),
        ],
    );
    assert_eq!(replies[0], Value::Nil);
    fence_of(&replies[1]);
    assert_eq!((replies[2].field("result"), replies[2].field("reason").text()), (&Value::Nil, "held".into()));
    assert_eq!(replies[3], Value::Array(vec![Value::Int(60_000), Value::Int(0)]));
    assert_eq!(replies[4], 2);
    let script = "return redis.call('LOCK.MACQUIRE', 'w', 2, KEYS[1], KEYS[2], 'BLOCK', 0)";
    assert_eq!(eval(&server, script, &["a", "free"]), Value::Nil);
    fence_of(&eval(&server, script, &["free", "other"]));
    assert_eq!(server.info_int("clients", "blocked_clients"), 0);
    // A waiter gets all within the script that frees the last one.
    let mut waiter = macquire_in_line(&server, "next 3 a free other");
    let script = "
        redis.call('LOCK.RELEASE', KEYS[1], 'alice')
        redis.call('LOCK.MRELEASE', 'w', 2, KEYS[2], KEYS[3])
        return redis.call('LOCK.CHECK', KEYS[3], 'next')";
    assert!(eval(&server, script, &["a", "free", "other"]).int() > 0);
    assert_all_granted(&server, &mut waiter, &["a", "free", "other"], "next");
    wait_until("nothing to be left in doubt", || lock_stat(&server, "provisional") == 0);
}
