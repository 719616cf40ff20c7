//! Plays the scenarios of clients/conformance.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fencelock::{Error, Lock, Locks};
use redis::Value;
use serde_json::Value as Json;
use support::{until, Deployed, Proxy, Server};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

type Call = JoinHandle<Result<Lock, Error>>;

struct Play<'a> {
    runtime: &'a Runtime,
    server: Arc<Server>,
    successor: Option<Arc<Server>>,
    /// Without it nothing befalls the requests.
    proxy: Option<&'a mut Proxy>,
    deployed: Option<&'a mut Deployed>,
    programs: Vec<Locks>,
    many: Vec<Lock>,
    keys: Vec<String>,
    calls: BTreeMap<String, (Call, bool, Vec<String>)>,
    locks_held: BTreeMap<String, (Lock, Vec<String>)>,
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
    fn tell(&mut self, line: &str) {
        if let Some(proxy) = &mut self.proxy {
            proxy.tell(line);
        }
    }

    fn step(&mut self, step: &Json) {
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
                let result =
                    self.locks_held.remove(&who).map(|(lock, _)| self.runtime.block_on(lock.release()));
                let result =
                    result.map_or("error", |result| if result.is_ok() { "ok" } else { outcome(&result) });
                assert_eq!(result, text(step, "expect"), "{step}");
            }
            "owned" => {
                let left = self.locks_held.get(&who).map(|(lock, _)| self.runtime.block_on(lock.ttl()));
                let owned = left.is_some_and(|left| left.is_ok_and(|left| !left.is_zero()));
                assert_eq!(Json::Bool(owned), step["expect"], "{step}");
            }
            "lost" => {
                let lost = self.locks_held[&who].0.lost();
                let limit = Duration::from_secs_f64(seconds(step, "within", 5.0));
                let told = self.runtime.block_on(async { tokio::time::timeout(limit, lost).await });
                assert_eq!(told.expect("it is told"), text(step, "reason"), "{step}");
            }
            "not-lost" => {
                std::thread::sleep(Duration::from_secs_f64(seconds(step, "for", 0.0)));
                assert_eq!(self.locks_held[&who].0.lost_reason(), None, "{step}");
            }
            "extend" => {
                let lease = Duration::from_secs_f64(seconds(step, "seconds", 0.0));
                let result = self.runtime.block_on(self.locks_held[&who].0.renew(Some(lease)));
                let result = if result.is_ok() { "ok" } else { outcome(&result) };
                assert_eq!(result, text(step, "expect"), "{step}");
            }
            "many" => {
                let lease = Duration::from_secs_f64(seconds(step, "timeout", 10.0));
                self.keys = (0..step["n"].as_u64().unwrap()).map(|n| format!("k:{n}")).collect();
                for key in &self.keys {
                    let asked = self.programs[0].try_acquire(key).lease(lease).into_future();
                    self.many.push(self.runtime.block_on(asked).unwrap());
                }
            }
            "release-many" => {
                for lock in self.many.drain(..) {
                    self.runtime.block_on(lock.release()).unwrap();
                }
            }
            "reads" => {
                let looks = || {
                    let renewals = self.server.figure("commandstats", "cmdstat_lock.renew:calls=");
                    (renewals, self.server.figure("stats", "total_reads_processed:"))
                };
                let before = looks();
                std::thread::sleep(Duration::from_secs_f64(seconds(step, "for", 0.0)));
                let (renewals, reads) = looks();
                let (renewals, reads) = (renewals - before.0, reads - before.1);
                assert!(renewals >= step["renewals"].as_u64().unwrap(), "{renewals}");
                assert!(reads <= step["at-most"].as_u64().unwrap(), "{reads}");
            }
            "restart" => self.server.restart(),
            "close" => drop(self.runtime.block_on(self.programs[0].close())),
            "unblock" => {
                for line in self.server.text("CLIENT LIST").lines().filter(|line| line.contains(" flags=b "))
                {
                    let id = line.split(['=', ' ']).nth(1).unwrap();
                    self.server.ask(&format!("CLIENT UNBLOCK {id} {}", text(step, "with")));
                }
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
                let key = step["key"].as_str().unwrap_or(&self.keys[0]);
                (step["waiting"].is_null() || is("waiting", self.server.waiting(key)))
                    && (step["holders"].is_null() || is("holders", self.server.holders(key)))
                    && (step["mode"].is_null() || self.server.mode(key) == text(step, "mode"))
                    && (step["blocked"].is_null() || is("blocked", self.server.blocked()))
            }),
            "successor" => {
                self.server = self.successor.clone().unwrap();
                self.server.ask("REPLICAOF 127.0.0.1 1");
                self.server.ask("REPLICAOF NO ONE");
                self.tell(&format!("server {}", self.server.port));
            }
            "failover" => self.server = Arc::new(self.deployed.as_mut().unwrap().failover()),
            "fault" => self.tell(text(step, "line")),
            "sleep" => std::thread::sleep(Duration::from_secs_f64(seconds(step, "seconds", 0.0))),
            other => panic!("unknown step {other}"),
        }
    }

    fn acquire(&mut self, who: &str, step: &Json) {
        let kind = step["kind"].as_str().unwrap_or("exclusive");
        let key = step["key"].as_str().unwrap_or(&self.keys[0]).to_owned();
        let keys = if kind == "multi" { self.keys.clone() } else { vec![key] };
        let locks = &self.programs[step["program"].as_u64().unwrap_or(1) as usize - 1];
        let mut asked = match step["wait"].as_f64() {
            Some(0.0) if keys.len() == 1 => locks.try_acquire(&keys[0]),
            Some(wait) => locks.acquire_all(keys.clone()).wait(Duration::from_secs_f64(wait)),
            None => locks.acquire_all(keys.clone()),
        };
        if let Some(owner) = step["owner"].as_str() {
            asked = asked.owner(owner);
        }
        asked = asked.lease(Duration::from_secs_f64(seconds(step, "timeout", 10.0)));
        if step["watch"] == true {
            asked = asked.watch();
        }
        if step["renew"] != true {
            asked = asked.without_renewal();
        }
        asked = match kind {
            "shared" => asked.shared(),
            "semaphore" => asked.permits(step["limit"].as_u64().unwrap() as u32, 1),
            _ => asked,
        };
        let call = self.runtime.spawn(asked.into_future());
        self.calls.insert(who.to_owned(), (call, kind == "exclusive" || kind == "multi", keys));
    }

    fn join(&mut self, who: &str, step: &Json) {
        let (call, is_alone, keys) = self.calls.remove(who).unwrap();
        let limit = Duration::from_secs_f64(seconds(step, "within", 5.0));
        let joined = self.runtime.block_on(async { tokio::time::timeout(limit, call).await });
        let expected = text(step, "expect");
        let result = match joined.unwrap_or_else(|_| panic!("{who} still waits")) {
            Ok(result) => result,
            // A cancelled task has no result; in other languages that is the error of a busy lock.
            Err(_) => return assert!(["busy", "error", "not-held"].contains(&expected), "{step}"),
        };
        if expected == "not-held" {
            return assert!(result.is_err(), "{step}");
        }
        assert_eq!(outcome(&result), expected, "{step}: {result:?}");
        let Ok(lock) = result else { return };
        for other in &self.believers {
            let (lock, of) = &self.locks_held[other];
            let believes = lock.lost_reason().is_none() && of[0] == keys[0];
            assert!(!(is_alone && believes), "{other} and {who} believe in one lock at one moment");
        }
        self.fences.insert(who.to_owned(), lock.fence());
        self.believers.insert(who.to_owned());
        self.locks_held.insert(who.to_owned(), (lock, keys));
    }

    fn gather(&mut self, n: usize) {
        self.crowd = n;
        self.server.patient();
        for place in 0..n {
            let before = self.server.waiting(&self.keys[0]);
            let (locks, key, order) =
                (self.programs[0].clone(), self.keys[0].clone(), Arc::clone(&self.order));
            self.runtime.spawn(async move {
                let lock = locks.acquire(key).await.unwrap();
                order.lock().unwrap().push(place);
                lock.release().await.unwrap();
            });
            until("it is in line", 5.0, || self.server.waiting(&self.keys[0]) == before + 1);
        }
    }
}

