//! What replicas and the AOF are told of each command, word for word: effects with absolute values, and nothing else. What
//! happens unasked is the business of `replication_events.rs`, and who listens from when on that of `listeners.rs`.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::stream::step;
use crate::support::{assert_stream, ReplicaStream, Server, Value};
use crate::traffic::{acquire, acquire_on, waiter, ALL};

#[test]
fn an_acquire_states_the_hold() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    let unix_ms = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let before = unix_ms();
    let fence = acquire_on(&server, &["k", "o", "PX", "40000"]);
    let after = unix_ms();

    let got = stream.collect(&server);
    assert_stream(&got, &[&["LOCK._HOLD", "k", "o", &fence.to_string(), ALL, ALL, "40000", "40000", "<ms>"]]);
    let deadline: i64 = got[0][8].parse().unwrap();
    // In whole ms, and rounded up.
    assert!((before + 40_000..=after + 40_001).contains(&deadline), "{before} {deadline} {after}");
}

#[test]
fn a_note_is_the_last_word_and_no_expiry_is_minus_one() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    let fence = acquire_on(&server, &["k", "o", "NOEXPIRE", "NOTE", "nightly run, host 7"]).to_string();
    let other = acquire_on(&server, &["l", "o", "NOTE", ""]).to_string();
    assert_stream(
        &stream.collect(&server),
        &[
            &["LOCK._HOLD", "k", "o", &fence, ALL, ALL, "-1", "-1", "-1", "nightly run, host 7"],
            &["LOCK._HOLD", "l", "o", &other, ALL, ALL, "30000", "30000", "<ms>"],
        ],
    );
}

#[test]
fn a_made_up_owner_is_stated_by_name() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    let reply = server.cmd(&["LOCK.ACQUIRE", "k", "*"]);
    let [owner, fence] = reply.items() else { panic!("{reply:?}") };
    let seen = assert_stream(
        &stream.collect(&server),
        &[&["LOCK._HOLD", "k", "<owner>", "<fence>", ALL, ALL, "30000", "30000", "<ms>"]],
    );
    assert_eq!((seen["owner"].clone(), seen["fence"].clone()), (owner.text(), fence.int().to_string()));
}

#[test]
fn a_repeated_acquire_says_something_only_when_it_raises_the_lease() {
    let server = Server::start();
    let mut conn = server.connect();
    let mut stream = ReplicaStream::attach(&server);
    let fence = acquire(&mut conn, &["k", "o", "PX", "50000", "NOTE", "n"]);
    stream.collect(&server);
    assert_eq!(acquire(&mut conn, &["k", "o", "PX", "20000"]), fence, "a shorter lease changes nothing");
    assert_eq!(acquire(&mut conn, &["k", "o", "FENCE", &fence.to_string()]), fence);
    assert_stream(&stream.collect(&server), &[]);

    assert_eq!(acquire(&mut conn, &["k", "o", "PX", "90000"]), fence);
    let fence = fence.to_string();
    assert_stream(
        &stream.collect(&server),
        &[&["LOCK._RENEW", "k", &fence, ALL, "90000", "90000", "<ms>", "n"]],
    );
    assert_eq!(acquire(&mut conn, &["k", "o", "NOEXPIRE"]).to_string(), fence);
    assert_stream(&stream.collect(&server), &[&["LOCK._RENEW", "k", &fence, ALL, "-1", "-1", "-1", "n"]]);
    assert_eq!(acquire(&mut conn, &["k", "o", "PX", "90000"]).to_string(), fence, "never cut");
    assert_stream(&stream.collect(&server), &[]);
}

#[test]
fn a_renewal_states_the_hold_with_its_new_lease() {
    let server = Server::start();
    let mut conn = server.connect();
    let fence = acquire(&mut conn, &["k", "o", "PX", "50000", "NOTE", "n"]).to_string();
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(conn.cmd(&["LOCK.RENEW", "k", "o", "PX", "7000"]), 7000);
    assert_eq!(conn.cmd(&["LOCK.RENEW", "k", "o"]), 7000);
    assert_eq!(conn.cmd(&["LOCK.RENEW", "k", "o", "NOEXPIRE"]), -1);
    assert_stream(
        &stream.collect(&server),
        &[
            &["LOCK._RENEW", "k", &fence, ALL, "7000", "7000", "<ms>", "n"],
            &["LOCK._RENEW", "k", &fence, ALL, "7000", "7000", "<ms>", "n"],
            &["LOCK._RENEW", "k", &fence, ALL, "-1", "-1", "-1", "n"],
        ],
    );
}

