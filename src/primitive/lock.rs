//! Who has it: one lock with its limit and its holds, and the permits that cool. This is the value that the keyspace
//! keeps, and a lock without any of them is free and has no key.

use super::claim::{Claim, ALL};
use super::holds::Holds;
use super::table::Set;
use super::{Cooling, Fence, Hold, Moment, Owner};
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

    /// A lock rebuilt from its holds and what cools, unless they break the rule of permits or name an owner twice.
    pub fn rebuilt(holds: Vec<Hold>, cooling: Vec<Cooling>) -> Option<Self> {
        let is_double = holds.iter().map(|hold| &hold.owner).collect::<Set<&Owner>>().len() < holds.len();
        let mut lock = Self(Holds::from(holds));
        cooling.into_iter().for_each(|cooling| lock.0.cool(cooling));
        let limit = lock.limit();
        let fit = limit < ALL || lock.used() <= u64::from(ALL);
        let agree = fit && lock.claims().all(|claim| claim.limit == limit);
        (agree && !is_double && !lock.is_free()).then_some(lock)
    }

    /// Whether nobody has it and nothing of it cools.
    pub fn is_free(&self) -> bool {
        self.holds().is_empty() && self.cooling().is_empty()
    }

    /// What is taken: by holds, and by what cools.
    fn claims(&self) -> impl Iterator<Item = Claim> + '_ {
        let cooling = self.cooling().iter().map(|cooling| cooling.hold.claim);
        self.holds().iter().map(|hold| hold.claim).chain(cooling)
    }

    /// The limit; [`ALL`] unless the lock is a semaphore.
    pub fn limit(&self) -> u32 {
        self.claims().next().map_or(ALL, |claim| claim.limit)
    }

    /// The holds, oldest first.
    pub fn holds(&self) -> &[Hold] {
        self.0.as_slice()
    }

    /// The same, to be changed in place.
    pub fn holds_mut(&mut self) -> &mut [Hold] {
        self.0.as_mut_slice()
    }

    /// Passes each hold to `each`, and each that cools.
    pub fn each_mut(&mut self, mut each: impl FnMut(&mut Hold)) {
        self.holds_mut().iter_mut().for_each(&mut each);
        self.cooling_mut().iter_mut().for_each(|cooling| each(&mut cooling.hold));
    }

    /// What cools, oldest first.
    pub fn cooling(&self) -> &[Cooling] {
        self.0.cooling()
    }

    /// The same, to be changed in place.
    pub fn cooling_mut(&mut self) -> &mut [Cooling] {
        self.0.cooling_mut()
    }

    /// Permits that are taken, all together.
    pub fn used(&self) -> u64 {
        self.claims().map(|claim| u64::from(claim.permits)).sum()
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
    #[inline]
    pub fn admits(&self, claim: Claim) -> bool {
        !self.is_full() && self.has_room(claim)
    }

    /// Whether there are as many holds as a lock can have, with what cools.
    pub fn is_full(&self) -> bool {
        self.holds().len() + self.cooling().len() >= HOLDS_MAX as usize
    }

    fn has_room(&self, claim: Claim) -> bool {
        let limit = self.claims().next().map_or(claim.limit, |claim| claim.limit);
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
        self.cooling_mut().iter_mut().for_each(|cooling| cooling.hold.claim.limit = limit);
    }

    /// Whether the hold of this fence is all there is.
    pub fn is_alone(&self, fence: Fence) -> bool {
        matches!(self.holds(), [only] if only.fence == fence) && self.cooling().is_empty()
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

    /// Lets the permits of a hold that has ended cool.
    pub fn cool(&mut self, cooling: Cooling) {
        self.0.cool(cooling);
    }

    /// What cools of the hold that this fence names.
    pub fn cooling_with(&self, fence: Fence) -> Option<&Cooling> {
        self.cooling().iter().find(|cooling| cooling.hold.fence == fence)
    }

    /// Takes out one of those that cool, if it is wanted.
    pub fn take_cooling(&mut self, wanted: impl FnMut(&Cooling) -> bool) -> Option<Cooling> {
        self.0.take_cooling(wanted)
    }

    /// Takes out one hold that is over at `now`.
    pub fn take_expired(&mut self, now: Moment) -> Option<Hold> {
        self.0.take(|hold| !hold.is_live(now))
    }
}
