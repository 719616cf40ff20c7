//! The one conflict rule. A lock has a limit, and nothing is granted that would take the permits of all who have some of it
//! past the limit; permits of different limits never go together. Admission, the deadlock search, what operators are shown
//! and what a replica or a file may put in all ask here.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "numbers whose types are below 2³², or that were compared just before"
)]

use super::permits::{Permits, ALL};

/// How much of a lock is taken, and under which limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    permits: u64,
    /// `None` while nothing is taken.
    limit: Option<u32>,
    /// Whether permits of two limits meet. They never do in a lock; in a search they may.
    is_mixed: bool,
}

impl Occupancy {
    /// The occupancy of all these together.
    #[inline]
    pub(crate) fn of(taken: impl Iterator<Item = Permits>) -> Self {
        taken.fold(Self::default(), |mut occupancy, permits| {
            occupancy.add(permits);
            occupancy
        })
    }

    /// Permits that are taken, all together.
    pub(crate) const fn taken(&self) -> u64 {
        self.permits
    }

    /// Whether nothing is taken.
    pub(crate) const fn is_free(&self) -> bool {
        self.taken() == 0
    }

    /// Whether `permits` can be granted beside what is taken.
    #[inline]
    pub(crate) fn fits(&self, permits: Permits) -> bool {
        let same_limit = !self.is_mixed && self.limit.is_none_or(|limit| limit == permits.limit);
        same_limit && self.permits + u64::from(permits.count) <= u64::from(permits.limit)
    }

    /// The same, when `own` of what is taken belongs to the one who asks.
    pub(crate) fn fits_beside_own(&self, permits: Permits, own: u64) -> bool {
        let others = self.permits.saturating_sub(own);
        others == 0 || Self { permits: others, ..*self }.fits(permits)
    }

    /// Whether a hold with `permits` can lie in one lock with the others, however it came there: a limit that was lowered
    /// leaves more taken than there is now.
    pub(crate) fn can_lie_beside(&self, permits: Permits) -> bool {
        let same_limit = !self.is_mixed && self.limit.is_none_or(|limit| limit == permits.limit);
        let taken = self.permits + u64::from(permits.count);
        same_limit && permits.can_be_held() && (permits.limit < ALL || taken <= u64::from(ALL))
    }

    /// Takes `permits`, whether they fit or not.
    #[inline]
    pub(crate) fn add(&mut self, permits: Permits) {
        self.is_mixed |= self.limit.is_some_and(|limit| limit != permits.limit);
        self.limit = Some(permits.limit);
        self.permits += u64::from(permits.count);
    }

    /// Takes `permits` if a lock can hold them beside the others. Returns whether it can.
    pub(crate) fn try_add(&mut self, permits: Permits) -> bool {
        let can = self.can_lie_beside(permits);
        if can {
            self.add(permits);
        }
        can
    }

    /// Gives so many permits back. When all are, the lock has no limit any more.
    pub(crate) fn give_back(&mut self, permits: u64) {
        self.permits = self.permits.saturating_sub(permits);
        if self.permits == 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn semaphore(limit: u32, count: u32) -> Permits {
        Permits { limit, count }
    }

    #[test]
    fn nothing_fits_beside_an_exclusive_hold_and_shared_ones_fit_together() {
        let mut occupancy = Occupancy::default();
        assert!(occupancy.fits(Permits::EXCLUSIVE) && occupancy.fits(semaphore(2, 2)));
        occupancy.add(Permits::SHARED);
        assert!(occupancy.fits(Permits::SHARED) && !occupancy.fits(Permits::EXCLUSIVE));
        assert!(!occupancy.fits(semaphore(5, 1)), "another limit");
        assert!(occupancy.fits_beside_own(Permits::EXCLUSIVE, 1), "an upgrade of the only reader");
        occupancy.give_back(1);
        assert!(occupancy.is_free() && occupancy.fits(semaphore(5, 1)), "of no kind any more");
        occupancy.add(Permits::EXCLUSIVE);
        assert!(!occupancy.fits(Permits::SHARED) && !occupancy.can_lie_beside(Permits::SHARED));
    }

    #[test]
    fn a_lowered_limit_leaves_more_taken_than_there_is() {
        let mut occupancy = Occupancy::of([semaphore(2, 2)].into_iter());
        assert!(!occupancy.fits(semaphore(2, 1)));
        assert!(occupancy.try_add(semaphore(2, 1)), "it was granted under a higher limit");
        assert!(!occupancy.try_add(semaphore(3, 1)), "another limit");
        occupancy.add(semaphore(3, 1));
        assert!(!occupancy.fits(semaphore(9, 1)), "permits of two limits");
    }
}
