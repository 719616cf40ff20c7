//! Three Sentinels that watch a primary and two replicas: failovers by SENTINEL FAILOVER, and by the death of the primary.

use std::sync::Arc;

use anyhow::Result;

use super::takeover::{figures, window, Takeover};
use super::{common, left_behind, Expects, Judge};
use crate::load::{Load, Mix};
use crate::node::Programs;
use crate::report::Report;
use crate::route::Route;
use crate::sentinels::Sentinels;
use crate::star::Star;

pub(crate) fn run(programs: &Programs, mix: &Mix, count: usize, dies: bool, judge: Judge) -> Result<Report> {
    let mut star = Star::start(programs, 3, &["lock.recovery-window-ms -1"])?;
    let sentinels = Sentinels::start(programs, &mut star, 1000)?;
    let route = Arc::new(Route::to(star.primary().address()));
    let load = Load::start(mix, &[Arc::clone(&route)]);
    let mut takeovers = Vec::new();
    for _ in 0..count {
        sentinels.wait_know_all(&star)?;
        std::thread::sleep(mix.lease / 2);
        let began = load.world.micros();
        let old = star.primary;
        if dies {
            star.nodes[old].kill();
        } else {
            sentinels.fail_over()?;
        }
        sentinels.wait_promotion(&mut star)?;
        let promoted = load.world.micros();
        let window = window(star.primary());
        route.move_to(star.primary().address());
        if dies {
            star.nodes[old].start_again()?;
        }
        star.primary().wait_window_over()?;
        takeovers.push(Takeover { began, promoted, window, over: load.world.micros() });
        // The Sentinels see to it that the others follow.
        star.wait_linked()?;
    }
    std::thread::sleep(mix.lease);
    let world = Arc::clone(&load.world);
    let outcome = load.stop()?;

    let mut report = Report::default();
    let how =
        if dies { "primaries that died under 3 Sentinels, down-after 1 s" } else { "SENTINEL FAILOVER" };
    report.say(how, count);
    common(&mut report, &world, &outcome, Expects::Nothing);
    // Who died is missed for longer than a short lease.
    figures(&mut report, &outcome.history, &takeovers, judge, !dies);
    let left = left_behind(&route, [star.primary()], mix.lease);
    report.aim("locks and places in line left behind", left, "0", left == 0);
    Ok(report)
}
