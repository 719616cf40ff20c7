//! Numbered databases: the same name in two of them is two locks, with two queues and two leases.

use crate::steps::{
    acquire, ask, fence_of, holder, holder_seen_by, in_line, queue_up_beside, wait_for_lock, waiting, words,
};
use crate::support::stream::step;
use crate::support::{assert_stream, wait_until, Connection, ReplicaStream, Server, Value};

fn two_databases() -> (Server, Connection, Connection) {
    let server = Server::start();
    let (zero, five) = (server.connect(), server.connect().select(5));
    (server, zero, five)
}

#[test]
fn the_same_name_is_two_locks() {
    let (server, mut zero, mut five) = two_databases();
    let first = fence_of(&zero.cmd(&words("LOCK.ACQUIRE k alice")));
    let second = fence_of(&five.cmd(&words("LOCK.ACQUIRE k bob")));
    assert!(second > first, "the fences are of one line");
    assert_eq!(zero.cmd(&words("LOCK.CHECK k bob")), 0);
    assert_eq!(five.cmd(&words("LOCK.RELEASE k alice")), 0);
    assert_eq!(five.cmd(&words("LOCK.RELEASE k bob")), 1);
    assert_eq!(holder(&server, "k").as_deref(), Some("alice"));
    assert_eq!(holder_seen_by(&mut five, "k"), None);
}

#[test]
fn each_has_its_queue() {
    let (server, mut zero, mut five) = two_databases();
    acquire(&server, "k alice");
    fence_of(&five.cmd(&words("LOCK.ACQUIRE k alice")));
    let mut in_zero = wait_for_lock(&server, "k", "bob");
    let conn = server.connect().select(5);
    let mut in_five = queue_up_beside(&mut five, conn, &words("LOCK.ACQUIRE k carol BLOCK 0"));
    assert_eq!(waiting(&server, "k"), 1);
    assert_eq!(five.cmd(&words("LOCK.WAITERS k")).items()[0].field("owner"), &"carol");

    assert_eq!(five.cmd(&words("LOCK.RELEASE k alice")), 1);
    fence_of(&in_five.read());
    assert_eq!(holder_seen_by(&mut five, "k").as_deref(), Some("carol"));
    in_zero.expect_nothing_pending();
    assert_eq!(zero.cmd(&words("LOCK.RELEASE k alice")), 1);
    fence_of(&in_zero.read());
    assert_eq!(holder(&server, "k").as_deref(), Some("bob"));
}

#[test]
fn a_lease_ends_in_its_own_database() {
    let (server, mut zero, mut five) = two_databases();
    fence_of(&zero.cmd(&words("LOCK.ACQUIRE k alice PX 60000")));
    fence_of(&five.cmd(&words("LOCK.ACQUIRE k alice PX 400")));
    let conn = server.connect().select(5);
    let mut waiter = queue_up_beside(&mut five, conn, &words("LOCK.ACQUIRE k bob BLOCK 0 PX 60000"));
    fence_of(&waiter.read());
    assert_eq!(holder_seen_by(&mut five, "k").as_deref(), Some("bob"));
    assert_eq!(holder(&server, "k").as_deref(), Some("alice"));
}

#[test]
fn a_wait_ends_in_its_own_database() {
    let (server, _zero, mut five) = two_databases();
    acquire(&server, "k alice");
    fence_of(&five.cmd(&words("LOCK.ACQUIRE k alice")));
    let mut in_zero = wait_for_lock(&server, "k", "bob");
    assert_eq!(server.connect().select(5).cmd(&words("LOCK.ACQUIRE k bob BLOCK 20")), Value::Nil);
    in_zero.expect_nothing_pending();
    assert_eq!(waiting(&server, "k"), 1);
}

#[test]
fn the_same_owner_may_wait_in_both() {
    let (server, _zero, mut five) = two_databases();
    acquire(&server, "k alice");
    fence_of(&five.cmd(&words("LOCK.ACQUIRE k alice")));
    let mut in_zero = wait_for_lock(&server, "k", "bob");
    let conn = server.connect().select(5);
    let mut in_five = queue_up_beside(&mut five, conn, &words("LOCK.ACQUIRE k bob BLOCK 0"));
    in_zero.expect_nothing_pending();
    in_five.expect_nothing_pending();
}

