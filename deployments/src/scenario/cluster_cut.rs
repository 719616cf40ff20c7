//! A primary of a cluster that is cut off from all other nodes, but not from half of the owners, and lives on. The others promote
//! its replica. It is without a majority then, and grants nothing once it has noticed: after its `cluster-node-timeout`. One
//! that is slow to notice needs `min-replicas-to-write` for that. Nodes of a cluster hear each other on a port of their own, so
//! proxies cannot part them.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::{common, left_behind, Expects};
use crate::cluster::{Cluster, NODE_TIMEOUT_MS};
use crate::load::{Load, Mix};
use crate::net::{Means, Net};
use crate::node::{wait_for, Programs};
use crate::report::Report;
use crate::route::Route;

pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// `min-replicas-to-write 1` on all of them.
    pub(crate) needs_replica: bool,
    /// That of the one which is cut off.
    pub(crate) node_timeout_ms: u32,
}

/// `None` where it cannot be played.
pub(crate) fn run(programs: &Programs, mix: &Mix, plan: &Plan) -> Result<Option<Report>> {
    let net = match Net::in_parts(Some(Means::Namespaces)) {
        Ok(net) => net,
        Err(why) => {
            println!("a cluster is not parted here: {why:#}");
            return Ok(None);
        }
    };
    let mut lines = vec!["lock.recovery-window-ms -1"];
    if plan.needs_replica {
        lines.extend(["min-replicas-to-write 1", "min-replicas-max-lag 1"]);
    }
    let cluster = Cluster::start_on(net, programs, &lines)?;
    let [near, far] = [0, 1].map(|_| Arc::new(Route::cluster(cluster.addresses())));
    let load = Load::start(mix, &[Arc::clone(&near), Arc::clone(&far)]);
    let (mut until_promoted, mut until_healed) = (0, 0);
    for number in 0..plan.rounds as usize {
        std::thread::sleep(mix.lease);
        let primaries = cluster.primaries();
        let old = primaries[number % primaries.len()];
        let new = cluster.replica_of(old).context("a primary without a replica")?;
        let set_timeout =
            |ms: u32| cluster.nodes[old].order(&format!("CONFIG SET cluster-node-timeout {ms}"));
        set_timeout(plan.node_timeout_ms)?;
        let began = load.world.micros();
        cluster.net.cut_off(old)?;
        far.avoid(Some(cluster.nodes[old].address()));
        wait_for("the replica to take over", || cluster.nodes[new].info("role") == "master")?;
        until_promoted = until_promoted.max(load.world.micros() - began);
        cluster.nodes[new].wait_window_over()?;
        std::thread::sleep(mix.lease * 2);
        until_healed = until_healed.max(load.world.micros() - began);
        cluster.net.heal(old)?;
        wait_for("the old primary to be a replica", || cluster.nodes[old].info("role") == "slave")?;
        set_timeout(NODE_TIMEOUT_MS)?;
        far.avoid(None);
        cluster.wait_well()?;
    }
    std::thread::sleep(mix.lease);
    let world = Arc::clone(&load.world);
    let outcome = load.stop()?;

    let mut report = Report::default();
    report.say("times that a primary was cut off, healed later", plan.rounds);
    report.say("by", Means::Namespaces);
    report.say("min-replicas-to-write, min-replicas-max-lag 1", u8::from(plan.needs_replica));
    report.say(
        "node timeout, that of the one cut off, ms",
        format!("{NODE_TIMEOUT_MS}, {}", plan.node_timeout_ms),
    );
    let is_warned = plan.needs_replica || plan.node_timeout_ms <= NODE_TIMEOUT_MS;
    let expects = if is_warned { Expects::Nothing } else { Expects::Clashes };
    common(&mut report, &world, &outcome, expects);
    let seconds = |micros: u64| format!("{:.1}", micros as f64 / 1_000_000.0);
    report.say("from the cut to the promotion, longest, s", seconds(until_promoted));
    report.say("to the healing, longest, s", seconds(until_healed));
    let left = left_behind(&near, &cluster.nodes, mix.lease);
    report.aim("locks and places in line left behind", left, "0", left == 0);
    Ok(Some(report))
}
