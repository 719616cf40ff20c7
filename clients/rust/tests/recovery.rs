//! A failover that loses the newest grants, and the recovery window in which they come back.

mod support;

use std::future::IntoFuture;
use std::time::Duration;

use fencelock::{Error, Lock, Locks};
use redis::Value;
use support::{until, Server};

/// A primary, a replica that hears of nothing any more, and an address that leads to the one and later to the other.
struct Failover {
    old: Server,
    new: Server,
}

impl Failover {
    fn prepare() -> Self {
        let options = ["--save", "", "--unixsocket", "socket"];
        let old = Server::with(&options);
        let follow = format!("127.0.0.1 {}", old.port);
        let new = Server::with(&[&options[..], &["--replicaof", &follow]].concat());
        old.ask("LOCK.ACQUIRE known piece-of-work PX 60000");
        until("the replica follows", 20.0, || new.holders("known") == 1);
        new.ask("REPLICAOF 127.0.0.1 1");
        let both = Self { old, new };
        both.lead_to(&both.old);
        both
    }

    fn lead_to(&self, server: &Server) {
        let (next, address) =
            (self.old.dir().with_extension("next"), self.old.dir().with_extension("address"));
        std::os::unix::fs::symlink(server.dir().join("socket"), &next).unwrap();
        std::fs::rename(next, address).unwrap();
    }

    fn locks(&self) -> Locks {
        let address = self.old.dir().with_extension("address");
        Locks::new(redis::Client::open(format!("unix://{}", address.display())).unwrap())
    }

    /// The window is longer than any test.
    fn happen(&mut self) {
        self.new.ask("CONFIG SET lock.recovery-window-ms 100000 lock.recovery-window-max-ms 100000");
        self.old.kill();
        self.new.ask("REPLICAOF NO ONE");
        self.lead_to(&self.new);
    }
}

impl Drop for Failover {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.old.dir().with_extension("address"));
    }
}

/// Mode and limit of a lock, and each hold with its fence and permits.
fn stand(server: &Server, key: &str) -> Vec<String> {
    let Value::Array(fields) = server.ask(&format!("LOCK.INFO {key}")) else { panic!("no map") };
    let Value::Array(holds) = &fields[5] else { panic!("no holds") };
    let hold = |hold: &Value| match hold {
        Value::Array(fields) => format!("{:?}", &fields[..6]),
        hold => panic!("{hold:?}"),
    };
    let mut stand: Vec<String> = holds.iter().map(hold).collect();
    stand.sort();
    stand.push(format!("{:?}", &fields[1..4]));
    stand
}

const KEYS: [&str; 7] = ["k", "readers", "pool", "{m}1", "{m}2", "{s}1", "{s}2"];

async fn take_all(locks: &Locks, old: &Server, lease: Duration) -> Vec<Lock> {
    old.ask("LOCK.ACQUIRE readers other PX 60000");
    let waits =
        ["readers"; 2].map(|key| tokio::spawn(locks.acquire(key).shared().lease(lease).into_future()));
    until("they wait", 20.0, || old.blocked() == 2);
    old.ask("LOCK.RELEASE readers other");
    let mut held = Vec::new();
    for wait in waits {
        held.push(wait.await.unwrap().unwrap());
    }
    let [one, two] = ["pool"; 2].map(|key| locks.acquire(key).permits(4, 2).lease(lease));
    for asked in [
        one,
        two,
        locks.acquire("k").lease(lease).note("moving in"),
        locks.acquire_all(["{m}1", "{m}2"]).permits(3, 2).lease(lease),
        locks.acquire_all(["{s}1", "{s}2"]).shared().lease(lease),
    ] {
        held.push(asked.await.unwrap());
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_that_a_failover_lost_come_back_as_they_were() {
    let mut servers = Failover::prepare();
    let locks = servers.locks();
    servers.old.ask("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 1000");
    let held = take_all(&locks, &servers.old, Duration::from_secs(12)).await;
    let claims = format!("{:?}", servers.old.ask("SLOWLOG GET -1"));
    let claims: Vec<&str> =
        claims.split("LOCK.RENEW").skip(1).map(|rest| &rest[..400.min(rest.len())]).collect();
    assert!(claims.len() >= 2 && claims.iter().all(|claim| claim.contains("SHARED")), "{claims:?}");

    let before = KEYS.map(|key| stand(&servers.old, key));
    servers.happen();
    for key in KEYS {
        assert!(servers.new.is_idle(key), "it has not heard of {key}");
    }
    until("all are renewed", 20.0, || KEYS.iter().all(|key| servers.new.holders(key) > 0));
    until("as they were", 20.0, || KEYS.map(|key| stand(&servers.new, key)) == before);
    for lock in held {
        assert_eq!(lock.lost_reason(), None);
        lock.release().await.unwrap();
    }
    assert!(KEYS.iter().all(|key| servers.new.is_idle(key)));
    locks.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_in_the_window_waits_for_its_end() {
    let mut servers = Failover::prepare();
    let locks = servers.locks();
    let lock = locks.acquire("k").permits(2, 1).await.unwrap();
    servers.happen();
    let is_busy = |asked: Result<Lock, Error>| matches!(asked, Err(Error::Busy));
    assert!(is_busy(locks.try_acquire("free").await));
    assert!(is_busy(locks.acquire("free").wait(Duration::from_millis(300)).await));
    // An owner of whom the server does not know whether it has let go of the lock meanwhile.
    assert!(is_busy(locks.try_acquire("known").owner("piece-of-work").await));
    assert_eq!(servers.new.holders("known"), 1);
    let again = tokio::spawn(locks.acquire("known").owner("piece-of-work").into_future());
    let wait = tokio::spawn(locks.acquire("free").into_future());
    until("it waits", 20.0, || servers.new.waiting("free") == 1);

    assert!(!lock.ttl().await.unwrap().is_zero(), "to ask for it brings it back");
    assert_eq!(servers.new.holders("k"), 1);
    assert!(!wait.is_finished() && !again.is_finished());
    servers.new.ask("LOCK.RECOVERY END");
    for call in [wait, again] {
        call.await.unwrap().unwrap().release().await.unwrap();
    }
    locks.acquire("k").permits(2, 1).await.unwrap().release().await.unwrap();
    lock.release().await.unwrap();
    locks.close().await.unwrap();
}
