//! LOCK.CONVERT at once: from shared to exclusive and back, what stays as it was, and every way to be told no. Waiting for
//! an upgrade stands in `waiting`, what files and replicas are told in `copies`.

use std::collections::{BTreeMap, BTreeSet};

use crate::onlookers::{assert_writes_k, goes_through, is_allowed};
use crate::steps::{
    ask, assert_changes_nothing, assert_holds, assert_left, eval, fence_of, hold, is_modern, queue, queue_up,
    release, set_string, transaction, words, wrong_arity, WRONGTYPE,
};
use crate::support::{wait_until, Connection, Events, Server, Value};
use crate::traffic::Dice;

mod copies;
mod waiting;

const NOT_CONVERTIBLE: &str =
    "LOCKMODE the lock is in semaphore use; only shared and exclusive holds can be converted";

/// Takes `k` as a reader.
fn read(server: &Server, owner: &str) -> i64 {
    fence_of(&ask(server, &format!("LOCK.ACQUIRE k {owner} SHARED PX 60000")))
}

/// A connection of its own whose command has got in line.
fn wait_in_line(server: &Server, line: &str) -> Connection {
    queue_up(server, server.connect(), &words(line))
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
fn the_only_reader_becomes_the_writer_under_a_new_fence() {
    let server = Server::start();
    let old = read(&server, "ann");
    let new = fence_of(&ask(&server, "LOCK.CONVERT k ann EXCLUSIVE"));
    assert!(new > old, "readers that came after it have larger fences: {new} after {old}");
    assert_shown(&server, "exclusive", &["ann"]);
    assert_holds(&server, "k", "ann", new);
    assert_eq!(ask(&server, &format!("LOCK.CHECK k ann FENCE {old}")), 0);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k ben SHARED"), Value::Nil);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k ann"), new, "it is a writer like any other");
    assert!(hold(&server, "other", "ann") > new);
}

#[test]
fn a_writer_shares_at_once_and_keeps_its_fence() {
    let server = Server::start();
    let fence = hold(&server, "k", "ann");
    assert_eq!(ask(&server, "LOCK.CONVERT k ann SHARED"), fence);
    assert_shown(&server, "shared", &["ann"]);
    read(&server, "ben");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k wilma"), Value::Nil);
    assert_holds(&server, "k", "ann", fence);
    release(&server, "k", "ann");
    assert_shown(&server, "shared", &["ben"]);
}

#[test]
fn readers_at_the_head_of_the_line_come_in_with_a_downgrade_and_nobody_else() {
    let server = Server::start();
    hold(&server, "k", "ann");
    let mut readers =
        ["ben", "cleo"].map(|o| wait_in_line(&server, &format!("LOCK.ACQUIRE k {o} SHARED BLOCK 0")));
    let mut writer = wait_in_line(&server, "LOCK.ACQUIRE k wilma BLOCK 0");
    let mut late = wait_in_line(&server, "LOCK.ACQUIRE k dora SHARED BLOCK 0");
    fence_of(&ask(&server, "LOCK.CONVERT k ann SHARED"));
    for reader in &mut readers {
        fence_of(&reader.read());
    }
    assert_shown(&server, "shared", &["ann", "ben", "cleo"]);
    assert_eq!(queue(&server, "k"), ["wilma", "dora"]);
    writer.expect_nothing_pending();
    late.expect_nothing_pending();
}

#[test]
fn an_upgrade_at_once_passes_those_who_wait() {
    let server = Server::start();
    read(&server, "ann");
    let mut writer = wait_in_line(&server, "LOCK.ACQUIRE k wilma BLOCK 0");
    let fence = fence_of(&ask(&server, "LOCK.CONVERT k ann EXCLUSIVE"));
    writer.expect_nothing_pending();
    release(&server, "k", "ann");
    assert!(fence_of(&writer.read()) > fence);
}

#[test]
fn a_mode_that_the_hold_has_is_confirmed() {
    let server = Server::start();
    let (exclusive, shared) = (hold(&server, "own", "ann"), read(&server, "ann"));
    read(&server, "ben");
    assert_changes_nothing(&server, || {
        for end in ["", " BLOCK 0"] {
            assert_eq!(
                ask(&server, &format!("LOCK.CONVERT own ann EXCLUSIVE FENCE {exclusive}{end}")),
                exclusive
            );
            assert_eq!(ask(&server, &format!("LOCK.CONVERT own ann exclusive{end}")), exclusive);
            assert_eq!(ask(&server, &format!("LOCK.CONVERT k ann SHARED{end}")), shared);
        }
    });
}

