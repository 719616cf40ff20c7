//! Count-down latches: lives that end, sizes, odd bytes, rights. What is set, counted and refused is `tests/cases/latch.md`; copies
//! and files (`copies`, `payloads`) and LATCH.AWAIT (`waiting`) have files of their own.

mod copies;
mod payloads;
mod waiting;

use crate::onlookers::{assert_writes_k, is_allowed};
use crate::steps::{acquire, ask, assert_changes_nothing};
use crate::support::{wait_until, Server, Value};
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
fn names_that_are_too_long_are_refused_and_leave_no_trace() {
    let server = Server::start();
    set(&server, "k 3");
    let (long_key, long_id) = ("k".repeat(1025), "i".repeat(65));
    assert_changes_nothing(&server, || {
        let key = "BADARG the key must have at most 1024 bytes";
        assert_eq!(server.cmd(&["LATCH.SET", &long_key, "3"]), key);
        assert_eq!(server.cmd(&["LATCH.DOWN", "k", &long_id]), "BADARG an id must have 1 to 64 bytes");
    });
    assert_shown(&server, 3, 3, &[]);
    assert_eq!(lock_stat(&server, "latches"), 1);
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
fn a_latch_in_the_way_of_those_who_wait_for_a_lock() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiter = crate::steps::wait_for_lock(&server, "k", "bob");
    // One packet: before bob can have the lock, the name is taken.
    let replies = at_once(&server, &[&["DEL", "k"], &["LATCH.SET", "k", "2"]]);
    assert_eq!(replies, [Value::Int(1), Value::Int(1)]);
    assert!(waiter.read().error().starts_with("WRONGTYPE "));
    assert_shown(&server, 2, 2, &[]);
}
