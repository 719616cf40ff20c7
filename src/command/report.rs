//! The part that WITHINFO adds to a reply: not only whether, but why.

use super::recovery;
use crate::error::LockError;
use crate::primitive::effect::WaitEnd;
use crate::primitive::ledger::{Ended, Named};
use crate::primitive::recovery::LostHold;
use crate::primitive::{Fence, Hold, Lock, LockManager, Moment, Owner, Step};

/// The fields beside the result. Few ask for them, so those who pass them on keep them in a box.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub fence: Option<Fence>,
    /// The time left of the owner's hold, or of the lock's cooldown: ms, or -1 without expiry.
    pub lease_ms: Option<i64>,
    /// One word.
    pub reason: &'static str,
    /// How long ago the owner's hold ended.
    pub ago_ms: Option<u64>,
    /// The holder of the lock now, when it is not the owner.
    pub holder: Option<Owner>,
    /// The time left of that hold: ms, or -1 without expiry.
    pub holder_ms: Option<i64>,
    /// How many come before the owner in line, as far as they are counted.
    pub ahead: Option<usize>,
}

impl Report {
    /// The owner has the lock.
    pub(crate) fn held(hold: &Hold, reason: &'static str, now: Moment) -> Self {
        Self { fence: Some(hold.fence), lease_ms: Some(hold.remaining_ms(now)), reason, ..Self::default() }
    }

    /// The owner gave the lock back.
    pub(crate) fn released(fence: Fence) -> Self {
        Self { fence: Some(fence), reason: "released", ..Self::default() }
    }

    /// The owner's hold ended so.
    pub(crate) fn ended(ended: Ended, now: Moment) -> Self {
        let ago_ms = Some(ended.at.ms_until(now));
        Self { fence: Some(ended.fence), reason: ended.how.word(), ago_ms, ..Self::default() }
    }

    /// The owner waited, and does not any more.
    pub(crate) fn cancelled() -> Self {
        Self { reason: "cancelled", ..Self::default() }
    }

    /// Somebody else has the lock, or it has as many holds as there can be, or it is in cooldown, or somebody comes first.
    pub(crate) fn busy(place: Location, lock: &Lock, owner: &[u8]) -> Self {
        let Location { manager, db, key, now } = place;
        let mut holds = lock.holds().iter();
        let holder = holds.find(|hold| hold.is_live(now) && hold.owner.as_bytes() != owner);
        let cooldown = lock.cooldowns().iter().max_by_key(|cooldown| cooldown.hold.deadline);
        let ahead = Some(manager.waiters.ahead_of(db, key, owner));
        let rest = Self { ahead, ..Self::default() };
        if manager.recovery.is_open() {
            let lease_ms = i64::try_from(recovery::left_ms(manager, now)).ok();
            return Self { lease_ms, reason: "recovering", ..rest.held_by(holder, now) };
        }
        match (holder, cooldown) {
            (None, Some(cooldown)) => {
                Self { lease_ms: Some(cooldown.hold.remaining_ms(now)), reason: cooldown.why.word(), ..rest }
            }
            _ if lock.is_full() => Self { reason: "full", ..rest },
            (None, None) => Self { reason: "queue", ..rest },
            (holder, _) => Self { reason: "held", ..rest.held_by(holder, now) },
        }
    }

    /// The same, and who has the lock.
    fn held_by(self, hold: Option<&Hold>, now: Moment) -> Self {
        let holder_ms = hold.map(|hold| hold.remaining_ms(now));
        Self { holder: hold.map(|hold| hold.owner.clone()), holder_ms, ..self }
    }

    /// The same without what only those may know who have the right to read the lock.
    pub(crate) fn concealed(self) -> Self {
        Self { holder: None, holder_ms: None, ahead: None, ..self }
    }

    /// The owner has a ticket.
    pub(crate) fn queued(place: Location, lock: &Lock, owner: &[u8]) -> Self {
        Self { reason: "queued", ..Self::busy(place, lock, owner) }
    }

