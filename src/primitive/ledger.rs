//! What became of holds that ended without a release, so that a late holder can be told instead of guessing.
//! Bounded, in memory, and only ever for a reply to read.

use std::collections::VecDeque;

use super::{Fence, Moment, Owner};
use crate::limits::KEY_BYTES_MAX;

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its owner released it.
    Released,
    /// Its lease ran out.
    Expired,
    /// It had lasted as long as it was ever to last.
    Capped,
    /// The connection that it was tied to was gone, and the grace after it over.
    Closed,
    /// It was given to a ticket, and nobody claimed it.
    Unclaimed,
    /// The key was deleted, overwritten or moved from outside.
    Vanished,
    /// It was handed to a client that was gone before it could know.
    Undone,
    /// An operator ended it.
    Broken,
    /// An operator gave the lock to another owner.
    Stolen,
    /// Its owner handed it over.
    Transferred,
    /// It had ended before, and its permits have cooled since.
    Cooled,
}

impl End {
    /// The word for it in replies.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Capped => "max-hold",
            Self::Closed => "connection-closed",
            Self::Unclaimed => "unclaimed",
            Self::Vanished => "deleted",
            Self::Undone => "undone",
            Self::Broken => "broken",
            Self::Stolen => "stolen",
            Self::Transferred => "transferred",
            Self::Cooled => "cooled",
        }
    }

    /// Whether the owner may still believe that it has the lock.
    pub const fn is_abnormal(self) -> bool {
        matches!(self, Self::Expired | Self::Capped | Self::Closed | Self::Broken)
    }
}

/// One lost hold.
#[derive(Debug)]
pub struct Loss {
    db: i32,
    key: Box<[u8]>,
    owner: Owner,
    /// The hold's fence.
    pub fence: Fence,
    pub how: End,
    pub at: Moment,
}

/// The newest losses, as many as `capacity`.
#[derive(Debug, Default)]
pub struct Ledger {
    losses: VecDeque<Loss>,
    capacity: usize,
}

impl Ledger {
    /// Changes how many losses are kept; the oldest go first.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        while self.losses.len() > capacity {
            self.losses.pop_front();
        }
    }

    /// Remembers how a hold was lost, unless the lock was renamed to something longer than any that can be asked for:
    /// names that only the keyspace bounds must not outlive their keys here.
    pub fn record(&mut self, db: i32, key: &[u8], owner: &Owner, fence: Fence, how: End, at: Moment) {
        if self.capacity == 0 || key.len() > KEY_BYTES_MAX {
            return;
        }
        while self.losses.len() >= self.capacity {
            self.losses.pop_front();
        }
        self.losses.push_back(Loss { db, key: key.into(), owner: owner.clone(), fence, how, at });
    }

    /// The newest loss of this owner on this lock; with a fence, of that hold.
    pub fn find(&self, db: i32, key: &[u8], owner: &[u8], fence: Option<Fence>) -> Option<&Loss> {
        self.losses.iter().rev().find(|loss| {
            loss.db == db
                && *loss.key == *key
                && loss.owner.as_bytes() == owner
                && fence.is_none_or(|fence| fence == loss.fence)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(n: u64) -> Fence {
        Fence::new(n).unwrap()
    }

    #[test]
    fn keeps_the_newest() {
        let owner = Owner::new(b"o").unwrap();
        let mut ledger = Ledger::default();
        ledger.set_capacity(2);
        for n in 1..=3 {
            ledger.record(0, b"k", &owner, fence(n), End::Expired, Moment(n));
        }
        assert!(ledger.find(0, b"k", b"o", Some(fence(1))).is_none());
        assert_eq!(ledger.find(0, b"k", b"o", None).map(|loss| loss.fence), Some(fence(3)));
        ledger.record(0, &[b'k'; KEY_BYTES_MAX], &owner, fence(4), End::Vanished, Moment(4));
        assert!(ledger.find(0, &[b'k'; KEY_BYTES_MAX], b"o", None).is_some());
        ledger.record(0, &[b'k'; KEY_BYTES_MAX + 1], &owner, fence(5), End::Vanished, Moment(5));
        assert!(ledger.find(0, &[b'k'; KEY_BYTES_MAX + 1], b"o", None).is_none());
        ledger.set_capacity(0);
        ledger.record(0, b"k", &owner, fence(4), End::Expired, Moment(4));
        assert!(ledger.find(0, b"k", b"o", None).is_none());
    }
}
