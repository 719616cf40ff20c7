//! LOCK.TRANSFER, LOCK.CANCEL, LOCK.BREAK and LOCK.STEAL: holds and waits that end otherwise than by their owners. Here their
//! replies and who has the lock then; those who wait, copies, access and bad words have a file each.

mod access;
mod bad_words;
mod copies;
mod waiting;

use crate::onlookers::goes_through;
use crate::steps::{
    ask, assert_changes_nothing, assert_holds, assert_left, eval, fence_of, hold, holder, release,
    transaction, words,
};
use crate::support::{Events, Server, Value};
use crate::traffic::lock_stat;

const HOLDS_ALREADY: &str =
    "LOCKMODE the new owner holds the lock already; release one of the two holds first";

/// Runs a line that must reply a fence.
pub(crate) fn take(server: &Server, line: &str) -> i64 {
    fence_of(&ask(server, line))
}

/// Who holds `k`, oldest first.
fn owners(server: &Server) -> Vec<String> {
    let info = ask(server, "LOCK.INFO k");
    info.field("holds").items().iter().map(|hold| hold.field("owner").text()).collect()
}

/// A field of the only hold of `k`.
pub(crate) fn shown(server: &Server, field: &str) -> Value {
    let info = ask(server, "LOCK.INFO k");
    let [hold] = info.field("holds").items() else { panic!("not one hold: {info:?}") };
    hold.field(field).clone()
}

#[test]
fn a_transfer_hands_over_under_a_new_fence() {
    let server = Server::start();
    let old = hold(&server, "k", "alice");
    let new = take(&server, "LOCK.TRANSFER k alice bob");
    assert!(new > old, "{new} after {old}");
    assert_holds(&server, "k", "bob", new);
    assert_eq!(ask(&server, "LOCK.CHECK k alice"), 0);
    assert_eq!(ask(&server, "LOCK.RELEASE k alice"), 0, "what was handed over is no longer hers");
    assert_eq!(ask(&server, &format!("LOCK.RELEASE k bob FENCE {old}")), 0, "nor is the old fence his");
    release(&server, "k", "bob");
}

#[test]
fn who_does_not_hold_it_has_nothing_to_hand_over() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        for line in [
            "k bob carol".to_owned(),
            "free alice bob".to_owned(),
            format!("k alice bob FENCE {}", fence - 1),
        ] {
            assert_eq!(ask(&server, &format!("LOCK.TRANSFER {line}")), Value::Nil, "{line}");
        }
    });
    let new = take(&server, &format!("LOCK.TRANSFER k alice bob FENCE {fence}"));
    assert_eq!(ask(&server, "LOCK.TRANSFER k alice bob"), Value::Nil, "the same again");
    assert_holds(&server, "k", "bob", new);
}

#[test]
fn the_lease_begins_anew_and_the_note_goes_along() {
    let server = Server::start();
    take(&server, "LOCK.ACQUIRE k alice PX 60000 NOTE why");
    for (words, lease_ms) in
        [("alice bob", 60_000), ("bob carol PX 70000", 70_000), ("carol dora EX 80", 80_000)]
    {
        take(&server, &format!("LOCK.TRANSFER k {words}"));
        assert_eq!(shown(&server, "lease-ms"), lease_ms);
        assert_left(&shown(&server, "left-ms"), lease_ms);
    }
    take(&server, "LOCK.TRANSFER k dora erin NOEXPIRE");
    assert_eq!((shown(&server, "left-ms").int(), shown(&server, "note").text()), (-1, "why".to_owned()));
    take(&server, "LOCK.TRANSFER k erin fay");
    assert_eq!(shown(&server, "lease-ms"), -1, "the lease of the hold before, if none is named");
    assert_eq!(lock_stat(&server, "lease_index_entries"), 0);
}

#[test]
fn a_share_is_handed_over_as_a_share() {
    let server = Server::start();
    take(&server, "LOCK.ACQUIRE k ann SHARED");
    let ben = take(&server, "LOCK.ACQUIRE k ben SHARED");
    take(&server, "LOCK.TRANSFER k ann cleo");
    assert_eq!(owners(&server), ["ben", "cleo"]);
    assert_eq!(ask(&server, "LOCK.INFO k").field("mode"), &"shared");
    assert_eq!(ask(&server, "LOCK.TRANSFER k ben cleo"), HOLDS_ALREADY);
    assert!(ask(&server, &format!("LOCK.CHECK k ben FENCE {ben}")).int() > 0, "nothing has changed");
    take(&server, "LOCK.ACQUIRE s ann LIMIT 3 PERMITS 2");
    take(&server, "LOCK.TRANSFER s ann ben");
    assert_eq!(ask(&server, "LOCK.ACQUIRE s cleo LIMIT 3 PERMITS 2"), Value::Nil);
    take(&server, "LOCK.ACQUIRE s cleo LIMIT 3");
}

