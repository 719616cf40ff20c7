//! The ways in which holds ended, so that a late holder is told instead of left to guess, and a request that is sent
//! twice is answered twice. Bounded, in memory, and only ever for a reply to read.
//!
//! Names are not kept, only a number made of them that no client can foresee: so all entries have one size, and nothing
//! is left here of the names of keys. Two names get the same number once in 2⁶⁴ cases.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use std::collections::BTreeMap;

use super::recent::Recent;
use super::table::hash_of;
use super::{Fence, Moment};

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoldEnd {
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
    /// After a failover its lock turned out to have been granted since.
    Displaced,
    /// It had ended before, and its permits have cooled since.
    Cooled,
}

impl HoldEnd {
    /// The word for it in replies.
    pub(crate) const fn word(self) -> &'static str {
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
            Self::Displaced => "displaced",
            Self::Cooled => "cooled",
        }
    }

    /// Whether the owner may still believe that it has the lock.
    pub(crate) const fn is_abnormal(self) -> bool {
        matches!(self, Self::Expired | Self::Capped | Self::Closed | Self::Broken)
    }
}

/// A hold that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The hold's fence.
    pub fence: Fence,
    pub how: HoldEnd,
    pub at: Moment,
}

/// Whose hold on what.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Named<'a> {
    pub db: i32,
    pub key: &'a [u8],
    pub owner: &'a [u8],
}

/// A request about a hold that its owner named by the fence.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Deed<'a> {
    /// To end it.
    Release,
    /// To let its owner out under this id, who was still in under others.
    Exit(&'a [u8]),
    /// To hand it over to this owner.
    Transfer(&'a [u8]),
    /// To make it exclusive, which gives it another fence.
    Upgrade,
}

/// The result of a request that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// The fence of the hold that is there by it; of a hold that is gone, its own.
    pub fence: Fence,
    pub at: Moment,
}

/// The newest ends, and the newest requests that named a hold by its fence.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// How holds were lost, each under its owner's name and under its fence too. Under a name that is known, also how the
    /// newest hold was released.
    ends: Recent<Ended>,
    done: Recent<Done>,
    /// When all data of a database went together last, or of all databases.
    flushed: BTreeMap<Option<i32>, Moment>,
    capacity: usize,
}

