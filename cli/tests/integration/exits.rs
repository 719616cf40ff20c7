//! The table of exit codes: what each verb says of each end.

use std::process::Stdio;

use crate::support::{free_port, text, tool, Server};

#[track_caller]
fn ends(server: &Server, words: &[&str], code: i32, says: &str) {
    let output = server.run(words);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    assert!(said.contains(says), "{words:?}: {said:?}, not {says:?}");
}

/// Longer than a note or an owner may be.
const LONG: &str = match std::str::from_utf8(&[b'x'; 300]) {
    Ok(text) => text,
    Err(_) => "",
};

#[test]
#[expect(clippy::too_many_lines, reason = "one table of ends")]
fn every_end_has_its_code() {
    let server = Server::new();
    let file = server.path("no-program");
    std::fs::write(&file, "").unwrap();
    let _: i64 = server.ask("LOCK.ACQUIRE held alice PX 600000 NOTE x");
    let _: i64 = server.ask("LOCK.ACQUIRE pool alice LIMIT 3");
    let _: String = server.ask("SET text x");
    let _: String = server.ask("ACL SETUSER reader on >secret ~* +@read");
    let _: String = server.ask("ACL SETUSER narrow on >secret ~other* +@all");

    let table: &[(&[&str], i32, &str)] = &[
        (&["run", "door", "true"], 0, ""),
        (&["run", "door", "--", "sh", "-c", "exit 7"], 7, ""),
        (&["run", "door", "-c", "exit 255"], 255, ""),
        (&["run", "door", "-c", "kill -9 $$"], 137, ""),
        (&["run", "door", "-c", "kill -TERM $$"], 143, ""),
        (&["run", "door", "no-such-program"], 127, "cannot run no-such-program"),
        (&["run", "door", file.to_str().unwrap()], 126, "Permission denied"),
        (&["run", "door"], 64, "required"),
        (&["run", "door", "--lease", "0", "true"], 64, "1ms or more"),
        (&["run", "door", "--lease", "soon", "true"], 64, "30s"),
        (&["run", "door", "--bogus", "true"], 64, "--bogus"),
        (&["bogus"], 64, "bogus"),
        (&["run", "door", "--permits", "2", "true"], 64, "--limit"),
        (&["run", "door", "--lease", "10000d", "true"], 64, "--lease must be 7 d at most (BADARG PX"),
        (&["hold", "door", "--tied", "10000d"], 64, "--tied must be 7 d at most (BADARG TIED"),
        (
            &["run", "door", "--lease", "1000000000000000000000d", "true"],
            64,
            "'--lease <TIME>': that is too long",
        ),
        (&["acquire", "door", "--note", LONG], 64, "redis-lock: --note: BADARG the note must have"),
        (&["acquire", "door", "--owner", LONG], 64, "redis-lock: --owner: BADARG the owner must have"),
        (&["run", "-n", "pool", "--limit", "3", "--permits", "4", "true"], 64, "--permits: BADARG PERMITS"),
        (&["break", "door", "--yes", "--reason", LONG], 64, "--reason: BADARG the note must have"),
        (&["steal", "door", "--yes", "--reason", LONG], 64, "--reason: BADARG the note must have"),
        (&["steal", "door", "--yes", "--lease", "10000d"], 64, "--lease must be"),
        (&["renew", "held", "alice", "--lease", "10000d"], 64, "--lease must be"),
        (&["export", "--listen", "here"], 64, "write it like 127.0.0.1:9122"),
        (&["export", "--listen", ":9122"], 64, "write it like 127.0.0.1:9122"),
        (&["ls", "--cacert", file.to_str().unwrap()], 64, "holds no certificate in PEM form"),
        (&["ls", "--cacert", "/no-such-file"], 71, "cannot read /no-such-file"),
        (&["run", "-n", "pool", "--limit", "4", "true"], 64, "LOCKLIMIT"),
        (&["run", "-n", "pool", "true"], 64, "LOCKMODE"),
        (&["run", "-n", "pool", "--limit", "3", "true"], 0, ""),
        (&["run", "-n", "held", "true"], 75, "held is held by alice"),
        (&["run", "-w", ".05", "held", "true"], 75, "held was not free in time"),
        (&["run", "-w", "0", "held", "true"], 75, ""),
        (&["run", "-n", "-E", "3", "held", "true"], 3, ""),
        (&["run", "-n", "text", "true"], 75, "WRONGTYPE"),
        (
            &["run", "-w", "300ms", "text", "true"],
            75,
            "text was not free in time: it holds a value that is not a lock",
        ),
        (&["info", "text"], 64, "WRONGTYPE the key holds a value that is not a lock; use another key"),
        (&["why", "text", "bob"], 64, "WRONGTYPE"),
        (&["renew", "text", "alice"], 64, "WRONGTYPE"),
        (&["release", "text", "alice"], 64, "WRONGTYPE"),
        (&["break", "text", "--yes"], 64, "WRONGTYPE"),
        (&["steal", "text", "--yes"], 64, "WRONGTYPE"),
        (&["cancel", "text", "bob", "--yes"], 64, "WRONGTYPE"),
        (&["run", "-n", "-k", "held", "door", "true"], 75, ""),
        (&["run", "--max-hold", "200ms", "door", "sleep", "60"], 76, "max-hold"),
        (&["acquire", "-n", "held"], 75, ""),
        (&["hold", "-n", "held"], 75, ""),
        (&["renew", "door", "bob"], 76, "not-held"),
        (&["release", "door", "bob"], 76, "not-held"),
        (&["release", "held", "alice", "--fence", "1"], 76, "other-fence"),
        (&["renew", "held", "alice"], 0, "600000"),
        (&["release", "held", "alice"], 0, ""),
        (&["release", "held", "alice"], 76, "not-held"),
        (&["--help"], 0, "Exit codes"),
        (&["--version"], 0, "redis-lock"),
        (&["completions", "zsh"], 0, "#compdef redis-lock"),
        (&["completions", "tcsh"], 64, "tcsh"),
    ];
    for (words, code, says) in table {
        ends(&server, words, *code, says);
    }
    // What stands in a variable does not look as if it had to be typed.
    let said = text(&server.run(&["renew", "door"]).stderr);
    assert!(said.contains("Usage: redis-lock renew <KEY> <OWNER>"), "{said}");

    let at = |user: &str| format!("redis://{user}127.0.0.1:{}", server.port);
    let bare = Server::bare(&["--save", ""]);
    let locked = Server::new();
    let _: String = locked.ask("CONFIG SET requirepass secret");
    let nowhere = format!("redis://127.0.0.1:{}", free_port());
    let urls: &[(String, i32, &str)] = &[
        (at("reader:secret@"), 77, "NOPERM"),
        (at("narrow:secret@"), 77, "NOPERM"),
        (at("reader:wrong@"), 77, ""),
        (bare.url(), 69, "has not loaded the redis-lock module"),
        (nowhere.clone(), 69, nowhere.trim_start_matches("redis://")),
        (
            nowhere.replace("redis://", "redis+sentinel://") + "/main",
            69,
            "no Sentinel answers: Connection refused",
        ),
        (server.url().replace("redis://", "redis+sentinel://") + "/main", 69, "is no Sentinel"),
        (locked.url(), 77, "the server wants a password, and the URL has none"),
        (server.url().replace("redis:", "rediss:"), 69, "rediss:// needs a port that speaks TLS"),
        (String::new(), 64, "it is empty; unset REDIS_URL"),
        ("http://localhost".into(), 64, "begins with http://"),
        ("redis://u:pa#ss@localhost".into(), 64, "%23"),
        ("redis://u:pa/ss@localhost".into(), 64, "%2F"),
        ("redis://localhost/x".into(), 64, "the number of a database"),
        ("redis://localhost:99999".into(), 64, "host:port"),
        ("redis+sentinel://127.0.0.1".into(), 64, "name of the primary"),
        ("localhost".into(), 64, "redis://"),
        ("redis+magic://localhost".into(), 64, "sentinel or cluster"),
    ];
    for (url, code, says) in urls {
        ends(&server, &["run", "-n", "door", "--url", url, "true"], *code, says);
    }
    let _: i64 = server.ask("LOCK.RELEASE pool alice");
    assert!(!server.is_held("door") && !server.is_held("pool"), "nothing is left behind");
}

