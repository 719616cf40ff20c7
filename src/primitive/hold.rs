//! One owner's grant.

use super::claim::Claim;
use super::deadlines::Slot;
use super::{Fence, Lease, Moment, Owner};

/// A text for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(Box<[u8]>);

impl Note {
    /// The text, unless it is empty.
    pub fn new(text: &[u8]) -> Option<Box<Self>> {
        (!text.is_empty()).then(|| Box::new(Self(text.into())))
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

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
    /// Text for operators. Few holds have one, so it costs the others no more than a pointer.
    pub note: Option<Box<Note>>,
    /// How much of the lock this hold takes.
    pub claim: Claim,
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

    /// The note's bytes; empty when there is none.
    pub fn note(&self) -> &[u8] {
        self.note.as_ref().map_or(&[], |note| &note.0)
    }
}
