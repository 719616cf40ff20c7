//! One owner's grant.

use super::claim::Claim;
use super::deadlines::Slot;
use super::{Fence, Lease, Moment, Owner};

/// One owner's grant on one lock.
#[derive(Debug)]
pub struct Hold {
    pub owner: Owner,
    /// Made for this hold alone: it names the hold, whatever happens to the key meanwhile.
    pub fence: Fence,
    /// How long the hold was asked to last, counted from the grant or from the last renewal.
    pub lease: Lease,
    /// Where the hold is over, whether anyone has noticed or not.
    pub deadline: Moment,
    /// Text for operators; empty when there is none.
    pub note: Option<Box<[u8]>>,
    /// How much of the lock's limit this hold takes.
    pub permits: u32,
    /// Where the lease index keeps this hold; a hint.
    pub slot: Slot,
}

impl Hold {
    /// Whether the hold still stands at `now`. At its deadline a hold is over.
    pub fn is_live(&self, now: Moment) -> bool {
        now < self.deadline
    }

    /// What is left at `now` on the wire: ms rounded up, -1 without expiry, 0 when over.
    pub fn left(&self, now: Moment) -> i64 {
        super::time::left_to_wire(self.deadline, now)
    }

    /// The claim that made this hold, on a lock limited to `limit`.
    pub const fn claim(&self, limit: u32) -> Claim {
        Claim { limit, permits: self.permits }
    }

    /// The note's bytes; empty when there is none.
    pub fn note(&self) -> &[u8] {
        self.note.as_deref().unwrap_or_default()
    }
}
