//! Rounds A B C … A B C …: every peer runs once in each round, and ratios are taken inside a round,
//! because the whole machine drifts by 10 % over minutes and takes all peers with it.

use crate::driver::{Driver, Script};
use crate::gauge::{wait_until_quiet, Gauge, Used};
use anyhow::Result;
use hdrhistogram::Histogram;
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Caches, branch predictors and socket buffers get used to a peer before it counts.
const WARM_UP: Duration = Duration::from_millis(100);
/// Above this share of a CPU in other hands, a round is run again.
const FOREIGN_LIMIT: f64 = 0.15;
/// How long all rounds of a series together wait for other processes to calm down.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many rounds, and how long each peer runs in one.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub rounds: usize,
    pub interval: Duration,
}

/// One that takes part in the rounds; shown by name.
pub(crate) trait Contestant: Copy + PartialEq + Display {}

impl<T: Copy + PartialEq + Display> Contestant for T {}

/// The result of one contestant in one round.
pub(crate) struct Sample {
    /// Pairs, or hand-offs.
    pub done: u64,
    /// Acquisitions; more than `done` where some were not hand-offs.
    pub acquired: u64,
    /// Microseconds × 10, for the precision of short times.
    pub latency: Histogram<u64>,
    pub used: Used,
    /// Each client's part in it; empty where nobody asks.
    pub shares: Vec<Share>,
}

/// The share that one client got in one round.
#[derive(Clone, Copy, Default)]
pub(crate) struct Share {
    pub acquired: u64,
    /// Also of waits that ended after the round, when everybody was let in.
    pub longest_wait: Duration,
}

pub(crate) struct Series<C> {
    contestants: Vec<C>,
    rounds: Vec<Vec<Sample>>,
    pub repeated: usize,
}

impl Sample {
    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.used.wall.as_secs_f64()
    }

    pub(crate) fn server_us(&self) -> f64 {
        self.used.server.as_secs_f64() * 1e6 / self.acquired as f64
    }

    pub(crate) fn latency_us(&self, quantile: f64) -> f64 {
        micros(&self.latency, quantile)
    }
}

impl<C: Contestant> Series<C> {
    pub(crate) fn contestants(&self) -> &[C] {
        &self.contestants
    }

    /// One value per round. Empty if the contestant did not run.
    pub(crate) fn values(&self, contestant: C, value: impl Fn(&Sample) -> f64) -> Vec<f64> {
        let Some(at) = self.contestants.iter().position(|c| *c == contestant) else {
            return Vec::new();
        };
        self.rounds.iter().map(|round| value(&round[at])).collect()
    }

    /// `one / other`, one per round.
    pub(crate) fn ratios(&self, one: C, other: C, value: impl Fn(&Sample) -> f64) -> Vec<f64> {
        let (ours, theirs) = (self.values(one, &value), self.values(other, &value));
        ours.iter().zip(&theirs).map(|(a, b)| a / b).collect()
    }

    /// The highest share of a CPU that others had while these rounds ran.
    pub(crate) fn worst_foreign(&self) -> f64 {
        self.rounds.iter().map(|round| foreign(round)).fold(0.0, f64::max)
    }
}

/// Runs the rounds. A disturbed round is run again, for at most half as many rounds on top.
pub(crate) fn run<C: Contestant>(
    plan: Plan,
    contestants: &[C],
    mut one: impl FnMut(C) -> Result<Sample>,
) -> Result<Series<C>> {
    let mut series = Series { contestants: contestants.to_vec(), rounds: Vec::new(), repeated: 0 };
    let mut patience = PATIENCE;
    while series.rounds.len() < plan.rounds {
        let start = Instant::now();
        wait_until_quiet(patience)?;
        patience = patience.saturating_sub(start.elapsed());
        let round = contestants.iter().map(|contestant| one(*contestant)).collect::<Result<Vec<_>>>()?;
        if foreign(&round) > FOREIGN_LIMIT && series.repeated < plan.rounds / 2 {
            series.repeated += 1;
        } else {
            series.rounds.push(round);
        }
    }
    Ok(series)
}

/// One interval: warm up, count for `interval`, let the clients finish. Its cost covers the counted part.
pub(crate) fn interval(
    driver: &mut Driver,
    script: &mut impl Script,
    first: usize,
    gauge: &Gauge,
    interval: Duration,
) -> Result<Used> {
    driver.begin(script, first)?;
    driver.pump(script, Instant::now() + WARM_UP)?;
    script.count(true);
    let from = gauge.read()?;
    driver.pump(script, Instant::now() + interval)?;
    let used = gauge.since(from)?;
    script.count(false);
    driver.drain(script)?;
    Ok(used)
}

fn foreign(round: &[Sample]) -> f64 {
    round.iter().map(|sample| sample.used.share(sample.used.foreign)).fold(0.0, f64::max)
}

/// A histogram of latencies up to a minute with three significant digits.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("constant bounds are valid")
}

pub(crate) fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(latency.as_nanos() as u64 / 100);
}

pub(crate) fn micros(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 10.0
}