#[test]
fn a_waiter_is_served_where_it_waited_whatever_others_select() {
    let (server, mut zero, mut five) = two_databases();
    fence_of(&five.cmd(&words("LOCK.ACQUIRE k alice PX 400")));
    let conn = server.connect().select(5);
    let mut waiter = queue_up_beside(&mut five, conn, &words("LOCK.ACQUIRE k bob BLOCK 0"));
    // Whoever is busy while the lease ends has selected something else.
    for db in 0..16 {
        zero.cmd(&["SELECT", &db.to_string()]);
    }
    fence_of(&waiter.read());
    assert_eq!(holder_seen_by(&mut five, "k").as_deref(), Some("bob"));
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
}

#[test]
fn a_killed_waiter_of_another_database_leaves_the_right_queue() {
    let (server, mut zero, mut five) = two_databases();
    acquire(&server, "k alice");
    fence_of(&five.cmd(&words("LOCK.ACQUIRE k alice")));
    let mut in_zero = wait_for_lock(&server, "k", "bob");
    let mut doomed = server.connect().select(5);
    let id = doomed.id().to_string();
    let mut doomed = queue_up_beside(&mut five, doomed, &words("LOCK.ACQUIRE k bob BLOCK 0"));
    // The grant and the end of its client come in one step, sent from the other database.
    assert_eq!(zero.cmd(&words("SELECT 5")), "OK");
    zero.send_together(&[&words("LOCK.RELEASE k alice"), &["CLIENT", "KILL", "ID", &id], &words("SELECT 0")]);
    assert_eq!(zero.read(), 1);
    assert_eq!(zero.read(), 1);
    doomed.expect_closed();
    wait_until("the grant to be taken back", || five.cmd(&words("EXISTS k")) == 0);
    in_zero.expect_nothing_pending();
    assert_eq!(holder(&server, "k").as_deref(), Some("alice"));
}

#[test]
fn replicas_are_told_the_database() {
    let (server, _zero, mut five) = two_databases();
    acquire(&server, "k alice");
    fence_of(&five.cmd(&words("LOCK.ACQUIRE k alice PX 400")));
    let conn = server.connect().select(5);
    let mut waiter = queue_up_beside(&mut five, conn, &words("LOCK.ACQUIRE k bob BLOCK 0 NOEXPIRE"));
    let mut stream = ReplicaStream::attach(&server).with_select();
    fence_of(&waiter.read());
    let (selects, told): (Vec<_>, Vec<_>) =
        stream.collect(&server).into_iter().partition(|command| command[0] == "SELECT");
    // Before or inside the transaction, as the server likes; PUBLISH, which ends the collection, may add one of its own.
    assert_eq!(selects[0], ["SELECT", "5"]);
    assert_stream(
        &told,
        &[&step(&[&["LOCK._FREE", "k", "<fence-1>"], &["LOCK._HOLD", "k", "bob", "<fence-2>", "-1"]])],
    );
}

#[test]
fn waiters_of_all_databases_share_one_cap() {
    let (server, _zero, mut five) = two_databases();
    assert_eq!(ask(&server, "CONFIG SET lock.max-waiters 2"), "OK");
    assert_eq!(ask(&server, "CONFIG SET lock.max-waiters-per-key 1"), "OK");
    acquire(&server, "k alice");
    acquire(&server, "l alice");
    fence_of(&five.cmd(&words("LOCK.ACQUIRE k alice")));
    let _bob = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 0");
    // The lock of the same name elsewhere is another lock.
    let conn = server.connect().select(5);
    let _carol = queue_up_beside(&mut five, conn, &words("LOCK.ACQUIRE k carol BLOCK 0"));
    let refused = ask(&server, "LOCK.ACQUIRE l dave BLOCK 0");
    assert!(refused.error().starts_with("QUEUEFULL 2 clients wait in this server"), "{refused:?}");
}
