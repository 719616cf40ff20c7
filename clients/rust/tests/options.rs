//! How a lock is wanted, and what is told of the wait for it.

mod support;

use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fencelock::{Acquire, Delay, Error, Locks, Servers};
use redis::Value;
use support::{until, Server};
use tokio::runtime::Runtime;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn client(server: &Server) -> redis::Client {
    redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap()
}

fn locks(server: &Server) -> Locks {
    Locks::new(client(server))
}

/// What is told last.
fn told(asked: Acquire) -> (Acquire, Arc<Mutex<Option<Delay>>>) {
    let last = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&last);
    (asked.on_delay(move |delay| *tell.lock().unwrap() = Some(delay)), last)
}

#[test]
fn names_are_any_bytes() {
    let server = Server::start();
    let locks = locks(&server);
    runtime().block_on(async {
        let lock = locks.acquire(b"k\xff").owner(b"o\xfe").note(b"\xfd").await.unwrap();
        assert_eq!(lock.owner(), b"o\xfe");
        let (asked, last) = told(locks.try_acquire(b"k\xff"));
        assert!(matches!(asked.await, Err(Error::Busy)));
        let last = last.lock().unwrap().take();
        let Some(Delay::Busy { reason, holder: Some(holder), .. }) = &last else { panic!("{last:?}") };
        assert_eq!((reason.as_str(), holder.as_slice()), ("held", &b"o\xfe"[..]));
        lock.release().await.unwrap();
        locks.close().await.unwrap();
    });
}

#[test]
fn a_hold_has_its_shortest_and_its_longest_time() {
    let server = Server::start();
    let locks = locks(&server);
    runtime().block_on(async {
        let lock = locks.acquire("k").min_hold(Duration::from_secs(60)).await.unwrap();
        assert!(!lock.is_capped());
        lock.release().await.unwrap();
        let (asked, last) = told(locks.try_acquire("k"));
        assert!(matches!(asked.await, Err(Error::Busy)));
        let last = last.lock().unwrap().take();
        let Some(Delay::Busy { reason, cooldown: Some(cooldown), .. }) = &last else { panic!("{last:?}") };
        assert!(reason == "min-hold" && *cooldown > Duration::from_secs(30), "{last:?}");

        let lock = locks.acquire("l").max_hold(Duration::from_millis(300)).await.unwrap();
        assert!(lock.is_capped() && lock.until().left() <= Duration::from_millis(300));
        assert_eq!(lock.lost().await, "max-hold");
    });
}

#[test]
fn a_tied_hold_follows_the_connection_though_its_renewal_is_far_away() {
    let server = Server::start();
    let locks = locks(&server);
    runtime().block_on(async {
        let tied =
            locks.acquire("k").lease(Duration::from_secs(600)).tied(Duration::from_secs(60)).await.unwrap();
        let other = locks.acquire("l").lease(Duration::from_secs(1)).await.unwrap();
        let client = || {
            let client = server.ask("EVAL return(redis.call('LOCK.INFO','k')[6][1][26]) 0");
            redis::from_redis_value::<i64>(client).unwrap()
        };
        let before = client();
        server.ask("CLIENT KILL TYPE normal SKIPME yes");
        until("it is tied to the next connection", 20.0, || ![0, before].contains(&client()));
        tied.release().await.unwrap();
        other.release().await.unwrap();
        locks.close().await.unwrap();
    });
}

#[test]
fn a_tied_hold_of_several_locks_ends_with_its_connection() {
    let server = Server::start();
    let runtime = runtime();
    let lock = runtime.block_on(async {
        let locks = locks(&server);
        let asked = locks.acquire_all(["k", "l"]).owner("me").lease(Duration::from_secs(600));
        let lock = asked.tied(Duration::from_secs(1)).await.unwrap();
        // The renewal over the next connection is tied to that one.
        server.ask("CLIENT KILL TYPE normal SKIPME yes");
        lock.renew(None).await.unwrap();
        for key in ["k", "l"] {
            until("the grace is over", 20.0, || {
                let left: i64 = redis::from_redis_value(server.ask(&format!("LOCK.CHECK {key} me"))).unwrap();
                assert!(left > 500_000, "{key} has its whole lease: {left}");
                left < 598_000
            });
        }
        lock
    });
    std::mem::forget(lock);
    drop(runtime);
    until("it is free", 20.0, || server.is_idle("k") && server.is_idle("l"));
}

