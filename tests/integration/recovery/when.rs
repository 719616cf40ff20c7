//! When a window opens, when it does not, and how long it lasts.

use super::{failover, with_replica, LONG};
use crate::steps::{acquire, ask};
use crate::support::wait::wait_replica_in_sync;
use crate::support::{wait_until, Server, Setup, Stop, Value};
use crate::traffic::{follow, lock_stat};

#[test]
fn a_start_with_data_may_have_lost_some_and_a_first_one_has_not() {
    let mut server = Server::with(&["appendonly yes", LONG]);
    assert_eq!(ask(&server, "LOCK.RECOVERY"), 0);
    let fence = acquire(&server, "k o NOEXPIRE");
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    assert_eq!(ask(&server, "LOCK.RECOVERY"), 0, "nothing is lost by that");
    server.restart(Stop::Kill);
    assert!(ask(&server, "LOCK.RECOVERY").int() > 90_000);
    assert_eq!(ask(&server, &format!("LOCK.RENEW k o FENCE {fence}")), -1);
    assert_eq!(ask(&server, "LOCK.ACQUIRE l p"), Value::Nil);
    assert!(server.log().contains("lock: event=recovery-began why=start "));
}

#[test]
fn where_each_write_is_on_disk_before_its_reply_a_start_opens_no_window() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always", LONG]);
    acquire(&server, "k o NOEXPIRE");
    server.restart(Stop::Kill);
    assert_eq!(ask(&server, "LOCK.RECOVERY"), 0);
    assert!(acquire(&server, "l o") > 0);
    assert!(!server.log().contains("event=recovery"));
    // Redis 8.2 with threads replies before the disk has it, and so does a server that rewrites its file and need not sync.
    for line in ["io-threads 2", "no-appendfsync-on-rewrite yes"] {
        let mut server = Server::with(&["appendonly yes", "appendfsync always", line, LONG]);
        acquire(&server, "k o NOEXPIRE");
        server.restart(Stop::Kill);
        assert!(ask(&server, "LOCK.RECOVERY").int() > 0, "{line}");
    }
}

#[test]
fn a_promotion_that_was_not_heard_opens_a_window_at_the_next_command() {
    let (first, second) = with_replica();
    assert_eq!(ask(&first, "LOCK.RELEASE k o"), 1);
    assert_eq!(ask(&first, "CONFIG SET lock.loss-ledger-size 0"), "OK");
    wait_until("the server to tell of nothing", || lock_stat(&first, "server_events") == 0);
    // A replica and a primary again, while it hears of neither.
    assert_eq!(ask(&first, &format!("REPLICAOF 127.0.0.1 {}", second.port())), "OK");
    assert_eq!(ask(&first, "REPLICAOF NO ONE"), "OK");
    assert_eq!(ask(&first, "LOCK.ACQUIRE k p"), Value::Nil);
    assert!(ask(&first, "LOCK.RECOVERY").int() > 0);
}

#[test]
fn a_server_that_rests_and_was_no_replica_opens_none() {
    let server = Server::with(&[LONG]);
    for _ in 0..2 {
        acquire(&server, "k o");
        assert_eq!(ask(&server, "LOCK.RELEASE k o"), 1);
        wait_until("it to rest", || lock_stat(&server, "server_events") <= 3);
    }
    assert_eq!(ask(&server, "LOCK.RECOVERY"), 0);
}

#[test]
fn by_default_there_is_a_window_and_it_can_be_turned_off() {
    let shipped = Setup::new().with_defaults();
    let (old, new) = (shipped.clone().start(), shipped.start());
    follow(&new, &old);
    acquire(&old, "known o PX 40000");
    wait_replica_in_sync(&old, &new);
    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    let ms = ask(&new, "LOCK.RECOVERY").int();
    assert!((30_001..=40_000).contains(&ms), "{ms}");
    assert_eq!(ask(&new, "LOCK.ACQUIRE k o"), Value::Nil);

    let (_old, new) = failover("lock.recovery-window-ms 0");
    assert_eq!((ask(&new, "LOCK.RECOVERY"), lock_stat(&new, "recovering_ms")), (Value::Int(0), 0));
    assert!(acquire(&new, "k o") > 0);
    assert!(!new.log().contains("event=recovery"));
}

#[test]
fn a_window_goes_by_the_leases_that_were_seen_and_ends_with_the_role() {
    let (old, new) = failover("lock.recovery-window-ms -1");
    let ms = ask(&new, "LOCK.RECOVERY").int();
    assert!((50_000..=60_000).contains(&ms), "the longest lease seen: {ms}");
    assert_eq!(ask(&new, "CONFIG SET lock.recovery-window-ms 0"), "OK");
    assert!(ask(&new, "LOCK.RECOVERY").int() > 40_000, "one that is open goes on");
    follow(&new, &old);
    assert_eq!(lock_stat(&new, "recovering_ms"), 0);
    let (_old, new) = failover("lock.recovery-window-ms -1\nlock.recovery-window-max-ms 7000");
    assert!((1..=7_000).contains(&ask(&new, "LOCK.RECOVERY").int()));
}

/// A file that was saved when only a short lease was alive.
fn saved_between_leases() -> Server {
    let server = Server::with(&["lock.recovery-window-ms -1"]);
    let long = acquire(&server, "long o PX 50000");
    assert_eq!(ask(&server, &format!("LOCK.RELEASE long o FENCE {long}")), 1);
    acquire(&server, "short o PX 1000");
    assert_eq!(ask(&server, "SAVE"), "OK");
    server
}

#[test]
fn a_start_knows_of_leases_that_were_over_when_the_file_was_written() {
    let mut server = saved_between_leases();
    let lost = acquire(&server, "k alice PX 50000");
    server.restart(Stop::Kill);
    let ms = ask(&server, "LOCK.RECOVERY").int();
    assert!((40_000..=50_000).contains(&ms), "the longest lease of before: {ms}");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k bob"), Value::Nil);
    assert_eq!(ask(&server, &format!("LOCK.RENEW k alice PX 50000 FENCE {lost}")), 50_000);
}

#[test]
fn a_window_is_never_shorter_than_the_lease_that_owners_have_by_default() {
    let (_old, new) = {
        let (old, new) = (Server::start(), Server::with(&["lock.recovery-window-ms -1"]));
        follow(&new, &old);
        acquire(&old, "short o PX 1000");
        wait_replica_in_sync(&old, &new);
        assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
        (old, new)
    };
    let ms = ask(&new, "LOCK.RECOVERY").int();
    assert!((20_000..=30_000).contains(&ms), "lock.default-lease-ms: {ms}");
}
