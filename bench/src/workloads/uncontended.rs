//! Clients that acquire and release locks nobody else wants, on random names out of many.
//! Requests are built once; each round trip only the digits of the name change, so that the driver stays cheap.

use crate::driver::{At, Driver, Next, Script};
use crate::gauge::Gauge;
use crate::peers::{owner, Peer, Scripts};
use crate::rounds::{interval, latencies, record, Sample};
use crate::server::Server;
use anyhow::{ensure, Result};
use fastrand::Rng;
use hdrhistogram::Histogram;
use std::mem;
use std::time::{Duration, Instant};
use testbed::scan::Reply;

/// Each client has so many names of its own.
const NAMES: u32 = 100_000;
const NAME_DIGITS: usize = 5;
/// Stands for the digits in a request that is being built; no other part of a request contains it.
const DIGITS: &str = "#####";
/// The same names in every run.
const SEED: u64 = 2;

/// How many clients, and how many commands each has open.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub clients: usize,
    /// 1: acquire, wait, release, wait. More: that many commands in one batch.
    pub pipeline: usize,
}

pub(super) struct Uncontended {
    clients: Vec<Client>,
    rng: Rng,
    pairs_per_cycle: u64,
    counting: bool,
    finishing: bool,
    done: u64,
    latency: Histogram<u64>,
}

/// A cycle is one batch of pairs, or one acquire and one release.
struct Client {
    steps: Vec<Step>,
    at: usize,
    awaited: usize,
    began: Instant,
    /// For each pair of the cycle, where its name's digits stand: (step, offset).
    digits: Vec<Vec<(usize, usize)>>,
}

struct Step {
    bytes: Vec<u8>,
    replies: usize,
}

impl Uncontended {
    pub(super) fn new(peer: Peer, shape: Shape, scripts: &Scripts) -> Self {
        let clients =
            (0..shape.clients).map(|index| Client::new(peer, index, shape.pipeline, scripts)).collect();
        Self {
            clients,
            rng: Rng::with_seed(SEED),
            pairs_per_cycle: pairs_per_cycle(shape.pipeline) as u64,
            counting: false,
            finishing: false,
            done: 0,
            latency: latencies(),
        }
    }

    /// Runs for one interval and hands out what it counted.
    pub(super) fn sample(&mut self, driver: &mut Driver, gauge: &Gauge, length: Duration) -> Result<Sample> {
        self.finishing = false;
        let used = interval(driver, self, 0, gauge, length)?;
        let done = mem::take(&mut self.done);
        let latency = mem::replace(&mut self.latency, latencies());
        Ok(Sample { done, acquired: done, latency, used, shares: Vec::new() })
    }
}

impl Script for Uncontended {
    fn begin(&mut self, client: usize, now: Instant) -> &[u8] {
        self.clients[client].new_cycle(&mut self.rng, now)
    }

    fn reply(&mut self, client: usize, reply: &Reply<'_>, at: At) -> Result<Next<'_>> {
        ensure!(reply.is_yes(), "a free lock was refused, or a held one was not released: {reply:?}");
        let client = &mut self.clients[client];
        client.awaited -= 1;
        if client.awaited > 0 {
            return Ok(Next::Wait);
        }
        if client.at + 1 < client.steps.len() {
            return Ok(Next::Send(client.step(client.at + 1)));
        }
        if self.counting {
            self.done += self.pairs_per_cycle;
            record(&mut self.latency, at.now - client.began);
        }
        if self.finishing {
            return Ok(Next::Rest);
        }
        Ok(Next::Send(client.new_cycle(&mut self.rng, at.now)))
    }

    fn count(&mut self, on: bool) {
        self.counting = on;
    }

    fn finish(&mut self) {
        self.finishing = true;
    }
}

impl Client {
    fn new(peer: Peer, index: usize, pipeline: usize, scripts: &Scripts) -> Self {
        let pair = peer.pair(&format!("lock:{index:04}:{DIGITS}"), &owner(index), scripts);
        let steps = if pipeline == 1 {
            vec![Step { bytes: pair.acquire, replies: 1 }, Step { bytes: pair.release, replies: 1 }]
        } else {
            let pairs = pairs_per_cycle(pipeline);
            let bytes = [pair.acquire, pair.release].concat().repeat(pairs);
            vec![Step { bytes, replies: 2 * pairs }]
        };
        let places = places(&steps);
        let per_pair = places.len() / pairs_per_cycle(pipeline);
        let digits = places.chunks(per_pair.max(1)).map(<[_]>::to_vec).collect();
        Self { steps, at: 0, awaited: 0, began: Instant::now(), digits }
    }

    fn new_cycle(&mut self, rng: &mut Rng, now: Instant) -> &[u8] {
        for places in &self.digits {
            let name = digits(rng.u32(..NAMES));
            for &(step, offset) in places {
                self.steps[step].bytes[offset..offset + NAME_DIGITS].copy_from_slice(&name);
            }
        }
        self.began = now;
        self.step(0)
    }

    fn step(&mut self, at: usize) -> &[u8] {
        self.at = at;
        self.awaited = self.steps[at].replies;
        &self.steps[at].bytes
    }
}

fn pairs_per_cycle(pipeline: usize) -> usize {
    (pipeline / 2).max(1)
}

/// Every place of the digits as (step, offset), in the order of the requests.
fn places(steps: &[Step]) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let windows = step.bytes.windows(NAME_DIGITS).enumerate();
        places.extend(
            windows.filter(|(_, bytes)| *bytes == DIGITS.as_bytes()).map(|(offset, _)| (index, offset)),
        );
    }
    places
}

fn digits(mut number: u32) -> [u8; NAME_DIGITS] {
    let mut digits = [b'0'; NAME_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// One server and the connections of one shape, ready for any peer.
pub(super) struct Bed {
    driver: Driver,
    gauge: Gauge,
    shape: Shape,
    scripts: Scripts,
}

impl Bed {
    pub(super) fn new(server: &Server, shape: Shape) -> Result<Self> {
        Ok(Self {
            driver: Driver::connect(server.addr(), shape.clients)?,
            gauge: Gauge::new(server.pid())?,
            shape,
            scripts: Scripts::load(&mut server.control()?)?,
        })
    }

    pub(super) fn clients(&self, peer: Peer) -> Uncontended {
        Uncontended::new(peer, self.shape, &self.scripts)
    }

    pub(super) fn sample(&mut self, peer: Peer, length: Duration) -> Result<Sample> {
        self.clients(peer).sample(&mut self.driver, &self.gauge, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_have_a_fixed_width() {
        assert_eq!(&digits(0), b"00000");
        assert_eq!(&digits(4711), b"04711");
        assert_eq!(&digits(NAMES - 1), b"99999");
    }
}
