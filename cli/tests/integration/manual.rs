//! docs/cli.md does what it says: each block of `console` is typed into a shell with a server of its own, and each block of
//! `sh` is a script that succeeds. And the examples of flock's manual do what they do there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::screen::Screen;
use crate::support::{script, text, until, Server};
use crate::telling::{exporter, page};

/// A shell with the program in its path.
pub(crate) fn shell(server: &Server) -> Command {
    let tools = Path::new(env!("CARGO_BIN_EXE_redis-lock")).parent().unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.env("PATH", path).env("REDIS_URL", server.url()).env("PORT", server.port.to_string());
    command.current_dir(server.dir());
    command
}

/// The blocks with their language and line.
fn blocks(page: &str) -> Vec<(String, usize, Vec<String>)> {
    let (mut blocks, mut inside) = (Vec::new(), None);
    for (number, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), &mut inside) {
            (Some(language), None) => inside = Some((language.to_owned(), number + 1, Vec::new())),
            (Some(_), Some(_)) => blocks.extend(inside.take()),
            (None, Some((_, _, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    blocks
}

/// Whether a line is as it stands in the page, where `<name>` stands for anything.
fn is_as(expected: &str, line: &str) -> bool {
    let mut rest = line;
    let mut is_open = false;
    for (at, part) in expected.split('<').enumerate() {
        let fixed = match part.split_once('>') {
            Some((name, fixed)) if at > 0 && name.chars().all(|c| c.is_ascii_lowercase() || c == '-') => {
                is_open = true;
                fixed.to_owned()
            }
            _ if at > 0 => format!("<{part}"),
            _ => part.to_owned(),
        };
        match rest.find(&fixed) {
            Some(found) if found == 0 || is_open => rest = &rest[found + fixed.len()..],
            _ => return false,
        }
        is_open = is_open && fixed.is_empty();
    }
    rest.is_empty() || is_open
}

/// Types the commands, and compares what comes.
fn play(server: &Server, line: usize, lines: &[String]) {
    let mut shell = shell(server).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut output) =
        (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()).lines());
    keys.write_all(b"exec 2>&1\n").unwrap();
    let mut lines = lines.iter().peekable();
    while let Some(typed) = lines.next() {
        let mut typed = typed
            .strip_prefix("$ ")
            .unwrap_or_else(|| panic!("line {line}: {typed:?} is no command"))
            .to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with("> ")) {
            typed = format!("{typed}\n{}", &more[2..]);
        }
        // The code of the command stays for the next one to ask.
        writeln!(keys, "{typed}\n__code=$?; echo; echo __end; (exit $__code)").unwrap();
        let mut said: Vec<String> =
            output.by_ref().map_while(Result::ok).take_while(|line| line != "__end").collect();
        assert_eq!(said.pop().as_deref(), Some(""), "line {line}: {typed}");
        let mut expected = Vec::new();
        while let Some(more) = lines.next_if(|line| !line.starts_with("$ ")) {
            expected.push(more.as_str());
        }
        let is_same = said.len() == expected.len()
            && expected.iter().zip(&said).all(|(expected, said)| is_as(expected, said));
        assert!(
            is_same,
            "docs/cli.md, block at line {line}: {typed}\nsays\n{}\nand not\n{}",
            said.join("\n"),
            expected.join("\n")
        );
    }
    drop(keys);
    shell.wait().unwrap();
}

#[test]
fn the_page_does_what_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut played = 0;
    for (language, line, lines) in blocks(&page) {
        let server = Server::new();
        match language.as_str() {
            "console" => play(&server, line, &lines),
            "sh" => {
                let output = shell(&server).args(["-eu", "-c", &lines.join("\n")]).output().unwrap();
                assert!(
                    output.status.success(),
                    "docs/cli.md, block at line {line}: {}",
                    text(&output.stderr)
                );
            }
            "text" => continue,
            other => panic!("docs/cli.md, block at line {line}: nothing plays {other:?}"),
        }
        played += 1;
    }
    assert!(played > 5, "{played} blocks");
    println!("{played} blocks played");
}

/// The rights of a row, of both columns if so many are wanted.
fn rights(cells: &[&str]) -> Vec<String> {
    let codes = cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let words = codes.flat_map(|code| code.split(' ')).filter(|word| word.starts_with(['+', '&']));
    words.map(|word| word.replace('\\', "")).collect()
}

