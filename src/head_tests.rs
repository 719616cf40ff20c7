//! The head of each page in docs/commands is what the command's spec says, so that page, LOCK.HELP and COMMAND DOCS agree.
//! `UPDATE_HEADS=1` writes the heads anew; a page that is not there yet begins with one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::spec::{Key, Spec};
use crate::host::verbs::PUBLIC;

/// Ends the head. Text that a person writes stands below it.
const END: &str =
    "<!-- The head ends here. It is made from the command's spec: see CONTRIBUTING.md, Heads of commands. -->\n";

/// Flags that the server calls otherwise than the module API does.
const SERVER_FLAGS: [(&str, &str); 4] = [
    ("deny-oom", "denyoom"),
    ("getkeys-api", "movablekeys"),
    ("allow-loading", "loading"),
    ("allow-stale", "stale"),
];

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn head(spec: &Spec) -> String {
    let syntax = spec.syntax();
    let name = syntax.split(' ').next().unwrap();
    let flag = |word| SERVER_FLAGS.iter().find(|(ours, _)| *ours == word).map_or(word, |(_, server)| *server);
    let flags: Vec<_> = spec.flags.split(' ').map(|word| format!("`{}`", flag(word))).collect();
    let categories: Vec<_> = spec.acl.split(' ').chain(["lock"]).map(|word| format!("`@{word}`")).collect();
    let rows = [
        ("Arity", arity(spec.arity)),
        ("Keys", keys(spec.key)),
        ("Flags", flags.join(", ")),
        ("ACL categories", categories.join(", ")),
        ("Complexity", spec.complexity.to_owned()),
        ("Since", spec.since.to_owned()),
    ];
    let rows: Vec<_> = rows.iter().map(|(label, text)| format!("| {label} | {text} |\n")).collect();
    format!("# {name}\n\n```text\n{syntax}\n```\n\n| | |\n|---|---|\n{}\n{END}", rows.concat())
}

fn arity(arity: i32) -> String {
    let words = match arity.abs() - 1 {
        0 if arity < 0 => "any words".to_owned(),
        0 => "no word".to_owned(),
        1 => "1 word".to_owned(),
        n => format!("{n} words"),
    };
    let at_least = if arity < -1 { "at least " } else { "" };
    format!("{arity}: {at_least}{words} behind the name")
}

fn keys(key: Key) -> String {
    match key {
        Key::None => "none".to_owned(),
        Key::Read => "word 1, only read".to_owned(),
        Key::Write => "word 1, changed".to_owned(),
        Key::ReadAndMore => "word 1, only read; the command can tell of more".to_owned(),
        Key::Numbered { at } => format!("as many as word {at} says, right behind it; changed"),
    }
}

#[test]
fn the_head_of_each_page_is_what_the_spec_says() {
    let update = std::env::var_os("UPDATE_HEADS").is_some();
    let mut wrong = Vec::new();
    for spec in PUBLIC {
        let path = docs().join(format!("commands/{}.md", spec.name));
        let page = fs::read_to_string(&path).unwrap_or_default();
        let body = page.split_once(END).map_or_else(|| format!("\n{page}"), |(_, body)| body.to_owned());
        let made = head(spec) + &body;
        if made != page && update {
            fs::write(path, made).unwrap();
        } else if made != page {
            wrong.push(spec.name);
        }
    }
    assert!(wrong.is_empty(), "UPDATE_HEADS=1 cargo test head_of_each mends the pages of {wrong:?}");
}

#[test]
fn each_command_has_a_page_and_a_row_in_the_order_of_help() {
    let commands: Vec<&str> = PUBLIC.iter().map(|spec| spec.name).collect();
    let index = fs::read_to_string(docs().join("commands.md")).unwrap();
    let link = |line: &str| line.strip_prefix("| [L")?.split(['(', ')']).nth(1).map(str::to_owned);
    let rows: Vec<_> = index.lines().filter(|line| line.contains('.')).filter_map(link).collect();
    let links: Vec<_> = commands.iter().map(|name| format!("commands/{name}.md")).collect();
    assert_eq!(rows[..links.len()], links);
    let files = fs::read_dir(docs().join("commands")).unwrap();
    let names = files.map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    let pages: BTreeSet<String> = names.filter(|name| name.contains('.')).collect();
    assert_eq!(pages, commands.iter().map(|name| (*name).to_owned()).collect());
}
