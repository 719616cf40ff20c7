//! A cluster, and a primary that sentinels name.
#![cfg(all(feature = "cluster", feature = "sentinel"))]

mod support;

use std::future::IntoFuture;
use std::time::Duration;

use fencelock::{Error, Locks};
use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClient, SentinelServerType};
use support::{until, Server};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn cluster() -> [Server; 2] {
    let options = ["--save", "", "--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let nodes = [Server::with(&options), Server::with(&options)];
    nodes[0].ask("CLUSTER ADDSLOTSRANGE 0 8191");
    nodes[1].ask("CLUSTER ADDSLOTSRANGE 8192 16383");
    nodes[1].ask("CLUSTER SET-CONFIG-EPOCH 2");
    nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {}", nodes[1].port));
    for node in &nodes {
        until("the cluster stands", 20.0, || {
            let info: String = redis::from_redis_value(node.ask("CLUSTER INFO")).unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")
        });
    }
    nodes
}

#[test]
fn locks_of_a_cluster() {
    let nodes = cluster();
    let urls = nodes.iter().map(|node| format!("redis://127.0.0.1:{}", node.port));
    let locks = Locks::new(ClusterClient::new(urls).unwrap());
    runtime().block_on(async {
        // Both nodes, whose fences may be the same numbers: each hold is renewed all the same.
        let mut held = Vec::new();
        for n in 0..20 {
            held.push(locks.acquire(format!("k{n}")).lease(Duration::from_secs(6)).await.unwrap());
        }
        let renewals = || nodes.iter().map(|node| node.figure("commandstats", "cmdstat_lock.renew:calls="));
        until("all are renewed", 20.0, || renewals().sum::<u64>() >= 20);
        for lock in held {
            lock.release().await.unwrap();
        }

        let both = ["{a}:1", "{a}:2"];
        let lock = locks.acquire_all(both).lease(Duration::from_secs(6)).await.unwrap();
        assert!(matches!(locks.try_acquire("{a}:2").await, Err(Error::Busy)));
        let waiter = tokio::spawn(locks.acquire_all(both).into_future());
        home(&nodes, "{a}:1").sees_renewal("{a}:1", lock.owner());
        let fence = lock.fence();
        lock.release().await.unwrap();
        let lock = waiter.await.unwrap().unwrap();
        assert!(lock.fence() > fence);
        lock.release().await.unwrap();

        let error = locks.acquire_all(["a", "b"]).await.unwrap_err();
        assert!(matches!(&error, Error::Redis(error) if error.code() == Some("CROSSSLOT")), "{error:?}");

        // One who goes away leaves no place.
        let lock = locks.acquire("{a}:1").await.unwrap();
        let waiter = locks.acquire("{a}:1").into_future();
        assert!(tokio::time::timeout(Duration::from_millis(700), waiter).await.is_err());
        lock.release().await.unwrap();
        until("nothing is left", 4.0, || home(&nodes, "{a}:1").is_idle("{a}:1"));
        locks.close().await.unwrap();
    });
}

/// The node that has this key.
fn home<'a>(nodes: &'a [Server], key: &str) -> &'a Server {
    nodes.iter().find(|node| node.cmd(&words(&format!("LOCK.INFO {key}"))).is_ok()).unwrap()
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_slot_that_moves_takes_the_wait_along() {
    let nodes = cluster();
    let urls = nodes.iter().map(|node| format!("redis://127.0.0.1:{}", node.port));
    let locks = Locks::new(ClusterClient::new(urls).unwrap());
    let id = |node: &Server| redis::from_redis_value::<String>(node.ask("CLUSTER MYID")).unwrap();
    let from = nodes.iter().position(|node| node.cmd(&words("LOCK.INFO k")).is_ok()).unwrap();
    let (from, to) = (&nodes[from], &nodes[1 - from]);
    let slot: i64 = redis::from_redis_value(from.ask("CLUSTER KEYSLOT k")).unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let lock = locks.acquire("k").lease(Duration::from_secs(20)).await.unwrap();
        let waiter = tokio::spawn(locks.acquire("k").into_future());
        until("it waits", 20.0, || from.waiting("k") == 1);
        to.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", id(from)));
        from.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", id(to)));
        from.ask(&format!("MIGRATE 127.0.0.1 {} k 0 5000", to.port));
        to.ask(&format!("CLUSTER SETSLOT {slot} NODE {}", id(to)));
        from.ask(&format!("CLUSTER SETSLOT {slot} NODE {}", id(to)));
        until("it waits at the other node", 20.0, || to.waiting("k") == 1);
        lock.release().await.unwrap();
        let lock = tokio::time::timeout(Duration::from_secs(20), waiter).await.unwrap().unwrap().unwrap();
        lock.release().await.unwrap();
    });
}

