//! The recent past, for people: how long was waited and held, which locks are in demand, and the newest losses and
//! deadlocks by name. Bounded, in memory, and decides nothing.

use std::collections::VecDeque;

use super::contended::MostContended;
use super::histogram::Histogram;
use super::ledger::{Ended, Named};
use super::stats::Stats;
use super::waiter::WaitEdge;
use super::{Clock, Fence, Moment};
use crate::limits::{KEY_BYTES_MAX, NEWEST_SHOWN};

/// A hold that was lost, by its names.
#[derive(Debug)]
pub(crate) struct Loss {
    pub db: i32,
    pub key: Vec<u8>,
    pub owner: Vec<u8>,
    pub ended: Ended,
}

/// A wait that was refused, as it would have closed this cycle.
#[derive(Debug)]
pub(crate) struct Deadlock {
    pub db: i32,
    pub cycle: Vec<WaitEdge>,
    pub at: Moment,
}

/// All of it, since the module was loaded or since somebody asked for a new beginning.
pub(crate) struct History {
    pub since: Moment,
    /// The counters as they were then.
    pub stats_before: Stats,
    /// From coming into line until the grant.
    pub waits: Histogram,
    /// From the grant until the end of the hold.
    pub holds: Histogram,
    /// From when a lock could be given until the next in line had it.
    pub delays: Histogram,
    pub contended: MostContended,
    losses: VecDeque<Loss>,
    deadlocks: VecDeque<Deadlock>,
}

impl Default for History {
    fn default() -> Self {
        Self::starting(Moment::MIN, Stats::default())
    }
}

impl History {
    /// Nothing yet, from now on.
    pub(crate) fn starting(since: Moment, stats_before: Stats) -> Self {
        Self {
            since,
            stats_before,
            waits: Histogram::default(),
            holds: Histogram::default(),
            delays: Histogram::default(),
            contended: MostContended::default(),
            losses: VecDeque::new(),
            deadlocks: VecDeque::new(),
        }
    }

    /// A hold has ended.
    #[inline]
    pub(crate) fn record_hold(&mut self, fence: Fence, clock: Clock) {
        // A fence is the time of its grant, but where the clock was set back.
        self.holds.record(clock.unix_us.saturating_sub(fence.get()));
    }

    /// A hold was lost. A name that no lock could be made under is not remembered.
    pub(crate) fn record_loss(&mut self, of: Named, ended: Ended) {
        if of.key.len() > KEY_BYTES_MAX {
            return;
        }
        // The entry that is forgotten gives its memory to the new one.
        let oldest = if self.losses.len() < NEWEST_SHOWN { None } else { self.losses.pop_back() };
        let (mut key, mut owner) = oldest.map(|loss| (loss.key, loss.owner)).unwrap_or_default();
        key.clear();
        key.extend_from_slice(of.key);
        owner.clear();
        owner.extend_from_slice(of.owner);
        self.losses.push_front(Loss { db: of.db, key, owner, ended });
    }

    /// A wait was refused.
    pub(crate) fn record_deadlock(&mut self, db: i32, cycle: &[WaitEdge], at: Moment) {
        self.deadlocks.truncate(NEWEST_SHOWN - 1);
        self.deadlocks.push_front(Deadlock { db, cycle: cycle.to_vec(), at });
    }

    /// The newest losses, newest first.
    pub(crate) fn losses(&self) -> impl Iterator<Item = &Loss> {
        self.losses.iter()
    }

    /// The newest deadlocks, newest first.
    pub(crate) fn deadlocks(&self) -> impl Iterator<Item = &Deadlock> {
        self.deadlocks.iter()
    }
}
