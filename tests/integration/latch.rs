//! Count-down latches: LATCH.SET, LATCH.DOWN, LATCH.INFO. What is set and counted, what is refused, and what onlookers notice.
//! Copies and files (`copies`, `payloads`) and LATCH.AWAIT (`waiting`) have files of their own.

mod copies;
mod payloads;
mod waiting;

use crate::onlookers::{assert_writes_k, goes_through, is_allowed};
use crate::steps::{
    ask, assert_changes_nothing, eval, fence_of, hold, set_string, transaction, words, wrong_arity, WRONGTYPE,
};
use crate::support::{wait_until, Events, Server, Value};
use crate::traffic::{at_once, lock_stat};

const NO_LATCH: &str = "WRONGTYPE the key holds a value that is not a latch; use another key";
const MISSING: &str =
    "NOLATCH there is no latch, or its time is over; set it with LATCH.SET, then count again";

/// Sets a latch where there is none.
fn set(server: &Server, line: &str) {
    assert_eq!(ask(server, &format!("LATCH.SET {line}")), 1, "{line}");
}

/// What LATCH.INFO shows of `k`: size, left, ids.
#[track_caller]
fn assert_shown(server: &Server, size: i64, left: i64, ids: &[&str]) {
    let info = ask(server, "LATCH.INFO k");
    assert_eq!((info.field("size"), info.field("left")), (&Value::Int(size), &Value::Int(left)));
    assert_eq!(info.field("ids").items().iter().map(Value::text).collect::<Vec<_>>(), ids);
}

#[test]
fn each_count_replies_what_is_left_down_to_nothing() {
    let server = Server::start();
    set(&server, "k 3");
    for left in [2, 1, 0, 0, 0] {
        assert_eq!(ask(&server, "LATCH.DOWN k"), left);
    }
    assert_shown(&server, 3, 0, &[]);
}

#[test]
fn an_id_counts_once() {
    let server = Server::start();
    set(&server, "k 4");
    for (id, left) in [("b", 3), ("b", 3), ("a", 2), ("b", 2), ("a", 2), ("", 1), ("b", 1), ("c", 0)] {
        assert_eq!(ask(&server, &format!("LATCH.DOWN k {id}")), left, "{id}");
    }
    // Who comes when all have counted is not among them.
    assert_eq!(ask(&server, "LATCH.DOWN k late"), 0);
    assert_shown(&server, 4, 0, &["a", "b", "c"]);
}

#[test]
fn only_the_first_one_sets_it() {
    let server = Server::start();
    set(&server, "k 2");
    assert_eq!(ask(&server, "LATCH.SET k 5 PX 50"), 0);
    assert_eq!(ask(&server, "PTTL k"), -1, "not even its life is changed");
    assert_eq!(ask(&server, "LATCH.DOWN k a"), 1);
    assert_eq!(ask(&server, "LATCH.SET k 2"), 0);
    assert_shown(&server, 2, 1, &["a"]);
    // An open one is there as well, until it is deleted.
    assert_eq!(ask(&server, "LATCH.DOWN k b"), 0);
    assert_eq!(ask(&server, "LATCH.SET k 2"), 0);
    assert_eq!(ask(&server, "DEL k"), 1);
    set(&server, "k 5");
    assert_shown(&server, 5, 5, &[]);
}

#[test]
fn at_the_end_of_its_life_it_is_gone() {
    let server = Server::start();
    set(&server, "k 2 PX 60000");
    let left_ms = ask(&server, "PTTL k").int();
    assert!((1..=60_000).contains(&left_ms), "{left_ms}");
    assert_eq!(ask(&server, "LATCH.DOWN k"), 1);
    assert!(ask(&server, "PTTL k").int() <= left_ms, "counting does not prolong it");
    set(&server, "short 1 PX 1");
    wait_until("the latch to be gone", || ask(&server, "LATCH.DOWN short") == MISSING);
    assert_eq!(ask(&server, "EXISTS short"), 0);
    set(&server, "short 2");
    assert_eq!(ask(&server, "PTTL short"), -1);
}

