//! The ways to a server: Sentinel, a cluster, TLS, a Unix socket.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{free_port, skip, text, tool, until, Server};

#[track_caller]
fn runs_at(url: &str, words: &[&str]) {
    let mut command = tool();
    let output =
        command.arg("run").args(words).args(["--url", url, "door", "-c", "echo $LOCK_KEY"]).output().unwrap();
    assert_eq!(text(&output.stdout), "door\n", "{url}: {}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn sentinel_names_the_primary() {
    let primary = Server::new();
    let sentinel = Server::sentinel(&[&format!("sentinel monitor main 127.0.0.1 {} 1", primary.port)]);
    let at = |sentinels: &str| format!("redis+sentinel://{sentinels}/main");
    runs_at(&at(&format!("127.0.0.1:{}", sentinel.port)), &[]);
    // One of them is dead.
    runs_at(&at(&format!("127.0.0.1:{},127.0.0.1:{}", free_port(), sentinel.port)), &[]);
    runs_at(&(at(&format!("127.0.0.1:{}", sentinel.port)) + "/3"), &[]);
    let unknown = at(&format!("127.0.0.1:{}", sentinel.port)).replace("main", "other");
    let output = tool().args(["run", "door", "--url", &unknown, "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("no Sentinel knows a primary named other"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_lock_goes_along_when_sentinel_names_another_primary() {
    let primary = Server::new();
    let replica = Server::replica_of(&primary, &[]);
    let dir = crate::support::Dir::new();
    let watch = format!("sentinel monitor main 127.0.0.1 {} 1", primary.port);
    let sentinel = Server::sentinel(&[&watch, "sentinel down-after-milliseconds main 1000"]);
    until("Sentinel knows the replica", || {
        sentinel.ask::<Vec<redis::Value>>("SENTINEL REPLICAS main").len() == 1
    });

    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port);
    let line = "echo $$; while [ ! -e go ]; do sleep .05; done; exit 5";
    let mut command = tool();
    command.args(["run", "door", "--url", &url, "--lease", "5s", "-c", line]).current_dir(dir.path(""));
    let run = crate::support::Tool(command.spawn().unwrap());
    until("the replica knows the hold", || replica.is_held("door"));
    until("Sentinel finds the replica good", || sentinel.try_ask::<String>("SENTINEL FAILOVER main").is_ok());
    // Sentinel ends all connections to the new primary in the same step.
    until("the replica is the primary", || {
        replica.try_ask::<Vec<redis::Value>>("ROLE").is_ok_and(|role| role[0] == bulk("master"))
    });
    let left = || {
        let info: Vec<redis::Value> = replica.ask("LOCK.INFO door");
        let redis::Value::Array(holds) = &info[5] else { panic!("{info:?}") };
        let redis::Value::Array(hold) = &holds[0] else { panic!("{info:?}") };
        redis::from_redis_value::<i64>(hold[13].clone()).unwrap()
    };
    until("time has passed", || left() < 4_000);
    until("the hold is renewed there", || left() > 4_500);
    std::fs::write(dir.path("go"), "").unwrap();
    let output = run.end();
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert!(!replica.is_held("door"));
}

fn bulk(text: &str) -> redis::Value {
    redis::Value::BulkString(text.as_bytes().to_vec())
}

#[test]
fn a_cluster_leads_to_the_node_of_the_key() {
    let nodes = [(); 2].map(|()| {
        let bus = free_port().to_string();
        Server::with(&["--cluster-enabled", "yes", "--cluster-port", &bus])
    });
    // The slot of "door" is 9,290 or another: one node has the upper half, one the lower.
    let _: String = nodes[0].ask("CLUSTER ADDSLOTSRANGE 0 8191");
    let _: String = nodes[1].ask("CLUSTER ADDSLOTSRANGE 8192 16383");
    let bus: String = nodes[1].ask_words::<Vec<String>>(&["CONFIG", "GET", "cluster-port"])[1].clone();
    let _: String = nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", nodes[1].port));
    for node in &nodes {
        until("the cluster is whole", || node.ask::<String>("CLUSTER INFO").contains("cluster_state:ok"));
    }
    for node in &nodes {
        runs_at(&node.url(), &[]);
        runs_at(&node.url(), &["-k", "{door}:2"]);
        runs_at(&node.url().replace("redis:", "redis+cluster:"), &[]);
    }
    let dead = format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", free_port(), nodes[0].port);
    runs_at(&dead, &[]);
    let crossed = tool().args(["run", "a", "-k", "b", "--url", &nodes[0].url(), "true"]).output().unwrap();
    assert_eq!(crossed.status.code(), Some(64), "{}", text(&crossed.stderr));
    assert!(text(&crossed.stderr).contains("need the same {tag}"), "{}", text(&crossed.stderr));
}

#[test]
fn a_replica_gives_no_lock_and_no_place_in_line() {
    let primary = Server::new();
    let replica = Server::replica_of(&primary, &[]);
    let output = replica.run(&["acquire", "-w", ".3", "door"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("READONLY") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_unix_socket() {
    let dir = crate::support::Dir::new();
    let path = dir.path("socket");
    let _server = Server::with(&["--unixsocket", path.to_str().unwrap()]);
    runs_at(&format!("unix://{}", path.display()), &[]);
}

/// A certificate and its key, for this machine under this name too.
fn certificate(dir: &crate::support::Dir, name: &str) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (dir.path(&format!("{name}.cert.pem")), dir.path(&format!("{name}.key.pem")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-addext", &format!("subjectAltName=IP:127.0.0.1,DNS:{name}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output();
    made.is_ok_and(|output| output.status.success()).then_some((cert, key))
}

#[test]
fn tls_with_a_certificate_of_ones_own() {
    let dir = crate::support::Dir::new();
    let Some((cert, key)) = certificate(&dir, "localhost") else {
        return skip("TLS", "there is no openssl to make a certificate with");
    };
    let module = std::env::var("MODULE_PATH").unwrap();
    let port = free_port().to_string();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let options = [
        "--save",
        "",
        "--loadmodule",
        &module,
        "--tls-port",
        &port,
        "--tls-cert-file",
        cert,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        cert,
        "--tls-auth-clients",
        "optional",
    ];
    let Some(server) = Server::try_bare(&options) else {
        return skip("TLS", "this server was built without it");
    };
    let url = format!("rediss://127.0.0.1:{port}");
    runs_at(&url, &["--cacert", cert]);
    runs_at(&url, &["--cacert", cert, "--cert", cert, "--cert-key", key]);
    let plain = tool().args(["ls", "--url", &url.replace("rediss", "redis")]).output().unwrap();
    assert_eq!(plain.status.code(), Some(69), "{}", text(&plain.stderr));
    assert!(text(&plain.stderr).contains("needs rediss://"), "{}", text(&plain.stderr));
    let refused = |words: &[&str], why: &str| {
        let output = tool().args(["ls", "--url", &url]).args(words).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{said}");
        assert!(said.contains(why), "{said}");
    };
    let (other, other_key) = certificate(&dir, "other").unwrap();
    let (other, other_key) = (other.to_str().unwrap(), other_key.to_str().unwrap());
    refused(&[], "--cacert names the certificate");
    refused(&["--cacert", other], "--cacert names the certificate");
    refused(
        &["--cacert", cert, "--cert", cert, "--cert-key", other_key],
        "--cert-key is not the key of --cert",
    );
    let _: String = server.ask("CONFIG SET tls-auth-clients yes");
    refused(&["--cacert", cert], "the server asks for a certificate: --cert");
    refused(&["--cacert", cert, "--cert", other, "--cert-key", other_key], "does not trust the certificate");
    runs_at(&url, &["--cacert", cert, "--cert", cert, "--cert-key", key]);
}

/// A hold that a failover has lost comes back as what it was, and who asks meanwhile waits.
#[test]
fn a_failover_that_loses_the_newest_grants() {
    let options = ["--unixsocket", "socket"];
    let mut old = Server::with(&options);
    old.ask::<i64>("LOCK.ACQUIRE known somebody PX 60000");
    let new = Server::replica_of(&old, &options);
    until("the replica has what is known", || new.is_held("known"));
    new.ask::<String>("REPLICAOF 127.0.0.1 1");
    // An address that leads to the one and then to the other.
    let dir = crate::support::Dir::new();
    let lead_to = |server: &Server| {
        std::os::unix::fs::symlink(server.path("socket"), dir.path("next")).unwrap();
        std::fs::rename(dir.path("next"), dir.path("address")).unwrap();
    };
    lead_to(&old);
    let url = format!("unix://{}", dir.path("address").display());
    let start = |words: &[&str]| {
        let mut command = tool();
        command.args(["hold", "--url", &url, "--lease", "12s"]).args(words);
        crate::support::Tool(command.spawn().unwrap())
    };
    let holds = [
        start(&["readers", "--shared"]),
        start(&["readers", "--shared"]),
        start(&["pool", "--limit", "4", "--permits", "2"]),
        start(&["pool", "--limit", "4", "--permits", "2"]),
        start(&["alone"]),
    ];
    let keys = ["readers", "pool", "alone"];
    let all = |server: &Server| keys.map(|key| stand(server, key));
    until("all have got theirs", || all(&old).iter().map(|(_, holds)| holds.len()).eq([2, 2, 1]));
    let before = all(&old);
    let fence = old.ask::<i64>("LOCK.ACQUIRE by-hand script LIMIT 4 PERMITS 2 PX 60000").to_string();
    let by_hand = stand(&old, "by-hand");
    new.ask::<String>("CONFIG SET lock.recovery-window-ms 100000 lock.recovery-window-max-ms 100000");
    old.kill();
    new.ask::<String>("REPLICAOF NO ONE");
    lead_to(&new);
    let words =
        ["renew", "by-hand", "script", "--lease", "60s", "--limit", "4", "--permits", "2", "--fence", &fence];
    let renewed = tool().args(words).args(["--url", &url]).output().unwrap();
    assert_eq!(text(&renewed.stdout), "60000\n", "{}", text(&renewed.stderr));
    assert_eq!(stand(&new, "by-hand"), by_hand);
    let owned = start(&["known", "--owner", "somebody"]);
    let free = start(&["free"]);
    until("it waits", || new.waiting("free") == 1);
    until("all have theirs again", || all(&new) == before);
    new.ask::<i64>("LOCK.RECOVERY END");
    until("both go on", || new.is_held("free") && lease(&new, "known") == 12_000);
    for hold in holds.into_iter().chain([owned, free]) {
        hold.signal(nix::sys::signal::Signal::SIGTERM);
        let output = hold.end();
        assert!(text(&output.stdout).contains("fence"), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("lost"), "{}", text(&output.stderr));
    }
    assert!(keys.iter().all(|key| !new.is_held(key)));
}

fn holds(server: &Server, key: &str) -> Vec<Vec<redis::Value>> {
    let mut info: Vec<redis::Value> = server.ask(&format!("LOCK.INFO {key}"));
    redis::from_redis_value(info.swap_remove(5)).unwrap()
}

/// The mode of a lock, and each hold with its owner, fence and permits.
fn stand(server: &Server, key: &str) -> (String, Vec<String>) {
    let mut holds: Vec<String> = holds(server, key).iter().map(|hold| format!("{:?}", &hold[..6])).collect();
    holds.sort();
    (server.mode(key), holds)
}

fn lease(server: &Server, key: &str) -> i64 {
    redis::from_redis_value(holds(server, key)[0][11].clone()).unwrap()
}
