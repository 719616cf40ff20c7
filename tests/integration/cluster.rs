//! Cluster mode: commands go to the node that has the slot, a lock moves with its slot, and a node that has lost a slot grants
//! nothing in it any more. The nodes are this test's own, on loopback, and found by nobody else.

mod slots;

use std::time::{Duration, Instant};

use crate::steps::{acquire, acquire_by, digest, in_line, watch};
use crate::support::wait::{
    assert_takes_at_most, let_pass, wait_blocked_clients, wait_replica_in_sync, wait_waiting,
};
use crate::support::{skip, wait_until, Connection, Server, Setup, Value};
use crate::traffic::{at_once, left, lock_stat, wait_quiet};

/// Keys of the lower and of the upper half of the slots: 0..=8191 and 8192..=16383. Checked before they are used.
const LOW: &str = "bar";
const HIGH: &str = "foo";
const SLOTS: i64 = 16_384;

fn node(more: &[&str]) -> Server {
    let conf = ["cluster-enabled yes", "cluster-node-timeout 3000", "cluster-replica-validity-factor 0"];
    Setup::new().conf(&conf).conf(more).start()
}

fn ok(server: &Server, words: &[&str]) {
    assert_eq!(server.cmd(words), "OK", "{words:?}");
}

fn slot(server: &Server, key: &str) -> i64 {
    server.cmd(&["CLUSTER", "KEYSLOT", key]).int()
}

fn id(server: &Server) -> String {
    server.cmd(&["CLUSTER", "MYID"]).text()
}

fn wait_cluster_is(server: &Server, state: &str) {
    let line = format!("cluster_state:{state}");
    wait_until(&line, || server.cmd(&["CLUSTER", "INFO"]).text().contains(&line));
}

