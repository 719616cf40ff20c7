//! Ties on replicas, which end nothing by themselves, and on a server that is promoted, where no holder has a connection yet.

use std::time::Duration;

use super::{close, tied, LONG};
use crate::backlog::{assert_only_effects, commands_in_backlog};
use crate::operate::shown;
use crate::steps::{acquire, ask, digest, fence_of, holder, wait_for_lock, words};
use crate::support::wait::{let_pass, wait_replica_in_sync};
use crate::support::{wait_until, Server, Stop};
use crate::traffic::{follow, left, lock_stat, wait_same_data};

#[test]
fn a_replica_ends_nothing_by_itself() {
    let (mut primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    // A client of the replica that has the id of the holder's.
    let mut conn = tied(&primary, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
    let id = conn.id();
    let mut namesakes = vec![replica.connect()];
    while namesakes.last_mut().unwrap().id() < id {
        namesakes.push(replica.connect());
    }
    wait_replica_in_sync(&primary, &replica);
    let before = digest(&replica);
    drop(namesakes);
    primary.stop(Stop::Kill);
    drop(conn);
    let_pass(Duration::from_millis(300));
    assert_eq!((left(&replica, "k", "alice"), digest(&replica)), (-1, before));
    assert_eq!((shown(&replica, "client-id").int(), lock_stat(&replica, "closed")), (id, 0));
}

#[test]
fn a_replica_hears_of_every_change() {
    let (primary, replica, late) = (Server::start(), Server::start(), Server::start());
    follow(&replica, &primary);
    let conn = tied(&primary, "LOCK.ACQUIRE k alice PX 60000 TIED 600000");
    let mut back = server_with_tie(&primary);
    follow(&late, &primary);
    for copy in [&replica, &late] {
        wait_same_data(&primary, copy);
        assert_eq!((shown(copy, "client-id").int(), shown(copy, "grace-ms").int()), (back.id(), 5000));
    }
    close(&primary, conn);
    drop(back);
    wait_until("the connection to be missed", || shown(&primary, "client-id") == 0);
    wait_replica_in_sync(&primary, &replica);
    let there = left(&replica, "k", "alice");
    assert!((1..=5000).contains(&there), "{there}");
}

fn server_with_tie(primary: &Server) -> crate::support::Connection {
    let mut back = primary.connect();
    assert_eq!(back.cmd(&words("LOCK.RENEW k alice NOEXPIRE TIED 5000")), -1);
    back
}

#[test]
fn after_a_promotion_there_is_a_grace() {
    let (mut primary, replica, third) = (Server::start(), Server::start(), Server::start());
    follow(&replica, &primary);
    follow(&third, &replica);
    let conn = tied(&primary, "LOCK.ACQUIRE k alice NOEXPIRE TIED 500");
    let keeps = tied(&primary, &format!("LOCK.ACQUIRE l alice NOEXPIRE {LONG}"));
    wait_until("the locks to arrive", || third.cmd(&["EXISTS", "k", "l"]) == 2);
    primary.stop(Stop::Kill);
    drop((conn, keeps));
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    wait_until("the connection to be missed", || shown(&replica, "client-id") == 0);
    assert!((1..=500).contains(&left(&replica, "k", "alice")), "no instant end");
    let mut next = wait_for_lock(&replica, "k", "bob");
    let mut back = replica.connect();
    assert_eq!(back.cmd(&words("LOCK.RENEW l alice TIED 0")), -1);
    fence_of(&next.read());
    assert_eq!(lock_stat(&replica, "closed"), 1);
    drop(back);
    wait_until("the other to end", || holder(&replica, "l").is_none());
    wait_same_data(&replica, &third);
    assert_only_effects(&commands_in_backlog(&replica));
}

#[test]
fn a_grace_that_has_begun_is_over_in_time_elsewhere() {
    let (mut primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let conn = tied(&primary, "LOCK.ACQUIRE k alice NOEXPIRE TIED 1000");
    close(&primary, conn);
    wait_until("the grace to begin", || shown(&primary, "client-id") == 0);
    wait_replica_in_sync(&primary, &replica);
    primary.stop(Stop::Kill);
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    assert!(left(&replica, "k", "alice") <= 1000);
    wait_until("the grace to be over", || holder(&replica, "k").is_none());
}

#[test]
fn a_failover_keeps_who_comes_back_in_time() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let gone = tied(&primary, "LOCK.ACQUIRE k alice NOEXPIRE TIED 400");
    let mut stays = tied(&primary, &format!("LOCK.ACQUIRE l alice NOEXPIRE {LONG}"));
    assert_eq!(ask(&primary, "FAILOVER"), "OK");
    drop(gone);
    wait_until("the roles to change", || {
        replica.info("replication")["role"] == "master" && primary.info("replication")["role"] == "slave"
    });
    // The connection to the server that was the primary is still there, and means nothing.
    assert_eq!(stays.cmd(&["PING"]), "PONG");
    assert_ne!(left(&replica, "k", "alice"), -1);
    let mut back = replica.connect();
    assert_eq!(back.cmd(&words("LOCK.RENEW l alice TIED 0")), -1);
    wait_until("the grace to be over", || holder(&replica, "k").is_none());
    drop(stays);
    wait_same_data(&primary, &replica);
    assert_eq!(left(&primary, "l", "alice"), -1);
    // And back: those that are tied over there have no connection here.
    assert_eq!(ask(&replica, "FAILOVER"), "OK");
    wait_until("the roles to change", || {
        primary.info("replication")["role"] == "master" && replica.info("replication")["role"] == "slave"
    });
    wait_until("a tie without grace to end", || holder(&primary, "l").is_none());
    wait_same_data(&primary, &replica);
    acquire(&primary, "l bob");
    drop(back);
    assert_only_effects(&commands_in_backlog(&primary));
}
