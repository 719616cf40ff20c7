//! `run`, `acquire` and `hold` while things go wrong around them.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, killpg, Signal};
use nix::unistd::Pid;

use crate::support::{is_gone, script, text, until, Dir, Server, Tool};

/// A command that writes its process id, the leader of its group, and stays, with a child in the same group.
const STAYS: &str = "echo $$ >$DIR/pid; sleep 600 & sleep 600";
/// The same, and SIGTERM is nothing to it.
const STUBBORN: &str = "trap '' TERM; echo $$ >$DIR/pid; sleep 600 & while :; do sleep 600; done";

struct Case {
    dir: Dir,
    tool: Tool,
    /// The group of the command.
    group: Group,
}

struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // A test that fails leaves nobody behind.
        if std::thread::panicking() {
            let _ = killpg(self.0, Signal::SIGKILL);
        }
    }
}

/// Starts `run` with a command that stays.
#[track_caller]
fn running(server: &Server, words: &[&str], line: &str) -> Case {
    let dir = Dir::new();
    let mut tool = server.tool(&["run"]);
    let at = dir.path("");
    let tool = Tool(tool.args(words).args(["-c", line]).env("DIR", at.to_str().unwrap()).spawn().unwrap());
    let group = Group(Pid::from_raw(dir.said("pid").parse().unwrap()));
    Case { dir, tool, group }
}

#[test]
fn the_command_knows_its_lock() {
    let server = Server::new();
    let output =
        server.run(&["run", "door", "--owner", "alice", "-c", "env; cat /proc/self/stat >/dev/null"]);
    let said = text(&output.stdout);
    let value = |name: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")))
            .unwrap_or_else(|| panic!("{name}: {said}"))
            .to_owned()
    };
    assert_eq!((value("LOCK_KEY"), value("LOCK_OWNER")), ("door".into(), "alice".into()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let deadline: i64 = value("LOCK_DEADLINE").parse().unwrap();
    assert!((now..=now + 30_000).contains(&deadline), "{deadline} {now}");
    let fence: i64 = value("LOCK_FENCE").parse().unwrap();
    let next: i64 = server.ask("LOCK.ACQUIRE door bob");
    assert!(next > fence && fence > 0);
}

#[test]
fn input_and_output_are_those_of_the_command() {
    let server = Server::new();
    let mut tool = server
        .tool(&["run", "door", "--", "sh", "-c", "cat; echo err >&2"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let output = tool.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("one\ntwo\n".into(), "err\n".into()));
}

#[test]
fn signals_go_to_the_command() {
    let server = Server::new();
    let case = running(
        &server,
        &["door"],
        "trap 'echo heard; exit 3' USR1; echo $$ >$DIR/pid; while :; do sleep .05; done",
    );
    case.tool.signal(Signal::SIGUSR1);
    let output = case.tool.end();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), "heard\n".into()));

    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let case = running(&server, &["door"], "echo $$ >$DIR/pid; exec sleep 600");
        case.tool.signal(signal);
        assert_eq!(case.tool.end().status.code(), Some(code), "{signal}");
        until("the group is gone", || is_gone(case.group.0));
        assert!(!server.is_held("door"));
    }
}

#[test]
fn a_lease_is_renewed_for_as_long_as_the_command_runs() {
    let server = Server::new();
    let line = "echo $$ >$DIR/pid; until [ -e $DIR/done ]; do sleep 0.05; done";
    let case = running(&server, &["door", "--lease", "3s"], line);
    // Four thirds of its lease and more.
    until("it is renewed again and again", || server.renewed() >= 5);
    std::fs::write(case.dir.path("done"), "").unwrap();
    let output = case.tool.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!server.is_held("door"));
}

#[test]
fn a_killed_tool_takes_its_command_along() {
    let server = Server::new();
    let case = running(&server, &["door"], STUBBORN);
    case.tool.signal(Signal::SIGKILL);
    until("the group is gone, long before the lease is over", || is_gone(case.group.0));
    assert!(server.is_held("door"), "the lease ends it");
}

#[test]
fn the_kernel_ends_the_command_of_a_tool_that_is_killed_with_its_guard() {
    let server = Server::new();
    let case = running(&server, &["door"], "echo $$ >$DIR/pid; exec sleep 600");
    let guard = case.tool.guard().expect("there is a guard");
    // Stopped, it starts no other.
    case.tool.signal(Signal::SIGSTOP);
    kill(guard, Signal::SIGKILL).unwrap();
    case.tool.signal(Signal::SIGKILL);
    until("the command is gone", || is_gone(case.group.0));
}

