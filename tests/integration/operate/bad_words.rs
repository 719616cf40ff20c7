//! Words that these commands refuse, each with its whole text, and without a trace.

use super::ask;
use crate::steps::{
    assert_changes_nothing, hold, queue, set_string, wait_for_lock, words, wrong_arity, WRONGTYPE,
};
use crate::support::{Server, Value};

#[test]
fn every_refusal_leaves_everything_as_it_was() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    let unknown = |word: &str| format!("BADARG unknown option '{word}'; see LOCK.HELP");
    let twice = |word: &str| format!("BADARG {word} is given twice, or beside an option that excludes it");
    let no_value = |word: &str| format!("BADARG {word} needs a value");
    let number = |word: &str, max: &str| format!("BADARG {word} must be a whole number from 1 to {max}");
    let cases = [
        ("LOCK.TRANSFER", wrong_arity("lock.transfer")),
        ("LOCK.TRANSFER k alice", wrong_arity("lock.transfer")),
        ("LOCK.TRANSFER k alice eve NX", unknown("NX")),
        ("LOCK.TRANSFER k alice eve WITHINFO", unknown("WITHINFO")),
        ("LOCK.TRANSFER k alice eve BLOCK 0", unknown("BLOCK")),
        ("LOCK.TRANSFER k alice eve PX", no_value("PX")),
        ("LOCK.TRANSFER k alice eve PX 0", number("PX", "604800000")),
        ("LOCK.TRANSFER k alice eve PX 604800001", number("PX", "604800000")),
        ("LOCK.TRANSFER k alice eve EX -1", number("EX", "604800")),
        ("LOCK.TRANSFER k alice eve PX 5 NOEXPIRE", twice("NOEXPIRE")),
        ("LOCK.TRANSFER k alice eve FENCE", no_value("FENCE")),
        ("LOCK.TRANSFER k alice eve FENCE 0", number("FENCE", "9007199254740991")),
        ("LOCK.TRANSFER k alice eve FENCE 7 FENCE 7", twice("FENCE")),
        ("LOCK.CANCEL", wrong_arity("lock.cancel")),
        ("LOCK.CANCEL k", wrong_arity("lock.cancel")),
        ("LOCK.CANCEL k bob now", wrong_arity("lock.cancel")),
        ("LOCK.BREAK", wrong_arity("lock.break")),
        ("LOCK.BREAK k alice", unknown("alice")),
        ("LOCK.BREAK k OWNER", no_value("OWNER")),
        ("LOCK.BREAK k OWNER alice OWNER alice", twice("OWNER")),
        ("LOCK.BREAK k REASON", no_value("REASON")),
        ("LOCK.BREAK k REASON a REASON b", twice("REASON")),
        ("LOCK.BREAK k REASON two words", unknown("words")),
        ("LOCK.STEAL", wrong_arity("lock.steal")),
        ("LOCK.STEAL k", wrong_arity("lock.steal")),
        ("LOCK.STEAL k eve BLOCK 0", unknown("BLOCK")),
        ("LOCK.STEAL k eve FENCE 7", unknown("FENCE")),
        ("LOCK.STEAL k eve REENTRANT one", unknown("REENTRANT")),
        ("LOCK.STEAL k eve WITHINFO", unknown("WITHINFO")),
        ("LOCK.STEAL k eve PX 0", number("PX", "604800000")),
        ("LOCK.STEAL k eve PX 5 EX 5", twice("EX")),
        ("LOCK.STEAL k eve SHARED LIMIT 2", twice("LIMIT")),
        ("LOCK.STEAL k eve LIMIT 1000001", number("LIMIT", "1000000")),
        ("LOCK.STEAL k eve LIMIT 2 PERMITS 3", number("PERMITS", "2")),
        ("LOCK.STEAL k eve NOTE", no_value("NOTE")),
    ];
    assert_changes_nothing(&server, || {
        for (line, text) in cases {
            assert_eq!(ask(&server, line), text.as_str(), "{line}");
        }
    });
    assert_eq!(queue(&server, "k"), ["bob"]);
    waiter.expect_nothing_pending();
    assert!(!server.log().contains("lock: event="), "what was refused is not written down");
}

#[test]
fn lengths_at_the_limit_and_one_beyond() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let longest = |n: usize| vec![b'x'; n];
    let (key, owner) = (longest(1025), longest(257));
    let bad_owner = "BADARG the owner must have 1 to 256 bytes";
    let bad_note = "BADARG the note must have at most 256 bytes";
    let cases: [(&[&[u8]], &str); 9] = [
        (&[b"LOCK.TRANSFER", b"k", b"alice", &owner], bad_owner),
        (&[b"LOCK.TRANSFER", b"k", b"alice", b""], bad_owner),
        (&[b"LOCK.TRANSFER", b"k", &owner, b"alice"], bad_owner),
        (&[b"LOCK.CANCEL", b"k", &owner], bad_owner),
        (&[b"LOCK.BREAK", b"k", b"OWNER", b""], bad_owner),
        (&[b"LOCK.BREAK", b"k", b"REASON", &owner], bad_note),
        (&[b"LOCK.STEAL", b"k", b""], bad_owner),
        (&[b"LOCK.STEAL", b"k", b"eve", b"NOTE", &owner], bad_note),
        (&[b"LOCK.STEAL", &key, b"eve"], "BADARG the key must have at most 1024 bytes"),
    ];
    assert_changes_nothing(&server, || {
        for (request, text) in cases {
            assert_eq!(server.cmd(request), text, "{:?}", request[0].escape_ascii().to_string());
        }
    });
    let (key, owner) = (longest(1024), longest(256));
    assert!(server.cmd(&[&b"LOCK.STEAL"[..], &key[..], b"eve", b"NOTE", &owner]).int() > 0);
    assert!(server.cmd(&[&b"LOCK.TRANSFER"[..], &key[..], b"eve", &owner]).int() > 0);
    assert_eq!(server.cmd(&[&b"LOCK.BREAK"[..], &key[..], b"OWNER", &owner, b"REASON", &owner]), 1);
}

#[test]
fn another_type_is_refused() {
    let server = Server::start();
    set_string(&server, "k");
    assert_changes_nothing(&server, || {
        for line in ["LOCK.TRANSFER k alice bob", "LOCK.CANCEL k bob", "LOCK.BREAK k", "LOCK.STEAL k eve"] {
            assert_eq!(server.cmd(&words(line)), WRONGTYPE, "{line}");
        }
    });
}

#[test]
fn when_memory_is_short_only_a_theft_is_refused() {
    let server = Server::start();
    hold(&server, "k", "alice");
    assert_eq!(server.cmd(&words("CONFIG SET maxmemory 1")), "OK");
    assert!(ask(&server, "LOCK.STEAL k eve").error().starts_with("OOM "));
    assert!(matches!(ask(&server, "LOCK.TRANSFER k alice bob"), Value::Int(_)));
    assert_eq!(ask(&server, "LOCK.CANCEL k bob"), 0);
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1);
}
