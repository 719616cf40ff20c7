//! Who may ask for several locks: the keys that the commands declare, the rights on each of them, one slot in a cluster.

use super::{assert_all_granted, give_back, line_up, macquire, macquire_in_line};
use crate::cluster::single;
use crate::onlookers::{user, RIGHT_TAKEN_AWAY};
use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, digest, fence_of, holder, is_modern, release,
    wait_for_lock, words,
};
use crate::support::{Server, Value};
use crate::traffic::{lock_stat, wait_quiet};

/// Each command with the keys `a` and `b` and words behind them that are no keys.
const COMMANDS: [&str; 3] = [
    "LOCK.MACQUIRE o 2 a b PX 5000 NOTE c",
    "LOCK.MRELEASE o 2 a b FENCE 7",
    "LOCK.MRENEW o 5000 2 a b FENCE 7",
];

#[test]
fn every_key_is_declared() {
    let server = Server::start();
    let keys_of = |line: &str| ask(&server, &format!("COMMAND GETKEYS {line}"));
    let ab = || Value::Array(vec![Value::bulk("a"), Value::bulk("b")]);
    for line in COMMANDS {
        assert_eq!(keys_of(line), ab(), "{line}");
        let with_flags = ask(&server, &format!("COMMAND GETKEYSANDFLAGS {line}"));
        for (row, key) in with_flags.items().iter().zip(["a", "b"]) {
            assert_eq!(row.items()[0], key);
            let flags: Vec<String> = row.items()[1].items().iter().map(Value::text).collect();
            assert_eq!(flags, ["RW", "access", "update"], "{line}");
        }
        assert_eq!(with_flags.items().len(), 2, "{line}");
    }
    // A key may be called like an option or a number.
    let odd = ["LOCK.MACQUIRE 2 3 BLOCK 0 2", "LOCK.MRELEASE 2 3 BLOCK 0 2", "LOCK.MRENEW 2 2 3 BLOCK 0 2"];
    for line in odd {
        assert_eq!(keys_of(line), Value::Array(["BLOCK", "0", "2"].map(Value::bulk).into()), "{line}");
    }
    for line in ["LOCK.MACQUIRE o 3 a b", "LOCK.MACQUIRE o x a b", "LOCK.MRENEW o 5 -1 a b"] {
        assert!(matches!(keys_of(line), Value::Error(_)), "{line}");
    }
}

#[test]
fn the_right_to_each_key_is_needed() {
    let server = Server::start();
    let all = user(&server, "~a ~b +@all");
    for rules in
        ["~a +@all", "~b +@all", "~a %R~b +@all", "%W~a ~b +@all", "~c +@all", "+@all", "~* -@all +ping"]
    {
        let mut conn = user(&server, rules);
        assert_changes_nothing(&server, || {
            for line in COMMANDS.iter().chain(&["LOCK.MACQUIRE o 2 a b BLOCK 0", "LOCK.MACQUIRE o 2 b a"]) {
                let beforehand = ask(&server, &format!("ACL DRYRUN temp {line}"));
                assert_ne!(beforehand, "OK", "{rules}: {line}");
                assert!(conn.cmd(&words(line)).error().starts_with("NOPERM "), "{rules}: {line}");
            }
        });
    }
    drop(all);
    let mut conn = user(&server, "~a %R~b %W~b +lock.macquire +lock.mrelease +lock.mrenew");
    for line in COMMANDS {
        assert_eq!(ask(&server, &format!("ACL DRYRUN temp {line}")), "OK", "{line}");
        assert!(!matches!(conn.cmd(&words(line)), Value::Error(_)), "{line}");
    }
    assert!(conn.cmd(&words("LOCK.ACQUIRE a o")).error().starts_with("NOPERM "));
}

#[test]
fn a_number_of_keys_that_cannot_be_is_no_way_round() {
    let server = Server::start();
    acquire(&server, "secret o");
    let mut conn = user(&server, "~mine:* +@all");
    assert_changes_nothing(&server, || {
        for count in ["0", "-1", "02", "+2", "3", "65", "9223372036854775807", "x"] {
            for line in [
                format!("LOCK.MACQUIRE o {count} mine:1 secret"),
                format!("LOCK.MRELEASE o {count} secret mine:1"),
                format!("LOCK.MRENEW o 5000 {count} secret mine:1"),
            ] {
                assert!(matches!(conn.cmd(&words(&line)), Value::Error(_)), "{line}");
            }
        }
        // One key is named, and what follows it is no option.
        assert!(matches!(conn.cmd(&words("LOCK.MRELEASE o 1 mine:1 secret")), Value::Error(_)));
    });
}

