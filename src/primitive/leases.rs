//! The index of holds: when to look at which, and which locks there are. Every entry is a hint: whoever gets one opens the key
//! and compares. A hold without expiry is in it too, and never due.
//!
//! Each database has an index of its own, so that swapping two databases, or emptying one, is one step.

#![expect(clippy::arithmetic_side_effects, reason = "sizes of what is in memory")]

use super::broken::broken;
use super::deadlines::{Deadlines, Slot};
use super::roll::{self, Link, Links, Roll};
use super::short::Short;
use super::table::hash_of;
use super::{Fence, Hold, Moment};

/// The name of a lock, in place where it is of ordinary length.
type Name = Short<22>;

/// Where to look when a lease is due.
#[derive(Debug)]
pub(crate) struct LeaseRef {
    pub key: Name,
    pub fence: Fence,
    link: Link,
}

impl Links for Deadlines<LeaseRef> {
    fn link(&self, slot: Slot) -> Option<Link> {
        self.get(slot).map(|lease| lease.link)
    }

    fn link_mut(&mut self, slot: Slot) -> Option<&mut Link> {
        self.get_mut(slot).map(|lease| &mut lease.link)
    }
}

/// The holds of one database.
#[derive(Default)]
struct Index {
    wheel: Deadlines<LeaseRef>,
    roll: Roll,
    /// The bytes of the names that are too long for their entries.
    name_bytes: usize,
}

impl Index {
    #[inline]
    fn insert(&mut self, at: Moment, key: &[u8], fence: Fence) -> Slot {
        self.name_bytes += Name::heap_bytes(key.len());
        self.roll.add(place_of(key), &mut self.wheel, |wheel, link| {
            wheel.insert(at, LeaseRef { key: Name::new(key), fence, link })
        })
    }

    #[inline]
    fn remove(&mut self, slot: Slot) -> Option<LeaseRef> {
        let Some(lease) = self.wheel.remove(slot) else {
            broken("a lease that is known, or due, is gone");
            return None;
        };
        self.roll.forget(lease.link, &mut self.wheel);
        self.name_bytes -= Name::heap_bytes(lease.key.len());
        Some(lease)
    }
}

/// The bytes that the index takes for one hold of a lock with a name of this length.
pub(crate) const fn hold_bytes(name_len: usize) -> usize {
    Deadlines::<LeaseRef>::ENTRY_BYTES + size_of::<u32>() + Name::heap_bytes(name_len)
}

/// Where a lock has its place in the order of the roll.
pub(crate) fn place_of(key: &[u8]) -> u32 {
    (hash_of(key) >> 32) as u32
}

/// The state of a hold's entry in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// No entry.
    Missing,
    /// An entry that comes up in time.
    InPlace,
    /// An entry that had to be moved for that.
    Moved,
}

/// All holds of the server.
#[derive(Default)]
pub(crate) struct Leases {
    /// By database. Few servers use more than one, so a search from the front beats a table.
    indexes: Vec<(i32, Index)>,
}

