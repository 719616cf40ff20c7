//! What the caller of LOCK.GUARD needs: the rights to the guard, to the lock, to the command and to the command's keys. ACL
//! DRYRUN says the same beforehand.

use crate::onlookers::{is_allowed, user};
use crate::steps::{acquire, ask, words};
use crate::support::{Server, Value};

/// Commands that read or write `x`, and some of them `y`, in every way that the server tells apart.
const COMMANDS: [&str; 20] = [
    "GET x",
    "SET x 1",
    "SET x 1 GET",
    "MSET x 1 y 2",
    "GETSET x 1",
    "GETEX x",
    "INCR x",
    "DEL x",
    "APPEND x 1",
    "COPY x y",
    "RENAME x y",
    "XADD x * f v",
    "PFCOUNT x",
    "PFADD x 1",
    "ZUNIONSTORE x 1 y",
    "SORT x STORE y",
    "SUNION x y",
    "EVAL return{} 1 x",
    "EVAL_RO return{} 1 x",
    "BITFIELD x GET u8 0",
];

#[test]
fn dryrun_says_of_a_guarded_command_what_it_says_of_the_command() {
    let server = Server::start();
    for rules in ["", "%R~x", "%W~x", "~x", "%R~x %W~y", "%W~x %R~y", "%R~*", "%W~*", "~*"] {
        let rules = format!("~k {rules} +@all");
        for line in COMMANDS {
            let alone = is_allowed(&server, &rules, line);
            let guarded = is_allowed(&server, &rules, &format!("LOCK.GUARD k alice * {line}"));
            assert_eq!(guarded, alone, "`{line}` with {rules}");
        }
    }
}

#[test]
fn what_dryrun_says_is_so() {
    let server = Server::start();
    acquire(&server, "k alice");
    for (rules, line) in [
        ("%R~x", "GET x"),
        ("%W~x", "MSET x 1"),
        ("%W~x", "XADD x * f v"),
        ("%W~x", "GETSET x 1"),
        ("%R~x", "COPY x y"),
        ("%R~x %W~y", "COPY x y"),
        ("%R~x", "EVAL return{} 1 x"),
        ("~x", "EVAL return{} 1 x"),
    ] {
        let rules = format!("~k {rules} +@all");
        let guard = format!("LOCK.GUARD k alice * {line}");
        let reply = user(&server, &rules).cmd(&words(&guard));
        let is_refused = matches!(&reply, Value::Error(text) if text.starts_with("NOPERM "));
        assert_eq!(is_refused, !is_allowed(&server, &rules, &guard), "`{line}` with {rules}: {reply:?}");
        ask(&server, "DEL x y");
    }
}

#[test]
fn each_key_is_told_with_its_use() {
    let server = Server::start();
    let told = |line: &str| -> Vec<String> {
        let told = ask(&server, &format!("COMMAND GETKEYSANDFLAGS {line}"));
        let row = |row: &Value| {
            let flags: Vec<String> = row.items()[1].items().iter().map(Value::text).collect();
            format!("{} {}", row.items()[0].text(), flags.join(" "))
        };
        let mut rows: Vec<String> = told.items().iter().map(row).collect();
        rows.sort_unstable();
        rows
    };
    for line in COMMANDS {
        let mut expected = told(line);
        expected.push("k RO access".to_owned());
        expected.sort_unstable();
        assert_eq!(told(&format!("LOCK.GUARD k alice * {line}")), expected, "{line}");
    }
}

#[test]
fn a_command_that_the_caller_may_not_run_is_refused_by_its_own_word() {
    let server = Server::start();
    acquire(&server, "k alice");
    for (rules, line) in [
        ("~* +lock.guard", "SET x 1"),
        ("~* +@all -set", "SET x 1"),
        ("~* +@all -@write +lock.guard", "DEL x"),
        ("~k +@all", "SET x 1"),
        ("~* +lock.guard +set resetchannels", "PUBLISH c m"),
        ("~x +@all", "SET x 1"),
    ] {
        let reply = user(&server, rules).cmd(&words(&format!("LOCK.GUARD k alice * {line}")));
        assert!(reply.error().starts_with("NOPERM "), "`{line}` with {rules}: {reply:?}");
    }
    assert_eq!(ask(&server, "EXISTS x"), 0);
    // All rights in one selector, as for any command.
    let split = user(&server, "~k +lock.guard (~x +set)").cmd(&words("LOCK.GUARD k alice * SET x 1"));
    assert!(split.error().starts_with("NOPERM "), "{split:?}");
    let whole = user(&server, "(~k ~x +lock.guard +set)").cmd(&words("LOCK.GUARD k alice * SET x 1"));
    assert_eq!(whole, "OK");
}
