//! Options that make a request a little narrower: NX and ADOPT on ACQUIRE, NOTE on RENEW, PERMITS and AFTER on RELEASE; and
//! what a holder may ask of its own lock.

use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_holds, assert_left, digest, fence_of, granted, in_line,
    release, words,
};
use crate::support::wait::wait_replica_in_sync;
use crate::support::{assert_stream, wait_until, ReplicaStream, Server, Stop, Value};
use crate::traffic::{follow, lock_stat, wait_same_data, ALL};

/// The permits that each owner holds.
fn permits(server: &Server, key: &str) -> Vec<(String, i64)> {
    let info = ask(server, &format!("LOCK.INFO {key}"));
    let holds = info.field("holds").items().iter();
    holds.map(|hold| (hold.field("owner").text(), hold.field("permits").int())).collect()
}

fn of(owner: &str, permits: i64) -> (String, i64) {
    (owner.to_owned(), permits)
}

#[test]
fn nx_says_no_to_an_owner_that_has_the_lock() {
    let server = Server::start();
    let fence = acquire(&server, "k alice NX PX 30000");
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LOCK.ACQUIRE k alice NX PX 90000"), Value::Nil);
        let told = ask(&server, "LOCK.ACQUIRE k alice NX PX 90000 WITHINFO");
        assert_eq!((told.field("result"), told.field("reason")), (&Value::Nil, &Value::bulk("already-held")));
        assert_eq!(told.field("fence"), &Value::Int(fence));
        assert_eq!(
            server.connect().cmd(&words("LOCK.ACQUIRE k alice NX BLOCK 0")),
            Value::Nil,
            "nor does it wait"
        );
    });
    assert_left(&ask(&server, "LOCK.CHECK k alice"), 30_000);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k alice SHARED NX").error().split(' ').next(), Some("LOCKMODE"));
    granted(&server, "LOCK.MACQUIRE bob 2 l m NX");
    assert_eq!(ask(&server, "LOCK.MACQUIRE bob 2 l m NX"), Value::Nil);
}

#[test]
fn nx_claims_a_turn() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob NX QUEUE 60000"), Value::Nil);
    release(&server, "k", "alice");
    let fence = acquire(&server, "k bob NX QUEUE 60000");
    assert_holds(&server, "k", "bob", fence);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob NX QUEUE 60000"), Value::Nil);
}

#[test]
fn a_renewal_can_change_the_note() {
    let server = Server::start();
    let fence = acquire(&server, "k alice NOTE first").to_string();
    let note = || ask(&server, "LOCK.INFO k").field("holds").items()[0].field("note").text();
    let mut stream = ReplicaStream::attach(&server);
    assert_left(&ask(&server, "LOCK.RENEW k alice PX 60000 NOTE second"), 60_000);
    assert_eq!(note(), "second");
    assert_stream(
        &stream.collect(&server),
        &[&["LOCK._RENEW", "k", &fence, ALL, "60000", "60000", "<ms>", "second"]],
    );
    ask(&server, "LOCK.RENEW k alice");
    assert_eq!(note(), "second", "without the word it stays");
    assert!(server.cmd(&["LOCK.RENEW", "k", "alice", "NOTE", ""]).int() > 0);
    assert_eq!(note(), "");
    let long = "x".repeat(257);
    assert_changes_nothing(&server, || {
        let reply = server.cmd(&["LOCK.RENEW", "k", "alice", "NOTE", &long]);
        assert_eq!(reply, "BADARG the note must have at most 256 bytes");
        assert_eq!(ask(&server, "LOCK.RENEW k alice NOTE"), "BADARG NOTE needs a value");
        assert_eq!(ask(&server, "LOCK.RENEW k bob NOTE mine"), 0);
    });
}

#[test]
fn permits_are_given_back_in_part() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always"]);
    let fence = acquire(&server, "k alice LIMIT 3 PERMITS 3").to_string();
    let mut bob = in_line(&server, "LOCK.ACQUIRE k bob LIMIT 3 PERMITS 2 BLOCK 0");
    let mut stream = ReplicaStream::attach(&server);
    let told = ask(&server, "LOCK.RELEASE k alice PERMITS 1 WITHINFO");
    assert_eq!((told.field("result"), told.field("reason")), (&Value::Int(1), &Value::bulk("still-held")));
    bob.expect_nothing_pending();
    assert_stream(&stream.collect(&server), &[&["LOCK._RENEW", "k", &fence, "2", "30000", "<ms>", "<ms>"]]);
    assert_eq!(ask(&server, "LOCK.RELEASE k alice PERMITS 1"), 1);
    let next = fence_of(&bob.read());
    assert_eq!(permits(&server, "k"), [of("alice", 1), of("bob", 2)]);
    let replica = Server::start();
    follow(&replica, &server);
    wait_replica_in_sync(&server, &replica);
    wait_same_data(&server, &replica);
    let before = digest(&server);
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    assert_eq!(digest(&server), before);
    server.restart(Stop::Save);
    assert_eq!(digest(&server), before);
    assert_left(&ask(&server, &format!("LOCK.CHECK k bob FENCE {next}")), 30_000);
    assert_eq!(ask(&server, "LOCK.RELEASE k alice PERMITS 1"), 1, "the last of them end the hold");
    assert_eq!(permits(&server, "k"), [of("bob", 2)]);
    assert_eq!(lock_stat(&server, "released"), 1);
}

