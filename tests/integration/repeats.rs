//! The same request once more: what was named by a fence is answered as the first time, and what is told of an earlier hold
//! is the newest that is known.

use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_holds, fence_of, granted, queue_up, release, transaction,
    words,
};
use crate::support::{wait_until, Server, Value};
use crate::traffic::{follow, wait_same_data};

/// Asks for the reason, and sees that these are the result and the reason.
fn assert_told(server: &Server, line: &str, result: i64, reason: &str) -> Value {
    let told = ask(server, &format!("{line} WITHINFO"));
    assert_eq!(
        (told.field("result"), told.field("reason")),
        (&Value::Int(result), &Value::bulk(reason)),
        "{line}"
    );
    told
}

/// Lets the owner's lease on this lock run out.
fn lose(server: &Server, key: &str, owner: &str) -> i64 {
    let fence = acquire(server, &format!("{key} {owner} PX 1"));
    wait_until("the lease to be over", || ask(server, &format!("EXISTS {key}")) == 0);
    fence
}

#[test]
fn a_release_by_its_fence_has_the_same_reply_again() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    let line = format!("LOCK.RELEASE k alice FENCE {fence}");
    assert_eq!(ask(&server, &line), 1);
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, &line), 1);
        let told = assert_told(&server, &line, 1, "released");
        assert_eq!(told.field("fence"), &fence);
        assert!(told.field("ago-ms").int() >= 0);
    });
    for next in ["bob", "alice"] {
        let newer = acquire(&server, &format!("k {next}"));
        assert_changes_nothing(&server, || {
            for again in [&line, &format!("{line} ALL"), &format!("{line} REENTRANT x")] {
                assert_eq!(ask(&server, again), 1, "{next}: {again}");
            }
            assert_told(&server, &line, 1, "released");
        });
        assert_holds(&server, "k", next, newer);
        release(&server, "k", next);
    }
    assert_told(&server, &format!("LOCK.CHECK k alice FENCE {fence}"), 0, "released");
    assert_told(&server, &format!("LOCK.RENEW k alice FENCE {fence}"), 0, "released");
}

#[test]
fn only_what_the_owner_itself_has_released_by_the_fence_is_remembered() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    assert_eq!(ask(&server, &format!("LOCK.RELEASE k alice FENCE {fence}")), 1);
    assert_eq!(ask(&server, "LOCK.RELEASE k alice"), 0, "without a fence it could be about any hold");
    for other in [
        format!("LOCK.RELEASE k bob FENCE {fence}"),
        format!("LOCK.RELEASE l alice FENCE {fence}"),
        format!("LOCK.RELEASE k alice FENCE {}", fence - 1),
    ] {
        assert_told(&server, &other, 0, "not-held");
    }
    assert_eq!(server.connect().select(1).cmd(&words(&format!("LOCK.RELEASE k alice FENCE {fence}"))), 0);
    // Given back without it.
    let plain = acquire(&server, "l alice");
    release(&server, "l", "alice");
    assert_told(&server, &format!("LOCK.RELEASE l alice FENCE {plain}"), 0, "not-held");
    // Lost.
    let lost = lose(&server, "m", "alice");
    assert_told(&server, &format!("LOCK.RELEASE m alice FENCE {lost}"), 0, "expired");
    // Forgotten, and never known.
    assert_eq!(ask(&server, "CONFIG SET lock.loss-ledger-size 0"), "OK");
    assert_told(&server, &format!("LOCK.RELEASE k alice FENCE {fence}"), 0, "not-held");
    let fence = acquire(&server, "k alice");
    assert_eq!(ask(&server, &format!("LOCK.RELEASE k alice FENCE {fence}")), 1);
    assert_eq!(ask(&server, &format!("LOCK.RELEASE k alice FENCE {fence}")), 0);
}

#[test]
fn so_has_a_release_under_an_id() {
    let server = Server::start();
    let fence = acquire(&server, "k alice REENTRANT x");
    for id in ["", "REENTRANT y"] {
        assert_eq!(ask(&server, &format!("LOCK.ACQUIRE k alice {id}")), fence);
    }
    let line = format!("LOCK.RELEASE k alice FENCE {fence}");
    for id in ["", "REENTRANT y"] {
        assert_eq!(ask(&server, &format!("{line} {id}")), 1);
        assert_changes_nothing(&server, || {
            let told = assert_told(&server, &format!("{line} {id}"), 1, "still-held");
            assert_eq!(told.field("fence"), &fence);
        });
    }
    assert_eq!(ask(&server, &format!("{line} REENTRANT z")), 0, "never entered");
    // In again, it is a new release.
    assert_eq!(ask(&server, "LOCK.ACQUIRE k alice REENTRANT y"), fence);
    assert_eq!(ask(&server, &format!("{line} REENTRANT y")), 1);
    assert_eq!(ask(&server, &format!("{line} REENTRANT x")), 1);
    assert_eq!(ask(&server, "EXISTS k"), 0);
    assert_eq!(ask(&server, &format!("{line} REENTRANT x")), 1);
}

