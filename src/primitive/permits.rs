//! The permits that a request wants of a lock. One rule serves every mode: a lock has a limit, a hold takes permits,
//! and nothing is granted that would take the permits of all holds together past the limit.
//!
//! - exclusive: all permits of an unlimited lock, so nothing fits beside it;
//! - shared: one permit of an unlimited lock, so any number fits, but not beside an exclusive hold;
//! - a semaphore: `k` permits of a lock limited to `n`.

use crate::limits::PERMITS_MAX;

/// The number of permits that stands for "all": the limit of a lock that is not a semaphore.
pub(crate) const ALL: u32 = u32::MAX;

/// Permits asked for, and the limit that the asker believes the lock to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permits {
    /// The lock's limit.
    pub limit: u32,
    /// The permits wanted, 1 to `limit`.
    pub count: u32,
}

impl Permits {
    /// Nothing beside it.
    pub(crate) const EXCLUSIVE: Self = Self { limit: ALL, count: ALL };
    /// Others like it beside it.
    pub(crate) const SHARED: Self = Self { limit: ALL, count: 1 };

    /// The permits with these numbers, unless it could never be granted.
    pub(crate) fn new(limit: u32, count: u32) -> Option<Self> {
        (1..=limit).contains(&count).then_some(Self { limit, count })
    }

    /// The same for a hold. Returns `None` unless it can be held.
    pub(crate) fn held(limit: u32, count: u32) -> Option<Self> {
        Some(Self { limit, count }).filter(|permits| permits.can_be_held())
    }

    /// Whether a hold can have it: the permits are there, or were before the semaphore's limit was lowered.
    pub(crate) fn can_be_held(self) -> bool {
        let most = if self.limit == ALL { ALL } else { PERMITS_MAX };
        (1..=most).contains(&self.count) && (self.limit == ALL || (1..=PERMITS_MAX).contains(&self.limit))
    }

    /// Whether holds of these permits can have been in one lock at one time, whatever limit it had.
    pub(crate) fn can_share(self, other: Self) -> bool {
        match (self.limit == ALL, other.limit == ALL) {
            (true, true) => self == Self::SHARED && other == Self::SHARED,
            (false, false) => true,
            _ => false,
        }
    }

    /// Limit and permits as people read them: an exclusive lock is 1 of 1, and a shared one 1 without limit (-1).
    pub(crate) fn shown(self) -> (i64, i64) {
        match self {
            Self { limit: ALL, count: ALL } => (1, 1),
            Self { limit: ALL, count } => (-1, i64::from(count)),
            Self { limit, count } => (i64::from(limit), i64::from(count)),
        }
    }

    /// The word for it in replies.
    pub(crate) const fn mode(self) -> &'static str {
        match self {
            Self { limit: ALL, count: ALL } => "exclusive",
            Self { limit: ALL, .. } => "shared",
            _ => "semaphore",
        }
    }
}