fn all() -> Vec<Json> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance/scenarios.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn is_brief() -> bool {
    std::env::var_os("BRIEF").is_some_and(|brief| !brief.is_empty())
}

fn list<'j>(scenario: &'j Json, name: &str) -> Vec<&'j str> {
    scenario[name].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

/// Why a scenario is not played; `more` is what can be done here beside the usual.
fn reason(scenario: &Json, more: &str) -> Option<String> {
    let needs = list(scenario, "needs");
    let known = format!("cancel drop owner key extend many close two-programs {more}");
    let unknown = needs.iter().find(|need| !known.split(' ').any(|known| known == **need));
    let reason = match unknown {
        _ if scenario["thorough"] == true && is_brief() => "only in the long form",
        _ if scenario["except"].get("rust").is_some() => text(&scenario["except"], "rust"),
        _ if scenario.get("not-yet").is_some() => text(scenario, "not-yet"),
        Some(&"fork") => "a tokio runtime does not live on in a child that was forked",
        Some(&"pool") => "there is no pool: all share one connection for short requests",
        Some(need) => return Some(format!("there is no {need} here")),
        None => return None,
    };
    Some(reason.to_owned())
}

impl<'a> Play<'a> {
    fn new(runtime: &'a Runtime, server: &Arc<Server>, scenario: &Json, locks: impl Fn() -> Locks) -> Self {
        let keys = if scenario["keys"].is_null() { vec!["k"] } else { list(scenario, "keys") };
        Play {
            runtime,
            server: Arc::clone(server),
            successor: None,
            proxy: None,
            deployed: None,
            programs: vec![locks(), locks()],
            many: Vec::new(),
            keys: keys.into_iter().map(str::to_owned).collect(),
            calls: BTreeMap::new(),
            locks_held: BTreeMap::new(),
            fences: BTreeMap::new(),
            believers: BTreeSet::new(),
            order: Arc::default(),
            crowd: 0,
        }
    }