#[test]
fn a_wait_that_is_watched_ends_when_an_operator_cancels_it() {
    let server = Server::start();
    server.ask("LOCK.ACQUIRE k somebody PX 60000");
    let (runtime, locks) = (runtime(), locks(&server));
    let (asked, last) = told(locks.acquire("k").owner("me"));
    let wait = runtime.spawn(async { asked.await.map(drop) });
    until("it waits", 20.0, || server.waiting("k") == 1 && server.blocked() == 1);
    server.ask("LOCK.CANCEL k me");
    assert!(matches!(runtime.block_on(wait).unwrap(), Err(Error::Busy)));
    let last = last.lock().unwrap().take();
    assert!(matches!(&last, Some(Delay::Busy { reason, .. }) if reason == "cancelled"), "{last:?}");
    assert_eq!(server.waiting("k"), 0);
}

#[test]
fn connections_may_be_of_the_callers_own_making() {
    let server = Server::start();
    let client = client(&server);
    let locks = Locks::new(Servers::by(move || {
        let client = client.clone();
        async move {
            let connection = client.get_multiplexed_async_connection().await?;
            Ok(move |cmd: redis::Cmd| {
                let mut connection = connection.clone();
                async move { cmd.query_async::<Value>(&mut connection).await }
            })
        }
    }));
    runtime().block_on(async {
        let lock = locks.acquire("k").lease(Duration::from_secs(3)).await.unwrap();
        let waiter = tokio::spawn(locks.acquire("k").into_future());
        until("it waits", 20.0, || server.blocked() == 1);
        lock.renewed().await;
        lock.release().await.unwrap();
        waiter.await.unwrap().unwrap().release().await.unwrap();
    });
}

#[test]
fn a_lock_may_be_left_to_somebody_else() {
    let server = Server::start();
    let locks = locks(&server);
    runtime().block_on(async {
        locks.acquire("k").lease(Duration::from_secs(60)).await.unwrap().leave();
        locks.close().await.unwrap();
    });
    assert_eq!(server.holders("k"), 1);
}

#[test]
fn close_tells_what_could_not_be_given_back() {
    let server = Server::start();
    let (runtime, locks) = (runtime(), locks(&server));
    let lock = runtime.block_on(async { locks.acquire("k").await }).unwrap();
    server.ask("ACL SETUSER default -lock.release");
    let closed = runtime.block_on(locks.close());
    assert!(matches!(&closed, Err(Error::Redis(error)) if error.code() == Some("NOPERM")), "{closed:?}");
    drop(lock);
}

#[test]
fn a_primary_without_a_replica_for_a_while_is_no_loss() {
    let server = Server::start();
    let (runtime, locks) = (runtime(), locks(&server));
    let lock = runtime.block_on(async { locks.acquire("k").lease(Duration::from_secs(6)).await }).unwrap();
    server.ask("CONFIG SET min-replicas-to-write 1");
    let refused = || server.figure("errorstats", "errorstat_NOREPLICAS:count=");
    until("renewals are refused", 20.0, || refused() > 1);
    let (asked, last) = told(locks.acquire("l"));
    let wait = runtime.spawn(async { asked.await.map(drop) });
    until("the wait is told", 20.0, || last.lock().unwrap().is_some());
    server.ask("CONFIG SET min-replicas-to-write 0");
    runtime.block_on(lock.renewed());
    assert_eq!(lock.lost_reason(), None);
    runtime.block_on(wait).unwrap().unwrap();
    runtime.block_on(lock.release()).unwrap();
}
