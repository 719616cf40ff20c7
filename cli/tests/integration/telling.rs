//! `export` and `watch`: what other programs are told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::looking::{scene, wait_in_line};
use crate::support::{
    cluster, in_reserve, skip, take_over, text, until, Server, Tool, OF_THE_FIRST, PATIENCE,
};

/// The exporter, and where it listens.
pub(crate) fn exporter(server: &Server, words: &[&str]) -> (Tool, String) {
    let mut tool = server.start(&[&["export", "--listen", "127.0.0.1:0"][..], words].concat());
    let mut said = String::new();
    BufReader::new(tool.0.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    let address = said.trim().trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    (tool, address)
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

pub(crate) fn page(address: &str) -> String {
    get(address, "/metrics").split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[track_caller]
fn has(page: &str, line: &str) {
    assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
}

/// The value behind a name in a reply that is a map.
fn field<'a>(map: &'a [redis::Value], name: &str) -> &'a redis::Value {
    let at = map.iter().position(|value| *value == redis::Value::BulkString(name.into())).unwrap();
    &map[at + 1]
}

/// One of the maps of LOCK.STATS that are times.
fn times<'a>(stats: &'a [redis::Value], name: &str) -> &'a [redis::Value] {
    field(stats, name).as_sequence().unwrap()
}

fn number(value: &redis::Value) -> i64 {
    redis::from_redis_value_ref(value).unwrap()
}

/// The page has these times as a histogram: in each bucket all that are shorter than its bound.
#[track_caller]
fn is_histogram(page: &str, name: &str, at: &str, times: &[redis::Value]) {
    let (count, sum) = (number(field(times, "count")), number(field(times, "sum")));
    assert_eq!(count, 1, "{name} was made once");
    has(page, &format!("# TYPE {name} histogram"));
    has(page, &format!("{name}_count{{{at}}} {count}"));
    has(page, &format!("{name}_bucket{{{at},le=\"+Inf\"}} {count}"));
    has(page, &format!("{name}_sum{{{at}}} {}.{:06}", sum / 1_000_000, sum % 1_000_000));
    let buckets = field(times, "buckets").as_sequence().unwrap();
    for power in 6..=33 {
        let bound = 1_i64 << power;
        let below = buckets.chunks(2).filter(|pair| number(&pair[0]) <= bound).map(|pair| number(&pair[1]));
        let le = format!("{}.{:06}", bound / 1_000_000, bound % 1_000_000);
        has(page, &format!("{name}_bucket{{{at},le=\"{le}\"}} {}", below.sum::<i64>()));
    }
    assert_eq!(page.lines().filter(|line| line.starts_with(&format!("{name}_bucket"))).count(), 29);
}

#[test]
fn every_figure_of_info_is_served_with_its_type() {
    let server = Server::new();
    let _line = scene(&server);
    let _: i64 = server.ask("LOCK.BREAK door");
    let (tool, address) = exporter(&server, &[]);
    let page = page(&address);
    let at = format!("instance=\"127.0.0.1:{}\"", server.port);
    let mut kind = "";
    let mut figures = 0;
    for line in server.ask::<String>("INFO lock").lines() {
        if line.starts_with('#') {
            kind = if line.contains("stats") { "counter" } else { "gauge" };
        } else if let Some((name, value)) = line.split_once(':') {
            // Nothing has failed over here, so the one time is 0.
            let (name, value) = match name.strip_suffix("_ms") {
                Some(time) => (format!("{time}_seconds"), "0.000000"),
                None => (name.to_owned(), value),
            };
            let name = format!("redis_{name}{}", if kind == "counter" { "_total" } else { "" });
            has(&page, &format!("# TYPE {name} {kind}"));
            has(&page, &format!("{name}{{{at}}} {value}"));
            figures += 1;
        }
    }
    assert!(figures > 35 && !page.contains("A figure of INFO"), "each has a help text:\n{page}");
    has(&page, &format!("redis_up{{{at}}} 1"));
    let stats: Vec<redis::Value> = server.ask("LOCK.STATS");
    for (name, field) in [("wait", "wait-us"), ("hold", "hold-us"), ("handoff_delay", "handoff-delay-us")] {
        is_histogram(&page, &format!("redis_lock_{name}_seconds"), &at, times(&stats, field));
    }
    has(&page, &format!("redis_lock_ended_total{{{at},reason=\"broken\"}} 1"));
    has(&page, &format!("redis_lock_contended_waits{{{at},db=\"0\",key=\"door\"}} 2"));
    assert!(
        get(&address, "/").starts_with("HTTP/1.1 200") && get(&address, "/x").starts_with("HTTP/1.1 404")
    );
    tool.signal(Signal::SIGTERM);
    assert_eq!(tool.end().status.code(), Some(0));

    let promtool = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    let check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut check) = check else { return skip("promtool", "there is none; PROMTOOL names it") };
    check.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn names_are_as_many_as_was_said() {
    let server = Server::new();
    let mut waits = Vec::new();
    for n in 0..12 {
        let key = format!("k{n}\"\\");
        let _: i64 = server.ask(&format!("LOCK.ACQUIRE {key} alice"));
        waits.push(wait_in_line(&server, &key, "bob"));
    }
    for (words, count) in [(&[][..], 10), (&["--names", "3"], 3), (&["--names", "0"], 0)] {
        let (_tool, address) = exporter(&server, words);
        let page = page(&address);
        assert_eq!(
            page.lines().filter(|line| line.starts_with("redis_lock_contended_waits{")).count(),
            count,
            "{page}"
        );
        assert!(count == 0 || page.contains("key=\"k0\\\"\\\\\"") || count == 3, "{page}");
    }
}

