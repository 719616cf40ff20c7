//! What clients and replicas are told, as text: the files of tests/cases. `UPDATE_CASES=1` writes what came in the place of
//! what they show, to be read as a change before it is committed.

use std::path::{Path, PathBuf};

use crate::support::transcript::{find, updated};
use crate::support::Server;

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name)
}

/// Plays each block of a file on a server of its own.
fn play(name: &str) {
    let path = path_of(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let cases = find(name, &text).unwrap();
    assert!(!cases.is_empty(), "{name} has no case");
    if std::env::var_os("UPDATE_CASES").is_some() {
        let differences = cases.iter().flat_map(|case| case.differences(&Server::start()).unwrap());
        std::fs::write(path, updated(&text, &differences.collect::<Vec<_>>())).unwrap();
        return;
    }
    let problems: Vec<String> = cases.iter().filter_map(|case| case.play(&Server::start()).err()).collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// A test of its own for each file.
macro_rules! cases {
    ($($name:ident),*) => {
        const NAMES: &[&str] = &[$(concat!(stringify!($name), ".md")),*];
        $(
            #[test]
            fn $name() {
                play(concat!(stringify!($name), ".md"));
            }
        )*
    };
}

cases!(
    acquire,
    blocking,
    check,
    convert,
    events,
    group,
    latch,
    modes,
    operate,
    queue,
    reentrant,
    release,
    renew,
    replication,
    set_limit,
    transactions
);

#[test]
fn each_file_is_played() {
    let files = std::fs::read_dir(path_of("")).unwrap().map(|file| file.unwrap().file_name());
    let mut files: Vec<_> = files.filter(|file| *file != "README.md").collect();
    files.sort();
    assert_eq!(files, NAMES);
}

#[test]
fn an_update_changes_what_differs_and_nothing_else() {
    let text = "Text.\n\n```redis-cli\n> SET k v\nOK\n> GET k\n\"w\"\n> RPUSH l a\n(integer) <n>\nstream< SET k w\n\
                > LRANGE l 0 -1\n(empty array)\nA> BLPOP m 0\n...\n> RPUSH m x\n(integer) 1\nA<\n1) \"m\"\n2) \"y\"\n```\n";
    let case = &find("made-up.md", text).unwrap()[0];
    let differences = case.differences(&Server::start()).unwrap();
    assert_eq!(
        updated(text, &differences),
        "Text.\n\n```redis-cli\n> SET k v\nOK\n> GET k\n\"v\"\n> RPUSH l a\n(integer) <n>\nstream< SET k v\nRPUSH l a\n\
         > LRANGE l 0 -1\n1) \"a\"\nA> BLPOP m 0\n...\n> RPUSH m x\n(integer) 1\nA<\n1) \"m\"\n2) \"x\"\n```\n"
    );
}
