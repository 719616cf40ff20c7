//! Those who wait, and whose hold is to be tied: the tie begins with the grant, and a grant that nobody read is no hold.

use super::{kill, tied, wait_gone, LONG};
use crate::group::line_up;
use crate::operate::shown;
use crate::steps::{
    acquire, ask, assert_granted, assert_holds, fence_of, granted, holder, queue, release, transaction,
    wait_for_lock, words,
};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{at_once, left, lock_stat, wait_quiet};

/// A new connection that waits with this line for ever, and its id.
fn waits(server: &Server, line: &str) -> (Connection, String) {
    let mut conn = server.connect();
    let id = conn.id().to_string();
    (line_up(server, conn, &format!("{line} BLOCK 0")), id)
}

#[test]
fn the_tie_begins_with_the_grant() {
    let server = Server::start();
    acquire(&server, "k alice");
    let (mut bob, id) = waits(&server, "LOCK.ACQUIRE k bob NOEXPIRE TIED 0");
    let (mut carol, _) = waits(&server, "LOCK.ACQUIRE k carol NOEXPIRE TIED 0");
    assert_eq!(lock_stat(&server, "tied"), 0);
    release(&server, "k", "alice");
    assert_granted(&server, &mut bob, "k", "bob");
    assert_eq!((shown(&server, "client-id").int().to_string(), shown(&server, "grace-ms").int()), (id, 0));
    drop(bob);
    assert_granted(&server, &mut carol, "k", "carol");
    drop(carol);
    wait_gone(&server);
    assert_eq!((lock_stat(&server, "closed"), lock_stat(&server, "undone")), (2, 0));
}

#[test]
fn who_goes_away_while_it_waits_holds_nothing() {
    let server = Server::start();
    acquire(&server, "k alice");
    let (bob, _) = waits(&server, &format!("LOCK.ACQUIRE k bob {LONG}"));
    let (mut carol, _) = waits(&server, &format!("LOCK.ACQUIRE k carol {LONG}"));
    drop(bob);
    wait_until("one to leave the line", || queue(&server, "k") == ["carol"]);
    release(&server, "k", "alice");
    assert_granted(&server, &mut carol, "k", "carol");
    assert_eq!((lock_stat(&server, "closed"), lock_stat(&server, "tied")), (0, 1));
}

/// A hold that its owner never heard of is taken back, whatever ties and bounds it was to have: no grace, no rest, and it
/// counts once.
#[test]
fn a_grant_that_was_never_read_is_undone() {
    for bounds in ["TIED 0", LONG, "TIED 0 MINHOLD 600000", "TIED 600000 MINHOLD 600000"] {
        for in_transaction in [false, true] {
            let server = Server::with(&["lock.lock-delay-ms 600000"]);
            acquire(&server, "k alice");
            let (mut doomed, id) = waits(&server, &format!("LOCK.ACQUIRE k doomed NOEXPIRE {bounds}"));
            let mut next = wait_for_lock(&server, "k", "next");
            let commands: [&[&str]; 2] = [&words("LOCK.RELEASE k alice"), &["CLIENT", "KILL", "ID", &id]];
            let replies = if in_transaction {
                transaction(&mut server.connect(), &commands)
            } else {
                at_once(&server, &commands)
            };
            assert_eq!(replies, [Value::Int(1), Value::Int(1)]);
            if let Ok(reply) = doomed.try_read() {
                // The server may also have sent the reply before it closed the connection, and then the grant stands.
                fence_of(&reply);
                ask(&server, "LOCK.RELEASE k doomed");
                ask(&server, "LOCK.BREAK k");
                continue;
            }
            assert_granted(&server, &mut next, "k", "next");
            assert_eq!((lock_stat(&server, "undone"), lock_stat(&server, "closed")), (1, 0), "{bounds}");
            assert_eq!(ask(&server, "LOCK.CHECK k doomed WITHINFO").field("reason"), &"not-held", "{bounds}");
            wait_quiet(&server);
        }
    }
}

#[test]
fn holder_and_waiter_go_together() {
    let server = Server::start();
    let mut alice = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
    let (_bob, id) = waits(&server, "LOCK.ACQUIRE k bob NOEXPIRE TIED 0");
    let (mut carol, _) = waits(&server, "LOCK.ACQUIRE k carol NOEXPIRE TIED 0");
    let first = alice.id().to_string();
    at_once(&server, &[&["CLIENT", "KILL", "ID", &first], &["CLIENT", "KILL", "ID", &id]]);
    assert_granted(&server, &mut carol, "k", "carol");
    // The other one may have had it in between.
    assert!((1..=2).contains(&(lock_stat(&server, "closed") + lock_stat(&server, "undone"))));
}

