//! `ls`, `info`, `why`, `graph`: what they tell of locks.

use std::net::TcpStream;

use serde_json::Value;

use crate::support::{cluster, free_port, text, until, Server};

/// A request on a connection of its own, which waits in line as long as the value lives.
pub(crate) struct Waiting(#[expect(dead_code, reason = "open as long as it waits")] TcpStream);

pub(crate) fn wait_in_line(server: &Server, key: &str, owner: &str) -> Waiting {
    use std::io::Write;
    let before = server.waiting(key);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut request = redis::cmd("LOCK.ACQUIRE");
    request.arg(key).arg(owner).arg("BLOCK").arg(0);
    stream.write_all(&request.get_packed_command()).unwrap();
    until("somebody waits", || server.waiting(key) == before + 1);
    Waiting(stream)
}

/// alice has door and waits for window, which dave has; bob and carol wait for door.
pub(crate) fn scene(server: &Server) -> Vec<Waiting> {
    let _: i64 =
        server.ask_words(&["LOCK.ACQUIRE", "door", "alice", "PX", "600000", "NOTE", "nightly \x1b[31mrun"]);
    let _: i64 = server.ask("LOCK.ACQUIRE window dave NOEXPIRE");
    let _: i64 = server.ask("LOCK.ACQUIRE pool eve LIMIT 3");
    [("door", "bob"), ("door", "carol"), ("window", "alice")]
        .map(|(key, owner)| wait_in_line(server, key, owner))
        .into()
}

#[track_caller]
pub(crate) fn prints(server: &Server, words: &[&str], code: i32) -> String {
    let output = server.run(words);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}{}", text(&output.stderr));
    assert!(!said.contains('\x1b') || words.contains(&"-J"), "{words:?} steers the terminal: {said:?}");
    said
}

#[track_caller]
pub(crate) fn json(server: &Server, words: &[&str]) -> Value {
    serde_json::from_str(&prints(server, words, 0)).unwrap()
}

fn keys(locks: &Value) -> Vec<&str> {
    locks.as_array().unwrap().iter().map(|lock| lock["key"].as_str().unwrap()).collect()
}

#[test]
fn an_empty_server_has_nothing_to_show() {
    let server = Server::new();
    assert_eq!(prints(&server, &["ls"], 0).lines().count(), 1, "only the heading");
    assert_eq!(prints(&server, &["ls", "-J"], 0), "[]\n");
    assert_eq!(prints(&server, &["graph", "-J"], 0), "[]\n");
    assert_eq!(prints(&server, &["graph"], 0), "digraph locks {\n    rankdir=LR;\n}\n");
    assert_eq!(prints(&server, &["info", "door"], 0), "door: free, nobody waits\n");
    assert!(prints(&server, &["why", "door", "bob"], 0).contains("the lock is free"));
}

#[test]
fn ls_lists_what_is_held_or_waited_for() {
    let server = Server::new();
    let _line = scene(&server);
    let table = prints(&server, &["ls"], 0);
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["KEY", "MODE", "HOLDER", "HELD", "LEFT", "WAITING", "NOTE"]);
    assert_eq!(rows.len(), 4, "{table}");
    assert!(
        rows[1].starts_with(&["door", "exclusive", "alice"]) && table.contains("\\x1b[31mrun"),
        "{table}"
    );
    assert!(rows[2].starts_with(&["pool", "semaphore", "eve"]), "{table}");
    assert!(rows[3].starts_with(&["window", "exclusive", "dave"]) && table.contains("for ever"), "{table}");

    let all = json(&server, &["ls", "-J"]);
    assert_eq!(keys(&all), ["door", "pool", "window"]);
    assert_eq!((&all[0]["waiting"], &all[0]["holds"][0]["owner"]), (&2.into(), &"alice".into()));
    assert_eq!(all[0]["holds"][0]["note"], "nightly \x1b[31mrun");
    assert_eq!((&all[1]["limit"], &all[2]["holds"][0]["left-ms"]), (&3.into(), &(-1).into()));
    assert_eq!(keys(&json(&server, &["ls", "-J", "--contended"])), ["door", "window"]);
    assert_eq!(keys(&json(&server, &["ls", "-J", "p*"])), ["pool"]);
    assert_eq!(keys(&json(&server, &["ls", "-J", "--owner", "alice"])), ["door", "window"]);
    assert_eq!(keys(&json(&server, &["ls", "-J", "--owner", "nobody"])), Vec::<&str>::new());
}

#[test]
fn more_locks_than_a_page_has() {
    let server = Server::new();
    let _: Option<i64> =
        server.ask_words(&["EVAL", "for i = 1, 2500 do redis.call('LOCK.ACQUIRE', 'k' .. i, 'o') end", "0"]);
    let all = json(&server, &["ls", "-J"]);
    let mut names: Vec<_> = keys(&all);
    names.dedup();
    assert_eq!(names.len(), 2_500);
}