#[test]
fn a_tied_lock_is_free_soon_after_its_tool_was_killed() {
    let server = Server::new();
    let case = running(&server, &["door", "--lease", "1h", "--tied", "50ms"], STAYS);
    case.tool.signal(Signal::SIGKILL);
    until("the lock is free", || !server.is_held("door"));
    until("the group is gone", || is_gone(case.group.0));
}

#[test]
fn a_killed_command_gives_the_lock_back() {
    let server = Server::new();
    let case = running(&server, &["door"], "echo $$ >$DIR/pid; exec sleep 600");
    kill(case.group.0, Signal::SIGKILL).unwrap();
    assert_eq!(case.tool.end().status.code(), Some(137));
    assert!(!server.is_held("door"));
}

#[test]
fn a_stopped_tool_has_no_command_when_its_lease_is_over() {
    let server = Server::new();
    for line in [STAYS, STUBBORN] {
        let case = running(&server, &["door", "--lease", "1s"], line);
        case.tool.signal(Signal::SIGSTOP);
        // Whoever has the lock next finds nobody at work.
        let _: i64 = server.ask("LOCK.ACQUIRE door bob BLOCK 20000");
        until("the group is gone", || is_gone(case.group.0));
        let _: i64 = server.ask("LOCK.RELEASE door bob");
        case.tool.signal(Signal::SIGCONT);
        let output = case.tool.end();
        assert_eq!(output.status.code(), Some(76), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("lost the lock door"));
    }
}

#[test]
fn a_killed_server_ends_the_command_before_the_lease() {
    let mut server = Server::new();
    let case = running(&server, &["door", "--lease", "6s"], STUBBORN);
    let killed = Instant::now();
    server.kill();
    until("the group is gone", || is_gone(case.group.0));
    // The lease may have been renewed just before, and a busy machine may be late.
    let lasted = killed.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(11)).contains(&lasted), "{lasted:?}");
    assert_eq!(case.tool.end().status.code(), Some(76));
}

#[test]
fn a_server_that_comes_back_in_time_is_no_loss() {
    let server = Server::new();
    let case = running(
        &server,
        &["door", "--lease", "3s"],
        "echo $$ >$DIR/pid; while [ ! -e $DIR/go ]; do sleep .05; done",
    );
    let _: i64 = server.ask("CLIENT KILL TYPE normal SKIPME yes");
    let start = Instant::now();
    until("a renewal has gone over a new connection", || {
        let info: Vec<redis::Value> = server.ask("LOCK.INFO door");
        assert!(format!("{info:?}").contains("owner"), "the lock is held");
        start.elapsed() > Duration::from_millis(3500)
    });
    std::fs::write(case.dir.path("go"), "").unwrap();
    assert_eq!(case.tool.end().status.code(), Some(0));
}

/// How often the server has refused something with this word.
fn refusals(server: &Server, code: &str) -> u32 {
    let stats: String = server.ask("INFO errorstats");
    let of = format!("errorstat_{code}:count=");
    stats.lines().find_map(|line| line.strip_prefix(&of)?.trim().parse().ok()).unwrap_or(0)
}

