//! Words that a client must not send, and odd ones that it may: numbers, lengths, options, bytes, packets. Every refusal is
//! compared as a whole, and must leave the data, the queues and the replicas as they were.

use std::net::Shutdown;

use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_holds, digest, fence_of, holder, queue, release,
    wait_for_lock, words, wrong_arity,
};
use crate::support::{wait_until, Server, Value};

const KEY_MAX: usize = 1024;
const OWNER_MAX: usize = 256;
const NOTE_MAX: usize = 256;

/// What is no number at all, wherever one is asked for.
const NO_NUMBERS: [&str; 24] = [
    "", "-", "+", "+5", " 5", "5 ", "5\0", "5\n", "05", "00", "-0", "-05", "0x10", "1e3", "5.0", ".5",
    "1_000", "1,000", "٣", "NaN", "inf", "five", "PX", "--5",
];

/// What no 64-bit number can say, or only by wrapping round.
const TOO_LARGE: [&str; 6] = [
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551621",
    "99999999999999999999",
    "340282366920938463463374607431768211457",
];

/// A server with a lock that alice holds and bob waits for, on which every request of `requests` is refused with its text
/// and none leaves a trace.
fn assert_refused(requests: &[(Vec<&[u8]>, String)]) {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    assert_changes_nothing(&server, || {
        let before = digest(&server);
        for (request, text) in requests {
            let reply = server.cmd(request);
            assert_eq!(
                reply,
                text.as_str(),
                "{:?}",
                request.iter().map(|w| w.escape_ascii().to_string()).collect::<Vec<_>>()
            );
            assert_eq!(digest(&server), before);
        }
    });
    assert_eq!(queue(&server, "k"), ["bob"]);
    waiter.expect_nothing_pending();
    assert_eq!(server.info_int("lock_state", "lock_held"), 1);
    assert_eq!(server.info_int("lock_state", "lock_lease_index_entries"), 1);
    assert_eq!(server.info_int("clients", "blocked_clients"), 1);
}

/// One refusal for each way to give `option` a wrong number, in each of the commands.
fn wrong_numbers<'a>(
    commands: &[&'a str],
    option: &'a str,
    (min, max): (i64, i64),
    out_of_range: &'a [String],
) -> Vec<(Vec<&'a [u8]>, String)> {
    let text = format!("BADARG {option} must be a whole number from {min} to {max}");
    let values = NO_NUMBERS.iter().chain(&TOO_LARGE).copied().chain(out_of_range.iter().map(String::as_str));
    let mut requests = Vec::new();
    for value in values {
        for command in commands {
            let mut request: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            request.extend([option.as_bytes(), value.as_bytes()]);
            requests.push((request, text.clone()));
        }
    }
    requests
}

#[test]
fn leases_are_strict_numbers() {
    let max = 7 * 24 * 3_600_000;
    let beyond: Vec<String> =
        [i64::MIN, -1, 0, max + 1, 1 << 31, 1 << 32, 1 << 53, i64::MAX].iter().map(i64::to_string).collect();
    let commands =
        ["LOCK.ACQUIRE k alice", "LOCK.ACQUIRE free alice", "LOCK.RENEW k alice", "LOCK.RENEW free alice"];
    assert_refused(&wrong_numbers(&commands, "PX", (1, max), &beyond));
    let max = max / 1000;
    // Among them what would be in range again if it wrapped round when it is made milliseconds.
    let beyond: Vec<String> = [i64::MIN, -1, 0, max + 1, 1 << 53, i64::MAX, i64::MAX / 1000 + 2]
        .iter()
        .map(i64::to_string)
        .collect();
    assert_refused(&wrong_numbers(&commands, "EX", (1, max), &beyond));
}

#[test]
fn waits_are_strict_numbers() {
    let max = 24 * 3_600_000;
    let beyond: Vec<String> =
        [i64::MIN, -1, max + 1, 1 << 31, 1 << 53, i64::MAX].iter().map(i64::to_string).collect();
    let commands =
        ["LOCK.ACQUIRE k carol", "LOCK.ACQUIRE free alice", "LOCK.AWAIT k FREE", "LOCK.AWAIT k alice WANTED"];
    assert_refused(&wrong_numbers(&commands, "BLOCK", (0, max), &beyond));
}