#[test]
fn a_release_states_the_end_by_its_fence() {
    let server = Server::start();
    let fence = acquire_on(&server, &["k", "o"]).to_string();
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "o", "WITHINFO"]).field("result"), &1);
    assert_stream(&stream.collect(&server), &[&["LOCK._FREE", "k", &fence]]);
}

#[test]
fn what_changes_nothing_says_nothing() {
    let server = Server::start();
    assert_eq!(server.cmd(&["SET", "text", "v"]), "OK");
    let fence = acquire_on(&server, &["k", "o", "NOEXPIRE"]);
    let other = (fence + 1).to_string();
    let mut stream = ReplicaStream::attach(&server);
    let nil = [
        &["LOCK.ACQUIRE", "k", "p"][..],
        &["LOCK.ACQUIRE", "k", "*"],
        &["LOCK.ACQUIRE", "k", "o", "FENCE", &other],
        &["LOCK.ACQUIRE", "free", "o", "FENCE", &other],
    ];
    for words in nil {
        assert_eq!(server.cmd(words), Value::Nil, "{words:?}");
    }
    let zero = [
        &["LOCK.RELEASE", "k", "p"][..],
        &["LOCK.RELEASE", "free", "o"],
        &["LOCK.RELEASE", "k", "o", "FENCE", &other],
        &["LOCK.RENEW", "k", "p"],
        &["LOCK.RENEW", "free", "o", "PX", "5"],
        &["LOCK.RENEW", "k", "o", "PX", "5", "FENCE", &other],
        &["LOCK.CHECK", "k", "p"],
    ];
    for words in zero {
        assert_eq!(server.cmd(words), 0, "{words:?}");
    }
    let refused = [
        &["LOCK.ACQUIRE", "text", "o"][..],
        &["LOCK.RELEASE", "text", "o"],
        &["LOCK.ACQUIRE", "k", "o", "PX", "0"],
        &["LOCK.ACQUIRE", "k", ""],
        &["LOCK.RENEW", "k", "o", "NX"],
        &["LOCK.RELEASE", "k"],
    ];
    for words in refused {
        server.cmd(words).error();
    }
    for words in [&["LOCK.CHECK", "k", "o"][..], &["LOCK.INFO", "k"], &["LOCK.WAITERS", "k"], &["LOCK.HELP"]]
    {
        assert!(!matches!(server.cmd(words), Value::Error(_)), "{words:?}");
    }
    assert_stream(&stream.collect(&server), &[]);
}

#[test]
fn a_wait_says_nothing_and_a_hand_off_is_one_transaction() {
    let server = Server::start();
    let held = acquire_on(&server, &["k", "o"]).to_string();
    let mut stream = ReplicaStream::attach(&server);
    let mut first = waiter(&server, &["k", "first", "BLOCK", "0", "PX", "40000", "NOTE", "n"]);
    let _second = waiter(&server, &["k", "second", "BLOCK", "60000"]);
    assert_stream(&stream.collect(&server), &[]);

    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    let fence = first.read().int().to_string();
    assert_stream(
        &stream.collect(&server),
        &[&step(&[
            &["LOCK._FREE", "k", &held],
            &["LOCK._HOLD", "k", "first", &fence, ALL, ALL, "40000", "40000", "<ms>", "n"],
        ])],
    );
}

#[test]
fn transactions_and_scripts_state_each_effect_in_its_place() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    let mut conn = server.connect();
    conn.send_together(&[
        &["MULTI"],
        &["LOCK.ACQUIRE", "k", "o"],
        &["LOCK.ACQUIRE", "k", "p", "BLOCK", "0"],
        &["SET", "x", "1"],
        &["LOCK.RELEASE", "k", "o"],
        &["EXEC"],
    ]);
    let replies: Vec<Value> = (0..6).map(|_| conn.read()).collect();
    let fence = replies[5].items()[0].int().to_string();
    assert_eq!(replies[5].items()[1], Value::Nil, "no wait inside a transaction");
    assert_stream(
        &stream.collect(&server),
        &[
            &["MULTI"],
            &["LOCK._HOLD", "k", "o", &fence, ALL, ALL, "30000", "30000", "<ms>"],
            &["SET", "x", "1"],
            &["LOCK._FREE", "k", &fence],
            &["EXEC"],
        ],
    );

    let script = "local f = redis.call('LOCK.ACQUIRE', KEYS[1], 'o') \
                  redis.call('LOCK.ACQUIRE', KEYS[1], 'p') return string.format('%.0f', f)";
    let fence = conn.cmd(&["EVAL", script, "1", "k"]).text();
    assert_stream(
        &stream.collect(&server),
        &[&["LOCK._HOLD", "k", "o", &fence, ALL, ALL, "30000", "30000", "<ms>"]],
    );
}
