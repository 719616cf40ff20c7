//! Waiting clients that are killed, sent away, or gone: before the grant, with it in one packet, and right after it. A
//! grant that nobody hears of goes to the next in line; one that was heard stays.

use std::net::Shutdown;

use crate::steps::{
    acquire, ask, assert_granted, assert_holds, fence_of, holder, holder_seen_by, is_modern, queue, queue_up,
    queue_up_beside, release, transaction, wait_for_lock, waiting, words,
};
use crate::support::wait::wait_waiting;
use crate::support::{wait_until, Connection, Server, Value};

const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";

/// A waiter and the id of its client.
fn waiter_with_id(server: &Server, owner: &str) -> (Connection, String) {
    let mut conn = server.connect();
    let id = conn.id().to_string();
    (queue_up(server, conn, &["LOCK.ACQUIRE", "k", owner, "BLOCK", "0"]), id)
}

#[test]
fn a_killed_waiter_leaves_its_queue_at_once() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiters = ["head", "second", "middle", "last"].map(|name| waiter_with_id(&server, name));
    for (at, left) in [(0, &["second", "middle", "last"][..]), (2, &["second", "last"])] {
        assert_eq!(server.cmd(&["CLIENT", "KILL", "ID", &waiters[at].1]), 1);
        waiters[at].0.expect_closed();
        assert_eq!(queue(&server, "k"), left);
    }
    release(&server, "k", "alice");
    assert_granted(&server, &mut waiters[1].0, "k", "second");
    release(&server, "k", "second");
    assert_granted(&server, &mut waiters[3].0, "k", "last");
}

#[test]
fn a_waiter_that_hangs_up_leaves_its_queue() {
    let server = Server::start();
    acquire(&server, "k alice");
    let bob = wait_for_lock(&server, "k", "bob");
    let mut carol = wait_for_lock(&server, "k", "carol");
    let mut dave = wait_for_lock(&server, "k", "dave");
    drop(bob);
    wait_waiting(&server, "k", 2);
    // Nothing more will come from this one: the server takes that for the end.
    carol.raw().get_ref().shutdown(Shutdown::Write).unwrap();
    carol.expect_closed();
    assert_eq!(queue(&server, "k"), ["dave"]);
    release(&server, "k", "alice");
    assert_granted(&server, &mut dave, "k", "dave");
}

#[test]
fn killing_the_holders_client_leaves_the_hold() {
    let server = Server::start();
    let mut conn = server.connect();
    let fence = fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice")));
    let mut waiter = wait_for_lock(&server, "k", "bob");
    let id = conn.id().to_string();
    assert_eq!(server.cmd(&["CLIENT", "KILL", "ID", &id]), 1);
    conn.expect_closed();
    assert_holds(&server, "k", "alice", fence);
    waiter.expect_nothing_pending();
}

#[test]
fn unblocked_with_a_timeout_it_is_nil_or_not_done() {
    let server = Server::start();
    acquire(&server, "k alice");
    let (mut waiter, id) = waiter_with_id(&server, "bob");
    for form in [vec!["CLIENT", "UNBLOCK", &id], vec!["CLIENT", "UNBLOCK", &id, "TIMEOUT"]] {
        if is_modern(&server) {
            assert_eq!(server.cmd(&form), 1);
            assert_eq!(waiter.read(), Value::Nil);
            assert_eq!(waiting(&server, "k"), 0);
            waiter = queue_up(&server, waiter, &words("LOCK.ACQUIRE k bob BLOCK 0"));
        } else {
            assert_eq!(server.cmd(&form), 0, "this server could lose a grant by it");
        }
        assert_eq!(queue(&server, "k"), ["bob"]);
    }
    release(&server, "k", "alice");
    assert_granted(&server, &mut waiter, "k", "bob");
}

#[test]
fn unblocked_with_an_error_it_leaves() {
    let server = Server::start();
    acquire(&server, "k alice");
    let (mut waiter, id) = waiter_with_id(&server, "bob");
    let mut carol = wait_for_lock(&server, "k", "carol");
    let done = server.cmd(&["CLIENT", "UNBLOCK", &id, "ERROR"]).int();
    assert_eq!(done, i64::from(is_modern(&server)));
    release(&server, "k", "alice");
    if done == 1 {
        assert_eq!(waiter.read(), UNBLOCKED);
        assert_granted(&server, &mut carol, "k", "carol");
        assert_eq!(waiter.cmd(&["PING"]), "PONG");
    } else {
        assert_granted(&server, &mut waiter, "k", "bob");
    }
}

