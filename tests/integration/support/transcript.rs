//! Transcripts of redis-cli in Markdown: finds them, plays them against a server and compares. CONTRIBUTING.md describes
//! the format to authors. Which files are looked at, and with which server, is the test's business.

use std::collections::BTreeMap;

use super::cli::Cli;
use super::onlooker::Onlooker;
use super::pattern::{matches, substitute, Bindings};
use super::wait::{poll, DEADLINE};
use super::Server;

/// The language tag of a block that is a transcript, and that of one that is spoken in RESP3.
const TAG: &str = "redis-cli";
const TAG_RESP3: &str = "redis-cli -3";

/// The expected text of a command that is still waiting.
const WAITS: &str = "...";

/// The line that stands for any lines.
const LINES: &str = "<lines>";

/// A fenced code block with the tag `redis-cli`.
#[derive(Debug, PartialEq)]
pub(crate) struct Transcript {
    /// Where it stands: file and line, for messages.
    pub(crate) place: String,
    is_resp3: bool,
    steps: Vec<Step>,
}

#[derive(Debug, PartialEq)]
struct Step {
    line: usize,
    client: String,
    action: Action,
    expected: Vec<String>,
    /// The lines on which that stands.
    shown_at: Vec<usize>,
}

/// What a transcript shows where something else came.
#[derive(Debug, PartialEq)]
pub(crate) struct Difference {
    /// The lines of the file that show it.
    shown_at: Vec<usize>,
    /// What stands before it on the first of them, such as `name< `.
    before: String,
    came: Vec<String>,
}

/// The text of a file with what came in the place of what it shows.
pub(crate) fn updated(text: &str, differences: &[Difference]) -> String {
    let mut lines = Vec::new();
    for (at, line) in (1..).zip(text.lines()) {
        let new = differences.iter().find(|difference| difference.shown_at.first() == Some(&at));
        if let Some(new) = new {
            lines.push(format!("{}{}", new.before, new.came.join("\n")));
        } else if !differences.iter().any(|difference| difference.shown_at.contains(&at)) {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n") + "\n"
}

#[derive(Debug, PartialEq)]
enum Action {
    /// `A> COMMAND …`
    Type(String),
    /// `A< reply`: the reply to a command that was left waiting.
    Receive,
}

/// All transcripts of one Markdown text, or what is wrong with it.
pub(crate) fn find(file: &str, markdown: &str) -> Result<Vec<Transcript>, String> {
    let mut found = Vec::new();
    let mut lines = markdown.lines().enumerate().map(|(at, line)| (at + 1, line));
    while let Some((start, line)) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let mut body = Vec::new();
        loop {
            let (at, line) = lines.next().ok_or(format!("{file}:{start}: the code block is not closed"))?;
            if line.trim() == "```" {
                break;
            }
            body.push((at, line.get(indent..).unwrap_or("").trim_end()));
        }
        if [TAG, TAG_RESP3].contains(&info.trim()) {
            let (place, is_resp3) = (format!("{file}:{start}"), info.trim() == TAG_RESP3);
            found.push(Transcript { place, is_resp3, steps: parse(file, &body)? });
        } else if let Some((at, _)) = body.iter().find(|(_, line)| typed(line).is_some()) {
            return Err(format!(
                "{file}:{at}: a prompt in a block that is not tagged `{TAG}`, so nobody checks it"
            ));
        }
    }
    Ok(found)
}

fn parse(file: &str, body: &[(usize, &str)]) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for &(line, text) in body.iter().filter(|(_, text)| !text.is_empty()) {
        if let Some((client, command)) = typed(text) {
            let (client, action) = (client.to_owned(), Action::Type(command.to_owned()));
            steps.push(Step { line, client, action, expected: Vec::new(), shown_at: Vec::new() });
        } else if let Some((client, reply)) = received(text) {
            let mut step = Step {
                line,
                client: client.to_owned(),
                action: Action::Receive,
                expected: Vec::new(),
                shown_at: Vec::new(),
            };
            if !reply.is_empty() {
                step.expect(line, reply);
            }
            steps.push(step);
        } else {
            let step = steps.last_mut().ok_or(format!("{file}:{line}: a reply before any command"))?;
            step.expect(line, text);
        }
    }
    match steps.iter().find(|step| step.expected.is_empty()) {
        Some(step) => Err(format!("{file}:{}: no reply is shown", step.line)),
        None if steps.is_empty() => {
            Err(format!("{file}:{}: an empty transcript", body.first().map_or(0, |at| at.0)))
        }
        None => Ok(steps),
    }
}

impl Step {
    fn expect(&mut self, line: usize, text: &str) {
        self.expected.push(text.to_owned());
        self.shown_at.push(line);
    }

    /// The difference from what came, as text and as a change of the file.
    fn differs(&self, came: Vec<String>) -> Problem {
        let is_beside = self.shown_at.first() == Some(&self.line);
        let before = if is_beside { format!("{}< ", self.client) } else { String::new() };
        let text = format!(
            "expected\n    {}\n  but this came\n    {}",
            self.expected.join("\n    "),
            came.join("\n    ")
        );
        Problem { text, difference: Some(Difference { shown_at: self.shown_at.clone(), before, came }) }
    }
}

/// Why a transcript is not true.
struct Problem {
    text: String,
    difference: Option<Difference>,
}

impl<T: Into<String>> From<T> for Problem {
    fn from(text: T) -> Self {
        Self { text: text.into(), difference: None }
    }
}

/// `name> command`, where the name may be missing.
fn typed(line: &str) -> Option<(&str, &str)> {
    line.split_once("> ").filter(|(name, _)| is_name(name))
}

