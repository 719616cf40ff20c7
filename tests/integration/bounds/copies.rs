//! What replicas and files are told of bounds and cooldowns, word for word, and that they outlive the server that set them.

use crate::golden::{dump, restore};
use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, assert_left, digest, fence_of, release,
    wait_for_lock, words,
};
use crate::support::aof::read_aof;
use crate::support::stream::step;
use crate::support::{assert_stream, wait_until, ReplicaStream, Server, Stop, Value};
use crate::traffic::{follow, is_effect, lock_stat, wait_no_child, wait_same_data, ALL};

/// An exclusive hold without expiry as it stands in the stream.
macro_rules! hold_of {
    ($owner:literal, $fence:literal) => {
        &["LOCK._HOLD", "k", $owner, $fence, "-1"]
    };
}

#[test]
fn bounds_follow_the_hold_that_they_bound() {
    let server = Server::with(&["appendonly yes", "appendfsync always"]);
    let mut stream = ReplicaStream::attach(&server);
    acquire(&server, "k alice PX 5000 MAXHOLD 9000 NOTE why");
    release(&server, "k", "alice");
    acquire(&server, "k bob NOEXPIRE MINHOLD 1");
    wait_until("that time to be over", || crate::operate::shown(&server, "min-left-ms") == 0);
    release(&server, "k", "bob");
    let told = stream.collect(&server);
    let expected: [&[&str]; 4] = [
        &step(&[
            &["LOCK._HOLD", "k", "alice", "<fence>", ALL, ALL, "5000", "5000", "<ms>", "why"],
            &["LOCK._BOUNDS", "k", "<fence>", "9000", "<ms>", "-1", "-1"],
        ]),
        &["LOCK._FREE", "k", "<fence>"],
        &step(&[hold_of!("bob", "<fence-2>"), &["LOCK._BOUNDS", "k", "<fence-2>", "-1", "-1", "1", "<ms>"]]),
        &["LOCK._FREE", "k", "<fence-2>"],
    ];
    assert_stream(&told, &expected);
    assert_eq!(read_aof(&server).commands, told, "the AOF says the same");
}

#[test]
fn a_cap_shortens_what_is_told_of_the_hold() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    acquire(&server, "k alice NOEXPIRE MAXHOLD 100");
    wait_until("the end", || ask(&server, "EXISTS k") == 0);
    assert_stream(
        &stream.collect(&server),
        &[
            &step(&[
                &["LOCK._HOLD", "k", "alice", "<fence>", ALL, ALL, "-1", "100", "<ms>"],
                &["LOCK._BOUNDS", "k", "<fence>", "100", "<ms>", "-1", "-1"],
            ]),
            &["LOCK._FREE", "k", "<fence>"],
        ],
    );
}

#[test]
fn a_cooldown_from_its_beginning_to_its_end() {
    let server = Server::with(&["appendonly yes", "appendfsync always"]);
    acquire(&server, "k alice NOEXPIRE MINHOLD 600000");
    let mut stream = ReplicaStream::attach(&server);
    release(&server, "k", "alice");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob"), Value::Nil);
    let mut next = wait_for_lock(&server, "k", "carol");
    ask(&server, "LOCK.BREAK k");
    fence_of(&next.read());
    ask(&server, "CONFIG SET lock.lock-delay-ms 100");
    ask(&server, "LOCK.BREAK k");
    wait_until("the rest to be over", || ask(&server, "EXISTS k") == 0);
    let told = stream.collect(&server);
    let expected: [&[&str]; 4] = [
        &["LOCK._COOL", "k", "alice", "<fence>", ALL, ALL, "<n>", "<n>", "<ms>", "0"],
        &step(&[&["LOCK._FREE", "k", "<fence>"], &["LOCK._HOLD", "k", "carol", "<fence-2>", "30000"]]),
        &["LOCK._COOL", "k", "carol", "<fence-2>", ALL, ALL, "100", "100", "<ms>", "1"],
        &["LOCK._FREE", "k", "<fence-2>"],
    ];
    assert_stream(&told, &expected);
    assert!(read_aof(&server).commands.ends_with(&told), "the AOF says the same");
}

