//! LOCK.MACQUIRE, LOCK.MRELEASE and LOCK.MRENEW: several locks in one step. Here their replies, and what tests of them are
//! made of; waiting, copies, access and crowds have a file each.

mod access;
mod bad_words;
mod changes;
mod copies;
mod crowds;
mod undo;
mod waiting;

use crate::steps::{
    assert_changes_nothing, assert_holds, assert_left, fence_of, hold, holder, release, words,
};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{left, lock_stat};

/// What is said to somebody who holds some of the keys, but not just these and together.
pub(crate) const OTHER_GROUP: &str =
    "LOCKMODE the owner holds some of the keys already, and not just these together; release them first";

/// `LOCK.MACQUIRE` with these words.
fn take(server: &Server, line: &str) -> Value {
    server.cmd(&words(&format!("LOCK.MACQUIRE {line}")))
}

/// `LOCK.MRELEASE` with these words.
fn give_back(server: &Server, line: &str) -> i64 {
    server.cmd(&words(&format!("LOCK.MRELEASE {line}"))).int()
}

/// `LOCK.MRENEW` with these words.
fn renew(server: &Server, line: &str) -> Vec<i64> {
    server.cmd(&words(&format!("LOCK.MRENEW {line}"))).items().iter().map(Value::int).collect()
}

/// Sends a command that will wait, and goes on when it has got in line, wherever that is.
pub(crate) fn line_up(server: &Server, mut conn: Connection, line: &str) -> Connection {
    let before = lock_stat(server, "queued");
    conn.send(&words(line));
    wait_until(&format!("`{line}` to get in line"), || lock_stat(server, "queued") == before + 1);
    conn
}

/// A new connection whose `LOCK.MACQUIRE` with these words waits for ever.
fn in_line(server: &Server, line: &str) -> Connection {
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
    let fence = fence_of(&take(&server, "alice 3 a b c"));
    assert_holds_all(&server, &["a", "b", "c"], "alice", fence);
    for key in ["a", "b", "c"] {
        let info = server.cmd(&["LOCK.INFO", key]);
        let shown = &info.field("holds").items()[0];
        assert_eq!((shown.field("keys").int(), shown.field("entries").int()), (3, 1));
    }
    assert_changes_nothing(&server, || {
        // Wherever the one that is taken stands.
        for line in ["bob 3 c d e", "bob 3 d c e", "bob 3 d e c"] {
            assert_eq!(take(&server, line), Value::Nil);
        }
    });
    assert_eq!(server.cmd(&["EXISTS", "d", "e"]), 0);
    assert_eq!(lock_stat(&server, "granted"), 3, "one for each lock");
    let next = fence_of(&take(&server, "bob 2 d e"));
    assert!(next > fence);
}

#[test]
fn as_many_keys_as_allowed_and_just_one() {
    let server = Server::start();
    let names: Vec<String> = (0..64).map(|n| format!("k{n}")).collect();
    let fence = fence_of(&take(&server, &format!("alice 64 {}", names.join(" "))));
    assert_eq!(lock_stat(&server, "held"), 64);
    assert_eq!(give_back(&server, &format!("alice 64 {} FENCE {fence}", names.join(" "))), 64);
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
    // One key is what LOCK.ACQUIRE takes, so either confirms the other.
    let fence = hold(&server, "k", "alice");
    assert_eq!(take(&server, "alice 1 k"), fence);
    release(&server, "k", "alice");
    let fence = fence_of(&take(&server, "alice 1 k"));
    assert_eq!(server.cmd(&words("LOCK.ACQUIRE k alice")), fence);
}

#[test]
fn the_same_keys_again_in_any_order_are_the_same_hold() {
    let server = Server::start();
    let fence = fence_of(&take(&server, "alice 3 a b c PX 60000"));
    assert_eq!(take(&server, "alice 3 c a b PX 1000"), fence);
    assert_eq!(take(&server, "alice 3 b c a PX 1000 BLOCK 0"), fence);
    for key in ["a", "b", "c"] {
        assert_left(&server.cmd(&["LOCK.CHECK", key, "alice"]), 60_000);
    }
    assert_eq!(take(&server, "alice 3 a c b PX 600000"), fence);
    for key in ["a", "b", "c"] {
        assert_left(&server.cmd(&["LOCK.CHECK", key, "alice"]), 600_000);
    }
}

#[test]
fn any_other_own_hold_is_refused() {
    let server = Server::start();
    fence_of(&take(&server, "alice 3 a b c"));
    hold(&server, "single", "alice");
    fence_of(&take(&server, "alice 2 x y"));
    hold(&server, "x1", "bob");
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
                assert_eq!(take(&server, &format!("alice {keys}{wait}")), OTHER_GROUP, "{keys}");
            }
        }
        assert!(take(&server, "alice 3 a b c SHARED").error().starts_with("LOCKMODE "));
    });
    // A request for one key is a LOCK.ACQUIRE.
    assert_eq!(take(&server, "alice 1 a"), take(&server, "alice 3 a b c"));
    assert_eq!(take(&server, "alice 1 a"), server.cmd(&["LOCK.ACQUIRE", "a", "alice"]));
    // What is left of a group is none, and what was taken again by itself neither.
    release(&server, "c", "alice");
    assert_eq!(take(&server, "alice 3 a b c"), OTHER_GROUP);
    assert_eq!(take(&server, "alice 2 a b"), OTHER_GROUP);
    hold(&server, "c", "alice");
    assert_eq!(take(&server, "alice 3 a b c"), OTHER_GROUP);
}

