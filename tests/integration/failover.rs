//! Replicas obey and decide nothing; whoever is promoted decides everything from then on; whoever is demoted sends its
//! waiters away. Loss of what was not replicated yet cannot be helped; fences grow all the same.

use std::time::{Duration, Instant};

use crate::backlog::{assert_only_effects, commands_in_backlog};
use crate::steps::{acquire, acquire_by, digest, in_line};
use crate::support::wait::{assert_takes_at_most, let_pass, wait_blocked_clients, wait_replica_in_sync};
use crate::support::{wait_until, Connection, Server, Stop, Value};
use crate::traffic::{at_once, follow, left, lock_stat, replica_of, wait_no_child, wait_quiet, Traffic};

fn promote(server: &Server) {
    assert_eq!(server.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
}

#[test]
fn a_replica_refuses_to_decide_and_tells_what_it_knows() {
    let (primary, replica) = (Server::start(), Server::start());
    let fence = acquire(&primary, "k o PX 60000 NOTE n");
    follow(&replica, &primary);
    let before = digest(&replica);
    for read_only in ["yes", "no"] {
        assert_eq!(replica.cmd(&["CONFIG", "SET", "replica-read-only", read_only]), "OK");
        for words in [
            &["LOCK.ACQUIRE", "free", "p"][..],
            &["LOCK.ACQUIRE", "k", "p", "BLOCK", "0"],
            &["LOCK.ACQUIRE", "k", "o"],
            &["LOCK.RENEW", "k", "o"],
            &["LOCK.RELEASE", "k", "o"],
        ] {
            let reply = replica.cmd(words);
            assert!(reply.error().starts_with("READONLY "), "{words:?}: {reply:?}");
        }
        let script = "return redis.pcall('LOCK.RELEASE', KEYS[1], 'o')";
        assert!(replica.cmd(&["EVAL", script, "1", "k"]).error().contains("READONLY "));
        assert!((1..=60_000).contains(&left(&replica, "k", "o")));
        assert_eq!(left(&replica, "k", "p"), 0);
        let info = replica.cmd(&["LOCK.INFO", "k"]);
        let hold = &info.field("holds").items()[0];
        assert_eq!((hold.field("fence").int(), hold.field("note").text()), (fence, "n".into()));
        assert_eq!(replica.cmd(&["LOCK.WAITERS", "k"]), Value::Array(vec![]));
    }
    assert_eq!(digest(&replica), before);
    assert_eq!(replica.info_int("clients", "blocked_clients"), 0);
}

#[test]
fn a_replica_never_ends_a_lease_by_itself() {
    let (primary, replica, third) = (Server::start(), Server::start(), Server::start());
    follow(&replica, &primary);
    follow(&third, &replica);
    // In one packet, so that the primary cannot end the lease before it is paused.
    let mut conn = primary.connect();
    conn.send_together(&[&["LOCK.ACQUIRE", "k", "o", "PX", "150"], &["CLIENT", "PAUSE", "20000", "WRITE"]]);
    assert!(conn.read().int() > 0);
    assert_eq!(conn.read(), "OK");
    wait_until("the lock to arrive", || third.cmd(&["EXISTS", "k"]) == 1);
    let before = digest(&replica);
    let_pass(Duration::from_millis(400));
    assert_eq!(left(&replica, "k", "o"), 0, "at its deadline a hold is over, swept or not");
    for server in [&replica, &third] {
        assert_eq!(server.cmd(&["EXISTS", "k"]), 1);
        assert_eq!(digest(server), before);
        assert_eq!((lock_stat(server, "expired"), lock_stat(server, "held")), (0, 1));
    }
    assert_eq!(primary.cmd(&["CLIENT", "UNPAUSE"]), "OK");
    wait_until("the end of the lease", || third.cmd(&["EXISTS", "k"]) == 0);
    assert_eq!(replica.cmd(&["EXISTS", "k"]), 0);
}

#[test]
fn every_kind_of_change_leaves_the_same_data_on_all_replicas() {
    let (primary, replica, third) = (Server::start(), Server::with(&["appendonly yes"]), Server::start());
    follow(&replica, &primary);
    follow(&third, &replica);
    let mut conn = primary.connect();
    let check = |what: &str| {
        wait_replica_in_sync(&primary, &replica);
        wait_replica_in_sync(&primary, &third);
        assert_eq!(digest(&replica), digest(&primary), "{what}");
        assert_eq!(digest(&third), digest(&primary), "{what}");
        // What was flushed may be freed by another thread.
        wait_until(&format!("{what}: the same number of locks"), || {
            let held = lock_stat(&primary, "held");
            lock_stat(&replica, "held") == held && lock_stat(&third, "held") == held
        });
    };
    acquire_by(&mut conn, "k o PX 60000 NOTE n");
    check("acquire");
    acquire_by(&mut conn, "k o NOEXPIRE");
    check("raise");
    assert_eq!(conn.cmd(&["LOCK.RENEW", "k", "o", "PX", "50000"]), 50_000);
    check("renew");
    let mut next = in_line(&primary, "LOCK.ACQUIRE k next BLOCK 0 PX 40000");
    assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    next.read().int();
    check("hand-off");
    assert_eq!(conn.cmd(&["LOCK.RENEW", "k", "next", "PX", "50"]), 50);
    wait_until("the lease to be over", || primary.cmd(&["EXISTS", "k"]) == 0);
    check("expiry");
    acquire_by(&mut conn, "k o");
    assert_eq!(conn.cmd(&["RENAME", "k", "l"]), "OK");
    check("rename");
    assert_eq!(conn.cmd(&["MOVE", "l", "5"]), 1);
    assert_eq!(conn.cmd(&["SWAPDB", "0", "5"]), "OK");
    check("move and swap");
    let Value::Bulk(dump) = conn.cmd(&["DUMP", "l"]) else { panic!("no dump") };
    conn.cmd(&["DEL", "l"]);
    assert_eq!(conn.cmd(&[&b"RESTORE"[..], &b"m"[..], b"0", &dump]), "OK");
    check("delete and restore");
    conn.cmd(&["FLUSHALL"]);
    check("flush");
}

#[test]
fn after_a_promotion_leases_end_queues_work_and_the_third_stays_in_sync() {
    let (mut primary, replica, third) = (Server::start(), Server::start(), Server::start());
    follow(&replica, &primary);
    follow(&third, &replica);
    let newest = acquire(&primary, "for-ever o NOEXPIRE");
    acquire(&primary, "soon o PX 3000");
    // In one packet, so that the primary cannot end the lease before it is paused.
    let mut conn = primary.connect();
    conn.send_together(&[
        &["LOCK.ACQUIRE", "over", "o", "PX", "150"],
        &["CLIENT", "PAUSE", "20000", "WRITE"],
    ]);
    assert!(conn.read().int() > newest);
    assert_eq!(conn.read(), "OK");
    wait_until("the locks to arrive", || third.cmd(&["EXISTS", "over"]) == 1);
    primary.stop(Stop::Kill);
    let_pass(Duration::from_millis(200));
    assert_eq!(replica.cmd(&["EXISTS", "over"]), 1);

    // The first decisions fall in the packet of the promotion itself.
    let mut conn = replica.connect();
    conn.send_together(&[
        &["REPLICAOF", "NO", "ONE"],
        &["LOCK.ACQUIRE", "fresh", "o", "NOEXPIRE"],
        &["LOCK.ACQUIRE", "for-ever", "p"],
    ]);
    assert_eq!(conn.read(), "OK");
    assert!(conn.read().int() > newest);
    assert_eq!(conn.read(), Value::Nil);
    let mut next = in_line(&replica, "LOCK.ACQUIRE soon next BLOCK 0 NOEXPIRE");
    wait_until("the overdue lease to be over", || replica.cmd(&["EXISTS", "over"]) == 0);
    assert!(next.read().int() > newest, "served when the lease ended that the old primary gave");
    assert_eq!(conn.cmd(&["LOCK.RELEASE", "for-ever", "o"]), 1);
    wait_until("the third to be in sync", || digest(&third) == digest(&replica));
    assert_eq!(left(&third, "soon", "next"), -1);
    assert_eq!(third.cmd(&["DBSIZE"]), 2);
    let told = commands_in_backlog(&replica);
    assert!(told.len() >= 8, "{told:?}");
    assert_only_effects(&told);
    wait_quiet(&replica);
}

#[test]
fn a_promoted_replica_keeps_what_was_promised() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    for n in 0..50 {
        acquire(&primary, &format!("k{n} o PX {}", 20_000 + 1000 * n));
    }
    wait_replica_in_sync(&primary, &replica);
    promote(&replica);
    for n in 0..50 {
        let key = format!("k{n}");
        // The replica's clock starts when the effect arrives, which is later; so its hold lasts longer, not shorter. It is
        // asked first, as time may pass between the two.
        let there = left(&replica, &key, "o");
        let here = left(&primary, &key, "o");
        assert!(there + 5 >= here, "{here} ms are left here and {there} there");
        assert_eq!(replica.cmd(&["LOCK.ACQUIRE", &key, "p"]), Value::Nil);
    }
}