#[test]
fn what_is_not_there_cannot_be_counted() {
    let server = Server::start();
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LATCH.DOWN k"), MISSING);
        assert_eq!(ask(&server, "LATCH.DOWN k a"), MISSING);
        assert_eq!(ask(&server, "LATCH.INFO k"), Value::Nil);
    });
}

#[test]
fn the_smallest_and_the_largest() {
    let server = Server::start();
    set(&server, "k 1 PX 315360000000");
    assert_eq!(ask(&server, "LATCH.DOWN k"), 0);
    set(&server, "large 1000000");
    assert_eq!(ask(&server, &format!("LATCH.DOWN large {}", "x".repeat(64))), 999_999);
    let longest = "l".repeat(1024);
    set(&server, &format!("{longest} 1"));
    assert_eq!(lock_stat(&server, "latches"), 3);
}

#[test]
fn wrong_words_are_refused_and_leave_no_trace() {
    let server = Server::start();
    set(&server, "k 3");
    let number = |what: &str, max: i64| format!("BADARG {what} must be a whole number from 1 to {max}");
    let (count, life) = (number("count", 1_000_000), number("PX", 315_360_000_000));
    let id = "BADARG an id must have 1 to 64 bytes".to_owned();
    let unknown = |word: &str| format!("BADARG unknown option '{word}'; see LOCK.HELP");
    let (long_key, long_id) = ("k".repeat(1025), "i".repeat(65));
    let mut requests: Vec<(Vec<&str>, String)> = Vec::new();
    for value in ["0", "-1", "1000001", "4294967297", "99999999999999999999", "03", "+3", "3.0", "x", ""] {
        requests.push((vec!["LATCH.SET", "new", value], count.clone()));
    }
    for value in ["0", "-1", "315360000001", "9223372036854775807", "9223372036854775808", "1e3", "x", ""] {
        requests.push((vec!["LATCH.SET", "new", "3", "PX", value], life.clone()));
    }
    requests.extend([
        (vec!["LATCH.SET", &long_key, "3"], "BADARG the key must have at most 1024 bytes".to_owned()),
        (vec!["LATCH.SET", "new", "3", "PX"], "BADARG PX needs a value".to_owned()),
        (vec!["LATCH.SET", "new", "3", "EX", "5"], unknown("EX")),
        (vec!["LATCH.SET", "new", "3", "5"], unknown("5")),
        (
            vec!["LATCH.SET", "new", "3", "PX", "5", "px", "6"],
            "BADARG PX is given twice, or beside an option that excludes it".to_owned(),
        ),
        (vec!["LATCH.DOWN", "k", ""], id.clone()),
        (vec!["LATCH.DOWN", "k", &long_id], id),
        (vec!["LATCH.DOWN", "k", "a", "b"], wrong_arity("latch.down")),
        (vec!["LATCH.DOWN"], wrong_arity("latch.down")),
        (vec!["LATCH.SET", "new"], wrong_arity("latch.set")),
        (vec!["LATCH.INFO"], wrong_arity("latch.info")),
        (vec!["LATCH.INFO", "k", "l"], wrong_arity("latch.info")),
    ]);
    assert_changes_nothing(&server, || {
        for (request, text) in &requests {
            assert_eq!(server.cmd(request), text.as_str(), "{request:?}");
        }
    });
    assert_shown(&server, 3, 3, &[]);
    assert_eq!(lock_stat(&server, "latches"), 1);
}

