//! The driver of clients/conformance. What it is asked for stands there.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use fencelock::{Error, Lock, Locks, Servers};
use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClient, SentinelServerType::Master};
use redis::{Client, TlsCertificates};
use serde_json::{json, Value as Json};
use tokio::runtime::{Handle, Runtime};
use tokio::task::{AbortHandle, JoinSet};

#[derive(Default)]
struct State {
    programs: Vec<Locks>,
    calls: HashMap<String, AbortHandle>,
    locks: HashMap<String, Arc<Lock>>,
    listeners: JoinSet<()>,
}

fn with<T>(use_it: impl FnOnce(&mut State) -> T) -> T {
    static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);
    use_it(&mut STATE.lock().unwrap())
}

fn say(what: &str, who: &str, mut event: Json) {
    (event["do"], event["who"]) = (json!(what), json!(who));
    println!("{event}");
}

fn text(request: &Json, name: &str) -> String {
    request[name].as_str().unwrap_or_default().to_owned()
}

fn seconds(request: &Json, name: &str) -> Duration {
    Duration::from_secs_f64(request[name].as_f64().unwrap_or_default())
}

fn connect(place: &Json) -> Locks {
    let urls: Vec<String> =
        place["ports"].as_array().unwrap().iter().map(|port| format!("redis://127.0.0.1:{port}")).collect();
    let servers: Servers = match text(place, "kind").as_str() {
        "cluster" => ClusterClient::new(urls).unwrap().into(),
        "sentinel" => SentinelClient::build(urls, text(place, "name"), None, Master).unwrap().into(),
        "tls" => {
            let [user, password, ca] = ["user", "password", "ca"].map(|name| text(place, name));
            let url = format!("rediss://{user}:{password}@localhost:{}", place["ports"][0]);
            let root_cert = Some(std::fs::read(ca).unwrap());
            Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert }).unwrap().into()
        }
        _ => Client::open(urls[0].as_str()).unwrap().into(),
    };
    Locks::with_reply_limit(servers, seconds(place, "timeout"))
}

fn outcome<T>(result: &Result<T, Error>) -> Json {
    match result {
        Ok(_) => json!({"outcome": "ok"}),
        Err(Error::Busy) => json!({"outcome": "busy"}),
        Err(Error::Lost(_)) => json!({"outcome": "not-owned"}),
        Err(error) => json!({"outcome": "error", "error": error.to_string()}),
    }
}

async fn acquire(who: &str, request: &Json) -> Json {
    let locks = with(|state| state.programs[request["program"].as_u64().unwrap() as usize - 1].clone());
    let keys: Vec<&str> = request["keys"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
    let wait = request["wait"].as_f64().map(Duration::from_secs_f64);
    let mut asked = locks.acquire_all(keys).wait(wait).lease(seconds(request, "timeout"));
    if let Some(owner) = request["owner"].as_str() {
        asked = asked.owner(owner);
    }
    if request["watch"] == true {
        asked = asked.watch();
    }
    if let Some(most) = request["most"].as_f64() {
        asked = asked.max_hold(Duration::from_secs_f64(most));
    }
    if request["renew"] != true {
        asked = asked.without_renewal();
    }
    asked = match text(request, "kind").as_str() {
        "shared" => asked.shared(),
        "semaphore" => asked.permits(request["limit"].as_u64().unwrap() as u32, 1),
        _ => asked,
    };
    let call = tokio::spawn(async { asked.await });
    with(|state| state.calls.insert(who.to_owned(), call.abort_handle()));
    let lock = match call.await {
        Ok(Ok(lock)) => lock,
        Ok(result) => return outcome(&result),
        Err(_) => return json!({"outcome": "cancelled"}),
    };
    let (fence, lost, name) = (lock.fence(), lock.lost(), who.to_owned());
    with(|state| {
        state.listeners.spawn(async move { say("lost", &name, json!({"reason": lost.await})) });
        state.locks.insert(who.to_owned(), Arc::new(lock));
    });
    json!({"outcome": "held", "fence": fence})
}

async fn obey(what: &str, who: &str, request: &Json) -> Json {
    let lock = || with(|state| Arc::clone(&state.locks[who]));
    match what {
        "open" => with(|state| state.programs.push(connect(request))),
        "acquire" => return acquire(who, request).await,
        "cancel" => with(|state| state.calls[who].abort()),
        "release" => match with(|state| state.locks.remove(who)).and_then(Arc::into_inner) {
            Some(lock) => return outcome(&lock.release().await),
            None => return json!({"outcome": "error", "error": "it is gone with its release"}),
        },
        "extend" => return outcome(&lock().renew(Some(seconds(request, "seconds"))).await),
        "owned" => return json!({"owned": lock().ttl().await.is_ok_and(|left| !left.is_zero())}),
        "drop" => drop(with(|state| state.locks.remove(who))),
        "close" => drop(with(|state| state.programs[0].clone()).close().await),
        "end" => {
            let mut state = with(std::mem::take);
            state.locks.clear();
            for locks in &state.programs {
                let _ = locks.close().await; // the player sees what could not be given back
            }
            state.listeners.shutdown().await;
        }
        "left" => return json!({"left": vec!["task"; Handle::current().metrics().num_alive_tasks() - 1]}),
        other => panic!("unknown request {other}"),
    }
    json!({"outcome": "ok"})
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::exit(1); // a task would end alone
    }));
    let runtime = Runtime::new().unwrap();
    let fork = "a tokio runtime does not live on in a child that was forked";
    let pool = "there is no pool: all share one connection for short requests";
    say("hello", "", json!({"cannot": {"fork": fork, "pool": pool}}));
    for line in std::io::stdin().lines() {
        let request: Json = serde_json::from_str(&line.unwrap()).unwrap();
        runtime.spawn(async move {
            let (what, who) = (text(&request, "do"), text(&request, "who"));
            say(&what, &who, obey(&what, &who, &request).await);
        });
    }
}