/// One node with all slots. It serves what it has, also when a slot is missing.
pub(crate) fn single() -> Server {
    let server = node(&["cluster-require-full-coverage no"]);
    ok(&server, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait_cluster_is(&server, "ok");
    server
}

/// A node with the lower half of the slots and one with the upper half.
fn pair() -> (Server, Server) {
    let (low, high) = (node(&[]), node(&[]));
    ok(&low, &["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
    ok(&high, &["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
    ok(&high, &["CLUSTER", "SET-CONFIG-EPOCH", "2"]);
    ok(&low, &["CLUSTER", "MEET", "127.0.0.1", &high.port().to_string()]);
    for server in [&low, &high] {
        wait_cluster_is(server, "ok");
    }
    assert!(slot(&low, LOW) < SLOTS / 2 && slot(&low, HIGH) >= SLOTS / 2);
    (low, high)
}

fn assert_turned_away(conn: &mut Connection) {
    let reply = conn.read();
    let text = reply.error();
    assert!(text.starts_with("TRYAGAIN ") || text.starts_with("MOVED "), "{text}");
}

#[test]
fn commands_go_to_the_node_that_has_the_slot() {
    let (low, high) = pair();
    for (server, own, foreign, other) in [(&low, LOW, HIGH, &high), (&high, HIGH, LOW, &low)] {
        let moved = format!("MOVED {} 127.0.0.1:{}", slot(server, foreign), other.port());
        for words in [
            &["LOCK.ACQUIRE", foreign, "o"][..],
            &["LOCK.ACQUIRE", foreign, "o", "BLOCK", "0"],
            &["LOCK.RELEASE", foreign, "o"],
            &["LOCK.RENEW", foreign, "o"],
            &["LOCK.CHECK", foreign, "o"],
            &["LOCK.AWAIT", foreign, "FREE"],
            &["LOCK.AWAIT", foreign, "CHANGED", "BLOCK", "0"],
            &["LATCH.AWAIT", foreign, "BLOCK", "0"],
            &["LOCK.REVOKE", foreign],
            &["LOCK.INFO", foreign],
            &["LOCK.WAITERS", foreign],
        ] {
            assert_eq!(server.cmd(words), moved.as_str(), "{words:?}");
        }
        acquire(server, &format!("{own} o"));
        // The tag decides, not the rest of the name.
        acquire(server, &format!("{{{own}}}:{foreign} o"));
        assert_eq!(server.cmd(&["LOCK.RELEASE", own, "o"]), 1);
    }
}

#[test]
fn who_waits_for_a_lock_in_a_lost_slot_is_turned_away_and_nobody_else() {
    let server = single();
    acquire(&server, &format!("{LOW} o"));
    acquire(&server, &format!("{HIGH} o NOEXPIRE"));
    let mut lost: Vec<_> =
        (0..5).map(|n| in_line(&server, &format!("LOCK.ACQUIRE {LOW} w{n} BLOCK 0"))).collect();
    acquire(&server, "{bar}watched o NOEXPIRE");
    lost.extend([LOW, "{bar}watched"].map(|key| watch(&server, &format!("LOCK.AWAIT {key} FREE BLOCK 0"))));
    lost.push(watch(&server, "LATCH.AWAIT {bar}latch BLOCK 0"));
    let mut stays = in_line(&server, &format!("LOCK.ACQUIRE {HIGH} w BLOCK 0"));
    let mut free = watch(&server, &format!("LOCK.AWAIT {HIGH} FREE BLOCK 0"));
    let granted = lock_stat(&server, "granted");
    let slot = slot(&server, LOW).to_string();
    at_once(&server, &[&["LOCK.RENEW", LOW, "o", "PX", "300"], &["CLUSTER", "DELSLOTS", &slot]]);
    lost.iter_mut().for_each(assert_turned_away);
    // The lease ends meanwhile, and still nobody is granted anything.
    let_pass(Duration::from_millis(500));
    assert_eq!(lock_stat(&server, "granted"), granted);
    assert_eq!(server.cmd(&["LOCK.RELEASE", HIGH, "o"]), 1);
    assert!(stays.read().int() > 0);
    assert_eq!(server.cmd(&["LOCK.RELEASE", HIGH, "w"]), 1);
    assert_eq!(free.read(), 1);
    wait_quiet(&server);
}

#[test]
fn a_thousand_waiters_are_turned_away_within_200_ms_of_the_loss_of_their_slot() {
    let server = single();
    let slot = slot(&server, LOW).to_string();
    assert_takes_at_most(Duration::from_millis(200), || {
        acquire(&server, &format!("{LOW} o NOEXPIRE"));
        let mut lost: Vec<_> =
            (0..1_000).map(|n| in_line(&server, &format!("LOCK.ACQUIRE {LOW} w{n} BLOCK 0"))).collect();
        let start = Instant::now();
        ok(&server, &["CLUSTER", "DELSLOTS", &slot]);
        lost.iter_mut().for_each(assert_turned_away);
        let slowest = start.elapsed();
        ok(&server, &["CLUSTER", "ADDSLOTS", &slot]);
        wait_cluster_is(&server, "ok");
        assert_eq!(server.cmd(&["DEL", LOW]), 1);
        slowest
    });
}

#[test]
fn a_lease_that_ends_while_the_slot_is_away_is_seen_to_when_it_comes_back() {
    let server = single();
    let slot = slot(&server, LOW).to_string();
    at_once(&server, &[&["LOCK.ACQUIRE", LOW, "o", "PX", "200"], &["CLUSTER", "DELSLOTS", &slot]]);
    let_pass(Duration::from_millis(400));
    ok(&server, &["CLUSTER", "ADDSLOTS", &slot]);
    wait_until("the lock to be free", || server.cmd(&["DBSIZE"]) == 0);
    assert_eq!(lock_stat(&server, "expired"), 1);
}

#[test]
fn a_lease_that_ends_while_the_cluster_is_down_is_seen_to_afterwards() {
    let server = node(&["cluster-require-full-coverage yes"]);
    ok(&server, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait_cluster_is(&server, "ok");
    acquire(&server, "{foo}2 o NOEXPIRE");
    let low = slot(&server, LOW).to_string();
    at_once(&server, &[&["LOCK.ACQUIRE", HIGH, "o", "PX", "300"], &["CLUSTER", "DELSLOTS", &low]]);
    wait_cluster_is(&server, "fail");
    let_pass(Duration::from_millis(400));
    ok(&server, &["CLUSTER", "ADDSLOTS", &low]);
    wait_cluster_is(&server, "ok");
    wait_until("the lock to be free", || server.cmd(&["DBSIZE"]) == 1);
    assert_eq!(left(&server, "{foo}2", "o"), -1);
}

/// Prepares the move of a slot, key by key.
fn open_slot(key: &str, from: &Server, to: &Server) {
    let slot = slot(from, key).to_string();
    ok(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
    ok(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
}

/// Ends the move of a slot.
fn close_slot(key: &str, from: &Server, to: &Server) {
    let slot = slot(from, key).to_string();
    ok(to, &["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
    ok(from, &["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
}

fn migrate(key: &str, from: &Server, to: &Server) {
    ok(from, &["MIGRATE", "127.0.0.1", &to.port().to_string(), key, "0", "5000"]);
}

#[test]
fn a_lock_moves_with_its_lease_and_its_fence() {
    let (low, high) = pair();
    let fence = acquire(&low, &format!("{LOW} o PX 600000 NOTE n"));
    let short = acquire(&low, "{bar}short o PX 3000");
    let start = Instant::now();
    let mut first = in_line(&low, &format!("LOCK.ACQUIRE {LOW} first BLOCK 0"));
    let mut second = in_line(&low, "LOCK.ACQUIRE {bar}short second BLOCK 0");
    let mut observer = watch(&low, &format!("LOCK.AWAIT {LOW} FREE BLOCK 0"));
    let granted = lock_stat(&low, "granted");

    open_slot(LOW, &low, &high);
    // As long as the key is here, so is the lock.
    assert_eq!(low.cmd(&["LOCK.ACQUIRE", LOW, "p"]), Value::Nil);
    assert!(left(&low, LOW, "o") > 0);
    first.expect_nothing_pending();
    migrate(LOW, &low, &high);
    migrate("{bar}short", &low, &high);
    assert_turned_away(&mut first);
    assert_turned_away(&mut second);
    assert_turned_away(&mut observer);
    assert!(low.cmd(&["LOCK.ACQUIRE", LOW, "p"]).error().starts_with("ASK "));
    close_slot(LOW, &low, &high);
    assert!(low.cmd(&["LOCK.ACQUIRE", LOW, "p"]).error().starts_with("MOVED "));
    assert_eq!(lock_stat(&low, "granted"), granted, "granted on the node that has it no more");
    assert_eq!((lock_stat(&low, "held"), lock_stat(&low, "lease_index_entries")), (0, 0));
    wait_quiet(&low);

    let left_ms = left(&high, LOW, "o");
    assert!(left_ms > 590_000 && left_ms <= 600_000, "{left_ms}");
    let info = high.cmd(&["LOCK.INFO", LOW]);
    let hold = &info.field("holds").items()[0];
    assert_eq!((hold.field("fence").int(), hold.field("note").text()), (fence, "n".into()));
    let mut next = in_line(&high, &format!("LOCK.ACQUIRE {LOW} next BLOCK 0"));
    let mut after = in_line(&high, "LOCK.ACQUIRE {bar}short after BLOCK 0");
    assert_eq!(high.cmd(&["LOCK.RELEASE", LOW, "o", "FENCE", &fence.to_string()]), 1);
    assert!(next.read().int() > fence);
    assert!(after.read().int() > short, "served when the lease ended that came along");
    assert!(start.elapsed() >= Duration::from_millis(2990), "{:?}", start.elapsed());
}

#[test]
fn a_hand_off_in_a_slot_that_is_about_to_move_stays_on_this_node() {
    let (low, high) = pair();
    acquire(&low, &format!("{LOW} o NOEXPIRE"));
    let mut next = in_line(&low, &format!("LOCK.ACQUIRE {LOW} next BLOCK 0 NOEXPIRE"));
    let mut last = in_line(&low, &format!("LOCK.ACQUIRE {LOW} last BLOCK 0"));
    open_slot(LOW, &low, &high);
    assert_eq!(low.cmd(&["LOCK.RELEASE", LOW, "o"]), 1);
    let fence = next.read().int();
    migrate(LOW, &low, &high);
    assert_turned_away(&mut last);
    close_slot(LOW, &low, &high);
    assert_eq!(high.cmd(&["LOCK.CHECK", LOW, "next", "FENCE", &fence.to_string()]), -1);
    assert_eq!(left(&high, LOW, "next"), -1);
    wait_quiet(&low);
}

#[test]
fn whole_slots_move_at_once_where_the_server_can() {
    let (low, high) = pair();
    if !low.is_valkey() {
        skip("the move of a whole slot at once", "this server has no CLUSTER MIGRATESLOTS");
        return;
    }
    let slot = slot(&low, LOW).to_string();
    let mut conn = low.connect();
    let fence = acquire_by(&mut conn, &format!("{LOW} o PX 600000 NOTE n"));
    let mut first = in_line(&low, &format!("LOCK.ACQUIRE {LOW} first BLOCK 0"));
    let mut observer = watch(&low, &format!("LOCK.AWAIT {LOW} FREE BLOCK 0"));
    // Leases that end before, while and after the slot moves.
    for n in 0..200 {
        acquire_by(&mut conn, &format!("{{bar}}{n} o PX {}", 10 + 15 * n));
    }
    let mut waiters: Vec<_> = (0..20)
        .map(|n| in_line(&low, &format!("LOCK.ACQUIRE {{bar}}{} next BLOCK 0 PX 100", 180 + n)))
        .collect();
    ok(&low, &["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", &slot, &slot, "NODE", &id(&high)]);
    wait_until("the slot to move", || matches!(low.cmd(&["LOCK.INFO", LOW]), Value::Error(_)));
    wait_until("the slot to arrive", || matches!(high.cmd(&["LOCK.INFO", LOW]), Value::Array(_)));
    assert_turned_away(&mut first);
    assert_turned_away(&mut observer);
    for waiter in &mut waiters {
        assert!(matches!(waiter.read(), Value::Int(_) | Value::Error(_)));
    }
    assert_eq!(high.cmd(&["LOCK.CHECK", LOW, "o", "FENCE", "1"]), 0);
    let left_ms = high.cmd(&["LOCK.CHECK", LOW, "o", "FENCE", &fence.to_string()]).int();
    assert!(left_ms > 590_000 && left_ms <= 600_000, "{left_ms}");
    wait_until("the other leases to be over", || high.cmd(&["DBSIZE"]) == 1);
    wait_until("the source to be empty", || low.cmd(&["DBSIZE"]) == 0);
    assert_eq!(lock_stat(&low, "lease_index_entries"), 0);
    wait_quiet(&low);
    let mut next = in_line(&high, &format!("LOCK.ACQUIRE {LOW} next BLOCK 0"));
    assert_eq!(high.cmd(&["LOCK.RELEASE", LOW, "o"]), 1);
    assert!(next.read().int() > fence);
}

/// A primary with all slots and its replica, each known to the other; a window opens after whatever may have lost grants.
fn with_replica() -> (Server, Server) {
    let primary = single();
    let replica = node(&["cluster-require-full-coverage no", "lock.recovery-window-ms -1"]);
    ok(&primary, &["CLUSTER", "MEET", "127.0.0.1", &replica.port().to_string()]);
    wait_until("the nodes to know each other", || {
        replica.cmd(&["CLUSTER", "NODES"]).text().contains(&id(&primary))
            && replica.cmd(&["CLUSTER", "INFO"]).text().contains("cluster_slots_assigned:16384")
    });
    ok(&replica, &["CLUSTER", "REPLICATE", &id(&primary)]);
    wait_replica_in_sync(&primary, &replica);
    let theirs = format!("slave {}", id(&primary));
    wait_until("the primary to know its replica", || {
        primary.cmd(&["CLUSTER", "NODES"]).text().contains(&theirs)
    });
    (primary, replica)
}

#[test]
fn a_failover_in_the_cluster_sends_waiters_away_and_keeps_the_locks() {
    let (primary, replica) = with_replica();
    let fence = acquire(&primary, &format!("{LOW} o NOEXPIRE"));
    acquire(&primary, "short o PX 700");
    let mut first = in_line(&primary, &format!("LOCK.ACQUIRE {LOW} first BLOCK 0"));
    let mut list = primary.connect();
    list.send(&["BLPOP", &format!("{{{LOW}}}list"), "0"]);
    wait_blocked_clients(&primary, 2);
    wait_replica_in_sync(&primary, &replica);
    // A replica answers for its primary only those who say that they want to read.
    assert!(replica.cmd(&["LOCK.CHECK", LOW, "o"]).error().starts_with("MOVED "));
    let mut reader = replica.connect();
    assert_eq!(reader.cmd(&["READONLY"]), "OK");
    assert_eq!(reader.cmd(&["LOCK.CHECK", LOW, "o"]), -1);
    assert_eq!(reader.cmd(&["LOCK.AWAIT", LOW, "FREE"]), Value::Nil);
    for request in
        [&["LOCK.AWAIT", LOW, "FREE", "BLOCK", "0"][..], &["LATCH.AWAIT", "{bar}latch", "BLOCK", "0"]]
    {
        let refused = reader.cmd(request);
        assert!(refused.error().starts_with("READONLY this server is a replica in a cluster"), "{refused:?}");
    }

    wait_until("the failover to be accepted", || replica.cmd(&["CLUSTER", "FAILOVER"]) == "OK");
    wait_until("the roles to change", || {
        replica.info("replication")["role"] == "master" && primary.info("replication")["role"] == "slave"
    });
    // Some servers tell where to go.
    let reply = first.read();
    assert_eq!(reply, list.read());
    let moved = format!(":{}", replica.port());
    assert_eq!(reply.error().starts_with("MOVED ") && reply.error().ends_with(&moved), primary.is_valkey());
    wait_quiet(&primary);
    wait_until("the new primary to serve", || {
        matches!(replica.cmd(&["LOCK.CHECK", LOW, "o"]), Value::Int(_))
    });
    assert_eq!(left(&replica, LOW, "o"), -1);
    assert_eq!(replica.cmd(&["LOCK.RECOVERY"]), 0, "the primary handed over, and nothing was lost");
    wait_until("the short lease to be over", || replica.cmd(&["DBSIZE"]) == 1);
    wait_waiting(&replica, LOW, 0);
    let mut next = in_line(&replica, &format!("LOCK.ACQUIRE {LOW} next BLOCK 0"));
    assert_eq!(replica.cmd(&["LOCK.RELEASE", LOW, "o"]), 1);
    assert!(next.read().int() > fence);
    wait_replica_in_sync(&replica, &primary);
    assert_eq!(digest(&primary), digest(&replica));
}

#[test]
fn a_failover_that_does_not_ask_the_primary_opens_a_window() {
    for how in ["FORCE", "TAKEOVER"] {
        let (primary, replica) = with_replica();
        acquire(&primary, &format!("{LOW} o NOEXPIRE"));
        wait_replica_in_sync(&primary, &replica);
        wait_until("the failover to be accepted", || replica.cmd(&["CLUSTER", "FAILOVER", how]) == "OK");
        wait_until("the roles to change", || replica.info("replication")["role"] == "master");
        assert!(replica.cmd(&["LOCK.RECOVERY"]).int() > 0, "{how}");
    }
}

/// Makes a server refuse what scripts and modules ask of it, if it can be brought to that; whether it does.
fn refuses_calls(server: &Server) -> bool {
    let crossing = format!("redis.pcall('MSET', '{LOW}', '1', '{HIGH}', '1') return 1");
    server.cmd(&["EVAL", &crossing, "0"]);
    matches!(server.cmd(&["EVAL", "return redis.call('DBSIZE')", "0"]), Value::Error(_))
}

#[test]
fn a_server_that_refuses_calls_hands_over_and_says_what_is_the_matter() {
    const REFUSED: &str =
        "INTERNAL this server refuses what modules and scripts ask of it, since a script ran a command \
                           with keys of two slots; restart the server";
    let server = single();
    let fence = acquire(&server, "{a}lock o NOEXPIRE").to_string();
    acquire(&server, "{b}lock o NOEXPIRE");
    let guard = ["LOCK.GUARD", "{a}lock", "o", &fence, "GET", "{a}text"];
    let register = ["LOCK.FENCE", "{a}register", "7"];
    assert_eq!(server.cmd(&guard), Value::Nil);
    let is_broken = refuses_calls(&server);
    assert_eq!(is_broken, server.is_valkey());
    if is_broken {
        // The first time without, the second time with what is known of the inner command.
        assert_eq!(server.cmd(&guard), REFUSED);
        assert_eq!(server.cmd(&["LOCK.GUARD", "{a}lock", "o", &fence, "STRLEN", "{a}text"]), REFUSED);
        assert_eq!(server.cmd(&register), REFUSED);
        let line = format!("lock: {REFUSED}");
        assert_eq!(server.log().matches(&line).count(), 1);
    } else {
        assert_eq!(server.cmd(&guard), Value::Nil);
        assert_eq!(server.cmd(&register), 1);
    }

    // However many are blocked and let go, which shuffles what the server has at hand for calls, nobody is sent away.
    for count in 1..=4 {
        let mut watchers: Vec<Connection> = Vec::new();
        for _ in 0..count {
            watchers.push(watch(&server, "LOCK.AWAIT {b}lock FREE BLOCK 0"));
        }
        let mut next = in_line(&server, "LOCK.ACQUIRE {a}lock next BLOCK 0");
        // The cron looks for slots that have moved, while all wait and when some have been let go.
        let cron = Duration::from_millis(350);
        let_pass(cron);
        watchers.iter_mut().for_each(Connection::expect_nothing_pending);
        next.expect_nothing_pending();
        assert_eq!(server.cmd(&["LOCK.RELEASE", "{b}lock", "o"]), 1);
        for watcher in &mut watchers {
            assert_eq!(watcher.read(), 1);
        }
        let_pass(cron);
        next.expect_nothing_pending();
        assert_eq!(server.cmd(&["LOCK.RELEASE", "{a}lock", "o"]), 1);
        assert!(next.read().int() > 0);
        assert_eq!(server.cmd(&["LOCK.RELEASE", "{a}lock", "next"]), 1);
        acquire(&server, "{a}lock o NOEXPIRE");
        acquire(&server, "{b}lock o NOEXPIRE");
    }
    wait_quiet(&server);
}