/// As after a failover: a new primary has no replica for some seconds, and writes nothing.
#[test]
fn a_primary_without_a_replica_for_a_while_is_no_loss() {
    let server = Server::new();
    let line = "echo $$ >$DIR/pid; while [ ! -e $DIR/go ]; do sleep .05; done";
    let case = running(&server, &["door", "--lease", "6s"], line);
    let _: String = server.ask("CONFIG SET min-replicas-to-write 1");
    until("renewals are refused", || refusals(&server, "NOREPLICAS") > 1);
    let _: String = server.ask("CONFIG SET min-replicas-to-write 0");
    until("the hold is renewed", || server.renewed() > 0);
    std::fs::write(case.dir.path("go"), "").unwrap();
    let output = case.tool.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn who_waits_waits_for_a_replica_too() {
    let server = Server::new();
    let _: String = server.ask("CONFIG SET min-replicas-to-write 1");
    for (words, code) in
        [(["run", "-n", "door", "true"].as_slice(), 69), (&["run", "-w", ".3", "door", "true"], 75)]
    {
        let output = server.run(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("NOREPLICAS") && said.lines().count() == 1, "{said}");
    }
    let before = refusals(&server, "NOREPLICAS");
    let tool = server.start(&["run", "door", "true"]);
    until("it tries again", || refusals(&server, "NOREPLICAS") > before + 1);
    let _: String = server.ask("CONFIG SET min-replicas-to-write 0");
    let output = tool.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_broken_lock_ends_the_command() {
    let server = Server::new();
    let case = running(&server, &["door", "--lease", "600ms", "--kill-after", "100ms"], STUBBORN);
    let _: i64 = server.ask("LOCK.BREAK door");
    let output = case.tool.end();
    assert_eq!(output.status.code(), Some(76));
    assert!(text(&output.stderr).contains("lost the lock door: broken"), "{}", text(&output.stderr));
    until("the group is gone", || is_gone(case.group.0));
}

/// Waits until all of them are watched.
fn watched(server: &Server, count: usize) {
    until("the locks are watched", || {
        server.ask::<String>("INFO lock").contains(&format!("\nlock_observing:{count}\r"))
    });
}

#[test]
fn who_takes_the_lock_away_ends_the_command_long_before_the_next_renewal() {
    let server = Server::new();
    let stays = "echo $$ >$DIR/pid; exec sleep 600";
    let ends = |case: Case, reason: &str| {
        let output = case.tool.end();
        assert_eq!(output.status.code(), Some(76));
        assert!(text(&output.stderr).contains(reason), "{reason}: {}", text(&output.stderr));
        until("the group is gone", || is_gone(case.group.0));
        watched(&server, 0);
    };
    for (request, reason) in [
        ("LOCK.BREAK door", "lost the lock door: broken"),
        ("LOCK.STEAL door repair", "lost the lock door: stolen"),
        ("LOCK.BREAK gate", "lost the lock door: broken"),
        ("DEL door", "lost the lock door: "),
        ("SET door x", "lost the lock door: overwritten"),
    ] {
        let case = running(&server, &["door", "-k", "gate", "--lease", "1h"], stays);
        watched(&server, 2);
        let _: redis::Value = server.ask(request);
        ends(case, reason);
        assert!(!server.is_held("gate"), "what is left is given back");
        let _: redis::Value = server.ask("DEL door");
    }

    // The connections that watch were lost.
    let case = running(&server, &["door", "--lease", "1h"], stays);
    watched(&server, 1);
    let _: i64 = server.ask("CLIENT KILL TYPE normal SKIPME yes");
    watched(&server, 1);
    let _: i64 = server.ask("LOCK.BREAK door");
    ends(case, "broken");

    // One hold of several, and not the newest: whoever comes next is told of.
    let case = running(&server, &["door", "--lease", "1h", "--limit", "2", "--owner", "ann"], stays);
    let _: i64 = server.ask("LOCK.ACQUIRE door ben LIMIT 2");
    let _: redis::Value = server.ask("LOCK.ACQUIRE door carl LIMIT 2 QUEUE 60000");
    watched(&server, 1);
    let _: i64 = server.ask("LOCK.BREAK door OWNER ann");
    ends(case, "broken");
}

#[test]
fn who_may_not_watch_hears_of_the_loss_by_the_next_renewal() {
    let server = Server::new();
    let url = app(&server);
    let words = ["--url", &url, "lock:door", "--lease", "600ms"];
    let case = running(&server, &words, "echo $$ >$DIR/pid; exec sleep 600");
    let _: i64 = server.ask("LOCK.BREAK lock:door");
    let output = case.tool.end();
    assert_eq!(output.status.code(), Some(76));
    assert_eq!(text(&output.stderr), "redis-lock: lost the lock lock:door: broken\n");
}

#[test]
fn a_command_may_tidy_up_when_the_lock_is_lost() {
    let server = Server::new();
    let line = "trap 'echo tidy; exit 0' TERM; echo $$ >$DIR/pid; while :; do sleep .02; done";
    let case = running(&server, &["door", "--lease", "600ms"], line);
    let _: i64 = server.ask("DEL door");
    let output = case.tool.end();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(76), "tidy\n".into()));
}

#[test]
fn a_command_may_go_on_without_its_lock() {
    let server = Server::new();
    let line = "echo $$ >$DIR/pid; while [ ! -e $DIR/go ]; do sleep .02; done; exit 4";
    let case = running(&server, &["door", "--lease", "300ms", "--on-lost", "ignore"], line);
    let _: i64 = server.ask("LOCK.BREAK door");
    let _: i64 = server.ask("LOCK.ACQUIRE door bob PX 600");
    until("the lease is over long since", || !server.is_held("door"));
    assert!(!is_gone(case.group.0));
    std::fs::write(case.dir.path("go"), "").unwrap();
    let output = case.tool.end();
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("lost the lock door"));
}

#[test]
fn a_killed_guard_is_replaced() {
    let server = Server::new();
    let case = running(&server, &["door", "--lease", "1s"], STUBBORN);
    let guard = case.tool.guard().expect("there is a guard");
    kill(guard, Signal::SIGKILL).unwrap();
    until("there is another guard", || case.tool.guard().is_some_and(|other| other != guard));
    case.tool.signal(Signal::SIGSTOP);
    until("the group is gone", || is_gone(case.group.0));
}

