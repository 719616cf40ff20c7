//! A server that runs under callgrind: which instructions it executes between two moments, by the file they lie in.
//! Counts repeat to within a percent on any machine, busy or not, so they show what a clock cannot.

use crate::server::{Launch, Server};
use anyhow::{ensure, Context, Result};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const PROGRAM: &str = "valgrind";
const CONTROL: &str = "callgrind_control";

/// The server's own timers. Valkey looks at its clients in one apart from the cron.
const TIMERS: [&str; 2] = ["serverCron", "clientsTimeProc"];

/// The instructions that were executed.
#[derive(Default)]
pub(crate) struct Counts {
    /// Instructions in each program file and library, by its path.
    objects: HashMap<String, u64>,
    /// Instructions that come of each source file, inlined or not, by its path.
    sources: HashMap<String, u64>,
    /// How often each function was called, and the instructions that it executed together with all that it called.
    calls: HashMap<String, (u64, u64)>,
    /// The functions that are named.
    functions: HashSet<String>,
}

pub(crate) struct Counted {
    server: Server,
    dumps: usize,
}

/// Whether this machine has the tools.
pub(crate) fn is_there() -> bool {
    let runs = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    runs(PROGRAM) && runs(CONTROL)
}

impl Counted {
    pub(crate) fn start(launch: &Launch) -> Result<Self> {
        let under = [PROGRAM, "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=callgrind.out"];
        Ok(Self { server: launch.under(&under).start()?, dumps: 0 })
    }

    /// A server whose profile is cut whenever it enters this function, on the thread that serves the clients.
    pub(crate) fn start_by_turns(launch: &Launch, function: &str) -> Result<Self> {
        let cut = format!("--dump-before={function}");
        let under = [
            PROGRAM,
            "--tool=callgrind",
            "--instr-atstart=no",
            "--callgrind-out-file=callgrind.out",
            "--separate-threads=yes",
            &cut,
        ];
        Ok(Self { server: launch.under(&under).start()?, dumps: 0 })
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The instructions that are executed while `work` runs.
    pub(crate) fn count(&mut self, work: impl FnOnce() -> Result<()>) -> Result<Counts> {
        self.instrument(work)?;
        self.dumps += 1;
        let path: PathBuf = self.server.dir().join(format!("callgrind.out.{}", self.dumps));
        let profile = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Counts::parse(&profile))
    }

    /// The same for a server that was started by turns: what is executed in each of them.
    pub(crate) fn turns(&mut self, work: impl FnOnce() -> Result<()>) -> Result<Vec<Counts>> {
        self.instrument(work)?;
        let mut turns = Vec::new();
        while let Ok(profile) =
            fs::read_to_string(self.server.dir().join(format!("callgrind.out.{}-01", self.dumps + 1)))
        {
            self.dumps += 1;
            turns.push(Counts::parse(&profile));
        }
        Ok(turns)
    }

    /// Cuts the profile after `work`, and counts from zero then.
    fn instrument(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.control("--instr=on")?;
        work()?;
        self.control("--instr=off")?;
        self.control("--dump")
    }

    fn control(&self, what: &str) -> Result<()> {
        let pid = self.server.pid().to_string();
        let done =
            Command::new(CONTROL).args([what, &pid]).stdout(Stdio::null()).stdin(Stdio::null()).status()?;
        ensure!(done.success(), "{CONTROL} {what} failed");
        Ok(())
    }
}

