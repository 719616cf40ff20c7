//! Failovers that nobody planned: what the primary granted last is withheld from its replica, the primary dies, and the
//! replica takes over without it.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::takeover::{figures, window, Takeover};
use super::{common, left_behind, Expects, Judge};
use crate::chain::Chain;
use crate::load::{Load, Mix};
use crate::node::{wait_for, Programs};
use crate::report::Report;
use crate::route::Route;

/// So many holds that are wanted for long are granted in the tail that is lost, if that does not take too long.
const TAIL: u64 = 3;

/// How many more failovers are tried where nothing was seen.
pub(super) const PATIENCE: u32 = 20;

pub(crate) struct Plan {
    pub(crate) count: u32,
    /// `lock.recovery-window-ms`
    pub(crate) window: i64,
    pub(crate) lag: Duration,
    pub(crate) judge: Judge,
}

pub(crate) fn run(programs: &Programs, mix: &Mix, plan: &Plan) -> Result<Report> {
    let mut rng = StdRng::seed_from_u64(mix.seed);
    let line = format!("lock.recovery-window-ms {}", plan.window);
    let mut chain = Chain::start(programs, 3, &[&line])?;
    let route = Arc::new(Route::to(chain.primary().address()));
    let load = Load::start(mix, &[Arc::clone(&route)]);
    let (mut takeovers, mut reinstated, mut displaced) = (Vec::new(), 0, 0);
    let (mut number, mut longest_lag) = (0, 0);
    let longest_tail = (mix.lease / 3).as_micros() as u64;
    // Until there is something to be seen: without the window a lock that is held twice, with it a hold that came back.
    let has_window = plan.window != 0;
    let is_seen = |reinstated| if has_window { reinstated > 0 } else { load.world.store.counts().1 > 0 };
    while number < plan.count || (!is_seen(reinstated) && number < plan.count + PATIENCE) {
        number += 1;
        // Long enough for many holds to be there.
        std::thread::sleep(Duration::from_millis(rng.random_range(500..900)));
        chain.withhold()?;
        let withheld = load.world.micros();
        let before = load.world.long_holds.load(Ordering::Relaxed);
        std::thread::sleep(plan.lag.mul_f64(rng.random_range(0.1..1.0)));
        // Holds that will be lost; but renewals are lost as well, and the replica must not think that a hold is over.
        wait_for("holds in the tail", || {
            load.world.long_holds.load(Ordering::Relaxed) >= before + TAIL
                || load.world.micros() - withheld > longest_tail
        })?;
        let began = load.world.micros();
        longest_lag = longest_lag.max(began - withheld);
        chain.kill_primary()?;
        chain.promote()?;
        let promoted = load.world.micros();
        let window = window(chain.primary());
        route.move_to(chain.primary().address());
        chain.primary().wait_window_over()?;
        chain.extend()?;
        reinstated += chain.primary().info_int("lock_reinstated");
        displaced += chain.primary().info_int("lock_displaced");
        takeovers.push(Takeover { began, promoted, window, over: load.world.micros() });
        if number % 10 == 0 {
            eprintln!("{number} failovers");
        }
    }
    std::thread::sleep(mix.lease);
    let world = Arc::clone(&load.world);
    let outcome = load.stop()?;

    let mut report = Report::default();
    report.say("failovers, each with a lost tail", number);
    report.say("window", if plan.window < 0 { "auto".to_owned() } else { format!("{} ms", plan.window) });
    report.say("lease, longest lag", format!("{:?}, {} ms", mix.lease, longest_lag / 1000));
    let expects = match (has_window, longest_lag * 2 < mix.lease.as_micros() as u64) {
        (false, _) => Expects::Clashes,
        (true, true) => Expects::Nothing,
        (true, false) => Expects::Losses,
    };
    common(&mut report, &world, &outcome, expects);
    if has_window {
        report.aim("holds that came back", reinstated, "> 0, so that a tail was lost", reinstated > 0);
        report.say("holds that made room for them", displaced);
    }
    figures(&mut report, &outcome.history, &takeovers, plan.judge, has_window);
    let left = left_behind(&route, [chain.primary()], mix.lease);
    report.aim("locks and places in line left behind", left, "0", left == 0);
    Ok(report)
}
