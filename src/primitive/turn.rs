//! One lock's turn: everything that one request, or one wake-up, may read and change, and the steps that all of
//! them are made of. Whatever ends a hold serves the queue in the same step, so that no lock is ever free while
//! somebody who could have it waits.

use super::deadlines::Slot;
use super::ledger::End;
use super::wait_queue::{Ask, Caps, Full, Waiter};
use super::{Clock, Fence, Hold, Lease, Lock, Memory, Moment, WaiterId};

/// What must happen outside, in this order: replicate, notify, wake.
#[derive(Debug)]
pub enum Effect {
    /// A hold began; `to` was waiting for it.
    Granted { fence: Fence, to: Option<WaiterId> },
    /// A hold got a new lease or deadline.
    Renewed { fence: Fence },
    /// A hold ended.
    Ended { hold: Hold, how: End },
    /// Somebody has got in line.
    Queued,
    /// A wait ended without a grant.
    Left { waiter: WaiterId, why: Left },
}

/// Why a wait ended without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It took as long as it may.
    TimedOut,
    /// Its owner asked again from elsewhere and waits there.
    Superseded,
}

/// One lock at one moment.
pub struct Turn<'a> {
    pub clock: Clock,
    pub db: i32,
    pub key: &'a [u8],
    pub lock: &'a mut Lock,
    pub memory: &'a mut Memory,
    pub effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    /// Ends the holds that are over, grants what can be granted, and sees that the lease index knows what is
    /// left. Every turn begins with it.
    pub fn settle(&mut self) {
        while let Some(hold) = self.lock.take_expired(self.clock.now) {
            self.note_end(hold, End::Expired);
        }
        self.serve();
        for hold in self.lock.holds_mut() {
            self.memory.keep_indexed(self.db, self.key, hold);
        }
    }

    /// Grants to waiters in their order, up to the first that does not fit. A wait is over at its deadline,
    /// whether the timer has come round or not.
    pub fn serve(&mut self) {
        while let Some((id, waiter)) = self.memory.waiters.front(self.db, self.key) {
            if waiter.deadline <= self.clock.now {
                self.leave(id, Left::TimedOut);
                continue;
            }
            if !self.lock.admits(waiter.ask.claim) {
                return;
            }
            if let Some(waiter) = self.memory.waiters.remove(id) {
                let fence = self.grant(waiter.ask, Some(id));
                self.memory.provisional.insert(fence, id);
                self.memory.stats.handed_off += 1;
            }
        }
    }

    /// Ends a wait without a grant. Whoever stood behind may have its turn now, so serve after it.
    pub fn leave(&mut self, waiter: WaiterId, why: Left) {
        if self.memory.waiters.remove(waiter).is_some() {
            self.memory.stats.note_left(why);
            self.effects.push(Effect::Left { waiter, why });
        }
    }

    /// Whether a newcomer would have to wait behind somebody.
    pub fn has_queue(&self) -> bool {
        self.memory.waiters.front(self.db, self.key).is_some()
    }

    /// Makes a hold that the lock admits.
    pub fn grant(&mut self, ask: Ask, to: Option<WaiterId>) -> Fence {
        let fence = self.memory.fences.next(self.clock.unix_us);
        let mut hold = Hold {
            owner: ask.owner,
            fence,
            lease: ask.lease,
            deadline: ask.lease.deadline(self.clock.now),
            note: ask.note,
            claim: ask.claim,
            slot: Slot::NONE,
        };
        self.memory.index(self.db, self.key, &mut hold);
        self.lock.grant(hold);
        self.memory.stats.granted += 1;
        self.effects.push(Effect::Granted { fence, to });
        fence
    }

    /// Whether there is room in the queue for this owner. Who waits already takes no more of it.
    pub fn check_room(&self, owner: &[u8], caps: Caps) -> Result<(), Full> {
        let waiters = &self.memory.waiters;
        match waiters.waiter_of(self.db, self.key, owner) {
            Some(_) => Ok(()),
            None => waiters.room(self.db, self.key, caps),
        }
    }

    /// Puts a waiter into the queue; it gets the number that [`Waiters::next_id`](super::wait_queue::Waiters::next_id)
    /// told.
    pub fn enqueue(&mut self, ask: Ask, deadline: Moment) -> WaiterId {
        let waiters = &mut self.memory.waiters;
        let queued = waiters.enqueue(self.db, self.key, Waiter { ask, since: self.clock.now, deadline });
        self.memory.stats.queued += 1;
        self.memory.wake_by(deadline);
        self.effects.push(Effect::Queued);
        if let Some(waiter) = queued.superseded {
            self.memory.stats.note_left(Left::Superseded);
            self.effects.push(Effect::Left { waiter, why: Left::Superseded });
            // The new wait may want less than the one whose place it took.
            self.serve();
        }
        queued.id
    }

    /// Ends the hold that this fence names, and serves the queue.
    pub fn end(&mut self, fence: Fence, how: End) -> bool {
        let Some(hold) = self.lock.end(fence) else { return false };
        self.note_end(hold, how);
        self.serve();
        true
    }

    /// Takes back a grant whose waiter was gone before it could know, unless its owner has been heard of since.
    pub fn undo(&mut self, fence: Fence) -> bool {
        self.memory.provisional.remove(&fence).is_some() && self.end(fence, End::Undone)
    }

    /// Gives the owner's hold a new lease, counted from now.
    pub fn renew(&mut self, owner: &[u8], lease: Lease) {
        self.set_end(owner, lease, lease);
    }

    /// Lets the owner's hold last for `lease` from now. Later renewals go by the longest lease it has had.
    pub fn raise(&mut self, owner: &[u8], lease: Lease) {
        let longest = self.lock.hold_of(owner).map_or(lease, |hold| hold.lease.max(lease));
        self.set_end(owner, longest, lease);
    }

    fn set_end(&mut self, owner: &[u8], lease: Lease, from_now: Lease) {
        let Some(hold) = self.lock.hold_of_mut(owner) else { return };
        hold.lease = lease;
        hold.deadline = from_now.deadline(self.clock.now);
        self.memory.keep_indexed(self.db, self.key, hold);
        self.effects.push(Effect::Renewed { fence: hold.fence });
    }

    /// Puts a hold in as the primary has it; judges nothing and tells nobody.
    pub fn impose(&mut self, mut hold: Hold) {
        self.memory.fences.fold(hold.fence);
        self.memory.index(self.db, self.key, &mut hold);
        for gone in self.lock.impose(hold) {
            self.memory.leases.remove(self.db, &gone);
        }
    }

    /// Takes a hold out as the primary did; whether there was one.
    pub fn free(&mut self, fence: Fence) -> bool {
        let gone = self.lock.end(fence);
        gone.is_some_and(|hold| {
            self.memory.leases.remove(self.db, &hold);
            true
        })
    }

    fn note_end(&mut self, hold: Hold, how: End) {
        self.memory.leases.remove(self.db, &hold);
        self.memory.confirm(hold.fence);
        let stats = &mut self.memory.stats;
        match how {
            End::Released => stats.released += 1,
            End::Expired => stats.expired += 1,
            End::Undone => stats.undone += 1,
            End::Vanished => stats.vanished += 1,
        }
        if how == End::Expired {
            let now = self.clock.now;
            self.memory.ledger.record(self.db, self.key, &hold.owner, hold.fence, how, now);
        }
        self.effects.push(Effect::Ended { hold, how });
    }
}