/// Alice releases and, in the same packet or transaction, `act` is done to the client of the first of two waiters, all in
/// one database. However the server orders it, one of the two has the lock, and has heard of it.
fn release_and(server: &Server, db: u32, in_transaction: bool, act: &[&str]) {
    let mut looker = server.connect().select(db);
    fence_of(&looker.cmd(&words("LOCK.ACQUIRE k alice")));
    let mut bob = server.connect().select(db);
    let id = bob.id().to_string();
    let mut bob = queue_up_beside(&mut looker, bob, &words("LOCK.ACQUIRE k bob BLOCK 0"));
    let carol = server.connect().select(db);
    let mut carol = queue_up_beside(&mut looker, carol, &words("LOCK.ACQUIRE k carol BLOCK 0"));

    let act: Vec<&str> = act.iter().map(|word| if *word == "<id>" { &id } else { *word }).collect();
    let mut conn = server.connect().select(db);
    let done = if in_transaction {
        let replies = transaction(&mut conn, &[&words("LOCK.RELEASE k alice"), &act]);
        assert_eq!(replies[0], 1);
        replies[1].int()
    } else {
        conn.send_together(&[&words("LOCK.RELEASE k alice"), &act]);
        assert_eq!(conn.read(), 1);
        conn.read().int()
    };
    let heard = bob.try_read();
    let what = format!("{act:?} in {db}, which said {done}: bob heard {heard:?}");
    let new_holder = if let Ok(Value::Int(fence)) = &heard {
        let fence = fence.to_string();
        assert!(looker.cmd(&["LOCK.CHECK", "k", "bob", "FENCE", &fence]).int() > 0, "{what}");
        carol.expect_nothing_pending();
        "bob"
    } else {
        fence_of(&carol.read());
        "carol"
    };
    assert_eq!(holder_seen_by(&mut looker, "k").as_deref(), Some(new_holder), "{what}");
    match (act[1], heard) {
        ("KILL", Err(_)) => {}
        ("UNBLOCK", Ok(Value::Int(_))) => assert!(done == 0 || is_modern(server), "{what}"),
        ("UNBLOCK", Ok(reply)) => {
            assert_eq!(done, 1, "{what}");
            assert!(reply == UNBLOCKED || reply == Value::Nil, "{what}");
        }
        _ => panic!("{what}"),
    }
    assert_eq!(looker.cmd(&["LOCK.RELEASE", "k", new_holder]), 1, "{what}");
    drop((bob, carol));
    wait_until("the queue to be empty", || looker.cmd(&["LOCK.INFO", "k"]).field("waiting") == &0);
    assert_eq!(looker.cmd(&["DEL", "k"]).int(), i64::from(new_holder == "bob"));
}

#[test]
fn killed_or_unblocked_in_one_step_with_the_grant() {
    let server = Server::start();
    for act in [
        &["CLIENT", "KILL", "ID", "<id>"][..],
        &["CLIENT", "UNBLOCK", "<id>"],
        &["CLIENT", "UNBLOCK", "<id>", "TIMEOUT"],
        &["CLIENT", "UNBLOCK", "<id>", "ERROR"],
    ] {
        for db in [0, 5] {
            for in_transaction in [false, true] {
                for _ in 0..5 {
                    release_and(&server, db, in_transaction, act);
                }
            }
        }
    }
}

#[test]
fn killed_in_one_packet_with_the_end_of_the_key() {
    let server = Server::start();
    // A plain FLUSHALL may turn the event loop before the next command of its client.
    for line in ["DEL k", "FLUSHALL ASYNC", "RENAME k other", "LOCK.RENEW k alice PX 1"] {
        acquire(&server, "k alice");
        let (mut doomed, id) = waiter_with_id(&server, "bob");
        let mut carol = wait_for_lock(&server, "k", "carol");
        let mut conn = server.connect();
        conn.send_together(&[&words(line), &["CLIENT", "KILL", "ID", &id]]);
        assert!(!matches!(conn.read(), Value::Error(_)), "{line}");
        assert_eq!(conn.read(), 1);
        let heard = doomed.try_read();
        assert!(heard.is_err(), "{line}: {heard:?}");
        assert_granted(&server, &mut carol, "k", "carol");
        release(&server, "k", "carol");
    }
}

