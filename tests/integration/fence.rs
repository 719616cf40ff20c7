//! LOCK.FENCE: the newest fence that a resource outside the server has seen, in a plain string.

use crate::onlookers::{assert_writes_k, goes_through, is_allowed};
use crate::steps::{
    acquire, ask, assert_changes_nothing, digest, eval, is_modern, release, set_string, transaction, unix_us,
    words, wrong_arity,
};
use crate::support::wait::wait_replica_in_sync;
use crate::support::{assert_stream, wait_until, Events, ReplicaStream, Server, Stop, Value};

/// LOCK.FENCE with these words.
fn fence(server: &Server, line: &str) -> Value {
    ask(server, &format!("LOCK.FENCE {line}"))
}

fn get(server: &Server, key: &str) -> String {
    server.cmd(&["GET", key]).text()
}

/// How long the register is remembered, in ms; -1 without end.
fn left(server: &Server, key: &str) -> i64 {
    server.cmd(&["PTTL", key]).int()
}

#[test]
fn a_fence_is_admitted_unless_a_newer_one_was_seen() {
    let server = Server::start();
    for (number, admitted, newest) in [
        ("9", 1, "9"),
        ("9", 1, "9"),
        ("8", 0, "9"),
        ("10", 1, "10"),
        ("9", 0, "10"),
        ("1", 0, "10"),
        ("9007199254740991", 1, "9007199254740991"),
        ("9007199254740990", 0, "9007199254740991"),
        ("9007199254740991", 1, "9007199254740991"),
    ] {
        assert_eq!(fence(&server, &format!("k {number}")), admitted, "{number}");
        assert_eq!(get(&server, "k"), newest, "{number}");
    }
    assert_eq!(fence(&server, "other 1"), 1, "each resource has a register of its own");
    assert_eq!(server.cmd(&["TYPE", "k"]), "string");
    assert_eq!(server.info_int("lock_state", "lock_held"), 0);
}

#[test]
fn whoever_has_lost_its_lock_is_turned_away_as_soon_as_the_next_one_has_written() {
    let server = Server::start();
    let late = acquire(&server, "lock alice");
    assert_eq!(fence(&server, &format!("disk {late}")), 1);
    release(&server, "lock", "alice");
    let new = acquire(&server, "lock bob");
    assert_eq!(fence(&server, &format!("disk {late}")), 1, "nobody can know yet");
    assert_eq!(fence(&server, &format!("disk {new}")), 1);
    assert_eq!(fence(&server, &format!("disk {late}")), 0);
    assert_eq!(fence(&server, &format!("disk {new}")), 1);
}

#[test]
fn it_is_remembered_as_long_as_was_said_last() {
    let server = Server::start();
    assert_eq!(fence(&server, "k 7"), 1);
    assert_eq!(left(&server, "k"), -1);
    assert_eq!(fence(&server, "k 7 EX 1000"), 1);
    assert!((900_000..=1_000_000).contains(&left(&server, "k")));
    // What writes, and says nothing about it, leaves it as it is; so does what does not write.
    assert_eq!(fence(&server, "k 8"), 1);
    assert!((900_000..=1_000_000).contains(&left(&server, "k")));
    assert_eq!(fence(&server, "k 7 EX 5000"), 0);
    assert_eq!(fence(&server, "k 8"), 1);
    assert!((900_000..=1_000_000).contains(&left(&server, "k")));
    assert_eq!(fence(&server, "k 8 ex 100"), 1);
    assert!((1..=100_000).contains(&left(&server, "k")), "it can be made shorter too");
    assert_eq!(fence(&server, "k 9 EX 315360000"), 1);
    assert!(left(&server, "k") > 315_000_000_000);
    // Somebody else's time to live counts as well, and a register that is gone has seen nothing.
    assert_eq!(ask(&server, "PEXPIRE k 1"), 1);
    wait_until("the register to be forgotten", || ask(&server, "EXISTS k") == 0);
    assert_eq!(fence(&server, "k 1"), 1);
    assert_eq!(left(&server, "k"), -1);
}