/// What docs/access.md says of each verb: its name, what it needs, and with what it is better.
fn rows() -> Vec<(String, String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/access.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().skip_while(|line| !line.starts_with("| Verb ")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).flat_map(|row| {
        // A bar inside of a right stands behind a backslash.
        let marked = row.replace("\\|", "\\\0");
        let cells: Vec<String> = marked.split('|').map(|cell| cell.trim().replace('\0', "|")).collect();
        let verbs: Vec<String> = cells[1].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        verbs.into_iter().map(move |verb| (verb, cells[2].clone(), cells[3].clone()))
    });
    rows.collect()
}

/// A server with locks and those who wait, and the URL of a user that has these rights alone.
fn with_user(rights: &[String]) -> (Server, String) {
    let server = Server::with(&["--notify-keyspace-events", "Kd"]);
    let _: i64 = server.ask("LOCK.ACQUIRE taken ann");
    let _: redis::Value = server.ask("LOCK.ACQUIRE taken ben QUEUE 60000");
    let _: i64 = server.ask("LOCK.ACQUIRE door carl PX 100");
    let user = format!("ACL SETUSER user on >secret ~* resetchannels -@all {}", rights.join(" "));
    let _: String = server.ask(&user);
    let url = format!("redis://user:secret@127.0.0.1:{}", server.port);
    (server, url)
}

#[test]
fn each_verb_is_content_with_the_rights_of_the_page() {
    let mut asked = 0;
    for (verb, needs, better) in rows() {
        let words: &[&[&str]] = match verb.as_str() {
            "run" => &[&["run", "door", "true"]],
            "acquire" => &[&["acquire", "door"]],
            "-k" => &[&["acquire", "door", "-k", "gate"], &["run", "door", "-k", "gate", "true"]],
            "renew" => &[&["renew", "taken", "ann"]],
            "release" => &[&["release", "taken", "ann"]],
            "ls" => &[&["ls"]],
            "info" => &[&["info", "taken"]],
            "why" => &[&["why", "taken", "ben"]],
            "graph" => &[&["graph"]],
            "break" => &[&["break", "taken", "--yes"]],
            "steal" => &[&["steal", "taken", "--yes"]],
            "cancel" => &[&["cancel", "taken", "ben", "--yes"]],
            "doctor" => &[&["doctor"]],
            // These go on until they are ended: see the next test.
            "hold" | "top" | "watch" | "export" => &[],
            other => panic!("{other}: how is it called?"),
        };
        for words in words {
            for cells in [&[needs.as_str()][..], &[&needs, &better]] {
                let (server, url) = with_user(&rights(cells));
                let output = server.tool(words).env("REDIS_URL", &url).output().unwrap();
                let said = text(&output.stdout) + &text(&output.stderr);
                assert_eq!(output.status.code(), Some(0), "{words:?} with {cells:?}: {said}");
                let is_content = !said.contains("NOPERM") && !said.contains("unknown");
                assert!(is_content, "{words:?} with {cells:?}: {said}");
                asked += 1;
            }
        }
    }
    assert!(asked > 20, "{asked}");
}

