//! What a hold leaves behind when the lock may not be granted again at once. Its permits stay taken, in the one rule that
//! serves every mode, and nobody has them.

use super::hold::Mark;
use super::ledger::End;
use super::turn::Effect;
use super::{Hold, Lease, Moment, Turn};

/// Why a lock is in cooldown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its last owner asked for that.
    MinHold,
    /// The hold ended in a way that its owner may not know of.
    LockDelay,
}

impl Why {
    /// The word for it in replies.
    pub const fn word(self) -> &'static str {
        match self {
            Self::MinHold => "min-hold",
            Self::LockDelay => "lock-delay",
        }
    }

    /// The number for it in files and in the stream.
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::MinHold => 0,
            Self::LockDelay => 1,
        }
    }

    /// The inverse of [`Why::to_wire`].
    pub fn from_wire(n: i64) -> Option<Self> {
        [Self::MinHold, Self::LockDelay].into_iter().find(|why| i64::from(why.to_wire()) == n)
    }
}

/// Permits that nobody has yet and nobody gets.
#[derive(Debug)]
pub struct Cooling {
    /// The hold as it was; its deadline is where the cooldown ends, its lease how long that was from the start.
    pub hold: Hold,
    pub why: Why,
}

impl Cooling {
    /// What is left of a hold that ended at `now`, with a delay of so many ms after ends that its owner did not want;
    /// nothing if the lock can be granted at once.
    pub fn after(hold: Hold, how: End, now: Moment, delay_ms: u64) -> Option<Self> {
        let floor = hold.bounds().map_or(Moment::LONG_AGO, |bounds| bounds.floor);
        let delayed = if how.is_abnormal() { now.plus_ms(delay_ms) } else { Moment::LONG_AGO };
        let (until, why) = if delayed > floor { (delayed, Why::LockDelay) } else { (floor, Why::MinHold) };
        let has_cooldown = until > now && (how == End::Released || how.is_abnormal());
        let cooldown = Lease::ms(until.ms_after(now));
        has_cooldown.then(|| Self {
            hold: Hold { lease: cooldown, deadline: until, extra: None, mark: Mark::NONE, ..hold },
            why,
        })
    }
}

impl Turn<'_> {
    /// Keeps the permits of a hold that has just ended for its cooldown, if it has one.
    pub(super) fn cool_after(&mut self, hold: Hold, how: End) {
        let now = self.clock.now;
        if let Some(mut cooling) = Cooling::after(hold, how, now, self.memory.lock_delay_ms) {
            self.memory.index(self.db, self.key, &mut cooling.hold);
            self.lock.cool(cooling);
        }
    }

    /// Ends cooldowns, as far as it is chosen; how many. Serve after it.
    pub(super) fn end_cooling(&mut self, mut chosen: impl FnMut(&Hold) -> bool) -> usize {
        let over = self.lock.take_cooling(|cooling| chosen(&cooling.hold));
        for Cooling { hold, .. } in &over {
            self.memory.unindex(self.db, self.key, hold);
            self.effects.push(Effect::Ended { fence: hold.fence, how: End::Cooled });
        }
        over.len()
    }
}
