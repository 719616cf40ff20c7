//! The document: three tables, what they stand on, and what was not measured.

mod fast;
mod format;
mod growth;
mod right;
pub(crate) mod tables;

use crate::clients;
use crate::load::BUSY;
use crate::series::{Fast, Plan, Right};
use crate::servers::{Kind, Servers, KINDS};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Duration;

pub(crate) use fast::{rate, ratios};
pub(crate) use format::{median, number};

/// Fewer rounds than these have no median to speak of.
const FIRM_ROUNDS: usize = 3;

pub(crate) struct Document<'a> {
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
    pub(crate) fn text(&self, took: Duration) -> Result<String> {
        let mut out = String::new();
        self.head(&mut out, took)?;
        self.right(&mut out)?;
        self.fast(&mut out)?;
        let features = self.features;
        writeln!(out, "## What for?\n\nEach of ours leads to the file with the test that proves it; the link is named\nafter the test.\n\n{features}")?;
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

    fn ground(&self, out: &mut String) -> Result<()> {
        writeln!(out, "## Servers and machine\n\n| Server | Version | Settings |\n|---|---|---|")?;
        for kind in KINDS {
            let used =
                self.fast.series.iter().any(|series| series.rows.iter().any(|(peer, _)| peer.kind() == kind));
            if !used && kind != Kind::Store {
                continue;
            }
            match self.servers.group(kind) {
                Ok(group) => writeln!(out, "| {kind} | {} | {} |", group.version, group.settings)?,
                Err(reason) => {
                    writeln!(out, "| {kind} | not there | {} |", reason.lines().next().unwrap_or_default())?;
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
