//! A primary that stops for longer than the leases, is given up, and comes back: for a while there are two. Half of the owners
//! never hear that there is another one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{common, left_behind, Expects};
use crate::chain::Chain;
use crate::load::{Load, Mix};
use crate::node::Programs;
use crate::report::Report;
use crate::route::Route;

/// From the stop until the replica is promoted.
const UNTIL_PROMOTED: Duration = Duration::from_millis(500);

/// With or without `min-replicas-to-write 1` on all of them.
pub(crate) fn run(programs: &Programs, mix: &Mix, rounds: u32, needs_replica: bool) -> Result<Report> {
    let mut lines = vec!["lock.recovery-window-ms -1"];
    if needs_replica {
        lines.extend(["min-replicas-to-write 1", "min-replicas-max-lag 1"]);
    }
    let mut chain = Chain::start(programs, 3, &lines)?;
    let [loyal, informed] = [0, 1].map(|_| Arc::new(Route::to(chain.primary().address())));
    let load = Load::start(mix, &[Arc::clone(&loyal), Arc::clone(&informed)]);
    for _ in 0..rounds {
        std::thread::sleep(mix.lease);
        chain.primary().signal(Signal::SIGSTOP)?;
        let (mut old, _) = chain.take_primary()?;
        std::thread::sleep(UNTIL_PROMOTED);
        chain.cut();
        chain.promote()?;
        informed.move_to(chain.primary().address());
        chain.primary().wait_window_over()?;
        // All leases of the old one are over, and the new one has granted others.
        std::thread::sleep(mix.lease / 2);
        old.signal(Signal::SIGCONT)?;
        std::thread::sleep(mix.lease * 2);
        loyal.move_to(chain.primary().address());
        old.kill();
        chain.extend()?;
    }
    std::thread::sleep(mix.lease);
    let world = Arc::clone(&load.world);
    let outcome = load.stop()?;

    let mut report = Report::default();
    report.say("times that a primary stopped and came back", rounds);
    report.say("lease, two primaries for", format!("{:?}, {:?}", mix.lease, mix.lease * 2));
    report.say("min-replicas-to-write", u8::from(needs_replica));
    let expects = if needs_replica { Expects::Nothing } else { Expects::Clashes };
    common(&mut report, &world, &outcome, expects);
    let left = left_behind(&informed, [chain.primary()], mix.lease);
    report.aim("locks and places in line left behind", left, "0", left == 0);
    Ok(report)
}