#[test]
fn what_nohup_ignores_stays_ignored() {
    let server = Server::new();
    let dir = Dir::new();
    let program = dir.path("script");
    script(&program, "#!/bin/sh\necho $$ >$DIR/pid\nwhile [ ! -e $DIR/go ]; do sleep .02; done\n");
    let mut tool = std::process::Command::new("nohup");
    tool.arg(env!("CARGO_BIN_EXE_redis-lock")).args(["run", "door"]).arg(&program);
    tool.env("REDIS_URL", server.url()).env("DIR", dir.path("").to_str().unwrap());
    tool.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let tool = Tool(tool.spawn().unwrap());
    dir.said("pid");
    tool.signal(Signal::SIGHUP);
    std::fs::write(dir.path("go"), "").unwrap();
    assert_eq!(tool.end().status.code(), Some(0));
}

#[test]
fn a_wait_that_is_ended_leaves_nothing() {
    let server = Server::new();
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    for (verb, signal, code) in
        [("run", Signal::SIGTERM, 143), ("acquire", Signal::SIGINT, 130), ("hold", Signal::SIGHUP, 129)]
    {
        let words = [verb, "door", "true"];
        let tool = server.start(if verb == "run" { &words } else { &words[..2] });
        until("it waits", || server.waiting("door") == 1);
        tool.signal(signal);
        assert_eq!(tool.end().status.code(), Some(code), "{verb}");
        assert_eq!(server.waiting("door"), 0, "{verb}");
    }
}

/// The user of docs/access.md that takes locks, and nothing more.
fn app(server: &Server) -> String {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/access.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rights = page.lines().find_map(|line| line.strip_prefix("admin> ACL SETUSER app "));
    let _: String = server.ask(&format!("ACL SETUSER app {}", rights.expect("the page has a user")));
    format!("redis://app:secret@127.0.0.1:{}", server.port)
}

#[test]
fn a_user_with_the_rights_of_the_page_leaves_no_place_in_line_behind() {
    let server = Server::new();
    let url = app(&server);
    let _: i64 = server.ask("LOCK.ACQUIRE lock:door alice");
    let late = server.run(&["run", "--url", &url, "-w", "50ms", "lock:door", "true"]);
    assert_eq!(late.status.code(), Some(75), "{}", text(&late.stderr));
    assert_eq!(server.waiting("lock:door"), 0, "{}", text(&late.stderr));
    for (verb, signal, code) in [("acquire", Signal::SIGINT, 130), ("hold", Signal::SIGTERM, 143)] {
        let tool = server.start(&[verb, "lock:door", "--url", &url]);
        until("it waits", || server.waiting("lock:door") == 1);
        tool.signal(signal);
        let output = tool.end();
        assert_eq!(output.status.code(), Some(code), "{verb}");
        assert_eq!(server.waiting("lock:door"), 0, "{verb}: {}", text(&output.stderr));
    }
}

