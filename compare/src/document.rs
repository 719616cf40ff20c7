//! The document: three tables, what they stand on, and what was not measured.

use crate::aims;
use crate::clients;
use crate::fast::{Names, Work};
use crate::growth::{Growth, SIZES};
use crate::log::Sample;
use crate::peers::Peer;
use crate::plot::CHARTS;
use crate::right::Seen;
use crate::series::{Fast, Outcome, Plan, Right, Series, BATCH};
use crate::servers::{Kind, Servers, KINDS};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Above this load the rates are not those of an idle machine.
const BUSY: f64 = 1.0;
/// Fewer rounds than these have no median to speak of.
const FIRM_ROUNDS: usize = 3;

pub struct Document<'a> {
    pub quick: bool,
    /// Whether the plots lie beside the document.
    pub plots: bool,
    pub plan: &'a Plan,
    pub servers: &'a Servers,
    pub right: &'a Right,
    pub fast: &'a Fast,
    /// What else ran on the machine when the run began.
    pub load: f64,
    /// The table of features.
    pub features: &'a str,
}

impl Document<'_> {
    pub fn text(&self, took: Duration) -> Result<String> {
        let mut out = String::new();
        self.head(&mut out, took)?;
        self.right(&mut out)?;
        self.fast(&mut out)?;
        let features = self.features;
        writeln!(out, "## What for?\n\nEach of ours leads to the test that proves it.\n\n{features}")?;
        self.ground(&mut out)?;
        Ok(out)
    }

    fn head(&self, out: &mut String, took: Duration) -> Result<()> {
        let date = run("date", &["-u", "+%Y-%m-%d"])?;
        writeln!(out, "# Side by side\n")?;
        writeln!(
            out,
            "This module beside the locks that people use today: the same work, on real servers. `make compare` wrote\n\
             this page on {date}; `make compare QUICK=1` prints the same tables from short runs.{}\n",
            if self.quick { " These are short runs." } else { "" }
        )?;
        write!(out, "The run took {} minutes.", took.as_secs().div_ceil(60))?;
        if self.load > BUSY {
            write!(
                out,
                " **The machine was busy with other work** (load {} on {} CPUs when it began): read the counts and\n\
                 the ratios, not the rates, and take the ratios as a first look.",
                number(self.load),
                cpus()?
            )?;
        }
        writeln!(out, "\n")?;
        Ok(())
    }

    fn right(&self, out: &mut String) -> Result<()> {
        writeln!(out, "## Right?\n")?;
        writeln!(
            out,
            "Five clients, each a process of its own, add 1 to a number in another server: take the lock, read, write,\n\
             release. Leases and sessions are one second (etcd's least is two), and whoever polls does so every 5 ms,\n\
             the clients written here with a jitter of half of it. \"Plain\" ends after {} acquisitions or {} s.\n\
             \"Killed\": in each of {} rounds of about 60 acquisitions a holder gets SIGKILL. \"Paused\": it gets SIGSTOP\n\
             between its read and its write, for 3.5 s. A lock that numbers its grants shows the number to the store\n\
             with each read and write, and the store refuses one that is older than the newest it was shown.\n",
            self.plan.right.acquisitions,
            number(self.plan.right.longest.as_secs_f64()),
            self.plan.right.rounds
        )?;
        writeln!(
            out,
            "Counts are per 100,000 acquisitions, of which as many were made as the first columns say.\n\n\
             - **two inside**: grants while another client was inside and its lease was not over.\n\
             - **outlived**: the same when its lease or session was over.\n\
             - **lost**: writes that were acknowledged and are not in the number.\n\
             - **refused**: late writes that the fence kept out; nothing was lost by them.\n\
             - **stuck**: nobody got the lock for 8 s. In brackets: in how many of the rounds.\n\
             - **recovery**: the longest time from a kill to the next grant.\n"
        )?;
        writeln!(
            out,
            "| Lock | acquired: plain, killed, paused | two inside | lost | killed: lost | stuck | recovery s | \
             paused: two inside | outlived | lost | refused |"
        )?;
        writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for (peer, outcomes) in &self.right.rows {
            let [plain, kill, pause] = outcomes;
            let cell = |seen: &Outcome<Seen>, value: &dyn Fn(&Seen) -> String| match seen {
                Ok(seen) => value(seen),
                Err(_) => "–".into(),
            };
            let per = |seen: &Seen, count: u64| whole(count as f64 * 1e5 / seen.acquired.max(1) as f64);
            let stuck = |s: &Seen| format!("{} ({} of {})", per(s, s.stuck), s.stuck, s.rounds);
            let acquired: Vec<_> =
                outcomes.iter().map(|seen| cell(seen, &|s| s.acquired.to_string())).collect();
            let cells = [
                acquired.join(", "),
                cell(plain, &|s| per(s, s.violations)),
                cell(plain, &|s| per(s, s.lost)),
                cell(kill, &|s| per(s, s.lost)),
                cell(kill, &stuck),
                cell(kill, &|s| if s.stuck > 0 { "never".into() } else { number(s.recovery.as_secs_f64()) }),
                cell(pause, &|s| per(s, s.violations)),
                cell(pause, &|s| per(s, s.outlived)),
                cell(pause, &|s| per(s, s.lost)),
                cell(pause, &|s| per(s, s.refused)),
            ];
            writeln!(out, "| {} | {} |", bold(*peer), cells.join(" | "))?;
        }
        writeln!(out)?;
        let failed = self
            .right
            .rows
            .iter()
            .map(|(peer, outcomes)| (peer, outcomes.iter().find_map(|o| o.as_ref().err())));
        not_measured(out, failed)
    }

    fn fast(&self, out: &mut String) -> Result<()> {
        writeln!(out, "## Fast?\n")?;
        if self.plots {
            for (file, caption, _, _) in CHARTS {
                writeln!(out, "![{caption}](comparison/{file}.svg)\n")?;
            }
        }
        writeln!(
            out,
            "Clients written for this page in Rust live in one process with one thread, each with a connection of its\n\
             own; those of Python, Java and Go are threads of one process in their language, with a connection each.\n\
             Clients and servers share the CPUs, so a client that works more leaves less to its server. Leases are\n\
             30 s, and whoever polls does so every 100 ms, the clients written here with a jitter of half of it.\n\
             Rounds: {}, of {} s after a warm-up; in each every lock has its turn. \"Ours is ×\" is this module divided by\n\
             the lock of the row, the median of the ratios inside the rounds: below 1 the other is faster.\n\n\
             With one client all are two round trips. A hand-off is an acquisition whose holder is another one than\n\
             before; its time runs from sending the release to the grant of a client that was already waiting.\n\
             Acquisitions that are no hand-offs are a client that takes what it has just given back. Requests are for\n\
             an acquisition and its release: counted by the client, or where that cannot be, by what its servers read.\n\
             The database lock as taught refuses nobody, so its speed says nothing. Redis as taught lets two in at\n\
             once, and such grants count as hand-offs too. \"Not synced\" is the same lock on a server with its fastest\n\
             settings; the row above it has the defaults, which wait for the disk. What needs no disk by itself (this\n\
             module, GET_LOCK, advisory locks) has one row, and this module has another with each write synced.\n",
            self.plan.rounds,
            number(self.plan.length.as_secs_f64())
        )?;
        for series in &self.fast.series {
            write_series(out, series)?;
        }
        writeln!(out, "### Aims\n\nThis module divided by the other, as the median over the rounds.\n")?;
        writeln!(out, "{}", aims::table(self.fast, self.load <= BUSY && self.plan.rounds >= FIRM_ROUNDS)?)?;
        self.growth(out)
    }

    fn growth(&self, out: &mut String) -> Result<()> {
        let grown =
            || self.fast.growth.iter().filter_map(|(peer, growth)| Some((*peer, growth.as_ref().ok()?)));
        let heads = SIZES.map(|size| number(size as f64)).join(" | ");
        let dashes = "--:|".repeat(SIZES.len());
        writeln!(
            out,
            "### Growth\n\nWhile so many locks are held, 16 clients take and give back free ones. Pairs/s:\n\n\
             | Lock | {heads} |\n|---|{dashes}"
        )?;
        self.steps(out, |sample| sample.acquired)?;
        writeln!(out, "\nServer CPU ms per 1,000 pairs:\n\n| Lock | {heads} |\n|---|{dashes}")?;
        self.steps(out, |sample| sample.cpu_ms)?;
        writeln!(out)?;
        for (peer, growth) in grown() {
            if let Some(reason) = &growth.stopped {
                writeln!(out, "- {peer} stopped {reason}.")?;
            }
        }
        not_measured(out, self.fast.growth.iter().map(|(peer, growth)| (peer, growth.as_ref().err())))?;
        writeln!(
            out,
            "### Memory in the servers\n\nGrowth of the resident memory (ZooKeeper: of the live heap) on servers on \
             which nothing was done before:\nfor the most locks held above, for {} connections, and for as many waits. \
             –: too little to read off, or\nnothing that a server knows.\n\n\
             | Lock | bytes per held lock | per connection | per waiting client on top |\n|---|--:|--:|--:|",
            self.plan.growth.clients
        )?;
        let cell = |value: Option<f64>| value.map_or("–".into(), number);
        for (peer, growth) in grown() {
            let cells = [growth.held, growth.connection, growth.waiter].map(cell).join(" | ");
            writeln!(out, "| {} | {cells} |", bold(peer))?;
        }
        Ok(writeln!(out)?)
    }

    fn steps(&self, out: &mut String, value: fn(&Sample) -> f64) -> Result<()> {
        for (peer, growth) in &self.fast.growth {
            let Ok(Growth { steps, .. }) = growth else { continue };
            let at = |size| steps.iter().find(|(of, _)| *of == size).map(|(_, sample)| value(sample));
            let cells = SIZES.map(|size| at(size).map_or("–".into(), number)).join(" | ");
            writeln!(out, "| {} | {cells} |", bold(*peer))?;
        }
        Ok(())
    }

    fn ground(&self, out: &mut String) -> Result<()> {
        writeln!(out, "## Servers and machine\n\n| Server | Version | Settings |\n|---|---|---|")?;
        for kind in KINDS {
            let used =
                self.fast.series.iter().any(|series| series.rows.iter().any(|(peer, _)| peer.kind() == kind));
            if !used && kind != Kind::Store {
                continue;
            }
            match self.servers.group(kind) {
                Ok(group) => writeln!(out, "| {kind:?} | {} | {} |", group.version, group.settings)?,
                Err(reason) => {
                    writeln!(out, "| {kind:?} | not there | {} |", reason.lines().next().unwrap_or_default())?
                }
            }
        }
        writeln!(out, "\n| Lock | Client |\n|---|---|")?;
        for (peer, _) in &self.right.rows {
            writeln!(out, "| {peer} | {} |", clients::of(*peer)?)?;
        }
        writeln!(out, "\n{}", machine()?)?;
        Ok(())
    }
}

