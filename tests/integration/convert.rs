//! LOCK.CONVERT at once: who may, how the lease goes on, and random conversions beside a model. The replies are
//! `tests/cases/convert.md`; waiting for an upgrade stands in `waiting`, what files and replicas have in `copies`.

use std::collections::{BTreeMap, BTreeSet};

use crate::onlookers::{assert_writes_k, is_allowed};
use crate::steps::{acquire, ask, assert_holds, assert_left, fence_of, granted, is_modern, release, words};
use crate::support::{wait_until, Server, Value};
use crate::traffic::Dice;

mod copies;
mod waiting;

/// Takes `k` as a reader.
fn read(server: &Server, owner: &str) -> i64 {
    acquire(server, &format!("k {owner} SHARED PX 60000"))
}

/// The mode of `k`, and who holds it, oldest first.
fn shown(server: &Server) -> (String, Vec<String>) {
    let info = server.cmd(&["LOCK.INFO", "k"]);
    let owners = info.field("holds").items().iter().map(|hold| hold.field("owner").text());
    (info.field("mode").text(), owners.collect())
}

/// `k` is in this mode, and these owners hold it.
#[track_caller]
fn assert_shown(server: &Server, mode: &str, owners: &[&str]) {
    let (is, by) = shown(server);
    assert_eq!((is.as_str(), by.iter().map(String::as_str).collect::<Vec<_>>()), (mode, owners.to_vec()));
}

#[test]
fn a_writer_shares_at_once_and_keeps_its_fence() {
    let server = Server::start();
    let fence = acquire(&server, "k ann");
    assert_eq!(ask(&server, "LOCK.CONVERT k ann SHARED"), fence);
    assert_shown(&server, "shared", &["ann"]);
    read(&server, "ben");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k wilma"), Value::Nil);
    assert_holds(&server, "k", "ann", fence);
    release(&server, "k", "ann");
    assert_shown(&server, "shared", &["ben"]);
}

#[test]
fn a_converted_hold_still_ends_with_its_lease() {
    let server = Server::start();
    for modes in [&["EXCLUSIVE"][..], &["EXCLUSIVE", "SHARED"]] {
        acquire(&server, "k ann SHARED PX 400");
        for mode in modes {
            granted(&server, &format!("LOCK.CONVERT k ann {mode}"));
        }
        let mut next = server.connect();
        next.send(&words("LOCK.ACQUIRE k next BLOCK 0"));
        fence_of(&next.read());
        assert_eq!(ask(&server, "LOCK.RELEASE k ann WITHINFO").field("reason"), &"expired", "{modes:?}");
        release(&server, "k", "next");
        assert_eq!(server.info_int("lock_state", "lock_lease_index_entries"), 0, "{modes:?}");
    }
}

#[test]
fn each_upgrade_has_a_higher_fence() {
    let server = Server::start();
    let mut last = read(&server, "ann");
    for _ in 0..200 {
        let fence = granted(&server, "LOCK.CONVERT k ann EXCLUSIVE");
        assert!(fence > last, "{fence} after {last}");
        assert_eq!(ask(&server, &format!("LOCK.CONVERT k ann SHARED FENCE {fence}")), fence);
        last = fence;
    }
    assert_eq!(server.info_int("lock_state", "lock_held"), 1);
    assert_eq!(server.info_int("lock_state", "lock_lease_index_entries"), 1);
}

#[test]
fn who_may_convert() {
    let server = Server::start();
    let line = "LOCK.CONVERT k nobody EXCLUSIVE BLOCK 5";
    assert_writes_k(&server, line);
    assert_eq!(
        ask(&server, "COMMAND GETKEYS LOCK.CONVERT EXCLUSIVE SHARED SHARED").items(),
        [Value::bulk("EXCLUSIVE")]
    );
    if is_modern(&server) {
        assert!(!is_allowed(&server, "~* +@all -@blocking", line));
    }
}

#[test]
fn h2_no_late_release_frees_the_writer_no_reentry_cuts_the_lease_and_renewal_goes_on() {
    let server = Server::start();
    let old = read(&server, "ann");
    let ben = read(&server, "ben");
    release(&server, "k", "ben");
    let new = granted(&server, "LOCK.CONVERT k ann EXCLUSIVE");
    // Read-unlocks that come late: by a reader that has left, and of the read that became the write.
    for line in [
        "LOCK.RELEASE k ben".to_owned(),
        format!("LOCK.RELEASE k ben FENCE {ben}"),
        format!("LOCK.RELEASE k ann FENCE {old}"),
        "LOCK.RELEASE k ann REENTRANT read".to_owned(),
    ] {
        assert_eq!(ask(&server, &line), 0, "{line}");
        assert_shown(&server, "exclusive", &["ann"]);
    }
    assert_eq!(ask(&server, "LOCK.ACQUIRE k ben SHARED"), Value::Nil);

    // A shorter re-entry, as a writer and as a reader.
    assert_eq!(ask(&server, "LOCK.ACQUIRE k ann PX 50 REENTRANT again"), new);
    assert_left(&ask(&server, "LOCK.CHECK k ann"), 60_000);
    assert_eq!(ask(&server, "LOCK.CONVERT k ann SHARED"), new);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k ann SHARED PX 50 REENTRANT more"), new);
    assert_left(&ask(&server, "LOCK.CHECK k ann"), 60_000);

    // Who renews in the background under the fence it knows goes on doing so after the downgrade.
    assert_eq!(ask(&server, &format!("LOCK.RENEW k ann PX 90000 FENCE {new}")), 90_000);
    assert_left(&ask(&server, "LOCK.CHECK k ann"), 90_000);
    assert_eq!(ask(&server, &format!("LOCK.RENEW k ann PX 300 FENCE {new}")), 300);
    wait_until("the renewed lease to end", || ask(&server, "LOCK.CHECK k ann") == 0);
    assert_eq!(ask(&server, "LOCK.RELEASE k ann ALL WITHINFO").field("reason"), &"expired");
}