#[test]
fn to_oneself_it_is_a_new_fence() {
    let server = Server::start();
    let old = hold(&server, "k", "alice");
    let new = take(&server, "LOCK.TRANSFER k alice alice");
    assert!(new > old);
    assert_holds(&server, "k", "alice", new);
}

#[test]
fn what_was_entered_under_ids_or_with_others_is_one_plain_hold_then() {
    let server = Server::start();
    take(&server, "LOCK.ACQUIRE k alice REENTRANT one");
    take(&server, "LOCK.ACQUIRE k alice REENTRANT two");
    take(&server, "LOCK.TRANSFER k alice bob");
    assert_eq!(shown(&server, "entries"), 1);
    release(&server, "k", "bob");
    let fence = take(&server, "LOCK.MACQUIRE alice 2 k l");
    let new = take(&server, &format!("LOCK.TRANSFER k alice bob FENCE {fence}"));
    assert_eq!(shown(&server, "keys"), 1);
    assert_holds(&server, "k", "bob", new);
    assert_holds(&server, "l", "alice", fence);
}

#[test]
fn a_break_ends_all_holds_or_those_of_one_owner() {
    let server = Server::start();
    assert_eq!(ask(&server, "LOCK.BREAK k"), 0);
    for owner in ["ann", "ben", "cleo"] {
        take(&server, &format!("LOCK.ACQUIRE k {owner} SHARED NOEXPIRE"));
    }
    assert_changes_nothing(&server, || assert_eq!(ask(&server, "LOCK.BREAK k OWNER nobody REASON x"), 0));
    assert_eq!(ask(&server, "LOCK.BREAK k OWNER ben"), 1);
    assert_eq!(owners(&server), ["ann", "cleo"]);
    assert_eq!(ask(&server, "LOCK.BREAK k reason stuck"), 2);
    assert_eq!((ask(&server, "EXISTS k").int(), ask(&server, "LOCK.BREAK k").int()), (0, 0));
    take(&server, "LOCK.ACQUIRE k alice REENTRANT one");
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1, "whatever ids it was entered under");
}

#[test]
fn a_hold_that_is_over_is_not_broken() {
    let server = Server::start();
    let replies = transaction(
        &mut server.connect(),
        &[
            &words("LOCK.ACQUIRE k alice PX 5"),
            &words("DEBUG SLEEP 0.02"),
            &words("LOCK.TRANSFER k alice bob"),
            &words("LOCK.BREAK k"),
            &words("LOCK.CHECK k alice WITHINFO"),
        ],
    );
    assert_eq!((&replies[2], &replies[3]), (&Value::Nil, &Value::Int(0)));
    assert_eq!(replies[4].field("reason"), &"expired");
}

#[test]
fn a_theft_ends_all_holds_and_makes_one() {
    let server = Server::start();
    let free = take(&server, "LOCK.STEAL k eve");
    assert_holds(&server, "k", "eve", free);
    assert_left(&shown(&server, "left-ms"), 30_000);
    let again = take(&server, "LOCK.STEAL k eve PX 50000 NOTE why");
    assert!(again > free, "her own hold ends like any other");
    assert_eq!((shown(&server, "lease-ms").int(), shown(&server, "note").text()), (50_000, "why".to_owned()));
    // Whatever kind of lock it was, it is of the kind that was asked for.
    for (words, mode) in
        [("ann SHARED", "shared"), ("ben LIMIT 3 PERMITS 2 NOEXPIRE", "semaphore"), ("eve EX 5", "exclusive")]
    {
        let fence = take(&server, &format!("LOCK.STEAL k {words}"));
        assert_eq!(ask(&server, "LOCK.INFO k").field("mode"), &mode);
        assert_eq!(owners(&server), [words.split(' ').next().unwrap()]);
        assert_eq!(shown(&server, "fence"), fence);
    }
    for owner in ["ann", "ben"] {
        take(&server, &format!("LOCK.ACQUIRE l {owner} SHARED"));
    }
    take(&server, "LOCK.STEAL l eve");
    assert_eq!(holder(&server, "l").as_deref(), Some("eve"));
}

