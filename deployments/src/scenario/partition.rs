//! A primary that is cut off from its replicas and from half of the owners, and lives on: `min-replicas-to-write` has it refuse
//! to grant, once it has missed its replica for long enough. Whoever promotes the replica earlier has two primaries.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::{common, left_behind, Expects};
use crate::chain::Chain;
use crate::load::{Load, Mix};
use crate::node::{wait_for, Programs};
use crate::report::Report;
use crate::route::Route;

/// `expects`: what comes of promoting the replica so long after the cut.
pub(crate) fn run(
    programs: &Programs,
    mix: &Mix,
    rounds: u32,
    after: Duration,
    expects: Expects,
) -> Result<Report> {
    let lines = ["lock.recovery-window-ms -1", "min-replicas-to-write 1", "min-replicas-max-lag 1"];
    let mut chain = Chain::start(programs, 3, &lines)?;
    let [near, far] = [0, 1].map(|_| Arc::new(Route::to(chain.primary().port())));
    let load = Load::start(mix, &[Arc::clone(&near), Arc::clone(&far)]);
    for _ in 0..rounds {
        std::thread::sleep(mix.lease);
        chain.part()?;
        far.move_to(chain.replica().port());
        std::thread::sleep(after);
        let (mut old, _) = chain.take_primary()?;
        chain.promote()?;
        wait_for("the window to be over", || chain.primary().ask("LOCK.RECOVERY").int() == Some(0))?;
        std::thread::sleep(mix.lease * 2);
        near.move_to(chain.primary().port());
        old.kill();
        chain.cut();
        chain.extend()?;
    }
    std::thread::sleep(mix.lease);
    let world = Arc::clone(&load.world);
    let outcome = load.stop()?;

    let mut report = Report::default();
    report.say("times that the primary was cut off", rounds);
    report.say("min-replicas-to-write, min-replicas-max-lag", "1, 1 s");
    report.say("from the cut to the promotion, lease", format!("{after:?}, {:?}", mix.lease));
    common(&mut report, &world, &outcome, expects);
    let left = left_behind(&far, [chain.primary()], mix.lease);
    report.aim("locks and places in line left behind", left, "0", left == 0);
    Ok(report)
}