#[test]
fn rights_that_go_while_waiting() {
    let server = Server::start();
    for change in ["-lock.macquire", "resetkeys ~a", "resetkeys ~a %R~b", "nocommands"] {
        acquire(&server, "a alice");
        let conn = user(&server, "~* +@all");
        let mut barred = line_up(&server, conn, "LOCK.MACQUIRE w 2 a b BLOCK 0");
        let mut on_a = wait_for_lock(&server, "a", "on-a");
        let mut on_b = wait_for_lock(&server, "b", "on-b");
        assert_eq!(ask(&server, &format!("ACL SETUSER temp {change}")), "OK");
        barred.expect_nothing_pending();
        release(&server, "a", "alice");
        assert_eq!(barred.read(), RIGHT_TAKEN_AWAY, "{change}");
        assert_granted(&server, &mut on_a, "a", "on-a");
        assert_granted(&server, &mut on_b, "b", "on-b");
        release(&server, "a", "on-a");
        release(&server, "b", "on-b");
    }
    // What is still enough is enough.
    acquire(&server, "a alice");
    let conn = user(&server, "~* +@all");
    let mut waiter = line_up(&server, conn, "LOCK.MACQUIRE w 2 a b BLOCK 0");
    assert_eq!(ask(&server, "ACL SETUSER temp resetkeys ~a %RW~b nocommands +lock.macquire"), "OK");
    release(&server, "a", "alice");
    assert_all_granted(&server, &mut waiter, &["a", "b"], "w");
    assert_eq!(give_back(&server, "w 2 a b"), 2);
    // Without the user nobody waits any more.
    acquire(&server, "a alice");
    let conn = user(&server, "~* +@all");
    let mut doomed = line_up(&server, conn, "LOCK.MACQUIRE w 2 a b BLOCK 0");
    let mut on_b = wait_for_lock(&server, "b", "on-b");
    assert_eq!(ask(&server, "ACL DELUSER temp"), 1);
    doomed.expect_closed();
    assert_granted(&server, &mut on_b, "b", "on-b");
    wait_quiet(&server);
}

#[test]
fn they_are_in_the_categories_of_locks() {
    let server = Server::start();
    if !is_modern(&server) {
        return crate::support::skip(
            "the categories of LOCK.M*",
            "this server lets no module make categories",
        );
    }
    let mut hasty = user(&server, "~* +@all -@blocking");
    assert!(hasty.cmd(&words("LOCK.MACQUIRE o 2 a b")).error().starts_with("NOPERM "));
    let mut locks = user(&server, "~* -@all +@lock");
    for line in COMMANDS {
        assert!(!matches!(locks.cmd(&words(line)), Value::Error(_)), "{line}");
    }
}

#[test]
fn in_a_cluster_all_are_in_one_slot() {
    let server = single();
    fence_of(&macquire(&server, "alice 3 {t}a {t}b t"));
    let mut waiter = macquire_in_line(&server, "bob 2 {t}a {t}c");
    let before = digest(&server);
    for line in [
        "LOCK.MACQUIRE alice 2 a b",
        "LOCK.MACQUIRE alice 2 a b BLOCK 0",
        "LOCK.MACQUIRE alice 3 {t}a {t}b {u}c",
        "LOCK.MRELEASE alice 3 {t}a {t}b {u}c",
        "LOCK.MRENEW alice 60000 3 {u}c {t}a {t}b",
    ] {
        let reply = ask(&server, line);
        assert!(reply.error().starts_with("CROSSSLOT "), "{line}: {reply:?}");
    }
    assert_eq!(digest(&server), before);
    assert_eq!(give_back(&server, "alice 3 t {t}b {t}a"), 3);
    assert_all_granted(&server, &mut waiter, &["{t}a", "{t}c"], "bob");
}

#[test]
fn a_slot_that_is_lost_takes_its_waiters_with_it() {
    let server = single();
    fence_of(&macquire(&server, "alice 1 {t}a NOEXPIRE"));
    acquire(&server, "other alice");
    let mut lost = macquire_in_line(&server, "bob 2 {t}a {t}b");
    let mut on_b = wait_for_lock(&server, "{t}b", "on-b");
    let mut stays = wait_for_lock(&server, "other", "w");
    let slot = ask(&server, "CLUSTER KEYSLOT t").int().to_string();
    assert_eq!(server.cmd(&["CLUSTER", "DELSLOTS", &slot]), "OK");
    for waiter in [&mut lost, &mut on_b] {
        let reply = waiter.read();
        let text = reply.error();
        let codes = ["TRYAGAIN ", "MOVED ", "CLUSTERDOWN "];
        assert!(codes.iter().any(|code| text.starts_with(code)), "{text}");
    }
    assert_eq!(lock_stat(&server, "waiting"), 1);
    release(&server, "other", "alice");
    fence_of(&stays.read());
    assert_eq!(holder(&server, "other").as_deref(), Some("w"));
}
