//! Three Sentinels that watch a primary and two replicas: failovers by SENTINEL FAILOVER, and by the death of the primary.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::takeover::{figures, window, Takeover};
use super::{common, left_behind, Expects, Judge};
use crate::conn::Reply;
use crate::load::{Load, Mix};
use crate::node::{wait_for, Node, Programs};
use crate::report::Report;
use crate::route::Route;
use crate::star::Star;

pub(crate) fn run(programs: &Programs, mix: &Mix, count: usize, dies: bool, judge: Judge) -> Result<Report> {
    let mut star = Star::start(programs, 3, &["lock.recovery-window-ms -1"])?;
    let watch = format!("sentinel monitor locks 127.0.0.1 {} 2", star.primary().port());
    let lines =
        [&watch, "sentinel down-after-milliseconds locks 1000", "sentinel failover-timeout locks 6000"];
    let sentinels: Vec<Node> =
        (0..3).map(|_| Node::start_as(programs, &lines, &["--sentinel"])).collect::<Result<_>>()?;
    let route = Arc::new(Route::to(star.primary().port()));
    let load = Load::start(mix, &[Arc::clone(&route)]);
    let mut takeovers = Vec::new();
    for _ in 0..count {
        wait_for("the Sentinels to know all", || {
            sentinels.iter().all(|sentinel| knows_all(sentinel, &star))
        })?;
        std::thread::sleep(mix.lease / 2);
        let began = load.world.micros();
        let old = star.primary;
        if dies {
            star.nodes[old].kill();
        } else {
            sentinels[0].order("SENTINEL FAILOVER locks")?;
        }
        let before = star.primary().port();
        wait_for("another primary", || primary(&sentinels[0]).is_some_and(|port| port != before))?;
        let port = primary(&sentinels[0]).context("no primary")?;
        star.primary = star.nodes.iter().position(|node| node.port() == port).context("a strange primary")?;
        wait_for("its promotion", || star.primary().info("role") == "master")?;
        let promoted = load.world.micros();
        let window = window(star.primary());
        route.move_to(port);
        if dies {
            star.nodes[old].start_again()?;
        }
        wait_for("the window to be over", || star.primary().ask("LOCK.RECOVERY").int() == Some(0))?;
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

/// The port of the primary, as a client asks for it.
fn primary(sentinel: &Node) -> Option<u16> {
    match sentinel.ask("SENTINEL GET-MASTER-ADDR-BY-NAME locks") {
        Reply::List(address) => address.get(1)?.text().parse().ok(),
        _ => None,
    }
}

fn knows_all(sentinel: &Node, star: &Star) -> bool {
    let Reply::List(words) = sentinel.ask("SENTINEL MASTER locks") else { return false };
    let field = |name: &str| {
        let pair = words.chunks_exact(2).find(|pair| pair[0].text() == name);
        pair.map(|pair| pair[1].text().to_owned()).unwrap_or_default()
    };
    field("port") == star.primary().port().to_string()
        && field("flags") == "master"
        && field("num-other-sentinels") == "2"
        && field("num-slaves") == "2"
}
