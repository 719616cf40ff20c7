//! LOCK.MACQUIRE, LOCK.MRELEASE and LOCK.MRENEW: several locks in one step. Most replies are `tests/cases/group.md`; here is also
//! what tests of them are made of; waiting, copies, access and crowds have a file each.

mod access;
mod bad_words;
mod changes;
mod copies;
mod crowds;
mod undo;
mod waiting;

use crate::steps::{acquire, ask, assert_changes_nothing, assert_holds, fence_of, release, words};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{left, lock_stat};

/// What is said to somebody who holds some of the keys, but not just these and together.
pub(crate) const OTHER_GROUP: &str =
    "LOCKMODE the owner holds some of the keys already, and not just these together; release them first";

/// `LOCK.MACQUIRE` with these words.
fn macquire(server: &Server, line: &str) -> Value {
    ask(server, &format!("LOCK.MACQUIRE {line}"))
}

/// `LOCK.MRELEASE` with these words.
fn give_back(server: &Server, line: &str) -> i64 {
    ask(server, &format!("LOCK.MRELEASE {line}")).int()
}

/// `LOCK.MRENEW` with these words.
fn renew(server: &Server, line: &str) -> Vec<i64> {
    ask(server, &format!("LOCK.MRENEW {line}")).items().iter().map(Value::int).collect()
}

/// Sends a command that will wait, and goes on when it has got in line, wherever that is.
pub(crate) fn line_up(server: &Server, mut conn: Connection, line: &str) -> Connection {
    let before = lock_stat(server, "queued");
    conn.send(&words(line));
    wait_until(&format!("`{line}` to get in line"), || lock_stat(server, "queued") == before + 1);
    conn
}

/// A new connection whose `LOCK.MACQUIRE` with these words waits for ever.
fn macquire_in_line(server: &Server, line: &str) -> Connection {
    line_up(server, server.connect(), &format!("LOCK.MACQUIRE {line} BLOCK 0"))
}

/// The owner holds all of these locks with one fence, which its client is told now.
fn assert_all_granted(server: &Server, waiter: &mut Connection, keys: &[&str], owner: &str) -> i64 {
    let fence = fence_of(&waiter.read());
    assert_holds_all(server, keys, owner, fence);
    fence
}

fn assert_holds_all(server: &Server, keys: &[&str], owner: &str, fence: i64) {
    for key in keys {
        assert_holds(server, key, owner, fence);
    }
}

#[test]
fn all_or_none_under_one_fence() {
    let server = Server::start();
    let fence = fence_of(&macquire(&server, "alice 3 a b c"));
    assert_holds_all(&server, &["a", "b", "c"], "alice", fence);
    for key in ["a", "b", "c"] {
        let info = server.cmd(&["LOCK.INFO", key]);
        let shown = &info.field("holds").items()[0];
        assert_eq!((shown.field("keys").int(), shown.field("entries").int()), (3, 1));
    }
    assert_changes_nothing(&server, || {
        // Wherever the one that is taken stands.
        for line in ["bob 3 c d e", "bob 3 d c e", "bob 3 d e c"] {
            assert_eq!(macquire(&server, line), Value::Nil);
        }
    });
    assert_eq!(server.cmd(&["EXISTS", "d", "e"]), 0);
    assert_eq!(lock_stat(&server, "granted"), 3, "one for each lock");
    let next = fence_of(&macquire(&server, "bob 2 d e"));
    assert!(next > fence);
}

#[test]
fn as_many_keys_as_allowed() {
    let server = Server::start();
    let names: Vec<String> = (0..64).map(|n| format!("k{n}")).collect();
    let fence = fence_of(&macquire(&server, &format!("alice 64 {}", names.join(" "))));
    assert_eq!(lock_stat(&server, "held"), 64);
    assert_eq!(give_back(&server, &format!("alice 64 {} FENCE {fence}", names.join(" "))), 64);
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
}

#[test]
fn any_other_own_hold_is_refused() {
    let server = Server::start();
    fence_of(&macquire(&server, "alice 3 a b c"));
    acquire(&server, "single alice");
    fence_of(&macquire(&server, "alice 2 x y"));
    acquire(&server, "x1 bob");
    assert_changes_nothing(&server, || {
        for keys in [
            "2 a b",
            "4 a b c free",
            "2 free a",
            "2 free single",
            "2 a single",
            "2 x a",
            "3 x y free",
            "5 a b c x y",
            "2 single x1",
        ] {
            for wait in ["", " BLOCK 0", " BLOCK 1"] {
                assert_eq!(macquire(&server, &format!("alice {keys}{wait}")), OTHER_GROUP, "{keys}");
            }
        }
        assert!(macquire(&server, "alice 3 a b c SHARED").error().starts_with("LOCKMODE "));
    });
    // A request for one key is a LOCK.ACQUIRE.
    assert_eq!(macquire(&server, "alice 1 a"), macquire(&server, "alice 3 a b c"));
    assert_eq!(macquire(&server, "alice 1 a"), server.cmd(&["LOCK.ACQUIRE", "a", "alice"]));
    // What is left of a group is none, and what was taken again by itself neither.
    release(&server, "c", "alice");
    assert_eq!(macquire(&server, "alice 3 a b c"), OTHER_GROUP);
    assert_eq!(macquire(&server, "alice 2 a b"), OTHER_GROUP);
    acquire(&server, "c alice");
    assert_eq!(macquire(&server, "alice 3 a b c"), OTHER_GROUP);
}

#[test]
fn each_hold_lives_its_own_life_afterwards() {
    let server = Server::start();
    let fence = fence_of(&macquire(&server, "alice 4 a b c d PX 60000"));
    assert_eq!(ask(&server, &format!("LOCK.RELEASE a alice FENCE {fence}")), 1);
    assert_eq!(ask(&server, "LOCK.RENEW b alice PX 300"), 300);
    assert_eq!(ask(&server, "DEL c"), 1);
    wait_until("one lease to be over", || server.cmd(&["EXISTS", "b"]) == 0);
    assert_holds(&server, "d", "alice", fence);
    assert!(left(&server, "d", "alice") > 0);
    let info = ask(&server, "LOCK.INFO d");
    assert_eq!(info.field("holds").items()[0].field("keys"), &4, "as many as there were");
    fence_of(&macquire(&server, "bob 3 a b c"));
}
