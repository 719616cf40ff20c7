//! What the pages below docs/ say and a transcript cannot show: what restarts, cut files, other clocks and silent
//! connections do to locks. Each test names the page.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clock_shim::{WallClock, HOUR};
use crate::steps::{acquire, ask, fence_of, holder, is_modern, release, transaction, wait_for_lock, words};
use crate::support::aof::read_aof;
use crate::support::resp::encode;
use crate::support::wait::{let_pass, wait_replica_in_sync, wait_waiting};
use crate::support::{skip, wait_until, Server, Setup, Stop, Value};
use crate::traffic::{follow, left, lock_stat, replica_of, try_cmd, wait_no_child};

/// docs/persistence.md: RDB alone.
#[test]
fn a_restart_on_a_snapshot_brings_back_what_was_released_since_and_forgets_what_was_taken_since() {
    let mut server = Server::with(&["save 3600 1"]);
    acquire(&server, "for-ever a NOEXPIRE");
    assert_eq!(ask(&server, "SAVE"), "OK");
    release(&server, "for-ever", "a");
    let last = acquire(&server, "later b PX 600000");
    server.restart(Stop::Kill);
    assert_eq!((left(&server, "for-ever", "a"), left(&server, "later", "b")), (-1, 0));
    assert!(acquire(&server, "later c") > last, "the fence follows the clock, which has not gone back");
}

/// docs/persistence.md: lines are in memory alone.
#[test]
fn the_order_of_those_who_wait_is_not_kept_over_a_restart() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always"]);
    acquire(&server, "k a PX 600000");
    let _first = wait_for_lock(&server, "k", "b");
    ask(&server, "LOCK.ACQUIRE k ticket QUEUE 600000");
    wait_waiting(&server, "k", 2);
    server.restart(Stop::Kill);
    assert_eq!(holder(&server, "k"), Some("a".into()));
    wait_waiting(&server, "k", 0);
    // Who was behind comes back before who was first.
    let mut behind = wait_for_lock(&server, "k", "c");
    let mut first = wait_for_lock(&server, "k", "b");
    release(&server, "k", "a");
    fence_of(&behind.read());
    release(&server, "k", "c");
    fence_of(&first.read());
}

/// docs/persistence.md: an AOF tail that was cut.
#[test]
fn a_tail_that_was_cut_takes_the_last_grants_with_it_and_the_server_starts() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always"]);
    acquire(&server, "early a PX 600000");
    let last = acquire(&server, "late b PX 600000");
    server.stop(Stop::Kill);
    let dir = server.dir().join("appendonlydir");
    let tail = dir.join("appendonly.aof.1.incr.aof");
    let file = std::fs::OpenOptions::new().write(true).open(&tail).expect("open the AOF");
    file.set_len(file.metadata().expect("its length").len() - 7).expect("cut the AOF");
    server.start_again();
    assert!(server.log().contains("Truncating the AOF"), "the log says so");
    assert!(left(&server, "early", "a") > 0);
    assert_eq!(left(&server, "late", "b"), 0);
    assert!(acquire(&server, "late c") > last);
}

/// docs/persistence.md: a replica's AOF has the primary's deadlines.
#[test]
fn a_replica_whose_clock_is_ahead_by_more_than_a_lease_drops_live_holds_when_it_restarts() {
    let Some(clock) = WallClock::new("a replica with another clock") else { return };
    clock.set(HOUR);
    let primary = Server::start();
    let mut replica = clock.setup().conf(&["appendonly yes", "appendfsync always"]).start();
    follow(&replica, &primary);
    wait_no_child(&replica); // it rewrites its AOF
    acquire(&primary, "k a PX 60000");
    acquire(&primary, "for-ever a NOEXPIRE");
    wait_replica_in_sync(&primary, &replica);
    assert!(left(&replica, "k", "a") > 0, "as long as it runs it goes by what is left");
    replica.restart(Stop::Kill);
    assert_eq!((left(&replica, "k", "a"), left(&replica, "for-ever", "a")), (0, -1));
    assert!(left(&primary, "k", "a") > 0);
    follow(&replica, &primary);
    assert!(left(&replica, "k", "a") > 0, "the primary has told it again");
}

