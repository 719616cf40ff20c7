//! After a failover nothing is granted for a while, and holds that the old primary granted behind what its replica had heard
//! come back meanwhile. Here what clients see of it; who comes back, when a window opens and how long it lasts, planned handovers,
//! and what replicas and files are told have a file each.

mod claims;
mod handover;
mod told;
mod when;

use std::time::Duration;

use crate::backlog::{assert_only_effects, commands_in_backlog};
use crate::steps::{acquire, ask, digest, in_line};
use crate::support::wait::{let_pass, wait_blocked_clients, wait_replica_in_sync};
use crate::support::{wait_until, Server, Stop, Value};
use crate::traffic::{follow, left, lock_stat, wait_same_data};

/// Longer than any test.
const LONG: &str = "lock.recovery-window-ms 100000";

/// A primary that was promoted while the old one went on, so that it has never heard of what the old one grants from here on.
fn failover(window: &str) -> (Server, Server) {
    let (old, new) = (Server::start(), Server::with(&[window]));
    follow(&new, &old);
    acquire(&old, "known o PX 60000");
    wait_replica_in_sync(&old, &new);
    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    (old, new)
}

fn fence_of_known(server: &Server) -> i64 {
    ask(server, "LOCK.INFO known").field("holds").items()[0].field("fence").int()
}

fn is_recovering(reply: &Value) -> bool {
    reply.error().starts_with("RECOVERING ")
}

/// Two servers that know each other as primary and replica, and keep a window after whatever is not a clean handover.
fn with_replica() -> (Server, Server) {
    let (primary, replica) = (Server::with(&[LONG]), Server::with(&[LONG]));
    follow(&replica, &primary);
    acquire(&primary, "k o PX 60000");
    wait_replica_in_sync(&primary, &replica);
    (primary, replica)
}

fn wait_primary(server: &Server) {
    wait_until("it to be the primary", || server.info("replication")["role"] == "master");
}

#[test]
fn a_hold_that_was_lost_comes_back_and_nobody_else_has_it() {
    let (mut old, new) = failover(LONG);
    let fence = acquire(&old, "k alice PX 60000");
    old.stop(Stop::Kill);
    let third = Server::start();
    follow(&third, &new);
    let refused = ask(&new, "LOCK.ACQUIRE k bob WITHINFO");
    assert_eq!((refused.field("result"), refused.field("reason").text()), (&Value::Nil, "recovering".into()));
    assert!((90_000..=100_000).contains(&refused.field("lease-ms").int()), "{refused:?}");
    let mut bob = in_line(&new, "LOCK.ACQUIRE k bob BLOCK 0 PX 60000");
    wait_blocked_clients(&new, 1);

    let unknown = ask(&new, &format!("LOCK.CHECK k alice FENCE {fence} WITHINFO"));
    assert_eq!((unknown.field("result").int(), unknown.field("reason").text()), (0, "recovering".into()));
    assert!(is_recovering(&ask(&new, &format!("LOCK.GUARD k alice {fence} SET x 1"))));
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice PX 50000 FENCE {fence}")), 50_000);
    assert!(left(&new, "k", "alice") > 40_000);
    assert_eq!(ask(&new, &format!("LOCK.GUARD k alice {fence} GET x")), Value::Nil);
    assert_eq!((lock_stat(&new, "reinstated"), lock_stat(&new, "displaced")), (1, 0));

    assert!(ask(&new, "LOCK.RECOVERY END").int() > 0);
    assert_eq!((ask(&new, "LOCK.RECOVERY"), ask(&new, "LOCK.RECOVERY END")), (Value::Int(0), Value::Int(0)));
    assert_eq!(ask(&new, "LOCK.ACQUIRE k carol"), Value::Nil);
    assert_eq!(ask(&new, &format!("LOCK.RELEASE k alice FENCE {fence}")), 1);
    assert!(bob.read().int() > fence, "new fences are above those that came back");
    wait_same_data(&new, &third);
    assert_only_effects(&commands_in_backlog(&new));
}

#[test]
fn known_holds_go_on_and_nothing_changes_hands() {
    let (_old, new) = failover(LONG);
    let fence = fence_of_known(&new);
    assert!(is_recovering(&ask(&new, "LOCK.ACQUIRE known o")), "it may have let go of it since");
    assert_eq!(ask(&new, &format!("LOCK.ACQUIRE known o FENCE {fence}")), fence);
    assert_eq!(ask(&new, "LOCK.RENEW known o PX 70000"), 70_000);
    assert!(is_recovering(&ask(&new, "LOCK.STEAL known eve")));
    assert!(is_recovering(&ask(&new, "LOCK.TRANSFER known o eve")));
    assert_eq!(ask(&new, &format!("LOCK.GUARD known o {fence} SET x 1")), "OK");
    assert_eq!(ask(&new, "LOCK.CONVERT known o SHARED"), fence);
    assert_eq!(ask(&new, "LOCK.CONVERT known o EXCLUSIVE"), Value::Nil);
    assert_eq!(ask(&new, "LOCK.ACQUIRE known p SHARED"), Value::Nil);
    assert_eq!(ask(&new, "LOCK.MACQUIRE p 2 a b"), Value::Nil);
    let told = |line| ask(&new, line).field("reason").text();
    assert_eq!(told("LOCK.MACQUIRE p 2 a b WITHINFO"), "recovering");
    assert_eq!(told("LOCK.MACQUIRE p 2 a b QUEUE 60000 WITHINFO"), "queued");
    assert_eq!(ask(&new, "LOCK.BREAK known"), 1);
    assert_eq!(ask(&new, "LOCK.ACQUIRE known p"), Value::Nil);
}

