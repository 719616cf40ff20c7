//! Planned handovers: none opens a window that provably lost nothing.

use super::{wait_primary, with_replica, LONG};
use crate::steps::{acquire, ask};
use crate::support::wait::{wait_blocked_clients, wait_replica_in_sync};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::left;

#[test]
fn a_planned_handover_opens_no_window() {
    let (primary, replica) = with_replica();
    for (old, new) in [(&primary, &replica), (&replica, &primary)] {
        let mut busy = old.connect();
        busy.send(&["LOCK.ACQUIRE", "k", "next", "BLOCK", "0"]);
        wait_blocked_clients(old, 1);
        assert_eq!(ask(old, "FAILOVER"), "OK");
        wait_primary(new);
        assert_eq!(ask(new, "LOCK.RECOVERY"), 0);
        assert!(left(new, "k", "o") > 0, "no lock is lost");
        assert!(acquire(new, "l o PX 60000") > 0);
        assert_eq!(ask(new, "LOCK.RELEASE l o"), 1);
        assert!(new.log().contains("lock: event=handover") && !new.log().contains("event=recovery"));
        wait_replica_in_sync(new, old);
    }
}

#[test]
fn a_replica_that_was_started_as_one_takes_over_as_well() {
    let primary = Server::with(&[LONG]);
    let replica = Server::with(&[LONG, &format!("replicaof 127.0.0.1 {}", primary.port())]);
    wait_replica_in_sync(&primary, &replica);
    acquire(&primary, "k o PX 60000");
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(ask(&primary, "FAILOVER"), "OK");
    wait_primary(&replica);
    assert_eq!(ask(&replica, "LOCK.RECOVERY"), 0);
    assert!(left(&replica, "k", "o") > 0);
}

/// Tells the replica, as its primary does at the end of FAILOVER, that the stream of this id ended before `offset`.
fn hand_over(replica: &Server, id: &str, offset: u64) -> Connection {
    let mut primary = replica.connect();
    primary.send(&["PSYNC", id, &offset.to_string(), "FAILOVER"]);
    primary
}

/// The id of its stream, and the first offset that it has not heard of.
fn stream_of(replica: &Server) -> (String, u64) {
    let info = replica.info("replication");
    (info["master_replid"].clone(), info["master_repl_offset"].parse::<u64>().expect("an offset") + 1)
}

#[test]
fn a_handover_by_a_primary_that_wrote_more_opens_a_window() {
    for (more, has_window) in [(0, false), (1, true)] {
        // No word comes from a primary that is stopped.
        let (primary, replica) = with_replica();
        primary.signal("STOP");
        let (id, offset) = stream_of(&replica);
        let told = hand_over(&replica, &id, offset + more);
        wait_primary(&replica);
        assert_eq!(ask(&replica, "LOCK.RECOVERY").int() > 0, has_window, "{more} bytes more");
        drop(told);
        primary.signal("CONT");
    }
}

#[test]
fn a_handover_that_is_given_up_opens_no_window() {
    let (primary, replica) = with_replica();
    replica.signal("STOP");
    let port = replica.port().to_string();
    let forced = ["FAILOVER", "TO", "127.0.0.1", &port, "FORCE", "TIMEOUT", "50"];
    assert_eq!(primary.cmd(&forced), "OK");
    wait_until("nobody to be the primary", || {
        primary.info("replication")["master_failover_state"] == "failover-in-progress"
    });
    assert_eq!(ask(&primary, "FAILOVER ABORT"), "OK");
    wait_primary(&primary);
    assert_eq!(ask(&primary, "LOCK.RECOVERY"), 0);
    assert!(primary.log().contains("lock: event=handover-given-up"));
    replica.signal("CONT");
}

#[test]
fn a_promise_of_a_handover_that_came_to_nothing_is_forgotten() {
    let (primary, replica) = with_replica();
    primary.signal("STOP");
    let (_, offset) = stream_of(&replica);
    // Refused, as that is not the id of the stream.
    assert!(matches!(hand_over(&replica, &"0".repeat(40), offset).read(), Value::Error(_)));
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    assert!(ask(&replica, "LOCK.RECOVERY").int() > 0);
    primary.signal("CONT");
}
