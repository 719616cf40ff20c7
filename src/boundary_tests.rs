//! The layers as a test: nothing but `host` (and the table in `lib.rs`) may know the server, `unsafe` or a clock,
//! and `primitive` may not know `command`, but for its tests. And the words: one thing has one name.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

const FORBIDDEN: [&str; 7] =
    ["redis_module", "unsafe", "SystemTime", "Instant::now", "std::net", "std::thread", "crate::host"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a file, without comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_pure_layers_know_no_server_no_clock_and_nothing_unsafe() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut read = 0;
    for layer in ["primitive", "command"] {
        for file in sources(&src.join(layer)) {
            read += 1;
            let code = code(&file);
            for word in FORBIDDEN {
                assert!(!code.contains(word), "{} says {word}", file.display());
            }
        }
    }
    assert!(read > 20, "only {read} files were found");
}

#[test]
fn the_primitives_do_not_know_the_commands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/primitive");
    for file in sources(&folder) {
        let is_test = file.components().any(|part| part.as_os_str() == "model_tests");
        assert!(is_test || !code(&file).contains("crate::command"), "{} knows commands", file.display());
    }
}

/// The functions of a file, each with what stands before its `fn` in the line and with its signature.
fn signatures(code: &str) -> Vec<(String, String)> {
    let starts = code.match_indices("fn ").map(|(at, _)| at);
    let signature = |at: usize| {
        let mut depth = 0;
        let end = code[at..].find(|c: char| {
            depth += i32::from("([".contains(c)) - i32::from(")]".contains(c));
            c == '{' || (c == ';' && depth == 0)
        });
        let line = code[..at].rfind('\n').map_or(0, |end| end + 1);
        (code[line..at].to_owned(), code[at..at + end.unwrap()].to_owned())
    };
    starts.map(signature).collect()
}

/// A pointer of the server becomes a thing with a lifetime in the function that the server calls, and a pointer again only in
/// `rm!`. Between the two stands `host/api`, which knows of both.
#[test]
fn safe_functions_of_the_host_take_and_give_no_raw_pointers() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/host");
    let mut read = 0;
    for file in sources(&host) {
        if file.starts_with(host.join("api")) || file.ends_with("host/api.rs") {
            continue;
        }
        for (before, signature) in signatures(&code(&file)) {
            read += 1;
            let is_safe = !before.contains("unsafe ");
            let is_raw = ["*mut ", "*const "].iter().any(|pointer| signature.contains(pointer));
            assert!(!(is_safe && is_raw), "{}: {}", file.display(), signature);
        }
    }
    assert!(read > 300, "only {read} functions were found");
}

/// The paths of a `use` tree, written out: `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else { return vec![tree.to_owned()] };
    let (mut depth, mut part, mut parts) = (0, String::new(), Vec::new());
    for c in rest[..rest.rfind('}').unwrap()].chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    parts.push(part);
    let parts = parts.iter().filter(|part| !part.is_empty());
    parts.flat_map(|part| paths(&format!("{before}{part}"))).collect()
}

/// The modules of a layer and those of the same layer that each one uses. A folder is one module with the file of its name.
fn uses(layer: &str) -> BTreeMap<String, BTreeSet<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(layer);
    let files = sources(&folder);
    let module = |file: &Path| {
        let first = file.strip_prefix(&folder).unwrap().iter().next().unwrap().to_str().unwrap();
        first.trim_end_matches(".rs").to_owned()
    };
    let known: BTreeSet<String> = files.iter().map(|file| module(file)).collect();
    // The names that the layer exports under its own name, and where they are from.
    let top = code(&folder.join("mod.rs"));
    let exports = top
        .split(';')
        .filter_map(|item| item.trim().strip_prefix("pub")?.split_once(" use "))
        .flat_map(|(_, tree)| {
            let tree: String = tree.split_whitespace().collect();
            paths(&tree).into_iter().map(|path| {
                let (module, name) = path.split_once("::").unwrap();
                (name.to_owned(), module.to_owned())
            })
        });
    let exports: BTreeMap<String, String> = exports.collect();
    assert_eq!(exports.is_empty(), layer == "host", "{layer} exports {exports:?}");
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| **file != folder.join("mod.rs")) {
        let text = code(file);
        let up = file.strip_prefix(&folder).unwrap().iter().count() - usize::from(file.ends_with("mod.rs"));
        let up = "super::".repeat(up);
        let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let own = module(file);
        let trees = shipped.split("use ").skip(1).map(|tree| -> String {
            // Texts and names have such a word, too, but it is followed by more than a path.
            tree.split(';').next().unwrap().split_whitespace().collect()
        });
        let is_path = |tree: &String| tree.chars().all(|c| c.is_alphanumeric() || "_:,{}*".contains(c));
        let trees = trees.filter(is_path).flat_map(|tree| paths(&tree));
        let inline = shipped.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).map(str::to_owned);
        for path in trees.chain(inline) {
            let path = path.replace(&format!("crate::{layer}::"), &up);
            let Some(name) = path.strip_prefix(&up) else { continue };
            let name = name.split("::").next().unwrap();
            let used = exports.get(name).map_or(name, String::as_str);
            if known.contains(used) && used != own {
                graph.entry(own.clone()).or_default().insert(used.to_owned());
            }
        }
    }
    graph
}

