//! Steps that tests of replication, persistence and faults share: taking locks by the whole command, following a primary,
//! keeping a server busy. Holds no test; what a step expects of the server it states by a panic.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::steps::digest;
use crate::support::resp::encode;
use crate::support::wait::wait_replica_in_sync;
use crate::support::{wait_until, Connection, Server, Value};

/// A little more than the server's cron takes to come round at its usual ten times a second.
const CRON: Duration = Duration::from_millis(120);

/// How `limit` and `permits` of an exclusive hold are written in effects: all there are.
pub(crate) const ALL: &str = "4294967295";

/// Runs commands that nothing can come between, as they travel in one packet; their replies.
pub(crate) fn at_once(server: &Server, commands: &[&[&str]]) -> Vec<Value> {
    let mut conn = server.connect();
    conn.send_together(commands);
    commands.iter().map(|_| conn.read()).collect()
}

/// Until two servers have the same data.
pub(crate) fn wait_same_data(one: &Server, other: &Server) {
    wait_until("two servers to have the same data", || digest(one) == digest(other));
}

/// Sends a command and reads its reply; an error when the connection is gone, which other ways to ask treat as a failure of
/// the test.
pub(crate) fn try_cmd(conn: &mut Connection, words: &[&str]) -> std::io::Result<Value> {
    conn.raw().get_mut().write_all(&encode(words))?;
    conn.try_read()
}

/// What is left of the hold in ms, -1 without expiry, 0 for somebody who does not hold the lock.
pub(crate) fn left(server: &Server, key: &str, owner: &str) -> i64 {
    server.cmd(&["LOCK.CHECK", key, owner]).int()
}

/// A number of the module's part of INFO, by its name without `lock_`.
pub(crate) fn lock_stat(server: &Server, name: &str) -> i64 {
    server.info_int("modules", &format!("lock_{name}"))
}

/// Nobody waits, nobody is blocked, no grant is in doubt.
pub(crate) fn wait_quiet(server: &Server) {
    wait_until("all queues to be empty", || {
        ["waiting", "queues", "provisional"].iter().all(|name| lock_stat(server, name) == 0)
            && server.info_int("clients", "blocked_clients") == 0
    });
}

/// Makes `replica` a replica of `primary` and waits until it has everything.
pub(crate) fn follow(replica: &Server, primary: &Server) {
    replica_of(replica, primary);
    wait_replica_in_sync(primary, replica);
}

/// Makes `replica` a replica of `primary`, without waiting.
pub(crate) fn replica_of(replica: &Server, primary: &Server) {
    assert_eq!(replica.cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]), "OK");
}

/// Waits until neither a snapshot nor a rewrite is being made or about to be.
pub(crate) fn wait_no_child(server: &Server) {
    wait_until("the child processes to end", || {
        let info = server.info("persistence");
        ["rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled"]
            .iter()
            .all(|field| info[*field] == "0")
    });
}

/// Whether a word is one that may be sent to the AOF and to replicas: an effect, or what holds effects together.
pub(crate) fn is_effect(command: &str) -> bool {
    const EFFECTS: [&str; 10] = [
        "LOCK._HOLD",
        "LOCK._RENEW",
        "LOCK._BOUNDS",
        "LOCK._COOL",
        "LOCK._FREE",
        "LOCK._STEP",
        "LOCK._RECOVERY",
        "MULTI",
        "EXEC",
        "SELECT",
    ];
    EFFECTS.contains(&command)
}

/// Small and repeatable random numbers (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// Clients that take, renew and give back locks as fast as the server answers, until stopped. They leave some locks held, so
/// that there is always something to compare.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

/// What the clients and the test share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    rounds: AtomicU64,
}

impl Traffic {
    pub(crate) fn start(server: &Server, clients: u64) -> Traffic {
        let shared = Arc::new(Shared::default());
        let clients = (0..clients).map(|client| {
            let (shared, conn) = (Arc::clone(&shared), server.connect());
            std::thread::spawn(move || keep_busy(conn, client, &shared))
        });
        Traffic { clients: clients.collect(), shared }
    }

    /// Lets it go on for hundreds of rounds, and for as long as the server's cron takes to come round.
    pub(crate) fn go_on(&self) {
        let rounds = || self.shared.rounds.load(Ordering::Relaxed);
        let (before, start) = (rounds(), Instant::now());
        wait_until("the clients to go on", || rounds() >= before + 200 && start.elapsed() > CRON);
    }

    /// Ends it.
    pub(crate) fn stop(mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.drain(..).for_each(|client| client.join().expect("a busy client failed"));
    }
}

/// Without this a test that fails would leave its clients spinning until the server is gone.
impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn keep_busy(mut conn: Connection, client: u64, shared: &Shared) {
    let mut dice = Dice::new(client + 1);
    let owner = format!("owner-{client}");
    while !shared.stop.load(Ordering::Relaxed) {
        shared.rounds.fetch_add(1, Ordering::Relaxed);
        let (own, shared) = (format!("own-{client}-{}", dice.roll(8)), format!("shared-{}", dice.roll(4)));
        // Own locks are nobody else's, so these replies are known; the shared one may be somebody else's.
        conn.send_together(&[
            &["LOCK.ACQUIRE", &own, &owner, "PX", "600000", "NOTE", "busy"],
            &["LOCK.ACQUIRE", &shared, &owner],
            &["LOCK.RENEW", &own, &owner, "PX", "700000"],
            &["LOCK.RELEASE", &shared, &owner],
        ]);
        assert!(conn.read().int() > 0);
        let got = conn.read() != Value::Nil;
        assert_eq!(conn.read(), 700_000);
        assert_eq!(conn.read(), i64::from(got));
        if dice.roll(4) > 0 {
            assert_eq!(conn.cmd(&["LOCK.RELEASE", &own, &owner]), 1);
        }
    }
}