    /// A wait ended without a grant.
    pub(crate) fn wait_ended(why: WaitEnd, lock: Option<&Lock>, now: Moment) -> Self {
        let reason = match why {
            WaitEnd::TimedOut => "timeout",
            WaitEnd::Superseded => "superseded",
            WaitEnd::HoldEnded => "hold-ended",
            WaitEnd::Cancelled => "cancelled",
            WaitEnd::Gone | WaitEnd::Failed | WaitEnd::Barred => "ended",
            WaitEnd::PlaceKept => "queued",
            WaitEnd::OverLimit(_) => "limit",
        };
        Self { reason, ..Self::default() }.held_by(live_hold(lock, now), now)
    }

    /// The owner does not hold the lock: what became of its hold, as far as anyone remembers.
    pub(crate) fn not_held(place: Location, lock: Option<&Lock>, owner: &[u8], fence: Option<Fence>) -> Self {
        let Location { manager, db, key, now } = place;
        let hold = lock.and_then(|lock| lock.hold_of(owner));
        let holder = live_hold(lock, now);
        if place.may_come_back(lock, owner, fence) {
            return Self { reason: "recovering", ..Self::default() }.held_by(holder, now);
        }
        if let Some(other) = hold.filter(|hold| hold.is_live(now)) {
            return Self { reason: "other-fence", ..Self::default() }.held_by(Some(other), now);
        }
        if let Some(over) = hold.filter(|over| fence.is_none_or(|fence| fence == over.fence)) {
            // Nobody has ended it yet; on a replica, nobody will before the primary says so.
            let ended = Ended { fence: over.fence, how: over.end_reason(), at: over.deadline };
            return Self::ended(ended, now).held_by(holder, now);
        }
        match manager.ledger.find(Named { db, key, owner }, fence) {
            Some(ended) => Self::ended(ended, now).held_by(holder, now),
            None => Self { reason: "not-held", ..Self::default() }.held_by(holder, now),
        }
    }
}

/// Where and when somebody asks.
#[derive(Clone, Copy)]
pub(crate) struct Location<'a> {
    pub manager: &'a LockManager,
    pub db: i32,
    pub key: &'a [u8],
    pub now: Moment,
}

fn live_hold(lock: Option<&Lock>, now: Moment) -> Option<&Hold> {
    lock?.holds().iter().find(|hold| hold.is_live(now))
}

impl<'a> Location<'a> {
    pub(crate) const fn of(step: &'a Step) -> Self {
        Self { manager: step.manager, db: step.db, key: step.key, now: step.clock.now }
    }

    /// Refuses to do something else than renew to a hold that has to be renewed first.
    pub(crate) fn refuse_if_lost(
        self,
        lock: Option<&Lock>,
        owner: &[u8],
        fence: Option<Fence>,
    ) -> Result<(), LockError> {
        if self.may_come_back(lock, owner, fence) {
            recovery::refuse(self.manager, self.now)?;
        }
        Ok(())
    }

    /// Whether a renewal would bring back a hold that the owner does not have: a failover may have lost it, or the renewal of
    /// one whose lease is over since.
    pub(crate) fn may_come_back(self, lock: Option<&Lock>, owner: &[u8], fence: Option<Fence>) -> bool {
        let Self { manager: LockManager { recovery, .. }, db, key, now } = self;
        if !recovery.is_open() {
            return false;
        }
        let hold = lock.and_then(|lock| lock.hold_of(owner));
        let known = hold.filter(|hold| fence.is_none_or(|fence| fence == hold.fence));
        match (known, fence) {
            (Some(hold), _) => !hold.is_live(now),
            (None, Some(fence)) => {
                let holds = lock.map_or(&[][..], Lock::holds);
                recovery.may_be_lost_in_any_mode(LostHold { db, key, owner, fence }, holds)
            }
            (None, None) => false,
        }
    }
}
