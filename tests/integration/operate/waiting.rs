//! Those who wait when a hold changes hands: who comes first, whose wait ends, and with what.

use super::{ask, owners, shown};
use crate::group::line_up;
use crate::steps::{acquire, assert_granted, assert_holds, fence_of, granted, release, waiting, words};
use crate::support::{Connection, Server, Value};
use crate::traffic::{lock_stat, wait_quiet};

/// A new connection whose line waits for ever.
fn wait_for_ever(server: &Server, line: &str) -> Connection {
    line_up(server, server.connect(), &format!("{line} BLOCK 0"))
}

/// What a wait with WITHINFO ended with: nothing, for this reason, and this is who has the lock.
fn assert_ended(waiter: &mut Connection, reason: &str, holder: Value) {
    let report = waiter.read();
    assert_eq!(report.field("result"), &Value::Nil, "{report:?}");
    assert_eq!(
        (report.field("reason"), report.field("holder")),
        (&Value::bulk(reason), &holder),
        "{report:?}"
    );
}

#[test]
fn a_wait_of_the_new_owner_ends_with_the_grant() {
    for line in ["LOCK.TRANSFER k alice bob PX 70000", "LOCK.STEAL k bob PX 70000"] {
        let server = Server::start();
        acquire(&server, "k alice");
        let mut first = wait_for_ever(&server, "LOCK.ACQUIRE k carol");
        let mut bob = wait_for_ever(&server, "LOCK.ACQUIRE k bob PX 5000 NOTE asked WITHINFO");
        let fence = granted(&server, line);
        let report = bob.read();
        assert_eq!((report.field("result"), report.field("fence")), (&Value::Int(fence), &Value::Int(fence)));
        assert_eq!(report.field("reason"), &"granted");
        assert_holds(&server, "k", "bob", fence);
        assert_eq!(shown(&server, "lease-ms"), 70_000, "what was said now, and not when it began to wait");
        assert_eq!(shown(&server, "note"), "");
        assert_eq!(lock_stat(&server, "handed_off"), 1);
        first.expect_nothing_pending();
        release(&server, "k", "bob");
        assert_granted(&server, &mut first, "k", "carol");
        wait_quiet(&server);
    }
}

#[test]
fn the_id_that_the_new_owner_waits_with_is_the_one_it_is_in_under() {
    for line in ["LOCK.TRANSFER k alice bob", "LOCK.STEAL k bob"] {
        let server = Server::start();
        acquire(&server, "k alice");
        let mut bob = wait_for_ever(&server, "LOCK.ACQUIRE k bob REENTRANT one");
        granted(&server, line);
        fence_of(&bob.read());
        assert!(ask(&server, "LOCK.RELEASE k bob").error().starts_with("LOCKMODE "), "{line}");
        assert_eq!(ask(&server, "LOCK.RELEASE k bob REENTRANT one"), 1, "{line}");
    }
}

#[test]
fn who_waits_for_something_else_is_not_told_that_it_has_it() {
    let server = Server::start();
    // A reader's share is not what a writer waits for, nor is one permit two.
    acquire(&server, "k ann SHARED");
    acquire(&server, "k ben SHARED");
    let mut writer = wait_for_ever(&server, "LOCK.ACQUIRE k wilma WITHINFO");
    granted(&server, "LOCK.TRANSFER k ann wilma");
    assert_ended(&mut writer, "superseded", Value::bulk("ben"));
    assert_eq!(owners(&server), ["ben", "wilma"]);
    let mut reader = wait_for_ever(&server, "LOCK.ACQUIRE k ann WITHINFO");
    granted(&server, "LOCK.STEAL k ann LIMIT 2");
    assert_ended(&mut reader, "superseded", Value::bulk("ann"));
    let mut large = wait_for_ever(&server, "LOCK.ACQUIRE k ben LIMIT 2 PERMITS 2 WITHINFO");
    granted(&server, "LOCK.TRANSFER k ann ben");
    assert_ended(&mut large, "superseded", Value::bulk("ben"));
    // Nor is one lock two; nobody waits in the other line any more.
    acquire(&server, "l alice");
    let mut both = wait_for_ever(&server, "LOCK.MACQUIRE dora 2 l m WITHINFO");
    let mut behind = wait_for_ever(&server, "LOCK.ACQUIRE m fay");
    let fence = granted(&server, "LOCK.STEAL l dora");
    assert_ended(&mut both, "superseded", Value::bulk("dora"));
    assert_holds(&server, "l", "dora", fence);
    assert_granted(&server, &mut behind, "m", "fay");
    assert_eq!(lock_stat(&server, "superseded"), 4);
    wait_quiet(&server);
}

