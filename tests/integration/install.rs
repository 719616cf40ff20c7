//! What a reader does to install the module, done as it stands: the Install block of the documentation, wherever it is,
//! and `redis.conf.example`; and what the documentation says of a server that does not start. Only the root is another
//! one: each absolute path lies below a directory of the test.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::steps::acquire;
use crate::support::Server;
use crate::support::Setup;
use crate::transcripts::documents;

const MODULE: &str = "libredis_lock.so";

/// What the reader has beside a shell. `make build` was run before the tests.
const TOOLS: [(&str, &str); 2] = [
    ("make", "test \"$*\" = build"),
    (
        "sudo",
        "for word; do shift; case $word in /*) word=$ROOT$word;; esac; set -- \"$@\" \"$word\"; done; exec \"$@\"",
    ),
];

/// The fenced blocks of all documents that begin with this tag.
fn blocks(tag: &str) -> Vec<String> {
    let texts = documents().into_iter().map(|path| std::fs::read_to_string(path).expect("read a document"));
    let start = format!("```{tag}");
    let of_one = |text: String| {
        let mut lines = text.lines();
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            if line.trim() == start {
                let body = lines.by_ref().take_while(|line| line.trim() != "```");
                found.push(body.collect::<Vec<_>>().join("\n"));
            }
        }
        found
    };
    texts.flat_map(of_one).collect()
}

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("redis.conf.example");
    std::fs::read_to_string(path).expect("read redis.conf.example")
}

/// A machine on which the Install block was run.
fn installed() -> TempDir {
    let machine = tempfile::Builder::new().prefix("lock-install-").tempdir().expect("a directory");
    let at = |name: &str| machine.path().join(name);
    let built = at("target/release").join(MODULE);
    for dir in ["target/release", "bin", "etc"] {
        std::fs::create_dir_all(at(dir)).expect("make a directory");
    }
    std::fs::copy(std::env::var("MODULE_PATH").expect("MODULE_PATH"), built).expect("copy the module");
    for (name, script) in TOOLS {
        let path = at("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write a tool");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("make it a program");
    }
    let installs: Vec<String> = blocks("sh")
        .into_iter()
        .filter(|block| block.contains("install ") && block.contains(MODULE))
        .collect();
    assert_eq!(installs.len(), 1, "one block says how to install:\n{}", installs.join("\n---\n"));
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").expect("PATH"));
    let mut shell = Command::new("sh");
    shell
        .args(["-euc", &installs[0]])
        .current_dir(machine.path())
        .env("ROOT", machine.path())
        .env("PATH", path);
    let output = shell.output().expect("run a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    machine
}

/// A configuration line as one for this machine.
fn on(machine: &TempDir, line: &str) -> String {
    line.replace("loadmodule /", &format!("loadmodule {}/", machine.path().display()))
}

fn is_load(line: &str) -> bool {
    line.starts_with("loadmodule ")
}

#[test]
fn the_install_block_and_its_line_give_a_server_that_has_locks() {
    let machine = installed();
    let texts: Vec<String> = ["text", "conf", "ini"].into_iter().flat_map(blocks).collect();
    let mut lines: BTreeSet<&str> =
        texts.iter().flat_map(|text| text.lines()).filter(|line| is_load(line)).collect();
    assert!(!lines.is_empty(), "no block of the documentation has a loadmodule line");
    let example = example();
    lines.extend(example.lines().filter(|line| is_load(line)));
    for line in lines {
        let line = on(&machine, line);
        let path = PathBuf::from(line.split(' ').nth(1).expect("a path"));
        let mode = path
            .metadata()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755, "a server of another user reads and runs it");
        acquire(&Setup::plain().conf(&[line]).start(), "k alice");
    }
}