#[test]
fn info_shows_holders_and_the_line() {
    let server = Server::new();
    let _line = scene(&server);
    let said = prints(&server, &["info", "door"], 0);
    assert!(said.starts_with("door: exclusive, 2 wait\n"), "{said}");
    let at = |word: &str| said.find(word).unwrap_or_else(|| panic!("{word} in {said}"));
    assert!(at("alice") < at("bob") && at("bob") < at("carol"), "{said}");
    assert!(prints(&server, &["info", "pool"], 0)
        .starts_with("pool: semaphore, 1 of 3 permits taken, nobody waits\n"));
    let door = json(&server, &["info", "door", "-J"]);
    assert_eq!(
        (&door["waiters"][1]["owner"], &door["waiters"][1]["behind"][0]),
        (&"carol".into(), &"bob".into())
    );
    assert_eq!(
        json(&server, &["info", "door", "-J", "--waiters", "1"])["waiters"].as_array().unwrap().len(),
        1
    );
    let _: String = server.ask("SET text x");
    assert_eq!(server.run(&["info", "text"]).status.code(), Some(64));
}

#[test]
fn why_goes_down_to_the_root() {
    let server = Server::new();
    let _line = scene(&server);
    let said = prints(&server, &["why", "door", "carol"], 0);
    for line in
        ["carol waits for door", "held by alice", "alice waits for window", "held by dave", "behind bob"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("in the end: dave has window and waits for nothing"), "{said}");
    let told = json(&server, &["why", "door", "carol", "-J"]);
    assert_eq!(told["state"], "waits");
    assert_eq!(told["roots"].as_array().unwrap().len(), 1);
    assert_eq!((&told["roots"][0]["owner"], &told["roots"][0]["key"]), (&"dave".into(), &"window".into()));
    let holder = &told["waits"][0]["blocked-by"][0];
    assert_eq!((&holder["owner"], &holder["waits"][0]["key"]), (&"alice".into(), &"window".into()));

    assert!(prints(&server, &["why", "door", "alice"], 0).starts_with("alice holds door: for "));
    let said = prints(&server, &["why", "door", "zed"], 0);
    assert!(said.starts_with("zed neither holds door nor waits for it; it is held by alice"), "{said}");
    let _: i64 = server.ask("LOCK.BREAK pool");
    let said = prints(&server, &["why", "pool", "eve"], 0);
    assert!(said.contains("ago: broken; the lock is free"), "{said}");
}

#[test]
fn a_cooldown_is_told_with_its_time() {
    let server = Server::new();
    let _: i64 = server.ask("LOCK.ACQUIRE door alice MINHOLD 600000");
    let _: i64 = server.ask("LOCK.RELEASE door alice");
    let table = prints(&server, &["ls"], 0);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["door", "cooling", "-", "-", "9", "min", "0", "-"], "{table}");
    let said = prints(&server, &["why", "door", "bob"], 0);
    assert!(said.contains("the lock is in cooldown for 9 min after alice (min-hold)"), "{said}");
    assert!(prints(&server, &["info", "door"], 0).contains("in cooldown for 9 min after alice (min-hold)"));
    let mut screen = crate::support::screen::Screen::tool(&server, (20, 110), &["top", "--every", "50ms"]);
    let shown = screen.says("in cooldown for 9 min after alice (min-hold)");
    assert!(shown.lines().any(|line| line.contains("cooling") && line.contains("9 min")), "{shown}");
    screen.press("q");
    assert_eq!(screen.end(), 0);
}

#[test]
fn why_ends_in_a_circle() {
    let server = Server::new();
    let _: String = server.ask("CONFIG SET lock.deadlock-detection no");
    let _: i64 = server.ask("LOCK.ACQUIRE red alice");
    let _: i64 = server.ask("LOCK.ACQUIRE blue bob");
    let _line = [wait_in_line(&server, "blue", "alice"), wait_in_line(&server, "red", "bob")];
    let said = prints(&server, &["why", "red", "bob"], 0);
    assert!(said.contains("bob waits in a circle") && !said.contains("in the end"), "{said}");
}

/// There are more ways through two such lines than anybody could print.
#[test]
fn why_tells_of_each_owner_once() {
    let server = Server::new();
    for key in ["red", "blue"] {
        let _: i64 = server.ask(&format!("LOCK.ACQUIRE {key} alice PX 600000"));
        for n in 0..30 {
            let _: Option<i64> = server.ask(&format!("LOCK.ACQUIRE {key} w{n} QUEUE 600000"));
        }
    }
    let said = prints(&server, &["why", "red", "w29"], 0);
    assert!(said.contains("w28 waits for red") && said.contains("w5 waits as told above"), "{said}");
    assert_eq!(
        said.lines().filter(|line| line.trim_start().starts_with("w28 waits for blue")).count(),
        1,
        "{said}"
    );
    assert!(said.contains("in the end: alice has red and waits for nothing"), "{said}");
    let told = json(&server, &["why", "red", "w29", "-J"]);
    assert_eq!(told["waits"][0]["place"], 30);
}