#[test]
fn fences_and_counts_are_strict_numbers() {
    let max = (1 << 53) - 1;
    let beyond: Vec<String> = [i64::MIN, -1, 0, max + 1, i64::MAX].iter().map(i64::to_string).collect();
    let commands = [
        "LOCK.ACQUIRE k alice",
        "LOCK.RELEASE k alice",
        "LOCK.RENEW k alice",
        "LOCK.CHECK k alice",
        "LOCK.AWAIT k CHANGED",
    ];
    assert_refused(&wrong_numbers(&commands, "FENCE", (1, max), &beyond));
    let mut registers = wrong_numbers(&["LOCK.FENCE k", "LOCK.FENCE free"], "FENCE", (1, max), &beyond);
    // There the fence stands by its place, without the word.
    for (request, _) in &mut registers {
        request.remove(2);
    }
    assert_refused(&registers);
    let ten_years = 315_360_000;
    let beyond: Vec<String> =
        [i64::MIN, -1, 0, ten_years + 1, i64::MAX, i64::MAX / 1000 + 2].iter().map(i64::to_string).collect();
    assert_refused(&wrong_numbers(&["LOCK.FENCE k 7", "LOCK.FENCE free 7"], "EX", (1, ten_years), &beyond));
    let beyond: Vec<String> = [i64::MIN, -1, 0, 10_001, i64::MAX].iter().map(i64::to_string).collect();
    assert_refused(&wrong_numbers(&["LOCK.WAITERS k"], "COUNT", (1, 10_000), &beyond));
}

#[test]
fn the_largest_numbers_are_taken() {
    let server = Server::start();
    let left = |key: &str| server.cmd(&["LOCK.CHECK", key, "alice"]).int();
    acquire(&server, "a alice PX 604800000 BLOCK 86400000");
    acquire(&server, "b alice EX 604800");
    for key in ["a", "b"] {
        assert!((604_700_000..=604_800_000).contains(&left(key)), "{}", left(key));
    }
    assert_eq!(ask(&server, "LOCK.CHECK a alice FENCE 9007199254740991"), 0);
    let mut waiter = server.connect();
    waiter.send(&words("LOCK.ACQUIRE a bob BLOCK 86400000"));
    wait_until("the wait to begin", || queue(&server, "a") == ["bob"]);
    assert_eq!(ask(&server, "LOCK.WAITERS a COUNT 10000").items().len(), 1);
    release(&server, "a", "alice");
    fence_of(&waiter.read());
}

