//! How much one step does of what follows from it, over all of its locks together: waiters that it lets in or sends
//! away, leases that have run out, locks that it comes upon. The request itself is done in any case; the rest that
//! would follow goes on in later steps, between the clients.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use crate::limits::{HOLDS_SEEN_AS_ONE, SERVED_PER_STEP};

/// The amount that the step at hand has spent so far.
#[derive(Default)]
pub(crate) struct Allowance {
    spent: usize,
}

impl Allowance {
    /// Counts one waiter, one lock or one hold that has ended, or several.
    #[inline]
    pub(crate) fn spend(&mut self, count: usize) {
        self.spent += count;
    }

    /// Counts a look at all holds of a lock.
    #[inline]
    pub(crate) fn spend_on_look(&mut self, holds: usize) {
        self.spent += holds / HOLDS_SEEN_AS_ONE;
    }

    /// How much is left.
    #[inline]
    pub(crate) const fn left(&self) -> usize {
        SERVED_PER_STEP.saturating_sub(self.spent)
    }

    /// Whether nothing is left.
    #[inline]
    pub(crate) const fn is_spent(&self) -> bool {
        self.left() == 0
    }
}