impl Leases {
    /// How many holds there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.indexes.iter().map(|(_, index)| index.wheel.len()).sum()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.indexes.iter().all(|(_, index)| index.wheel.len() == 0)
    }

    /// How many of them have a lease that ends.
    pub(crate) fn ending(&self) -> usize {
        self.indexes.iter().map(|(_, index)| index.wheel.len() - index.wheel.undue()).sum()
    }

    /// The bytes of the server's memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |index: &Index| index.wheel.bytes() + index.roll.bytes() + index.name_bytes;
        self.indexes.iter().map(|(_, index)| bytes(index)).sum()
    }

    /// Notes when this hold is due.
    pub(crate) fn insert(&mut self, db: i32, key: &[u8], hold: &mut Hold) {
        self.insert_at(db, key, hold, hold.deadline);
    }

    /// Notes to look at this hold at another moment than its deadline.
    #[inline]
    pub(crate) fn insert_at(&mut self, db: i32, key: &[u8], hold: &mut Hold, at: Moment) {
        let place = self.indexes.iter().position(|(its_db, _)| *its_db == db);
        let place = place.unwrap_or_else(|| self.add_index(db));
        if let Some((_, index)) = self.indexes.get_mut(place) {
            hold.mark = hold.mark.at(index.insert(at, key, hold.fence));
        }
    }

    #[cold]
    fn add_index(&mut self, db: i32) -> usize {
        self.indexes.push((db, Index::default()));
        self.indexes.len() - 1
    }

    /// Forgets this hold.
    pub(crate) fn remove(&mut self, db: i32, hold: &Hold) {
        if let Some(index) = self.index_mut(db).filter(|index| knows(index, hold)) {
            index.remove(hold.mark.slot());
        }
    }

    /// Whether there is an entry for this hold.
    pub(crate) fn has(&self, db: i32, hold: &Hold) -> bool {
        self.index(db).is_some_and(|index| knows(index, hold))
    }

    /// Sees that the entry of this hold comes up no later than at `by`. Returns whether it had to move.
    pub(crate) fn move_earlier(&mut self, db: i32, hold: &Hold, by: Moment) -> bool {
        debug_assert!(self.has(db, hold), "an entry that is to come up earlier");
        let late = |index: &&mut Index| !index.wheel.covers(hold.mark.slot(), by);
        self.index_mut(db).filter(late).map(|index| index.wheel.reschedule(hold.mark.slot(), by)).is_some()
    }

    /// Sees that the entry of this hold comes up no later than at its deadline.
    pub(crate) fn keep(&mut self, db: i32, hold: &Hold) -> Kept {
        let Some(index) = self.index_mut(db) else { return Kept::Missing };
        let slot = hold.mark.slot();
        if !knows(index, hold) {
            Kept::Missing
        } else if index.wheel.covers(slot, hold.deadline) {
            Kept::InPlace
        } else {
            index.wheel.reschedule(slot, hold.deadline);
            Kept::Moved
        }
    }

    /// Takes out one entry that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<(i32, LeaseRef)> {
        self.indexes.iter_mut().find_map(|(db, index)| {
            let slot = index.wheel.due(now)?;
            index.remove(slot).map(|lease| (*db, lease))
        })
    }

    /// When to call [`Leases::pop_due`] next: never later than the first deadline, perhaps somewhat earlier.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.indexes.iter().filter_map(|(_, index)| index.wheel.next_deadline()).min()
    }

    /// Passes the locks of a database that are held and whose places are not before `from`, for a small stretch of places.
    /// Returns where the next stretch begins: [`roll::END`] after the last.
    pub(crate) fn pass<'a>(&'a self, db: i32, from: u64, mut visit: impl FnMut(u32, &'a [u8])) -> u64 {
        let Some(index) = self.index(db) else { return roll::END };
        index.roll.pass(from, &index.wheel, |slot| {
            if let Some(lease) = index.wheel.get(slot) {
                visit(lease.link.hash, &lease.key);
            } else {
                broken("the roll passes a lease that is gone");
            }
        })
    }

    /// Two databases have changed places.
    pub(crate) fn swap(&mut self, first: i32, second: i32) {
        for (db, _) in &mut self.indexes {
            *db = match *db {
                db if db == first => second,
                db if db == second => first,
                db => db,
            };
        }
    }

    /// One database has been emptied, or all. The memory of its entries is given back bit by bit, with each step of the
    /// iterator.
    pub(crate) fn clear(&mut self, db: Option<i32>) -> impl Iterator<Item = ()> + use<> {
        let indexes = std::mem::take(&mut self.indexes).into_iter();
        let (gone, kept) = indexes.partition(|(its_db, _)| db.is_none_or(|db| db == *its_db));
        self.indexes = kept;
        let gone: Vec<(i32, Index)> = gone;
        gone.into_iter().flat_map(|(_, index)| index.wheel.into_blocks())
    }

    /// The names of all locks, in no order, one for each hold.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.indexes.iter().flat_map(|(_, index)| index.wheel.values().map(|lease| &*lease.key))
    }

    fn index(&self, db: i32) -> Option<&Index> {
        self.indexes.iter().find(|(its_db, _)| *its_db == db).map(|(_, index)| index)
    }

    fn index_mut(&mut self, db: i32) -> Option<&mut Index> {
        self.indexes.iter_mut().find(|(its_db, _)| *its_db == db).map(|(_, index)| index)
    }
}

fn knows(index: &Index, hold: &Hold) -> bool {
    index.wheel.get(hold.mark.slot()).is_some_and(|entry| entry.fence == hold.fence)
}