/// A disk without room.
fn full() -> Stdio {
    std::fs::File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_lock_whose_fence_cannot_be_written_is_given_back() {
    let server = Server::new();
    let verbs: &[&[&str]] = &[
        &["acquire", "door"],
        &["acquire", "door", "-J"],
        &["acquire", "door", "-k", "gate"],
        &["hold", "door"],
        &["steal", "door", "--yes"],
    ];
    for words in verbs {
        for to in [full as fn() -> Stdio, closed] {
            let output = server.tool(words).stdout(to()).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(71), "{words:?}: {said}");
            assert!(
                said.contains("cannot write the output: ") && said.contains("; the lock is given back"),
                "{said}"
            );
            assert!(!server.is_held("door") && !server.is_held("gate"), "{words:?}");
        }
    }
}

#[test]
fn what_cannot_be_written_is_told() {
    let server = Server::new();
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    for words in [&["ls"][..], &["info", "door"], &["why", "door", "bob"], &["graph"], &["doctor", "--all"]] {
        let output = server.tool(words).stdout(full()).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(71), "{words:?}: {said}");
        assert!(said.contains("cannot write the output: No space left"), "{words:?}: {said}");
        // Whoever has closed the pipe wants no more.
        let output = server.tool(words).stdout(closed()).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(141), String::new()), "{words:?}");
    }
    for words in [&["--help"][..], &["--version"], &["completions", "bash"]] {
        assert_eq!(server.tool(words).stdout(full()).output().unwrap().status.code(), Some(71), "{words:?}");
    }
}