#[test]
fn a_storm_of_kills_with_the_grant() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiters: Vec<_> = (0..80).map(|n| waiter_with_id(&server, &format!("owner-{n}"))).collect();
    let kills: Vec<[&str; 4]> = waiters[..60].iter().map(|(_, id)| ["CLIENT", "KILL", "ID", id]).collect();
    let release_first = words("LOCK.RELEASE k alice");
    let mut commands: Vec<&[&str]> = vec![&release_first];
    commands.extend(kills.iter().map(<[&str; 4]>::as_slice));
    let mut conn = server.connect();
    conn.send_together(&commands);
    for _ in &commands {
        assert_eq!(conn.read(), 1);
    }
    for (at, (waiter, _)) in waiters.iter_mut().enumerate().skip(60) {
        let owner = format!("owner-{at}");
        assert_granted(&server, waiter, "k", &owner);
        release(&server, "k", &owner);
    }
    assert_eq!(server.cmd(&["EXISTS", "k"]), 0);
}

/// Stops the process and waits until it stands still.
fn freeze(server: &Server) {
    server.signal("STOP");
    wait_until("the server to stand still", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
    });
}

/// Closes the connections and waits until their ends have reached the server's side.
fn hang_up(server: &Server, connections: Vec<Connection>) {
    const CLOSE_WAIT: &str = "08";
    let end = |port: u16| format!(":{port:04X}");
    let addresses = connections.into_iter().map(|mut conn| conn.raw().get_ref().local_addr().unwrap());
    let ports: Vec<String> = addresses.map(|address| end(address.port())).collect();
    let server_port = end(server.port());
    wait_until("the ends of the connections to arrive", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let closed = sockets.filter(|row| {
            row[1].ends_with(&server_port)
                && row[3] == CLOSE_WAIT
                && ports.iter().any(|p| row[2].ends_with(p))
        });
        closed.count() == ports.len()
    });
}

#[test]
fn a_waiter_that_was_gone_before_the_grant_never_holds() {
    let server = Server::start();
    for round in 0..10 {
        acquire(&server, "k alice");
        let doomed: Vec<Connection> =
            (0..10).map(|n| wait_for_lock(&server, "k", &format!("doomed-{n}"))).collect();
        let mut survivor = wait_for_lock(&server, "k", "survivor");
        let mut conn = server.connect();
        assert_eq!(conn.cmd(&["PING"]), "PONG");
        // The server finds the ends and the release in one turn of its loop, in the order of their arrival.
        freeze(&server);
        if round % 2 == 0 {
            conn.send(&words("LOCK.RELEASE k alice"));
            hang_up(&server, doomed);
        } else {
            hang_up(&server, doomed);
            conn.send(&words("LOCK.RELEASE k alice"));
        }
        server.signal("CONT");
        assert_eq!(conn.read(), 1);
        assert_granted(&server, &mut survivor, "k", "survivor");
        assert_eq!(waiting(&server, "k"), 0);
        release(&server, "k", "survivor");
    }
    assert_eq!(server.cmd(&["EXISTS", "k"]), 0);
}

#[test]
fn a_waiter_that_hangs_up_right_after_its_grant_keeps_it() {
    const N: usize = 200;
    let server = Server::start();
    let mut fences = Vec::new();
    for n in 0..N {
        let key = format!("k{n}");
        acquire(&server, &format!("{key} alice"));
        let mut waiter = wait_for_lock(&server, &key, "bob");
        release(&server, &key, "alice");
        fences.push((key, fence_of(&waiter.read())));
        drop(waiter);
    }
    // All of them are gone, and the loop has turned a few times since.
    wait_until("the clients to be gone", || server.info_int("clients", "connected_clients") == 1);
    acquire(&server, "other alice");
    assert_eq!(server.connect().cmd(&words("LOCK.ACQUIRE other bob BLOCK 120")), Value::Nil);
    for (key, fence) in fences {
        assert_holds(&server, &key, "bob", fence);
    }
    assert_eq!(server.info_int("lock_stats", "lock_undone"), 0);
}

#[test]
fn one_that_uses_its_grant_and_hangs_up_at_once() {
    let server = Server::start();
    for _ in 0..50 {
        acquire(&server, "k alice");
        let mut bob = wait_for_lock(&server, "k", "bob");
        let mut carol = wait_for_lock(&server, "k", "carol");
        release(&server, "k", "alice");
        fence_of(&bob.read());
        bob.send(&words("LOCK.RENEW k bob PX 60000"));
        drop(bob);
        // The hold has a lease, and nobody is told otherwise.
        assert_eq!(ask(&server, "LOCK.CHECK k carol"), 0);
        assert_eq!(holder(&server, "k").as_deref(), Some("bob"));
        carol.expect_nothing_pending();
        release(&server, "k", "bob");
        assert_granted(&server, &mut carol, "k", "carol");
        release(&server, "k", "carol");
    }
}
