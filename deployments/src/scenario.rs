//! The faults, one to a file, and what they have in common.

pub(crate) mod cluster_cut;
pub(crate) mod cluster_failover;
pub(crate) mod failovers;
pub(crate) mod handover;
pub(crate) mod partition;
pub(crate) mod sentinel;
pub(crate) mod slots;
pub(crate) mod stopped;
mod takeover;
pub(crate) mod torn;

use std::time::{Duration, Instant};

use crate::conn::PATIENCE;
use crate::history::{Clash, End};
use crate::load::{Outcome, World};
use crate::locks::{name, LOCKS};
use crate::node::Node;
use crate::report::Report;
use crate::route::{Client, Route};

/// What is judged.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Judge {
    All,
    /// What is so on a machine however slow, and no time or share.
    Promises,
}

/// What a fault brings about.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Expects {
    Nothing,
    /// The replica was behind for so long that it takes renewed holds for over.
    Losses,
    /// Locks that are held by too many: they must be seen.
    Clashes,
}

/// What a time may be longer than promised, for the clients that measure it.
pub(crate) const SLACK_MS: f64 = 1000.0;

/// Figures that each run has, whatever the fault.
pub(crate) fn common(report: &mut Report, world: &World, outcome: &Outcome, expects: Expects) {
    let clashes = outcome.history.clashes();
    let expects_clashes = expects == Expects::Clashes;
    let spans = outcome.history.spans();
    let (writes, stale) = world.store.counts();
    report.say(
        "requests per second, grants believed",
        format!("{}, {}", outcome.requests_per_second, spans.len()),
    );
    report.say("writes at the store", writes);
    let fell = outcome.history.fences_that_fell();
    if expects_clashes {
        report.aim(
            "locks held by too many at once",
            clashes.len(),
            "> 0, so that it is known to be seen",
            !clashes.is_empty(),
        );
        report.say("writes that the store refuses for their fence", stale);
    } else {
        report.aim("locks held by too many at once", clashes.len(), "0", clashes.is_empty());
        report.aim("writes that the store refuses for their fence", stale, "0", stale == 0);
    }
    let found = if expects_clashes { Vec::new() } else { [&clashes[..], &fell].concat() };
    for Clash { before, after } in found.iter().take(5) {
        println!("{}: {before:?}\n  and {after:?}", name(before.lock));
    }
    if expects_clashes {
        // An owner that asks again for a lock that it gave back in what was lost is told the fence of the hold that is back.
        report.say("grants whose fence fell", fell.len());
    } else {
        report.aim("grants whose fence fell", fell.len(), "0", fell.is_empty());
    }
    report.aim("owners that hang", outcome.stuck, "0", outcome.stuck == 0);
    let by = |how: End| spans.iter().filter(|span| span.how == how).count();
    let ended = by(End::Refused);
    if expects == Expects::Nothing {
        report.aim("holds that the server ended in their lease", ended, "0", ended == 0);
    } else {
        report.say("holds that the server ended in their lease", ended);
    }
    report.say("holds that no server renewed in time", by(End::Expired));
    report.say("tied holds whose owner gave up its connection", by(End::Cut));
    let refusals: Vec<_> = world.refusals().iter().map(|(code, count)| format!("{code} {count}")).collect();
    report.say("errors", refusals.join(", "));
}

/// When the load is over: locks that nobody can get within a lease and what a slow machine needs, and places in line that
/// nobody stands in.
pub(crate) fn left_behind<'a>(
    route: &Route,
    nodes: impl IntoIterator<Item = &'a Node>,
    lease: Duration,
) -> usize {
    let deadline = Instant::now() + lease + Duration::from_secs(30);
    let mut client = Client::new(route);
    let mut left: Vec<u16> = (0..LOCKS).collect();
    while !left.is_empty() && Instant::now() < deadline {
        left.retain(|lock| {
            let key = name(*lock);
            let is_free =
                client.ask(&key, &format!("LOCK.ACQUIRE {key} last PX 100"), PATIENCE).int().is_some();
            client.ask(&key, &format!("LOCK.RELEASE {key} last"), PATIENCE);
            !is_free
        });
        std::thread::sleep(Duration::from_millis(20));
    }
    let waiting: i64 = nodes.into_iter().map(|node| node.info_int("lock_waiting").max(0)).sum();
    left.len() + waiting as usize
}
