//! What replicas and files have of conversions: the same data everywhere, and what is told of one that is taken back.

use super::{ask, assert_shown, read};
use crate::round_trips::assert_round_trips;
use crate::steps::{acquire, granted, queue_up, transaction, words};
use crate::support::stream::step;
use crate::support::{assert_stream, wait_until, ReplicaStream, Server, Value};
use crate::traffic::{follow, lock_stat, wait_same_data, ALL};

#[test]
fn an_upgrade_that_is_taken_back_states_the_hold_that_was() {
    let server = Server::start();
    let replica = Server::start();
    follow(&replica, &server);
    let old = acquire(&server, "k ann SHARED NOEXPIRE").to_string();
    let ben = read(&server, "ben").to_string();
    let mut conn = server.connect();
    let kill = format!("CLIENT KILL ID {}", conn.id());
    let doomed = queue_up(&server, conn, &words("LOCK.CONVERT k ann EXCLUSIVE BLOCK 0"));
    let mut stream = ReplicaStream::attach(&server);
    transaction(&mut server.connect(), &[&words("LOCK.RELEASE k ben"), &words(&kill)]);
    drop(doomed);
    wait_until("the upgrade to be taken back", || lock_stat(&server, "undone") == 1);
    assert_stream(
        &stream.collect(&server),
        &[
            &step(&[&["LOCK._FREE", "k", &ben], &["LOCK._HOLD", "k", "ann", "<fence>", "-1"]]),
            &["LOCK._HOLD", "k", "ann", &old, ALL, "1", "-1", "-1", "-1"],
        ],
    );
    wait_same_data(&replica, &server);
    assert_shown(&replica, "shared", &["ann"]);
}

#[test]
fn a_replica_has_the_same_and_converts_nothing() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let old = read(&primary, "ann");
    let new = granted(&primary, "LOCK.CONVERT k ann EXCLUSIVE");
    wait_same_data(&replica, &primary);
    assert_shown(&replica, "exclusive", &["ann"]);
    assert_eq!(ask(&replica, &format!("LOCK.CHECK k ann FENCE {old}")), 0);
    assert!(ask(&replica, &format!("LOCK.CHECK k ann FENCE {new}")).int() > 0);
    for line in
        ["LOCK.CONVERT k ann SHARED", "LOCK.CONVERT k ann EXCLUSIVE BLOCK 0", "LOCK.CONVERT free ann SHARED"]
    {
        assert!(ask(&replica, line).error().starts_with("READONLY "), "{line}");
    }
    granted(&primary, "LOCK.CONVERT k ann SHARED");
    read(&primary, "ben");
    wait_same_data(&replica, &primary);
    assert_shown(&replica, "shared", &["ann", "ben"]);
    // Promoted, it goes on where the primary was.
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    assert_eq!(ask(&replica, "LOCK.RELEASE k ben"), 1);
    assert!(granted(&replica, "LOCK.CONVERT k ann EXCLUSIVE") > new);
}

#[test]
fn a_converted_hold_survives_every_round_trip() {
    let prepare = |server: &Server| {
        acquire(server, "k ann SHARED PX 600000 NOTE why REENTRANT id");
        granted(server, "LOCK.CONVERT k ann EXCLUSIVE");
        acquire(server, "down ben NOEXPIRE");
        granted(server, "LOCK.CONVERT down ben SHARED");
        acquire(server, "down cleo SHARED NOEXPIRE");
    };
    assert_round_trips(&["k", "down"], prepare, |server, what| {
        assert_eq!(ask(server, "LOCK.ACQUIRE k ben SHARED"), Value::Nil, "{what}");
        let fence = granted(server, "LOCK.CONVERT k ann SHARED");
        assert!(acquire(server, "k ben SHARED") > fence, "{what}");
        assert_eq!(ask(server, "LOCK.CONVERT down ben EXCLUSIVE"), Value::Nil, "{what}");
    });
}