#[test]
fn nobody_is_told_that_it_is_alone_who_may_have_shared_the_lock_since() {
    let (old, new) = failover(LONG);
    assert_eq!(ask(&old, "LOCK.CONVERT known o SHARED"), fence_of_known(&new));
    let shared = acquire(&old, "known z SHARED");
    assert_eq!(ask(&new, "LOCK.CONVERT known o EXCLUSIVE"), Value::Nil, "it may not be alone");
    assert_eq!(ask(&new, &format!("LOCK.RENEW known z SHARED FENCE {shared}")), 30_000);
}

#[test]
fn the_window_closes_by_itself_and_serves_those_who_waited() {
    let (_old, new) = failover("lock.recovery-window-ms 300");
    let mut next = in_line(&new, "LOCK.ACQUIRE k next BLOCK 0");
    let mut both = new.connect();
    both.send(&["LOCK.MACQUIRE", "both", "2", "k", "l", "BLOCK", "0"]);
    wait_blocked_clients(&new, 2);
    let fence = next.read().int();
    assert_eq!(lock_stat(&new, "recovering_ms"), 0);
    assert_eq!(ask(&new, "LOCK.RELEASE k next"), 1);
    assert!(both.read().int() > fence);
    let log = new.log();
    for event in [
        "recovery-began why=promotion ms=300 longest-lease=60000 known-fence=",
        "recovery-ended reinstated=0 displaced=0",
    ] {
        assert!(log.contains(&format!("lock: event={event}")), "{event}: {log}");
    }
}

#[test]
fn a_window_that_closes_gives_no_lock_away_while_replicas_are_missing() {
    let (_old, new) = failover("lock.recovery-window-ms 1000");
    let mut next = in_line(&new, "LOCK.ACQUIRE k next BLOCK 0");
    wait_blocked_clients(&new, 1);
    assert_eq!(ask(&new, "CONFIG SET min-replicas-to-write 1"), "OK");
    wait_until("the window to close", || ask(&new, "LOCK.RECOVERY") == 0);
    let_pass(Duration::from_millis(300));
    next.expect_nothing_pending();
    assert_eq!(ask(&new, "EXISTS k"), 0);
    assert_eq!(ask(&new, "CONFIG SET min-replicas-to-write 0"), "OK");
    assert!(next.read().int() > 0);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let (_old, new) = failover(LONG);
    let (before, left) = (digest(&new), ask(&new, "LOCK.RECOVERY").int());
    for line in [
        "LOCK.RECOVERY NOW",
        "LOCK.RECOVERY END END",
        "LOCK.RENEW known o PERMITS 2",
        "LOCK.RENEW known o SHARED LIMIT 2",
        "LOCK.RENEW known o LIMIT 0",
        "LOCK.RENEW known o LIMIT 2 PERMITS 3",
        "LOCK.MRENEW o 60000 1 known SHARED SHARED",
        "LOCK.MRELEASE o 1 known SHARED",
        "LOCK.RENEW known o FENCE 0",
    ] {
        let _ = ask(&new, line).error();
    }
    // Of an hour and a day from now, of the beginning of time, of the newest that is known.
    let newest = lock_stat(&new, "last_fence");
    for fence in [newest + 90_000_000_000, 1, fence_of_known(&new)] {
        assert_eq!(ask(&new, &format!("LOCK.RENEW free eve FENCE {fence}")), 0, "{fence}");
    }
    let far = newest + 90_000_000_000;
    assert_eq!(ask(&new, &format!("LOCK.MRENEW eve 60000 1 free FENCE {far}")).items(), [Value::Int(0)]);
    assert_eq!((digest(&new), lock_stat(&new, "implausible")), (before, 2));
    assert!((1..=left).contains(&ask(&new, "LOCK.RECOVERY").int()), "no claim keeps it open");
    for (name, value) in [("window-ms", "-2"), ("window-ms", "x"), ("window-max-ms", "0")] {
        let _ = ask(&new, &format!("CONFIG SET lock.recovery-{name} {value}")).error();
    }
}
