//! A primary that is cut off from its replicas and from the Sentinels, but not from half of the owners, and lives on. The
//! Sentinels promote a replica, and make the old one a replica when they hear it again. Until then there are two primaries;
//! `min-replicas-to-write` has the old one refuse to grant, once it has missed its replicas for long enough.

use std::sync::Arc;

use anyhow::Result;

use super::{common, left_behind, Expects};
use crate::load::{Load, Mix};
use crate::net::{Means, Net};
use crate::node::{wait_for, Programs};
use crate::report::Report;
use crate::route::Route;
use crate::sentinels::Sentinels;
use crate::star::Star;

/// Longer than a primary grants that needs a replica and hears none: `min-replicas-max-lag 1`, in whole seconds that the
/// server counts once in a second.
const DOWN_AFTER_MS: u32 = 4000;

pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// The best there are, if not said.
    pub(crate) means: Option<Means>,
    /// `min-replicas-to-write 1` on all of them.
    pub(crate) needs_replica: bool,
}

/// One time, in µs of the load's clock.
struct Cut {
    began: u64,
    promoted: u64,
    healed: u64,
    /// The old primary was told that it is a replica.
    over: u64,
}

pub(crate) fn run(programs: &Programs, mix: &Mix, plan: &Plan) -> Result<Report> {
    let mut lines = vec!["lock.recovery-window-ms -1"];
    if plan.needs_replica {
        lines.extend(["min-replicas-to-write 1", "min-replicas-max-lag 1"]);
    }
    let net = Net::in_parts(plan.means)?;
    let means = net.means();
    let mut star = Star::start_on(net, programs, 3, &lines)?;
    let sentinels = Sentinels::start(programs, &mut star, DOWN_AFTER_MS)?;
    let [near, far] = [0, 1].map(|_| Arc::new(Route::to(star.primary().address())));
    let load = Load::start(mix, &[Arc::clone(&near), Arc::clone(&far)]);
    let mut cuts = Vec::new();
    for _ in 0..plan.rounds {
        sentinels.wait_know_all(&star)?;
        std::thread::sleep(mix.lease);
        let old = star.primary;
        let began = load.world.micros();
        star.net.cut_off(old)?;
        far.move_to(star.nodes[(old + 1) % star.nodes.len()].address());
        sentinels.wait_promotion(&mut star)?;
        let promoted = load.world.micros();
        far.move_to(star.primary().address());
        star.primary().wait_window_over()?;
        std::thread::sleep(mix.lease * 2);
        let healed = load.world.micros();
        star.net.heal(old)?;
        wait_for("the old primary to be a replica", || star.nodes[old].info("role") == "slave")?;
        near.move_to(star.primary().address());
        star.wait_linked()?;
        cuts.push(Cut { began, promoted, healed, over: load.world.micros() });
    }
    std::thread::sleep(mix.lease);
    let world = Arc::clone(&load.world);
    let outcome = load.stop()?;

    let mut report = Report::default();
    report.say("times that the primary was cut off, healed later", plan.rounds);
    report.say("by", means.map(|means| means.to_string()).unwrap_or_default());
    report.say("min-replicas-to-write, min-replicas-max-lag 1", u8::from(plan.needs_replica));
    report.say("lease, down-after", format!("{:?}, {DOWN_AFTER_MS} ms", mix.lease));
    let expects = if plan.needs_replica { Expects::Nothing } else { Expects::Clashes };
    common(&mut report, &world, &outcome, expects);
    let seconds = |of: &dyn Fn(&Cut) -> u64| {
        format!("{:.1}", cuts.iter().map(of).max().unwrap_or(0) as f64 / 1_000_000.0)
    };
    // Owners go either way in turn; the first way stays at the old primary.
    let last_grant = |cut: &Cut| {
        let near = outcome.history.spans().iter().filter(|span| span.owner % 2 == 0);
        let starts = near.map(|span| span.start).filter(|at| (cut.began..cut.healed).contains(at));
        starts.max().unwrap_or(cut.began) - cut.began
    };
    report.say("from the cut to the last grant of the old one, longest, s", seconds(&last_grant));
    report.say("to the promotion, longest, s", seconds(&|cut| cut.promoted - cut.began));
    report.say("to the healing, longest, s", seconds(&|cut| cut.healed - cut.began));
    report.say("from then until all follow the new one, longest, s", seconds(&|cut| cut.over - cut.healed));
    let left = left_behind(&far, [star.primary()], mix.lease);
    report.aim("locks and places in line left behind", left, "0", left == 0);
    Ok(report)
}
