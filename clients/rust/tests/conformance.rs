//! Plays the scenarios of clients/conformance.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fencelock::{Error, Lock, Locks};
use redis::Value;
use serde_json::Value as Json;
use support::{until, Proxy, Server};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

type Call = JoinHandle<Result<Lock, Error>>;

struct Play<'a> {
    runtime: &'a Runtime,
    server: &'a Server,
    locks: Locks,
    keys: Vec<String>,
    calls: BTreeMap<String, (Call, bool)>,
    locks_held: BTreeMap<String, Lock>,
    fences: BTreeMap<String, i64>,
    believers: BTreeSet<String>,
    order: Arc<Mutex<Vec<usize>>>,
    crowd: usize,
}

fn text<'j>(step: &'j Json, name: &str) -> &'j str {
    step[name].as_str().unwrap_or_default()
}

fn seconds(step: &Json, name: &str, otherwise: f64) -> f64 {
    step[name].as_f64().unwrap_or(otherwise)
}

fn outcome<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "held",
        Err(Error::Busy) => "busy",
        Err(Error::Lost(_)) => "not-owned",
        Err(_) => "error",
    }
}

impl Play<'_> {
    fn step(&mut self, step: &Json, proxy: &mut Proxy) {
        let who = text(step, "who").to_owned();
        match text(step, "do") {
            "acquire" => {
                self.acquire(&who, step);
                if step["later"] != true {
                    self.join(&who, step);
                }
            }
            "join" => self.join(&who, step),
            "cancel" => self.calls[&who].0.abort(),
            "release" => {
                self.believers.remove(&who);
                // A lock that is released is gone; there is nothing to release twice.
                let result = self.locks_held.remove(&who).map(|lock| self.runtime.block_on(lock.release()));
                let result =
                    result.map_or("error", |result| if result.is_ok() { "ok" } else { outcome(&result) });
                assert_eq!(result, text(step, "expect"), "{step}");
            }
            "owned" => {
                let left = self.locks_held.get(&who).map(|lock| self.runtime.block_on(lock.ttl()));
                let owned = left.is_some_and(|left| left.is_ok_and(|left| !left.is_zero()));
                assert_eq!(Json::Bool(owned), step["expect"], "{step}");
            }
            "lost" => {
                let lost = self.locks_held[&who].lost();
                let limit = Duration::from_secs_f64(seconds(step, "within", 5.0));
                let told = self.runtime.block_on(async { tokio::time::timeout(limit, lost).await });
                assert_eq!(told.expect("it is told"), text(step, "reason"), "{step}");
            }
            "not-lost" => {
                std::thread::sleep(Duration::from_secs_f64(seconds(step, "for", 0.0)));
                assert_eq!(self.locks_held[&who].lost_reason(), None, "{step}");
            }
            "drop" => {
                let _inside = self.runtime.enter();
                self.believers.remove(&who);
                self.locks_held.remove(&who);
            }
            "rising" => {
                let names: Vec<&str> =
                    step["who"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
                assert!(
                    names.windows(2).all(|two| self.fences[two[0]] < self.fences[two[1]]),
                    "{:?}",
                    self.fences
                );
            }
            "crowd" => self.gather(step["n"].as_u64().unwrap() as usize),
            "crowd-in-order" => {
                until("all had their turn", seconds(step, "within", 5.0), || {
                    self.order.lock().unwrap().len() == self.crowd
                });
                assert!(self.order.lock().unwrap().is_sorted());
            }
            "server" => {
                let words = |word: &Json| word.as_str().map_or_else(|| word.to_string(), str::to_owned);
                let args: Vec<String> = step["args"].as_array().unwrap().iter().map(words).collect();
                let reply = self.server.cmd(&args);
                if let Some(expected) = step.get("reply") {
                    let told = match reply.unwrap() {
                        Value::Int(n) => n.to_string(),
                        Value::Nil => "null".to_owned(),
                        other => redis::from_redis_value(other).unwrap(),
                    };
                    assert_eq!(told, words(expected), "{step}");
                }
            }
            "until" => until(&step.to_string(), seconds(step, "within", 5.0), || {
                let is = |name: &str, now: i64| step[name].as_i64().is_none_or(|wanted| wanted == now);
                let key = &self.keys[0];
                (step["waiting"].is_null() || is("waiting", self.server.waiting(key)))
                    && (step["holders"].is_null() || is("holders", self.server.holders(key)))
                    && (step["blocked"].is_null() || is("blocked", self.server.blocked()))
            }),
            "fault" => proxy.tell(text(step, "line")),
            "sleep" => std::thread::sleep(Duration::from_secs_f64(seconds(step, "seconds", 0.0))),
            other => panic!("unknown step {other}"),
        }
    }

    fn acquire(&mut self, who: &str, step: &Json) {
        let kind = step["kind"].as_str().unwrap_or("exclusive");
        let keys = if kind == "multi" { self.keys.clone() } else { vec![self.keys[0].clone()] };
        let mut asked = match step["wait"].as_f64() {
            Some(0.0) if keys.len() == 1 => self.locks.try_acquire(&keys[0]),
            Some(wait) => self.locks.acquire_all(keys).wait(Duration::from_secs_f64(wait)),
            None => self.locks.acquire_all(keys),
        };
        asked = asked.lease(Duration::from_secs_f64(seconds(step, "timeout", 10.0)));
        if step["renew"] != true {
            asked = asked.without_renewal();
        }
        asked = match kind {
            "shared" => asked.shared(),
            "semaphore" => asked.permits(step["limit"].as_u64().unwrap() as u32, 1),
            _ => asked,
        };
        let call = self.runtime.spawn(asked.into_future());
        self.calls.insert(who.to_owned(), (call, kind == "exclusive" || kind == "multi"));
    }

    fn join(&mut self, who: &str, step: &Json) {
        let (call, is_alone) = self.calls.remove(who).unwrap();
        let limit = Duration::from_secs_f64(seconds(step, "within", 5.0));
        let joined = self.runtime.block_on(async { tokio::time::timeout(limit, call).await });
        let expected = text(step, "expect");
        let result = match joined.unwrap_or_else(|_| panic!("{who} still waits")) {
            Ok(result) => result,
            // A cancelled task has no result; in other languages that is the error of a busy lock.
            Err(_) => return assert!(["busy", "error"].contains(&expected), "{step}"),
        };
        assert_eq!(outcome(&result), expected, "{step}: {result:?}");
        let Ok(lock) = result else { return };
        for other in &self.believers {
            let believes = self.locks_held[other].lost_reason().is_none();
            assert!(!(is_alone && believes), "{other} and {who} believe in one lock at one moment");
        }
        self.fences.insert(who.to_owned(), lock.fence());
        self.believers.insert(who.to_owned());
        self.locks_held.insert(who.to_owned(), lock);
    }

    fn gather(&mut self, n: usize) {
        self.crowd = n;
        for place in 0..n {
            let before = self.server.waiting(&self.keys[0]);
            let (locks, key, order) = (self.locks.clone(), self.keys[0].clone(), Arc::clone(&self.order));
            self.runtime.spawn(async move {
                let lock = locks.acquire(key).await.unwrap();
                order.lock().unwrap().push(place);
                lock.release().await.unwrap();
            });
            until("it is in line", 5.0, || self.server.waiting(&self.keys[0]) == before + 1);
        }
    }
}

