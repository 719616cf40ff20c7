//! What a program does to its locks: it drops, cancels, closes, and ends its runtime at any moment.

mod support;

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use fencelock::{Error, Locks};
use support::{until, Proxy, Server};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn locks(port: u16) -> Locks {
    Locks::new(redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap())
}

#[test]
fn a_release_that_is_cancelled_goes_on() {
    let server = Server::start();
    let mut proxy = Proxy::start(&server);
    let (runtime, locks) = (runtime(), locks(proxy.port));
    runtime.block_on(async {
        let lock = locks.acquire("k").await.unwrap();
        proxy.tell("fault LOCK.RELEASE lose");
        let release = lock.release();
        assert!(tokio::time::timeout(Duration::from_millis(1), release).await.is_err());
    });
    until("it is given back", 20.0, || server.is_idle("k"));
}

#[test]
fn a_lock_that_is_dropped_outside_of_the_runtime_is_given_back() {
    let server = Server::start();
    let (runtime, locks) = (runtime(), locks(server.port));
    let lock = runtime.block_on(locks.acquire("k").into_future()).unwrap();
    std::thread::spawn(move || drop(lock)).join().unwrap();
    until("it is given back", 20.0, || server.is_idle("k"));
}

#[test]
fn times_without_end_are_no_panic() {
    let server = Server::start();
    let (runtime, locks) = (runtime(), locks(server.port));
    runtime.block_on(async {
        let lock = locks.acquire("k").wait(Duration::MAX).await.unwrap();
        assert!(matches!(lock.renew(Some(Duration::MAX)).await, Err(Error::Redis(_))));
        lock.release().await.unwrap();
        assert!(matches!(locks.acquire("k").lease(Duration::MAX).await, Err(Error::Redis(_))));
        assert!(matches!(locks.acquire_all([""; 0]).await, Err(Error::Redis(_))));
    });
}

#[test]
fn locks_live_longer_than_their_runtime() {
    let server = Server::start();
    let locks = locks(server.port);
    let lost = runtime().block_on(async {
        locks.acquire("first").lease(Duration::from_secs(2)).await.unwrap() // renewed by a task of this runtime
    });
    runtime().block_on(async {
        let lock = locks.acquire("second").lease(Duration::from_secs(6)).await.unwrap();
        server.sees_renewal("second", lock.owner());
        assert_eq!(lock.lost_reason(), None, "there is a new task that renews");
        lock.release().await.unwrap();
    });
    // Whoever renews now renews the first one as well.
    drop(lost);
}

#[test]
fn a_loss_is_known_by_the_clock_though_nobody_ran() {
    let server = Server::start();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let locks = locks(server.port);
    let lock = runtime.block_on(locks.acquire("k").lease(Duration::from_secs(2)).into_future()).unwrap();
    assert!(!lock.is_lost());
    until("it is lost", 20.0, || lock.is_lost());
    assert_eq!(lock.lost_reason().as_deref(), Some("lease-over"));
}

#[test]
fn close_ends_waits_and_leaves_no_connection() {
    let server = Server::start();
    server.ask("LOCK.ACQUIRE busy somebody PX 60000");
    let runtime = runtime();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let locks = Locks::with_reply_limit(client, Duration::from_secs(60));
    let connections = || {
        let list: String = redis::from_redis_value(server.ask("CLIENT LIST TYPE normal")).unwrap();
        list.lines().count()
    };
    let of_the_test = connections();
    let mut waits = Vec::new();
    for n in 0..20 {
        waits.push(runtime.spawn(locks.acquire("busy").into_future()));
        until("it is in line", 20.0, || server.waiting("busy") == n + 1);
    }
    let held = runtime.block_on(locks.acquire("held").into_future()).unwrap();
    let told = runtime.spawn(held.lost());
    let begun = Instant::now();
    runtime.block_on(locks.close()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "it waits for no limit: {:?}", begun.elapsed());
    for wait in waits {
        assert!(matches!(runtime.block_on(wait).unwrap(), Err(Error::Closed)));
    }
    assert_eq!(runtime.block_on(told).unwrap(), "closed");
    assert!(server.is_idle("held") && server.waiting("busy") == 0);
    assert!(matches!(runtime.block_on(locks.acquire("k").into_future()), Err(Error::Closed)));
    assert!(matches!(runtime.block_on(held.release()), Err(Error::Lost(_))));
    until("no connection is left", 20.0, || connections() == of_the_test);
}

#[test]
fn a_wrong_password_is_told_at_once() {
    let server = Server::start();
    let (runtime, begun) = (runtime(), Instant::now());
    let locks = Locks::new(redis::Client::open(format!("redis://:wrong@127.0.0.1:{}", server.port)).unwrap());
    assert!(matches!(runtime.block_on(locks.acquire("k").into_future()), Err(Error::Redis(_))));
    assert!(begun.elapsed() < Duration::from_secs(9), "and not after its patience: {:?}", begun.elapsed());
}

#[test]
fn the_reason_is_told_under_resp3_as_well() {
    let server = Server::start();
    let runtime = runtime();
    let url = format!("redis://127.0.0.1:{}/?protocol=resp3", server.port);
    let locks = Locks::new(redis::Client::open(url).unwrap());
    runtime.block_on(async {
        let lock = locks.acquire("k").lease(Duration::from_secs(6)).await.unwrap();
        server.ask("LOCK.BREAK k");
        assert_eq!(lock.lost().await, "broken");
    });
}

/// A thousand locks of one process are renewed with few packets, not with a thousand.
#[test]
fn what_is_due_is_renewed_in_one_go() {
    let server = Server::start();
    let (runtime, locks) = (runtime(), locks(server.port));
    let stat = |section: &str, name: &str| -> u64 {
        let info: String = redis::from_redis_value(server.ask(&format!("INFO {section}"))).unwrap();
        let info = info.to_lowercase();
        let rest = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        rest.split(',').next().unwrap().parse().unwrap()
    };
    let mut held = Vec::new();
    runtime.block_on(async {
        for n in 0..1_000 {
            held.push(locks.try_acquire(format!("k{n}")).lease(Duration::from_secs(12)).await.unwrap());
        }
    });
    let (reads, mut looks) = (stat("stats", "total_reads_processed:"), 0);
    until("all are renewed", 20.0, || {
        looks += 1;
        stat("commandstats", "cmdstat_lock.renew:calls=") >= 1_000
    });
    let reads = stat("stats", "total_reads_processed:") - reads - looks - 1;
    println!("1,000 renewals in {reads} reads by the server");
    assert!(reads < 300, "{reads}");
    assert!(held.iter().all(|lock| !lock.is_lost()));
}
