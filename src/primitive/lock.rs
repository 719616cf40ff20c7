//! A lock: its holds, limit and cooldowns. This is the value that the keyspace keeps, and a lock without any of them is
//! free and has no key.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "numbers whose types are below 2³², or that were compared just before"
)]

use super::holds::HoldSet;
use super::occupancy::Occupancy;
use super::permits::{Permits, ALL};
use super::table::Set;
use super::{Cooldown, Fence, Hold, Owner};
use crate::limits::HOLDS_MAX;

/// One lock: holds that agree on its limit. Their permits together pass it only where the limit of a semaphore was
/// lowered below what was held.
#[derive(Debug)]
pub(crate) struct Lock(HoldSet);

impl Lock {
    /// A lock that nobody has.
    pub(crate) fn free() -> Self {
        Self(HoldSet::NONE)
    }

    /// A lock that has this hold alone.
    pub(crate) const fn held(hold: Hold) -> Self {
        Self(HoldSet::One(hold))
    }

    /// The hold, where there is no other and nothing cools, and it is exclusive and has nothing that few have.
    pub(crate) fn plain_hold(&self) -> Option<&Hold> {
        match &self.0 {
            HoldSet::One(hold) if hold.extra.is_none() && hold.permits == Permits::EXCLUSIVE => Some(hold),
            HoldSet::One(_) | HoldSet::Many { .. } => None,
        }
    }

    /// A lock rebuilt from its holds and cooldowns, and how many of them had to be left out because they cannot stand
    /// beside those before them.
    pub(crate) fn rebuilt(mut holds: Vec<Hold>, mut cooldown: Vec<Cooldown>) -> (Self, usize) {
        let all = holds.len() + cooldown.len();
        let mut taken = Occupancy::default();
        let (mut owners, mut fences) = (Set::default(), Set::default());
        let is_only = all == 1;
        holds.retain(|hold| {
            let is_new = is_only || (owners.insert(hold.owner.clone()) && fences.insert(hold.fence));
            is_new && taken.try_add(hold.permits)
        });
        cooldown.retain(|cooldown| {
            (is_only || fences.insert(cooldown.hold.fence)) && taken.try_add(cooldown.hold.permits)
        });
        let left_out = all - holds.len() - cooldown.len();
        let mut lock = Self(HoldSet::from(holds));
        cooldown.into_iter().for_each(|cooldown| lock.0.add_cooldown(cooldown));
        (lock, left_out)
    }

    /// Whether nobody has it and it has no cooldown.
    pub(crate) fn is_free(&self) -> bool {
        self.holds().is_empty() && self.cooldowns().is_empty()
    }

