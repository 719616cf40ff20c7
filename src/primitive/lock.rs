//! Who has it: one lock with its limit and its holds, and the permits that cool. This is the value that the keyspace
//! keeps, and a lock without any of them is free and has no key.

use super::claim::{Claim, ALL};
use super::holds::Holds;
use super::table::Set;
use super::{Cooling, Fence, Hold, Owner};
use crate::limits::HOLDS_MAX;

/// One lock: holds that agree on its limit. Their permits together pass it only where the limit of a semaphore was
/// lowered below what was held.
#[derive(Debug)]
pub struct Lock(Holds);

/// Claims that stand beside each other in one lock, whoever made it: they agree on its limit, and all permits together
/// are no more than there are, unless the limit of a semaphore was lowered.
struct Standing {
    limit: u32,
    taken: u64,
}

impl Standing {
    const fn beside(claim: Claim) -> Self {
        Self { limit: claim.limit, taken: claim.permits as u64 }
    }

    /// Adds a claim; whether it could.
    fn admit(&mut self, claim: Claim) -> bool {
        let taken = self.taken + u64::from(claim.permits);
        let fits =
            claim.limit == self.limit && claim.can_be_held() && (self.limit < ALL || taken <= u64::from(ALL));
        if fits {
            self.taken = taken;
        }
        fits
    }
}

impl Lock {
    /// A lock that nobody has.
    pub fn free() -> Self {
        Self(Holds::NONE)
    }

    /// A lock rebuilt from its holds and cooldowns, and how many of them had to be left out because they cannot stand
    /// beside those before them.
    pub fn rebuilt(mut holds: Vec<Hold>, mut cooling: Vec<Cooling>) -> (Self, usize) {
        let all = holds.len() + cooling.len();
        let first = holds.first().or(cooling.first().map(|cooling| &cooling.hold));
        let mut stand = Standing { limit: first.map_or(ALL, |hold| hold.claim.limit), taken: 0 };
        let mut owners = Set::default();
        let is_only = holds.len() == 1;
        holds.retain(|hold| (is_only || owners.insert(hold.owner.clone())) && stand.admit(hold.claim));
        cooling.retain(|cooling| stand.admit(cooling.hold.claim));
        let left_out = all - holds.len() - cooling.len();
        let mut lock = Self(Holds::from(holds));
        cooling.into_iter().for_each(|cooling| lock.0.cool(cooling));
        (lock, left_out)
    }

    /// Whether nobody has it and it has no cooldown.
    pub fn is_free(&self) -> bool {
        self.holds().is_empty() && self.cooling().is_empty()
    }

    /// What is taken: by holds, and by cooldowns.
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

    /// Passes each hold to `each`, and each in cooldown.
    pub fn each_mut(&mut self, mut each: impl FnMut(&mut Hold)) {
        self.holds_mut().iter_mut().for_each(&mut each);
        self.cooling_mut().iter_mut().for_each(|cooling| each(&mut cooling.hold));
    }

    /// Holds in cooldown, oldest first.
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

    /// Under how many ids its owners are in, all together.
    pub fn entries(&self) -> usize {
        self.holds().iter().map(|hold| hold.entries().count()).sum()
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

    /// Whether there are as many holds as a lock can have, with those in cooldown.
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

    /// Puts the hold in as it is, in place of the owner's earlier one and of all that it cannot stand beside: what a
    /// replica does, which obeys and does not judge. Returns what had to go.
    pub fn impose(&mut self, hold: Hold) -> Vec<Hold> {
        let mut gone = self.yield_to(hold.claim, Some(&hold.owner));
        match self.holds_mut().iter_mut().find(|other| other.owner == hold.owner) {
            // In its place: the order of holds is part of what two servers agree on.
            Some(earlier) => gone.push(std::mem::replace(earlier, hold)),
            None => self.0.push(hold),
        }
        gone
    }

    /// Lets permits cool, in place of all that they cannot stand beside. Returns what had to go.
    pub fn impose_cooling(&mut self, cooling: Cooling) -> Vec<Hold> {
        let gone = self.yield_to(cooling.hold.claim, None);
        self.0.cool(cooling);
        gone
    }

    /// Takes out what cannot stand beside this claim, whose owner may have a hold already: everything if limits or permits
    /// do not agree, and the oldest if there are too many.
    fn yield_to(&mut self, claim: Claim, owner: Option<&Owner>) -> Vec<Hold> {
        let others = self.holds().iter().filter(|other| Some(&other.owner) != owner).map(|other| other.claim);
        let cooling = self.cooling().iter().map(|cooling| cooling.hold.claim);
        let (mut stand, mut count) = (Standing::beside(claim), 1);
        if !others.chain(cooling).all(|other| {
            count += 1;
            stand.admit(other)
        }) {
            let cooling = self.0.take_cooling(|_| true).into_iter().map(|cooling| cooling.hold);
            let mut gone: Vec<Hold> = cooling.collect();
            gone.extend(self.0.take_all());
            return gone;
        }
        if count <= HOLDS_MAX as usize {
            return Vec::new();
        }
        let mut is_oldest = true;
        let oldest =
            self.0.take_cooling(|_| std::mem::take(&mut is_oldest)).pop().map(|cooling| cooling.hold);
        oldest.or_else(|| self.0.take(|other| Some(&other.owner) != owner)).into_iter().collect()
    }

    /// Ends the hold that this fence names.
    pub fn end(&mut self, fence: Fence) -> Option<Hold> {
        self.0.take(|hold| hold.fence == fence)
    }

    /// Lets the permits of a hold that has ended cool.
    pub fn cool(&mut self, cooling: Cooling) {
        self.0.cool(cooling);
    }

    /// The cooldown after the hold that this fence names.
    pub fn cooling_with(&self, fence: Fence) -> Option<&Cooling> {
        self.cooling().iter().find(|cooling| cooling.hold.fence == fence)
    }

    /// Takes out all of those that cool that are chosen.
    pub fn take_cooling(&mut self, chosen: impl FnMut(&Cooling) -> bool) -> Vec<Cooling> {
        self.0.take_cooling(chosen)
    }

    /// Ends all holds that are chosen.
    pub fn end_each(&mut self, chosen: impl FnMut(&Hold) -> bool) -> Vec<Hold> {
        self.0.take_each(chosen)
    }
}