#[test]
fn an_upgrade_that_waits_ends_with_its_hold() {
    let server = Server::start();
    for line in ["LOCK.TRANSFER k ann cleo", "LOCK.BREAK k OWNER ann", "LOCK.STEAL k eve"] {
        for owner in ["ann", "ben"] {
            acquire(&server, &format!("k {owner} SHARED"));
        }
        let mut upgrade = wait_for_ever(&server, "LOCK.CONVERT k ann EXCLUSIVE WITHINFO");
        ask(&server, line);
        let holder = if line.contains("STEAL") { "eve" } else { "ben" };
        assert_ended(&mut upgrade, "hold-ended", Value::bulk(holder));
        ask(&server, "LOCK.BREAK k");
    }
    // The hold that the owner is given instead is not the one that was to be upgraded.
    for owner in ["ann", "ben"] {
        acquire(&server, &format!("k {owner} SHARED"));
    }
    let mut upgrade = wait_for_ever(&server, "LOCK.CONVERT k ann EXCLUSIVE WITHINFO");
    granted(&server, "LOCK.STEAL k ann");
    assert_ended(&mut upgrade, "superseded", Value::bulk("ann"));
    wait_quiet(&server);
}

#[test]
fn who_stood_behind_a_cancelled_wait_has_its_turn() {
    let server = Server::start();
    acquire(&server, "k ann SHARED");
    let mut writer = wait_for_ever(&server, "LOCK.ACQUIRE k wilma");
    let mut reader = wait_for_ever(&server, "LOCK.ACQUIRE k ben SHARED");
    assert_eq!(ask(&server, "LOCK.CANCEL k wilma"), 1);
    assert_eq!(writer.read(), Value::Nil);
    fence_of(&reader.read());
    assert_eq!(owners(&server), ["ann", "ben"]);
    // The wait for several locks ends in all lines, by whichever of them it is named.
    acquire(&server, "l alice");
    for key in ["l", "m"] {
        let mut both = wait_for_ever(&server, "LOCK.MACQUIRE dora 2 l m WITHINFO");
        let mut behind = wait_for_ever(&server, "LOCK.ACQUIRE m fay");
        assert_eq!(ask(&server, &format!("LOCK.CANCEL {key} dora")), 1);
        assert_ended(&mut both, "cancelled", Value::bulk("alice"));
        assert_granted(&server, &mut behind, "m", "fay");
        release(&server, "m", "fay");
    }
    // An upgrade keeps its share.
    let mut upgrade = wait_for_ever(&server, "LOCK.CONVERT k ann EXCLUSIVE WITHINFO");
    assert_eq!(ask(&server, "LOCK.CANCEL k ann"), 1);
    assert_ended(&mut upgrade, "cancelled", Value::bulk("ann"));
    assert_eq!((owners(&server), waiting(&server, "k")), (vec!["ann".to_owned(), "ben".to_owned()], 0));
    wait_quiet(&server);
}

#[test]
fn a_grant_to_a_waiter_that_is_gone_is_taken_back() {
    for line in ["LOCK.TRANSFER k alice bob", "LOCK.STEAL k bob"] {
        let server = Server::start();
        acquire(&server, "k alice");
        let mut doomed = server.connect();
        let id = doomed.id().to_string();
        let mut doomed = line_up(&server, doomed, "LOCK.ACQUIRE k bob BLOCK 0");
        let mut carol = wait_for_ever(&server, "LOCK.ACQUIRE k carol");
        let mut conn = server.connect();
        conn.send_together(&[&words(line), &["CLIENT", "KILL", "ID", &id]]);
        doomed.expect_closed();
        fence_of(&conn.read());
        assert_granted(&server, &mut carol, "k", "carol");
        wait_quiet(&server);
    }
}
