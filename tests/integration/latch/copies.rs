//! What replicas and files are told of a latch, and that they have the same one.

use super::{assert_shown, set, MISSING};
use crate::onlookers::is_allowed;
use crate::round_trips::assert_round_trips;
use crate::steps::{acquire, ask, digest, is_modern, unix_us, words, wrong_arity};
use crate::support::aof::{read_aof, Base};
use crate::support::wait::let_pass;
use crate::support::{assert_stream, skip, wait_until, Events, ReplicaStream, Server, Stop, Value};
use crate::traffic::{follow, wait_no_child, wait_same_data};

#[test]
fn the_end_of_its_life_is_told_as_a_moment() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    let before = unix_us() / 1000;
    set(&server, "k 2 PX 60000");
    let after = unix_us() / 1000;
    let sent = stream.collect(&server);
    let ends = ask(&server, "PEXPIRETIME k").int();
    assert_stream(&sent, &[&["LATCH._SET", "k", "2", "2", &ends.to_string()]]);
    assert!((before + 60_000..=after + 60_000).contains(&ends), "{before} {ends} {after}");

    // Where it is over the server itself says so, before the next one is set.
    assert_eq!(ask(&server, "DEBUG SET-ACTIVE-EXPIRE 0"), "OK");
    set(&server, "short 2 PX 1");
    let_pass(std::time::Duration::from_millis(5));
    set(&server, "short 3");
    let sent = stream.collect(&server);
    assert_eq!(sent[0][..4], ["LATCH._SET", "short", "2", "2"]);
    assert!(["DEL", "UNLINK"].contains(&sent[2][0].as_str()), "{sent:?}");
    assert_eq!(
        [&sent[1][..], &sent[2][1..], &sent[3], &sent[4]].map(|words| words.join(" ")),
        ["MULTI", "short", "LATCH._SET short 3 3 -1", "EXEC"]
    );
}

#[test]
fn a_latch_survives_every_round_trip() {
    let prepare = |server: &Server| {
        set(server, "k 4");
        for id in ["b", "", "a"] {
            ask(server, &format!("LATCH.DOWN k {id}"));
        }
        set(server, "fresh 1000000");
        set(server, "open 1");
        assert_eq!(ask(server, "LATCH.DOWN open"), 0);
    };
    assert_round_trips(&["k", "fresh", "open"], prepare, |server, what| {
        assert_shown(server, 4, 1, &["a", "b"]);
        assert_eq!(ask(server, "LATCH.SET k 4"), 0, "{what}");
        assert_eq!(ask(server, "LATCH.DOWN k a"), 1, "{what}: it was counted before");
        assert_eq!(ask(server, "LATCH.DOWN k c"), 0, "{what}");
        assert_eq!(ask(server, "LATCH.DOWN open a"), 0, "{what}");
        assert_eq!(ask(server, "LATCH.DOWN fresh a"), 999_999, "{what}");
    });
}

#[test]
fn a_rewritten_aof_names_each_id() {
    let server = Server::with(&["appendonly yes", "aof-use-rdb-preamble no"]);
    set(&server, "k 4 PX 600000");
    for id in ["b", "", "a"] {
        ask(&server, &format!("LATCH.DOWN k {id}"));
    }
    let ends = ask(&server, "PEXPIRETIME k").int().to_string();
    assert!(!matches!(ask(&server, "BGREWRITEAOF"), Value::Error(_)));
    wait_no_child(&server);
    let Base::Commands(base) = read_aof(&server).base else { panic!("not a file of commands") };
    let base: Vec<_> = base.into_iter().filter(|words| !words[0].starts_with("FUNCTION")).collect();
    assert_stream(
        &base,
        &[
            &["LATCH._SET", "k", "4", "1", "-1"],
            &["LATCH._DOWN", "k", "1", "a"],
            &["LATCH._DOWN", "k", "1", "b"],
            &["PEXPIREAT", "k", &ends],
        ],
    );
}

#[test]
fn its_life_is_as_long_everywhere() {
    for preamble in ["yes", "no"] {
        let conf = ["appendonly yes", "appendfsync always", &format!("aof-use-rdb-preamble {preamble}")]
            .map(str::to_owned);
        let mut server = Server::with(&conf);
        set(&server, "k 2 PX 600000");
        set(&server, "short 2 PX 1");
        let ends = ask(&server, "PEXPIRETIME k").int();
        server.restart(Stop::Kill);
        assert_eq!(ask(&server, "PEXPIRETIME k"), ends, "from the commands of the AOF");
        assert_eq!(ask(&server, "LATCH.DOWN short"), MISSING, "its time went on while the server was down");
        assert!(!matches!(ask(&server, "BGREWRITEAOF"), Value::Error(_)));
        wait_no_child(&server);
        server.restart(Stop::Kill);
        assert_eq!(ask(&server, "PEXPIRETIME k"), ends, "from a rewritten AOF, preamble {preamble}");
        assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
        assert_eq!(ask(&server, "PEXPIRETIME k"), ends, "from a snapshot");
    }
}