impl Ledger {
    /// Changes how many losses are kept, and how many requests; the oldest go first.
    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.ends.trim(capacity * 2);
        self.done.trim(capacity);
    }

    /// The bytes of the server's memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.ends.bytes() + self.done.bytes()
    }

    /// Sees that it takes no more memory than this; the oldest go first.
    pub(crate) fn fit(&mut self, bytes: usize) {
        if self.bytes() > bytes {
            self.done.fit(bytes / 3);
            self.ends.fit(bytes - self.done.bytes());
        }
    }

    /// Remembers how a hold was lost.
    pub(crate) fn record(&mut self, of: Named, ended: Ended) {
        let (name, fence) = (hash_of(&of), hash_of(&(of, ended.fence)));
        self.ends.put(fence, ended, self.capacity * 2);
        self.ends.put(name, ended, self.capacity * 2);
    }

    /// A hold was given back by its owner. All that is known of this owner on this lock is of an earlier hold.
    #[inline]
    pub(crate) fn supersede(&mut self, of: Named, fence: Fence, at: Moment) {
        if !self.ends.is_empty() {
            self.supersede_known(of, Ended { fence, how: HoldEnd::Released, at });
        }
    }

    fn supersede_known(&mut self, of: Named, released: Ended) {
        let name = hash_of(&of);
        match self.ends.get_mut(name) {
            None => {}
            // In its place: who releases again and again must not push out what others have lost.
            Some(newest) if newest.how == HoldEnd::Released => *newest = released,
            Some(_) => self.ends.put(name, released, self.capacity * 2),
        }
    }

    /// How the newest hold of this owner on this lock ended; with a fence, how that hold did.
    pub(crate) fn find(&self, of: Named, fence: Option<Fence>) -> Option<Ended> {
        let newest = self.ends.get(hash_of(&of)).copied();
        let Some(fence) = fence else {
            let flushed = self.flushed.get(&None).max(self.flushed.get(&Some(of.db)));
            return newest.filter(|newest| flushed.is_none_or(|flushed| newest.at > *flushed));
        };
        let lost = self.ends.get(hash_of(&(of, fence))).copied();
        let released = self.done(of, fence, Deed::Release);
        let released = released.map(|done| Ended { fence, how: HoldEnd::Released, at: done.at });
        let newest = newest.filter(|newest| newest.fence == fence);
        // A hold can end twice: RESTORE brings it back.
        [lost, released, newest].into_iter().flatten().max_by_key(|ended| ended.at)
    }

    /// Remembers what was done at the request of an owner who named the hold by this fence.
    pub(crate) fn remember(&mut self, of: Named, fence: Fence, deed: Deed, done: Done) {
        self.done.put(hash_of(&(of, fence, deed)), done, self.capacity);
    }

    /// The result of this request when it was made before.
    pub(crate) fn done(&self, of: Named, fence: Fence, deed: Deed) -> Option<Done> {
        self.done.get(hash_of(&(of, fence, deed))).copied()
    }

    /// All data of a database have gone, or of all databases. Of the holds that went with them nothing is known, and what
    /// is known of an owner is of an earlier one.
    pub(crate) fn flush(&mut self, db: Option<i32>, at: Moment) {
        self.flushed.insert(db, at);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self { capacity: self.capacity, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: Named = Named { db: 0, key: b"k", owner: b"o" };

    fn fence(n: u64) -> Fence {
        Fence::new(n).unwrap()
    }

    fn ended(n: u64, how: HoldEnd) -> Ended {
        Ended { fence: fence(n), how, at: Moment(n) }
    }

    fn ledger(capacity: usize) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.set_capacity(capacity);
        ledger
    }

    #[test]
    fn keeps_the_newest() {
        let mut ledger = ledger(2);
        for n in 1..=3 {
            ledger.record(K, ended(n, HoldEnd::Expired));
        }
        assert_eq!(ledger.find(K, Some(fence(1))), None);
        assert_eq!(ledger.find(K, Some(fence(2))), Some(ended(2, HoldEnd::Expired)));
        assert_eq!(ledger.find(K, None), Some(ended(3, HoldEnd::Expired)));
        for other in [Named { db: 1, ..K }, Named { key: b"ko", ..K }, Named { key: b"", owner: b"ko", ..K }]
        {
            assert_eq!(ledger.find(other, None), None, "{other:?}");
        }
        ledger.set_capacity(0);
        ledger.record(K, ended(4, HoldEnd::Expired));
        assert_eq!(ledger.find(K, None), None);
    }

    #[test]
    fn a_release_supersedes_what_is_known_and_pushes_nothing_out() {
        let mut ledger = ledger(3);
        ledger.supersede(K, fence(1), Moment(1));
        assert_eq!(ledger.find(K, None), None, "of whom nothing is known nothing is kept");
        let other = Named { owner: b"p", ..K };
        ledger.record(other, ended(2, HoldEnd::Broken));
        ledger.record(K, ended(3, HoldEnd::Expired));
        for n in 4..100 {
            ledger.supersede(K, fence(n), Moment(n));
            assert_eq!(ledger.find(K, None), Some(ended(n, HoldEnd::Released)));
            assert_eq!(ledger.find(K, Some(fence(n))), Some(ended(n, HoldEnd::Released)));
        }
        assert_eq!(
            ledger.find(K, Some(fence(3))),
            Some(ended(3, HoldEnd::Expired)),
            "of that hold it is true"
        );
        assert_eq!(ledger.find(other, None), Some(ended(2, HoldEnd::Broken)));
        ledger.record(K, ended(100, HoldEnd::Stolen));
        assert_eq!(ledger.find(K, None), Some(ended(100, HoldEnd::Stolen)));
    }

    #[test]
    fn what_is_older_than_a_flush_is_of_an_earlier_hold() {
        for (flushed, known) in [(None, [false; 2]), (Some(0), [false, true])] {
            let mut ledger = ledger(9);
            let others = Named { db: 1, ..K };
            [K, others].into_iter().for_each(|of| ledger.record(of, ended(1, HoldEnd::Transferred)));
            ledger.flush(flushed, Moment(1));
            assert_eq!([K, others].map(|of| ledger.find(of, None).is_some()), known);
            assert_eq!(
                ledger.find(K, Some(fence(1))),
                Some(ended(1, HoldEnd::Transferred)),
                "of that hold it is true"
            );
            ledger.record(K, ended(2, HoldEnd::Expired));
            assert_eq!(ledger.find(K, None), Some(ended(2, HoldEnd::Expired)));
        }
    }

    #[test]
    fn requests_are_kept_apart_from_losses() {
        let mut ledger = ledger(2);
        ledger.record(K, ended(1, HoldEnd::Expired));
        for n in 2..10 {
            ledger.remember(K, fence(n), Deed::Release, Done { fence: fence(n), at: Moment(n) });
        }
        assert_eq!(ledger.find(K, Some(fence(1))), Some(ended(1, HoldEnd::Expired)));
        assert_eq!([7, 8, 9].map(|n| ledger.done(K, fence(n), Deed::Release).is_some()), [false, true, true]);
        assert_eq!(ledger.find(K, Some(fence(9))), Some(ended(9, HoldEnd::Released)));
        for other in [Deed::Exit(b""), Deed::Transfer(b""), Deed::Upgrade] {
            assert_eq!(ledger.done(K, fence(9), other), None);
        }
    }
}