#[test]
fn the_loser_is_told_how_it_lost() {
    let server = Server::start();
    for (line, reason, now) in [
        ("LOCK.BREAK k", "broken", Value::Nil),
        ("LOCK.STEAL k eve", "stolen", Value::bulk("eve")),
        ("LOCK.TRANSFER k alice bob", "transferred", Value::bulk("bob")),
    ] {
        let fence = hold(&server, "k", "alice");
        ask(&server, line);
        for late in [
            "LOCK.RELEASE k alice".to_owned(),
            "LOCK.RELEASE k alice ALL".to_owned(),
            format!("LOCK.RELEASE k alice FENCE {fence}"),
            "LOCK.RENEW k alice PX 5000".to_owned(),
            "LOCK.CHECK k alice".to_owned(),
            "LOCK.CONVERT k alice SHARED".to_owned(),
            format!("LOCK.ACQUIRE k alice FENCE {fence}"),
        ] {
            let report = ask(&server, &format!("{late} WITHINFO"));
            assert!(matches!(report.field("result"), Value::Nil | Value::Int(0)), "{late}: {report:?}");
            assert_eq!(report.field("reason"), &reason, "{late}");
            assert_eq!(
                (report.field("fence").int(), report.field("lease-ms")),
                (fence, &Value::Nil),
                "{late}"
            );
            assert!((0..60_000).contains(&report.field("ago-ms").int()), "{late}: {report:?}");
            assert_eq!(report.field("holder"), &now, "{late}");
        }
        ask(&server, "LOCK.BREAK k");
    }
}

#[test]
fn everything_is_counted_once() {
    let server = Server::start();
    let counted =
        || ["broken", "transferred", "cancelled", "released", "granted"].map(|name| lock_stat(&server, name));
    for owner in ["ann", "ben"] {
        take(&server, &format!("LOCK.ACQUIRE k {owner} SHARED"));
    }
    take(&server, "LOCK.TRANSFER k ann cleo");
    assert_eq!(counted(), [0, 1, 0, 0, 3]);
    ask(&server, "LOCK.TRANSFER k ann cleo");
    ask(&server, "LOCK.CANCEL k ann");
    ask(&server, "LOCK.BREAK k OWNER ann");
    assert_eq!(counted(), [0, 1, 0, 0, 3]);
    ask(&server, "LOCK.STEAL k eve");
    assert_eq!(counted(), [2, 1, 0, 0, 4]);
    ask(&server, "LOCK.BREAK k");
    assert_eq!(counted(), [3, 1, 0, 0, 4]);
    assert_eq!((lock_stat(&server, "held"), lock_stat(&server, "lease_index_entries")), (0, 0));
}

#[test]
fn in_transactions_and_scripts() {
    let server = Server::start();
    let lines = [
        "LOCK.ACQUIRE k alice",
        "LOCK.TRANSFER k alice bob",
        "LOCK.CANCEL k bob",
        "LOCK.STEAL k eve",
        "LOCK.BREAK k",
    ];
    let commands: Vec<Vec<&str>> = lines.iter().map(|line| words(line)).collect();
    let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
    let calls = lines.map(|line| format!("redis.call('{}')", line.replace(' ', "', '")));
    let script = format!("return {{{}}}", calls.join(", ")).replace("'k'", "KEYS[1]");
    for replies in
        [transaction(&mut server.connect(), &commands), eval(&server, &script, &["k"]).items().to_vec()]
    {
        let [first, second, cancelled, third, broken] = replies.as_slice() else { panic!("{replies:?}") };
        assert!(fence_of(first) < fence_of(second) && fence_of(second) < fence_of(third), "{replies:?}");
        assert_eq!((cancelled, broken), (&Value::Int(0), &Value::Int(1)));
        assert_eq!(ask(&server, "EXISTS k"), 0);
    }
}

#[test]
fn what_is_published_and_what_watch_sees() {
    let server = Server::start();
    let mut events = Events::listen(&server);
    let mut assert_heard = |line: &str, expected: &[&str]| {
        let unseen = goes_through(&server, || ask(&server, line));
        assert_eq!(unseen, expected.is_empty(), "{line}");
        assert_eq!(events.heard(), expected, "{line}");
    };
    assert_heard("LOCK.STEAL k ann SHARED", &["k lock.acquired"]);
    assert_heard("LOCK.ACQUIRE k ben SHARED", &["k lock.acquired"]);
    assert_heard("LOCK.TRANSFER k ann cleo", &["k lock.released", "k lock.acquired"]);
    assert_heard("LOCK.STEAL k eve", &["k lock.released", "k lock.released", "k lock.acquired"]);
    assert_heard("LOCK.BREAK k", &["k lock.released"]);
    for line in ["LOCK.BREAK k", "LOCK.TRANSFER k ann ben", "LOCK.CANCEL k ann", "LOCK.STEAL k ann BLOCK 0"] {
        assert_heard(line, &[]);
    }
}
