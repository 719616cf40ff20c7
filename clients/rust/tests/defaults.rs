//! What redis-rs does by itself with a wait, and what the library makes of it; and the programs of the README.

mod support;

#[cfg(feature = "sync")]
use std::process::Command;
use std::time::{Duration, Instant};

use fencelock::Locks;
use support::{until, Server};

/// redis-rs in its default settings gives up a request after half a second, and keeps the connection: the wait stays in line.
#[test]
fn a_plain_wait_is_given_up_and_stays_in_line() {
    let server = Server::start();
    server.ask("LOCK.ACQUIRE k somebody PX 60000");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let begun = Instant::now();
        let mut wait = redis::cmd("LOCK.ACQUIRE");
        wait.arg(&["k", "impatient", "BLOCK", "0"]);
        let reply: Result<i64, _> = wait.query_async(&mut connection).await;
        assert!(reply.unwrap_err().is_timeout());
        assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
        until("nobody waits for the reply any more, and the wait goes on", 20.0, || server.waiting("k") == 1);
    });
}

#[test]
fn the_library_waits_beside_patient_clients_and_keeps_its_place() {
    let server = Server::start();
    server.patient();
    server.ask("LOCK.ACQUIRE k somebody PX 60000");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let locks = Locks::new(redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    for place in 0..6 {
        let (tell, locks, port) = (tell.clone(), locks.clone(), server.port);
        if place % 2 == 0 {
            runtime.spawn(async move {
                let lock = locks.acquire("k").await.unwrap();
                tell.send(place).unwrap();
                lock.release().await.unwrap();
            });
        } else {
            std::thread::spawn(move || {
                let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
                let mut connection = client.get_connection().unwrap();
                let owner = format!("patient-{place}");
                let words = |verb: &str| {
                    let mut request = redis::cmd(verb);
                    request.arg("k").arg(&owner);
                    request
                };
                let _: i64 = words("LOCK.ACQUIRE").arg("BLOCK").arg(0).query(&mut connection).unwrap();
                tell.send(place).unwrap();
                let _: i64 = words("LOCK.RELEASE").query(&mut connection).unwrap();
            });
        }
        until("it is in line", 20.0, || server.waiting("k") == place + 1);
    }
    std::thread::sleep(Duration::from_secs(6));
    server.ask("LOCK.RELEASE k somebody");
    let order: Vec<i64> = (0..6).map(|_| told.recv_timeout(Duration::from_secs(20)).unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    until("nothing is left", 20.0, || server.is_idle("k"));
}

#[cfg(feature = "sync")]
#[test]
fn the_programs_of_the_readme_run() {
    let server = Server::start();
    let blocks = include_str!("../README.md").split("```rust\n").skip(1);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    for (n, expected) in ["mine, under fence 1", "step 1, under fence 1"].into_iter().enumerate() {
        let block = blocks.clone().nth(n).and_then(|rest| rest.split("```").next()).expect("a Rust block");
        let program = block.replace("localhost:6379", &format!("127.0.0.1:{}", server.port));
        assert_ne!(program, block);
        // An example of the package is built with what its tests are built with.
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(format!("{folder}/readme.rs"), program).unwrap();
        let ran = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--locked", "--all-features", "--example", "readme"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        let _ = std::fs::remove_dir_all(folder);
        let ran = ran.unwrap();
        let printed = String::from_utf8_lossy(&ran.stdout);
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && printed.starts_with(expected), "{printed}{errors}");
        assert!(server.is_idle("invoice:42"));
    }
    assert_eq!(blocks.count(), 2);
}