#[test]
fn a_name_must_not_be_empty() {
    let server = Server::new();
    let verbs: &[&[&str]] = &[
        &["run", "", "true"],
        &["run", "door", "-k", "", "true"],
        &["run", "--owner", "", "door", "true"],
        &["acquire", ""],
        &["hold", ""],
        &["renew", "", "alice"],
        &["renew", "door", ""],
        &["release", "", "alice"],
        &["info", ""],
        &["why", "", "bob"],
        &["break", "", "--yes"],
        &["steal", "", "--yes"],
        &["cancel", "", "bob", "--yes"],
        &["ls", "--owner", ""],
    ];
    for words in verbs {
        ends(&server, words, 64, "a name must not be empty");
    }
    assert_eq!(text(&server.run(&["ls", "-J"]).stdout), "[]\n");
}

#[test]
fn a_name_is_any_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let server = Server::new();
    let (door, gate, ann) =
        (OsStr::from_bytes(b"do\xffor"), OsStr::from_bytes(b"{do\xff}"), OsStr::from_bytes(b"a\\\xfe\n"));
    let run = |verb: &str, words: &[&OsStr]| {
        let output = server.tool(&[verb]).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{verb}: {}", text(&output.stderr));
        output.stdout
    };
    let said = run("acquire", &[door, "--owner".as_ref(), ann, "--note".as_ref(), gate]);
    assert!(said.ends_with(b" a\\\xfe\n\n"), "a script has the owner as it is: {}", text(&said));
    assert!(text(&run("ls", &[])).contains(r"do\xffor"));
    run("renew", &[door, ann]);
    run("release", &[door, ann]);
    let output = server.tool(&["release"]).args([door, ann]).output().unwrap();
    assert_eq!(text(&output.stderr), "redis-lock: do\\xffor is not held by a\\\\\\xfe\\n: not-held\n");
    let said = run(
        "run",
        &[
            door,
            "-k".as_ref(),
            gate,
            "--owner".as_ref(),
            ann,
            "-c".as_ref(),
            "printf %s \"$LOCK_KEY $LOCK_OWNER\"".as_ref(),
        ],
    );
    assert_eq!(said, b"do\xffor a\\\xfe\n");
    let tool = crate::support::Tool(server.tool(&["hold"]).arg(door).spawn().unwrap());
    crate::support::until("it is held", || text(&server.run(&["ls"]).stdout).contains("exclusive"));
    tool.signal(nix::sys::signal::Signal::SIGTERM);
    let output = tool.end();
    assert!(text(&output.stdout).contains(r#""keys":["do\\xffor"]"#), "{}", text(&output.stdout));
}

#[test]
fn nothing_of_a_refused_url_is_shown() {
    let output = tool().args(["run", "door", "--url", "redis://alice:secret@[", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(!text(&output.stderr).contains("secret"), "{}", text(&output.stderr));
}

#[test]
fn bash_completes_verbs_and_their_words() {
    let script = text(&tool().args(["completions", "bash"]).output().unwrap().stdout);
    let complete = |words: &str| {
        let (last, before) = (words.rsplit(' ').next().unwrap(), words.rsplit(' ').nth(1).unwrap());
        let ask = format!(
            "COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _redis__lock redis-lock '{last}' '{before}'; echo ${{COMPREPLY[@]}}"
        );
        let output =
            std::process::Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output().unwrap();
        text(&output.stdout).trim().to_owned()
    };
    assert_eq!(complete("redis-lock rel"), "release");
    assert_eq!(complete("redis-lock run --ti"), "--timeout --tied");
}

#[test]
fn each_verb_has_its_man_page() {
    let dir = crate::support::Dir::new();
    let at = dir.path("man");
    assert!(tool().arg("man").arg(&at).status().unwrap().success());
    let help = text(&tool().arg("--help").output().unwrap().stdout);
    let verbs =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for verb in verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help") {
        let page = std::fs::read_to_string(at.join(format!("redis-lock-{verb}.1")));
        assert!(page.is_ok_and(|page| page.contains(".SH NAME") || page.contains(".SH \"NAME\"")), "{verb}");
    }
    let page = std::fs::read_to_string(at.join("redis-lock.1")).unwrap();
    assert!(page.contains("Exit codes"), "{page}");
}