#[test]
fn one_exporter_for_replicas_and_through_the_death_of_a_server() {
    let mut primary = Server::new();
    let replica = Server::replica_of(&primary, &[]);
    let _: i64 = primary.ask("LOCK.ACQUIRE door alice");
    until("it has the lock", || replica.is_held("door"));
    until("the primary tells of it", || primary.ask::<String>("INFO replication").contains("state=online"));
    let (_tool, address) = exporter(&primary, &[]);
    let both = page(&address);
    for port in [primary.port, replica.port] {
        has(&both, &format!("redis_lock_held{{instance=\"127.0.0.1:{port}\"}} 1"));
    }
    primary.kill();
    has(&page(&address), &format!("redis_up{{instance=\"127.0.0.1:{}\"}} 0", primary.port));
}

#[test]
fn one_exporter_for_a_cluster() {
    let mut nodes = cluster();
    let (_tool, address) = exporter(&nodes[0], &[]);
    let all = page(&address);
    for node in &nodes {
        has(&all, &format!("redis_up{{instance=\"127.0.0.1:{}\"}} 1", node.port));
        has(&all, &format!("redis_lock_held{{instance=\"127.0.0.1:{}\"}} 0", node.port));
    }
    nodes[2].kill();
    let rest = page(&address);
    has(&rest, &format!("redis_up{{instance=\"127.0.0.1:{}\"}} 1", nodes[0].port));
    has(&rest, &format!("redis_up{{instance=\"127.0.0.1:{}\"}} 0", nodes[2].port));
}

#[test]
fn export_ends_at_once_where_it_never_could_work() {
    let server = Server::new();
    let _: String = server.ask("ACL SETUSER app on >secret ~* +lock.acquire");
    let url = format!("redis://app:secret@127.0.0.1:{}", server.port);
    let output = server.run(&["export", "--listen", "127.0.0.1:0", "--url", &url]);
    assert_eq!(output.status.code(), Some(77), "{}", text(&output.stderr));
    let output = server.run(&["export", "--listen", &format!("127.0.0.1:{}", server.port)]);
    assert_eq!(output.status.code(), Some(71), "{}", text(&output.stderr));
    let bare = Server::bare(&["--save", ""]);
    let (_tool, address) = exporter(&bare, &[]);
    let page = page(&address);
    assert!(page.contains("redis_up{") && !page.contains("redis_lock_held"), "{page}");
}

/// The lines that `watch` prints. One that does not come in time fails the test.
fn watching(server: &Server, words: &[&str]) -> (Tool, impl Iterator<Item = Value> + use<>) {
    let before: i64 = pattern_count(server);
    let mut tool = server.start(&[&["watch"][..], words].concat());
    until("it listens", || pattern_count(server) > before);
    let lines = BufReader::new(tool.0.stdout.take().unwrap()).lines();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let next = move || Some(told.recv_timeout(PATIENCE).expect("an event in time"));
    (tool, std::iter::from_fn(next).map(|line| serde_json::from_str(&line).unwrap()))
}

