//! Who has it: one lock with its limit and its holds. This is the value that the keyspace keeps, and a lock
//! without holds is free and has no key.

use std::collections::HashSet;

use super::claim::{Claim, ALL};
use super::holds::Holds;
use super::{Fence, Hold, Moment, Owner};
use crate::limits::HOLDS_MAX;

/// One lock: holds that agree on its limit. Their permits together pass it only where the limit of a semaphore was
/// lowered below what was held.
#[derive(Debug)]
pub struct Lock(Holds);

impl Lock {
    /// A lock that nobody has.
    pub fn free() -> Self {
        Self(Holds::NONE)
    }

    /// A lock rebuilt from its holds, unless they break the rule of permits or name an owner twice.
    pub fn from_holds(holds: Vec<Hold>) -> Option<Self> {
        let limit = holds.first()?.claim.limit;
        let permits: u64 = holds.iter().map(|hold| u64::from(hold.claim.permits)).sum();
        let owners: HashSet<&Owner> = holds.iter().map(|hold| &hold.owner).collect();
        let fit = limit < ALL || permits <= u64::from(ALL);
        let agree = fit && holds.iter().all(|hold| hold.claim.limit == limit);
        if !agree || owners.len() < holds.len() {
            return None;
        }
        Some(Self(Holds::from(holds)))
    }

    /// Whether nobody has it.
    pub fn is_free(&self) -> bool {
        self.holds().is_empty()
    }

    /// The limit; [`ALL`] unless the lock is a semaphore.
    pub fn limit(&self) -> u32 {
        self.holds().first().map_or(ALL, |hold| hold.claim.limit)
    }

    /// The holds, oldest first.
    pub fn holds(&self) -> &[Hold] {
        self.0.as_slice()
    }

    /// The same, to be changed in place.
    pub fn holds_mut(&mut self) -> &mut [Hold] {
        self.0.as_mut_slice()
    }

    /// Permits taken by all holds together.
    pub fn used(&self) -> u64 {
        self.holds().iter().map(|hold| u64::from(hold.claim.permits)).sum()
    }

    /// The hold of this owner.
    pub fn hold_of(&self, owner: &[u8]) -> Option<&Hold> {
        self.holds().iter().find(|hold| hold.owner.as_bytes() == owner)
    }

    /// The hold of this owner, to be changed in place.
    pub fn hold_of_mut(&mut self, owner: &[u8]) -> Option<&mut Hold> {
        self.holds_mut().iter_mut().find(|hold| hold.owner.as_bytes() == owner)
    }

    /// The hold that this fence names.
    pub fn hold_with(&self, fence: Fence) -> Option<&Hold> {
        // From the end, where the newest are.
        self.holds().iter().rev().find(|hold| hold.fence == fence)
    }

    /// Whether the claim fits beside the present holds: the one conflict rule.
    pub fn admits(&self, claim: Claim) -> bool {
        self.holds().len() < HOLDS_MAX as usize && self.has_room(claim)
    }

    fn has_room(&self, claim: Claim) -> bool {
        let limit = self.holds().first().map_or(claim.limit, |hold| hold.claim.limit);
        claim.limit == limit && self.used() + u64::from(claim.permits) <= u64::from(limit)
    }

    /// Adds a hold: one that [`Lock::admits`] has let in, or one that takes the place of another.
    pub fn grant(&mut self, hold: Hold) {
        debug_assert!(self.hold_of(hold.owner.as_bytes()).is_none(), "nobody holds a lock twice");
        self.0.push(hold);
    }

    /// Changes the limit of a semaphore that is held.
    pub fn set_limit(&mut self, limit: u32) {
        self.holds_mut().iter_mut().for_each(|hold| hold.claim.limit = limit);
    }

    /// Whether the hold of this fence is the only one.
    pub fn is_alone(&self, fence: Fence) -> bool {
        matches!(self.holds(), [only] if only.fence == fence)
    }

    /// The hold that this fence names, to be changed in place.
    pub fn hold_with_mut(&mut self, fence: Fence) -> Option<&mut Hold> {
        self.holds_mut().iter_mut().rev().find(|hold| hold.fence == fence)
    }

    /// Puts the hold in as it is, in place of the owner's earlier one and of all that it conflicts with: what a
    /// replica does, which obeys and does not judge. Replies the holds that had to go.
    pub fn impose(&mut self, hold: Hold) -> Vec<Hold> {
        let others = || self.holds().iter().filter(|other| other.owner != hold.owner);
        // A semaphore may be over its limit, if that was lowered.
        let taken: u64 = others().map(|other| u64::from(other.claim.permits)).sum();
        let fits = hold.claim.limit < ALL || taken + u64::from(hold.claim.permits) <= u64::from(ALL);
        let go_together = fits && others().all(|other| other.claim.limit == hold.claim.limit);
        if !go_together {
            let gone = self.0.take_all();
            self.0.push(hold);
            return gone;
        }
        match self.holds_mut().iter_mut().find(|other| other.owner == hold.owner) {
            // In its place: the order of holds is part of what two servers agree on.
            Some(earlier) => vec![std::mem::replace(earlier, hold)],
            None => {
                self.0.push(hold);
                Vec::new()
            }
        }
    }

    /// Ends the hold that this fence names.
    pub fn end(&mut self, fence: Fence) -> Option<Hold> {
        self.0.take(|hold| hold.fence == fence)
    }

    /// Takes out one hold that is over at `now`.
    pub fn take_expired(&mut self, now: Moment) -> Option<Hold> {
        self.0.take(|hold| !hold.is_live(now))
    }
}