#[test]
fn scenarios() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = Server::start();
    let mut proxy = Proxy::start(&server);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance/scenarios.json");
    let all: Vec<Json> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let (mut played, mut skipped) = (0, 0);
    for scenario in all {
        let name = text(&scenario, "name");
        let needs: Vec<&str> =
            scenario["needs"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let reason = match () {
            () if scenario.get("not-yet").is_some() => Some(text(&scenario, "not-yet")),
            () if needs.contains(&"fork") => {
                Some("a tokio runtime does not live on in a child that was forked")
            }
            () if needs.contains(&"pool") => {
                Some("there is no pool: all share one connection for short requests")
            }
            () => None,
        };
        if let Some(reason) = reason {
            println!("skipped: {name}: {reason}");
            skipped += 1;
            continue;
        }
        println!("{name}");
        proxy.tell("heal");
        server.ask("FLUSHALL");
        let keys = scenario["keys"]
            .as_array()
            .map(|keys| keys.iter().filter_map(Json::as_str).map(str::to_owned).collect());
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", proxy.port)).unwrap();
        let mut play = Play {
            runtime: &runtime,
            server: &server,
            locks: Locks::with_reply_limit(
                client,
                Duration::from_secs_f64(seconds(&scenario["client"], "timeout", 5.0)),
            ),
            keys: keys.unwrap_or_else(|| vec!["k".to_owned()]),
            calls: BTreeMap::new(),
            locks_held: BTreeMap::new(),
            fences: BTreeMap::new(),
            believers: BTreeSet::new(),
            order: Arc::default(),
            crowd: 0,
        };
        for step in scenario["steps"].as_array().unwrap() {
            play.step(step, &mut proxy);
        }
        for key in play.keys.clone() {
            until(&format!("nothing is left of {key}"), 2.0, || server.is_idle(&key));
        }
        proxy.tell("heal");
        runtime.block_on(play.locks.close());
        played += 1;
    }
    println!("{played} scenarios played, {skipped} skipped");
    assert!(played >= 26);
}