#[test]
fn replicas_and_files_are_told_plain_strings_and_only_when_something_changed() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always"]);
    let mut stream = ReplicaStream::attach(&server);
    let before = unix_us() / 1000;
    for (line, admitted) in [
        ("k 7", 1),
        ("k 7", 1),
        ("k 6", 0),
        ("k 6 EX 50", 0),
        ("k 7 EX 50", 1),
        ("k 7 EX 60", 1),
        ("k 7", 1),
        ("k 8", 1),
        ("l 3 EX 100", 1),
    ] {
        assert_eq!(fence(&server, line), admitted, "{line}");
    }
    let (after, seen) = (unix_us() / 1000, stream.collect(&server));
    assert_stream(
        &seen,
        &[
            &["SET", "k", "7", "KEEPTTL"],
            &["SET", "k", "7", "PXAT", "<ms>"],
            &["SET", "k", "7", "PXAT", "<ms>"],
            &["SET", "k", "8", "KEEPTTL"],
            &["SET", "l", "3", "PXAT", "<ms>"],
        ],
    );
    for (at, seconds) in [(1, 50), (2, 60), (4, 100)] {
        let said: i64 = seen[at][4].parse().unwrap();
        // The server's idea of the wall clock is a tenth of a second old at most.
        let expected = before + seconds * 1000 - 200..=after + seconds * 1000;
        assert!(expected.contains(&said), "{said} is not in {expected:?}");
    }
    let before = digest(&server);
    for how in [Stop::Kill, Stop::Save] {
        server.restart(how);
        assert_eq!(digest(&server), before);
        assert!((1..=60_000).contains(&left(&server, "k")));
    }
}

#[test]
fn a_snapshot_has_it() {
    let mut server = Server::start();
    assert_eq!(fence(&server, "k 7"), 1);
    assert_eq!(fence(&server, "l 8 EX 1000"), 1);
    let before = digest(&server);
    assert_eq!(server.cmd(&["SAVE"]), "OK");
    server.restart(Stop::Kill);
    assert_eq!(digest(&server), before);
    assert_eq!((fence(&server, "k 6"), fence(&server, "l 7")), (Value::Int(0), Value::Int(0)));
    assert!((1..=1_000_000).contains(&left(&server, "l")));
}

#[test]
fn a_replica_has_it_and_is_not_asked() {
    let primary = Server::start();
    let replica = Server::with(&[format!("replicaof 127.0.0.1 {}", primary.port())]);
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(fence(&primary, "k 7"), 1);
    assert_eq!(fence(&primary, "k 8 EX 1000"), 1);
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(get(&replica, "k"), "8");
    let until = |server: &Server| ask(server, "PEXPIRETIME k");
    assert_eq!(until(&replica), until(&primary));
    for line in ["k 9", "k 7", "free 1"] {
        assert!(fence(&replica, line).error().starts_with("READONLY "), "{line}");
    }
    // Where clients may write on a replica, its register would differ from the primary's.
    assert_eq!(ask(&replica, "CONFIG SET replica-read-only no"), "OK");
    assert_eq!(fence(&replica, "k 9"), "READONLY this server is a replica; locks change on its primary");
    assert_eq!((get(&replica, "k"), digest(&replica)), ("8".to_owned(), digest(&primary)));
}

#[test]
fn what_is_no_register_is_left_alone() {
    let server = Server::start();
    acquire(&server, "lock alice");
    ask(&server, "RPUSH list 7");
    let no_string =
        "WRONGTYPE the key holds a value that is not a string; a register of fences needs another key";
    let no_fence = "BADVALUE the key holds a text that is not a fence; delete it, or use another key";
    set_string(&server, "text");
    let texts: [(&str, &[u8]); 8] = [
        ("empty", b""),
        ("zero", b"0"),
        ("negative", b"-7"),
        ("padded", b"07"),
        ("spaced", b"7 "),
        ("fraction", b"7.0"),
        ("bytes", b"\xff\0"),
        ("beyond", b"9007199254740992"),
    ];
    for (key, text) in texts {
        assert_eq!(server.cmd(&[&b"SET"[..], key.as_bytes(), text]), "OK");
    }
    let refused: Vec<(&str, &str)> = ["lock", "list"]
        .map(|key| (key, no_string))
        .into_iter()
        .chain(texts.map(|(key, _)| (key, no_fence)))
        .chain([("text", no_fence)])
        .collect();
    assert_changes_nothing(&server, || {
        for (key, error) in &refused {
            for line in [format!("{key} 7"), format!("{key} 9007199254740991 EX 5")] {
                assert_eq!(fence(&server, &line), *error, "{line}");
            }
        }
    });
}

#[test]
fn words_that_make_no_sense_are_refused() {
    let server = Server::start();
    assert_eq!(fence(&server, "k 7"), 1);
    let cases = [
        ("k", wrong_arity("lock.fence")),
        ("k 7 5", "BADARG unknown option '5'; see LOCK.HELP".to_owned()),
        ("k 7 PX 5", "BADARG unknown option 'PX'; see LOCK.HELP".to_owned()),
        ("k 7 EX", "BADARG EX needs a value".to_owned()),
        ("k 7 EX 5 EX 5", "BADARG EX is given twice, or beside an option that excludes it".to_owned()),
        ("k *", "BADARG FENCE must be a whole number from 1 to 9007199254740991".to_owned()),
        ("k 7 EX 315360001", "BADARG EX must be a whole number from 1 to 315360000".to_owned()),
    ];
    assert_changes_nothing(&server, || {
        for (line, text) in cases {
            assert_eq!(fence(&server, line), text.as_str(), "{line}");
        }
    });
}

