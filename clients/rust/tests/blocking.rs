//! The locks for programs without tokio.
#![cfg(feature = "sync")]

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use fencelock::blocking::Locks;
use fencelock::Error;
use support::{until, Proxy, Server};

fn locks(server: &Server) -> Locks {
    Locks::new(redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap()).unwrap()
}

fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.trim() == "fencelock")
        .count()
}

#[test]
fn a_guard_for_threads() {
    let server = Server::start();
    let locks = locks(&server);
    until("its thread runs", 20.0, || threads() >= 1);

    let lock = locks.acquire("k").unwrap();
    assert!(lock.fence() > 0 && !lock.is_lost() && lock.ttl().unwrap() > Duration::from_secs(25));
    lock.renew(Some(Duration::from_secs(60))).unwrap();
    assert!(lock.ttl().unwrap() > Duration::from_secs(50));
    assert!(matches!(locks.try_acquire("k"), Err(Error::Busy)));
    let begun = Instant::now();
    let wait = Duration::from_millis(300);
    assert!(matches!(locks.acquire_with(["k"], |asked| asked.wait(wait)), Err(Error::Busy)));
    assert!(begun.elapsed() >= wait);
    lock.release().unwrap();
    assert!(server.is_idle("k"), "a release is over when it returns");
    drop(locks.acquire("k").unwrap());
    assert!(server.is_idle("k"), "and a drop is too");

    let (tell, told) = mpsc::channel();
    let lock = locks.acquire_with(["k"], |asked| asked.lease(Duration::from_secs(6))).unwrap();
    let teller = tell.clone();
    lock.on_lost(move |reason| teller.send(reason).unwrap());
    server.sees_renewal("k", lock.owner());
    assert!(!lock.is_lost(), "it is renewed, though no call is made");
    server.ask("LOCK.BREAK k");
    assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), "broken");
    assert!(lock.is_lost());
    assert!(matches!(lock.release(), Err(Error::Lost(reason)) if reason == "broken"));

    let lock = locks.acquire("k").unwrap();
    lock.on_lost(move |reason| tell.send(reason).unwrap());
    lock.release().unwrap();
    assert!(told.recv().is_err(), "what was released is not lost");

    // A drop in async code, where nothing may block.
    let lock = locks.acquire("k").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { drop(lock) });
    until("it is given back", 20.0, || server.is_idle("k"));

    let held = locks.acquire("k").unwrap();
    let (waiting, more) = (locks.clone(), locks.clone());
    let wait = std::thread::spawn(move || waiting.acquire("k").map(drop));
    until("it waits", 20.0, || server.waiting("k") == 1);
    more.close().unwrap();
    assert!(matches!(wait.join().unwrap(), Err(Error::Closed)));
    assert_eq!(held.lost_reason().as_deref(), Some("closed"));
    assert!(server.is_idle("k"));
    drop((locks, more, held));
}

#[test]
fn a_guard_tells_of_its_times_and_may_be_left() {
    let server = Server::start();
    let locks = locks(&server);
    let lock = locks.acquire_with(["k"], |asked| asked.lease(Duration::from_secs(3))).unwrap();
    let before = lock.until();
    lock.renewed().unwrap();
    assert!(lock.until() > before && !lock.is_capped());
    server.ask("LOCK.BREAK k");
    while lock.renewed().is_ok() {} // it may have been renewed again before
    assert_eq!(lock.lost_reason().as_deref(), Some("broken"));

    let lock = locks.acquire_with(["k"], |asked| asked.max_hold(Duration::from_secs(20))).unwrap();
    assert!(lock.is_capped());
    lock.leave();
    locks.close().unwrap();
    assert_eq!(server.holders("k"), 1);
}

#[test]
fn connections_of_callers_come_and_go() {
    let server = Server::start();
    let connections = || {
        let list: String = redis::from_redis_value(server.ask("CLIENT LIST TYPE normal")).unwrap();
        list.lines().count()
    };
    let (locks, of_the_test) = (locks(&server), connections());
    let lock = locks.acquire("k").unwrap();
    assert_eq!(connections(), of_the_test + 1, "there is no other one where nobody waits");
    for _ in 0..2 {
        server.ask("CLIENT KILL TYPE normal SKIPME yes");
        assert!(!lock.ttl().unwrap().is_zero());
        server.ask("CLIENT KILL TYPE normal SKIPME yes");
        locks.try_acquire("l").unwrap().release().unwrap();
    }
    locks.close().unwrap();
    assert!(server.is_idle("k"));
    until("only that of this test is left", 20.0, || connections() == 1);
    drop(lock);
}

