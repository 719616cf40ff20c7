//! Primaries of a cluster that die, and such that hand over to their replica by CLUSTER FAILOVER.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::takeover::{figures, window, Takeover};
use super::{common, left_behind, Expects, Judge};
use crate::cluster::Cluster;
use crate::load::{Load, Mix};
use crate::node::{wait_for, Programs};
use crate::report::Report;
use crate::route::Route;

pub(crate) fn run(programs: &Programs, mix: &Mix, count: usize, dies: bool, judge: Judge) -> Result<Report> {
    let mut cluster = Cluster::start(programs, &["lock.recovery-window-ms -1"])?;
    let route = Arc::new(Route::cluster(cluster.addresses()));
    let load = Load::start(mix, &[Arc::clone(&route)]);
    let mut takeovers = Vec::new();
    for number in 0..count {
        std::thread::sleep(mix.lease);
        let primaries = cluster.primaries();
        let old = primaries[number % primaries.len()];
        let new = cluster.replica_of(old).context("a primary without a replica")?;
        let began = load.world.micros();
        if dies {
            cluster.nodes[old].kill();
        } else {
            cluster.nodes[new].order("CLUSTER FAILOVER")?;
        }
        wait_for("the replica to take over", || cluster.nodes[new].info("role") == "master")?;
        let promoted = load.world.micros();
        let window = window(&cluster.nodes[new]);
        if dies {
            cluster.nodes[old].start_again()?;
        }
        cluster.nodes[new].wait_window_over()?;
        cluster.wait_well()?;
        takeovers.push(Takeover { began, promoted, window, over: load.world.micros() });
    }
    std::thread::sleep(mix.lease);
    let world = Arc::clone(&load.world);
    let outcome = load.stop()?;

    let mut report = Report::default();
    report.say(if dies { "primaries killed, node timeout 2 s" } else { "CLUSTER FAILOVER" }, count);
    report.say("lease", format!("{:?}", mix.lease));
    common(&mut report, &world, &outcome, Expects::Nothing);
    // The other two thirds of the locks are granted all the time.
    figures(&mut report, &outcome.history, &takeovers, judge, !dies);
    let left = left_behind(&route, &cluster.nodes, mix.lease);
    report.aim("locks and places in line left behind", left, "0", left == 0);
    Ok(report)
}