/// `name< reply`, or the name alone when the reply starts on the next line.
fn received(line: &str) -> Option<(&str, &str)> {
    let (name, reply) = line.split_once('<')?;
    let reply = if reply.is_empty() { reply } else { reply.strip_prefix(' ')? };
    (!name.is_empty() && is_name(name)).then_some((name, reply))
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-".contains(&byte))
}

impl Transcript {
    /// Plays it, each name on a redis-cli of its own. Stops at the first difference and returns it as text.
    pub(crate) fn play(&self, server: &Server) -> Result<(), String> {
        self.play_through(server, |problem| Err(problem.text))
    }

    /// Plays it to its end. Returns where something else came than it shows; an error where it cannot go on.
    pub(crate) fn differences(&self, server: &Server) -> Result<Vec<Difference>, String> {
        let mut differences = Vec::new();
        self.play_through(server, |problem| {
            differences.push(problem.difference.ok_or(problem.text)?);
            Ok(())
        })?;
        Ok(differences)
    }

    fn play_through(
        &self,
        server: &Server,
        mut on_problem: impl FnMut(Problem) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut stage = Stage {
            server,
            options: if self.is_resp3 { &["-3"] } else { &[] },
            onlookers: BTreeMap::new(),
            clients: BTreeMap::new(),
            waiting: Vec::new(),
            bindings: Bindings::new(),
        };
        for name in self.steps.iter().map(|step| step.client.as_str()) {
            if let (false, Some(onlooker)) = (stage.onlookers.contains_key(name), Onlooker::of(name, server))
            {
                stage.onlookers.insert(name, onlooker);
            }
        }
        for step in &self.steps {
            let place = |text| format!("{} (line {}): {text}", self.place, step.line);
            stage.act(step).or_else(&mut on_problem).map_err(place)?;
        }
        match stage.waiting.first() {
            Some(client) => Err(format!("{}: `{client}` still waits at the end", self.place)),
            None => Ok(()),
        }
    }
}

/// A transcript while it is played.
struct Stage<'a> {
    server: &'a Server,
    /// Options of each redis-cli.
    options: &'static [&'static str],
    onlookers: BTreeMap<&'a str, Onlooker>,
    clients: BTreeMap<&'a str, Cli>,
    /// Clients whose last command has not been answered.
    waiting: Vec<&'a str>,
    bindings: Bindings,
}

impl<'a> Stage<'a> {
    fn act(&mut self, step: &'a Step) -> Result<(), Problem> {
        let client = step.client.as_str();
        if let Some(onlooker) = self.onlookers.get_mut(client) {
            return compare(step, &onlooker.since_last(self.server)?, &mut self.bindings);
        }
        let (port, options) = (self.server.port(), self.options);
        let place_in_line = self.waiting.iter().position(|waiting| *waiting == client);
        let cli = self.clients.entry(client).or_insert_with(|| Cli::with(port, options));
        match (&step.action, place_in_line) {
            (Action::Type(_), Some(_)) => {
                return Err(format!("`{client}` still waits and cannot type").into())
            }
            (Action::Receive, None) => return Err(format!("`{client}` waits for nothing").into()),
            (Action::Receive, Some(_)) if step.expected == [WAITS] => return self.see_waiting(client),
            (Action::Receive, Some(at)) => {
                self.waiting.remove(at);
            }
            (Action::Type(command), None) => {
                let unknown = |name| format!("nothing was seen yet that <{name}> stands for");
                cli.send(&substitute(command, &self.bindings).map_err(unknown)?);
                if step.expected == [WAITS] {
                    self.waiting.push(client);
                    return self.see_waiting(client);
                }
            }
        }
        compare(step, &cli.answer()?, &mut self.bindings)
    }

    /// Until the server has blocked all who wait; a problem if this client has an answer.
    fn see_waiting(&mut self, client: &str) -> Result<(), Problem> {
        let clients = &mut self.clients;
        let mut has_answered = |name: &str| clients.get_mut(name).is_some_and(Cli::has_answered);
        let seen = poll(DEADLINE, || {
            // Its wait may be just what another one waited for.
            let waiting = self.waiting.iter().filter(|name| !has_answered(name)).count();
            let blocked = self.server.info_int("clients", "blocked_clients");
            (has_answered(client) || blocked == waiting as i64).then_some(())
        });
        match seen.filter(|()| !has_answered(client)) {
            Some(()) => Ok(()),
            None => Err(format!("`{client}` does not wait").into()),
        }
    }
}

/// Compares line by line, empty lines aside. The time that redis-cli prints after a slow command is no part of the reply.
fn compare(step: &Step, got: &[String], bindings: &mut Bindings) -> Result<(), Problem> {
    let got: Vec<String> =
        got.iter().filter(|line| !line.is_empty() && !is_duration(line)).cloned().collect();
    if is_shown(&step.expected, &got, bindings) {
        Ok(())
    } else {
        Err(step.differs(got))
    }
}

/// Whether these lines are what the pattern shows. Bindings made on the way are kept only when they are.
fn is_shown(pattern: &[String], lines: &[String], bindings: &mut Bindings) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return lines.is_empty() };
    if first == LINES {
        return (0..=lines.len()).any(|at| is_shown(rest, &lines[at..], bindings));
    }
    let Some((line, others)) = lines.split_first() else { return false };
    let mut attempt = bindings.clone();
    let is_shown = matches(first, line, &mut attempt) && is_shown(rest, others, &mut attempt);
    if is_shown {
        *bindings = attempt;
    }
    is_shown
}

/// `(1.23s)`
fn is_duration(line: &str) -> bool {
    let seconds = line.strip_prefix('(').and_then(|rest| rest.strip_suffix("s)"));
    seconds.is_some_and(|seconds| seconds.contains('.') && seconds.parse::<f64>().is_ok())
}