/// A primary, a replica that takes over, and the sentinel that says which is which.
struct Watched {
    primary: Server,
    replica: Server,
    sentinel: Server,
}

impl Watched {
    fn start() -> Self {
        let primary = Server::start();
        let replica = Server::with(&["--save", "", "--replicaof", &format!("127.0.0.1 {}", primary.port)]);
        until("the replica follows", 20.0, || {
            let info: String = redis::from_redis_value(replica.ask("INFO replication")).unwrap();
            info.contains("master_link_status:up")
        });
        let watch = format!("sentinel monitor locks 127.0.0.1 {} 1", primary.port);
        let sentinel = Server::with(&["--sentinel", &watch, "sentinel down-after-milliseconds locks 1000"]);
        until(
            "the sentinel knows the replica",
            20.0,
            || matches!(sentinel.ask("SENTINEL REPLICAS locks"), redis::Value::Array(replicas) if replicas.len() == 1),
        );
        Self { primary, replica, sentinel }
    }

    fn locks(&self) -> Locks {
        let urls = vec![format!("redis://127.0.0.1:{}", self.sentinel.port)];
        let name = "locks".to_owned();
        Locks::new(SentinelClient::build(urls, name, None, SentinelServerType::Master).unwrap())
    }

    fn fail_over(&self) {
        let begin = words("SENTINEL FAILOVER locks");
        until("the failover begins", 20.0, || self.sentinel.cmd(&begin).is_ok());
        let replica = self.replica.port.to_string();
        until("the replica is the primary", 30.0, || {
            let address = self.sentinel.ask("SENTINEL GET-MASTER-ADDR-BY-NAME locks");
            redis::from_redis_value::<Vec<String>>(address).unwrap()[1] == replica
        });
    }
}

#[test]
fn locks_of_the_primary_that_sentinels_name() {
    let watched = Watched::start();
    let (primary, replica) = (&watched.primary, &watched.replica);
    let locks = watched.locks();
    runtime().block_on(async {
        let lock = locks.acquire("k").lease(Duration::from_secs(20)).await.unwrap();
        let waiter = tokio::spawn(locks.acquire("k").into_future());
        until("it waits", 20.0, || primary.waiting("k") == 1);
        watched.fail_over();
        lock.renew(None).await.unwrap();
        assert_eq!(lock.lost_reason(), None);
        lock.release().await.unwrap();
        let lock = tokio::time::timeout(Duration::from_secs(20), waiter).await.unwrap().unwrap().unwrap();
        until("held at the new primary", 20.0, || replica.holders("k") == 1);
        lock.release().await.unwrap();
    });
}

/// For some seconds after a planned failover the old primary says yes to all, so nothing may be asked there.
#[test]
fn a_lock_goes_along_when_sentinels_name_another_primary() {
    let watched = Watched::start();
    let (primary, replica) = (&watched.primary, &watched.replica);
    let locks = watched.locks();
    runtime().block_on(async {
        let lock = locks.acquire("k").lease(Duration::from_secs(6)).await.unwrap();
        until("the replica has it", 20.0, || replica.holders("k") == 1);
        watched.fail_over();
        replica.ask("CONFIG RESETSTAT");
        until("the lock is renewed there", 20.0, || {
            let info: String = redis::from_redis_value(replica.ask("INFO commandstats")).unwrap();
            info.contains("cmdstat_lock.renew")
        });
        assert_eq!(lock.lost_reason(), None);
        primary.ask("CONFIG RESETSTAT");
        let others = watched.locks();
        assert!(matches!(others.try_acquire("k").await, Err(Error::Busy)));
        let fence = lock.fence();
        lock.release().await.unwrap();
        let lock = locks.acquire("k").await.unwrap();
        assert!(lock.fence() > fence);
        lock.release().await.unwrap();
        assert!(replica.is_idle("k"));
        let info: String = redis::from_redis_value(primary.ask("INFO commandstats")).unwrap();
        assert!(!info.contains("cmdstat_lock.acquire"), "{info}");
    });
}
