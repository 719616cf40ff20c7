//! Waits among other commands: behind one another on one connection, before WAIT, hundreds in one packet.

use crate::steps::{
    acquire, assert_granted, assert_holds, fence_of, holder, queue, queue_up, release, wait_for_lock, words,
};
use crate::support::wait::{wait_blocked_clients, wait_replica_in_sync, wait_waiting};
use crate::support::{Server, Value};

#[test]
fn what_stands_behind_a_wait_is_done_after_it_and_in_order() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut conn = server.connect();
    conn.send_together(&[
        &words("LOCK.ACQUIRE k bob BLOCK 0"),
        &words("SET order 1"),
        &words("APPEND order 2"),
        &words("LOCK.CHECK k bob"),
        &words("LOCK.RELEASE k bob"),
        &words("GET order"),
    ]);
    wait_waiting(&server, "k", 1);
    assert_eq!(server.cmd(&["EXISTS", "order"]), 0);
    release(&server, "k", "alice");
    fence_of(&conn.read());
    assert_eq!(conn.read(), "OK");
    assert_eq!(conn.read(), 2);
    assert!(conn.read().int() > 0, "the hold is there when the next command runs");
    assert_eq!(conn.read(), 1);
    assert_eq!(conn.read(), "12");
}

#[test]
fn what_stands_behind_a_wait_is_done_after_its_end_too() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut conn = server.connect();
    conn.send_together(&[&words("LOCK.ACQUIRE k bob BLOCK 20"), &words("SET after 1"), &["PING"]]);
    assert_eq!(conn.read(), Value::Nil);
    assert_eq!(conn.read(), "OK");
    assert_eq!(conn.read(), "PONG");
}

#[test]
fn two_waits_on_one_connection_come_one_after_the_other() {
    let server = Server::start();
    acquire(&server, "k alice");
    acquire(&server, "l alice");
    let mut conn = server.connect();
    conn.send_together(&[&words("LOCK.ACQUIRE k bob BLOCK 0"), &words("LOCK.ACQUIRE l bob BLOCK 0")]);
    wait_waiting(&server, "k", 1);
    // The second has not begun: whoever comes for it now is first.
    let mut carol = wait_for_lock(&server, "l", "carol");
    release(&server, "k", "alice");
    assert_granted(&server, &mut conn, "k", "bob");
    wait_waiting(&server, "l", 2);
    release(&server, "l", "alice");
    assert_granted(&server, &mut carol, "l", "carol");
    release(&server, "l", "carol");
    assert_granted(&server, &mut conn, "l", "bob");
}

#[test]
fn the_same_lock_twice_on_one_connection() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut conn = server.connect();
    let twice = words("LOCK.ACQUIRE k bob BLOCK 0");
    conn.send_together(&[
        &twice,
        &twice,
        &words("LOCK.ACQUIRE k carol BLOCK 20"),
        &words("LOCK.RELEASE k bob"),
    ]);
    wait_waiting(&server, "k", 1);
    release(&server, "k", "alice");
    let fence = fence_of(&conn.read());
    assert_eq!(conn.read(), fence, "the owner has it already");
    assert_eq!(conn.read(), Value::Nil);
    assert_eq!(conn.read(), 1);
}

#[test]
fn hundreds_of_waits_in_one_packet() {
    let server = Server::start();
    let keys: Vec<String> = (0..300).map(|n| format!("k{n}")).collect();
    for key in &keys {
        acquire(&server, &format!("{key} alice"));
    }
    let mut conn = server.connect();
    let commands: Vec<[&str; 5]> =
        keys.iter().map(|key| ["LOCK.ACQUIRE", key, "bob", "BLOCK", "0"]).collect();
    conn.send_together(&commands.iter().map(<[&str; 5]>::as_slice).collect::<Vec<_>>());
    wait_waiting(&server, "k0", 1);
    // From the last to the first: only the first is waited for yet.
    for key in keys.iter().rev() {
        release(&server, key, "alice");
    }
    let fences: Vec<i64> = keys.iter().map(|_| fence_of(&conn.read())).collect();
    assert!(fences.is_sorted_by(|a, b| a < b));
    assert_holds(&server, "k299", "bob", fences[299]);
}