#[test]
fn several_locks_at_once() {
    let server = Server::start();
    acquire(&server, "k alice");
    let (mut bob, id) = waits(&server, "LOCK.MACQUIRE bob 3 k l m NOEXPIRE TIED 0");
    release(&server, "k", "alice");
    let fence = fence_of(&bob.read());
    for key in ["k", "l", "m"] {
        assert_holds(&server, key, "bob", fence);
        let info = server.cmd(&["LOCK.INFO", key]);
        assert_eq!(info.field("holds").items()[0].field("client-id").int().to_string(), id);
    }
    let mut next = ["k", "l", "m"].map(|key| wait_for_lock(&server, key, "next"));
    kill(&server, &mut bob);
    for (key, next) in ["k", "l", "m"].iter().zip(&mut next) {
        assert_granted(&server, next, key, "next");
    }
    assert_eq!((lock_stat(&server, "closed"), lock_stat(&server, "tied")), (3, 0));
}

#[test]
fn several_locks_that_nobody_heard_of() {
    let server = Server::with(&["lock.lock-delay-ms 600000"]);
    acquire(&server, "k alice");
    let (mut doomed, id) = waits(&server, "LOCK.MACQUIRE doomed 3 k l m NOEXPIRE TIED 0 MINHOLD 600000");
    at_once(&server, &[&words("LOCK.RELEASE k alice"), &["CLIENT", "KILL", "ID", &id]]);
    if doomed.try_read().is_err() {
        wait_until("all to be free", || ask(&server, "EXISTS k l m") == 0);
        assert_eq!((lock_stat(&server, "undone"), lock_stat(&server, "closed")), (3, 0));
        wait_quiet(&server);
    }
}

#[test]
fn an_upgrade_keeps_the_tie_of_the_shared_hold() {
    let server = Server::start();
    let mut alice = tied(&server, "LOCK.ACQUIRE k alice SHARED NOEXPIRE TIED 0");
    let id = alice.id();
    assert!(fence_of(&alice.cmd(&words("LOCK.CONVERT k alice EXCLUSIVE"))) > 0);
    assert_eq!(shown(&server, "client-id"), id);
    fence_of(&alice.cmd(&words("LOCK.CONVERT k alice SHARED")));
    assert_eq!((shown(&server, "client-id").int(), lock_stat(&server, "tied")), (id, 1));
    acquire(&server, "k bob SHARED");
    // The wait and the hold both end with the connection.
    let alice = line_up(&server, alice, "LOCK.CONVERT k alice EXCLUSIVE BLOCK 0");
    drop(alice);
    wait_until("the hold to end", || left(&server, "k", "alice") == 0);
    assert_eq!(holder(&server, "k").as_deref(), Some("bob"));
    wait_quiet(&server);
    assert_eq!((lock_stat(&server, "closed"), lock_stat(&server, "tied")), (1, 0));
}

#[test]
fn an_upgrade_that_nobody_heard_of_is_no_end_of_the_hold() {
    let server = Server::with(&["lock.lock-delay-ms 600000"]);
    let mut alice = tied(&server, "LOCK.ACQUIRE k alice SHARED NOEXPIRE TIED 600000");
    let (id, shared) = (alice.id().to_string(), shown(&server, "fence").int());
    acquire(&server, "k bob SHARED");
    let mut alice = line_up(&server, alice, "LOCK.CONVERT k alice EXCLUSIVE BLOCK 0");
    at_once(&server, &[&words("LOCK.RELEASE k bob"), &["CLIENT", "KILL", "ID", &id]]);
    if alice.try_read().is_err() {
        wait_until("the upgrade to be taken back", || lock_stat(&server, "undone") == 1);
        wait_until("the connection to be missed", || shown(&server, "client-id") == 0);
        assert_eq!((shown(&server, "fence").int(), lock_stat(&server, "closed")), (shared, 0));
        assert!((1..=600_000).contains(&left(&server, "k", "alice")), "it has its grace");
        acquire(&server, "k bob SHARED");
    }
}

#[test]
fn a_transfer_leaves_the_tie_behind() {
    let server = Server::start();
    let alice = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
    granted(&server, "LOCK.TRANSFER k alice bob");
    assert_eq!((shown(&server, "grace-ms").int(), shown(&server, "client-id").int()), (-1, 0));
    assert_eq!(lock_stat(&server, "tied"), 0);
    super::close(&server, alice);
    assert_eq!(left(&server, "k", "bob"), -1);
    // Who waited for it is tied as it asked.
    let (mut carol, id) = waits(&server, "LOCK.ACQUIRE k carol NOEXPIRE TIED 0");
    granted(&server, "LOCK.TRANSFER k bob carol");
    assert_granted(&server, &mut carol, "k", "carol");
    assert_eq!(shown(&server, "client-id").int().to_string(), id);
    drop(carol);
    wait_gone(&server);
}

#[test]
fn a_theft_is_tied_to_whoever_waited_for_it() {
    let server = Server::start();
    let alice = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
    let (mut bob, id) = waits(&server, "LOCK.ACQUIRE k bob NOEXPIRE TIED 0");
    granted(&server, "LOCK.STEAL k bob MAXHOLD 600000");
    assert_granted(&server, &mut bob, "k", "bob");
    assert_eq!(shown(&server, "client-id").int().to_string(), id);
    assert!((1..=600_000).contains(&shown(&server, "max-left-ms").int()), "what the operator said holds too");
    super::close(&server, alice);
    assert_eq!(holder(&server, "k").as_deref(), Some("bob"));
    drop(bob);
    wait_gone(&server);
}
