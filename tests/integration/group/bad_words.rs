//! Words that LOCK.MACQUIRE, LOCK.MRELEASE and LOCK.MRENEW refuse: one bad key or number, and nothing has changed for any
//! of the others.

use super::{macquire, macquire_in_line};
use crate::steps::{
    ask, assert_changes_nothing, assert_holds, fence_of, queue, set_string, wrong_arity, WRONGTYPE,
};
use crate::support::Server;
use crate::traffic::lock_stat;

/// Alice holds `a` and `b`, bob waits for both, and `text` is no lock. Nothing that is done meanwhile leaves a trace.
fn untouched(what: impl FnOnce(&Server)) {
    let server = Server::start();
    let fence = fence_of(&macquire(&server, "alice 2 a b PX 600000"));
    let mut waiter = macquire_in_line(&server, "bob 2 a b");
    set_string(&server, "text");
    assert_changes_nothing(&server, || what(&server));
    assert_holds(&server, "a", "alice", fence);
    assert_holds(&server, "b", "alice", fence);
    assert_eq!((queue(&server, "a"), queue(&server, "b")), (vec!["bob".into()], vec!["bob".into()]));
    assert_eq!((lock_stat(&server, "held"), lock_stat(&server, "waiting")), (2, 1));
    waiter.expect_nothing_pending();
}

/// Each command up to the number of keys.
const COMMANDS: [(&str, &str); 3] =
    [("lock.macquire", "alice"), ("lock.mrelease", "alice"), ("lock.mrenew", "alice 5000")];

#[test]
fn the_number_of_keys_is_a_strict_number() {
    untouched(|server| {
        let numbers = [
            "0",
            "-1",
            "65",
            "1000",
            "2147483648",
            "4294967298",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "18446744073709551618",
            "",
            "-",
            "+2",
            " 2",
            "2 ",
            "02",
            "-0",
            "0x2",
            "2.0",
            "2e0",
            "two",
            "a",
            "٢",
            "2\0",
        ];
        for (name, before) in COMMANDS {
            for number in numbers {
                let mut command = vec![name];
                command.extend(before.split(' '));
                command.extend([number, "a", "b"]);
                let reply = server.cmd(&command);
                assert_eq!(reply, "BADARG numkeys must be a whole number from 1 to 64", "{command:?}");
            }
        }
    });
}

#[test]
fn too_few_keys_are_a_matter_of_arity() {
    untouched(|server| {
        for (name, before) in COMMANDS {
            let texts = ["", " 2", " 2 a", " 3 a b", " 64 a b"];
            for text in texts {
                let line = format!("{name} {before}{text}");
                assert_eq!(ask(server, &line), wrong_arity(name).as_str(), "{line}");
            }
            assert_eq!(server.cmd(&[name]), wrong_arity(name).as_str());
        }
        // An option is a key if the number says so.
        assert_eq!(macquire(server, "alice 4 a b BLOCK 0 1"), "BADARG unknown option '1'; see LOCK.HELP");
    });
}

#[test]
fn no_key_is_named_twice() {
    untouched(|server| {
        for (name, before) in COMMANDS {
            for keys in ["2 a a", "3 a b a", "3 b a a", "4 a c d a"] {
                let reply = ask(server, &format!("{name} {before} {keys}"));
                assert_eq!(reply, "BADARG the key 'a' is named twice; name it once", "{name} {keys}");
            }
        }
        let odd = server.cmd(&[&b"LOCK.MACQUIRE"[..], b"o", b"2", b"\r\n", b"\r\n"]);
        assert_eq!(odd, r"BADARG the key '\x0d\x0a' is named twice; name it once");
    });
}

#[test]
fn a_key_of_another_type_leaves_the_others_as_they_are() {
    untouched(|server| {
        for (name, before) in COMMANDS {
            for keys in ["3 a b text", "3 text a b", "3 a text b", "1 text", "2 free text"] {
                let line = format!("{name} {before} {keys}");
                assert_eq!(ask(server, &line), WRONGTYPE, "{line}");
            }
        }
        assert_eq!(macquire(server, "carol 2 free text BLOCK 0"), WRONGTYPE);
        assert_eq!(server.cmd(&["EXISTS", "free"]), 0);
    });
}

#[test]
fn names_that_are_too_long() {
    untouched(|server| {
        let (key, owner) = ("k".repeat(1025), "o".repeat(257));
        for (name, before) in COMMANDS {
            let rest = &before["alice".len()..];
            let line = format!("{name} {owner}{rest} 2 a b");
            assert_eq!(ask(server, &line), "BADARG the owner must have 1 to 256 bytes", "{name}");
        }
        // A hold can have come to a longer name by RENAME, so only taking is refused.
        let reply = server.cmd(&["LOCK.MACQUIRE", "alice", "2", "c", &key]);
        assert_eq!(reply, "BADARG the key must have at most 1024 bytes");
        assert_eq!(server.cmd(&["LOCK.MRELEASE", "alice", "1", &key]), 0);
        let reply = server.cmd(&["LOCK.MACQUIRE", "", "1", "c"]);
        assert_eq!(reply, "BADARG the owner must have 1 to 256 bytes");
    });
    // At the limit all is well, and a key may be any bytes, or none.
    let server = Server::start();
    let (key, owner) = ("k".repeat(1024), "o".repeat(256));
    fence_of(&server.cmd(&["LOCK.MACQUIRE", &owner, "3", &key, "", "\r\n\0"]));
    assert_eq!(server.cmd(&["LOCK.MRELEASE", &owner, "3", "", "\r\n\0", &key]), 3);
}