#[test]
fn wait_after_a_wait_knows_that_the_replica_has_the_grant() {
    let (primary, replica) = (Server::start(), Server::start());
    assert_eq!(replica.cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]), "OK");
    wait_replica_in_sync(&primary, &replica);
    for round in 0..20 {
        let key = format!("k{round}");
        acquire(&primary, &format!("{key} alice"));
        let mut conn = primary.connect();
        let acquire = ["LOCK.ACQUIRE", &key, "bob", "BLOCK", "0"];
        conn.send_together(&[&acquire, &["WAIT", "1", "8000"]]);
        wait_waiting(&primary, &key, 1);
        release(&primary, &key, "alice");
        let fence = fence_of(&conn.read());
        assert_eq!(conn.read(), 1, "one replica has it");
        assert_holds(&replica, &key, "bob", fence);
    }
}

#[test]
fn a_wait_in_the_middle_of_a_subscribers_life() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiter = server.connect().hello3();
    waiter.cmd(&["SUBSCRIBE", "news"]);
    if server.is_valkey() {
        // There a module may not block a client that subscribes to something: the wait is a try, and like a try it leaves
        // the same owner's wait elsewhere alone.
        let mut elsewhere = wait_for_lock(&server, "k", "bob");
        let mut behind = wait_for_lock(&server, "k", "carol");
        for owner in ["bob", "dave"] {
            assert_eq!(waiter.cmd(&["LOCK.ACQUIRE", "k", owner, "BLOCK", "0"]), Value::Nil);
        }
        assert_eq!(queue(&server, "k"), ["bob", "carol"]);
        assert_eq!(server.info_int("lock_stats", "lock_queued"), 2);
        release(&server, "k", "alice");
        assert_granted(&server, &mut elsewhere, "k", "bob");
        return behind.expect_nothing_pending();
    }
    let mut waiter = queue_up(&server, waiter, &words("LOCK.ACQUIRE k bob BLOCK 0"));
    // A push may come while the client waits; the grant comes behind it.
    assert_eq!(server.cmd(&["PUBLISH", "news", "text"]), 1);
    release(&server, "k", "alice");
    let push = waiter.read();
    assert!(matches!(push, Value::Push(_)), "{push:?}");
    assert_granted(&server, &mut waiter, "k", "bob");
}

#[test]
fn inside_a_transaction_nobody_waits_and_the_queue_is_served() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    let mut conn = server.connect();
    conn.send_together(&[
        &["MULTI"],
        &words("LOCK.RELEASE k alice"),
        &words("LOCK.ACQUIRE k alice BLOCK 0"),
        &words("LOCK.CHECK k bob"),
        &["EXEC"],
    ]);
    for _ in 0..4 {
        conn.read();
    }
    let replies = conn.read();
    assert_eq!(replies.items()[0], 1);
    assert_eq!(replies.items()[1], Value::Nil, "bob was first");
    assert!(replies.items()[2].int() > 0);
    assert_granted(&server, &mut waiter, "k", "bob");
    wait_blocked_clients(&server, 0);
}

#[test]
fn no_reply_is_wanted_and_the_lock_is_held() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut silent = server.connect();
    silent.send(&words("CLIENT REPLY OFF"));
    let mut silent = queue_up(&server, silent, &words("LOCK.ACQUIRE k bob BLOCK 0"));
    release(&server, "k", "alice");
    assert_eq!(holder(&server, "k").as_deref(), Some("bob"));
    // The reply of the switch itself is the first that comes: the grant was silent.
    assert_eq!(silent.cmd(&words("CLIENT REPLY ON")), "OK");
    assert_eq!(holder(&server, "k").as_deref(), Some("bob"));
}
