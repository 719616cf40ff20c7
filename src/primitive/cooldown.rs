//! The cooldown that a hold leaves behind when the lock may not be granted again at once. Its permits stay taken, in
//! the one rule that serves every mode, and nobody has them.

use super::hold::Mark;
use super::ledger::HoldEnd;
use super::{Hold, Lease, Moment};

/// Why a lock is in cooldown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CooldownReason {
    /// Its last owner asked for that.
    MinHold,
    /// The hold ended in a way that its owner may not know of.
    LockDelay,
}

impl CooldownReason {
    /// The word for it in replies.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::MinHold => "min-hold",
            Self::LockDelay => "lock-delay",
        }
    }

    /// The number for it in files and in the stream.
    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::MinHold => 0,
            Self::LockDelay => 1,
        }
    }

    /// The inverse of [`CooldownReason::to_wire`].
    pub(crate) fn from_wire(n: i64) -> Option<Self> {
        [Self::MinHold, Self::LockDelay].into_iter().find(|why| i64::from(why.to_wire()) == n)
    }
}

/// Permits that nobody has yet and nobody gets.
#[derive(Debug)]
pub(crate) struct Cooldown {
    /// The hold as it was; its deadline is where the cooldown ends, its lease how long that was from the start.
    pub hold: Hold,
    pub why: CooldownReason,
}

impl Cooldown {
    /// The cooldown of a hold that ended at `now`, with a delay of so many ms after ends that its owner did not want.
    /// Returns `None` if the lock can be granted at once.
    #[inline]
    pub(crate) fn after(hold: Hold, how: HoldEnd, now: Moment, delay_ms: u64) -> Option<Self> {
        if hold.extra.is_none() && !how.is_abnormal() {
            // Nearly every hold, which leaves nothing behind.
            return None;
        }
        let min_end = hold.bounds().map_or(Moment::MIN, |bounds| bounds.min_end);
        let delayed = if how.is_abnormal() { now.plus_ms(delay_ms) } else { Moment::MIN };
        let (until, why) = if delayed > min_end {
            (delayed, CooldownReason::LockDelay)
        } else {
            (min_end, CooldownReason::MinHold)
        };
        let has_cooldown = until > now && (how == HoldEnd::Released || how.is_abnormal());
        let cooldown = Lease::ms(until.ms_after(now));
        has_cooldown.then(|| Self {
            hold: Hold { lease: cooldown, deadline: until, extra: None, mark: Mark::NONE, ..hold },
            why,
        })
    }
}