#[test]
fn without_enough_replicas_nothing_is_decided_not_even_for_those_who_wait() {
    let server = Server::start();
    acquire(&server, "k o PX 1000");
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    let mut briefly = in_line(&server, "LOCK.ACQUIRE k briefly BLOCK 2000");
    assert_eq!(server.cmd(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
    for words in [&["LOCK.ACQUIRE", "l", "o"][..], &["LOCK.RELEASE", "k", "o"], &["LOCK.RENEW", "k", "o"]] {
        assert!(server.cmd(words).error().starts_with("NOREPLICAS "), "{words:?}");
    }
    assert_eq!(left(&server, "l", "o"), 0);
    // That lasts longer than the lease.
    assert_eq!(briefly.read(), Value::Nil);
    assert_eq!((left(&server, "k", "o"), server.cmd(&["EXISTS", "k"])), (0, Value::Int(1)));
    next.expect_nothing_pending();
    assert_eq!(server.cmd(&["CONFIG", "SET", "min-replicas-to-write", "0"]), "OK");
    assert!(next.read().int() > 0);
    assert!(left(&server, "k", "next") > 0);
}

#[test]
fn a_primary_that_has_lost_its_replica_gives_no_lock_away_until_there_is_one_again() {
    for more in ["", "rename-command CONFIG \"\""] {
        gives_no_lock_away_until_there_is_a_replica_again(more);
    }
}

fn gives_no_lock_away_until_there_is_a_replica_again(more: &str) {
    let (primary, replica) =
        (Server::with(&["min-replicas-to-write 1", "min-replicas-max-lag 1", more]), Server::start());
    follow(&replica, &primary);
    wait_until("the replica to be near", || primary.info("replication")["min_slaves_good_slaves"] == "1");
    acquire(&primary, "k o PX 3000");
    let mut next = in_line(&primary, "LOCK.ACQUIRE k next BLOCK 0");
    replica.signal("STOP");
    wait_until("the replica to be far", || primary.info("replication")["min_slaves_good_slaves"] == "0");
    wait_until("the lease to be over", || left(&primary, "k", "o") == 0);
    assert!(primary.cmd(&["LOCK.ACQUIRE", "other", "o"]).error().starts_with("NOREPLICAS "));
    next.expect_nothing_pending();
    replica.signal("CONT");
    let fence = next.read().int();
    wait_until("the grant to arrive", || {
        let info = replica.cmd(&["LOCK.INFO", "k"]);
        info.field("holds").items().first().is_some_and(|hold| hold.field("fence").int() == fence)
    });
}

#[test]
fn fences_grow_over_a_failover_that_lost_grants() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    acquire(&primary, "k o");
    wait_replica_in_sync(&primary, &replica);
    promote(&replica);
    let mut lost = 0;
    for _ in 0..20 {
        assert_eq!(primary.cmd(&["DEL", "k"]), 1);
        lost = acquire(&primary, "k o");
    }
    assert_eq!(replica.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    assert!(acquire(&replica, "k p") > lost);
}

#[test]
fn a_demoted_server_sends_its_waiters_away_and_forgets_them() {
    let (primary, other) = (Server::start(), Server::start());
    acquire(&primary, "k o");
    let mut waiters: Vec<_> =
        (0..30).map(|n| in_line(&primary, &format!("LOCK.ACQUIRE k w{n} BLOCK 60000"))).collect();
    replica_of(&primary, &other);
    for waiter in &mut waiters {
        assert!(waiter.read().error().starts_with("UNBLOCKED "));
        waiter.expect_closed();
    }
    wait_quiet(&primary);
    assert_eq!(lock_stat(&primary, "waiter_bytes"), 0);
    wait_replica_in_sync(&other, &primary);
    assert_eq!(digest(&primary), digest(&other));
    // It decides again once it may, and nothing of the old queue is left.
    promote(&primary);
    acquire(&primary, "k o NOEXPIRE");
    let mut next = in_line(&primary, "LOCK.ACQUIRE k w0 BLOCK 0");
    assert_eq!(primary.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    assert!(next.read().int() > 0);
}

#[test]
fn a_thousand_waiters_are_sent_away_within_200_ms_of_a_demotion() {
    let (primary, other) = (Server::start(), Server::start());
    assert_takes_at_most(Duration::from_millis(200), || {
        promote(&primary);
        acquire(&primary, "k o NOEXPIRE");
        let mut waiters: Vec<_> =
            (0..1_000).map(|n| in_line(&primary, &format!("LOCK.ACQUIRE k w{n} BLOCK 0"))).collect();
        let start = Instant::now();
        replica_of(&primary, &other);
        for waiter in &mut waiters {
            assert!(waiter.read().error().starts_with("UNBLOCKED "));
        }
        start.elapsed()
    });
}

/// Whether the server has closed the connection.
fn is_closed(conn: &mut Connection) -> bool {
    conn.try_send(&["PING"]).is_err() || conn.try_read().is_err()
}

/// Clients of one kind: two that wait for what is written, and two that wait to read; the server's own command first.
fn of_each(server: &Server, before: &[&[&str]]) -> [Connection; 4] {
    let words: [&[&str]; 4] = [
        &["BLPOP", "list", "0"],
        &["LOCK.ACQUIRE", "k", "o2", "BLOCK", "0"],
        &["XREAD", "BLOCK", "0", "STREAMS", "stream", "$"],
        &["LOCK.AWAIT", "k", "FREE", "BLOCK", "0"],
    ];
    words.map(|words| {
        let blocked = server.info_int("clients", "blocked_clients");
        let mut conn = server.connect();
        // A server that does not know one of these refuses it.
        before.iter().for_each(|words| drop(conn.cmd(words)));
        conn.send(words);
        wait_blocked_clients(server, blocked + 1);
        conn
    })
}

#[test]
fn a_demoted_server_tells_a_client_what_it_tells_those_who_wait_for_lists() {
    const CAPA: &[&str] = &["CLIENT", "CAPA", "redirect"];
    const READONLY: &[&str] = &["READONLY"];
    for before in [&[][..], &[CAPA], &[READONLY], &[CAPA, READONLY]] {
        let (primary, other) = (Server::start(), Server::start());
        acquire(&primary, "k o NOEXPIRE");
        let [mut list, mut lock, mut stream, mut watcher] = of_each(&primary, before);
        replica_of(&primary, &other);
        let reads_on = primary.is_valkey() && before.contains(&READONLY);
        let reply = list.read();
        assert_eq!(lock.read(), reply, "{before:?}");
        let sent = format!("REDIRECT 127.0.0.1:{}", other.port());
        assert_eq!(
            reply == sent.as_str(),
            primary.is_valkey() && before.contains(&CAPA),
            "{before:?}: {reply:?}"
        );
        if reads_on {
            // Both go on: here the lock is free when the new data are there.
            assert_eq!(watcher.read(), 1);
            wait_blocked_clients(&primary, 1);
        } else {
            assert_eq!(watcher.read(), stream.read(), "{before:?}");
        }
        assert_eq!(is_closed(&mut lock), is_closed(&mut list), "{before:?}");
        wait_until("nobody to wait", || {
            lock_stat(&primary, "waiting") + lock_stat(&primary, "observing") == 0
        });
    }
}

#[test]
fn who_watches_for_what_only_a_primary_knows_is_sent_there() {
    let (primary, other) = (Server::start(), Server::start());
    acquire(&primary, "k o NOEXPIRE");
    let wait = |words: &[&str]| {
        let blocked = primary.info_int("clients", "blocked_clients");
        let mut conn = primary.connect();
        conn.cmd(&["READONLY"]);
        conn.send(words);
        wait_blocked_clients(&primary, blocked + 1);
        conn
    };
    let mut list = wait(&["BLPOP", "list", "0"]);
    let mut stream = wait(&["XREAD", "BLOCK", "0", "STREAMS", "stream", "$"]);
    let mut holder = wait(&["LOCK.AWAIT", "k", "o", "WANTED", "BLOCK", "0"]);
    replica_of(&primary, &other);
    let told = list.read();
    if primary.is_valkey() {
        // As one that asks again is refused.
        assert_eq!(holder.read(), format!("REDIRECT 127.0.0.1:{}", other.port()).as_str());
        wait_blocked_clients(&primary, 1);
        stream.expect_nothing_pending();
    } else {
        assert_eq!((holder.read(), stream.read()), (told.clone(), told));
    }
    wait_until("nobody to watch", || lock_stat(&primary, "observing") == 0);
}

#[test]
fn a_failover_tells_a_client_what_it_tells_those_who_wait_for_lists() {
    for before in [&[][..], &[&["CLIENT", "CAPA", "redirect"][..]]] {
        let (primary, replica) = (Server::start(), Server::start());
        follow(&replica, &primary);
        acquire(&primary, "k o NOEXPIRE");
        wait_replica_in_sync(&primary, &replica);
        let [mut list, mut lock, mut stream, mut watcher] = of_each(&primary, before);
        assert_eq!(primary.cmd(&["FAILOVER"]), "OK");
        let reply = list.read();
        for conn in [&mut lock, &mut stream, &mut watcher] {
            assert_eq!(conn.read(), reply);
        }
        let can_go = primary.is_valkey() && !before.is_empty();
        assert_eq!(reply == format!("REDIRECT 127.0.0.1:{}", replica.port()).as_str(), can_go, "{reply:?}");
        assert_eq!(is_closed(&mut lock), !can_go);
        wait_quiet(&primary);
    }
}

#[test]
fn a_failover_that_is_given_up_ends_no_wait_that_the_server_would_not_end() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    acquire(&primary, "k o NOEXPIRE");
    wait_replica_in_sync(&primary, &replica);
    let [mut list, mut lock, _, _] = of_each(&primary, &[]);
    replica.signal("STOP");
    let port = replica.port().to_string();
    assert_eq!(primary.cmd(&["FAILOVER", "TO", "127.0.0.1", &port, "FORCE", "TIMEOUT", "50"]), "OK");
    wait_until("nobody to be the primary", || {
        primary.info("replication")["master_failover_state"] == "failover-in-progress"
    });
    let_pass(Duration::from_millis(250));
    assert!(primary.cmd(&["LOCK.RELEASE", "k", "o"]).error().starts_with("READONLY "));
    assert_eq!(primary.cmd(&["FAILOVER", "ABORT"]), "OK");
    replica.signal("CONT");
    wait_until("it to be a primary again", || primary.info("replication")["role"] == "master");
    assert_eq!(primary.cmd(&["RPUSH", "list", "x"]), 1);
    assert_eq!(primary.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    let (list, lock) = (list.read(), lock.read());
    println!("{list:?} {lock:?}");
    match list {
        Value::Error(_) => assert_eq!(lock, list),
        _ => assert!(lock.int() > 0, "{lock:?}"),
    }
}

#[test]
fn a_grant_in_the_packet_of_the_demotion_harms_nobody() {
    let (primary, other) = (Server::start(), Server::start());
    let mut conn = primary.connect();
    acquire_by(&mut conn, "k o");
    let mut next = in_line(&primary, "LOCK.ACQUIRE k next BLOCK 0");
    let port = other.port().to_string();
    conn.send_together(&[&["LOCK.RELEASE", "k", "o"], &["REPLICAOF", "127.0.0.1", &port]]);
    assert_eq!(conn.read(), 1);
    assert_eq!(conn.read(), "OK");
    // Granted before it was sent away, or sent away before it could hear of the grant.
    let reply = next.try_read();
    assert!(matches!(reply, Ok(Value::Int(_) | Value::Error(_)) | Err(_)), "{reply:?}");
    wait_replica_in_sync(&other, &primary);
    assert_eq!(digest(&primary), digest(&other));
    wait_quiet(&primary);
}

#[test]
fn a_coordinated_failover_with_waiters_and_leases_loses_nothing() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let newest = acquire(&primary, "for-ever o NOEXPIRE");
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    for key in &keys {
        acquire(&primary, &format!("{key} o"));
    }
    let mut waiters: Vec<_> =
        (90..100).map(|n| in_line(&primary, &format!("LOCK.ACQUIRE k{n} next BLOCK 0 PX 100"))).collect();
    let mut stays = in_line(&primary, "LOCK.ACQUIRE for-ever next BLOCK 0");
    // Leases that end before, while and after the roles change.
    let leases: Vec<String> = (0..100).map(|n| (1 + 5 * n).to_string()).collect();
    let renewals: Vec<_> =
        keys.iter().zip(&leases).map(|(key, lease)| ["LOCK.RENEW", key, "o", "PX", lease]).collect();
    let mut commands: Vec<&[&str]> = renewals.iter().map(|words| &words[..]).collect();
    commands.push(&["FAILOVER"]);
    assert_eq!(at_once(&primary, &commands).pop(), Some(Value::Simple("OK".into())));
    wait_until("the roles to change", || {
        primary.info("replication")["role"] == "slave" && replica.info("replication")["role"] == "master"
    });
    // Each was granted before the failover or sent away by it.
    for waiter in &mut waiters {
        match waiter.try_read() {
            Ok(Value::Int(fence)) => assert!(fence > newest),
            Ok(Value::Error(text)) => assert!(text.starts_with("UNBLOCKED "), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(stays.read().error().starts_with("UNBLOCKED "));
    wait_replica_in_sync(&replica, &primary);
    wait_until("the leases to be over", || replica.cmd(&["DBSIZE"]) == 1);
    wait_replica_in_sync(&replica, &primary);
    assert_eq!(digest(&primary), digest(&replica));
    assert_eq!(left(&replica, "for-ever", "o"), -1);
    for server in [&primary, &replica] {
        wait_blocked_clients(server, 0);
        wait_quiet(server);
    }
}

#[test]
fn the_aof_of_a_replica_holds_the_effects_and_brings_them_back() {
    for preamble in ["yes", "no"] {
        let preamble = format!("aof-use-rdb-preamble {preamble}");
        let (primary, mut replica) =
            (Server::start(), Server::with(&["appendonly yes", "appendfsync always", &preamble]));
        follow(&replica, &primary);
        wait_no_child(&replica);
        acquire(&primary, "k o PX 500000");
        let mut next = in_line(&primary, "LOCK.ACQUIRE k next BLOCK 0 NOEXPIRE NOTE n");
        assert_eq!(primary.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
        next.read().int();
        let traffic = Traffic::start(&primary, 2);
        traffic.go_on();
        traffic.stop();
        wait_replica_in_sync(&primary, &replica);
        let before = digest(&primary);
        assert_eq!(digest(&replica), before);
        // Alone it is a primary, with what its own file says.
        replica.restart(Stop::Kill);
        assert_eq!(replica.info("replication")["role"], "master");
        assert_eq!(digest(&replica), before);
        assert_eq!(left(&replica, "k", "next"), -1);
    }
}