#[test]
fn names_are_bytes_of_any_length() {
    let server = Server::start();
    for key in [&b""[..], b"\0\r\n\xff", &[b'x'; 5_000]] {
        assert_eq!(server.cmd(&[&b"LOCK.FENCE"[..], key, b"7"]), 1);
        assert_eq!(server.cmd(&[&b"LOCK.FENCE"[..], key, b"6"]), 0);
        assert_eq!(server.cmd(&[&b"GET"[..], key]), "7");
    }
}

#[test]
fn in_transactions_and_scripts() {
    let server = Server::start();
    let replies = transaction(
        &mut server.connect(),
        &[&words("LOCK.FENCE k 7"), &words("LOCK.FENCE k 6"), &words("LOCK.FENCE k 8 EX 1000")],
    );
    assert_eq!(replies, [Value::Int(1), Value::Int(0), Value::Int(1)]);
    // The check and the write in one step, with a fence that Lua has as a number.
    let number = acquire(&server, "lock alice");
    let script = "
        if redis.call('LOCK.FENCE', KEYS[1], tonumber(ARGV[1])) == 0 then return 0 end
        redis.call('SET', KEYS[2], ARGV[2])
        return 1";
    let write =
        |number: i64, text: &str| server.cmd(&["EVAL", script, "2", "k", "data", &number.to_string(), text]);
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(write(number, "new"), 1);
    assert_eq!(write(number - 1, "late"), 0);
    let newest = number.to_string();
    assert_stream(
        &stream.collect(&server),
        &[&["MULTI"], &["SET", "k", &newest, "KEEPTTL"], &["SET", "data", "new"], &["EXEC"]],
    );
    assert_eq!((get(&server, "k"), get(&server, "data")), (newest, "new".to_owned()));
    set_string(&server, "text");
    let refused = eval(&server, "return redis.call('LOCK.FENCE', KEYS[1], 7)", &["text"]);
    assert!(refused.error().contains("BADVALUE "), "{refused:?}");
}

#[test]
fn each_database_has_registers_of_its_own() {
    let server = Server::start();
    assert_eq!(fence(&server, "k 7"), 1);
    let mut other = server.connect().select(3);
    let mut stream = ReplicaStream::attach(&server).with_select();
    assert_eq!(other.cmd(&words("LOCK.FENCE k 5")), 1);
    assert_stream(&stream.collect(&server)[..2], &[&["SELECT", "3"], &["SET", "k", "5", "KEEPTTL"]]);
    assert_eq!(get(&server, "k"), "7");
}

#[test]
fn the_key_is_declared_and_the_right_to_it_is_needed() {
    let server = Server::start();
    assert_writes_k(&server, "LOCK.FENCE k 7");
    assert_writes_k(&server, "LOCK.FENCE k 7 EX 100");
    // Not the right to the commands that it is made of.
    assert!(is_allowed(&server, "~k -@all +lock.fence", "LOCK.FENCE k 8"));
    if is_modern(&server) {
        assert!(is_allowed(&server, "~k +@all -@dangerous -@admin", "LOCK.FENCE k 8"));
        assert!(!is_allowed(&server, "~k +@all -@fast", "LOCK.FENCE k 8"));
    }
}

#[test]
fn others_notice_what_was_written() {
    let server = Server::start();
    assert!(!goes_through(&server, || assert_eq!(fence(&server, "k 7"), 1)));
    assert!(goes_through(&server, || assert_eq!(fence(&server, "k 7"), 1)));
    assert!(goes_through(&server, || assert_eq!(fence(&server, "k 6 EX 5"), 0)));
    let mut events = Events::listen(&server);
    for line in ["k 8", "k 8", "k 7", "k 8 EX 100"] {
        fence(&server, line);
    }
    assert_eq!(events.heard(), ["k set", "k set", "k expire"]);
}

#[test]
fn when_memory_is_short_it_is_refused() {
    let server = Server::start();
    assert_eq!(fence(&server, "k 7"), 1);
    assert_eq!(ask(&server, "CONFIG SET maxmemory 1"), "OK");
    assert!(fence(&server, "k 8").error().starts_with("OOM "));
    assert_eq!(get(&server, "k"), "7");
}

#[test]
fn a_server_without_the_commands_that_it_needs_is_told_of_them() {
    for missing in ["GET", "SET"] {
        let server = Server::with(&[&format!("rename-command {missing} \"\"")]);
        let refused = "which this server does not have; undo its rename-command";
        // A register that is not there yet is not read.
        assert_eq!(ask(&server, "APPEND k 7"), 1);
        assert_changes_nothing(&server, || {
            assert_eq!(
                fence(&server, "k 9").error(),
                format!("INTERNAL the lock module needs {missing}, {refused}"),
                "{missing}"
            );
        });
    }
}