fn write_series(out: &mut String, series: &Series) -> Result<()> {
    writeln!(out, "### {}\n", capital(&series.title))?;
    let rate = |sample: &Sample| rate(series.work, sample);
    let shared = series.work.names == Names::One;
    if let Names::Batch(_) = series.work.names {
        writeln!(
            out,
            "Acquire and release {BATCH} locks in one batch, and only then read the replies. The time is that of a batch. \
             Clients that\ncannot, or locks that need a reply first, have no row.\n"
        )?;
    }
    if shared {
        writeln!(
            out,
            "| Lock | hand-offs/s | ours is × | acquisitions/s | hand-off p50 µs | p99 µs | longest wait ms | Jain | \
             server CPU ms per 1,000 | requests |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
    } else {
        writeln!(
            out,
            "| Lock | pairs/s | ours is × | p50 µs | p99 µs | server CPU ms per 1,000 | requests |\n\
             |---|--:|--:|--:|--:|--:|--:|"
        )?;
    }
    for (peer, row) in &series.rows {
        let Ok(samples) = row else { continue };
        let median_of = |value: fn(&Sample) -> f64| number(median(samples.iter().map(value).collect()));
        let ratio = ratios(series, *peer, rate).map_or("–".into(), |ratios| number(median(ratios)));
        let mut cells = vec![number(median(samples.iter().map(rate).collect())), ratio];
        if shared {
            cells.push(median_of(|s| s.acquired));
        }
        cells.extend([median_of(|s| s.p50), median_of(|s| s.p99)]);
        if shared {
            cells.extend([median_of(|s| s.longest_ms), median_of(|s| s.jain)]);
        }
        cells.extend([median_of(|s| s.cpu_ms), median_of(|s| s.requests)]);
        writeln!(out, "| {} | {} |", bold(*peer), cells.join(" | "))?;
    }
    writeln!(out)?;
    not_measured(out, series.rows.iter().map(|(peer, row)| (peer, row.as_ref().err())))
}

fn not_measured<'a>(
    out: &mut String,
    rows: impl Iterator<Item = (&'a Peer, Option<&'a String>)>,
) -> Result<()> {
    for (peer, reason) in rows {
        if let Some(reason) = reason {
            writeln!(out, "- Not measured: {peer}: {reason}.")?;
        }
    }
    Ok(writeln!(out)?)
}

