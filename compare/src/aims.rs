//! What this module is to reach beside the others, and whether it did.

use crate::document::{median, number, rate, ratios};
use crate::peers::Peer;
use crate::series::{title, Fast};
use anyhow::Result;
use std::fmt::Write;

/// A lock, a work, and how many times as fast as that lock this module is to be.
type Aim = (Peer, &'static str, f64);

/// For 2, 16 and 64 clients on one lock.
const HAND_OFFS: [(Peer, [f64; 3]); 6] = [
    (Peer::RedissonLock, [20.0, 4.0, 12.0]),
    (Peer::RedissonFair, [1.9, 2.7, 5.0]),
    (Peer::MariaGetLock, [1.3, 1.2, 1.5]),
    (Peer::PgAdvisory, [1.05, 1.3, 1.9]),
    (Peer::ZooRecipe, [10.0, 10.0, 10.0]),
    (Peer::Etcd, [60.0, 60.0, 20.0]),
];

const OTHERS: [Aim; 8] = [
    (Peer::RedissonFair, title::THOUSAND, 25.0),
    (Peer::RedisPy, title::HELD, 3.5),
    (Peer::RedisSet, title::HELD, 3.5),
    (Peer::RedissonLock, title::FREE, 1.7),
    (Peer::MariaGetLock, title::FREE, 2.0),
    (Peer::PgAdvisory, title::FREE, 2.8),
    (Peer::ZooRecipe, title::FREE, 9.0),
    (Peer::Etcd, title::FREE, 10.0),
];

/// A verdict from few rounds or a busy machine is not firm, and says so.
pub(crate) fn table(fast: &Fast, firm: bool) -> Result<String> {
    let mut out = String::from("| Work | Beside | aim | measured | |\n|---|---|--:|--:|---|\n");
    let crowds = HAND_OFFS.into_iter().flat_map(|(peer, aims)| {
        title::CROWDS.into_iter().zip(aims).map(move |(work, aim)| (peer, work, aim))
    });
    for (peer, work, aim) in crowds.chain(OTHERS) {
        let series = fast.series.iter().find(|series| series.title == work);
        let reached = series.and_then(|series| Some(median(ratios(series, peer, |s| rate(series.work, s))?)));
        row(&mut out, work, peer, &format!("≥ {}", number(aim)), reached, firm, |reached| reached >= aim)?;
    }
    for work in title::CROWDS {
        let Some(series) = fast.series.iter().find(|series| series.title == work) else { continue };
        let others = series.rows.iter().filter(|(peer, _)| !peer.is_ours() && !peer.is_as_taught());
        let cost = |peer| ratios(series, peer, |s| s.cpu_ms).map(median);
        // The one beside which ours costs most.
        let cheapest =
            others.filter_map(|(peer, _)| Some((*peer, cost(*peer)?))).max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((peer, reached)) = cheapest {
            let work = format!("server CPU per acquisition, {work}");
            row(&mut out, &work, peer, "≤ 1", Some(reached), firm, |reached| reached <= 1.0)?;
        }
    }
    Ok(out)
}

fn row(
    out: &mut String,
    work: &str,
    peer: Peer,
    aim: &str,
    reached: Option<f64>,
    firm: bool,
    met: impl Fn(f64) -> bool,
) -> Result<()> {
    let (value, verdict) = match reached.filter(|reached| reached.is_finite()) {
        Some(reached) => {
            let verdict = if met(reached) { "met" } else { "missed" };
            (number(reached), if firm { verdict.to_string() } else { format!("{verdict}, provisional") })
        }
        None => ("–".into(), "not measured".to_string()),
    };
    Ok(writeln!(out, "| {work} | {peer} | {aim} | {value} | {verdict} |")?)
}
