//! The program of clients/bench in Rust, on redis-rs: with tokio, or with `blocking` as its second argument. See bench.py for
//! what it obeys.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::Cmd;

const OWNER: &str = "bench:12345:0123456789abcdef";

fn acquire() -> Cmd {
    let mut request = redis::cmd("LOCK.ACQUIRE");
    request.arg("raw").arg(OWNER).arg("PX").arg(30_000);
    request
}

fn release(fence: i64) -> Cmd {
    let mut request = redis::cmd("LOCK.RELEASE");
    request.arg("raw").arg(OWNER).arg("FENCE").arg(fence);
    request
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// What is asked for: a word, a number or a key, and the lease.
fn requests() -> impl Iterator<Item = (String, String, usize, Duration)> {
    std::io::stdin().lines().map(|line| {
        let line = line.unwrap();
        let mut words = line.split(' ').map(str::to_owned);
        let (word, first) = (words.next().unwrap(), words.next().unwrap_or_default());
        let lease = words.next().and_then(|ms| ms.parse().ok()).unwrap_or_default();
        let n = first.parse().unwrap_or_default();
        (word, first, n, Duration::from_millis(lease))
    })
}

async fn tokio(client: redis::Client) {
    let locks = fencelock::Locks::new(client.clone());
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut held = Vec::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || requests().for_each(|request| tell.send(request).unwrap()));
    while let Some((word, key, n, lease)) = told.recv().await {
        match word.as_str() {
            "raw" => {
                for _ in 0..n {
                    let fence: i64 = acquire().query_async(&mut connection).await.unwrap();
                    release(fence).query_async::<i64>(&mut connection).await.unwrap();
                }
            }
            "lib" => {
                for _ in 0..n {
                    locks.acquire("pair").await.unwrap().release().await.unwrap();
                }
            }
            "hold" => {
                for i in 0..n {
                    held.push(locks.acquire(format!("held:{i}")).lease(lease).await.unwrap());
                }
            }
            "drop" => {
                for lock in held.drain(..) {
                    lock.release().await.unwrap();
                }
            }
            "turn" => {
                let lock = locks.acquire(key).await.unwrap();
                println!("wall {}", now());
                lock.release().await.unwrap();
            }
            "rtt" => {
                for _ in 0..n {
                    let begun = Instant::now();
                    redis::cmd("PING").query_async::<()>(&mut connection).await.unwrap();
                    println!("{}", begun.elapsed().as_nanos());
                }
            }
            other => panic!("{other}"),
        }
        println!("ok");
    }
}

fn blocking(client: &redis::Client) {
    let locks = fencelock::blocking::Locks::new(client.clone()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut held = Vec::new();
    for (word, key, n, lease) in requests() {
        match word.as_str() {
            "raw" => {
                for _ in 0..n {
                    let fence: i64 = acquire().query(&mut connection).unwrap();
                    release(fence).query::<i64>(&mut connection).unwrap();
                }
            }
            "lib" => (0..n).for_each(|_| locks.acquire("pair").unwrap().release().unwrap()),
            "hold" => {
                let lock = |i| locks.acquire_with([format!("held:{i}")], |asked| asked.lease(lease)).unwrap();
                held.extend((0..n).map(lock));
            }
            "drop" => held.drain(..).for_each(|lock| lock.release().unwrap()),
            "turn" => {
                let lock = locks.acquire(key).unwrap();
                println!("wall {}", now());
                lock.release().unwrap();
            }
            "rtt" => {
                for _ in 0..n {
                    let begun = Instant::now();
                    redis::cmd("PING").query::<()>(&mut connection).unwrap();
                    println!("{}", begun.elapsed().as_nanos());
                }
            }
            other => panic!("{other}"),
        }
        println!("ok");
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", args[1])).unwrap();
    if args.get(2).is_some_and(|face| face == "blocking") {
        return blocking(&client);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(tokio(client));
}