#[test]
fn options_that_are_unknown_repeated_or_contradictory() {
    let unknown = |word: &str| format!("BADARG unknown option '{word}'; see LOCK.HELP");
    let twice = |word: &str| format!("BADARG {word} is given twice, or beside an option that excludes it");
    let no_value = |word: &str| format!("BADARG {word} needs a value");
    let cases = [
        ("LOCK.ACQUIRE k alice XX", unknown("XX")),
        ("LOCK.ACQUIRE k alice P 5", unknown("P")),
        ("LOCK.ACQUIRE k alice PXX 5", unknown("PXX")),
        ("LOCK.ACQUIRE k alice 5", unknown("5")),
        ("LOCK.ACQUIRE k alice COUNT 5", unknown("COUNT")),
        ("LOCK.ACQUIRE k alice PX 5 5", unknown("5")),
        ("LOCK.ACQUIRE k alice WITHINFO 5", unknown("5")),
        ("LOCK.ACQUIRE k alice PX 5 PX 5", twice("PX")),
        ("LOCK.ACQUIRE k alice PX 5 EX 5", twice("EX")),
        ("LOCK.ACQUIRE k alice EX 5 PX 5", twice("PX")),
        ("LOCK.ACQUIRE k alice NOEXPIRE PX 5", twice("PX")),
        ("LOCK.ACQUIRE k alice EX 5 NOEXPIRE", twice("NOEXPIRE")),
        ("LOCK.ACQUIRE k alice NOEXPIRE NOEXPIRE", twice("NOEXPIRE")),
        ("LOCK.ACQUIRE k alice BLOCK 5 BLOCK 5", twice("BLOCK")),
        ("LOCK.ACQUIRE k alice FENCE 5 fence 5", twice("FENCE")),
        ("LOCK.ACQUIRE k alice NOTE 5 NOTE 5", twice("NOTE")),
        ("LOCK.ACQUIRE k alice WITHINFO withinfo", twice("WITHINFO")),
        ("LOCK.ACQUIRE k alice PX", no_value("PX")),
        ("LOCK.ACQUIRE k alice EX", no_value("EX")),
        ("LOCK.ACQUIRE k alice BLOCK", no_value("BLOCK")),
        ("LOCK.ACQUIRE k alice FENCE", no_value("FENCE")),
        ("LOCK.ACQUIRE k alice NOTE", no_value("NOTE")),
        ("LOCK.RELEASE k alice PX 5", unknown("PX")),
        ("LOCK.CHECK k alice ALL", unknown("ALL")),
        ("LOCK.RELEASE k alice FENCE", no_value("FENCE")),
        ("LOCK.RELEASE k alice FENCE 5 FENCE 5", twice("FENCE")),
        ("LOCK.RENEW k alice 5", unknown("5")),
        ("LOCK.RENEW k alice BLOCK 5", unknown("BLOCK")),
        ("LOCK.RENEW k alice NOTE 5 NOTE 5", twice("NOTE")),
        ("LOCK.RENEW k alice PX 5 NOEXPIRE", twice("NOEXPIRE")),
        ("LOCK.RENEW k alice PX", no_value("PX")),
        ("LOCK.CHECK k alice PX 5", unknown("PX")),
        ("LOCK.CHECK k alice WITHINFO WITHINFO", twice("WITHINFO")),
        ("LOCK.CHECK k alice FENCE", no_value("FENCE")),
        ("LOCK.WAITERS k 5", unknown("5")),
        ("LOCK.WAITERS k COUNT", no_value("COUNT")),
        ("LOCK.WAITERS k COUNT 5 COUNT 5", twice("COUNT")),
        ("LOCK.AWAIT k alice", unknown("alice")),
        ("LOCK.AWAIT k WANTED", unknown("WANTED")),
        ("LOCK.AWAIT k FREE FENCE 5", unknown("FENCE")),
        ("LOCK.AWAIT k FREE CHANGED", twice("CHANGED")),
        ("LOCK.AWAIT k alice WANTED FENCE 5", unknown("FENCE")),
        ("LOCK.AWAIT k FREE BLOCK", no_value("BLOCK")),
        ("LOCK.AWAIT k FREE BLOCK 5 BLOCK 5", twice("BLOCK")),
        ("LOCK.AWAIT k CHANGED FENCE", no_value("FENCE")),
        ("LOCK.AWAIT k CHANGED FENCE 5 FENCE 5", twice("FENCE")),
        ("LOCK.AWAIT k", wrong_arity("lock.await")),
        ("LOCK.REVOKE k alice", wrong_arity("lock.revoke")),
        ("LOCK.INFO k alice", wrong_arity("lock.info")),
        ("LOCK.INFO", wrong_arity("lock.info")),
        ("LOCK.WAITERS", wrong_arity("lock.waiters")),
        ("LOCK.HELP me", wrong_arity("lock.help")),
    ];
    let requests: Vec<_> = cases
        .iter()
        .map(|(line, text)| (line.split(' ').map(str::as_bytes).collect(), text.clone()))
        .collect();
    assert_refused(&requests);
}

#[test]
fn thousands_of_words() {
    let mut request: Vec<&[u8]> = vec![b"LOCK.ACQUIRE", b"k", b"alice"];
    request.extend(std::iter::repeat_n(&b"WITHINFO"[..], 10_000));
    let text = "BADARG WITHINFO is given twice, or beside an option that excludes it".to_owned();
    let mut info: Vec<&[u8]> = vec![b"LOCK.INFO"];
    info.extend(std::iter::repeat_n(&b"k"[..], 10_000));
    assert_refused(&[(request, text), (info, wrong_arity("lock.info"))]);
}