/// What a row of such a work is sorted and compared by.
pub fn rate(work: Work, sample: &Sample) -> f64 {
    if work.names == Names::One {
        sample.handed
    } else {
        sample.acquired
    }
}

/// This module divided by a peer, once for each round; nothing if either did not run.
pub fn ratios(series: &Series, peer: Peer, value: impl Fn(&Sample) -> f64) -> Option<Vec<f64>> {
    let row =
        |of: Peer| series.rows.iter().find(|(peer, _)| *peer == of).and_then(|(_, row)| row.as_ref().ok());
    let (ours, theirs) = (row(Peer::Module)?, row(peer)?);
    Some(ours.iter().zip(theirs).map(|(a, b)| value(a) / value(b)).collect())
}

fn bold(peer: Peer) -> String {
    if peer == Peer::Module {
        format!("**{peer}**")
    } else {
        peer.to_string()
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (values[half - 1] + values[half]) / 2.0,
        _ => values[half],
    }
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

/// Three digits that matter.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v.is_nan() => "–".into(),
        v if v >= 1e6 => format!("{:.2}M", value / 1e6),
        v if v >= 1e4 => format!("{:.1}k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Processes that run or want to, over the last minute.
pub fn load() -> Result<f64> {
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(load.split_whitespace().next().context("no load")?.parse()?)
}

fn cpus() -> Result<usize> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    Ok(info.lines().filter(|line| line.starts_with("processor")).count())
}

fn machine() -> Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).context("no model")?;
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: f64 = memory.split_whitespace().nth(1).context("no memory")?.parse()?;
    let gib = kib / f64::from(1 << 20);
    Ok(format!("{} CPUs ({model}), {gib:.0} GiB, Linux {}.", cpus()?, run("uname", &["-r"])?))
}

fn run(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}