#[test]
fn a_place_in_line_that_cannot_be_given_up_is_told() {
    let server = Server::new();
    let _: String = server.ask("ACL SETUSER half on >secret ~* +ping +lock.acquire +lock.macquire");
    let url = format!("redis://half:secret@127.0.0.1:{}", server.port);
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    for words in [&["acquire", "-w", "50ms", "door"][..], &["acquire", "-w", "50ms", "door", "-k", "gate"]] {
        let output = server.run(&[words, &["--url", &url]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains("the place in line for door stays for 5 s: NOPERM"), "{said}");
    }
}

#[test]
fn a_server_that_dies_during_a_wait_is_no_lock_that_was_not_free() {
    let mut server = Server::new();
    let _: i64 = server.ask("LOCK.ACQUIRE door alice PX 600000");
    let tools = ["run", "acquire"].map(|verb| {
        let words = [verb, "-E", "3", "-w", "5s", "door", "true"];
        server.start(if verb == "run" { &words } else { &words[..6] })
    });
    until("they wait", || server.waiting("door") == 2);
    server.kill();
    for tool in tools {
        let output = tool.end();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{said}");
        assert!(said.contains("no server") && said.contains(&server.port.to_string()), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn who_came_first_is_first() {
    let server = Server::new();
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    let dir = Dir::new();
    let mut tools = Vec::new();
    for number in 0..4 {
        let line = format!("echo {number} >>{}", dir.path("order").display());
        tools.push(server.start(&["run", "door", "-c", &line]));
        until("it waits", || server.waiting("door") == number + 1);
    }
    // Places outlive the connections.
    let _: i64 = server.ask("CLIENT KILL TYPE normal SKIPME yes");
    until("all wait on new connections", || {
        let waits = |line: &&str| line.contains("cmd=lock.acquire") && line.contains("flags=b");
        server.ask::<String>("CLIENT LIST").lines().filter(waits).count() == 4
    });
    let _: i64 = server.ask("LOCK.RELEASE door alice");
    for tool in tools {
        assert_eq!(tool.end().status.code(), Some(0));
    }
    assert_eq!(std::fs::read_to_string(dir.path("order")).unwrap(), "0\n1\n2\n3\n");
}

#[test]
fn readers_permits_and_several_locks() {
    let server = Server::new();
    let reader = running(&server, &["-s", "paper"], STAYS);
    assert_eq!(server.run(&["run", "-ns", "paper", "true"]).status.code(), Some(0));
    assert_eq!(server.run(&["run", "-n", "paper", "true"]).status.code(), Some(75));
    drop(reader);

    let _worker = running(&server, &["pool", "--limit", "3", "--permits", "2"], STAYS);
    assert_eq!(server.run(&["run", "-n", "pool", "--limit", "3", "true"]).status.code(), Some(0));
    assert_eq!(
        server.run(&["run", "-n", "pool", "--limit", "3", "--permits", "2", "true"]).status.code(),
        Some(75)
    );

    let both = running(&server, &["red", "-k", "blue", "--lease", "600ms", "--tied", "1s"], STAYS);
    assert!(server.is_held("red") && server.is_held("blue"));
    let waiting = server.start(&["run", "green", "-k", "blue", "true"]);
    until("it waits", || server.waiting("blue") == 1);
    assert!(!server.is_held("green"));
    both.tool.signal(Signal::SIGTERM);
    assert_eq!(both.tool.end().status.code(), Some(143));
    assert_eq!(waiting.end().status.code(), Some(0));
    assert!(!server.is_held("red") && !server.is_held("blue"));
}

#[test]
fn a_job_that_many_start_runs_once() {
    let server = Server::new();
    assert_eq!(server.run(&["run", "-n", "nightly", "--min-hold", "1m", "true"]).status.code(), Some(0));
    let output = server.run(&["run", "-n", "nightly", "--min-hold", "1m", "true"]);
    assert_eq!(output.status.code(), Some(75));
    assert!(text(&output.stderr).contains("min-hold"), "{}", text(&output.stderr));
}

#[test]
fn a_script_takes_renews_and_gives_back() {
    let server = Server::new();
    let output = server.run(&["acquire", "door", "--lease", "1m", "--note", "by a script"]);
    let said = text(&output.stdout);
    let (fence, owner) = said.trim().split_once(' ').unwrap();
    assert!(owner.contains(&format!(":{}:", std::process::id())), "the script's process: {owner}");
    assert_eq!(
        text(&server.run(&["renew", "door", owner, "--lease", "2m", "--fence", fence]).stdout),
        "120000\n"
    );
    assert_eq!(server.run(&["release", "door", owner, "--fence", fence]).status.code(), Some(0));
    assert_eq!(
        server.run(&["release", "door", owner, "--fence", fence]).status.code(),
        Some(0),
        "a repeat is no failure"
    );
    let json = server.run(&["acquire", "door", "-J", "--owner", "bob"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json["keys"][0].as_str(), json["owner"].as_str()), (Some("door"), Some("bob")));
}

#[test]
fn hold_holds_until_a_signal_or_the_loss() {
    use std::io::{BufRead, BufReader};
    let server = Server::new();
    let hold = |lease: &str| {
        let mut tool = server.start(&["hold", "door", "--lease", lease]);
        let mut line = String::new();
        let mut out = BufReader::new(tool.0.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(json["fence"].as_i64().is_some_and(|fence| fence > 0), "{line}");
        (tool, out)
    };
    let (mut tool, _out) = hold("3s");
    until("it is renewed again and again", || {
        assert!(server.is_held("door"));
        server.renewed() >= 5
    });
    tool.signal(Signal::SIGTERM);
    assert_eq!(tool.0.wait().unwrap().code(), Some(0));
    assert!(!server.is_held("door"));

    let (mut tool, mut out) = hold("1h");
    let _: i64 = server.ask("LOCK.BREAK door");
    until("it ends", || tool.0.try_wait().unwrap().is_some());
    assert_eq!(tool.0.wait().unwrap().code(), Some(76));
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("\"lost\":\"broken\""), "{line}");
}