/// A hold as the model has it.
struct Known {
    is_shared: bool,
    fence: i64,
    ids: BTreeSet<&'static str>,
    lease_ms: i64,
}

/// Some owners that take one lock in both modes under several ids, convert it, leave and come again: every reply is the one
/// of a model with a set of ids and a longest lease for each hold.
#[test]
fn h2_reentry_and_conversions_go_as_in_a_model() {
    const REENTRANT: &str =
        "LOCKMODE the lock was taken with REENTRANT; release it with REENTRANT and the id, or ALL";
    let server = Server::start();
    let mut dice = Dice::new(2);
    let mut holds: BTreeMap<&str, Known> = BTreeMap::new();
    let mut last = 0;
    for step in 0..4000 {
        let owner = ["ann", "ben", "cleo"][dice.roll(3) as usize];
        let id = ["", "one", "two"][dice.roll(3) as usize];
        let is_shared = dice.roll(4) > 0;
        let lease_ms = [40_000, 80_000, 160_000][dice.roll(3) as usize];
        let named = if id.is_empty() { String::new() } else { format!(" REENTRANT {id}") };
        let can_join = holds.values().all(|hold| hold.is_shared && is_shared);
        let is_alone = holds.len() == 1;
        let what = dice.roll(8);
        let line = match what {
            0..=2 => format!(
                "LOCK.ACQUIRE k {owner} PX {lease_ms}{named}{}",
                if is_shared { " SHARED" } else { "" }
            ),
            3..=5 => format!("LOCK.RELEASE k {owner}{named}"),
            6 => format!("LOCK.CONVERT k {owner} {}", if is_shared { "SHARED" } else { "EXCLUSIVE" }),
            _ => format!("LOCK.RELEASE k {owner} ALL"),
        };
        let reply = ask(&server, &line);
        let place = format!("step {step}: {line}: {reply:?}");
        match (what, holds.get_mut(owner)) {
            // Who has it alone may enter under an id as one who shares it.
            (0..=2, Some(hold)) if hold.is_shared != is_shared && (hold.is_shared || id.is_empty()) => {
                assert!(reply.error().starts_with("LOCKMODE "), "{place}");
            }
            (0..=2, Some(hold)) => {
                assert_eq!(reply, hold.fence, "{place}");
                hold.ids.insert(id);
                hold.lease_ms = hold.lease_ms.max(lease_ms);
            }
            (0..=2, None) if can_join => {
                let fence = fence_of(&reply);
                assert!(fence > last, "{place} after {last}");
                last = fence;
                holds.insert(owner, Known { is_shared, fence, ids: BTreeSet::from([id]), lease_ms });
            }
            (0..=2, None) => assert_eq!(reply, Value::Nil, "{place}"),
            (3..=5, Some(hold)) if id.is_empty() && !hold.ids.contains("") => {
                assert_eq!(reply, REENTRANT, "{place}");
            }
            (3..=5, Some(hold)) => {
                assert_eq!(reply, i64::from(hold.ids.remove(id)), "{place}");
                if hold.ids.is_empty() {
                    holds.remove(owner);
                }
            }
            (6, None) => assert_eq!(reply, Value::Nil, "{place}"),
            (6, Some(hold)) if hold.is_shared && !is_shared && !is_alone => {
                assert_eq!(reply, Value::Nil, "{place}");
            }
            (6, Some(hold)) if hold.is_shared && !is_shared => {
                let fence = fence_of(&reply);
                assert!(fence > last, "{place} after {last}");
                last = fence;
                (hold.is_shared, hold.fence) = (false, fence);
            }
            (6, Some(hold)) => {
                assert_eq!(reply, hold.fence, "{place}");
                hold.is_shared = is_shared;
            }
            _ => assert_eq!(reply, i64::from(holds.remove(owner).is_some()), "{place}"),
        }
        let info = ask(&server, "LOCK.INFO k");
        let rows = info.field("holds").items();
        assert_eq!(rows.len(), holds.len(), "{place}: {info:?}");
        for row in rows {
            let hold = &holds[row.field("owner").text().as_str()];
            assert_eq!(row.field("fence"), &hold.fence, "{place}");
            assert_eq!(row.field("entries").int() as usize, hold.ids.len(), "{place}");
            assert_left(row.field("left-ms"), hold.lease_ms);
        }
        if let Some(hold) = holds.values().next() {
            let mode = if hold.is_shared { "shared" } else { "exclusive" };
            assert_eq!(info.field("mode"), &mode, "{place}");
        }
    }
}