impl Counts {
    /// Adds up the instructions of a profile by object file and by callee (valgrind manual, "Callgrind Format
    /// Specification").
    fn parse(profile: &str) -> Self {
        let (mut objects, mut functions, mut files) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut counts = Self::default();
        let mut object = String::new();
        let mut source = String::new();
        let mut callee = String::new();
        let mut calls = None;
        for line in profile.lines() {
            if let Some((_, name)) = function(line) {
                counts.functions.insert(name.to_owned());
            }
            if let Some(name) = line.strip_prefix("ob=") {
                object = full_name(&mut objects, name);
            } else if let Some(name) = line.strip_prefix("cob=") {
                full_name(&mut objects, name);
            } else if let Some(name) = ["fl=", "fi=", "fe="].iter().find_map(|part| line.strip_prefix(part)) {
                source = full_name(&mut files, name);
            } else if let Some(name) = ["cfi=", "cfl="].iter().find_map(|part| line.strip_prefix(part)) {
                full_name(&mut files, name);
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = full_name(&mut functions, name);
            } else if let Some(name) = line.strip_prefix("fn=") {
                full_name(&mut functions, name);
            } else if let Some(many) = line.strip_prefix("calls=") {
                calls = many.split_ascii_whitespace().next().and_then(|many| many.parse::<u64>().ok());
            } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
                let cost =
                    line.split_ascii_whitespace().nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
                // After a call stands what the callee spent, which is told with the callee as well.
                if let Some(many) = calls.take() {
                    let of = counts.calls.entry(callee.clone()).or_default();
                    *of = (of.0 + many, of.1 + cost);
                } else {
                    *counts.objects.entry(object.clone()).or_default() += cost;
                    *counts.sources.entry(source.clone()).or_default() += cost;
                }
            }
        }
        counts
    }

    /// Whether this function was called.
    pub(crate) fn has(&self, function: &str) -> bool {
        self.functions.contains(function)
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.objects.values().sum()
    }

    /// All but what the server's timers did, which come when they will. A look at a thousand clients on a slow machine is
    /// as much as a hand-off.
    pub(crate) fn less_cron(&self) -> u64 {
        self.total() - TIMERS.iter().map(|timer| self.of(timer).1).sum::<u64>()
    }

    /// How often a function was called, and what it executed together with all that it called.
    pub(crate) fn of(&self, function: &str) -> (u64, u64) {
        self.calls.get(function).copied().unwrap_or_default()
    }

    /// Those in files whose path ends like this.
    pub(crate) fn within(&self, file: &str) -> u64 {
        self.objects.iter().filter(|(name, _)| name.ends_with(file)).map(|(_, count)| count).sum()
    }

    /// Those that come of source files whose path ends like one of these.
    pub(crate) fn of_sources(&self, files: &[&str]) -> u64 {
        let wanted = |name: &str| files.iter().any(|file| name.ends_with(file));
        self.sources.iter().filter(|(name, _)| wanted(name)).map(|(_, count)| count).sum()
    }
}

/// The number and the name of a function, where its name is written out.
fn function(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn="))?.split_once(' ')
}

/// A name is written out once, after a number in brackets, and told by the number alone from then on.
fn full_name(names: &mut HashMap<String, String>, text: &str) -> String {
    match text.split_once(' ') {
        Some((number, name)) => {
            names.insert(number.to_owned(), name.to_owned());
            name.to_owned()
        }
        None => names.get(text).cloned().unwrap_or_else(|| text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callee_counts_once_and_where_it_lies() {
        let profile = "events: Ir\nob=(1) /bin/server\nfl=(1) main.c\nfn=(1) main\n5 100\n\
            fi=(2) in.h\n+2 10\ncob=(2) /lib/lock.so\ncfn=(2) f\ncalls=3 7\n\
            7 900\n\nob=(2)\nfl=(3) f.c\nfn=(2)\n7 890\n* 10\n";
        let counts = Counts::parse(profile);
        assert_eq!((counts.of("f"), counts.of("main")), ((3, 900), (0, 0)));
        assert_eq!((counts.total(), counts.within("/lock.so")), (1_010, 900));
        assert_eq!((counts.of_sources(&["n.h"]), counts.of_sources(&["main.c", "f.c"])), (10, 1_000));
        assert!(counts.has("main") && counts.has("f") && !counts.has("g"));
    }

    #[test]
    fn timers_are_not_counted() {
        let profile = "events: Ir\nob=(1) server\nfl=(1) ae.c\nfn=(1) aeMain\n1 100\n\
            cfn=(2) serverCron\ncalls=1 1\n2 30\ncfn=(3) clientsTimeProc\ncalls=1 1\n3 500\n\n\
            fn=(2)\n4 30\n\nfn=(3)\n5 500\n";
        let counts = Counts::parse(profile);
        assert_eq!((counts.total(), counts.less_cron()), (630, 100));
    }
}