#[test]
fn while_others_share_it_or_have_it_the_answer_is_nil() {
    let server = Server::start();
    let fence = read(&server, "ann");
    read(&server, "ben");
    hold(&server, "own", "ben");
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LOCK.CONVERT k ann EXCLUSIVE"), Value::Nil);
        // Who does not hold it, or not under this fence, does not even wait.
        for end in ["SHARED", "EXCLUSIVE", "SHARED BLOCK 0", "EXCLUSIVE BLOCK 0"] {
            for start in ["free ann", "own ann", "k cleo", &format!("k ann FENCE {}", fence + 1), "k an"] {
                let line = format!("LOCK.CONVERT {start} {end}");
                assert_eq!(ask(&server, &line), Value::Nil, "{line}");
            }
        }
    });
    assert_eq!(server.info_int("clients", "blocked_clients"), 0);
}

#[test]
fn lease_note_and_ids_stay() {
    let server = Server::start();
    fence_of(&ask(&server, "LOCK.ACQUIRE k ann SHARED PX 60000 NOTE why REENTRANT one"));
    fence_of(&ask(&server, "LOCK.ACQUIRE k ann SHARED PX 60000 REENTRANT two"));
    fence_of(&ask(&server, "LOCK.ACQUIRE ever ann SHARED NOEXPIRE"));
    for mode in ["EXCLUSIVE", "SHARED"] {
        fence_of(&ask(&server, &format!("LOCK.CONVERT k ann {mode}")));
        fence_of(&ask(&server, &format!("LOCK.CONVERT ever ann {mode}")));
        let info = ask(&server, "LOCK.INFO k");
        let hold = &info.field("holds").items()[0];
        assert_eq!((hold.field("note").text().as_str(), hold.field("entries").int()), ("why", 2), "{mode}");
        assert_eq!(hold.field("lease-ms"), &60_000, "{mode}");
        assert_left(hold.field("left-ms"), 60_000);
        assert_eq!(ask(&server, "LOCK.CHECK ever ann"), -1, "{mode}");
    }
    assert_eq!(ask(&server, "LOCK.RELEASE k ann REENTRANT one"), 1);
    assert_eq!(ask(&server, "LOCK.RELEASE k ann REENTRANT two"), 1);
    assert_eq!(shown(&server).0, "free");
}

