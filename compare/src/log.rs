//! What the clients of a crowd did and when, and what that amounts to. Times are nanoseconds of one clock.

use crate::fast::{Names, Work};
use anyhow::Result;
use hdrhistogram::Histogram;
use std::ops::Range;
use std::time::Duration;
use testbed::stats::jain;

/// One acquisition and its release, or a batch of them.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub client: usize,
    pub asked: u64,
    pub granted: u64,
    pub releasing: u64,
    pub released: u64,
    /// Requests, as far as the client counts them.
    pub sent: u64,
}

#[derive(Default)]
pub(crate) struct Log {
    pub events: Vec<Event>,
    /// Since when they have been waiting, those who still were at the end.
    pub waiting: Vec<u64>,
}

/// What one lock did in one round.
#[derive(Clone)]
pub(crate) struct Sample {
    /// Acquisitions in a second.
    pub acquired: f64,
    /// Those whose holder is another one than before.
    pub handed: f64,
    /// Microseconds. Free locks: acquire and release. One lock: from sending the release to the grant of one who waited.
    pub p50: f64,
    pub p99: f64,
    pub longest_ms: f64,
    pub jain: f64,
    /// Of the servers, for 1,000 acquisitions.
    pub cpu_ms: f64,
    /// Requests for an acquisition and its release.
    pub requests: f64,
}

/// What the servers did in the same time.
pub(crate) struct Served {
    pub cpu: Duration,
    /// None: the clients have counted.
    pub requests: Option<u64>,
}

impl Log {
    /// Those of the acquisitions that were granted inside the window.
    pub(crate) fn sample(mut self, work: Work, window: Range<u64>, served: &Served) -> Result<Sample> {
        self.events.sort_unstable_by_key(|event| event.granted);
        let batch = work.names.batch() as f64;
        let seconds = (window.end - window.start) as f64 / 1e9;
        let inside: Vec<Event> =
            self.events.iter().copied().filter(|event| window.contains(&event.granted)).collect();
        let acquired = inside.len() as f64 * batch;
        let mut latency = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
        let mut handed = 0;
        if work.names == Names::One {
            for pair in self.events.windows(2) {
                let [before, after] = pair else { continue };
                if window.contains(&after.granted) && before.client != after.client {
                    handed += 1;
                    if after.asked < before.releasing {
                        latency.saturating_record(after.granted.saturating_sub(before.releasing) / 100);
                    }
                }
            }
        } else {
            for event in &inside {
                latency.saturating_record((event.released - event.asked) / 100);
            }
        }
        let waits = inside.iter().map(|event| event.granted - event.asked);
        let still = self.waiting.iter().map(|since| window.end.saturating_sub(*since));
        let mut counts = vec![0; work.clients];
        inside.iter().for_each(|event| counts[event.client] += 1);
        let requests = served.requests.unwrap_or_else(|| inside.iter().map(|event| event.sent).sum());
        let micros = |quantile| match latency.len() {
            0 => f64::NAN,
            _ => latency.value_at_quantile(quantile) as f64 / 10.0,
        };
        Ok(Sample {
            acquired: acquired / seconds,
            handed: f64::from(handed) / seconds,
            p50: micros(0.5),
            p99: micros(0.99),
            longest_ms: waits.chain(still).max().unwrap_or_default() as f64 / 1e6,
            jain: jain(counts),
            cpu_ms: served.cpu.as_secs_f64() * 1e6 / acquired,
            requests: requests as f64 / acquired,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CROWD: Work = Work { clients: 2, names: Names::One, hold: Duration::ZERO };

    fn event(client: usize, times: [u64; 4]) -> Event {
        let [asked, granted, releasing, released] = times.map(|micros| micros * 1000);
        Event { client, asked, granted, releasing, released, sent: 2 }
    }

    fn served() -> Served {
        Served { cpu: Duration::from_micros(30), requests: None }
    }

    #[test]
    fn a_hand_off_goes_to_another_client_and_is_timed_if_it_waited() {
        let events = vec![
            event(0, [0, 10, 100, 110]),
            // It waited, and got the lock 50 us after the release was sent.
            event(1, [20, 150, 200, 210]),
            // Again the same: no hand-off.
            event(1, [215, 220, 300, 310]),
            // It came later: a hand-off without a wait.
            event(0, [320, 330, 400, 410]),
        ];
        let log = Log { events, waiting: Vec::new() };
        let sample = log.sample(CROWD, 0..1_000_000, &served()).unwrap();
        assert_eq!((sample.acquired, sample.handed), (4000.0, 2000.0));
        assert!((sample.p50 - 50.0).abs() < 0.2, "{}", sample.p50);
        assert_eq!((sample.longest_ms, sample.jain), (0.13, 1.0));
        assert_eq!((sample.requests, sample.cpu_ms), (2.0, 7.5));
    }

    #[test]
    fn only_the_window_counts_and_who_still_waits_has_waited_longest() {
        let events = vec![event(0, [0, 10, 100, 110]), event(0, [120, 600, 700, 710])];
        let log = Log { events, waiting: vec![100_000] };
        let sample = log.sample(CROWD, 500_000..1_000_000, &served()).unwrap();
        assert_eq!((sample.acquired, sample.handed, sample.longest_ms, sample.jain), (2000.0, 0.0, 0.9, 0.5));
    }
}
