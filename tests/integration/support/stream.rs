//! What a replica is told, word for word. The test attaches as a replica would, lets the full sync pass and then collects
//! every command that the primary sends on.

use std::io::{BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use super::pattern::{self, Bindings};
use super::resp::{decode, Connection, Value};
use super::Server;

/// A command as its words.
pub(crate) type Words = Vec<String>;

/// A connection that the primary takes for a replica.
pub(crate) struct ReplicaStream {
    conn: Connection,
    show_select: bool,
}

impl ReplicaStream {
    /// Attaches and waits until the full sync is over; only what happens from here on is collected.
    pub(crate) fn attach(primary: &Server) -> ReplicaStream {
        let mut conn = primary.connect();
        conn.send(&["PSYNC", "?", "-1"]);
        let answer = read_line(&mut conn);
        assert!(answer.starts_with("+FULLRESYNC "), "PSYNC: {answer}");
        // Empty lines keep the link alive while the snapshot is made. A replica that does not announce `capa eof` gets it
        // with its length in front.
        let header = loop {
            let line = read_line(&mut conn);
            if !line.is_empty() {
                break line;
            }
        };
        let length = header.strip_prefix('$').and_then(|length| length.parse().ok());
        let length: usize = length.unwrap_or_else(|| panic!("not a snapshot: {header}"));
        conn.raw().read_exact(&mut vec![0; length]).expect("the snapshot ends early");
        ReplicaStream { conn, show_select: false }
    }

    /// Also collects SELECT, for tests that care about the database.
    pub(crate) fn with_select(mut self) -> ReplicaStream {
        self.show_select = true;
        self
    }

    /// Everything sent so far and not collected before. PING and REPLCONF are the link's own and left out.
    pub(crate) fn collect(&mut self, primary: &Server) -> Vec<Words> {
        // PUBLISH travels to replicas and changes no data: what comes before it is what was sent so far.
        static MARKS: AtomicU64 = AtomicU64::new(0);
        let mark = format!("mark-{}", MARKS.fetch_add(1, Ordering::Relaxed));
        primary.cmd(&["PUBLISH", "end-of-stream", &mark]);
        let mut seen = Vec::new();
        loop {
            let words = self.next();
            match words[0].to_ascii_uppercase().as_str() {
                "PUBLISH" if words.get(2) == Some(&mark) => return seen,
                "PING" | "REPLCONF" => {}
                "SELECT" if !self.show_select => {}
                _ => seen.push(words),
            }
        }
    }

    fn next(&mut self) -> Words {
        loop {
            let input = self.conn.raw();
            // An empty line may come between two commands.
            if input.fill_buf().expect("the primary has ended the link").first() == Some(&b'\n') {
                input.consume(1);
                continue;
            }
            return words(&decode(input).expect("the primary has ended the link"));
        }
    }
}

/// The words of a command that was read as a reply.
pub(crate) fn words(command: &Value) -> Words {
    let words: Words = command.items().iter().map(Value::text).collect();
    assert!(!words.is_empty(), "an empty command");
    words
}

/// The one command that states these effects on one lock, each given as the command that it would be alone.
pub(crate) fn step<'a>(effects: &[&[&'a str]]) -> Vec<&'a str> {
    let mut words = vec!["LOCK._STEP", effects[0][1]];
    for effect in effects {
        const COUNTS: [&str; 13] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];
        assert_eq!(effect[1], words[1], "one step is about one lock");
        words.extend([&effect[0]["LOCK._".len()..], COUNTS[effect.len() - 2]]);
        words.extend(&effect[2..]);
    }
    words
}

/// The same commands, with each step taken apart into the effects that it states.
pub(crate) fn apart(commands: &[Words]) -> Vec<Words> {
    let mut apart = Vec::new();
    for words in commands {
        if words[0] != "LOCK._STEP" {
            apart.push(words.clone());
            continue;
        }
        let mut rest = &words[2..];
        while let [name, count, more @ ..] = rest {
            let (effect, after) = more.split_at(count.parse().expect("the number of words"));
            apart.push([&[format!("LOCK._{name}"), words[1].clone()], effect].concat());
            rest = after;
        }
    }
    apart
}

fn read_line(conn: &mut Connection) -> String {
    let mut line = String::new();
    conn.raw().read_line(&mut line).expect("the primary has ended the link");
    line.trim_end().to_owned()
}

/// Compares commands word by word with the expected ones, where placeholders such as `<fence>` and `<ms>` may stand for
/// whole words or parts of them. Returns what the remembered ones stood for.
pub(crate) fn assert_stream(got: &[Words], expected: &[&[&str]]) -> Bindings {
    let mut bindings = Bindings::new();
    let same = got.len() == expected.len()
        && got.iter().zip(expected).all(|(got, expected)| {
            got.len() == expected.len()
                && got
                    .iter()
                    .zip(*expected)
                    .all(|(got, pattern)| pattern::matches(pattern, got, &mut bindings))
        });
    assert!(same, "expected these commands:\n{}\nbut these came:\n{}", listing(expected), listing(got));
    bindings
}

fn listing<C: AsRef<[W]>, W: AsRef<str>>(commands: &[C]) -> String {
    let line = |command: &C| command.as_ref().iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
    commands.iter().map(|command| format!("  {}", line(command))).collect::<Vec<_>>().join("\n")
}
