//! Who has it: one lock with its limit and its holds. This is the value that the keyspace keeps, and a lock
//! without holds is free and has no key.

use smallvec::SmallVec;

use super::claim::{Claim, ALL};
use super::{Fence, Hold, Moment};

/// One lock: a limit, and holds whose permits together never pass it.
#[derive(Debug)]
pub struct Lock {
    limit: u32,
    holds: SmallVec<[Hold; 1]>,
}

/// Why a claim can never sit beside what a lock is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// One of the two is a semaphore and the other is not.
    Mode,
    /// Both are semaphores, with different limits.
    Limit,
}

impl Lock {
    /// A lock that nobody has.
    pub fn free() -> Self {
        Self { limit: ALL, holds: SmallVec::new() }
    }

    /// A lock rebuilt from parts, unless they break the rule of permits or name an owner twice.
    pub fn from_parts(limit: u32, holds: impl IntoIterator<Item = Hold>) -> Option<Self> {
        let mut lock = Self { limit, holds: SmallVec::new() };
        for hold in holds {
            let claim = Claim::new(limit, hold.permits)?;
            if !lock.has_room(claim) || lock.hold_of(hold.owner.as_bytes()).is_some() {
                return None;
            }
            lock.holds.push(hold);
        }
        Some(lock)
    }

    /// Whether nobody has it.
    pub fn is_free(&self) -> bool {
        self.holds.is_empty()
    }

    /// The limit; [`ALL`] unless the lock is a semaphore.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The holds, oldest first.
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// The same, to be changed in place.
    pub fn holds_mut(&mut self) -> &mut [Hold] {
        &mut self.holds
    }

    /// Permits taken by all holds together.
    pub fn used(&self) -> u64 {
        self.holds.iter().map(|hold| u64::from(hold.permits)).sum()
    }

    /// The hold of this owner.
    pub fn hold_of(&self, owner: &[u8]) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.owner.as_bytes() == owner)
    }

    /// The hold of this owner, to be changed in place.
    pub fn hold_of_mut(&mut self, owner: &[u8]) -> Option<&mut Hold> {
        self.holds.iter_mut().find(|hold| hold.owner.as_bytes() == owner)
    }

    /// The hold that this fence names.
    pub fn hold_with(&self, fence: Fence) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.fence == fence)
    }

    /// Why this claim can never sit beside the present holds. A free lock takes any.
    pub fn mismatch(&self, claim: Claim) -> Option<Mismatch> {
        if self.is_free() {
            return None;
        }
        mismatch(self.limit, claim)
    }

    /// Whether the claim fits beside the present holds: the one conflict rule.
    pub fn admits(&self, claim: Claim) -> bool {
        self.is_free() || (claim.limit == self.limit && self.has_room(claim))
    }

    fn has_room(&self, claim: Claim) -> bool {
        self.used() + u64::from(claim.permits) <= u64::from(self.limit)
    }

    /// Adds a hold that [`Lock::admits`] has let in. A free lock takes its limit from the first hold.
    pub fn grant(&mut self, limit: u32, hold: Hold) {
        debug_assert!(self.admits(hold.claim(limit)));
        self.limit = limit;
        self.holds.push(hold);
    }

    /// Puts the hold in as it is, in place of the owner's earlier one and of all that it conflicts with: what a
    /// replica does, which obeys and does not judge. Replies the holds that had to go.
    pub fn impose(&mut self, limit: u32, hold: Hold) -> Vec<Hold> {
        let mut gone: Vec<Hold> = self.take_where(|other| other.owner == hold.owner).into_iter().collect();
        if !self.admits(hold.claim(limit)) {
            gone.extend(self.holds.drain(..));
        }
        self.limit = limit;
        self.holds.push(hold);
        gone
    }

    /// Ends the hold that this fence names.
    pub fn end(&mut self, fence: Fence) -> Option<Hold> {
        self.take_where(|hold| hold.fence == fence)
    }

    /// Takes out one hold that is over at `now`.
    pub fn take_expired(&mut self, now: Moment) -> Option<Hold> {
        self.take_where(|hold| !hold.is_live(now))
    }

    fn take_where(&mut self, wanted: impl FnMut(&Hold) -> bool) -> Option<Hold> {
        self.holds.iter().position(wanted).map(|at| self.holds.remove(at))
    }
}

/// Why a claim can never go with a lock of this limit.
pub const fn mismatch(limit: u32, claim: Claim) -> Option<Mismatch> {
    if limit == claim.limit {
        None
    } else if limit == ALL || claim.limit == ALL {
        Some(Mismatch::Mode)
    } else {
        Some(Mismatch::Limit)
    }
}