/// docs/persistence.md: an AOF that is piped into a server.
#[test]
fn redis_7_0_takes_no_lock_from_an_aof_that_is_piped_into_it() {
    let source = Server::with(&["appendonly yes", "appendfsync always"]);
    acquire(&source, "k a PX 600000");
    assert_eq!(ask(&source, "SET text hello"), "OK");
    let commands = read_aof(&source).commands;
    let bytes: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
    let target = Server::start();
    let mut pipe = Command::new("redis-cli")
        .args(["-p", &target.port().to_string(), "--pipe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run redis-cli");
    std::io::Write::write_all(&mut pipe.stdin.take().expect("its input"), &bytes).expect("feed redis-cli");
    let succeeded = pipe.wait().expect("redis-cli").success();
    assert_eq!(ask(&target, "GET text"), "hello");
    assert_eq!((left(&target, "k", "a") > 0, succeeded), (is_modern(&target), is_modern(&target)));
}

/// docs/persistence.md: WAIT covers what came before it on its connection, and no renewal after it.
#[test]
fn a_renewal_after_wait_can_be_lost_where_the_grant_was_not() {
    let (mut primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let mut conn = primary.connect();
    assert!(conn.cmd(&words("LOCK.ACQUIRE k a PX 60000")).int() > 0);
    assert_eq!(conn.cmd(&words("WAIT 1 10000")), 1);
    replica.signal("STOP");
    assert_eq!(conn.cmd(&words("LOCK.RENEW k a PX 600000")), 600_000);
    assert_eq!(conn.cmd(&words("WAIT 1 100")), 0, "a WAIT of its own tells");
    primary.stop(Stop::Kill);
    replica.signal("CONT");
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    // What the old primary had sent before it died may still be on the way to a replica that was only slow; a cut line
    // loses it. Either way the grant is there.
    assert!(left(&replica, "k", "a") > 0);
}

/// docs/persistence.md: an old primary that comes back as a primary.
#[test]
fn an_old_primary_that_comes_back_by_itself_grants_what_the_new_one_has_granted() {
    let (mut old, new) = (Server::with(&["appendonly yes"]), Server::start());
    follow(&new, &old);
    old.stop(Stop::Kill);
    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    acquire(&new, "k a");
    old.start_again();
    acquire(&old, "k b");
    assert_eq!((holder(&new, "k"), holder(&old, "k")), (Some("a".into()), Some("b".into())));
    // As a replica from the start it would grant nothing.
    follow(&old, &new);
    assert!(ask(&old, "LOCK.ACQUIRE k b").error().starts_with("READONLY "));
    assert_eq!(holder(&old, "k"), Some("a".into()));
}

/// docs/persistence.md: the same, found out by a Sentinel. It tells the old primary after some seconds, and until then
/// clients that know the old address get locks there.
#[test]
fn sentinel_makes_an_old_primary_a_replica_only_some_seconds_after_it_is_back() {
    let (mut old, new) = (Server::with(&["appendonly yes"]), Server::start());
    follow(&new, &old);
    let watched = format!("sentinel monitor locks 127.0.0.1 {} 1", old.port());
    let lines = ["sentinel down-after-milliseconds locks 2000", "sentinel failover-timeout locks 5000"];
    let sentinel = Setup::sentinel(&[&watched, lines[0], lines[1]]).start();
    let primary = |field| ask(&sentinel, "SENTINEL MASTER locks").field(field).text();
    wait_until("Sentinel to know the replica", || primary("num-slaves") == "1");
    old.stop(Stop::Kill);
    wait_until("the replica to be promoted", || primary("port") == new.port().to_string());
    // Sentinel closes the connections of a server that it gives another role.
    let reply =
        |server: &Server, line: &str| try_cmd(&mut server.connect(), &words(line)).unwrap_or(Value::Nil);
    assert!(reply(&new, "LOCK.ACQUIRE k a PX 600000").int() > 0);
    old.start_again();
    assert!(reply(&old, "LOCK.ACQUIRE k b PX 600000").int() > 0, "two have the lock");
    wait_until(
        "Sentinel to tell the old primary",
        || matches!(reply(&old, "LOCK.ACQUIRE k b"), Value::Error(text) if text.starts_with("READONLY ")),
    );
    wait_until("the replica to be in sync", || reply(&old, "LOCK.CHECK k b") == 0);
    assert!(reply(&old, "LOCK.CHECK k a").int() > 0);
}

/// docs/persistence.md: WAITAOF does for disks what WAIT does for replicas, after a waited acquire too.
#[test]
fn waitaof_after_a_waited_acquire_tells_that_the_grant_is_on_disk() {
    let server = Server::with(&["appendonly yes", "appendfsync everysec"]);
    if !is_modern(&server) {
        return skip("WAITAOF", "this server has none");
    }
    acquire(&server, "k a");
    let mut waiter = wait_for_lock(&server, "k", "b");
    release(&server, "k", "a");
    fence_of(&waiter.read());
    assert_eq!(waiter.cmd(&words("WAITAOF 1 0 10000")).items(), [Value::Int(1), Value::Int(0)]);
}

/// docs/operating.md: the replicas first.
#[test]
fn a_replica_without_the_module_cannot_follow() {
    let (primary, replica) = (Server::start(), Setup::plain().start());
    acquire(&primary, "k a");
    replica_of(&replica, &primary);
    wait_until("the replica to give up", || replica.log().contains("no matching module"));
}

/// docs/operating.md: how to remove the module. Without these steps a server refuses what was saved with it.
#[test]
fn a_server_is_rid_of_the_module_by_the_steps_of_the_page() {
    let mut server = Server::start();
    assert_eq!(ask(&server, "SET text hello"), "OK");
    acquire(&server, "k a");
    release(&server, "k", "a");
    assert_eq!(ask(&server, "SAVE"), "OK");
    let refusal = Setup::plain().file(&server.dir().join("dump.rdb"), "dump.rdb").try_start();
    assert!(refusal.is_err_and(|log| log.contains("no matching module")));

    let state = server.info("lock_state");
    assert_eq!((state["lock_held"].as_str(), state["lock_latches"].as_str()), ("0", "0"));
    assert_eq!(ask(&server, "CONFIG SET aof-use-rdb-preamble no"), "OK");
    assert_eq!(ask(&server, "CONFIG SET appendonly yes"), "OK");
    wait_no_child(&server); // aof_rewrite_in_progress is 0
    server.stop(Stop::Kill);
    let without = Setup::plain().conf(&["appendonly yes"]);
    let without = without.file(&server.dir().join("appendonlydir"), "appendonlydir").start();
    assert_eq!(ask(&without, "GET text"), "hello");
    assert!(ask(&without, "LOCK.INFO k").error().starts_with("ERR unknown command"));
}

/// docs/operating.md: what rename-command must leave. GET and SET are in fence.rs, COMMAND in guard.rs.
#[test]
fn without_exists_whoever_waits_in_a_cluster_is_turned_away_and_without_client_no_transaction_ties() {
    let node = Server::with(&["cluster-enabled yes", "rename-command EXISTS \"\""]);
    assert_eq!(ask(&node, "CLUSTER ADDSLOTSRANGE 0 16383"), "OK");
    wait_until("the cluster to be up", || ask(&node, "CLUSTER INFO").text().contains("cluster_state:ok"));
    acquire(&node, "k a");
    assert!(node.connect().cmd(&words("LOCK.ACQUIRE k b BLOCK 0")).error().starts_with("TRYAGAIN "));

    let server = Server::with(&["rename-command CLIENT \"\""]);
    let replies = transaction(&mut server.connect(), &[&words("LOCK.ACQUIRE k a TIED 0")]);
    assert!(replies[0].error().starts_with("NOTIE "));
}

/// docs/access.md: each row of the table has the rights that it needs, and no more are needed.
#[test]
fn the_rights_that_the_page_names_are_enough() {
    let server = Server::start();
    let page = page("access.md");
    let with_the_rights_of = |user: &str, who: &str| {
        let row = page.lines().find(|line| line.starts_with(&format!("| {who}"))).expect("a row");
        let rights = row.split('`').nth(1).expect("its rights");
        assert_eq!(ask(&server, &format!("ACL SETUSER {user} on >p ~* &* {rights}")), "OK");
        let mut conn = server.connect();
        assert_eq!(conn.cmd(&["AUTH", user, "p"]), "OK");
        conn
    };
    let mut application = with_the_rights_of("app", "An application that takes locks");
    let fence = fence_of(&application.cmd(&words("LOCK.ACQUIRE k a PX 60000 BLOCK 1000")));
    assert_eq!(application.cmd(&words(&format!("LOCK.RENEW k a PX 60000 FENCE {fence}"))), 60_000);
    assert!(application.cmd(&words("LOCK.CHECK k a")).int() > 0);
    assert_eq!(application.cmd(&words("LOCK.CANCEL k b")), 0);
    assert!(application.cmd(&words("LOCK.BREAK k")).error().starts_with("NOPERM"));
    let mut operator = with_the_rights_of("operator", "An operator who may look");
    for line in ["LOCK.INFO k", "LOCK.WAITERS k", "LATCH.INFO l", "LOCK.SCAN 0", "INFO lock_state"] {
        assert!(!matches!(operator.cmd(&words(line)), Value::Error(_)), "{line}");
    }
    assert!(operator.cmd(&words("LOCK.RELEASE k a")).error().starts_with("NOPERM"));
    assert_eq!(application.cmd(&words(&format!("LOCK.RELEASE k a FENCE {fence}"))), 1);
    // The category of its own, where the page says that there is one.
    let category = ask(&server, "ACL SETUSER all on >p ~* -@all +@lock -@dangerous");
    if is_modern(&server) {
        assert_eq!(category, "OK");
        let mut all = server.connect();
        assert_eq!(all.cmd(&words("AUTH all p")), "OK");
        fence_of(&all.cmd(&words("LOCK.ACQUIRE l a")));
        for line in ["LOCK.BREAK l", "LOCK.STEAL l b", "GET l"] {
            assert!(all.cmd(&words(line)).error().starts_with("NOPERM"), "{line}");
        }
    } else {
        assert!(category.error().contains("Unknown command or category name"), "{category:?}");
    }
    // Everything but what is for administrators.
    let but = if is_modern(&server) { "-@dangerous" } else { "-lock.break -lock.steal" };
    assert_eq!(ask(&server, &format!("ACL SETUSER most on >p ~* &* +@all {but}")), "OK");
    let mut most = server.connect();
    assert_eq!(most.cmd(&words("AUTH most p")), "OK");
    fence_of(&most.cmd(&words("LOCK.ACQUIRE k a")));
    for line in ["LOCK.BREAK k", "LOCK.STEAL k b", "LOCK._FREE k 1"] {
        assert!(most.cmd(&words(line)).error().starts_with("NOPERM"), "{line}");
    }
}

/// docs/operating.md: a lock is stuck, with the rights that docs/access.md names and no others.
#[test]
fn an_operator_who_mends_can_go_the_steps_of_the_page() {
    let server = Server::start();
    let page = page("access.md");
    let row = page.lines().find(|line| line.starts_with("| An operator who mends")).expect("a row");
    let rights = row.split('`').nth(1).expect("its rights");
    assert_eq!(ask(&server, &format!("ACL SETUSER mends on >p ~* -@all {rights}")), "OK");
    let mut operator = server.connect();
    assert_eq!(operator.cmd(&words("AUTH mends p")), "OK");
    acquire(&server, "k alice");
    let mut bob = wait_for_lock(&server, "k", "bob");
    let mut carol = wait_for_lock(&server, "k", "carol");
    for line in ["LOCK.SCAN 0 CONTENDED", "LOCK.SCAN 0 OWNER alice", "LOCK.INFO k", "LOCK.WAITERS k"] {
        assert!(!matches!(operator.cmd(&words(line)), Value::Error(_)), "{line}");
    }
    assert_eq!(operator.cmd(&words("LOCK.BREAK k OWNER alice REASON why")), 1);
    fence_of(&bob.read());
    let stolen = fence_of(&operator.cmd(&words("LOCK.STEAL k you NOTE why")));
    assert!((29_000..=30_000).contains(&left(&server, "k", "you")), "the default lease");
    // What `redis-lock hold k --owner you` sends: the hold is the same, and lasts as long as it is renewed.
    assert_eq!(operator.cmd(&words("LOCK.ACQUIRE k you PX 60000 BLOCK 0")), stolen);
    assert_eq!(operator.cmd(&words(&format!("LOCK.RENEW k you PX 60000 FENCE {stolen}"))), 60_000);
    assert_eq!(operator.cmd(&words("LOCK.CANCEL k carol")), 1);
    assert!(matches!(carol.read(), Value::Nil));
    assert_eq!(operator.cmd(&words(&format!("LOCK.RELEASE k you FENCE {stolen}"))), 1);
}

/// docs/renewing.md: the server's `timeout` and ties.
#[test]
fn a_server_timeout_ends_a_hold_that_is_tied_to_an_idle_connection_but_not_to_one_that_waits() {
    let server = Server::with(&["timeout 1"]);
    // Connections that are new each time: the timeout closes all others.
    let state = |line: &str| server.connect().cmd(&["INFO", "lock_state"]).text().contains(line);
    let tie = |key: &str| {
        let mut conn = server.connect();
        assert!(conn.cmd(&words(&format!("LOCK.ACQUIRE {key} a PX 600000 TIED 0"))).int() > 0);
        conn
    };
    let mut idle = tie("idle");
    let mut listening = tie("listening");
    listening.send(&words("LOCK.AWAIT listening a WANTED BLOCK 0"));
    wait_until("it to listen", || state("lock_observing:1"));
    idle.expect_closed();
    wait_until("the hold to end with its connection", || holder(&server, "idle").is_none());
    // A connection that began to idle after that one began to listen is closed too.
    tie("third").expect_closed();
    assert_eq!(holder(&server, "listening"), Some("a".into()));
    assert_eq!(server.connect().cmd(&words("LOCK.REVOKE listening")), 1);
    assert_eq!(listening.read(), 1);
}

/// docs/renewing.md: a hold without a lease that a failover lost.
#[test]
fn a_hold_without_a_lease_comes_back_after_a_failover_only_if_its_owner_renews_it() {
    let (old, new) = (Server::start(), Server::with(&["lock.recovery-window-ms 100000"]));
    follow(&new, &old);
    acquire(&old, "known o");
    wait_replica_in_sync(&old, &new);
    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    // What the old primary grants from here on is unknown to the new one.
    let fence = acquire(&old, "renewed a NOEXPIRE");
    acquire(&old, "silent a NOEXPIRE");
    assert_eq!(ask(&new, &format!("LOCK.RENEW renewed a NOEXPIRE FENCE {fence}")), -1);
    assert!(ask(&new, "LOCK.RECOVERY END").int() > 0);
    assert_eq!(ask(&new, "LOCK.ACQUIRE renewed b"), Value::Nil);
    acquire(&new, "silent b");
}

/// docs/info.md: what CONFIG RESETSTAT does to the counters. docs/operating.md: since when a lease runs.
#[test]
fn counters_go_on_after_a_reset_and_a_lease_tells_since_when_it_runs() {
    let server = Server::start();
    assert!(acquire(&server, "k a PX 60000") > 0);
    assert_eq!(ask(&server, "CONFIG RESETSTAT"), "OK");
    assert_eq!(lock_stat(&server, "granted"), 1);
    let runs = || {
        let info = ask(&server, "LOCK.INFO k");
        let hold = &info.field("holds").items()[0];
        hold.field("lease-ms").int() - hold.field("left-ms").int()
    };
    wait_until("the lease to run", || runs() >= 100);
    assert_eq!(ask(&server, "LOCK.RENEW k a"), 60_000);
    assert!(runs() < 100, "since the renewal");
}

/// docs/limits.md: what a waiting client takes of the server, and how little of it is resident.
#[test]
fn a_waiting_client_takes_the_memory_that_the_page_says() {
    const WAITERS: i64 = 1_000;
    let server = Server::start();
    acquire(&server, "k a");
    let mut clients: Vec<_> = (0..WAITERS).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.cmd(&["PING"]), "PONG"));
    let memory = || ["used_memory", "used_memory_rss"].map(|field| server.info_int("memory", field));
    let before = memory();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&["LOCK.ACQUIRE", "k", &format!("waiter-{n}"), "BLOCK", "0"]);
    }
    wait_waiting(&server, "k", WAITERS);
    // The server reads its resident size now and then.
    let_pass(Duration::from_millis(300));
    let after = memory();
    let [used, resident] = [0, 1].map(|at| (after[at] - before[at]) / WAITERS);
    assert!((28_000..38_000).contains(&used), "{used} bytes for a waiter");
    assert!(resident * 2 < used, "{resident} of {used} bytes are resident");
}