#[test]
fn a_star_gets_a_name_and_a_fence() {
    let server = Server::start();
    let reply = take(&server, "* 2 a b");
    let [owner, fence] = reply.items() else { panic!("{reply:?}") };
    assert_eq!(owner.text().len(), 32);
    assert_holds_all(&server, &["a", "b"], &owner.text(), fence.int());
    assert_eq!(take(&server, "* 2 b c"), Value::Nil);
    let mut waiter = in_line(&server, "* 2 c a");
    release(&server, "a", &owner.text());
    let reply = waiter.read();
    let [next, fence] = reply.items() else { panic!("{reply:?}") };
    assert_holds_all(&server, &["a", "c"], &next.text(), fence.int());
}

#[test]
fn a_fence_only_confirms() {
    let server = Server::start();
    let fence = fence_of(&take(&server, "alice 2 a b"));
    assert_eq!(take(&server, &format!("alice 2 b a FENCE {fence}")), fence);
    assert_changes_nothing(&server, || {
        assert_eq!(take(&server, &format!("alice 2 a b FENCE {}", fence + 1)), Value::Nil);
        assert_eq!(take(&server, &format!("alice 2 c d FENCE {fence}")), Value::Nil);
        assert_eq!(take(&server, &format!("alice 2 c d FENCE {fence} BLOCK 0")), Value::Nil);
        assert_eq!(take(&server, &format!("bob 2 a b FENCE {fence} BLOCK 0")), Value::Nil);
    });
}

#[test]
fn readers_share_and_permits_add_up_on_all_of_them() {
    let server = Server::start();
    let first = fence_of(&take(&server, "r1 2 a b SHARED"));
    let second = fence_of(&take(&server, "r2 2 b c SHARED"));
    assert!(second > first);
    assert_eq!(take(&server, "w 2 c d"), Value::Nil);
    fence_of(&take(&server, "s1 2 s t LIMIT 3 PERMITS 2"));
    assert_eq!(take(&server, "s2 2 t u LIMIT 3 PERMITS 2"), Value::Nil, "one is left of t");
    fence_of(&take(&server, "s2 2 t u LIMIT 3"));
    assert_changes_nothing(&server, || {
        for (line, code) in [
            ("x 2 free s", "LOCKMODE"),
            ("x 2 free s SHARED BLOCK 0", "LOCKMODE"),
            ("x 2 free s LIMIT 4 BLOCK 0", "LOCKLIMIT"),
            ("x 2 a free LIMIT 3", "LOCKMODE"),
            ("r1 2 a b", "LOCKMODE"),
            ("s1 2 s t LIMIT 3", "LOCKMODE"),
        ] {
            let reply = take(&server, line);
            assert!(reply.error().starts_with(code), "{line}: {reply:?}");
        }
    });
    assert_eq!(server.cmd(&["EXISTS", "free", "d"]), 0);
}

#[test]
fn withinfo_tells_of_the_lock_that_is_in_the_way() {
    let server = Server::start();
    let report = |line: &str| take(&server, &format!("{line} WITHINFO"));
    let granted = report("alice 2 a b PX 60000");
    let fence = fence_of(granted.field("result"));
    assert_eq!((granted.field("fence").int(), granted.field("reason").text()), (fence, "granted".into()));
    assert_left(granted.field("lease-ms"), 60_000);
    let again = report("alice 2 b a");
    assert_eq!((again.field("result").int(), again.field("reason").text()), (fence, "already-held".into()));
    let busy = report("bob 3 free other b");
    assert_eq!((busy.field("result"), busy.field("holder")), (&Value::Nil, &Value::bulk("alice")));
    assert_eq!(busy.field("reason"), &"held");
    // Nobody has c, but somebody comes first.
    let _waiter = in_line(&server, "carol 2 b c");
    let queued = report("bob 2 free c");
    assert_eq!((queued.field("reason").text(), queued.field("holder")), ("queue".into(), &Value::Nil));
    let lost = report(&format!("alice 2 a b FENCE {}", fence + 1));
    assert_eq!((lost.field("result"), lost.field("reason").text()), (&Value::Nil, "other-fence".into()));
}