/// redis-rs in its default settings would give up each request after half a second.
#[test]
fn waits_beside_patient_clients_keep_their_places() {
    let server = Server::start();
    server.patient();
    server.ask("LOCK.ACQUIRE k somebody PX 60000");
    let locks = locks(&server);
    let (tell, told) = mpsc::channel();
    for place in 0..6 {
        let (tell, locks, port) = (tell.clone(), locks.clone(), server.port);
        std::thread::spawn(move || {
            if place % 2 == 0 {
                let lock = locks.acquire("k").unwrap();
                tell.send(place).unwrap();
                return lock.release().unwrap();
            }
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
            let mut connection = client.get_connection().unwrap();
            let owner = format!("patient-{place}");
            let mut ask = |words: &[&str]| {
                redis::cmd(words[0])
                    .arg("k")
                    .arg(&owner)
                    .arg(&words[1..])
                    .query::<i64>(&mut connection)
                    .unwrap()
            };
            ask(&["LOCK.ACQUIRE", "BLOCK", "0"]);
            tell.send(place).unwrap();
            ask(&["LOCK.RELEASE"]);
        });
        until("it is in line", 20.0, || server.waiting("k") == place + 1);
    }
    std::thread::sleep(Duration::from_secs(6));
    server.ask("LOCK.RELEASE k somebody");
    let order: Vec<i64> = (0..6).map(|_| told.recv_timeout(Duration::from_secs(20)).unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    until("nothing is left", 20.0, || server.is_idle("k"));
}

#[test]
fn two_hundred_threads_all_get_their_turn_in_order() {
    let server = Server::start();
    server.patient();
    server.ask("LOCK.ACQUIRE k somebody PX 60000");
    let locks = locks(&server);
    let (tell, told) = mpsc::channel();
    let mut callers = Vec::new();
    for place in 0..200 {
        let (tell, locks) = (tell.clone(), locks.clone());
        callers.push(std::thread::spawn(move || {
            let lock = locks.acquire("k").unwrap();
            tell.send(place).unwrap();
            lock.release().unwrap();
        }));
        until("it is in line", 20.0, || server.waiting("k") == place + 1);
    }
    server.ask("LOCK.RELEASE k somebody");
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let order: Vec<i64> = told.try_iter().collect();
    assert!(order.len() == 200 && order.is_sorted(), "{order:?}");
}

#[test]
fn what_came_by_waiting_is_claimed_over_the_connection_of_the_thread() {
    let server = Server::start();
    let locks = locks(&server);
    server.ask("LOCK.ACQUIRE k other");
    let before = server.figure("clients", "connected_clients:");
    std::thread::scope(|threads| {
        let wait = threads.spawn(|| locks.acquire("k").unwrap());
        until("it waits", 20.0, || server.blocked() == 1);
        server.ask("LOCK.RELEASE k other");
        let lock = wait.join().unwrap();
        assert_eq!(server.figure("commandstats", "cmdstat_lock.renew:calls="), 1);
        let own = server.figure("clients", "connected_clients:") - before;
        assert_eq!(own, 2, "one that waited, and that of the thread");
        lock.release().unwrap();
    });
    locks.close().unwrap();
}

#[test]
fn a_claim_on_a_silent_connection_goes_on_in_time() {
    let server = Server::start();
    let mut proxy = Proxy::start(&server);
    let locks =
        Locks::new(redis::Client::open(format!("redis://127.0.0.1:{}", proxy.port)).unwrap()).unwrap();
    server.ask("LOCK.ACQUIRE k other");
    std::thread::scope(|threads| {
        let wait = threads.spawn(|| locks.acquire("k").unwrap());
        until("it waits", 20.0, || server.blocked() == 1);
        server.ask("LOCK.ACQUIRE k next QUEUE 60000");
        proxy.tell("fault LOCK.RENEW half-open");
        server.ask("LOCK.RELEASE k other");
        let lock = wait.join().unwrap();
        assert_eq!(server.waiting("k"), 1, "whoever comes next had no turn meanwhile");
        proxy.tell("struck");
        lock.release().unwrap();
    });
}
