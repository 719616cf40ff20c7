//! `export`: serves metrics to Prometheus.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{header, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use redis::{cmd, RedisError};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::connect::{Link, Server, REPLY};
use crate::exit::{Exit, OrSystem, Outcome};
use crate::metrics::{help, label, Kind, Page};
use crate::print::{complain, line};
use crate::reply::{text, Fields};
use crate::signals::{Signals, ENDING};
use crate::verbs::doctor::{figures, replicas_of};

/// The bounds of histograms: the powers of two from 64 µs to 2.4 hours.
const BOUNDS: RangeInclusive<u32> = 6..=33;
/// How many connections are served at once.
const CONNECTIONS: usize = 32;
/// How long one may take to send a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// One is enough for a primary with its replicas, a Sentinel set, or a whole cluster.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9122", value_parser = place)]
    listen: String,
    /// Name so many of the locks that are waited for most, of each server
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=10))]
    names: u8,
}

fn place(text: &str) -> Result<String, &'static str> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("write it like 127.0.0.1:9122 or [::1]:9122"),
    }
}

/// What one server has told.
struct Told {
    address: String,
    info: HashMap<String, String>,
    sections: Vec<(Kind, String, String)>,
    stats: Option<Fields>,
}

impl Export {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let mut signals = Signals::listen(&ENDING)?;
        // A server that is away comes back; a user without rights is a mistake in the way this was started.
        match server.link().await {
            Ok(mut link) => {
                link.once(cmd("INFO").arg("server"), REPLY).await?;
            }
            Err(failure) if failure.exit == Exit::NO_PERMISSION => return Err(failure),
            Err(failure) => complain(&failure.text),
        }
        let listener =
            TcpListener::bind(&self.listen).await.or_system(&format!("listen on {}", self.listen))?;
        let here = listener.local_addr().or_system("listen")?;
        line(&format!("http://{here}/metrics"))?;
        let names = usize::from(self.names);
        let (places, turn) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Mutex::new(())));
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, stream) = tokio::select! {
                _ = signals.ending() => return Ok(Exit::OK),
                (place, accepted) = accepted => {
                    let Ok((stream, _)) = accepted else {
                        // Too many open files, or a client that was gone at once.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    };
                    (place, stream)
                }
            };
            let (server, turn) = (server.clone(), Arc::clone(&turn));
            tokio::spawn(async move {
                let answer = service_fn(|request| answer(request, &server, &turn, names));
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(PATIENCE)
                    .serve_connection(TokioIo::new(stream), answer);
                let _ = connection.await;
                drop(place);
            });
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    server: &Server,
    turn: &Mutex<()>,
    names: usize,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, body) = match request.uri().path() {
        _ if !is_read => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
        "/metrics" => {
            // However many ask, the servers are asked by one at a time.
            let _turn = turn.lock().await;
            (StatusCode::OK, scrape(server, names).await.text())
        }
        "/" => (StatusCode::OK, "redis-lock: see /metrics\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "see /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

const UP: (&str, Kind, &str) = ("redis_up", Kind::Gauge, "Whether the server answers.");

/// Asks all servers: each primary, and the replicas that it knows.
async fn scrape(server: &Server, names: usize) -> Page {
    let mut page = Page::default();
    let nodes = match server.each_node().await {
        Ok(nodes) => nodes,
        Err(failure) => {
            complain(&failure.text);
            page.add(UP, "", &[("instance", &server.places())], 0);
            return page;
        }
    };
    let mut asked = JoinSet::new();
    for (address, node) in nodes {
        let server = server.clone();
        asked.spawn(async move {
            let mut told = Vec::new();
            let mut primary = match node {
                Ok(primary) => primary,
                Err(error) => return vec![(address, Err(error))],
            };
            let first = ask(&mut primary).await;
            let replicas = first.as_ref().map(|told| replicas_of(&told.info)).unwrap_or_default();
            told.push((primary.address(), first));
            for (host, port) in replicas {
                let replica = match server.beside(&primary, &host, port).await {
                    Ok(mut replica) => ask(&mut replica).await,
                    Err(error) => Err(error),
                };
                told.push((format!("{host}:{port}"), replica));
            }
            told
        });
    }
    let mut told: Vec<_> = asked.join_all().await.into_iter().flatten().collect();
    told.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (address, told) in told {
        match told {
            Ok(told) => told.onto(&mut page, names),
            Err(error) => {
                complain(&format!("{address}: {error}"));
                page.add(UP, "", &[("instance", &address)], 0);
            }
        }
    }
    page
}

async fn ask(link: &mut Link) -> Result<Told, RedisError> {
    let reply = text(&link.once(cmd("INFO").arg("everything"), REPLY).await?);
    let (mut sections, mut kind) = (Vec::new(), None);
    for line in reply.lines() {
        if line.starts_with("# ") {
            kind = match line.trim_end() {
                "# lock_state" => Some(Kind::Gauge),
                "# lock_stats" => Some(Kind::Counter),
                _ => None,
            };
        } else if let (Some(kind), Some((name, value))) = (kind, line.trim_end().split_once(':')) {
            sections.push((kind, name.to_owned(), value.to_owned()));
        }
    }
    // Not there without the module, and not for everybody: the figures of INFO are told all the same.
    let stats = match link.once(&cmd("LOCK.STATS"), REPLY).await {
        Ok(reply) => Fields::of(reply).ok(),
        Err(error) if crate::connect::is_broken(&error) => return Err(error),
        Err(_) => None,
    };
    Ok(Told { address: link.address(), info: figures(&reply), sections, stats })
}

impl Told {
    fn onto(&self, page: &mut Page, names: usize) {
        let at = ("instance", self.address.as_str());
        page.add(UP, "", &[at], 1);
        let known = |name: &str| self.info.get(name).map(String::as_str).unwrap_or_default();
        let version =
            if known("valkey_version").is_empty() { known("redis_version") } else { known("valkey_version") };
        page.add(
            ("redis_instance_info", Kind::Gauge, "What kind of server it is."),
            "",
            &[
                at,
                ("role", known("role")),
                ("redis_version", version),
                ("maxmemory_policy", known("maxmemory_policy")),
            ],
            1,
        );
        if let Ok(maximum) = known("maxmemory").parse::<u64>() {
            page.add(
                ("redis_config_maxmemory", Kind::Gauge, "The server's maxmemory, in bytes."),
                "",
                &[at],
                maximum,
            );
        }
        for (kind, name, value) in &self.sections {
            let Ok(number) = value.parse::<i64>() else { continue };
            let suffix = if *kind == Kind::Counter { "_total" } else { "" };
            let (unit, value) = match name.strip_suffix("_ms") {
                Some(time) => (format!("{time}_seconds"), seconds(number.saturating_mul(1000))),
                None => (name.clone(), value.clone()),
            };
            page.add((&format!("redis_{unit}{suffix}"), *kind, help(name)), "", &[at], value);
        }
        let Some(stats) = &self.stats else { return };
        for (field, name, help) in [
            ("wait-us", "redis_lock_wait_seconds", "How long those waited who were granted a lock."),
            ("hold-us", "redis_lock_hold_seconds", "How long holds lasted that have ended."),
            (
                "handoff-delay-us",
                "redis_lock_handoff_delay_seconds",
                "How long after it could be given a lock was given to the next in line.",
            ),
        ] {
            let times = stats.map(field);
            let buckets = times.map("buckets").by_number();
            let family = (name, Kind::Histogram, help);
            for bound in BOUNDS.map(|power| 1_i64 << power) {
                let below: i64 = buckets.iter().filter(|(of, _)| *of <= bound).map(|(_, count)| count).sum();
                page.add(family, "_bucket", &[at, ("le", &seconds(bound))], below);
            }
            let count = times.number("count").unwrap_or(0);
            page.add(family, "_bucket", &[at, ("le", "+Inf")], count);
            page.add(family, "_sum", &[at], seconds(times.number("sum").unwrap_or(0)));
            page.add(family, "_count", &[at], count);
        }
        for (reason, count) in stats.map("ended").numbers() {
            page.add(
                ("redis_lock_ended_total", Kind::Counter, "Holds that ended, by the way they did."),
                "",
                &[at, ("reason", reason)],
                count,
            );
        }
        for lock in stats.maps("contended").iter().take(names) {
            // Of a lock that this user may not read there is no name.
            if lock.text("key").is_none() {
                continue;
            }
            let (key, db) = (label(&lock.bytes("key")), lock.number("db").unwrap_or(0).to_string());
            page.add(
                (
                    "redis_lock_contended_waits",
                    Kind::Gauge,
                    "Waits for the locks that are waited for most lately; an estimate.",
                ),
                "",
                &[at, ("db", &db), ("key", &key)],
                lock.number("waits").unwrap_or(0),
            );
        }
    }
}

/// Microseconds as seconds, digit by digit.
fn seconds(us: i64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}