#[test]
fn a_refusal_for_a_cooldown_says_nothing() {
    let server = Server::start();
    acquire(&server, "k alice MINHOLD 600000");
    release(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        for line in [
            "LOCK.ACQUIRE k bob",
            "LOCK.ACQUIRE k bob BLOCK 20",
            "LOCK.RENEW k alice",
            "LOCK.RELEASE k alice",
        ] {
            ask(&server, line);
        }
    });
}

/// Brings locks into every state that bounds leave.
fn bound(server: &Server) {
    let mut conn = server.connect();
    for line in [
        "LOCK.ACQUIRE k alice NOEXPIRE MAXHOLD 500000 MINHOLD 400000 NOTE why",
        "LOCK.ACQUIRE rests alice MINHOLD 400000",
        "LOCK.RELEASE rests alice",
        "LOCK.ACQUIRE s ann LIMIT 3 MINHOLD 400000",
        "LOCK.ACQUIRE s ben LIMIT 3 MAXHOLD 500000 REENTRANT one",
        "LOCK.RELEASE s ann",
        "LOCK.ACQUIRE r ann SHARED MINHOLD 400000",
        "LOCK.ACQUIRE r ben SHARED MINHOLD 400000",
        "LOCK.RELEASE r ann",
        "LOCK.RELEASE r ben",
        "LOCK.MACQUIRE ann 2 m n PX 60000 MAXHOLD 500000",
        "LOCK.ACQUIRE broken ann",
        "CONFIG SET lock.lock-delay-ms 300000",
        "LOCK.BREAK broken",
        "CONFIG SET lock.lock-delay-ms 0",
        "LOCK.ACQUIRE t alice NOEXPIRE TIED 600000 MAXHOLD 500000",
    ] {
        let reply = conn.cmd(&words(line));
        assert!(!matches!(reply, Value::Error(_) | Value::Int(0) | Value::Nil), "{line}: {reply:?}");
    }
}

const KEYS: [&str; 8] = ["k", "rests", "s", "r", "m", "n", "broken", "t"];

/// All that INFO shows of bounds and cooldowns, but for what has passed of them.
#[track_caller]
fn assert_bound(server: &Server, how: &str) {
    let info = |key: &str| server.cmd(&["LOCK.INFO", key]);
    let hold = |key: &str| info(key).field("holds").items()[0].clone();
    let rest = |key: &str, at: usize| {
        let rest = info(key).field("cooling").items()[at].clone();
        (rest.field("owner").text(), rest.field("reason").text(), rest.field("left-ms").clone())
    };
    println!("{how}");
    for key in ["k", "s", "m", "n", "t"] {
        assert_left(hold(key).field("max-left-ms"), 500_000);
    }
    assert_left(hold("k").field("min-left-ms"), 400_000);
    assert_left(hold("k").field("left-ms"), 500_000);
    assert_left(&ask(server, "LOCK.CHECK t alice"), 500_000);
    assert_eq!(hold("t").field("grace-ms"), &600_000);
    for (key, at, owner, why, ms) in [
        ("rests", 0, "alice", "min-hold", 400_000),
        ("s", 0, "ann", "min-hold", 400_000),
        ("r", 0, "ann", "min-hold", 400_000),
        ("r", 1, "ben", "min-hold", 400_000),
        ("broken", 0, "ann", "lock-delay", 300_000),
    ] {
        let (who, reason, left) = rest(key, at);
        assert_eq!((who.as_str(), reason.as_str()), (owner, why), "{key}");
        assert_left(&left, ms);
    }
    assert_eq!(info("rests").field("mode"), &"cooling");
}