    /// The permits that are taken: by holds, and by cooldowns.
    fn taken(&self) -> impl Iterator<Item = Permits> + '_ {
        let cooldown = self.cooldowns().iter().map(|cooldown| cooldown.hold.permits);
        self.holds().iter().map(|hold| hold.permits).chain(cooldown)
    }

    /// The limit; [`ALL`] unless the lock is a semaphore.
    pub(crate) fn limit(&self) -> u32 {
        self.taken().next().map_or(ALL, |permits| permits.limit)
    }

    /// The holds, oldest first.
    pub(crate) fn holds(&self) -> &[Hold] {
        self.0.as_slice()
    }

    /// The same, to be changed in place.
    pub(crate) fn holds_mut(&mut self) -> &mut [Hold] {
        self.0.as_mut_slice()
    }

    /// Passes each hold to `each`, and each in cooldown.
    pub(crate) fn each_mut(&mut self, mut each: impl FnMut(&mut Hold)) {
        self.holds_mut().iter_mut().for_each(&mut each);
        self.cooldowns_mut().iter_mut().for_each(|cooldown| each(&mut cooldown.hold));
    }

    /// Holds in cooldown, oldest first.
    pub(crate) fn cooldowns(&self) -> &[Cooldown] {
        self.0.cooldowns()
    }

    /// The same, to be changed in place.
    pub(crate) fn cooldowns_mut(&mut self) -> &mut [Cooldown] {
        self.0.cooldowns_mut()
    }

    /// Under how many ids its owners are in, all together.
    pub(crate) fn entries(&self) -> usize {
        self.holds().iter().map(|hold| hold.entries().count()).sum()
    }

    /// The hold of this owner.
    pub(crate) fn hold_of(&self, owner: &[u8]) -> Option<&Hold> {
        self.holds().iter().find(|hold| hold.owner.as_bytes() == owner)
    }

    /// The hold of this owner, to be changed in place.
    pub(crate) fn hold_of_mut(&mut self, owner: &[u8]) -> Option<&mut Hold> {
        self.holds_mut().iter_mut().find(|hold| hold.owner.as_bytes() == owner)
    }

    /// The hold that this fence names.
    pub(crate) fn hold_with(&self, fence: Fence) -> Option<&Hold> {
        // From the end, where the newest are.
        self.holds().iter().rev().find(|hold| hold.fence == fence)
    }

    /// How much is taken, by holds and by cooldowns.
    #[inline]
    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy::of(self.taken())
    }

    /// Whether a hold with these permits can be granted beside the present ones.
    #[inline]
    pub(crate) fn admits(&self, permits: Permits) -> bool {
        // Everything that can be asked for fits into a lock that is free.
        self.is_free() || (!self.is_full() && self.occupancy().fits(permits))
    }

    /// Whether there are as many holds as a lock can have, with those in cooldown.
    pub(crate) fn is_full(&self) -> bool {
        self.holds().len() + self.cooldowns().len() >= HOLDS_MAX as usize
    }

    /// Adds a hold: one that [`Lock::admits`] has let in, or one that takes the place of another.
    #[inline]
    pub(crate) fn grant(&mut self, hold: Hold) {
        debug_assert!(self.hold_of(hold.owner.as_bytes()).is_none(), "nobody holds a lock twice");
        debug_assert!(
            self.hold_with(hold.fence).is_none() && self.cooldown_with(hold.fence).is_none(),
            "a fence names one hold"
        );
        debug_assert!(
            !self.is_full() && self.occupancy().can_lie_beside(hold.permits),
            "{hold:?} in {self:?}"
        );
        self.0.push(hold);
    }

    /// Panics unless this is a lock that can be: each owner has one hold, and all can lie beside each other.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        let mut taken = Occupancy::default();
        assert!(self.taken().all(|permits| taken.try_add(permits)), "holds that cannot lie in one lock");
        let mut owners = Set::default();
        let is_new = |hold: &Hold| owners.insert(hold.owner.clone());
        assert!(self.holds().iter().all(is_new), "nobody holds a lock twice");
        assert!(self.holds().len() + self.cooldowns().len() <= HOLDS_MAX as usize, "too many holds");
    }

    /// Changes the limit of a semaphore that is held.
    pub(crate) fn set_limit(&mut self, limit: u32) {
        self.holds_mut().iter_mut().for_each(|hold| hold.permits.limit = limit);
        self.cooldowns_mut().iter_mut().for_each(|cooldown| cooldown.hold.permits.limit = limit);
    }

    /// Whether the hold of this fence is all there is.
    pub(crate) fn is_alone(&self, fence: Fence) -> bool {
        matches!(self.holds(), [only] if only.fence == fence) && self.cooldowns().is_empty()
    }

    /// The hold that this fence names, to be changed in place.
    pub(crate) fn hold_with_mut(&mut self, fence: Fence) -> Option<&mut Hold> {
        self.holds_mut().iter_mut().rev().find(|hold| hold.fence == fence)
    }

    /// Puts the hold in as it is, in place of the owner's earlier one and of all that it cannot stand beside: what a
    /// replica does, which takes what it is told and decides nothing. Returns what had to go.
    pub(crate) fn force(&mut self, hold: Hold) -> Vec<Hold> {
        let mut gone = self.yield_to(hold.permits, Some(&hold.owner));
        // A fence names one hold: what ends it later must find this one and nothing else.
        gone.extend(self.0.take(|other| other.fence == hold.fence && other.owner != hold.owner));
        let same = self.0.take_cooldowns(|cooldown| cooldown.hold.fence == hold.fence);
        gone.extend(same.into_iter().map(|cooldown| cooldown.hold));
        match self.holds_mut().iter_mut().find(|other| other.owner == hold.owner) {
            // In its place: the order of holds is part of what two servers agree on.
            Some(earlier) => gone.push(std::mem::replace(earlier, hold)),
            None => self.0.push(hold),
        }
        gone
    }

    /// Lets permits cool, in place of all that they cannot stand beside. Returns what had to go.
    pub(crate) fn force_cooldown(&mut self, cooldown: Cooldown) -> Vec<Hold> {
        let gone = self.yield_to(cooldown.hold.permits, None);
        self.0.add_cooldown(cooldown);
        gone
    }

    /// Takes out what cannot stand beside these permits, whose owner may have a hold already: everything if limits or permits
    /// do not agree, and the oldest if there are too many.
    fn yield_to(&mut self, permits: Permits, owner: Option<&Owner>) -> Vec<Hold> {
        let others =
            self.holds().iter().filter(|other| Some(&other.owner) != owner).map(|other| other.permits);
        let cooldown = self.cooldowns().iter().map(|cooldown| cooldown.hold.permits);
        let (mut taken, mut count) = (Occupancy::of([permits].into_iter()), 1);
        if !others.chain(cooldown).all(|other| {
            count += 1;
            taken.try_add(other)
        }) {
            let cooldown = self.0.take_cooldowns(|_| true).into_iter().map(|cooldown| cooldown.hold);
            let mut gone: Vec<Hold> = cooldown.collect();
            gone.extend(self.0.take_all());
            return gone;
        }
        if count <= HOLDS_MAX as usize {
            return Vec::new();
        }
        let mut is_oldest = true;
        let oldest =
            self.0.take_cooldowns(|_| std::mem::take(&mut is_oldest)).pop().map(|cooldown| cooldown.hold);
        oldest.or_else(|| self.0.take(|other| Some(&other.owner) != owner)).into_iter().collect()
    }

    /// Ends the hold that this fence names.
    pub(crate) fn end(&mut self, fence: Fence) -> Option<Hold> {
        self.0.take(|hold| hold.fence == fence)
    }

    /// Lets the permits of a hold that has ended cool.
    pub(crate) fn add_cooldown(&mut self, cooldown: Cooldown) {
        self.0.add_cooldown(cooldown);
    }

    /// The cooldown after the hold that this fence names.
    pub(crate) fn cooldown_with(&self, fence: Fence) -> Option<&Cooldown> {
        self.cooldowns().iter().find(|cooldown| cooldown.hold.fence == fence)
    }

    /// Takes out all of those that cool that are chosen.
    pub(crate) fn take_cooldowns(&mut self, chosen: impl FnMut(&Cooldown) -> bool) -> Vec<Cooldown> {
        self.0.take_cooldowns(chosen)
    }

    /// Ends all holds that are chosen.
    pub(crate) fn end_each(&mut self, chosen: impl FnMut(&Hold) -> bool) -> Vec<Hold> {
        self.0.take_each(chosen)
    }
}
