//! After a failover nothing is granted for a while, and holds that the old primary granted behind what its replica had heard
//! come back meanwhile.

use std::sync::mpsc::channel;
use std::time::Duration;

use crate::backlog::{assert_only_effects, commands_in_backlog, commands_since};
use crate::broken_sync::{play_primary, snapshot_of};
use crate::steps::{ask, digest};
use crate::support::server::Setup;
use crate::support::stream::step;
use crate::support::wait::{let_pass, wait_blocked_clients, wait_replica_in_sync, DEADLINE};
use crate::support::{assert_stream, wait_until, Connection, ReplicaStream, Server, Stop, Value};
use crate::traffic::{
    acquire_on, at_once, follow, left, lock_stat, wait_no_child, wait_same_data, waiter, ALL,
};

/// Longer than any test.
const LONG: &str = "lock.recovery-window-ms 100000";

/// A primary that was promoted while the old one went on, so that it has never heard of what the old one grants from here on.
fn failover(window: &str) -> (Server, Server) {
    let (old, new) = (Server::start(), Server::with(&[window]));
    follow(&new, &old);
    acquire_on(&old, &["known", "o", "PX", "60000"]);
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

#[test]
fn a_hold_that_was_lost_comes_back_and_nobody_else_has_it() {
    let (mut old, new) = failover(LONG);
    let fence = acquire_on(&old, &["k", "alice", "PX", "60000"]);
    old.stop(Stop::Kill);
    let third = Server::start();
    follow(&third, &new);
    let refused = ask(&new, "LOCK.ACQUIRE k bob WITHINFO");
    assert_eq!((refused.field("result"), refused.field("reason").text()), (&Value::Nil, "recovering".into()));
    assert!((90_000..=100_000).contains(&refused.field("lease-ms").int()), "{refused:?}");
    let mut bob = waiter(&new, &["k", "bob", "BLOCK", "0", "PX", "60000"]);
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
    let shared = acquire_on(&old, &["known", "z", "SHARED"]);
    assert_eq!(ask(&new, "LOCK.CONVERT known o EXCLUSIVE"), Value::Nil, "it may not be alone");
    assert_eq!(ask(&new, &format!("LOCK.RENEW known z SHARED FENCE {shared}")), 30_000);
}

#[test]
fn the_window_closes_by_itself_and_serves_those_who_waited() {
    let (_old, new) = failover("lock.recovery-window-ms 300");
    let mut next = waiter(&new, &["k", "next", "BLOCK", "0"]);
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
fn of_holds_that_cannot_have_stood_together_the_newest_stands() {
    let (old, new) = failover(LONG);
    let renew = |line: &str, fence: i64| ask(&new, &format!("LOCK.RENEW {line} PX 60000 FENCE {fence}"));
    // Exclusive: whoever had it before is told so.
    let first = acquire_on(&old, &["k", "first"]);
    assert_eq!(ask(&old, "LOCK.RELEASE k first"), 1);
    let second = acquire_on(&old, &["k", "second"]);
    assert_eq!(renew("k first", first), 60_000);
    assert_eq!(renew("k second", second), 60_000);
    assert_eq!(renew("k first", first), 0);
    let lost = ask(&new, &format!("LOCK.CHECK k first FENCE {first} WITHINFO"));
    assert_eq!(lost.field("reason").text(), "displaced");
    assert_eq!((lock_stat(&new, "reinstated"), lock_stat(&new, "displaced")), (2, 1));
    // The other way round the older one does not come back at all.
    let older = acquire_on(&old, &["l", "first"]);
    assert_eq!(ask(&old, "LOCK.RELEASE l first"), 1);
    let newer = acquire_on(&old, &["l", "second"]);
    assert_eq!(renew("l second", newer), 60_000);
    assert_eq!(renew("l first", older), 0);
    assert!(left(&new, "l", "second") > 0);
    assert_eq!(lock_stat(&new, "displaced"), 1);
    // What has come back and was given back stays away, and what came before it too.
    assert_eq!(ask(&new, &format!("LOCK.RELEASE k second FENCE {second}")), 1);
    assert_eq!(renew("k second", second), 0);
    assert_eq!(renew("k first", first), 0);
    // Nothing is needed of what was never granted.
    assert_eq!(renew("k first", second + 3_600_000_000_000), 0);

    let readers: Vec<i64> = ["r", "s"].map(|owner| acquire_on(&old, &["readers", owner, "SHARED"])).to_vec();
    assert_eq!(renew("readers s SHARED", readers[1]), 60_000);
    assert_eq!(renew("readers r SHARED", readers[0]), 60_000, "the older one stands beside it");
    let permits = ["a", "b"].map(|owner| acquire_on(&old, &["pool", owner, "LIMIT", "4", "PERMITS", "2"]));
    assert_eq!(renew("pool a LIMIT 4 PERMITS 2", permits[0]), 60_000);
    assert_eq!(renew("pool b LIMIT 4 PERMITS 2", permits[1]), 60_000);
    assert_eq!(ask(&new, "LOCK.INFO pool").field("holds").items().len(), 2);
    // Several together, all or none.
    let both = ask(&old, "LOCK.MACQUIRE both 2 x y").int();
    let line = format!("LOCK.MRENEW both 60000 2 x y FENCE {both}");
    assert_eq!(ask(&new, &line), Value::Array(vec![Value::Int(60_000), Value::Int(60_000)]));
    assert_eq!(ask(&new, &format!("LOCK.MRELEASE both 2 x y FENCE {both}")), 2);
    let lost = ask(&old, "LOCK.MACQUIRE gone 2 v w").int();
    assert_eq!(ask(&new, &format!("LOCK.MRELEASE gone 2 v w FENCE {lost}")), 2, "it was never known here");
}

#[test]
fn a_lease_that_is_over_is_kept_for_its_owner_whose_renewal_may_be_lost() {
    let (old, new) = (Server::start(), Server::with(&[LONG]));
    follow(&new, &old);
    // In one packet, so that the primary cannot end the lease before it is paused.
    at_once(&old, &[&["LOCK.ACQUIRE", "over", "o", "PX", "50"], &["CLIENT", "PAUSE", "60000", "WRITE"]]);
    wait_until("the lock to arrive and its lease to be over", || {
        new.cmd(&["EXISTS", "over"]) == 1 && left(&new, "over", "o") == 0
    });
    let (primary, replica) = (Server::start(), Server::with(&[LONG]));
    follow(&replica, &primary);
    acquire_on(&primary, &["soon", "o", "PX", "5000"]);
    wait_replica_in_sync(&primary, &replica);
    for server in [&new, &replica] {
        assert_eq!(ask(server, "REPLICAOF NO ONE"), "OK");
    }
    assert_eq!(ask(&new, "LOCK.RENEW over o PX 50000"), 50_000, "before the window opened");
    wait_until("its lease to be over", || left(&replica, "soon", "o") == 0);
    assert_eq!(ask(&replica, "LOCK.RENEW soon o PX 50000"), 50_000, "while it is open");
    assert!(ask(&new, "LOCK.RECOVERY END").int() > 0);
    assert_eq!(ask(&new, "LOCK.RELEASE over o"), 1);
}

#[test]
fn a_start_with_data_may_have_lost_some_and_a_first_one_has_not() {
    let mut server = Server::with(&["appendonly yes", LONG]);
    assert_eq!(ask(&server, "LOCK.RECOVERY"), 0);
    let fence = acquire_on(&server, &["k", "o", "NOEXPIRE"]);
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    assert_eq!(ask(&server, "LOCK.RECOVERY"), 0, "nothing is lost by that");
    server.restart(Stop::Kill);
    assert!(ask(&server, "LOCK.RECOVERY").int() > 90_000);
    assert_eq!(ask(&server, &format!("LOCK.RENEW k o FENCE {fence}")), -1);
    assert_eq!(ask(&server, "LOCK.ACQUIRE l p"), Value::Nil);
    assert!(server.log().contains("lock: event=recovery-began why=start "));
}

#[test]
fn what_comes_back_is_told_and_kept() {
    let (old, mut new) = failover(&format!("appendonly yes\n{LONG}"));
    let fence = acquire_on(&old, &["k", "alice", "SHARED"]).to_string();
    let lost = acquire_on(&old, &["l", "alice"]).to_string();
    let mut stream = ReplicaStream::attach(&new);
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice PX 60000 FENCE {fence} SHARED")), 60_000);
    assert_eq!(ask(&new, &format!("LOCK.RELEASE l alice FENCE {lost}")), 1);
    let mut told = stream.collect(&new);
    // That of the window is told again after each fork.
    told.retain(|words| words[0] != "LOCK._RECOVERY");
    assert_stream(
        &told,
        &[
            &step(&[
                &["LOCK._HOLD", "k", "alice", &fence, ALL, "1", "60000", "60000", "<ms>"],
                &["LOCK._RENEW", "k", &fence, "1", "60000", "60000", "<ms>"],
            ]),
            &["LOCK._FREE", "l", &lost],
        ],
    );
    let before = digest(&new);
    assert_eq!(ask(&new, "DEBUG RELOAD"), "OK");
    assert_eq!(digest(&new), before);
    new.restart(Stop::Kill);
    assert_eq!(digest(&new), before);
    assert_eq!(ask(&new, "EXISTS l"), 0);
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

#[test]
fn by_default_there_is_a_window_and_it_can_be_turned_off() {
    let shipped = Setup::new().with_defaults();
    let (old, new) = (shipped.clone().start(), shipped.start());
    follow(&new, &old);
    acquire_on(&old, &["known", "o", "PX", "40000"]);
    wait_replica_in_sync(&old, &new);
    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    let ms = ask(&new, "LOCK.RECOVERY").int();
    assert!((30_001..=40_000).contains(&ms), "{ms}");
    assert_eq!(ask(&new, "LOCK.ACQUIRE k o"), Value::Nil);

    let (_old, new) = failover("lock.recovery-window-ms 0");
    assert_eq!((ask(&new, "LOCK.RECOVERY"), lock_stat(&new, "recovering_ms")), (Value::Int(0), 0));
    assert!(acquire_on(&new, &["k", "o"]) > 0);
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
    let long = acquire_on(&server, &["long", "o", "PX", "50000"]);
    assert_eq!(ask(&server, &format!("LOCK.RELEASE long o FENCE {long}")), 1);
    acquire_on(&server, &["short", "o", "PX", "1000"]);
    assert_eq!(ask(&server, "SAVE"), "OK");
    server
}

#[test]
fn a_start_knows_of_leases_that_were_over_when_the_file_was_written() {
    let mut server = saved_between_leases();
    let lost = acquire_on(&server, &["k", "alice", "PX", "50000"]);
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
        acquire_on(&old, &["short", "o", "PX", "1000"]);
        wait_replica_in_sync(&old, &new);
        assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
        (old, new)
    };
    let ms = ask(&new, "LOCK.RECOVERY").int();
    assert!((20_000..=30_000).contains(&ms), "lock.default-lease-ms: {ms}");
}

#[test]
fn where_each_write_is_on_disk_before_its_reply_a_start_opens_no_window() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always", LONG]);
    acquire_on(&server, &["k", "o", "NOEXPIRE"]);
    server.restart(Stop::Kill);
    assert_eq!(ask(&server, "LOCK.RECOVERY"), 0);
    assert!(acquire_on(&server, &["l", "o"]) > 0);
    assert!(!server.log().contains("event=recovery"));
    // Redis 8.2 with threads replies before the disk has it, and so does a server that rewrites its file and need not sync.
    for line in ["io-threads 2", "no-appendfsync-on-rewrite yes"] {
        let mut server = Server::with(&["appendonly yes", "appendfsync always", line, LONG]);
        acquire_on(&server, &["k", "o", "NOEXPIRE"]);
        server.restart(Stop::Kill);
        assert!(ask(&server, "LOCK.RECOVERY").int() > 0, "{line}");
    }
}

/// Two servers that know each other as primary and replica, and keep a window after whatever is not a clean handover.
fn with_replica() -> (Server, Server) {
    let (primary, replica) = (Server::with(&[LONG]), Server::with(&[LONG]));
    follow(&replica, &primary);
    acquire_on(&primary, &["k", "o", "PX", "60000"]);
    wait_replica_in_sync(&primary, &replica);
    (primary, replica)
}

fn wait_primary(server: &Server) {
    wait_until("it to be the primary", || server.info("replication")["role"] == "master");
}

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
        assert!(acquire_on(new, &["l", "o", "PX", "60000"]) > 0);
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
    acquire_on(&primary, &["k", "o", "PX", "60000"]);
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

/// A server that was promoted while the old one went on, and its replica; and the fence of a hold that neither has heard of,
/// though both know of a newer one.
fn failover_with_replica(window: &str) -> (Server, Server, i64) {
    let (old, new, replica) = (Server::start(), Server::with(&[window]), Server::with(&[window]));
    follow(&new, &old);
    follow(&replica, &new);
    acquire_on(&old, &["known", "o", "PX", "60000"]);
    wait_until("the lock to arrive", || replica.cmd(&["EXISTS", "known"]) == 1);
    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    let lost = acquire_on(&old, &["k", "alice", "PX", "60000"]);
    let newer = acquire_on(&old, &["newer", "o", "PX", "60000"]);
    assert_eq!(ask(&new, &format!("LOCK.RENEW newer o PX 60000 FENCE {newer}")), 60_000);
    wait_until("it to arrive", || replica.cmd(&["EXISTS", "newer"]) == 1);
    (new, replica, lost)
}

/// The window of another server goes on here, and alice comes back in it.
fn assert_goes_on(server: &Server, lost: i64) {
    assert!(ask(server, "LOCK.RECOVERY").int() > 80_000);
    assert_eq!(ask(server, "LOCK.ACQUIRE k bob"), Value::Nil);
    assert_eq!(ask(server, &format!("LOCK.RENEW k alice PX 60000 FENCE {lost}")), 60_000);
    assert!(server.log().contains("lock: event=recovery-goes-on ms="));
    assert!(ask(server, "LOCK.RECOVERY END").int() > 0);
    assert!(acquire_on(server, &["free", "bob"]) > lost);
}

#[test]
fn a_planned_handover_while_a_window_is_open_hands_over_the_window() {
    let (new, replica, lost) = failover_with_replica(LONG);
    wait_until("the window to be known", || ask(&replica, "LOCK.RECOVERY").int() > 0);
    assert!(ask(&replica, "LOCK.RECOVERY END").error().starts_with("READONLY "));
    assert_eq!(ask(&new, "FAILOVER"), "OK");
    wait_primary(&replica);
    assert!(replica.log().contains("lock: event=handover;"));
    assert_goes_on(&replica, lost);
    // The one before follows it, and knows by now that it is over.
    wait_same_data(&replica, &new);
    wait_until("the end to be known", || ask(&new, "LOCK.RECOVERY") == 0);
}

#[test]
fn a_replica_that_comes_while_a_window_is_open_knows_of_it() {
    let (old, new) = failover(LONG);
    let lost = acquire_on(&old, &["k", "alice", "PX", "60000"]);
    let given_back = ["first", "second"].map(|owner| {
        let fence = acquire_on(&old, &["back", owner]);
        assert_eq!(ask(&old, &format!("LOCK.RELEASE back {owner}")), 1);
        fence
    });
    assert_eq!(ask(&new, &format!("LOCK.RENEW back second FENCE {}", given_back[1])), 30_000);
    assert_eq!(ask(&new, &format!("LOCK.RELEASE back second FENCE {}", given_back[1])), 1);
    let replica = Server::with(&[LONG]);
    follow(&replica, &new);
    assert_eq!(ask(&new, "FAILOVER"), "OK");
    wait_primary(&replica);
    assert_eq!(ask(&replica, &format!("LOCK.RENEW back first FENCE {}", given_back[0])), 0, "it is over");
    assert_goes_on(&replica, lost);
}

#[test]
fn what_was_kept_away_stays_away_after_a_handover() {
    let (old, new) = failover(LONG);
    let replica = Server::with(&[LONG]);
    follow(&replica, &new);
    let [broken, shared, released] =
        [&["b", "o"][..], &["s", "o", "SHARED"], &["r", "o"]].map(|words| acquire_on(&old, words));
    assert_eq!((ask(&new, "LOCK.BREAK b"), ask(&new, "LOCK.BREAK s")), (Value::Int(0), Value::Int(0)));
    assert_eq!(ask(&new, &format!("LOCK.RELEASE r o FENCE {released}")), 1);
    assert_eq!(ask(&new, "FAILOVER"), "OK");
    wait_primary(&replica);
    assert!(ask(&replica, "LOCK.RECOVERY").int() > 0);
    for line in
        [format!("b o FENCE {broken}"), format!("s o FENCE {shared} SHARED"), format!("r o FENCE {released}")]
    {
        assert_eq!(ask(&replica, &format!("LOCK.RENEW {line}")), 0, "{line}");
    }
}

#[test]
fn a_start_while_a_window_is_open_goes_on_with_it() {
    let (old, mut new) = failover(&format!("{LONG}\nappendonly yes\nappendfsync always"));
    // The file of a replica is whole when it has been written anew.
    wait_no_child(&new);
    let lost = acquire_on(&old, &["k", "alice", "PX", "60000"]);
    let has_word = || {
        let files = std::fs::read_dir(new.dir().join("appendonlydir")).expect("the files");
        let mut files = files.map(|file| std::fs::read(file.expect("a file").path()).expect("its bytes"));
        files.any(|bytes| bytes.windows(14).any(|word| word == b"LOCK._RECOVERY"))
    };
    wait_until("the word of it to be in the file", has_word);
    new.restart(Stop::Kill);
    assert_goes_on(&new, lost);
}

#[test]
fn a_file_tells_of_the_window_in_which_it_was_saved() {
    let (old, mut new) = failover(LONG);
    let lost = acquire_on(&old, &["k", "alice", "PX", "60000"]);
    let left = ask(&new, "LOCK.RECOVERY").int();
    assert_eq!(ask(&new, "DEBUG RELOAD"), "OK");
    // Times in a file go by the wall clock, which is not the one that counts here.
    assert!((80_000..left + 1_000).contains(&ask(&new, "LOCK.RECOVERY").int()));
    // A start opens one by itself, and takes all fences up to the newest in the file for known.
    let newer = acquire_on(&old, &["newer", "o", "PX", "60000"]);
    assert_eq!(ask(&new, &format!("LOCK.RENEW newer o PX 60000 FENCE {newer}")), 60_000);
    assert_eq!(ask(&new, "SAVE"), "OK");
    new.restart(Stop::Kill);
    assert!(new.log().contains("lock: event=recovery-began why=start "));
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice PX 60000 FENCE {lost}")), 60_000);
}

#[test]
fn a_second_failover_covers_the_window_of_the_first() {
    let (_new, replica, lost) = failover_with_replica(LONG);
    wait_until("the window to be known", || ask(&replica, "LOCK.RECOVERY").int() > 0);
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    assert_eq!(ask(&replica, &format!("LOCK.RENEW k alice PX 60000 FENCE {lost}")), 60_000);
}

#[test]
fn replicas_and_files_are_told_when_a_window_opens_and_closes() {
    let (old, new) = (Server::start(), Server::with(&[LONG]));
    follow(&new, &old);
    let known = acquire_on(&old, &["known", "o", "PX", "60000"]).to_string();
    wait_replica_in_sync(&old, &new);
    let offset = new.info_int("replication", "master_repl_offset") + 1;
    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    let told = || {
        let commands = commands_since(&new, offset);
        commands.into_iter().filter(|words| words[0] == "LOCK._RECOVERY").collect::<Vec<_>>()
    };
    wait_until("the word of it", || !told().is_empty());
    assert!(ask(&new, "LOCK.RECOVERY END").int() > 0);
    wait_until("the word of its end", || told().len() > 1);
    let opened = ["LOCK._RECOVERY", &known, "<fence>", "<ms>", "<ms-2>"];
    assert_stream(&told(), &[&opened, &["LOCK._RECOVERY", "0", "0", "-1", "-1"]]);
}

#[test]
fn a_window_that_closes_gives_no_lock_away_while_replicas_are_missing() {
    let (_old, new) = failover("lock.recovery-window-ms 1000");
    let mut next = waiter(&new, &["k", "next", "BLOCK", "0"]);
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
fn a_replica_that_hears_no_more_shows_no_window_that_is_over() {
    let (_old, mut new) = failover("lock.recovery-window-ms 3000");
    let replica = Server::start();
    follow(&replica, &new);
    assert!(ask(&replica, "LOCK.RECOVERY").int() > 0);
    new.stop(Stop::Kill);
    wait_until("the window to be over", || ask(&replica, "LOCK.RECOVERY") == 0);
}

#[test]
fn an_aof_that_is_written_anew_as_commands_tells_of_the_window() {
    let aof = "appendonly yes\nappendfsync always\naof-use-rdb-preamble no\nauto-aof-rewrite-percentage 0";
    let (old, mut new) = failover(&format!("{LONG}\n{aof}"));
    wait_no_child(&new);
    let lost = acquire_on(&old, &["k", "alice", "PX", "60000"]);
    assert!(!ask(&new, "BGREWRITEAOF").text().is_empty());
    wait_until("it to begin", || new.info_int("persistence", "aof_rewrites") > 0);
    wait_no_child(&new);
    new.restart(Stop::Kill);
    assert_goes_on(&new, lost);
}

#[test]
fn a_load_aside_that_fails_leaves_the_window_open() {
    let (old, new) = failover(LONG);
    let replica = Server::with(&["repl-diskless-load swapdb", "repl-timeout 2"]);
    follow(&replica, &new);
    assert!(ask(&replica, "LOCK.RECOVERY").int() > 0);
    let mut without_window = snapshot_of(&old);
    without_window.truncate(without_window.len() - 8);
    let failed = || replica.log().matches("Failed trying to load the ").count();
    for snapshot in [b"REDIS0010".to_vec(), without_window] {
        let (before, (sent, hung_up)) = (failed(), channel());
        let history = new.info("replication")["master_replid"].clone();
        let port = play_primary(history, vec![snapshot], sent).to_string();
        assert_eq!(ask(&replica, &format!("REPLICAOF 127.0.0.1 {port}")), "OK");
        hung_up.recv_timeout(DEADLINE).expect("the replica did not ask for a sync");
        wait_until("the replica to find the end of the stream", || failed() > before);
        assert!(ask(&replica, "LOCK.RECOVERY").int() > 0);
    }
}

/// The fences of what was loaded and thrown away tell nothing of what this server has never served.
#[test]
fn a_hold_that_was_seen_in_a_load_aside_that_failed_comes_back() {
    let (old, new) = (Server::start(), Server::with(&[LONG, "repl-diskless-load swapdb", "repl-timeout 2"]));
    follow(&new, &old);
    acquire_on(&old, &["known", "o", "PX", "60000"]);
    wait_replica_in_sync(&old, &new);
    assert_eq!(ask(&new, "REPLICAOF 127.0.0.1 1"), "OK");
    let fence = acquire_on(&old, &["k", "alice", "PX", "60000"]);

    let mut snapshot = snapshot_of(&old);
    snapshot.truncate(snapshot.len() - 8);
    let (sent, hung_up) = channel();
    let history = old.info("replication")["master_replid"].clone();
    let port = play_primary(history, vec![snapshot], sent).to_string();
    assert_eq!(ask(&new, &format!("REPLICAOF 127.0.0.1 {port}")), "OK");
    hung_up.recv_timeout(DEADLINE).expect("the replica did not ask for a sync");
    wait_until("the replica to find the end of the stream", || {
        new.log().contains("Discarding temporary DB in background")
    });
    assert_eq!((left(&new, "k", "alice"), lock_stat(&new, "last_fence")), (0, fence_of_known(&new)));

    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice PX 50000 FENCE {fence}")), 50_000);
}

#[test]
fn what_is_broken_in_the_window_does_not_come_back() {
    let (old, new) = failover(LONG);
    let lost = acquire_on(&old, &["k", "alice"]);
    let reader = acquire_on(&old, &["r", "alice", "SHARED"]);
    assert_eq!((ask(&new, "LOCK.BREAK k"), ask(&new, "LOCK.BREAK r")), (Value::Int(0), Value::Int(0)));
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice FENCE {lost}")), 0);
    assert_eq!(ask(&new, &format!("LOCK.RENEW r alice FENCE {reader} SHARED")), 0);
}

#[test]
fn what_was_flushed_in_the_window_does_not_come_back() {
    let (old, new) = failover(LONG);
    let lost = acquire_on(&old, &["k", "alice"]);
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice FENCE {lost}")), 30_000);
    let other = acquire_on(&old, &["l", "alice"]);
    assert_eq!(ask(&new, "FLUSHALL"), "OK");
    for line in [format!("k alice FENCE {lost}"), format!("l alice FENCE {other}")] {
        assert_eq!(ask(&new, &format!("LOCK.RENEW {line}")), 0, "{line}");
    }
    assert!(ask(&new, "LOCK.RECOVERY").int() > 0);
}

#[test]
fn a_lost_hold_has_to_be_renewed_before_something_else_is_done_to_it() {
    let (old, new) = failover(LONG);
    let fence = acquire_on(&old, &["k", "alice", "REENTRANT", "a", "PX", "60000"]);
    let permits = acquire_on(&old, &["pool", "alice", "LIMIT", "5", "PERMITS", "3"]);
    for line in [
        format!("LOCK.TRANSFER k alice bob FENCE {fence}"),
        format!("LOCK.CONVERT k alice SHARED FENCE {fence}"),
        format!("LOCK.RELEASE k alice REENTRANT a FENCE {fence}"),
        format!("LOCK.RELEASE k alice AFTER 1000 FENCE {fence}"),
        format!("LOCK.RELEASE pool alice PERMITS 1 FENCE {permits}"),
        format!("LOCK.GUARD k alice {fence} GET x"),
    ] {
        assert!(is_recovering(&ask(&new, &line)), "{line}");
    }
    assert_eq!(ask(&new, &format!("LOCK.RENEW pool alice LIMIT 5 PERMITS 3 FENCE {permits}")), 30_000);
    assert_eq!(ask(&new, &format!("LOCK.RELEASE pool alice PERMITS 1 FENCE {permits}")), 1);
    assert_eq!(ask(&new, "LOCK.INFO pool").field("holds").items()[0].field("permits").int(), 2);
    for _ in 0..2 {
        assert_eq!(
            ask(&new, &format!("LOCK.RELEASE k alice FENCE {fence}")),
            1,
            "the same again has the same reply"
        );
    }
}

#[test]
fn a_hold_of_which_the_renewal_was_lost_is_told_to_come_back() {
    let (primary, replica) = (Server::start(), Server::with(&[LONG]));
    follow(&replica, &primary);
    let fence = acquire_on(&primary, &["k", "alice", "PX", "5000"]);
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    wait_until("its lease to be over", || left(&replica, "k", "alice") == 0);
    let told = ask(&replica, &format!("LOCK.CHECK k alice FENCE {fence} WITHINFO"));
    assert_eq!((told.field("result").int(), told.field("reason").text()), (0, "recovering".into()));
    for line in
        [format!("LOCK.GUARD k alice {fence} GET x"), format!("LOCK.CONVERT k alice SHARED FENCE {fence}")]
    {
        assert!(is_recovering(&ask(&replica, &line)), "{line}");
    }
    assert_eq!(ask(&replica, &format!("LOCK.RENEW k alice PX 60000 FENCE {fence}")), 60_000);
    assert_eq!(ask(&replica, &format!("LOCK.GUARD k alice {fence} GET x")), Value::Nil);
}

#[test]
fn a_hold_is_not_said_to_be_lost_where_a_newer_one_stands() {
    let (old, new) = failover(LONG);
    let first = acquire_on(&old, &["k", "first"]);
    assert_eq!(ask(&old, "LOCK.RELEASE k first"), 1);
    let second = acquire_on(&old, &["k", "second"]);
    assert_eq!(ask(&new, &format!("LOCK.RENEW k second FENCE {second}")), 30_000);
    assert!(ask(&new, &format!("LOCK.GUARD k first {first} GET x")).error().starts_with("NOTHELD "));
    let older = acquire_on(&old, &["r", "rita", "SHARED"]);
    let newer = acquire_on(&old, &["r", "rob", "SHARED"]);
    assert_eq!(ask(&new, &format!("LOCK.RELEASE r rob FENCE {newer}")), 1);
    let told = ask(&new, &format!("LOCK.CHECK r rita FENCE {older} WITHINFO"));
    assert_eq!(told.field("reason").text(), "recovering", "she may have shared it");
}

#[test]
fn several_are_released_together_though_one_has_come_back() {
    let (old, new) = failover(LONG);
    let fence = ask(&old, "LOCK.MACQUIRE al 3 a b c").int();
    let back = ask(&new, &format!("LOCK.MRENEW al 60000 1 a FENCE {fence}"));
    assert_eq!(back, Value::Array(vec![Value::Int(60_000)]));
    for _ in 0..2 {
        assert_eq!(ask(&new, &format!("LOCK.MRELEASE al 3 a b c FENCE {fence}")), 3);
    }
    assert_eq!(ask(&new, &format!("LOCK.RENEW b al FENCE {fence}")), 0);
    assert_eq!(ask(&new, "EXISTS a"), 0);
}

#[test]
fn an_owner_that_waits_for_what_comes_back_is_told_to_wait_no_more() {
    let (old, new) = failover(LONG);
    let fence = acquire_on(&old, &["k", "al"]);
    let mut wait = new.connect();
    wait.send(&["LOCK.ACQUIRE", "k", "al", "BLOCK", "0", "WITHINFO"]);
    wait_blocked_clients(&new, 1);
    assert_eq!(ask(&new, &format!("LOCK.RENEW k al FENCE {fence}")), 30_000);
    assert_eq!(wait.read().field("reason").text(), "superseded");
}

#[test]
fn a_hold_that_came_back_and_was_deleted_stays_away() {
    let (old, new) = failover(LONG);
    for (key, deed) in [("a", "DEL a"), ("b", "RENAME b c"), ("d", "SWAPDB 0 1")] {
        let fence = acquire_on(&old, &[key, "alice"]);
        let renew = format!("LOCK.RENEW {key} alice FENCE {fence}");
        assert_eq!(ask(&new, &renew), 30_000, "{deed}");
        let _ = ask(&new, deed);
        if deed.starts_with("SWAPDB") {
            let mut other = new.connect();
            assert_eq!(other.cmd(&["SELECT", "1"]), "OK");
            assert_eq!(other.cmd(&["LOCK.RELEASE", key, "alice"]), 1);
            let words: Vec<&str> = renew.split(' ').collect();
            assert_eq!(other.cmd(&words), 0, "{deed}");
        } else {
            assert_eq!(ask(&new, &renew), 0, "{deed}");
        }
    }
}

#[test]
fn many_holds_that_are_over_keep_nobody_from_renewing_several_locks() {
    let (primary, replica) = (Server::start(), Server::with(&[LONG]));
    follow(&replica, &primary);
    for owner in 0..600 {
        let owner = owner.to_string();
        assert!(primary.cmd(&["LOCK.MACQUIRE", &owner, "2", "x", "y", "SHARED", "PX", "8000"]).int() > 0);
    }
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    wait_until("the last lease to be over", || left(&replica, "x", "599") == 0);
    let both = ask(&replica, "LOCK.MRENEW 599 60000 2 x y");
    assert_eq!(both, Value::Array(vec![Value::Int(60_000), Value::Int(60_000)]));
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
        acquire_on(&server, &["k", "o"]);
        assert_eq!(ask(&server, "LOCK.RELEASE k o"), 1);
        wait_until("it to rest", || lock_stat(&server, "server_events") <= 3);
    }
    assert_eq!(ask(&server, "LOCK.RECOVERY"), 0);
}
