//! Clients that all want the same few locks, hold them for no time, and come back at once.
//! Counts hand-offs (the new holder is another one than before; taking one's own lock again is none) and times
//! those whose new holder was waiting when the old one let go. Checks mutual exclusion and fences, and keeps
//! the books that tell whether the queue was fair.

use crate::driver::{At, Driver, Next, Script};
use crate::gauge::Gauge;
use crate::peers::{owner, Pair, Peer};
use crate::rounds::{interval, latencies, record, Sample};
use anyhow::{bail, ensure, Result};
use hdrhistogram::Histogram;
use std::mem;
use std::time::{Duration, Instant};
use testbed::scan::Reply;
use testbed::stats;

pub(super) struct Contend {
    fenced: bool,
    locks: Vec<Lock>,
    clients: Vec<Client>,
    counting: bool,
    finishing: bool,
    done: u64,
    acquired: u64,
    latency: Histogram<u64>,
    pub books: Books,
}

/// Everything since the start, warm-up and drain included.
#[derive(Default)]
pub(super) struct Books {
    pub sent: u64,
    pub replies: u64,
    pub pushes: u64,
    pub acquired: u64,
    pub longest_wait: Duration,
}

#[derive(Default)]
struct Lock {
    fence: i64,
    /// The turn of the last grant.
    granted: u64,
    last: Option<Last>,
}

#[derive(Clone, Copy)]
struct Last {
    holder: usize,
    released: Instant,
}

struct Client {
    lock: usize,
    pair: Pair,
    waiting_since: Option<Instant>,
    acquired: u64,
}

impl Contend {
    pub(super) fn new(peer: Peer, clients: usize, locks: usize) -> Self {
        let client = |index: usize| {
            let lock = index % locks;
            let pair = peer.waiting_pair(&peer.contended_key(lock), &owner(index));
            Client { lock, pair, waiting_since: None, acquired: 0 }
        };
        Self {
            fenced: peer != Peer::Blpop,
            locks: (0..locks).map(|_| Lock::default()).collect(),
            clients: (0..clients).map(client).collect(),
            counting: false,
            finishing: false,
            done: 0,
            acquired: 0,
            latency: latencies(),
            books: Books::default(),
        }
    }

    /// Runs for one interval. The queue goes on where the last interval ended, so that over all
    /// intervals a fair lock serves every client equally often.
    pub(super) fn sample(&mut self, driver: &mut Driver, gauge: &Gauge, length: Duration) -> Result<Sample> {
        self.finishing = false;
        let first = self.locks[0].last.map_or(0, |last| last.holder + 1);
        let used = interval(driver, self, first, gauge, length)?;
        let latency = mem::replace(&mut self.latency, latencies());
        let (done, acquired) = (mem::take(&mut self.done), mem::take(&mut self.acquired));
        Ok(Sample { done, acquired, latency, used, shares: Vec::new() })
    }

    /// Jain's index over the clients' acquisitions.
    pub(super) fn jain(&self) -> f64 {
        stats::jain(self.clients.iter().map(|client| client.acquired))
    }

    /// How many more acquisitions the luckiest client had than the unluckiest.
    pub(super) fn widest_gap(&self) -> u64 {
        let counts = || self.clients.iter().map(|client| client.acquired);
        counts().max().unwrap_or(0) - counts().min().unwrap_or(0)
    }

    fn granted(&mut self, index: usize, since: Instant, reply: &Reply<'_>, at: At) -> Result<Next<'_>> {
        let client = &mut self.clients[index];
        let lock = &mut self.locks[client.lock];
        ensure!(reply.is_yes(), "a wait without limit ended without the lock: {reply:?}");
        // Both grants were readable before the first holder had sent its release.
        ensure!(lock.granted != at.turn, "two clients held lock {} at once", client.lock);
        if self.fenced {
            let Reply::Int(fence) = *reply else { bail!("no fence in {reply:?}") };
            ensure!(fence > lock.fence, "fence {fence} after {}", lock.fence);
            lock.fence = fence;
        }
        if self.counting {
            self.acquired += 1;
            if let Some(before) = lock.last.filter(|last| last.holder != index) {
                self.done += 1;
                if since < before.released {
                    record(&mut self.latency, at.now - before.released);
                }
            }
        }
        lock.granted = at.turn;
        client.acquired += 1;
        self.books.acquired += 1;
        self.books.longest_wait = self.books.longest_wait.max(at.now - since);
        // A client that comes back in this turn asks before the release goes out: a lock that is let go while nobody
        // waits is not contended, and which of the two goes first would be a matter of socket order.
        Ok(Next::SendLast)
    }
}

impl Script for Contend {
    fn begin(&mut self, client: usize, now: Instant) -> &[u8] {
        let client = &mut self.clients[client];
        client.waiting_since = Some(now);
        self.books.sent += 1;
        &client.pair.acquire
    }

    fn reply(&mut self, index: usize, reply: &Reply<'_>, at: At) -> Result<Next<'_>> {
        self.books.replies += 1;
        if *reply == Reply::Push {
            self.books.pushes += 1;
            return Ok(Next::Wait);
        }
        if let Some(since) = self.clients[index].waiting_since.take() {
            return self.granted(index, since, reply, at);
        }
        // 1: still the holder until now; for the token, that there was no second one in the list.
        ensure!(*reply == Reply::Int(1), "release by the holder replied {reply:?}");
        if self.finishing {
            return Ok(Next::Rest);
        }
        Ok(Next::Send(self.begin(index, at.now)))
    }

    fn last(&mut self, index: usize, now: Instant) -> &[u8] {
        let client = &self.clients[index];
        self.locks[client.lock].last = Some(Last { holder: index, released: now });
        self.books.sent += 1;
        &client.pair.release
    }

    fn count(&mut self, on: bool) {
        self.counting = on;
    }

    fn finish(&mut self) {
        self.finishing = true;
    }
}