#[test]
fn so_has_a_release_of_several_locks() {
    let server = Server::start();
    let fence = granted(&server, "LOCK.MACQUIRE alice 3 a b c");
    let line = format!("LOCK.MRELEASE alice 3 a b c FENCE {fence}");
    assert_eq!(ask(&server, &line), 3);
    assert_eq!(ask(&server, &line), 3);
    acquire(&server, "b bob");
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, &line), 3);
        assert_eq!(ask(&server, &format!("LOCK.MRELEASE alice 1 b FENCE {fence}")), 1);
        assert_eq!(ask(&server, &format!("LOCK.MRELEASE alice 2 b d FENCE {fence}")), 0, "d was never hers");
        assert_eq!(ask(&server, "LOCK.MRELEASE alice 3 a b c"), 0);
        assert_told(&server, &format!("LOCK.RELEASE c alice FENCE {fence}"), 1, "released");
    });
    // All or nothing: some that are given back and some that are not are neither.
    release(&server, "b", "bob");
    let fence = granted(&server, "LOCK.MACQUIRE alice 2 a b");
    assert_eq!(ask(&server, &format!("LOCK.RELEASE a alice FENCE {fence}")), 1);
    assert_eq!(ask(&server, &format!("LOCK.MRELEASE alice 2 a b FENCE {fence}")), 0);
    assert_holds(&server, "b", "alice", fence);
}

#[test]
fn a_transfer_by_the_fence_has_the_same_reply_again() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    let line = format!("LOCK.TRANSFER k alice bob FENCE {fence}");
    let new = granted(&server, &line);
    assert!(new > fence);
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, &line), new);
        assert_eq!(ask(&server, &format!("LOCK.TRANSFER k alice carol FENCE {fence}")), Value::Nil);
        assert_eq!(ask(&server, "LOCK.TRANSFER k alice bob"), Value::Nil);
        assert_told(&server, &format!("LOCK.RELEASE k alice FENCE {fence}"), 0, "transferred");
    });
    release(&server, "k", "bob");
    assert_eq!(ask(&server, &line), new, "whatever became of it");
    // Without a fence nothing is remembered.
    let fence = acquire(&server, "k alice");
    granted(&server, "LOCK.TRANSFER k alice bob");
    assert_eq!(ask(&server, &format!("LOCK.TRANSFER k alice bob FENCE {fence}")), Value::Nil);
}

#[test]
fn a_conversion_by_the_fence_has_the_same_reply_again() {
    let server = Server::start();
    let old = acquire(&server, "k alice SHARED PX 600000");
    let up = format!("LOCK.CONVERT k alice EXCLUSIVE FENCE {old}");
    let new = granted(&server, &up);
    assert!(new > old);
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, &up), new);
        assert_eq!(ask(&server, &format!("{up} BLOCK 60000")), new);
        let told = ask(&server, &format!("{up} WITHINFO"));
        assert_eq!((told.field("result"), told.field("fence")), (&Value::Int(new), &Value::Int(new)));
        for other in [
            format!("LOCK.CONVERT k alice SHARED FENCE {old}"),
            format!("LOCK.CONVERT k bob EXCLUSIVE FENCE {old}"),
            format!("LOCK.CONVERT l alice EXCLUSIVE FENCE {old}"),
            format!("LOCK.CONVERT k alice EXCLUSIVE FENCE {}", old - 1),
        ] {
            assert_eq!(ask(&server, &other), Value::Nil, "{other}");
        }
        assert_eq!(ask(&server, &format!("LOCK.CHECK k alice FENCE {old}")), 0, "that hold is over");
    });

    let down = format!("LOCK.CONVERT k alice SHARED FENCE {new}");
    assert_eq!(ask(&server, &down), new);
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, &down), new);
        // Nobody is told that it has alone what it shares.
        assert_eq!(ask(&server, &up), Value::Nil);
    });
    // Nor that it has what it has lost or given back.
    let newer = granted(&server, &format!("LOCK.CONVERT k alice EXCLUSIVE FENCE {new}"));
    let up = format!("LOCK.CONVERT k alice EXCLUSIVE FENCE {new}");
    assert_eq!(ask(&server, &up), newer);
    release(&server, "k", "alice");
    assert_eq!(ask(&server, &up), Value::Nil);
    acquire(&server, "k alice");
    assert_eq!(ask(&server, &up), Value::Nil, "another hold of hers");
}