#[test]
fn graph_draws_holders_and_the_line() {
    let server = Server::new();
    let _line = scene(&server);
    let dot = prints(&server, &["graph"], 0);
    for edge in [
        "\"lock door\" -> \"owner alice\" [label=\"held ",
        "\"owner bob\" -> \"lock door\" [style=dashed, label=\"1. for ",
        "\"owner alice\" -> \"lock window\"",
    ] {
        assert!(dot.contains(edge), "{edge}: {dot}");
    }
    assert!(!dot.contains("pool"), "nobody waits for it");
    assert!(prints(&server, &["graph", "--waiters", "1"], 0).contains("and 1 more"));
    assert_eq!(keys(&json(&server, &["graph", "-J", "w*"])), ["window"]);
}

#[test]
fn names_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let server = Server::new();
    let key = b"a\"\\\xff\n\x1b[2J";
    let mut request = redis::cmd("LOCK.ACQUIRE");
    request.arg(key).arg(b"o\xfe").arg("NOTE").arg(b"\x9b31m");
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    request.query::<i64>(&mut connection).unwrap();
    let shown = prints(&server, &["ls"], 0);
    assert!(shown.contains(r#"a"\\\xff\n\x1b[2J"#), "{shown}");
    assert_eq!(shown.lines().count(), 2, "{shown:?}");
    assert_eq!(json(&server, &["ls", "-J"])[0]["holds"][0]["owner"], "o\\xfe");
    let info = server.tool(&["info"]).arg(std::ffi::OsStr::from_bytes(key)).output().unwrap();
    assert!(text(&info.stdout).contains("exclusive"), "{}", text(&info.stdout));
    // As it is shown it can be typed.
    let typed = r#"redis-lock info $'a"\\\xff\n\x1b[2J'"#;
    let info = crate::manual::shell(&server).args(["-c", typed]).output().unwrap();
    assert!(text(&info.stdout).contains("exclusive"), "{}", text(&info.stderr));
}

#[test]
fn who_may_not_look_is_told_so() {
    let server = Server::new();
    let _line = scene(&server);
    let _: String = server.ask("ACL SETUSER app on >secret ~* +lock.acquire +lock.release");
    let _: String = server.ask("ACL SETUSER part on >secret ~d* +@read +lock.info +lock.scan +lock.waiters");
    let at = |user: &str| format!("redis://{user}:secret@127.0.0.1:{}", server.port);
    let verbs: &[&[&str]] = &[
        &["ls"],
        &["info", "door"],
        &["why", "door", "carol"],
        &["graph"],
        &["break", "door", "--yes"],
        &["break", "door"],
        &["steal", "door", "--yes"],
        &["cancel", "door", "bob", "--yes"],
        &["doctor"],
        &["top"],
    ];
    let bare = Server::bare(&["--save", ""]);
    let nowhere = format!("redis://127.0.0.1:{}", free_port());
    for words in verbs {
        for (url, code, says) in [
            (at("app"), 77, "NOPERM"),
            (bare.url(), 69, "not loaded the redis-lock module"),
            (nowhere.clone(), 69, "no server"),
        ] {
            let output = server.run(&[words, &["--url", &url][..]].concat());
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{words:?} {url}: {said}");
            assert!(said.contains(says), "{words:?} {url}: {said}");
        }
    }
    let some = server.run(&["ls", "-J", "--url", &at("part")]);
    assert_eq!(keys(&serde_json::from_slice(&some.stdout).unwrap()), ["door"], "only names it may read");
}

#[test]
fn all_nodes_of_a_cluster_are_asked() {
    let nodes = cluster();
    let names: Vec<String> = (0..30).map(|n| format!("k{n:02}")).collect();
    for key in &names {
        let taken = nodes[0].run(&["acquire", key]);
        assert_eq!(taken.status.code(), Some(0), "{}", text(&taken.stderr));
    }
    for node in &nodes {
        let all = json(node, &["ls", "-J"]);
        assert_eq!(keys(&all), names);
        let homes: std::collections::HashSet<_> =
            all.as_array().unwrap().iter().map(|lock| lock["node"].as_str().unwrap()).collect();
        assert_eq!(homes.len(), nodes.len());
        assert!(prints(node, &["info", "k07"], 0).starts_with("k07: exclusive"));
    }
}