    fn play(&mut self, scenario: &Json) {
        for step in scenario["steps"].as_array().unwrap() {
            self.step(step);
        }
        for key in self.keys.clone() {
            until(&format!("nothing is left of {key}"), 4.0, || self.server.is_idle(&key));
        }
        self.tell("heal");
        for locks in &self.programs {
            // What could not be given back is seen above.
            let _ = self.runtime.block_on(locks.close());
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn scenarios() {
    let runtime = runtime();
    // Without a window: a restart shows what it is about, and not the wait after it.
    let calm = ["--save", "", "--lock.recovery-window-ms", "0"];
    let server =
        Server::with(&[&calm[..], &["--appendonly", "yes", "--enable-debug-command", "yes"]].concat());
    let server = Arc::new(server);
    let mut proxy = Proxy::start(&server);
    let (mut played, mut skipped) = (0, 0);
    for scenario in all() {
        let name = text(&scenario, "name");
        if let Some(reason) = reason(&scenario, "restart unblock successor watch") {
            println!("skipped: {name}: {reason}");
            skipped += 1;
            continue;
        }
        println!("{name}");
        proxy.tell("heal");
        proxy.tell("accept");
        for line in [
            "REPLICAOF NO ONE",
            "LOCK.RECOVERY END",
            "CONFIG SET lock.recovery-window-ms 0",
            "ACL SETUSER default +@all",
            "CONFIG SET lock.claim-ms 1000 lock.max-lease-ms 604800000 lock.max-waiters-per-key 20000",
            "CONFIG SET busy-reply-threshold 5000",
            "FLUSHALL",
        ] {
            server.ask(line);
        }
        let successor = list(&scenario, "needs").contains(&"successor").then(|| {
            let server = Server::with(&["--save", "", "--lock.recovery-window-ms", "10000"]);
            server.ask("LOCK.ACQUIRE before other");
            Arc::new(server)
        });
        let connections = server.figure("clients", "connected_clients:");
        let port = if scenario["client"]["direct"] == true { server.port } else { proxy.port };
        let locks = || {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
            let limit = Duration::from_secs_f64(seconds(&scenario["client"], "timeout", 5.0));
            Locks::with_reply_limit(client, limit)
        };
        let play = Play::new(&runtime, &server, &scenario, locks);
        Play { successor, proxy: Some(&mut proxy), ..play }.play(&scenario);
        until("no connection is left", 10.0, || {
            server.figure("clients", "connected_clients:") <= connections
        });
        played += 1;
    }
    println!("{played} scenarios played, {skipped} skipped");
    assert!(played >= if is_brief() { 40 } else { 70 });
}

#[cfg(all(feature = "cluster", feature = "sentinel"))]
fn deployed(kind: &str, connect: fn(&Deployed) -> Locks) {
    let mut deployed = match Deployed::start(kind) {
        Ok(deployed) => deployed,
        Err(reason) => return println!("{reason}"),
    };
    let (runtime, mut home) = (runtime(), Arc::new(Server::at(deployed.number("home"))));
    for scenario in all().iter().filter(|scenario| list(scenario, "on").contains(&kind)) {
        let name = format!("{kind}: {}", text(scenario, "name"));
        if let Some(reason) = reason(scenario, "failover watch") {
            println!("skipped: {name}: {reason}");
            continue;
        }
        println!("{name}");
        home.ask("FLUSHALL");
        let play = Play::new(&runtime, &home, scenario, || connect(&deployed));
        let mut play = Play { deployed: Some(&mut deployed), ..play };
        play.play(scenario);
        home = play.server;
    }
}

/// The scenarios that say so, on servers as people run them and without the proxy.
#[cfg(all(feature = "cluster", feature = "sentinel"))]
#[test]
fn scenarios_over_tls() {
    if is_brief() {
        return println!("skipped: over TLS: only in the long form");
    }
    rustls::crypto::ring::default_provider().install_default().unwrap();
    deployed("tls", |deployed| {
        let told = |name: &str| text(&deployed.told, name);
        let root_cert = Some(std::fs::read(told("ca")).unwrap());
        let url =
            format!("rediss://{}:{}@localhost:{}", told("user"), told("password"), deployed.number("port"));
        Locks::new(
            redis::Client::build_with_tls(url, redis::TlsCertificates { client_tls: None, root_cert })
                .unwrap(),
        )
    });
}

#[cfg(all(feature = "cluster", feature = "sentinel"))]
#[test]
fn scenarios_in_a_cluster() {
    deployed("cluster", |deployed| {
        let url = format!("redis://127.0.0.1:{}", deployed.number("port"));
        Locks::new(redis::cluster::ClusterClient::new([url]).unwrap())
    });
}

#[cfg(all(feature = "cluster", feature = "sentinel"))]
#[test]
fn scenarios_with_sentinel() {
    use redis::sentinel::{SentinelClient, SentinelServerType};
    if is_brief() {
        return println!("skipped: with Sentinel: only in the long form");
    }
    deployed("sentinel", |deployed| {
        let ports = deployed.told["sentinels"].as_array().unwrap();
        let urls: Vec<String> = ports.iter().map(|port| format!("redis://127.0.0.1:{port}")).collect();
        let name = text(&deployed.told, "name").to_owned();
        Locks::new(SentinelClient::build(urls, name, None, SentinelServerType::Master).unwrap())
    });
}
