//! Slots that move between the primaries of a cluster, while their locks are held and waited for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{common, left_behind, Expects};
use crate::cluster::Cluster;
use crate::load::{Load, Mix};
use crate::locks::{name, LOCKS};
use crate::node::Programs;
use crate::report::Report;
use crate::route::Route;

/// `resharded`: how many slots more redis-cli moves, where the server moves slots key by key.
pub(crate) fn run(programs: &Programs, mix: &Mix, count: u32, resharded: u32) -> Result<Report> {
    let mut rng = StdRng::seed_from_u64(mix.seed);
    let cluster = Cluster::start(programs, &["lock.recovery-window-ms -1"])?;
    let route = Arc::new(Route::cluster(cluster.addresses()));
    let load = Load::start(mix, &[Arc::clone(&route)]);
    std::thread::sleep(mix.lease);
    let primaries = cluster.primaries();
    let mut moved = BTreeSet::new();
    for _ in 0..count {
        let key = name(rng.random_range(4..LOCKS));
        let from = cluster.owner(&key).context("a slot that nobody has")?;
        let others: Vec<usize> = primaries.iter().copied().filter(|place| *place != from).collect();
        cluster.migrate(&key, from, others[rng.random_range(0..others.len())])?;
        moved.insert(key);
        std::thread::sleep(Duration::from_millis(rng.random_range(50..300)));
    }
    let by_keys = cluster.nodes[0].info("valkey_version").is_empty();
    if by_keys && resharded > 0 {
        cluster.reshard(primaries[0], primaries[1], resharded)?;
    }
    std::thread::sleep(mix.lease);
    let world = Arc::clone(&load.world);
    let outcome = load.stop()?;

    let mut report = Report::default();
    let how = if by_keys { "SETSLOT and MIGRATE" } else { "CLUSTER MIGRATESLOTS" };
    report.say(
        &format!("slots with locks moved by {how}, of them different ones"),
        format!("{count}, {}", moved.len()),
    );
    if by_keys {
        report.say("slots moved by redis-cli --cluster reshard", resharded);
    }
    common(&mut report, &world, &outcome, Expects::Nothing);
    let left = left_behind(&route, &cluster.nodes, mix.lease);
    report.aim("locks and places in line left behind", left, "0", left == 0);
    Ok(report)
}