#[test]
fn a_converted_hold_still_ends_with_its_lease() {
    let server = Server::start();
    for modes in [&["EXCLUSIVE"][..], &["EXCLUSIVE", "SHARED"]] {
        fence_of(&ask(&server, "LOCK.ACQUIRE k ann SHARED PX 400"));
        for mode in modes {
            fence_of(&ask(&server, &format!("LOCK.CONVERT k ann {mode}")));
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
        let fence = fence_of(&ask(&server, "LOCK.CONVERT k ann EXCLUSIVE"));
        assert!(fence > last, "{fence} after {last}");
        assert_eq!(ask(&server, &format!("LOCK.CONVERT k ann SHARED FENCE {fence}")), fence);
        last = fence;
    }
    assert_eq!(server.info_int("lock_state", "lock_held"), 1);
    assert_eq!(server.info_int("lock_state", "lock_lease_index_entries"), 1);
}

#[test]
fn a_semaphore_and_another_type_are_refused() {
    let server = Server::start();
    set_string(&server, "text");
    fence_of(&ask(&server, "LOCK.ACQUIRE k ann LIMIT 3"));
    fence_of(&ask(&server, "LOCK.ACQUIRE one ann LIMIT 1"));
    assert_changes_nothing(&server, || {
        for end in ["SHARED", "EXCLUSIVE", "SHARED BLOCK 0 WITHINFO", "EXCLUSIVE BLOCK 0 WITHINFO"] {
            for (key, text) in [("k", NOT_CONVERTIBLE), ("one", NOT_CONVERTIBLE), ("text", WRONGTYPE)] {
                assert_eq!(ask(&server, &format!("LOCK.CONVERT {key} ann {end}")), text, "{key} {end}");
            }
            assert_eq!(
                ask(&server, &format!("LOCK.CONVERT k ben {end}")).get("result").unwrap_or(&Value::Nil),
                &Value::Nil
            );
        }
        for line in ["LOCK.CONVERT", "LOCK.CONVERT k", "LOCK.CONVERT k ann", "LOCK.CONVERT k ann BLOCK 0"] {
            assert_eq!(ask(&server, line), wrong_arity("lock.convert").as_str(), "{line}");
        }
    });
}

#[test]
fn withinfo_tells_the_reason() {
    let server = Server::start();
    let old = read(&server, "ann");
    let report = |line: &str| {
        let report = ask(&server, &format!("{line} WITHINFO"));
        let names: Vec<String> = match &report {
            Value::Array(items) => items.chunks(2).map(|pair| pair[0].text()).collect(),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(
            names,
            ["result", "fence", "lease-ms", "reason", "ago-ms", "holder", "holder-ms", "ahead"],
            "{line}"
        );
        report
    };
    let confirmed = report("LOCK.CONVERT k ann SHARED");
    assert_eq!((confirmed.field("result"), confirmed.field("fence")), (&Value::Int(old), &Value::Int(old)));
    assert_eq!(confirmed.field("reason"), &"already-held");

    let up = report("LOCK.CONVERT k ann EXCLUSIVE");
    let new = fence_of(up.field("result"));
    assert_eq!((up.field("fence"), up.field("reason").text().as_str()), (&Value::Int(new), "converted"));
    assert_left(up.field("lease-ms"), 60_000);
    assert_eq!((up.field("ago-ms"), up.field("holder")), (&Value::Nil, &Value::Nil));

    let stale = report(&format!("LOCK.CONVERT k ann SHARED FENCE {old}"));
    assert_eq!((stale.field("result"), stale.field("reason").text().as_str()), (&Value::Nil, "other-fence"));
    assert_eq!(report("LOCK.CONVERT k ann SHARED").field("reason"), &"converted");

    read(&server, "ben");
    let busy = report("LOCK.CONVERT k ann EXCLUSIVE");
    assert_eq!((busy.field("result"), busy.field("reason").text().as_str()), (&Value::Nil, "held"));
    assert_eq!(busy.field("holder"), &"ben", "the one in the way");

    let never = report("LOCK.CONVERT k cleo SHARED");
    assert_eq!((never.field("result"), never.field("reason").text().as_str()), (&Value::Nil, "not-held"));
    assert_eq!(ask(&server, "DEL k"), 1);
    let lost = report("LOCK.CONVERT k ann EXCLUSIVE");
    assert_eq!((lost.field("fence"), lost.field("reason").text().as_str()), (&Value::Int(new), "deleted"));
    assert!(lost.field("ago-ms").int() >= 0);
}

#[test]
fn in_a_transaction_and_in_a_script_a_wait_is_a_try() {
    let server = Server::start();
    read(&server, "ann");
    read(&server, "ben");
    let upgrade = words("LOCK.CONVERT k ann EXCLUSIVE BLOCK 0");
    let replies = transaction(
        &mut server.connect(),
        &[&upgrade, &words("LOCK.RELEASE k ben"), &upgrade, &words("LOCK.CONVERT k ann SHARED")],
    );
    assert_eq!((&replies[0], &replies[1]), (&Value::Nil, &Value::Int(1)));
    assert_eq!(fence_of(&replies[2]), fence_of(&replies[3]));

    read(&server, "ben");
    let script = "return redis.call('LOCK.CONVERT', KEYS[1], 'ann', 'EXCLUSIVE', 'BLOCK', '0')";
    assert_eq!(eval(&server, script, &["k"]), Value::Nil);
    release(&server, "k", "ben");
    assert_holds(&server, "k", "ann", fence_of(&eval(&server, script, &["k"])));
    assert_eq!(server.info_int("clients", "blocked_clients"), 0);
}

#[test]
fn watch_and_events_tell_of_each_conversion() {
    let server = Server::start();
    let convert = |mode: &str| ask(&server, &format!("LOCK.CONVERT k ann {mode}"));
    read(&server, "ann");
    let mut events = Events::listen(&server);
    assert!(!goes_through(&server, || convert("EXCLUSIVE")), "an upgrade");
    assert_eq!(events.heard(), ["k lock.acquired"]);
    assert!(goes_through(&server, || convert("EXCLUSIVE")), "a confirmation");
    assert!(events.heard().is_empty());
    assert!(!goes_through(&server, || convert("SHARED")), "a downgrade");
    assert_eq!(events.heard(), ["k lock.downgraded"]);
    read(&server, "ben");
    assert_eq!(events.heard(), ["k lock.acquired"]);
    assert!(goes_through(&server, || convert("EXCLUSIVE")), "a try");
    assert!(events.heard().is_empty());
    let mut ann = wait_in_line(&server, "LOCK.CONVERT k ann EXCLUSIVE BLOCK 0");
    assert_eq!(events.heard(), ["k lock.waiting"]);
    release(&server, "k", "ben");
    fence_of(&ann.read());
    assert_eq!(events.heard(), ["k lock.released", "k lock.acquired"]);
    let _cleo = wait_in_line(&server, "LOCK.ACQUIRE k cleo SHARED BLOCK 0");
    convert("SHARED");
    assert_eq!(events.heard(), ["k lock.waiting", "k lock.downgraded", "k lock.acquired"]);
}

#[test]
fn who_may_convert() {
    let server = Server::start();
    let line = "LOCK.CONVERT k nobody EXCLUSIVE BLOCK 5";
    assert_writes_k(&server, line);
    assert_eq!(
        server.cmd(&words("COMMAND GETKEYS LOCK.CONVERT EXCLUSIVE SHARED SHARED")).items(),
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
    let new = fence_of(&ask(&server, "LOCK.CONVERT k ann EXCLUSIVE"));
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