/// docs/limits.md: what a held lock takes on each server, and how much of it is the index.
#[test]
fn a_held_lock_takes_the_memory_that_the_page_says() {
    const LOCKS: usize = 50_000;
    let server = Server::start();
    let mut conn = server.connect();
    let bytes = || {
        [("memory", "used_memory"), ("lock_state", "lock_index_bytes")].map(|at| server.info_int(at.0, at.1))
    };
    let [empty, _] = bytes();
    let mut take = |command: &str, options: &str| {
        assert_eq!(conn.cmd(&words("FLUSHALL SYNC")), "OK");
        // The index of what was flushed is given back piece by piece.
        wait_until("what was flushed to be given back", || bytes()[0] < empty + 200_000);
        let before = bytes();
        for start in (0..LOCKS).step_by(1000) {
            let lines: Vec<String> = (start..start + 1000)
                .map(|n| format!("{command} lock:{n:07} client-{:04}-host-07 PX 3600000{options}", n % 1000))
                .collect();
            let lines: Vec<Vec<&str>> = lines.iter().map(|line| words(line)).collect();
            conn.send_together(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
            lines.iter().for_each(|_| drop(conn.read()));
        }
        // The server does away with the smaller tables of its keys, piece by piece: with each look, and now and then. Redis 7.0
        // has no gauge for it, but ends it by as many looks as there are keys.
        for start in (0..LOCKS).step_by(1000) {
            let look: Vec<String> = (start..start + 1000).map(|n| format!("lock:{n:07}")).collect();
            let look: Vec<&str> = ["EXISTS"].into_iter().chain(look.iter().map(String::as_str)).collect();
            assert_eq!(conn.cmd(&look), 1000);
        }
        wait_until("the tables of the keys to be in one piece", || {
            server.info("memory").get("mem_overhead_db_hashtable_rehashing").is_none_or(|bytes| bytes == "0")
        });
        let after = bytes();
        [0, 1].map(|at| (after[at] - before[at]) as f64 / LOCKS as f64)
    };
    let page = page("limits.md");
    let column = match (server.is_valkey(), is_modern(&server)) {
        (false, false) => 2,
        (false, true) => 3,
        (true, _) => 4,
    };
    let row = |what: &str| {
        let row = page.lines().find(|line| line.starts_with(&format!("| {what} |"))).expect("a row");
        row.split('|').nth(column).and_then(|figure| figure.trim().parse().ok()).expect("a figure")
    };
    let index: Vec<f64> = page
        .split_once("bytes above it takes ")
        .map(|(_, text)| text.split([' ', ',']).filter_map(|word| word.parse().ok()).take(2).collect())
        .expect("what the index takes");
    let near = |what: &str, seen: f64, said: f64| {
        assert!((seen - said).abs() <= said * 0.03, "{what} takes {seen} bytes, not {said}");
    };
    near("a plain key", take("SET", "")[0], row("`SET key owner PX 30000`"));
    let [lock, of_it] = take("LOCK.ACQUIRE", "");
    near("a lock", lock, row("A held lock"));
    near("a lock in the index", of_it, index[0]);
    let [tied, of_it] = take("LOCK.ACQUIRE", " TIED 0");
    near("a tied lock", tied, row("A held lock with `TIED`"));
    near("a tied lock in the index", of_it, index[1]);
}

/// A page below docs/.
fn page(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(path).expect("read the page")
}
