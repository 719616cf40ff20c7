//! `watch`: prints what happens to locks.

use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use clap::Args;
use futures_util::StreamExt;
use redis::{cmd, Msg};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};

use crate::connect::{Link, Server, REPLY, ROUND};
use crate::exit::{Exit, Failure, Outcome};
use crate::locks::word;
use crate::print::{complain, line};
use crate::reply::{name, Fields};
use crate::signals::{Signals, ENDING};

/// How often a silent connection is asked whether it is still there.
const PULSE: Duration = Duration::from_secs(10);
/// After a loss of a connection, until the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// A line of JSON for each event of a lock or latch, of all nodes of a cluster. Needs notify-keyspace-events with K and d.
/// What happens while a connection is away is not told; an event `gap` says that there was such a time.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Only names that match, as in KEYS
    pattern: Option<OsString>,
}

/// Something from a node, or the end of its connection; or a node that nobody listens to yet.
enum News {
    Event(String, Msg),
    Lost(String),
}

impl Watch {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let mut signals = Signals::listen(&ENDING)?;
        let pattern = self.pattern.as_deref().map_or_else(|| b"*".to_vec(), word);
        let mut is_first = true;
        loop {
            let told = tokio::select! {
                _ = signals.ending() => return Ok(Exit::OK),
                told = watch(server, &pattern, is_first) => told,
            };
            match told {
                Ok(node) => line(&json!({"at": now(), "event": "gap", "node": node}).to_string())?,
                Err(failure) if is_first => return Err(failure),
                Err(failure) if failure.exit == Exit::NO_SERVER => complain(&failure.text),
                Err(failure) => return Err(failure),
            }
            is_first = false;
            tokio::select! {
                _ = signals.ending() => return Ok(Exit::OK),
                () = sleep(PAUSE) => {}
            }
        }
    }
}

/// Prints events until a connection is lost, or another server is a primary. Returns which.
async fn watch(server: &Server, pattern: &[u8], is_first: bool) -> Outcome<String> {
    let (sender, mut news) = mpsc::channel(1_000);
    // They end with the value.
    let mut listening = tokio::task::JoinSet::new();
    let mut nodes = Vec::new();
    for mut node in server.nodes().await? {
        nodes.push(node.address());
        speaks_of_locks(&mut node, is_first).await?;
        let db = node.client().get_connection_info().redis_settings().db();
        let channel = [format!("__keyspace@{db}__:").as_bytes(), pattern].concat();
        let connection = timeout(REPLY, node.client().get_async_pubsub()).await;
        let silent =
            |_| Failure::new(Exit::NO_SERVER, format!("no server: {} does not answer", node.address()));
        let (mut sink, mut events) = connection.map_err(silent)??.split();
        let (address, sender) = (node.address(), sender.clone());
        // The stream has to be read for the subscription to be confirmed.
        let (confirm, confirmed) = tokio::sync::oneshot::channel();
        listening.spawn(async move {
            let mut subscribing = Box::pin(async {
                let done = sink.psubscribe(&channel).await;
                (sink, done)
            });
            let mut sink = loop {
                tokio::select! {
                    (sink, done) = &mut subscribing => {
                        let is_done = done.is_ok();
                        let _ = confirm.send(done);
                        if !is_done {
                            return;
                        }
                        break sink;
                    }
                    Some(event) = events.next() => {
                        let _ = sender.send(News::Event(address.clone(), event)).await;
                    }
                }
            };
            let mut pulse = interval(PULSE);
            pulse.tick().await;
            loop {
                tokio::select! {
                    event = events.next() => match event {
                        Some(event) => {
                            let _ = sender.send(News::Event(address.clone(), event)).await;
                        }
                        None => break,
                    },
                    _ = pulse.tick() => {
                        // Its reply comes by way of the stream.
                        let mut ping = Box::pin(timeout(REPLY, sink.ping::<redis::Value>()));
                        let alive = loop {
                            tokio::select! {
                                reply = &mut ping => break matches!(reply, Ok(Ok(_))),
                                Some(event) = events.next() => {
                                    let _ = sender.send(News::Event(address.clone(), event)).await;
                                }
                            }
                        };
                        if !alive {
                            break;
                        }
                    }
                }
            }
            let _ = sender.send(News::Lost(address)).await;
        });
        match timeout(REPLY, confirmed).await {
            Ok(Ok(subscribed)) => subscribed?,
            _ => return Err(Failure::new(Exit::NO_SERVER, "no server: the subscription was not confirmed")),
        }
    }
    let server = server.clone();
    listening.spawn(async move {
        loop {
            sleep(ROUND).await;
            if let Some(node) = server.newcomer(&nodes).await {
                let _ = sender.send(News::Lost(node)).await;
                return;
            }
        }
    });
    while let Some(news) = news.recv().await {
        match news {
            News::Event(node, event) => tell(&node, &event)?,
            News::Lost(node) => return Ok(node),
        }
    }
    Ok(String::new())
}

fn tell(node: &str, event: &Msg) -> Outcome<()> {
    let what = String::from_utf8_lossy(event.get_payload_bytes()).into_owned();
    if !what.starts_with("lock.") && !what.starts_with("latch.") {
        return Ok(());
    }
    let channel = event.get_channel::<Vec<u8>>().unwrap_or_default();
    let Some(at) = channel.windows(3).position(|bytes| bytes == b"__:") else { return Ok(()) };
    let (channel, key) = (channel.get(..at).unwrap_or_default(), channel.get(at + 3..).unwrap_or_default());
    let db = String::from_utf8_lossy(channel).rsplit('@').next().and_then(|db| db.parse::<i64>().ok());
    line(&json!({"at": now(), "event": what, "key": name(key), "db": db, "node": node}).to_string())
}

/// By the clock of this machine, in ms.
fn now() -> u64 {
    crate::time::ms(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// Refuses a server that publishes no events of locks.
async fn speaks_of_locks(node: &mut Link, is_first: bool) -> Outcome<()> {
    let mut config = cmd("CONFIG");
    config.arg("GET").arg(&["notify-keyspace-events", "lock.events"]);
    let settings = match node.once(&config, REPLY).await {
        Ok(reply) => Fields::of(reply)?,
        Err(error) if error.code() == Some("NOPERM") => {
            if is_first {
                complain(
                    "this user may not run CONFIG GET: whether the server publishes events of locks is not known",
                );
            }
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let address = node.address();
    let Some(events) = settings.text("lock.events") else {
        let text = format!("the server {address} has not loaded the redis-lock module");
        return Err(Failure::new(Exit::NO_SERVER, text));
    };
    let classes = settings.text("notify-keyspace-events").unwrap_or_default();
    let classes_do = classes.contains('K') && (classes.contains('d') || classes.contains('A'));
    match (classes_do, events.as_str()) {
        (true, "yes") => Ok(()),
        (true, _) => {
            Err(Failure::usage(format!("{address} publishes no events of locks: CONFIG SET lock.events yes")))
        }
        (false, _) => Err(Failure::usage(format!(
            "{address} publishes no events of locks: CONFIG SET notify-keyspace-events {classes}{}",
            match (classes.contains('K'), classes.contains('d')) {
                (false, false) => "Kd",
                (false, true) => "K",
                _ => "d",
            }
        ))),
    }
}