#[test]
fn so_has_an_upgrade_that_waited_and_one_that_was_taken_back_begins_anew() {
    let server = Server::start();
    let old = acquire(&server, "k alice SHARED PX 600000");
    let line = format!("LOCK.CONVERT k alice EXCLUSIVE FENCE {old} BLOCK 60000");
    let upgrade = || {
        acquire(&server, "k bob SHARED PX 600000");
        let mut conn = server.connect();
        let id = conn.id().to_string();
        (queue_up(&server, conn, &words(&line)), id)
    };
    // Gone in the moment of the grant: the hold is shared again, under its old fence.
    let (_gone, id) = upgrade();
    transaction(&mut server.connect(), &[&words("LOCK.RELEASE k bob"), &["CLIENT", "KILL", "ID", &id]]);
    wait_until("the upgrade to be taken back", || {
        ask(&server, &format!("LOCK.CHECK k alice FENCE {old}")).int() > 0
    });
    let (mut waits, _) = upgrade();
    release(&server, "k", "bob");
    let new = fence_of(&waits.read());
    drop(waits);
    assert_changes_nothing(&server, || assert_eq!(ask(&server, &line), new));
}

#[test]
fn a_release_overrules_an_earlier_loss() {
    let server = Server::start();
    let lost = lose(&server, "k", "alice");
    assert_told(&server, "LOCK.CHECK k alice", 0, "expired");
    for _ in 0..3 {
        let fence = acquire(&server, "k alice");
        release(&server, "k", "alice");
        let told = assert_told(&server, "LOCK.RELEASE k alice", 0, "released");
        assert_eq!(told.field("fence"), &fence);
    }
    assert_told(&server, &format!("LOCK.CHECK k alice FENCE {lost}"), 0, "expired");
    assert_eq!(
        ask(&server, "LOCK.MACQUIRE alice 2 k l").int(),
        ask(&server, "LOCK.MACQUIRE alice 2 k l").int()
    );
    assert_eq!(ask(&server, "LOCK.MRELEASE alice 2 k l"), 2);
    assert_told(&server, "LOCK.CHECK k alice", 0, "released");
    assert_told(&server, "LOCK.CHECK l alice", 0, "not-held");
    lose(&server, "k", "alice");
    assert_told(&server, "LOCK.CHECK k alice", 0, "expired");
}

#[test]
fn nothing_is_told_of_holds_before_all_data_went() {
    let server = Server::start();
    for gone in
        ["FLUSHALL", "FLUSHALL ASYNC", "FLUSHDB", "SWAPDB 0 1", "DEBUG RELOAD NOSAVE NOFLUSH", "DEBUG RELOAD"]
    {
        let fence = acquire(&server, "k alice");
        granted(&server, "LOCK.TRANSFER k alice bob");
        assert_told(&server, "LOCK.CHECK k alice", 0, "transferred");
        ask(&server, gone);
        let known = gone.ends_with("NOFLUSH");
        assert_told(&server, "LOCK.CHECK k alice", 0, if known { "transferred" } else { "not-held" });
        assert_told(&server, &format!("LOCK.CHECK k alice FENCE {fence}"), 0, "transferred");
        ask(&server, "FLUSHALL");
    }
    // In another database nothing has changed.
    lose(&server, "k", "alice");
    assert_eq!(server.connect().select(1).cmd(&["FLUSHDB"]), "OK");
    assert_told(&server, "LOCK.CHECK k alice", 0, "expired");
}

#[test]
fn a_fence_that_was_named_is_the_one_that_is_told_of() {
    let server = Server::start();
    lose(&server, "k", "alice");
    assert_told_nil(&server, "LOCK.ACQUIRE k alice FENCE 7");
    assert_told_nil(&server, "LOCK.MACQUIRE alice 1 k FENCE 7");
}

fn assert_told_nil(server: &Server, line: &str) {
    let told = ask(server, &format!("{line} WITHINFO"));
    assert_eq!(
        (told.field("result"), told.field("reason")),
        (&Value::Nil, &Value::bulk("not-held")),
        "{line}"
    );
}

#[test]
fn a_server_that_is_promoted_remembers_nothing() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    lose(&primary, "l", "alice");
    acquire(&primary, "d alice");
    assert_eq!(ask(&primary, "DEL d"), 1);
    let fence = acquire(&primary, "k alice");
    let line = format!("LOCK.RELEASE k alice FENCE {fence}");
    assert_eq!(ask(&primary, &line), 1);
    wait_same_data(&replica, &primary);
    assert_told(&replica, "LOCK.CHECK d alice", 0, "not-held");
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    for (line, fenced) in [("LOCK.CHECK l alice", false), ("LOCK.CHECK d alice", false), (&line, true)] {
        assert_told(&replica, line, 0, "not-held");
        assert!(!fenced || ask(&primary, line) == 1);
    }
    // Nor does one that was a primary before.
    follow(&primary, &replica);
    assert_eq!(ask(&primary, "REPLICAOF NO ONE"), "OK");
    assert_told(&primary, &line, 0, "not-held");
    assert_told(&primary, "LOCK.CHECK l alice", 0, "not-held");
}