#[test]
fn a_key_of_another_type_is_no_latch_and_a_latch_is_no_lock() {
    let server = Server::start();
    set_string(&server, "text");
    hold(&server, "lock", "alice");
    set(&server, "k 3");
    assert_changes_nothing(&server, || {
        for key in ["text", "lock"] {
            for line in
                [format!("LATCH.SET {key} 3"), format!("LATCH.DOWN {key}"), format!("LATCH.INFO {key}")]
            {
                assert_eq!(ask(&server, &line), NO_LATCH, "{line}");
            }
        }
        for line in ["LOCK.ACQUIRE k alice", "LOCK.RELEASE k alice", "LOCK.INFO k", "LOCK.CHECK k alice"] {
            assert_eq!(ask(&server, line), WRONGTYPE, "{line}");
        }
        assert!(ask(&server, "GET k").error().starts_with("WRONGTYPE "));
        assert!(matches!(ask(&server, "COPY k l"), Value::Error(_)), "there would be two gates");
    });
    assert_eq!(ask(&server, "TYPE k"), "locklatch");
    assert_eq!(ask(&server, "SCAN 0 TYPE locklatch COUNT 1000").items()[1].items(), [Value::bulk("k")]);
}

#[test]
fn odd_bytes_are_names_like_others() {
    let server = Server::start();
    let (key, id): (&[u8], &[u8]) = (b"odd\r\n\0key\xff", b"\0\xff id\r\n");
    assert_eq!(server.cmd(&[&b"LATCH.SET"[..], key, b"2"]), 1);
    assert_eq!(server.cmd(&[&b"LATCH.DOWN"[..], key, id]), 1);
    assert_eq!(server.cmd(&[&b"LATCH.DOWN"[..], key, id]), 1);
    assert_eq!(server.cmd(&[&b"LATCH.INFO"[..], key]).field("ids").items(), [Value::bulk(id)]);
}

