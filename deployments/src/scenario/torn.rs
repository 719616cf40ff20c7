//! One server that dies and starts again on its append-only file, whose end never reached the disk.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::failovers::{Plan, PATIENCE};
use super::takeover::{figures, window, Takeover};
use super::{common, left_behind, Expects};
use crate::load::{Load, Mix};
use crate::node::{Node, Programs};
use crate::report::Report;
use crate::route::Route;

pub(crate) fn run(programs: &Programs, mix: &Mix, plan: &Plan) -> Result<Report> {
    let mut rng = StdRng::seed_from_u64(mix.seed);
    let line = format!("lock.recovery-window-ms {}", plan.window);
    let mut node = Node::start(programs, &["appendonly yes", "appendfsync everysec", &line])?;
    let route = Arc::new(Route::to(node.address()));
    let load = Load::start(mix, &[Arc::clone(&route)]);
    let (mut takeovers, mut reinstated, mut lost) = (Vec::new(), 0, 0);
    let (has_window, mut number) = (plan.window != 0, 0);
    // Without the window until a lock was held twice.
    let is_seen = || has_window || load.world.store.counts().1 > 0;
    while number < plan.count || (!is_seen() && number < plan.count + PATIENCE) {
        number += 1;
        std::thread::sleep(mix.lease / 2);
        let file = newest_file(&node)?;
        let on_disk = file.metadata()?.len();
        std::thread::sleep(plan.lag.mul_f64(rng.random_range(0.3..1.0)));
        let began = load.world.micros();
        node.kill();
        lost += file.metadata()?.len() - on_disk;
        file.set_len(on_disk)?;
        node.start_again()?;
        let promoted = load.world.micros();
        let window = window(&node);
        node.wait_window_over()?;
        reinstated += node.info_int("lock_reinstated");
        std::thread::sleep(Duration::from_millis(300));
        takeovers.push(Takeover { began, promoted, window, over: load.world.micros() });
    }
    std::thread::sleep(mix.lease);
    let world = Arc::clone(&load.world);
    let outcome = load.stop()?;

    let mut report = Report::default();
    report.say("kills, restarts on an AOF without its end", number);
    report.say("window", if has_window { "auto" } else { "off" });
    report.say(
        "lease, longest time cut off, bytes cut off",
        format!("{:?}, {:?}, {lost}", mix.lease, plan.lag),
    );
    common(&mut report, &world, &outcome, if has_window { Expects::Losses } else { Expects::Clashes });
    report.say("holds that came back", reinstated);
    figures(&mut report, &outcome.history, &takeovers, plan.judge, has_window);
    let left = left_behind(&route, [&node], mix.lease);
    report.aim("locks and places in line left behind", left, "0", left == 0);
    Ok(report)
}

/// The file to which the server appends now.
fn newest_file(node: &Node) -> Result<File> {
    let files = std::fs::read_dir(node.dir().join("appendonlydir"))?;
    let paths = files.filter_map(|file| Some(file.ok()?.path()));
    let is_appended_to = |path: &PathBuf| path.to_string_lossy().ends_with(".incr.aof");
    let newest =
        paths.filter(is_appended_to).max_by_key(|path| path.metadata().and_then(|it| it.modified()).ok());
    Ok(File::options().read(true).write(true).open(newest.context("no append-only file")?)?)
}
