//! Handovers that somebody planned, by FAILOVER; and a rolling restart, which is one handover and a restart of each server.

use std::sync::Arc;

use anyhow::Result;

use super::takeover::{figures, window, Takeover};
use super::{common, left_behind, Expects, Judge};
use crate::load::{Load, Mix};
use crate::node::Programs;
use crate::report::Report;
use crate::route::Route;
use crate::star::Star;

pub(crate) struct Plan {
    pub(crate) count: usize,
    /// Whether each server is started anew.
    pub(crate) restarts: bool,
    /// Whether the window is ended at once, as nothing was lost.
    pub(crate) ends_window: bool,
    pub(crate) judge: Judge,
}

pub(crate) fn run(programs: &Programs, mix: &Mix, plan: &Plan) -> Result<Report> {
    let mut star = Star::start(programs, 3, &["lock.recovery-window-ms -1"])?;
    let route = Arc::new(Route::to(star.primary().address()));
    let load = Load::start(mix, &[Arc::clone(&route)]);
    let (mut takeovers, mut opened) = (Vec::new(), 0);
    for number in 1..=plan.count {
        let (old, new) = (star.primary, number % 3);
        if plan.restarts {
            restart(&mut star, new)?;
        }
        std::thread::sleep(mix.lease / 2);
        let began = load.world.micros();
        star.hand_over(new)?;
        let promoted = load.world.micros();
        let mut window = window(star.primary());
        opened += usize::from(window > 0);
        if plan.ends_window {
            star.primary().ask("LOCK.RECOVERY END");
            window = 0;
        }
        route.move_to(star.primary().address());
        star.primary().wait_window_over()?;
        star.gather()?;
        if plan.restarts {
            restart(&mut star, old)?;
        }
        takeovers.push(Takeover { began, promoted, window, over: load.world.micros() });
    }
    std::thread::sleep(mix.lease);
    let world = Arc::clone(&load.world);
    let outcome = load.stop()?;

    let mut report = Report::default();
    report.say("handovers by FAILOVER", plan.count);
    report.say("each server started anew", if plan.restarts { "yes" } else { "no" });
    report.aim("handovers that opened a window, though nothing was lost", opened, "0", opened == 0);
    report.say("window ended by LOCK.RECOVERY END", plan.ends_window);
    common(&mut report, &world, &outcome, Expects::Nothing);
    figures(&mut report, &outcome.history, &takeovers, plan.judge, true);
    let left = left_behind(&route, [star.primary()], mix.lease);
    report.aim("locks and places in line left behind", left, "0", left == 0);
    Ok(report)
}

/// Starts a replica anew. It remembers whom it follows.
fn restart(star: &mut Star, place: usize) -> Result<()> {
    star.nodes[place].order("CONFIG REWRITE")?;
    star.nodes[place].shut_down()?;
    star.nodes[place].start_again()?;
    star.wait_linked()
}
