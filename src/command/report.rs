//! What WITHINFO adds to a reply: not only whether, but why.

use crate::primitive::ledger::{Ended, Named};
use crate::primitive::turn::Left;
use crate::primitive::{Fence, Hold, Lock, Memory, Moment, Owner};

/// The fields beside the result.
#[derive(Debug, Default)]
pub struct Report {
    pub fence: Option<Fence>,
    /// What is left of the owner's hold, or of the lock's cooldown: ms, or -1 without expiry.
    pub lease_ms: Option<i64>,
    /// One word.
    pub reason: &'static str,
    /// How long ago the owner's hold ended.
    pub ago_ms: Option<u64>,
    /// Who holds the lock now, when it is not the owner.
    pub holder: Option<Owner>,
}

impl Report {
    /// The owner has the lock.
    pub fn held(hold: &Hold, reason: &'static str, now: Moment) -> Self {
        Self { fence: Some(hold.fence), lease_ms: Some(hold.left(now)), reason, ..Self::default() }
    }

    /// The owner gave the lock back.
    pub fn released(fence: Fence) -> Self {
        Self { fence: Some(fence), reason: "released", ..Self::default() }
    }

    /// The owner's hold ended so.
    pub fn ended(ended: Ended, now: Moment) -> Self {
        let ago_ms = Some(ended.at.ms_until(now));
        Self { fence: Some(ended.fence), reason: ended.how.word(), ago_ms, ..Self::default() }
    }

    /// The owner waited, and does not any more.
    pub fn cancelled() -> Self {
        Self { reason: "cancelled", ..Self::default() }
    }

    /// Somebody else has the lock, or it has as many holds as there can be, or it is in cooldown, or somebody comes first.
    pub fn busy(lock: &Lock, owner: &[u8], now: Moment) -> Self {
        let mut holds = lock.holds().iter();
        let holder = holds.find(|hold| hold.is_live(now) && hold.owner.as_bytes() != owner);
        let holder = holder.map(|hold| hold.owner.clone());
        let cooldown = lock.cooling().iter().max_by_key(|cooling| cooling.hold.deadline);
        match (&holder, cooldown) {
            (None, Some(cooling)) => {
                Self { lease_ms: Some(cooling.hold.left(now)), reason: cooling.why.word(), ..Self::default() }
            }
            _ if lock.is_full() => Self { reason: "full", ..Self::default() },
            _ => Self { reason: if holder.is_some() { "held" } else { "queue" }, holder, ..Self::default() },
        }
    }

    /// The owner has a ticket.
    pub fn queued(lock: &Lock, owner: &[u8], now: Moment) -> Self {
        Self { reason: "queued", ..Self::busy(lock, owner, now) }
    }

    /// A wait ended without a grant.
    pub fn left(why: Left, lock: Option<&Lock>, now: Moment) -> Self {
        let reason = match why {
            Left::TimedOut => "timeout",
            Left::Superseded => "superseded",
            Left::HoldEnded => "hold-ended",
            Left::Cancelled => "cancelled",
            Left::Gone | Left::Failed | Left::Barred => "ended",
            Left::PlaceKept => "queued",
            Left::OverLimit(_) => "limit",
        };
        Self { reason, holder: live_holder(lock, now), ..Self::default() }
    }

    /// The owner does not hold the lock: what became of its hold, as far as anyone remembers.
    pub fn not_held(place: Place, lock: Option<&Lock>, owner: &[u8], fence: Option<Fence>) -> Self {
        let Place { memory, db, key, now } = place;
        let hold = lock.and_then(|lock| lock.hold_of(owner));
        if let Some(other) = hold.filter(|hold| hold.is_live(now)) {
            return Self { reason: "other-fence", holder: Some(other.owner.clone()), ..Self::default() };
        }
        let holder = live_holder(lock, now);
        if let Some(over) = hold.filter(|over| fence.is_none_or(|fence| fence == over.fence)) {
            // Nobody has ended it yet; on a replica, nobody will before the primary says so.
            let ended = Ended { fence: over.fence, how: over.how_over(), at: over.deadline };
            return Self { holder, ..Self::ended(ended, now) };
        }
        match memory.ledger.find(Named { db, key, owner }, fence) {
            Some(ended) => Self { holder, ..Self::ended(ended, now) },
            None => Self { reason: "not-held", holder, ..Self::default() },
        }
    }
}

/// Where and when somebody asks.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub memory: &'a Memory,
    pub db: i32,
    pub key: &'a [u8],
    pub now: Moment,
}

fn live_holder(lock: Option<&Lock>, now: Moment) -> Option<Owner> {
    lock?.holds().iter().find(|hold| hold.is_live(now)).map(|hold| hold.owner.clone())
}
