//! The heads of the commands' pages and the tables of reference beside what the server says and what the source has: syntax,
//! flags, rights, settings, fields, errors, events; and those of docs/design.md beside the files. A row too many, one too few or
//! another number fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::steps::{ask, is_modern};
use crate::support::{skip, Server, Setup, Value};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .expect("read a file of the project")
}

/// The page of each command, by its name.
fn command_pages() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands");
    let entries = std::fs::read_dir(folder).expect("read docs/commands");
    let paths = entries.map(|entry| entry.expect("read docs/commands").path());
    let pages = paths.filter_map(|path| {
        let name = path.file_stem()?.to_string_lossy().to_uppercase();
        name.contains('.').then(|| (name, std::fs::read_to_string(&path).expect("read a page")))
    });
    pages.collect()
}

/// The cells of the first table of `text` whose first column is called `first`.
fn table(text: &str, first: &str) -> Vec<Vec<String>> {
    let head = format!("| {first} |");
    let lines = text.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    // `\|` stands in no cell.
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_syntax_of_each_command_is_that_of_help() {
    let server = Server::start();
    let help: Vec<String> = server.cmd(&["LOCK.HELP"]).items().iter().map(Value::text).collect();
    let mut shown = BTreeSet::new();
    for (name, page) in command_pages() {
        let syntax =
            page.split("```text\n").nth(1).and_then(|rest| rest.lines().next()).expect("a syntax block");
        assert!(help.contains(&syntax.to_owned()), "{name}: {syntax}");
        shown.insert(name);
    }
    let commands = help.iter().step_by(2).filter_map(|line| line.split(' ').next().map(str::to_owned));
    assert_eq!(commands.collect::<BTreeSet<_>>(), shown);
}

/// A test in src/command compares the heads with the specs; this one with what the server has made of those.
#[test]
fn the_head_of_each_page_is_what_the_server_says() {
    let server = Server::start();
    let modern = is_modern(&server);
    if !modern {
        skip("categories in the pages", "modules have none on this server");
    }
    for (name, page) in command_pages() {
        let row = |line: &str, label: &str| {
            line.strip_prefix(&format!("| {label} | "))?.strip_suffix(" |").map(str::to_owned)
        };
        let said = |label: &str| page.lines().find_map(|line| row(line, label)).expect(label);
        let words = |label: &str| quoted(&said(label)).map(str::to_owned).collect::<BTreeSet<_>>();
        let info = server.cmd(&["COMMAND", "INFO", &name]);
        let info = info.items()[0].items();
        let of = |value: &Value| match value {
            Value::Array(items) | Value::Set(items) => items.iter().map(Value::text).collect::<BTreeSet<_>>(),
            other => panic!("{other:?}"),
        };
        assert!(said("Arity").starts_with(&format!("{}: ", info[1].int())), "arity of {name}");
        let mut flags = of(&info[2]);
        flags.retain(|flag| flag != "module");
        assert_eq!(words("Flags"), flags, "flags of {name}");
        assert_eq!(said("Keys") == "none", info[8].items().is_empty(), "keys of {name}");
        if modern {
            assert_eq!(words("ACL categories"), of(&info[6]), "categories of {name}");
        }
        let docs = server.cmd(&["COMMAND", "DOCS", &name]);
        let docs = docs.field(&name.to_lowercase());
        assert_eq!(said("Complexity"), docs.field("complexity").text(), "complexity of {name}");
        assert_eq!(said("Since"), docs.field("since").text(), "{name} since");
    }
}

#[test]
fn settings_are_as_the_table_says() {
    let server = Setup::new().with_defaults().start();
    let all = ask(&server, "CONFIG GET lock.*");
    let mut left: BTreeMap<String, String> =
        all.items().chunks_exact(2).map(|pair| (pair[0].text(), pair[1].text())).collect();
    for row in table(&read("docs/settings.md"), "Setting") {
        let name = quoted(&row[0]).next().expect("a name");
        assert_eq!(left.remove(name).as_deref(), Some(row[1].as_str()), "the default of {name}");
        let set = |value: i64| server.cmd(&["CONFIG", "SET", name, &value.to_string()]);
        let Some((min, max)) = row[2].split_once(" to ") else { continue };
        let [min, max] = [min, max].map(|n| n.parse::<i64>().expect("a number"));
        assert!(set(min) == "OK" && set(max) == "OK", "{name}");
        assert!(
            [min - 1, max + 1].into_iter().all(|n| matches!(set(n), Value::Error(_))),
            "the range of {name}"
        );
    }
    assert!(left.is_empty(), "not in the table: {left:?}");
}

#[test]
fn the_fields_of_info_are_those_of_the_table() {
    let server = Server::start();
    let is = |section: &str| server.info(section).into_keys();
    let fields: BTreeSet<String> = is("lock_state").chain(is("lock_stats")).collect();
    let rows = table(&read("docs/info.md"), "Field");
    let named = rows.iter().flat_map(|row| quoted(&row[0]).map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(named.collect::<BTreeSet<_>>(), fields);
}

/// All sources but their tests.
fn sources(dir: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("read a directory") {
        let path = entry.expect("read a directory").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.contains("test") {
            continue;
        }
        if path.is_dir() {
            sources(&path, out);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).expect("read a source");
            out.push(text.split("#[cfg(test)]").next().unwrap_or_default().to_owned());
        }
    }
}

/// Whether a text is what the source makes of this literal, with anything in place of its `{}`, and `tail` behind it.
fn is_made_by(text: &str, literal: &str) -> bool {
    let mut parts = literal.split('{').map(|part| part.split_once('}').map_or(part, |(_, after)| after));
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    // The last part may stand in the text more than once; what is put together has a colon at the end of its first part.
    rest.is_empty() || literal.ends_with('}') || literal.ends_with(": ")
}

#[test]
fn the_errors_of_the_table_are_those_of_the_source() {
    let rows = table(&read("docs/commands/errors.md"), "Code");
    let code = |row: &[String]| quoted(&row[0]).next().expect("a code").to_owned();
    let told: Vec<String> = rows
        .iter()
        .flat_map(|row| quoted(&row[1]).map(|text| format!("{} {text}", code(row))).collect::<Vec<_>>())
        .collect();
    let codes: BTreeSet<String> = rows.iter().map(|row| code(row)).collect();
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut made = BTreeSet::new();
    for file in files {
        // A backslash at the end of a line joins it with the next one.
        let joined: String = file.split("\\\n").map(str::trim_start).collect();
        let is_error = |text: &&str| {
            text.split_once(' ').is_some_and(|(code, rest)| codes.contains(code) && !rest.is_empty())
        };
        made.extend(joined.split('"').filter(is_error).map(str::to_owned));
    }
    // What the server says, and the module only knows.
    assert!(made.remove("ERR acl verification failed"));
    let makes = |literal: &String| told.iter().any(|text| is_made_by(text, literal));
    let missing: Vec<&String> = made.iter().filter(|literal| !makes(literal)).collect();
    assert!(missing.is_empty(), "not in the table: {missing:#?}");
    let is_made = |text: &String| made.iter().any(|literal| is_made_by(text, literal));
    let invented: Vec<&String> = told.iter().filter(|text| !is_made(text)).collect();
    assert!(invented.is_empty(), "not in the source: {invented:#?}");
}

#[test]
fn the_events_of_the_table_are_those_of_the_source() {
    let source = read("src/host/notify.rs");
    let events = |prefix: &str| -> BTreeSet<String> {
        let texts = source.split('"').skip(1).step_by(2);
        texts.filter(|text| text.starts_with(prefix)).map(str::to_owned).collect()
    };
    let made: BTreeSet<String> = events("lock.").union(&events("latch.")).cloned().collect();
    let rows = table(&read("docs/commands/events.md"), "Event");
    let told: BTreeSet<String> =
        rows.iter().filter_map(|row| quoted(&row[0]).next().map(str::to_owned)).collect();
    assert_eq!(told, made);
}

/// The part of docs/design.md with this title.
fn design(title: &str) -> String {
    let page = read("docs/design.md");
    let part =
        page.split("\n## ").find(|part| part.split('\n').next().is_some_and(|line| line.ends_with(title)));
    part.expect("a part of the design").to_owned()
}

#[test]
fn the_design_names_every_file_of_the_core_and_the_host() {
    let part = design("Code");
    let rows = table(&part, "Where");
    let named: BTreeSet<&str> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    let mut files = BTreeSet::from(["error.rs", "limits.rs"].map(str::to_owned));
    for dir in ["src", "src/primitive", "src/host"] {
        let entries =
            std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).expect("read a directory");
        let names =
            entries.map(|entry| entry.expect("read a directory").file_name().to_string_lossy().into_owned());
        let is_own = |name: &str| dir != "src" && !name.contains("test") && name != "mod";
        files.extend(names.map(|name| name.trim_end_matches(".rs").to_owned()).filter(|name| is_own(name)));
    }
    files.extend(["src/primitive", "src/command", "src/host"].map(str::to_owned));
    assert_eq!(named, files.iter().map(String::as_str).collect::<BTreeSet<_>>());
}

#[test]
fn every_invariant_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let part = design("Invariants");
    for line in part.lines().filter(|line| line.starts_with("| I")) {
        let tests = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        for test in tests.trim().split(", ").filter(|test| !test.is_empty()) {
            let paths = if test.starts_with("src/") {
                [test.to_owned(), format!("{test}.rs")]
            } else {
                [format!("tests/integration/{test}.rs"), format!("tests/cases/{test}.md")]
            };
            assert!(paths.iter().any(|path| root.join(path).exists()), "{line}: none of {paths:?}");
        }
    }
}