#[test]
fn lengths_at_the_limit_and_one_beyond() {
    let longest = |n: usize| vec![b'x'; n];
    let (key, owner, note) = (longest(KEY_MAX + 1), longest(OWNER_MAX + 1), longest(NOTE_MAX + 1));
    let bad_key = "BADARG the key must have at most 1024 bytes".to_owned();
    let bad_owner = || "BADARG the owner must have 1 to 256 bytes".to_owned();
    let bad_note = "BADARG the note must have at most 256 bytes".to_owned();
    let mut requests: Vec<(Vec<&[u8]>, String)> = Vec::new();
    for command in [&b"LOCK.ACQUIRE"[..], b"LOCK.RELEASE", b"LOCK.RENEW", b"LOCK.CHECK"] {
        requests.push((vec![command, b"k", &owner], bad_owner()));
        requests.push((vec![command, b"k", b""], bad_owner()));
    }
    requests.push((vec![b"LOCK.AWAIT", b"k", &owner, b"WANTED"], bad_owner()));
    requests.push((vec![b"LOCK.AWAIT", b"k", b"", b"WANTED"], bad_owner()));
    // Only a new lock's name has a bound: RENAME may give one a longer name, and then its owner can give it back.
    requests.push((vec![b"LOCK.ACQUIRE", &key, b"alice"], bad_key));
    requests.push((vec![b"LOCK.ACQUIRE", b"k", b"alice", b"NOTE", &note], bad_note.clone()));
    requests.push((vec![b"LOCK.ACQUIRE", b"free", b"alice", b"NOTE", &note], bad_note));
    assert_refused(&requests);

    let server = Server::start();
    let (key, owner, note) = (longest(KEY_MAX), longest(OWNER_MAX), longest(NOTE_MAX));
    fence_of(&server.cmd(&[&b"LOCK.ACQUIRE"[..], &key[..], &owner, b"NOTE", &note]));
    let info = server.cmd(&[&b"LOCK.INFO"[..], &key[..]]);
    let held = &info.field("holds").items()[0];
    assert_eq!(held.field("owner"), &Value::Bulk(owner.clone()));
    assert_eq!(held.field("note"), &Value::Bulk(note));
    for command in [&b"LOCK.CHECK"[..], b"LOCK.RENEW"] {
        assert!(server.cmd(&[command, &key, &owner]).int() > 0);
    }
    assert_eq!(server.cmd(&[&b"LOCK.RELEASE"[..], &key[..], &owner]), 1);
    // The shortest of all: a key without a name, an owner of one byte.
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "", "a"]));
    assert_eq!(server.cmd(&["LOCK.RELEASE", "", "a"]), 1);
}

#[test]
fn names_are_bytes() {
    let server = Server::start();
    let odd: [&[u8]; 7] = [b"\0", b"a\0b", b"\r\n", b"+OK\r\n:1\r\n", b"\xff\xfe", b"\xc3\x28", b" 'k' "];
    for name in odd {
        let reply = server.cmd(&[&b"LOCK.ACQUIRE"[..], name, name, b"NOTE", name]);
        let fence = fence_of(&reply).to_string();
        // The same up to its NUL, or with more behind it, is another name.
        for other in [&name[..name.len() - 1], &[name, b"\0"].concat()] {
            if !other.is_empty() {
                assert_eq!(server.cmd(&[&b"LOCK.RELEASE"[..], name, other]), 0);
            }
        }
        let info = server.cmd(&[&b"LOCK.INFO"[..], name]);
        let held = &info.field("holds").items()[0];
        assert_eq!(held.field("owner"), &Value::bulk(name));
        assert_eq!(held.field("note"), &Value::bulk(name));
        let busy = server.cmd(&[&b"LOCK.ACQUIRE"[..], name, b"other", b"WITHINFO"]);
        assert_eq!(busy.field("holder"), &Value::bulk(name));
        assert_eq!(server.cmd(&[&b"LOCK.RELEASE"[..], name, name, b"FENCE", fence.as_bytes()]), 1);
        assert_eq!(server.cmd(&[&b"EXISTS"[..], name]), 0);
    }
}

#[test]
fn an_error_never_repeats_what_it_was_given() {
    let server = Server::start();
    let mut conn = server.connect();
    let quoted = |word: &[u8], shown: &str| {
        let mut conn = server.connect();
        conn.send(&[&b"LOCK.ACQUIRE"[..], b"k", b"alice", word]);
        conn.expect_bytes(format!("-BADARG unknown option '{shown}'; see LOCK.HELP\r\n").as_bytes());
        assert_eq!(conn.cmd(&["PING"]), "PONG");
    };
    quoted(b"a\r\n+OK\r\n", r"a\x0d\x0a+OK\x0d\x0a");
    quoted(b"\0\xff'\\", r"\x00\xff\x27\x5c");
    quoted(&[b'x'; 64], &"x".repeat(64));
    quoted(&[b'x'; 65], &format!("{}...", "x".repeat(64)));
    quoted(&vec![b'\n'; 1_000_000], &format!("{}...", r"\x0a".repeat(64)));
    quoted(b"", "");
    // Where a word is of the wrong length or no number, the reply does not have it at all.
    let long = vec![b'\n'; 2_000];
    for request in [
        vec![&b"LOCK.ACQUIRE"[..], &long, b"alice"],
        vec![b"LOCK.ACQUIRE", b"k", &long],
        vec![b"LOCK.ACQUIRE", b"k", b"alice", b"NOTE", &long],
        vec![b"LOCK.ACQUIRE", b"k", b"alice", b"PX", &long],
    ] {
        let reply = conn.cmd(&request);
        assert!(reply.error().starts_with("BADARG ") && reply.error().len() < 100, "{reply:?}");
        assert_eq!(conn.cmd(&["PING"]), "PONG");
    }
}