#[test]
fn a_replica_has_the_same_latch_and_counts_nothing() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    set(&primary, "k 3 PX 600000");
    set(&primary, "short 1 PX 100");
    assert_eq!(ask(&primary, "LATCH.DOWN k a"), 2);
    wait_same_data(&replica, &primary);
    assert_shown(&replica, 3, 2, &["a"]);
    assert_eq!(ask(&replica, "PEXPIRETIME k"), ask(&primary, "PEXPIRETIME k").int());
    for line in ["LATCH.SET new 3", "LATCH.DOWN k b"] {
        assert!(ask(&replica, line).error().starts_with("READONLY "), "{line}");
    }
    // One that lets its clients write leaves latches to its primary all the same.
    assert_eq!(ask(&replica, "CONFIG SET replica-read-only no"), "OK");
    for line in ["LATCH.SET new 3", "LATCH.DOWN k b"] {
        let text = "READONLY this server is a replica; locks change on its primary";
        assert_eq!(ask(&replica, line), text, "{line}");
    }
    wait_until("the end of a latch to arrive", || ask(&replica, "DBSIZE") == 1);
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    assert_eq!(ask(&replica, "LATCH.DOWN k a"), 2);
    assert_eq!(ask(&replica, "LATCH.DOWN k b"), 1);
}

#[test]
fn renamed_and_moved_it_is_the_same_latch() {
    let server = Server::start();
    set(&server, "k 3 PX 600000");
    ask(&server, "LATCH.DOWN k a");
    assert_eq!(ask(&server, "RENAME k l"), "OK");
    assert_eq!(ask(&server, "LATCH.DOWN l a"), 2);
    assert_eq!(ask(&server, "MOVE l 5"), 1);
    assert_eq!(ask(&server, "SWAPDB 0 5"), "OK");
    assert_eq!(ask(&server, "LATCH.DOWN l b"), 1);
    assert!(ask(&server, "PTTL l").int() > 0);
    assert_eq!(ask(&server, "FLUSHALL"), "OK");
    assert_eq!(ask(&server, "LATCH.DOWN l b"), MISSING);
    wait_until("no latch to be left", || crate::traffic::lock_stat(&server, "latches") == 0);
}

#[test]
fn the_internal_commands_are_not_for_applications() {
    let server = Server::start();
    set(&server, "k 3");
    let before = digest(&server);
    for line in ["LATCH._SET k 9 9 -1", "LATCH._SET new 9 0 -1", "LATCH._DOWN k 0", "LATCH._DOWN k 0 me"] {
        if is_modern(&server) {
            assert!(!is_allowed(&server, "~* +@all -@dangerous", line), "{line}");
            assert!(!is_allowed(&server, "~* +@lock", line), "{line}");
        } else {
            let text = "NOPERM internal commands are for the replication stream and the AOF; \
                        LOCK.HELP lists those for clients";
            assert_eq!(ask(&server, line), text, "{line}");
        }
        let mut script = vec!["EVAL", "return redis.pcall(unpack(ARGV))", "0"];
        script.extend(words(line));
        if !is_modern(&server) {
            assert!(matches!(server.cmd(&script), Value::Error(_)), "{line}");
        }
    }
    for (line, name) in [
        ("LATCH._SET k 9 9", "latch._set"),
        ("LATCH._SET k 9 9 -1 -1", "latch._set"),
        ("LATCH._DOWN k", "latch._down"),
    ] {
        assert_eq!(ask(&server, line), wrong_arity(name).as_str(), "{line}");
    }
    assert_eq!(digest(&server), before);
}

#[test]
fn an_administrator_can_say_it_twice_but_not_what_cannot_be() {
    let server = Server::start();
    if !is_modern(&server) {
        return skip(
            "an_administrator_can_say_it_twice_but_not_what_cannot_be",
            "nobody may use internal commands here",
        );
    }
    let mut events = Events::listen(&server);
    for (line, changes) in [
        ("LATCH._DOWN k 2", 0),
        ("LATCH._SET k 3 2 4102444800000", 1),
        ("LATCH._DOWN k 2 a", 1),
        ("LATCH._DOWN k 2 a", 0),
        ("LATCH._DOWN k 1 b", 1),
        ("LATCH._DOWN k 2 a", 0),
        ("LATCH._DOWN k 1", 0),
    ] {
        assert_eq!(ask(&server, line), changes, "{line}");
    }
    assert_shown(&server, 3, 1, &["a", "b"]);
    assert_eq!(ask(&server, "PEXPIRETIME k"), 4_102_444_800_000);
    assert!(events.heard().is_empty(), "what a primary has published is not published again");
    let before = digest(&server);
    let bad = "BADARG the effect has a field that cannot be true; nothing was changed";
    for line in [
        "LATCH._SET k 0 0 -1",
        "LATCH._SET k 1000001 0 -1",
        "LATCH._SET k 3 4 -1",
        "LATCH._SET k 3 -1 -1",
        "LATCH._SET k 3 3 -2",
        "LATCH._SET k three 3 -1",
        "LATCH._DOWN k -1",
        "LATCH._DOWN k 4294967296",
        "LATCH._DOWN k x",
        "LATCH._DOWN k 1 c",
    ] {
        assert_eq!(ask(&server, line), bad, "{line}");
    }
    acquire(&server, "lock alice");
    assert!(ask(&server, "LATCH._SET lock 3 3 -1").error().starts_with("WRONGTYPE "));
    assert_eq!(ask(&server, "LOCK.RELEASE lock alice"), 1);
    assert_eq!(digest(&server), before);
    // It takes the place of what was there, with another life.
    assert_eq!(ask(&server, "LATCH._SET k 5 5 -1"), 1);
    assert_shown(&server, 5, 5, &[]);
    assert_eq!(ask(&server, "PTTL k"), -1);
}