#[test]
fn the_example_is_a_configuration_and_shows_the_defaults() {
    let machine = installed();
    let lines: Vec<String> = example().lines().map(|line| on(&machine, line)).collect();
    let server = Setup::plain().conf(&lines).start();
    acquire(&server, "k alice");
    let settings = |server: &Server| {
        let reply = server.cmd(&["CONFIG", "GET", "lock.*"]);
        let pairs = reply.items().chunks(2).map(|pair| format!("{} {}", pair[0].text(), pair[1].text()));
        pairs.collect::<BTreeSet<_>>()
    };
    let shown: BTreeSet<String> = lines.iter().filter(|line| line.starts_with("lock.")).cloned().collect();
    assert_eq!(shown, settings(&Setup::new().with_defaults().start()), "every setting with its default");
    assert_eq!(settings(&server), shown);
}

#[test]
fn what_is_off_in_the_example_can_be_turned_on() {
    let machine = installed();
    let plain = Setup::plain().start();
    let known = |line: &str| {
        let name = line.split(' ').next().unwrap_or_default();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        is_name && (name == "user" || !plain.cmd(&["CONFIG", "GET", name]).items().is_empty())
    };
    let mut lines: Vec<String> = example().lines().map(|line| on(&machine, line)).collect();
    let off: Vec<String> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| known(line))
        .map(str::to_owned)
        .collect();
    println!("turned on: {off:?}");
    assert!(off.len() >= 8, "{off:?}");
    lines.extend(off.iter().cloned());
    let server = Setup::plain().conf(&lines).start();
    for line in off.iter().filter(|line| !line.starts_with("user ")) {
        let (name, value) = line.split_once(' ').expect("a value");
        let now = server.config(name);
        let flags = |text: &str| text.chars().collect::<BTreeSet<_>>();
        assert!(now == value || flags(&now) == flags(value), "{name} is {now} and not {value}");
    }
    assert_eq!(server.connect().cmd(&["AUTH", "app", "secret"]), "OK");
}

#[test]
fn the_documentation_has_what_a_server_says_that_does_not_start() {
    let documents: Vec<String> =
        documents().iter().map(|path| std::fs::read_to_string(path).expect("read a document")).collect();
    let dir = tempfile::Builder::new().prefix("lock-install-").tempdir().expect("a directory");
    let module = std::env::var("MODULE_PATH").expect("MODULE_PATH");
    let copy = dir.path().join(MODULE);
    std::fs::copy(&module, &copy).expect("copy the module");
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o644)).expect("take the right to run it away");
    let (load, copy) = (format!("loadmodule {module}"), format!("loadmodule {}", copy.display()));
    let cases: [(&[&str], &[&str]); 4] = [
        (&[&copy], &["It does not have execute permissions"]),
        (
            &[&load, "lock.max-waters 5000"],
            &["Module Configuration detected without loadmodule directive or no ApplyConfig call: aborting"],
        ),
        (
            &[&load, "lock.max-waiters -1"],
            &["Issue during loading of configuration lock.max-waiters", "lock: not loaded: the server refused the settings"],
        ),
        (
            &[&format!("{load} lock.max-waiters 5000")],
            &["lock: not loaded: it takes no arguments; settings are lock.* in the configuration file or CONFIG SET"],
        ),
    ];
    for (conf, said) in cases {
        let Err(log) = Setup::plain().conf(conf).try_start() else { panic!("it started with {conf:?}") };
        for said in said {
            assert!(log.contains(said), "{conf:?}: not `{said}`:\n{log}");
            assert!(documents.iter().any(|text| text.contains(said)), "no document has `{said}`");
        }
    }
    // Which setting it is, Redis 7.0 does not say.
    let server = Setup::plain().start();
    let Err(log) = Setup::plain().conf(&[&load[..], "lock.max-waters 5000"]).try_start() else {
        panic!("it started")
    };
    let said = if server.is_valkey() {
        "Unused Module Configuration: lock.max-waters"
    } else if server.version() >= (7, 4, 0) {
        ">>> 'lock.max-waters 5000'"
    } else {
        return;
    };
    assert!(log.contains(said), "not `{said}`:\n{log}");
    assert!(documents.iter().any(|text| text.contains(said)), "no document has `{said}`");
}