#[test]
fn what_cannot_be_given_back_in_part() {
    let server = Server::start();
    acquire(&server, "door alice");
    acquire(&server, "k alice LIMIT 3 PERMITS 2");
    let range = "BADARG PERMITS must be a whole number from 1 to 2";
    assert_changes_nothing(&server, || {
        for (line, error) in [
            ("LOCK.RELEASE k alice PERMITS 3", range),
            ("LOCK.RELEASE k alice PERMITS 0", "BADARG PERMITS must be a whole number from 1 to 1000000"),
            ("LOCK.RELEASE k alice PERMITS", "BADARG PERMITS needs a value"),
            (
                "LOCK.RELEASE k alice PERMITS 1 ALL",
                "BADARG ALL is given twice, or beside an option that excludes it",
            ),
            (
                "LOCK.RELEASE door alice PERMITS 1",
                "LOCKMODE the lock is in exclusive use; only permits of a semaphore can be released in part",
            ),
        ] {
            assert_eq!(ask(&server, line), error, "{line}");
        }
        assert_eq!(ask(&server, "LOCK.RELEASE k bob PERMITS 1"), 0);
    });
}

#[test]
fn a_lock_has_a_cooldown_after_a_release_and_is_free_then() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut bob = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
    assert_eq!(ask(&server, "LOCK.RELEASE k alice AFTER 600000"), 1);
    bob.expect_nothing_pending();
    let rest = &ask(&server, "LOCK.INFO k").field("cooling").items()[0].clone();
    assert_eq!(
        (rest.field("reason").text(), rest.field("owner").text()),
        ("min-hold".into(), "alice".into())
    );
    assert_left(rest.field("left-ms"), 600_000);
    assert_eq!((lock_stat(&server, "released"), lock_stat(&server, "expired")), (1, 0));
    assert_eq!(ask(&server, "LOCK.RELEASE k alice AFTER 5"), 0, "it holds nothing any more");
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1);
    fence_of(&bob.read());
    assert_eq!(ask(&server, "LOCK.RELEASE k bob AFTER 1"), 1);
    wait_until("the lock to be free", || ask(&server, "EXISTS k") == 0);
}

#[test]
fn only_the_last_entry_lets_the_lock_rest() {
    let server = Server::start();
    for id in ["x", "y"] {
        acquire(&server, &format!("k alice REENTRANT {id}"));
    }
    let rests = || ask(&server, "LOCK.INFO k").field("cooling").items().len();
    assert_eq!(ask(&server, "LOCK.RELEASE k alice REENTRANT x AFTER 600000"), 1);
    assert_eq!(ask(&server, "LOCK.RELEASE k alice REENTRANT y"), 1);
    assert_eq!(ask(&server, "EXISTS k"), 0, "the first of the two did not count");
    acquire(&server, "k alice REENTRANT x MINHOLD 600000");
    assert_eq!(ask(&server, "LOCK.RELEASE k alice REENTRANT x AFTER 5"), 1);
    assert_eq!(rests(), 1);
    let left = ask(&server, "LOCK.INFO k").field("cooling").items()[0].field("left-ms").int();
    assert!(left > 500_000, "the longer of the two counts: {left}");
    for ms in ["0", "-1", "4233600001", "x"] {
        let reply = ask(&server, &format!("LOCK.RELEASE k alice AFTER {ms}"));
        assert_eq!(reply, "BADARG AFTER must be a whole number from 1 to 4233600000");
    }
}

#[test]
fn a_request_can_adopt_the_limit_that_the_semaphore_has() {
    let server = Server::start();
    acquire(&server, "k old-1 LIMIT 2");
    assert_eq!(
        ask(&server, "LOCK.ACQUIRE k new-1 LIMIT 3"),
        "LOCKLIMIT the semaphore has a limit of 2; ask with the same"
    );
    acquire(&server, "k new-1 LIMIT 3 ADOPT");
    let mut waits = in_line(&server, "LOCK.ACQUIRE k new-2 LIMIT 3 ADOPT BLOCK 0");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k new-3 LIMIT 3 ADOPT QUEUE 60000"), Value::Nil);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k new-3 LIMIT 3 ADOPT QUEUE 60000"), Value::Nil);
    let error = ask(&server, "LOCK.ACQUIRE k new-4 LIMIT 3 ADOPT PERMITS 3");
    assert_eq!(error, "BADARG PERMITS must be a whole number from 1 to 2");
    release(&server, "k", "old-1");
    fence_of(&waits.read());
    assert_eq!(ask(&server, "LOCK.SETLIMIT k 3"), 1, "the operator ends the roll-out");
    acquire(&server, "k new-3 LIMIT 2 ADOPT QUEUE 60000");
    assert_eq!(permits(&server, "k"), [of("new-1", 1), of("new-2", 1), of("new-3", 1)]);
    // Nobody has this one: the request says what it is.
    acquire(&server, "free a LIMIT 3 ADOPT PERMITS 3");
    assert_eq!(ask(&server, "LOCK.INFO free").field("limit"), &Value::Int(3));
}