#[test]
fn requests_in_pieces_and_by_hand() {
    let server = Server::start();
    // As a person types it.
    let mut conn = server.connect();
    conn.send_bytes(b"LOCK.ACQUIRE k alice NOTE \"two words\"\r\n");
    let fence = fence_of(&conn.read());
    assert_holds(&server, "k", "alice", fence);
    // Byte by byte.
    for byte in b"*3\r\n$12\r\nLOCK.RELEASE\r\n$1\r\nk\r\n$5\r\nalice\r\n" {
        conn.send_bytes(&[*byte]);
    }
    assert_eq!(conn.read(), 1);
    // A half request is none, whatever came of its other half.
    conn.send_bytes(b"*3\r\n$12\r\nLOCK.ACQUIRE\r\n$1\r\nk\r\n$5\r\nali");
    conn.raw().get_ref().shutdown(Shutdown::Write).unwrap();
    conn.expect_closed();
    assert_eq!(holder(&server, "k"), None);
}

#[test]
fn when_memory_is_short_a_lock_can_only_be_given_back() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    assert_eq!(ask(&server, "CONFIG SET maxmemory 1"), "OK");
    let refused = ask(&server, "LOCK.ACQUIRE free alice");
    assert!(refused.error().starts_with("OOM "), "{refused:?}");
    assert_eq!(ask(&server, "LOCK.RENEW k alice PX 50000"), 50_000);
    assert!(ask(&server, "LOCK.CHECK k alice").int() > 0);
    release(&server, "k", "alice");
    // Who has queued already is served.
    let fence = fence_of(&waiter.read());
    assert_holds(&server, "k", "bob", fence);
}