#[test]
fn the_modules_of_a_layer_form_no_circle() {
    for layer in ["primitive", "command", "host"] {
        let mut graph = uses(layer);
        assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 20, "{layer}: nothing was read");
        // Modules that use none of those left are taken out, until there are none.
        loop {
            let left: BTreeSet<String> = graph.keys().cloned().collect();
            graph.values_mut().for_each(|used| used.retain(|module| left.contains(module)));
            let count = graph.len();
            graph.retain(|_, used| !used.is_empty());
            if graph.len() == count {
                break;
            }
        }
        assert!(graph.is_empty(), "{layer}: these modules use each other in a circle: {graph:?}");
    }
}

/// Words that have a better one in the glossary of docs/design.md, section 2, and their better ones.
const BETTER: [(&str, &str); 26] = [
    ("Turn", "Step"),
    ("Turns", "GroupStep"),
    ("Memory", "LockManager"),
    ("Claim", "Permits"),
    ("Ask", "AcquireRequest"),
    ("Left", "WaitEnd"),
    ("End", "HoldEnd"),
    ("Undo", "Rollback"),
    ("To", "Recipient"),
    ("Cooling", "Cooldown"),
    ("Suspect", "Recheck"),
    ("suspect", "recheck"),
    ("Reach", "SlotScope"),
    ("Alarm", "WakeTimer"),
    ("alarm", "timer"),
    ("obey", "apply_change"),
    ("impose", "force"),
    ("overrule", "supersede"),
    ("settle", "expire_and_grant"),
    ("serve", "grant_waiters"),
    ("Unsettled", "WorkList"),
    ("person", "owner_node"),
    ("people", "owners"),
    ("Verb", "Handler"),
    ("Asked", "BlockingCommand"),
    ("made_up", "generated_owner"),
];

#[test]
fn one_thing_has_one_name() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources(&src) {
        if file.ends_with("boundary_tests.rs") {
            continue;
        }
        let code = code(&file).replace("\\\"", "").replace("'\"'", "");
        let outside_texts = code.split('"').step_by(2);
        let words: HashSet<&str> =
            outside_texts.flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_')).collect();
        for (word, better) in BETTER {
            assert!(!words.contains(word), "{} says {word}: the word is {better}", file.display());
        }
    }
}

/// The words of a comment in this line, if it is nothing else.
fn comment(line: &str) -> Option<&str> {
    let words = line.trim_start().strip_prefix("//")?;
    Some(words.trim_start_matches(['/', '!', '-', ' ']))
}

/// A comment names the thing that it is about, so that one need not read the code to know whom or what it means.
#[test]
fn no_line_of_a_comment_begins_with_a_bare_who_or_what() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut read = 0;
    for file in sources(&src) {
        let text = fs::read_to_string(&file).unwrap();
        for (at, line) in text.lines().enumerate() {
            let Some(words) = comment(line) else { continue };
            read += 1;
            let is_bare =
                ["Who ", "What ", "Whoever ", "Whatever "].iter().any(|word| words.starts_with(word));
            assert!(!is_bare || words.ends_with('?'), "{}:{}: {words}", file.display(), at + 1);
        }
    }
    assert!(read > 2_000, "only {read} lines of comments were found");
}