/// What INFO shows goes on to bound, where the server may decide.
fn assert_bounds_count(server: &Server) {
    assert_left(&ask(server, "LOCK.RENEW k alice PX 600000"), 500_000);
    for line in ["LOCK.ACQUIRE rests bob", "LOCK.ACQUIRE s cleo LIMIT 3 PERMITS 2", "LOCK.ACQUIRE broken bob"]
    {
        assert_eq!(ask(server, line), Value::Nil, "{line}");
    }
    release(server, "k", "alice");
    let mut next = wait_for_lock(server, "k", "bob");
    next.expect_nothing_pending();
    assert_eq!(ask(server, "LOCK.BREAK k"), 1);
    assert_granted(server, &mut next, "k", "bob");
}

#[test]
fn files_keep_bounds_and_rests() {
    for conf in [
        &["appendonly no"][..],
        &["appendonly yes", "appendfsync always"],
        &["appendonly yes", "appendfsync always", "aof-use-rdb-preamble no"],
    ] {
        let mut server = Server::with(conf);
        bound(&server);
        let before = digest(&server);
        let same = |server: &Server, how: &str| {
            assert_eq!(digest(server), before, "{conf:?}: {how}");
            assert_bound(server, &format!("{conf:?}: {how}"));
            assert_eq!(lock_stat(server, "lease_index_entries"), 10, "{conf:?}: {how}");
        };
        same(&server, "made");
        assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
        same(&server, "reloaded");
        if conf.len() > 1 {
            let told = read_aof(&server).commands;
            assert!(told.iter().all(|words| is_effect(&words[0])), "{told:?}");
            server.restart(Stop::Kill);
            same(&server, "from the AOF");
            ask(&server, "BGREWRITEAOF");
            wait_no_child(&server);
            server.restart(Stop::Kill);
            same(&server, "from a rewritten AOF");
        }
        server.restart(Stop::Save);
        same(&server, "restarted");
        for key in KEYS {
            let payload = dump(&server, key);
            assert_eq!(server.cmd(&["DEL", key]), 1);
            assert_eq!(restore(&server, key, &payload), "OK");
        }
        same(&server, "dumped and restored");
        assert_bounds_count(&server);
    }
}

#[test]
fn replicas_keep_bounds_and_rests() {
    let (primary, early, late) = (Server::start(), Server::start(), Server::start());
    follow(&early, &primary);
    bound(&primary);
    follow(&late, &primary);
    for replica in [&early, &late] {
        wait_same_data(&primary, replica);
        assert_bound(replica, "replica");
    }
    for replica in [&early, &late] {
        assert_eq!(ask(replica, "REPLICAOF NO ONE"), "OK");
        assert_bound(replica, "promoted");
        assert_bounds_count(replica);
    }
}

#[test]
fn a_replica_ends_no_cooldown_and_no_capped_hold() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let mut conn = primary.connect();
    conn.send_together(&[
        &words("LOCK.ACQUIRE k alice NOEXPIRE MAXHOLD 100"),
        &words("LOCK.ACQUIRE l alice MINHOLD 100"),
        &words("LOCK.RELEASE l alice"),
        &words("CLIENT PAUSE 20000 WRITE"),
    ]);
    let fence = fence_of(&conn.read());
    (0..3).for_each(|_| drop(conn.read()));
    wait_until("both to arrive", || ask(&replica, "EXISTS k l") == 2);
    wait_until("both to be over", || {
        ask(&replica, "LOCK.CHECK k alice") == 0 && ask(&replica, "LOCK.INFO l").field("mode") == &"free"
    });
    assert_eq!(ask(&replica, "EXISTS k l"), 2, "over, although nobody has said so");
    let report = ask(&replica, "LOCK.CHECK k alice WITHINFO");
    assert_eq!((report.field("reason").text(), report.field("fence").int()), ("max-hold".to_owned(), fence));
    assert!((0..60_000).contains(&report.field("ago-ms").int()), "{report:?}");
    assert_eq!(ask(&primary, "CLIENT UNPAUSE"), "OK");
    wait_until("the primary to say so", || ask(&replica, "EXISTS k l") == 0);
    wait_same_data(&primary, &replica);
}
