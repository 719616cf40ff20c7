//! The tables "Fast?".

use super::format::{bold, capital, median, not_measured, number};
use super::{Document, FIRM_ROUNDS};
use crate::aims;
use crate::fast::{Names, Work};
use crate::load::BUSY;
use crate::log::Sample;
use crate::peers::Peer;
use crate::plot::{Chart, CHARTS};
use crate::series::{Series, BATCH};
use anyhow::Result;
use std::fmt::Write;

impl Document<'_> {
    pub(super) fn fast(&self, out: &mut String) -> Result<()> {
        writeln!(out, "## Fast?\n")?;
        if self.plots {
            for Chart { file, caption, .. } in &CHARTS {
                writeln!(out, "![{caption}](comparison/{file}.svg)\n")?;
            }
        }
        writeln!(
            out,
            "- **Clients** written for this page in Rust live in one process with one thread, each with a connection of\n  \
             its own; those of Python, Java and Go are threads of one process in their language, with a connection\n  \
             each. They share the CPUs with the servers: a client that works more leaves less to its server.\n\
             - **Rounds**: {}, of {} s after a warm-up; with 1,000 clients at most two, each three times as long. In each round\n  \
             every lock has its turn. *Ours is ×* is this module divided by the lock of the row, the median of the\n  \
             ratios inside the rounds: below 1 the other is faster. Two runs on one day differed by up to a third,\n  \
             and by a factor of two for locks that poll: less than that is no difference.\n\
             - **Leases** are 30 s. Whoever polls does so every 100 ms, the clients written here with a jitter of half\n  \
             of it.\n\
             - **A hand-off** is an acquisition whose holder is another one than before. Its time runs from sending the\n  \
             release to the grant of a client that was already waiting. In all other acquisitions a client takes\n  \
             again what it has just given back.\n\
             - **Requests** are for an acquisition and its release: counted by the client, or where that cannot be, by\n  \
             what its servers read. With one client nobody can be faster than these round trips.\n\
             - **Not synced** is the same lock on a server with its fastest settings; the row above it has the\n  \
             defaults, which wait for the disk. What needs no disk by itself (this module, GET_LOCK, advisory locks) has\n  \
             one row, and this module another one with each write synced.\n\
             - **As taught**: the database lock refuses nobody, so its speed says nothing and it has no row. Redis as\n  \
             taught lets two in at once, and such grants count as hand-offs too.\n",
            self.plan.rounds,
            number(self.plan.length.as_secs_f64())
        )?;
        for series in &self.fast.series {
            write_series(out, series)?;
        }
        writeln!(
            out,
            "### Aims\n\nThis module divided by the other, the median over the rounds; for CPU beside the cheapest other lock, those\n\
             as taught left out.\n"
        )?;
        writeln!(out, "{}", aims::table(self.fast, self.load <= BUSY && self.plan.rounds >= FIRM_ROUNDS)?)?;
        self.growth(out)
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
    if !series.work.hold.is_zero() {
        writeln!(
            out,
            "A hold of the clients in Rust lasts up to a millisecond longer, as their timer counts whole ones; beside clients in \
             other\nlanguages compare the times of hand-offs and not the rates.\n"
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

/// What a row of such a work is sorted and compared by.
pub(crate) fn rate(work: Work, sample: &Sample) -> f64 {
    if work.names == Names::One {
        sample.handed
    } else {
        sample.acquired
    }
}

/// This module divided by a peer, once for each round; nothing if either did not run.
pub(crate) fn ratios(series: &Series, peer: Peer, value: impl Fn(&Sample) -> f64) -> Option<Vec<f64>> {
    let row =
        |of: Peer| series.rows.iter().find(|(peer, _)| *peer == of).and_then(|(_, row)| row.as_ref().ok());
    let (ours, theirs) = (row(Peer::Module)?, row(peer)?);
    Some(ours.iter().zip(theirs).map(|(a, b)| value(a) / value(b)).collect())
}