#[test]
fn mrelease_replies_how_many_there_were() {
    let server = Server::start();
    fence_of(&take(&server, "alice 2 a b"));
    hold(&server, "c", "alice");
    hold(&server, "d", "bob");
    assert_eq!(give_back(&server, "carol 4 a b c d"), 0);
    assert_eq!(give_back(&server, "alice 5 free d c b other"), 2);
    assert_eq!(server.cmd(&["DBSIZE"]), 2);
    assert_eq!(give_back(&server, "alice 2 a b"), 1);
    assert_eq!(give_back(&server, "alice 2 a b"), 0);
    assert_eq!(holder(&server, "d").as_deref(), Some("bob"));
    assert_eq!(lock_stat(&server, "released"), 3);
}

/// Of several permits one is not the caller's any more: the call must not give back the others and then fail.
#[test]
fn i1_mrelease_with_one_bad_key_changes_nothing() {
    let server = Server::start();
    let fence = fence_of(&take(&server, "alice 3 a b c LIMIT 2"));
    fence_of(&take(&server, "bob 3 a b c LIMIT 2"));
    fence_of(&server.cmd(&words("LOCK.ACQUIRE d alice LIMIT 2")));
    let mut waiter = in_line(&server, "carol 2 a b LIMIT 2");
    assert_changes_nothing(&server, || {
        for keys in ["4 a b c d", "4 d a b c", "2 a free", "2 free a", "1 d"] {
            assert_eq!(give_back(&server, &format!("alice {keys} FENCE {fence}")), 0, "{keys}");
        }
        for other in [fence - 1, fence + 1] {
            assert_eq!(give_back(&server, &format!("alice 3 a b c FENCE {other}")), 0);
        }
        assert_eq!(give_back(&server, &format!("bob 3 a b c FENCE {fence}")), 0);
    });
    release(&server, "b", "alice");
    assert_changes_nothing(&server, || {
        assert_eq!(give_back(&server, &format!("alice 3 a b c FENCE {fence}")), 0, "b is gone already");
    });
    waiter.expect_nothing_pending();
    assert_eq!(give_back(&server, &format!("alice 2 c a FENCE {fence}")), 2);
    fence_of(&waiter.read());
}

#[test]
fn mrenew_replies_what_is_left_of_each() {
    let server = Server::start();
    let fence = fence_of(&take(&server, "alice 2 a b PX 60000"));
    fence_of(&server.cmd(&words("LOCK.ACQUIRE c alice NOEXPIRE")));
    hold(&server, "d", "bob");
    assert_eq!(renew(&server, "alice 90000 5 d c free b a"), [0, 90_000, 0, 90_000, 90_000]);
    for key in ["a", "b", "c"] {
        assert_left(&server.cmd(&["LOCK.CHECK", key, "alice"]), 90_000);
    }
    assert_left(&server.cmd(&words("LOCK.CHECK d bob")), 30_000);
    assert_eq!(renew(&server, "alice 5000 1 a"), [5000], "a renewal may also cut");
    assert_left(&server.cmd(&words("LOCK.CHECK a alice")), 5000);
    assert_eq!(renew(&server, &format!("alice 70000 2 b a FENCE {fence}")), [70_000, 70_000]);
    assert_changes_nothing(&server, || {
        assert_eq!(renew(&server, &format!("alice 80000 3 a b c FENCE {fence}")), [0, 0, 0]);
        assert_eq!(renew(&server, &format!("alice 80000 2 a free FENCE {fence}")), [0, 0]);
        assert_eq!(renew(&server, "carol 80000 2 a b"), [0, 0]);
    });
    assert_eq!(server.cmd(&["EXISTS", "free"]), 0);
}

#[test]
fn each_hold_lives_its_own_life_afterwards() {
    let server = Server::start();
    let fence = fence_of(&take(&server, "alice 4 a b c d PX 60000"));
    assert_eq!(server.cmd(&words(&format!("LOCK.RELEASE a alice FENCE {fence}"))), 1);
    assert_eq!(server.cmd(&words("LOCK.RENEW b alice PX 300")), 300);
    assert_eq!(server.cmd(&words("DEL c")), 1);
    wait_until("one lease to be over", || server.cmd(&["EXISTS", "b"]) == 0);
    assert_holds(&server, "d", "alice", fence);
    assert!(left(&server, "d", "alice") > 0);
    let info = server.cmd(&words("LOCK.INFO d"));
    assert_eq!(info.field("holds").items()[0].field("keys"), &4, "as many as there were");
    fence_of(&take(&server, "bob 3 a b c"));
}

#[test]
fn notes_and_leases_are_those_of_all() {
    let server = Server::start();
    fence_of(&take(&server, "alice 2 a b NOEXPIRE NOTE why"));
    fence_of(&take(&server, "alice 2 c d EX 60"));
    for (key, lease, note) in [("a", -1, "why"), ("b", -1, "why"), ("c", 60_000, ""), ("d", 60_000, "")] {
        let info = server.cmd(&["LOCK.INFO", key]);
        let shown = &info.field("holds").items()[0];
        assert_eq!((shown.field("lease-ms").int(), shown.field("note").text()), (lease, note.into()));
    }
    fence_of(&take(&server, "bob 2 e f"));
    assert_left(&server.cmd(&words("LOCK.CHECK f bob")), 30_000);
}