#[test]
fn info_is_a_map_in_both_protocols_and_shows_a_thousand_ids() {
    let server = Server::start();
    set(&server, "k 2000");
    let ids: Vec<String> = (0..1_500).rev().map(|n| format!("{n:04}")).collect();
    let counts: Vec<[&str; 3]> = ids.iter().map(|id| ["LATCH.DOWN", "k", id]).collect();
    at_once(&server, &counts.iter().map(|words| &words[..]).collect::<Vec<_>>());
    for resp3 in [false, true] {
        let mut conn = server.connect();
        if resp3 {
            conn = conn.hello3();
        }
        let info = conn.cmd(&["LATCH.INFO", "k"]);
        assert_eq!(matches!(info, Value::Map(_)), resp3);
        assert_eq!((info.field("size"), info.field("left")), (&Value::Int(2_000), &Value::Int(500)));
        let shown: Vec<String> = info.field("ids").items().iter().map(Value::text).collect();
        // The first in the order of their bytes, whenever they came.
        assert_eq!(shown, (0..1_000).map(|n| format!("{n:04}")).collect::<Vec<_>>());
        conn.send(&["LATCH.INFO", "none"]);
        conn.expect_bytes(if resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }
}

#[test]
fn memory_usage_counts_the_ids() {
    let server = Server::start();
    set(&server, "few 100");
    set(&server, "many 100");
    for n in 0..100 {
        assert_eq!(ask(&server, &format!("LATCH.DOWN many {n:064}")), 99 - n);
    }
    let usage = |key: &str| server.cmd(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).int();
    let more = usage("many") - usage("few");
    assert!((6_400..20_000).contains(&more), "100 ids of 64 bytes take {more}");
}

#[test]
fn in_a_transaction_and_in_a_script() {
    let server = Server::start();
    let lines =
        ["LATCH.SET k 2", "LATCH.SET k 2", "LATCH.DOWN k a", "LATCH.DOWN none", "LATCH.DOWN k b"].map(words);
    let replies = transaction(&mut server.connect(), &lines.each_ref().map(Vec::as_slice));
    assert_eq!(replies[..3], [Value::Int(1), Value::Int(0), Value::Int(1)]);
    assert_eq!(replies[3], MISSING);
    assert_eq!(replies[4], 0);
    let script = "
        local set = redis.call('LATCH.SET', KEYS[1], '3', 'PX', '60000')
        local left = redis.call('LATCH.DOWN', KEYS[1], 'a')
        local info = redis.call('LATCH.INFO', KEYS[1])
        return {set, left, info[1], info[2], info[3], info[4], info[5], info[6][1]}";
    let expected = [
        Value::Int(1),
        Value::Int(2),
        Value::bulk("size"),
        Value::Int(3),
        Value::bulk("left"),
        Value::Int(2),
        Value::bulk("ids"),
        Value::bulk("a"),
    ];
    assert_eq!(eval(&server, script, &["l"]), Value::Array(expected.to_vec()));
    assert!(matches!(
        server.cmd(&["EVAL_RO", "return redis.call('LATCH.DOWN', KEYS[1])", "1", "l"]),
        Value::Error(_)
    ));
    assert_eq!(server.cmd(&["EVAL_RO", "return redis.call('LATCH.INFO', KEYS[1])[4]", "1", "l"]), 2);
}

#[test]
fn watch_and_events_tell_of_what_has_changed() {
    let server = Server::start();
    let server = &server;
    let mut events = Events::listen(server);
    assert!(!goes_through(server, || set(server, "k 2 PX 60000")));
    assert_eq!(events.heard(), ["k latch.set"]);
    assert!(goes_through(server, || ask(server, "LATCH.SET k 2")));
    assert!(!goes_through(server, || ask(server, "LATCH.DOWN k a")));
    assert!(goes_through(server, || ask(server, "LATCH.DOWN k a")));
    assert!(goes_through(server, || ask(server, "LATCH.INFO k")));
    assert_eq!(events.heard(), ["k latch.down"]);
    assert!(!goes_through(server, || ask(server, "LATCH.DOWN k b")));
    assert!(goes_through(server, || ask(server, "LATCH.DOWN k")));
    assert_eq!(events.heard(), ["k latch.down", "k latch.open"]);
    assert_eq!(ask(server, "CONFIG SET lock.events no"), "OK");
    assert_eq!(ask(server, "DEL k"), 1);
    set(server, "k 1");
    assert_eq!(ask(server, "LATCH.DOWN k"), 0);
    assert_eq!(events.heard(), ["k del"]);
}

#[test]
fn who_may_set_it_count_it_and_look() {
    let server = Server::start();
    set(&server, "k 3");
    assert_writes_k(&server, "LATCH.SET k 3");
    assert_writes_k(&server, "LATCH.DOWN k me");
    for name in ["info", "await"] {
        let line = format!("LATCH.{} k", name.to_uppercase());
        assert!(is_allowed(&server, &format!("%R~k +latch.{name}"), &line));
        assert!(!is_allowed(&server, &format!("%W~k +latch.{name}"), &line));
        assert!(!is_allowed(&server, &format!("%R~other +latch.{name}"), &line));
    }
}

#[test]
fn when_memory_is_short_a_latch_takes_no_more_of_it() {
    let server = Server::start();
    set(&server, "k 2");
    assert_eq!(ask(&server, "LATCH.DOWN k a"), 1);
    assert_eq!(ask(&server, "CONFIG SET maxmemory 1"), "OK");
    let full = "OOM command not allowed when used memory > 'maxmemory'.";
    assert_changes_nothing(&server, || {
        for line in ["LATCH.SET l 2", "LATCH.DOWN k b"] {
            assert_eq!(ask(&server, line), full, "{line}");
        }
        assert_eq!(ask(&server, "LATCH.DOWN k a"), 1, "it counts once");
    });
    assert_eq!(ask(&server, "LATCH.DOWN k"), 0, "without an id nothing is to be remembered");
    assert_eq!(ask(&server, "LATCH.DOWN k late"), 0, "nor behind the last one");
}

#[test]
fn a_latch_in_the_way_of_those_who_wait_for_a_lock() {
    let server = Server::start();
    fence_of(&ask(&server, "LOCK.ACQUIRE k alice"));
    let mut waiter = crate::steps::wait_for_lock(&server, "k", "bob");
    // One packet: before bob can have the lock, the name is taken.
    let replies = at_once(&server, &[&["DEL", "k"], &["LATCH.SET", "k", "2"]]);
    assert_eq!(replies, [Value::Int(1), Value::Int(1)]);
    assert!(waiter.read().error().starts_with("WRONGTYPE "));
    assert_shown(&server, 2, 2, &[]);
}
