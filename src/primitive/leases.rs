//! The lease index: when to look at which hold. Every entry is a hint: whoever gets one opens the key and compares.
//!
//! Each database has a wheel of its own, so that swapping two databases, or emptying one, is one step.

use smallvec::SmallVec;

use super::deadlines::Deadlines;
use super::{Fence, Hold, Moment};

/// Where to look when a lease is due.
#[derive(Debug)]
pub struct LeaseRef {
    /// The key; one of ordinary length takes no memory of its own.
    pub key: SmallVec<[u8; 16]>,
    pub fence: Fence,
}

/// The leases of all holds that have one.
#[derive(Default)]
pub struct Leases {
    /// By database. Few servers use more than one, so a search from the front beats a table.
    wheels: Vec<(i32, Deadlines<LeaseRef>)>,
}

impl Leases {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.wheels.iter().map(|(_, wheel)| wheel.len()).sum()
    }

    /// Notes when this hold is due.
    pub fn insert(&mut self, db: i32, key: &[u8], hold: &mut Hold) {
        self.insert_at(db, key, hold, hold.deadline);
    }

    /// Notes to look at this hold at another moment than its deadline.
    pub fn insert_at(&mut self, db: i32, key: &[u8], hold: &mut Hold, at: Moment) {
        let lease = LeaseRef { key: SmallVec::from_slice(key), fence: hold.fence };
        if self.wheel(db).is_none() {
            self.wheels.push((db, Deadlines::default()));
        }
        if let Some(wheel) = self.wheel_mut(db) {
            hold.mark = hold.mark.at(wheel.insert(at, lease));
        }
    }

    /// Forgets when this hold is due.
    pub fn remove(&mut self, db: i32, hold: &Hold) {
        if let Some(wheel) = self.wheel_mut(db).filter(|wheel| knows(wheel, hold)) {
            wheel.remove(hold.mark.slot());
        }
    }

    /// Whether there is an entry for this hold.
    pub fn has(&self, db: i32, hold: &Hold) -> bool {
        self.wheel(db).is_some_and(|wheel| knows(wheel, hold))
    }

    /// Sees that the entry of this hold comes up no later than the hold's deadline; whether it had to move.
    pub fn hasten(&mut self, db: i32, hold: &Hold) -> bool {
        let late = |wheel: &&mut Deadlines<LeaseRef>| !wheel.covers(hold.mark.slot(), hold.deadline);
        self.wheel_mut(db)
            .filter(late)
            .map(|wheel| wheel.reschedule(hold.mark.slot(), hold.deadline))
            .is_some()
    }

    /// Takes out one entry that is due at `now`.
    pub fn pop_due(&mut self, now: Moment) -> Option<(i32, LeaseRef)> {
        self.wheels.iter_mut().find_map(|(db, wheel)| wheel.pop_due(now).map(|lease| (*db, lease)))
    }

    /// When to call [`Leases::pop_due`] next: never later than the first deadline, perhaps somewhat earlier.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.wheels.iter().filter_map(|(_, wheel)| wheel.next_deadline()).min()
    }

    /// Two databases have changed places.
    pub fn swap(&mut self, first: i32, second: i32) {
        for (db, _) in &mut self.wheels {
            *db = match *db {
                db if db == first => second,
                db if db == second => first,
                db => db,
            };
        }
    }

    /// One database has been emptied, or all. What was noted is given back bit by bit, with each step of the iterator.
    pub fn clear(&mut self, db: Option<i32>) -> impl Iterator<Item = ()> {
        let wheels = std::mem::take(&mut self.wheels).into_iter();
        let (gone, kept) = wheels.partition(|(wheel_db, _)| db.is_none_or(|db| db == *wheel_db));
        self.wheels = kept;
        let gone: Vec<(i32, Deadlines<LeaseRef>)> = gone;
        gone.into_iter().flat_map(|(_, wheel)| wheel.into_blocks())
    }

    fn wheel(&self, db: i32) -> Option<&Deadlines<LeaseRef>> {
        self.wheels.iter().find(|(wheel_db, _)| *wheel_db == db).map(|(_, wheel)| wheel)
    }

    fn wheel_mut(&mut self, db: i32) -> Option<&mut Deadlines<LeaseRef>> {
        self.wheels.iter_mut().find(|(wheel_db, _)| *wheel_db == db).map(|(_, wheel)| wheel)
    }
}

fn knows(wheel: &Deadlines<LeaseRef>, hold: &Hold) -> bool {
    wheel.get(hold.mark.slot()).is_some_and(|entry| entry.fence == hold.fence)
}
