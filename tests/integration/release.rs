//! LOCK.RELEASE: who may, what it does, and what a late or mistaken one is told. What becomes of the waiters stands in
//! `blocking`.

use crate::steps::{
    assert_changes_nothing, assert_holds, eval, hold, release, set_string, transaction, words, wrong_arity,
    WRONGTYPE,
};
use crate::support::{wait_until, Server, Value};

#[test]
fn a_released_lock_has_no_key() {
    let server = Server::start();
    hold(&server, "k", "alice");
    assert_eq!(server.cmd(&["TYPE", "k"]), "redislock");
    assert_eq!(server.cmd(&words("LOCK.RELEASE k alice")), 1);
    assert_eq!(server.cmd(&["EXISTS", "k"]), 0);
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
    assert_eq!(server.cmd(&words("LOCK.CHECK k alice")), 0);
}

#[test]
fn only_the_holder_releases() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        // A part of the name, the name and more, another case, the fence as a name.
        for other in ["bob", "alic", "alice\0", "alice ", "Alice", "*", &fence.to_string()] {
            assert_eq!(server.cmd(&["LOCK.RELEASE", "k", other]), 0, "{other:?}");
        }
        assert_eq!(server.cmd(&words("LOCK.RELEASE free alice")), 0);
    });
    assert_holds(&server, "k", "alice", fence);
}

#[test]
fn a_second_release_never_hurts_a_later_holder() {
    let server = Server::start();
    let first = hold(&server, "k", "alice");
    release(&server, "k", "alice");
    assert_eq!(server.cmd(&words("LOCK.RELEASE k alice")), 0);
    let second = hold(&server, "k", "bob");
    assert_eq!(server.cmd(&words("LOCK.RELEASE k alice")), 0);
    assert_holds(&server, "k", "bob", second);
    // Even when the later holder has the same name, the fence tells the two holds apart.
    release(&server, "k", "bob");
    let third = hold(&server, "k", "alice");
    assert_eq!(server.cmd(&words(&format!("LOCK.RELEASE k alice FENCE {first}"))), 0);
    assert_holds(&server, "k", "alice", third);
}

#[test]
fn a_fence_must_be_the_holds_own() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        for other in [1, fence - 1, fence + 1, (1 << 53) - 1] {
            assert_eq!(server.cmd(&words(&format!("LOCK.RELEASE k alice FENCE {other}"))), 0);
        }
        assert_eq!(server.cmd(&words(&format!("LOCK.RELEASE k bob FENCE {fence}"))), 0);
    });
    assert_eq!(server.cmd(&words(&format!("LOCK.RELEASE k alice FENCE {fence}"))), 1);
}

#[test]
fn withinfo_tells_what_became_of_the_hold() {
    let server = Server::start();
    let ask = |line: &str| server.cmd(&words(line));
    let fence = hold(&server, "k", "alice");

    let not_mine = ask("LOCK.RELEASE k bob WITHINFO");
    assert_eq!(not_mine.field("result"), &0);
    assert_eq!(not_mine.field("reason"), &"not-held");
    assert_eq!(not_mine.field("holder"), &"alice");
    for unknown in ["fence", "lease-ms", "ago-ms"] {
        assert_eq!(not_mine.field(unknown), &Value::Nil, "{unknown}");
    }

    let mine = ask("LOCK.RELEASE k alice WITHINFO");
    assert_eq!(mine.field("result"), &1);
    assert_eq!(mine.field("fence"), &fence);
    assert_eq!(mine.field("reason"), &"released");
    assert_eq!(mine.field("holder"), &Value::Nil);

    // A hold that its owner gave back is nothing to remember.
    let again = ask("LOCK.RELEASE k alice WITHINFO");
    assert_eq!(again.field("result"), &0);
    assert_eq!(again.field("reason"), &"not-held");
}

#[test]
fn withinfo_remembers_how_a_hold_was_lost() {
    let server = Server::start();
    let lost = |key: &str, by: &str| {
        let report = server.cmd(&["LOCK.RELEASE", key, "alice", "WITHINFO"]);
        assert_eq!(report.field("result"), &0);
        assert_eq!(report.field("reason"), &by);
        (report.field("fence").int(), report.field("ago-ms").int(), report.field("holder").clone())
    };
    let expired = server.cmd(&words("LOCK.ACQUIRE expired alice PX 1")).int();
    let deleted = hold(&server, "deleted", "alice");
    wait_until("the lease to end", || server.cmd(&words("LOCK.CHECK expired alice")) == 0);
    assert_eq!(server.cmd(&["DEL", "deleted"]), 1);
    hold(&server, "expired", "bob");

    let (fence, ago_ms, holder) = lost("expired", "expired");
    assert_eq!(fence, expired);
    assert!((0..60_000).contains(&ago_ms), "{ago_ms}");
    assert_eq!(holder, "bob");
    let (fence, _, holder) = lost("deleted", "deleted");
    assert_eq!(fence, deleted);
    assert_eq!(holder, Value::Nil);

    // Asked for another hold of the same owner, it has nothing to tell.
    let other = server.cmd(&words(&format!("LOCK.RELEASE deleted alice FENCE {expired} WITHINFO")));
    assert_eq!(other.field("reason"), &"not-held");
}

#[test]
fn another_type_is_refused() {
    let server = Server::start();
    set_string(&server, "k");
    assert_changes_nothing(&server, || {
        assert_eq!(server.cmd(&words("LOCK.RELEASE k alice")), WRONGTYPE);
        assert_eq!(server.cmd(&words("LOCK.RELEASE k alice FENCE 7 WITHINFO")), WRONGTYPE);
    });
}

#[test]
fn too_few_words_are_refused() {
    let server = Server::start();
    for line in ["LOCK.RELEASE", "LOCK.RELEASE k"] {
        assert_eq!(server.cmd(&words(line)), wrong_arity("lock.release").as_str());
    }
}

#[test]
fn in_a_transaction_and_in_a_script() {
    let server = Server::start();
    hold(&server, "k", "alice");
    hold(&server, "l", "alice");
    let replies = transaction(
        &mut server.connect(),
        &[&words("LOCK.RELEASE k bob"), &words("LOCK.RELEASE k alice"), &words("LOCK.ACQUIRE k bob")],
    );
    assert_eq!(replies[0], 0);
    assert_eq!(replies[1], 1);
    assert_holds(&server, "k", "bob", replies[2].int());

    let script =
        "return {redis.call('LOCK.RELEASE', KEYS[1], 'bob'), redis.call('LOCK.RELEASE', KEYS[1], 'alice')}";
    assert_eq!(eval(&server, script, &["l"]), Value::Array(vec![Value::Int(0), Value::Int(1)]));
    assert_eq!(server.cmd(&["EXISTS", "l"]), 0);
}
