//! Pairs with an append-only file synced every second: what durability costs us, and what it costs SET + EVALSHA.

use super::uncontended::{Bed, Shape};
use crate::peers::Peer;
use crate::report::{print_series, Aim, Report};
use crate::rounds;
use crate::server::{info_number, wait_for};
use crate::setting::Setting;
use anyhow::Result;
use redis::Connection;
use std::fmt;
use std::time::Duration;

const TITLE: &str = "pairs, 50 clients, AOF everysec";
const SHAPE: Shape = Shape { clients: 50, pipeline: 1 };
/// A rewrite is ours to start, between intervals: in the middle of one it would load one side only.
const AOF: [&str; 6] =
    ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"];
const REWRITE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq)]
struct Side {
    peer: Peer,
    durable: bool,
}

const OURS: Side = Side { peer: Peer::Lock, durable: true };
const OURS_IN_MEMORY: Side = Side { peer: Peer::Lock, durable: false };
const THEIRS: Side = Side { peer: Peer::SetEval, durable: true };

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.peer, if self.durable { ", AOF" } else { ", no AOF" })
    }
}

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let (memory, durable) = (setting.server().start()?, setting.server().with(&AOF).start()?);
    let (mut memory_bed, mut durable_bed) = (Bed::new(&memory, SHAPE)?, Bed::new(&durable, SHAPE)?);
    let mut control = durable.control()?;

    let mut sides = vec![OURS_IN_MEMORY, OURS, THEIRS];
    sides.retain(|side| side.peer != Peer::Lock || setting.has_module());
    let series = rounds::run(setting.plan, &sides, |side| {
        let bed = if side.durable { &mut durable_bed } else { &mut memory_bed };
        let sample = bed.sample(side.peer, setting.plan.interval)?;
        if side.durable {
            shrink(&mut control)?;
        }
        Ok(sample)
    })?;
    print_series(TITLE, "pair", &series);

    let against = |side: Side| format!("pairs/s / {side}");
    let rates = |other: Side| series.ratios(OURS, other, |s| s.rate());
    report.check(TITLE, &against(OURS_IN_MEMORY), Aim::AtLeast(0.80), &rates(OURS_IN_MEMORY));
    report.check(TITLE, &against(THEIRS), Aim::AtLeast(1.25), &rates(THEIRS));
    Ok(())
}

/// Keeps the file small: the disk must not fill, and every interval starts from the same size.
fn shrink(control: &mut Connection) -> Result<()> {
    redis::cmd("BGREWRITEAOF").exec(control)?;
    wait_for("the end of an AOF rewrite", REWRITE, || {
        let running = info_number(control, "persistence", "aof_rewrite_in_progress")?;
        let scheduled = info_number(control, "persistence", "aof_rewrite_scheduled")?;
        Ok(running == 0 && scheduled == 0)
    })
}
