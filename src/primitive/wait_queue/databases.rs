//! The tables of each database: the queues by the names of their locks, and all waits of each owner.

#![expect(clippy::arithmetic_side_effects, reason = "sizes of what is in memory")]

use std::collections::BTreeSet;
use std::ops::Bound;
use std::rc::Rc;

use super::{place_of, ByName, LockName, Waiters, Waits};
use crate::primitive::broken::broken;
use crate::primitive::slab::Slot;
use crate::primitive::waiter::WaiterId;

#[derive(Default)]
struct Database {
    queues: ByName<Slot>,
    /// The locks that have one, in the order of the roll: see [`Roll`](crate::primitive::roll). A free lock that is kept for
    /// others has no hold, and is found by its queue alone.
    names: BTreeSet<(u32, Rc<[u8]>)>,
    waits: ByName<Waits>,
}

/// The databases that have had a waiter. Few servers use more than one, so a search from the front beats a table.
#[derive(Default)]
pub(super) struct Databases(Vec<(i32, Database)>);

impl Databases {
    fn get(&self, db: i32) -> Option<&Database> {
        self.0.iter().find(|(known, _)| *known == db).map(|(_, database)| database)
    }

    fn get_mut(&mut self, db: i32) -> Option<&mut Database> {
        self.0.iter_mut().find(|(known, _)| *known == db).map(|(_, database)| database)
    }

    #[expect(clippy::indexing_slicing, reason = "it was found at this place, or put there")]
    fn get_or_default(&mut self, db: i32) -> &mut Database {
        let known = self.0.iter().position(|(known, _)| *known == db);
        let at = known.unwrap_or_else(|| {
            self.0.push((db, Database::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// The place of the queue of this lock.
    pub(super) fn queue(&self, db: i32, key: &[u8]) -> Option<Slot> {
        self.get(db)?.queues.get(key).copied()
    }

    /// Notes where the queue of this lock is.
    pub(super) fn add_queue(&mut self, db: i32, key: &Rc<[u8]>, slot: Slot) {
        let database = self.get_or_default(db);
        database.names.insert((place_of(key), Rc::clone(key)));
        let other = database.queues.insert(Rc::clone(key), slot);
        debug_assert_eq!(other, None, "a lock has one queue");
    }

    /// Forgets the queue of this lock.
    pub(super) fn remove_queue(&mut self, db: i32, key: &Rc<[u8]>) {
        let Some(database) = self.get_mut(db) else { return broken("a database with waiters is unknown") };
        database.names.remove(&(place_of(key), Rc::clone(key)));
        let known = database.queues.remove(key);
        debug_assert!(known.is_some(), "a queue has a name");
    }

    /// Adds a wait of this owner. Returns its name as it stands here, how many waits it has now, and the first of them.
    pub(super) fn add_wait(&mut self, db: i32, owner: &[u8], id: WaiterId) -> (Rc<[u8]>, usize, WaiterId) {
        let (owner, waits) =
            self.get_or_default(db).waits.get_or_make(owner, || (owner.into(), Waits::One(id)));
        waits.add(id);
        (Rc::clone(owner), waits.len(), waits.iter().next().unwrap_or(id))
    }

    /// Forgets a wait of this owner. Returns those that are left: their number, and the first of them.
    pub(super) fn remove_wait(&mut self, db: i32, owner: &[u8], id: WaiterId) -> (usize, Option<WaiterId>) {
        let mut left = (0, None);
        let Some(database) = self.get_mut(db) else {
            broken("a database with waiters is unknown");
            return left;
        };
        let gone = database.waits.remove_if(owner, |waits| {
            let was_last = waits.remove(id);
            if !was_last {
                left = (waits.len(), waits.iter().next());
            }
            was_last
        });
        if gone.is_none() && left.0 == 0 {
            broken("a wait is of no owner");
        }
        left
    }

    /// All waits of this owner.
    #[inline]
    pub(super) fn waits(&self, db: i32, owner: &[u8]) -> Option<&Waits> {
        self.get(db)?.waits.get(owner)
    }

    /// The bytes of the server's memory that the tables take, beside the names and their order.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(_, database)| database.queues.bytes() + database.waits.bytes()).sum()
    }

    /// Gives all of it back bit by bit, with each step of the iterator.
    pub(super) fn into_parts(self) -> impl Iterator<Item = ()> {
        self.0.into_iter().flat_map(|(_, Database { queues, names, waits })| {
            names.into_iter().map(drop).chain(queues.into_iter().map(drop)).chain(waits.into_iter().map(drop))
        })
    }
}

impl Waiters {
    /// The locks of this database that somebody waits for, from a place on.
    pub(crate) fn names_from(&self, db: i32, from: u32) -> impl Iterator<Item = (u32, &[u8])> {
        let names = self.databases.get(db).map(|database| &database.names);
        let names = names.into_iter().flat_map(move |names| names.range((from, Rc::default())..));
        names.map(|(place, name)| (*place, &**name))
    }

    /// As many locks that somebody waits for, after this one, or from the first on; and the one to go on after, unless there
    /// are no more. So a caller that goes on until then has seen each that was waited for all the time.
    pub(crate) fn queues_after(
        &self,
        last: Option<&LockName>,
        count: usize,
    ) -> (Vec<LockName>, Option<LockName>) {
        let known = last.and_then(|(db, _)| self.databases.0.iter().position(|(known, _)| known == db));
        let databases = self.databases.0.iter().skip(known.unwrap_or(0)).enumerate();
        let queues = databases.flat_map(|(n, (db, database))| {
            let last = last.filter(|_| n == 0 && known.is_some());
            let from =
                last.map_or(Bound::Unbounded, |(_, key)| Bound::Excluded((place_of(key), Rc::clone(key))));
            database.names.range((from, Bound::Unbounded)).map(|(_, key)| (*db, Rc::clone(key)))
        });
        let locks: Vec<_> = queues.take(count).collect();
        let last = locks.last().filter(|_| locks.len() == count).cloned();
        (locks, last)
    }
}

#[cfg(any(test, debug_assertions))]
mod check {
    use super::{place_of, Databases, Rc, Slot, WaiterId, Waits};

    impl Databases {
        /// The places of all queues. Panics if a database has two lists of them that differ.
        pub(in super::super) fn queues(&self) -> impl Iterator<Item = (i32, &Rc<[u8]>, Slot)> {
            self.0.iter().flat_map(|(db, database)| {
                assert_eq!(
                    database.names.len(),
                    database.queues.len(),
                    "each queue has its place in the order"
                );
                database.queues.iter().map(|(key, slot)| {
                    assert!(database.names.contains(&(place_of(key), Rc::clone(key))));
                    (*db, key, *slot)
                })
            })
        }

        /// The waits of all owners.
        pub(in super::super) fn owners(
            &self,
        ) -> impl Iterator<Item = (&Rc<[u8]>, impl Iterator<Item = WaiterId>)> {
            let waits = self.0.iter().flat_map(|(_, database)| database.waits.iter());
            waits.map(|(owner, waits)| (owner, Waits::iter(waits)))
        }
    }
}