#[test]
fn verbs_that_go_on_are_content_with_the_rights_of_the_page() {
    let mut played = 0;
    for (verb, needs, better) in rows() {
        for has_better in [false, true] {
            let cells = if has_better { &[needs.as_str(), &better][..] } else { &[needs.as_str()] };
            let (server, url) = with_user(&rights(cells));
            let is_content = |output: std::process::Output| {
                let said = text(&output.stderr);
                assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{verb} with {cells:?}");
            };
            match verb.as_str() {
                "hold" => {
                    let tool = server.start(&["hold", "gate", "--lease", "3s", "--url", &url]);
                    until("it has renewed it", || server.renewed() >= 1);
                    tool.signal(Signal::SIGTERM);
                    is_content(tool.end());
                    assert!(!server.is_held("gate"));
                }
                "top" => {
                    let words = ["top", "--every", "50ms", "--url", &url];
                    let mut screen = Screen::tool(&server, (20, 110), &words);
                    screen.says("  1. ben for");
                    if has_better {
                        screen.press("b\r");
                        screen.says("taken: 1 hold ended");
                    }
                    assert!(!screen.text().contains("NOPERM"), "with {cells:?}: {}", screen.text());
                    screen.press("q");
                    assert_eq!(screen.end(), 0);
                }
                "watch" => {
                    let mut tool = server.start(&["watch", "--url", &url]);
                    until("it listens", || server.ask::<i64>("PUBSUB NUMPAT") == 1);
                    let _: i64 = server.ask("LOCK.RELEASE taken ann");
                    let mut events =
                        BufReader::new(tool.0.stdout.take().unwrap()).lines().map(Result::unwrap);
                    assert!(events.any(|event| event.contains("\"lock.released\"")), "with {cells:?}");
                }
                "export" => {
                    let (tool, address) = exporter(&server, &["--url", &url]);
                    let page = page(&address);
                    assert!(page.contains("redis_lock_held{"), "with {cells:?}: {page}");
                    assert_eq!(page.contains("redis_lock_wait_seconds_count{"), has_better, "{page}");
                    tool.signal(Signal::SIGTERM);
                    is_content(tool.end());
                }
                _ => continue,
            }
            played += 1;
        }
    }
    assert_eq!(played, 8);
}

#[test]
fn a_page_that_says_something_else_is_caught() {
    for (expected, line, is_same) in [
        ("held by <owner>", "held by vm:1", true),
        ("held by <owner>", "free", false),
        ("<fence> <owner>", "17 vm:1:2", true),
        ("a <n> c", "a b c", true),
        ("a <n> c", "a b d", false),
        ("plain", "plain text", false),
        ("a <B c", "a <B c", true),
    ] {
        assert_eq!(is_as(expected, line), is_same, "{expected:?} {line:?}");
    }
}

#[test]
fn the_examples_of_flock() {
    let server = Server::new();
    let run = |line: &str| {
        let output = shell(&server).args(["-c", line]).output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    // shell1> flock /tmp -c cat; shell2> flock -w .007 /tmp -c echo; /bin/echo $?
    let start = |line: &str| {
        shell(&server).args(["-c", line]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    };
    let mut first = start("exec redis-lock run /tmp -c cat");
    until("the first has it", || server.is_held("/tmp"));
    assert_eq!(
        run("redis-lock run -w .007 /tmp -c echo 2>/dev/null; /bin/echo $?"),
        (Some(0), "75\n".into())
    );
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());

    // shell1> flock -s /tmp -c cat; shell2> flock -s -w .007 /tmp -c echo; /bin/echo $?
    let mut first = start("exec redis-lock run -s /tmp -c cat");
    until("the first has it", || server.is_held("/tmp"));
    assert_eq!(run("redis-lock run -s -w .007 /tmp -c echo; /bin/echo $?"), (Some(0), "\n0\n".into()));
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());

    // shell> flock -x local-lock-file echo 'a b c'
    assert_eq!(run("redis-lock run -x local-lock-file echo 'a b c'"), (Some(0), "a b c\n".into()));

    // (flock -n 9 || exit 1; # ... commands executed under lock ...) 9>/var/lock/mylockfile
    let block = "(held=$(redis-lock acquire -n mylock) || exit 1; echo under lock; redis-lock release mylock \"${held#* }\")";
    assert_eq!(run(block), (Some(0), "under lock\n".into()));
    let _: i64 = server.ask("LOCK.ACQUIRE mylock alice");
    assert_eq!(run(block), (Some(1), String::new()));

    // [ "${FLOCKER}" != "$0" ] && exec env FLOCKER="$0" flock -en "$0" "$0" "$@" || :
    let path = server.path("boilerplate");
    script(
        &path,
        "#!/bin/bash\n[ \"${FLOCKER}\" != \"$0\" ] && exec env FLOCKER=\"$0\" redis-lock run -en \"$0\" \"$0\" \"$@\" || :\necho \"$1\"; read -r _\n",
    );
    let line = format!("exec {} one", path.display());
    let mut first = start(&line);
    until("the first has it", || server.is_held(path.to_str().unwrap()));
    assert_eq!(run(&format!("{} two 2>/dev/null", path.display())), (Some(75), String::new()));
    drop(first.stdin.take());
    first.wait().unwrap();
}