fn pattern_count(server: &Server) -> i64 {
    server.ask("PUBSUB NUMPAT")
}

#[test]
fn watch_tells_of_each_event() {
    let server = Server::with(&["--notify-keyspace-events", "AKE"]);
    let (_tool, mut events) = watching(&server, &[]);
    let _: String = server.ask("SET text x");
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    let _: i64 = server.ask("LOCK.RELEASE door alice");
    let first = events.next().unwrap();
    assert_eq!(
        (&first["event"], &first["key"], &first["db"]),
        (&"lock.acquired".into(), &"door".into(), &0.into())
    );
    assert_eq!(first["node"], format!("127.0.0.1:{}", server.port));
    assert!(first["at"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(events.next().unwrap()["event"], "lock.released");

    let (_tool, mut events) = watching(&server, &["batch:*"]);
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    let _: i64 = server.ask("LATCH.SET batch:7 2");
    assert_eq!(events.next().unwrap()["key"], "batch:7");
}

#[test]
fn watch_hears_all_nodes_and_says_when_it_could_not_hear() {
    let mut nodes = cluster();
    for node in &nodes {
        let _: String = node.ask("CONFIG SET notify-keyspace-events Kd");
    }
    let (_tool, mut events) = watching(&nodes[0], &[]);
    until("it listens everywhere", || nodes.iter().all(|node| pattern_count(node) == 1));
    let mut heard = std::collections::HashSet::new();
    for key in ["a", "b", "c", "d", "e", "f"] {
        assert_eq!(nodes[0].run(&["acquire", key]).status.code(), Some(0));
        let event = events.next().unwrap();
        assert_eq!(event["key"], key);
        heard.insert(event["node"].to_string());
    }
    assert!(heard.len() > 1, "{heard:?}");
    nodes[2].kill();
    assert_eq!(events.next().unwrap()["event"], "gap");
}

#[test]
fn watch_goes_along_when_a_cluster_has_another_primary() {
    let nodes = cluster();
    let replica = in_reserve(&nodes);
    for node in nodes.iter().chain([&replica]) {
        let _: String = node.ask("CONFIG SET notify-keyspace-events Kd");
    }
    let (_tool, mut events) = watching(&nodes[1], &[]);
    until("it listens everywhere", || nodes.iter().all(|node| pattern_count(node) == 1));
    take_over(&replica);
    let event = events.next().unwrap();
    assert_eq!(event["event"], "gap");
    assert_eq!(event["node"], format!("127.0.0.1:{}", replica.port));
    until("it listens to the new one", || pattern_count(&replica) == 1);
    // Its connection to the old one has not ended by itself.
    assert_eq!(nodes[0].ask::<String>("PING"), "PONG");
    assert_eq!(nodes[1].run(&["acquire", OF_THE_FIRST]).status.code(), Some(0));
    let event = events.next().unwrap();
    assert_eq!((&event["event"], &event["key"]), (&"lock.acquired".into(), &OF_THE_FIRST.into()));
    assert_eq!(event["node"], format!("127.0.0.1:{}", replica.port));
}

#[test]
fn watch_says_why_it_would_hear_nothing() {
    let server = Server::new();
    let ends = |words: &[&str], code: i32, says: &str| {
        let output = server.run(words);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    };
    ends(&["watch"], 64, "CONFIG SET notify-keyspace-events Kd");
    let _: String = server.ask("CONFIG SET notify-keyspace-events Ex");
    ends(&["watch"], 64, "publishes no events of locks: CONFIG SET notify-keyspace-events xEKd");
    let _: String = server.ask("CONFIG SET notify-keyspace-events Kd lock.events no");
    ends(&["watch"], 64, "lock.events yes");
    let _: String = server.ask("ACL SETUSER app on >secret resetchannels ~* +lock.acquire");
    ends(&["watch", "--url", &format!("redis://app:secret@127.0.0.1:{}", server.port)], 77, "NOPERM");
    let bare = Server::bare(&["--save", ""]);
    ends(&["watch", "--url", &bare.url()], 69, "not loaded the redis-lock module");
}