#[test]
fn numbers_and_options_of_convert_and_setlimit() {
    let (wait_max, fence_max) = (24 * 3_600_000, (1 << 53) - 1);
    let beyond = |numbers: &[i64]| -> Vec<String> { numbers.iter().map(i64::to_string).collect() };
    let waits = beyond(&[i64::MIN, -1, wait_max + 1, 1 << 31, 1 << 53, i64::MAX]);
    let fences = beyond(&[i64::MIN, -1, 0, fence_max + 1, i64::MAX]);
    let commands =
        ["LOCK.CONVERT k alice SHARED", "LOCK.CONVERT k bob EXCLUSIVE", "LOCK.CONVERT free alice SHARED"];
    let mut requests = wrong_numbers(&commands, "BLOCK", (0, wait_max), &waits);
    requests.extend(wrong_numbers(&commands, "FENCE", (1, fence_max), &fences));
    requests.extend(wrong_numbers(&["LOCK.RELEASE k alice ALL"], "FENCE", (1, fence_max), &fences));

    let limits = beyond(&[i64::MIN, -1, 0, 1_000_001, 1 << 31, 1 << 32, (1 << 32) + 5, i64::MAX]);
    let limits = NO_NUMBERS.iter().chain(&TOO_LARGE).copied().chain(limits.iter().map(String::as_str));
    for limit in limits {
        for key in ["k", "free"] {
            let request = [b"LOCK.SETLIMIT", key.as_bytes(), limit.as_bytes()];
            requests
                .push((request.into(), "BADARG limit must be a whole number from 1 to 1000000".to_owned()));
        }
    }

    let unknown = |word: &str| format!("BADARG unknown option '{word}'; see LOCK.HELP");
    let twice = |word: &str| format!("BADARG {word} is given twice, or beside an option that excludes it");
    let no_value = |word: &str| format!("BADARG {word} needs a value");
    let (no_mode, no_limit) = (wrong_arity("lock.convert"), wrong_arity("lock.setlimit"));
    for (line, text) in [
        ("LOCK.CONVERT", no_mode.clone()),
        ("LOCK.CONVERT k alice", no_mode.clone()),
        ("LOCK.CONVERT k alice BLOCK 0", no_mode.clone()),
        ("LOCK.CONVERT k alice WITHINFO FENCE 7", no_mode),
        ("LOCK.CONVERT k alice SHARED EXCLUSIVE", twice("EXCLUSIVE")),
        ("LOCK.CONVERT k alice EXCLUSIVE SHARED", twice("SHARED")),
        ("LOCK.CONVERT k alice SHARED shared", twice("SHARED")),
        ("LOCK.CONVERT k alice SHARED BLOCK 5 BLOCK 5", twice("BLOCK")),
        ("LOCK.CONVERT k alice SHARED FENCE 5 FENCE 5", twice("FENCE")),
        ("LOCK.CONVERT k alice SHARED WITHINFO WITHINFO", twice("WITHINFO")),
        ("LOCK.CONVERT k alice SHARED BLOCK", no_value("BLOCK")),
        ("LOCK.CONVERT k alice SHARED FENCE", no_value("FENCE")),
        ("LOCK.CONVERT k alice SHARED PX 5", unknown("PX")),
        ("LOCK.CONVERT k alice SHARED NOEXPIRE", unknown("NOEXPIRE")),
        ("LOCK.CONVERT k alice LIMIT 5", unknown("LIMIT")),
        ("LOCK.CONVERT k alice SHARED REENTRANT id", unknown("REENTRANT")),
        ("LOCK.CONVERT k alice READ", unknown("READ")),
        ("LOCK.SETLIMIT", no_limit.clone()),
        ("LOCK.SETLIMIT k", no_limit.clone()),
        ("LOCK.SETLIMIT k 5 5", no_limit),
    ] {
        requests.push((line.split(' ').map(str::as_bytes).collect(), text));
    }
    let long = vec![b'x'; OWNER_MAX + 1];
    for owner in [&b""[..], &long] {
        let request = vec![&b"LOCK.CONVERT"[..], b"k", owner, b"SHARED"];
        requests.push((request, "BADARG the owner must have 1 to 256 bytes".to_owned()));
    }
    assert_refused(&requests);
}

#[test]
fn ids_of_reentry() {
    let twice = |word: &str| format!("BADARG {word} is given twice, or beside an option that excludes it");
    let bad_id = || "BADARG an id must have 1 to 64 bytes".to_owned();
    let no_value = || "BADARG REENTRANT needs a value".to_owned();
    let unknown = |word: &str| format!("BADARG unknown option '{word}'; see LOCK.HELP");
    let long = vec![b'x'; 65];
    let mut requests: Vec<(Vec<&[u8]>, String)> = Vec::new();
    for command in [&b"LOCK.ACQUIRE"[..], b"LOCK.RELEASE"] {
        for id in [&b""[..], &long] {
            requests.push((vec![command, b"k", b"alice", b"REENTRANT", id], bad_id()));
            requests.push((vec![command, b"free", b"alice", b"REENTRANT", id], bad_id()));
        }
    }
    for (line, text) in [
        ("LOCK.ACQUIRE k alice REENTRANT", no_value()),
        ("LOCK.RELEASE k alice REENTRANT", no_value()),
        ("LOCK.ACQUIRE k alice REENTRANT a REENTRANT b", twice("REENTRANT")),
        ("LOCK.RELEASE k alice REENTRANT a reentrant a", twice("REENTRANT")),
        ("LOCK.RELEASE k alice REENTRANT a ALL", twice("ALL")),
        ("LOCK.RELEASE k alice ALL REENTRANT a", twice("REENTRANT")),
        ("LOCK.RELEASE k alice ALL ALL", twice("ALL")),
        ("LOCK.RELEASE k alice ALL a", unknown("a")),
        ("LOCK.ACQUIRE k alice ALL", unknown("ALL")),
        ("LOCK.RENEW k alice REENTRANT a", unknown("REENTRANT")),
        ("LOCK.CHECK k alice REENTRANT a", unknown("REENTRANT")),
    ] {
        requests.push((line.split(' ').map(str::as_bytes).collect(), text));
    }
    assert_refused(&requests);
}
