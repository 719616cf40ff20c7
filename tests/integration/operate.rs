//! LOCK.TRANSFER, LOCK.CANCEL, LOCK.BREAK and LOCK.STEAL: holds and waits that end otherwise than by their owners. Most replies
//! are `tests/cases/operate.md`; those who wait, copies, access and bad words have a file each.

mod access;
mod bad_words;
mod copies;
mod waiting;

use crate::steps::{acquire, ask, assert_changes_nothing, assert_holds, granted, release};
use crate::support::{Server, Value};

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
    let old = acquire(&server, "k alice");
    let new = granted(&server, "LOCK.TRANSFER k alice bob");
    assert!(new > old, "{new} after {old}");
    assert_holds(&server, "k", "bob", new);
    assert_eq!(ask(&server, "LOCK.CHECK k alice"), 0);
    assert_eq!(ask(&server, "LOCK.RELEASE k alice"), 0, "what was handed over is no longer hers");
    assert_eq!(ask(&server, &format!("LOCK.RELEASE k bob FENCE {old}")), 0, "nor is the old fence his");
    release(&server, "k", "bob");
}

#[test]
fn a_break_ends_all_holds_or_those_of_one_owner() {
    let server = Server::start();
    assert_eq!(ask(&server, "LOCK.BREAK k"), 0);
    for owner in ["ann", "ben", "cleo"] {
        acquire(&server, &format!("k {owner} SHARED NOEXPIRE"));
    }
    assert_changes_nothing(&server, || assert_eq!(ask(&server, "LOCK.BREAK k OWNER nobody REASON x"), 0));
    assert_eq!(ask(&server, "LOCK.BREAK k OWNER ben"), 1);
    assert_eq!(owners(&server), ["ann", "cleo"]);
    assert_eq!(ask(&server, "LOCK.BREAK k reason stuck"), 2);
    assert_eq!((ask(&server, "EXISTS k").int(), ask(&server, "LOCK.BREAK k").int()), (0, 0));
    acquire(&server, "k alice REENTRANT one");
    assert_eq!(ask(&server, "LOCK.BREAK k"), 1, "whatever ids it was entered under");
}

#[test]
fn the_loser_is_told_how_it_lost() {
    let server = Server::start();
    for (line, reason, now) in [
        ("LOCK.BREAK k", "broken", Value::Nil),
        ("LOCK.STEAL k eve", "stolen", Value::bulk("eve")),
        ("LOCK.TRANSFER k alice bob", "transferred", Value::bulk("bob")),
    ] {
        let fence = acquire(&server, "k alice");
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