#[test]
fn adopting_is_for_one_semaphore() {
    let server = Server::start();
    acquire(&server, "door alice");
    let alone = "BADARG ADOPT goes with LIMIT; name the limit for a semaphore that nobody has";
    let unknown = "BADARG unknown option 'ADOPT'; see LOCK.HELP";
    assert_changes_nothing(&server, || {
        for (line, error) in [
            ("LOCK.ACQUIRE k bob ADOPT", alone),
            ("LOCK.ACQUIRE k bob SHARED ADOPT", alone),
            ("LOCK.MACQUIRE bob 2 k l LIMIT 2 ADOPT", unknown),
            ("LOCK.STEAL k bob LIMIT 2 ADOPT", unknown),
            (
                "LOCK.ACQUIRE door bob LIMIT 2 ADOPT",
                "LOCKMODE the lock is in exclusive use; ask for the same, or wait until it is free",
            ),
        ] {
            assert_eq!(ask(&server, line), error, "{line}");
        }
    });
}

#[test]
fn who_has_a_lock_alone_may_enter_as_one_who_shares_it() {
    let server = Server::start();
    let fence = acquire(&server, "k alice REENTRANT write");
    assert_eq!(acquire(&server, "k alice SHARED REENTRANT read"), fence);
    assert_eq!(ask(&server, "LOCK.INFO k").field("mode").text(), "exclusive");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob SHARED"), Value::Nil);
    assert_eq!(ask(&server, "LOCK.RELEASE k alice REENTRANT write"), 1);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob SHARED"), Value::Nil, "it stays exclusive to the end");
    assert_eq!(ask(&server, "LOCK.RELEASE k alice REENTRANT read"), 1);
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn nobody_is_told_to_wait_for_itself() {
    let server = Server::start();
    let own = |mode| {
        format!("LOCKMODE the owner holds the lock in {mode} use, and not as asked; ask for the same, LOCK.CONVERT it, or release it")
    };
    acquire(&server, "k alice");
    for words in ["SHARED", "LIMIT 2", "SHARED BLOCK 0", "LIMIT 2 QUEUE 60000"] {
        assert_eq!(
            ask(&server, &format!("LOCK.ACQUIRE k alice {words}")),
            own("exclusive").as_str(),
            "{words}"
        );
    }
    acquire(&server, "shared alice SHARED REENTRANT read");
    assert_eq!(ask(&server, "LOCK.ACQUIRE shared alice REENTRANT write"), own("shared").as_str());
    acquire(&server, "sem alice LIMIT 3");
    assert_eq!(ask(&server, "LOCK.ACQUIRE sem alice LIMIT 3 PERMITS 2"), own("semaphore").as_str());
    granted(&server, "LOCK.MACQUIRE alice 2 l m");
    assert_eq!(ask(&server, "LOCK.MACQUIRE alice 2 l m SHARED"), own("exclusive").as_str());
}

#[test]
fn a_lock_with_as_many_holds_as_there_can_be_says_so() {
    let server = Server::start();
    for n in 0..1_000 {
        acquire(&server, &format!("k o{n} LIMIT 5000 PERMITS 1"));
    }
    let told = ask(&server, "LOCK.ACQUIRE k late LIMIT 5000 PERMITS 1 WITHINFO");
    assert_eq!((told.field("result"), told.field("reason")), (&Value::Nil, &Value::bulk("full")));
    assert_eq!(told.field("holder"), &Value::Nil);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k late LIMIT 5000 PERMITS 1 QUEUE 60000"), Value::Nil);
    release(&server, "k", "o7");
    acquire(&server, "k late LIMIT 5000 PERMITS 1 QUEUE 60000");
}

#[test]
fn a_limit_for_more_holders_than_a_lock_can_have_is_refused_at_once() {
    let server = Server::start();
    let refusal = "BADARG LIMIT 1001 alone lets in 1001 holders, and a lock has at most 1000; \
                   lower it, or say PERMITS too if most of them take several";
    for request in [
        "LOCK.ACQUIRE k a LIMIT 1001",
        "LOCK.ACQUIRE k a LIMIT 1001 ADOPT",
        "LOCK.ACQUIRE k a LIMIT 1001 BLOCK 0",
        "LOCK.ACQUIRE k a LIMIT 1001 QUEUE 1000",
        "LOCK.MACQUIRE a 2 k l LIMIT 1001",
        "LOCK.STEAL k a LIMIT 1001",
    ] {
        assert_eq!(ask(&server, request), refusal, "{request}");
    }
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
    acquire(&server, "k a LIMIT 1000");
    acquire(&server, "l a LIMIT 1001 PERMITS 500");
}
