//! All that the module keeps outside the keyspace. Apart from the queues and the newest fence everything here is
//! a hint: before anyone acts on it the key is opened again and owner and fence are compared.

use std::collections::HashMap;

use super::deadlines::Slot;
use super::fence::FenceSource;
use super::leases::Leases;
use super::ledger::Ledger;
use super::turn::Left;
use super::wait_queue::Waiters;
use super::{Fence, Hold, Moment, WaiterId};

/// What happened since the module was loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub granted: u64,
    pub handed_off: u64,
    pub released: u64,
    pub renewed: u64,
    pub expired: u64,
    pub vanished: u64,
    pub undone: u64,
    pub queued: u64,
    pub timed_out: u64,
    pub superseded: u64,
    pub refused: u64,
}

impl Stats {
    pub fn note_left(&mut self, why: Left) {
        match why {
            Left::TimedOut => self.timed_out += 1,
            Left::Superseded => self.superseded += 1,
        }
    }
}

/// Queues, lease index, fences, losses and counters of one server.
#[derive(Default)]
pub struct Memory {
    pub waiters: Waiters,
    pub leases: Leases,
    pub fences: FenceSource,
    pub ledger: Ledger,
    pub stats: Stats,
    /// Grants handed to a waiter that may not have heard of them yet.
    pub provisional: HashMap<Fence, WaiterId>,
    /// The earliest deadline that was added since somebody looked.
    soonest: Option<Moment>,
}

impl Memory {
    /// Notes when this hold is due; a hold without expiry never is.
    pub fn index(&mut self, db: i32, key: &[u8], hold: &mut Hold) {
        if hold.deadline != Moment::NEVER {
            self.leases.insert(db, key, hold);
            self.wake_by(hold.deadline);
        }
    }

    /// Makes sure that the index looks at this hold no later than at its deadline. A later deadline needs
    /// nothing: the entry comes up early, finds the hold alive and goes in again.
    pub fn keep_indexed(&mut self, db: i32, key: &[u8], hold: &mut Hold) {
        if hold.deadline == Moment::NEVER {
            self.leases.remove(db, hold);
            hold.slot = Slot::NONE;
        } else if !self.leases.has(db, hold) {
            self.index(db, key, hold);
        } else if self.leases.hasten(db, hold) {
            self.wake_by(hold.deadline);
        }
    }

    /// The owner has shown that it knows of its hold.
    pub fn confirm(&mut self, fence: Fence) {
        if !self.provisional.is_empty() {
            self.provisional.remove(&fence);
        }
    }

    /// Somebody must look no later than at `deadline`.
    pub fn wake_by(&mut self, deadline: Moment) {
        if self.soonest.is_none_or(|soonest| deadline < soonest) {
            self.soonest = Some(deadline);
        }
    }

    /// The earliest deadline that was added since the last call, if any was.
    pub fn take_soonest(&mut self) -> Option<Moment> {
        self.soonest.take()
    }

    /// When the next lease or wait is due: never later, perhaps somewhat earlier.
    pub fn next_deadline(&self) -> Option<Moment> {
        let (lease, wait) = (self.leases.next_deadline(), self.waiters.next_deadline());
        lease.into_iter().chain(wait).min()
    }
}
