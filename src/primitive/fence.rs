//! Fences: a number that only grows, one sequence for the whole server.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "numbers whose types are below 2³², or that were compared just before"
)]

use std::num::NonZeroU64;

use crate::limits::FENCE_MAX;

/// A fence. A resource that remembers the newest one it has seen can refuse a holder of yesterday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fence(NonZeroU64);

impl Fence {
    /// The smallest.
    pub(crate) const MIN: Self = Self(NonZeroU64::MIN);

    /// The fence with this number, unless it is 0 or too large for clients that keep numbers as doubles.
    pub(crate) fn new(n: u64) -> Option<Self> {
        NonZeroU64::new(n).filter(|n| n.get() <= FENCE_MAX).map(Self)
    }

    /// The number.
    pub(crate) const fn get(self) -> u64 {
        self.0.get()
    }

    /// The number as it stands on the wire.
    pub(crate) fn to_wire(self) -> i64 {
        i64::try_from(self.get()).unwrap_or(i64::MAX)
    }
}

/// The source of fences: `max(last + 1, unix µs)`. The wall clock keeps the sequence growing when the last
/// value is lost with the data; `last` keeps it growing when the wall clock is set back.
#[derive(Debug, Default)]
pub(crate) struct FenceSource {
    last: u64,
}

impl FenceSource {
    /// A fence above all that were made or seen here.
    pub(crate) fn next(&mut self, unix_us: u64) -> Fence {
        self.last = self.last.saturating_add(1).max(unix_us).min(FENCE_MAX);
        Fence(NonZeroU64::MIN.saturating_add(self.last - 1))
    }

    /// Takes note of a fence that came from elsewhere: a replication stream, a file, a RESTORE.
    pub(crate) fn advance_past(&mut self, seen: Fence) {
        self.last = self.last.max(seen.get());
    }

    /// Makes no fence from before this time by the wall clock.
    pub(crate) fn advance_to(&mut self, unix_us: u64) {
        self.last = self.last.max(unix_us.min(FENCE_MAX));
    }

    /// The newest fence made or seen here; 0 when there was none.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }
}

/// Whether a fence that a client brings can be true. It pushes the whole sequence ahead, so it may lie no further than
/// this ahead of the clock: where the clock of the server that made it was wrong, and no more.
pub(crate) const fn is_plausible(fence: Fence, unix_us: u64, ahead_ms: u64) -> bool {
    fence.get() <= unix_us.saturating_add(ahead_ms.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_when_the_wall_clock_goes_back() {
        let mut source = FenceSource::default();
        let first = source.next(5_000);
        let second = source.next(1_000);
        assert_eq!((first.get(), second.get()), (5_000, 5_001));
    }

    #[test]
    fn follows_the_wall_clock_when_the_last_value_is_lost() {
        let mut before = FenceSource::default();
        let old = before.next(5_000);
        let mut after_restart = FenceSource::default();
        assert!(after_restart.next(5_001) > old);
    }

    #[test]
    fn folds_forward_only() {
        let mut source = FenceSource::default();
        source.advance_past(Fence::new(9_000).unwrap());
        source.advance_past(Fence::new(8_000).unwrap());
        assert_eq!(source.next(1).get(), 9_001);
    }

    #[test]
    fn a_fence_is_a_positive_number_that_a_double_can_hold() {
        assert_eq!(Fence::new(0), None);
        assert_eq!(Fence::new(FENCE_MAX).map(Fence::get), Some(FENCE_MAX));
        assert_eq!(Fence::new(FENCE_MAX + 1), None);
    }

    #[test]
    fn a_fence_is_plausible_as_far_ahead_as_the_operator_says() {
        assert!(is_plausible(Fence::new(8_000).unwrap(), 1_000, 7));
        assert!(!is_plausible(Fence::new(8_001).unwrap(), 1_000, 7));
    }
}
