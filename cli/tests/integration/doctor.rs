//! `doctor`: finds each fault that is made on purpose, and says nothing of a good server.

use serde_json::Value;

use crate::looking::{json, prints, wait_in_line};
use crate::support::{cluster, text, until, Server};

/// What a good server has beside the defaults.
const GOOD: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--tcp-keepalive", "60"];

/// The checks that have found something, with their level.
#[track_caller]
fn finds(server: &Server) -> Vec<String> {
    let output = server.run(&["doctor", "-J"]);
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let is_ill = found.as_array().unwrap().iter().any(|finding| finding["level"] == "fault");
    assert_eq!(output.status.code(), Some(i32::from(is_ill)), "{found}");
    let bad = found.as_array().unwrap().iter().filter(|finding| finding["level"] != "good");
    bad.map(|finding| {
        format!("{}: {}", finding["level"].as_str().unwrap(), finding["check"].as_str().unwrap())
    })
    .collect()
}

#[test]
fn nothing_is_said_of_a_good_server() {
    let server = Server::with(&GOOD);
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    assert_eq!(prints(&server, &["doctor"], 0), "");
    let all = prints(&server, &["doctor", "--all"], 0);
    assert!(
        all.contains("good: module: version") && all.contains("good: maxmemory-policy: noeviction"),
        "{all}"
    );
    assert!(json(&server, &["doctor", "-J"]).as_array().unwrap().len() > 12);
}

#[test]
fn each_setting_that_is_bad_is_found() {
    let server = Server::with(&GOOD);
    let cases = [
        ("maxmemory-policy", "allkeys-lru", "noeviction", "note: maxmemory-policy"),
        ("appendfsync", "no", "always", "fault: persistence"),
        ("tcp-keepalive", "0", "60", "fault: tcp-keepalive"),
        ("tcp-keepalive", "300", "60", "note: tcp-keepalive"),
        ("timeout", "60", "0", "note: timeout"),
        ("lock.deadlock-detection", "no", "yes", "note: lock.deadlock-detection"),
    ];
    for (name, bad, good, found) in cases {
        let _: String = server.ask(&format!("CONFIG SET {name} {bad}"));
        assert_eq!(finds(&server), [found], "{name} {bad}");
        let _: String = server.ask(&format!("CONFIG SET {name} {good}"));
    }
    let _: String = server.ask("CONFIG SET maxmemory-policy allkeys-lru maxmemory 1gb");
    assert_eq!(finds(&server), ["fault: maxmemory-policy"]);
    let said = prints(&server, &["doctor"], 1);
    assert!(
        said.contains("fault: maxmemory-policy: allkeys-lru, maxmemory 1073741824 (127.0.0.1:"),
        "{said}"
    );
    assert!(said.contains("can be evicted, and is then given twice"), "{said}");
    let plain = Server::with(&["--tcp-keepalive", "60"]);
    assert_eq!(finds(&plain), ["note: persistence"]);
    let _: String = plain.ask_words(&["CONFIG", "SET", "save", "3600 1"]);
    assert_eq!(finds(&plain), ["note: persistence"]);
}

#[test]
fn threads_on_redis_8_2() {
    let server = Server::with(&[&GOOD[..], &["--io-threads", "3"]].concat());
    let is_8_2 = server.ask::<String>("INFO server").contains("redis_version:8.2.");
    assert_eq!(finds(&server), if is_8_2 { vec!["fault: io-threads"] } else { vec![] });
}

#[test]
fn what_clients_do_is_found() {
    let server = Server::with(&GOOD);
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    let _: i64 = server.ask("LOCK.ACQUIRE open alice");
    let _: i64 = server.ask("PEXPIRE door 600000");
    assert_eq!(finds(&server), ["fault: time to live"]);
    assert!(prints(&server, &["doctor"], 1).contains("fault: time to live: door ("));
    let _: i64 = server.ask("LOCK.RENEW door alice");
    assert_eq!(finds(&server), [""; 0]);
    for n in 0..10 {
        drop(wait_in_line(&server, "door", &format!("bob{n}")));
        until("the server has seen it go", || server.waiting("door") == 0);
    }
    assert_eq!(finds(&server), ["fault: abandoned waits"]);
    let _: i64 = server.ask("DEL door");
    assert_eq!(finds(&server), ["fault: abandoned waits", "note: vanished holds"]);
}

#[test]
fn replicas_are_asked_too() {
    let primary = Server::with(&GOOD);
    let port = primary.port.to_string();
    let replica = Server::replica_of(&primary, &GOOD);
    assert_eq!(finds(&primary), ["note: min-replicas-to-write"]);
    let _: String = primary.ask("CONFIG SET min-replicas-to-write 1");
    assert_eq!(finds(&primary), [""; 0]);
    let _: String = replica.ask("CONFIG SET tcp-keepalive 0");
    let said = prints(&primary, &["doctor"], 1);
    assert!(said.contains(&format!("fault: tcp-keepalive: 0 s (127.0.0.1:{})", replica.port)), "{said}");
    let _: String = replica.ask("CONFIG SET tcp-keepalive 60");
    let _: String = replica.ask("CONFIG SET replica-read-only no");
    assert_eq!(finds(&primary), ["fault: replica-read-only"]);

    let bare = Server::bare(&[&GOOD[..], &["--save", "", "--replicaof", "127.0.0.1", &port]].concat());
    until("the primary knows it", || {
        primary.ask::<String>("INFO replication").contains(&format!("port={}", bare.port))
    });
    let found = finds(&primary);
    assert!(found.contains(&"fault: module".to_owned()), "{found:?}");
}

#[test]
fn a_cluster_whose_failover_takes_longer_than_a_lease() {
    let nodes = cluster();
    for node in &nodes {
        let _: String = node.ask_words(&["CONFIG", "SET", "tcp-keepalive", "60", "appendonly", "yes"]);
    }
    let _: String = nodes[2].ask("CONFIG SET cluster-node-timeout 60000");
    assert_eq!(finds(&nodes[0]), ["fault: cluster-node-timeout"]);
    let _: String = nodes[2].ask("CONFIG SET cluster-node-timeout 5000");
    assert_eq!(finds(&nodes[0]), [""; 0]);
}

#[test]
fn commands_that_have_another_name() {
    let server = Server::with(&[&GOOD[..], &["--rename-command", "EXISTS", "there"]].concat());
    assert_eq!(finds(&server), ["fault: rename-command"]);
}

#[test]
fn what_this_user_may_not_ask_is_said() {
    let server = Server::with(&GOOD);
    let _: String = server.ask("ACL SETUSER looker on >secret ~* +lock.info +lock.waiters +lock.scan +info");
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    let url = format!("redis://looker:secret@127.0.0.1:{}", server.port);
    let output = server.run(&["doctor", "--url", &url]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    for line in [
        "unknown: module: not asked",
        "unknown: rights: no CONFIG GET",
        "unknown: persistence: AOF, appendfsync not known",
        "unknown: timeout: not known",
        "unknown: rights: no LOCK.STATS, PTTL",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let all = text(&server.run(&["doctor", "--all", "--url", &url]).stdout);
    assert!(!all.contains("good: lock.deadlock-detection") && !all.contains("good: time to live"), "{all}");
}
