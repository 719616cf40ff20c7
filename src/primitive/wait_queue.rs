//! Who wants it: a first-in first-out queue of waiters for each lock that somebody waits for.
//!
//! Queues live in memory, on the primary only, and know locks by database and name: they outlast the key, and
//! are never part of it. A waiter's number is its arrival number and is never used again.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::claim::Claim;
use super::deadlines::{Deadlines, Slot};
use super::hold::Note;
use super::{Lease, Moment, Owner};

/// What somebody asks of a lock.
#[derive(Clone, Debug)]
pub struct Ask {
    pub owner: Owner,
    pub claim: Claim,
    /// How long the hold shall last, counted from the grant.
    pub lease: Lease,
    pub note: Option<Box<Note>>,
}

/// One who waits.
#[derive(Debug)]
pub struct Waiter {
    pub ask: Ask,
    pub since: Moment,
    /// Where the wait ends without a grant.
    pub deadline: Moment,
}

/// Names one wait for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// How many may wait.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// In the whole server.
    pub all: usize,
    /// For one lock.
    pub per_key: usize,
}

/// Which of the [`Caps`] is reached, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Server(usize),
    Key(usize),
}

/// A waiter that has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    pub id: WaiterId,
    /// The same owner's earlier wait for this lock, whose place this one took.
    pub superseded: Option<WaiterId>,
}

/// Where in its queue somebody stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

#[derive(Default)]
struct Queue {
    order: BTreeMap<Place, WaiterId>,
    by_owner: HashMap<Owner, WaiterId>,
}

struct Entry {
    waiter: Waiter,
    db: i32,
    key: Rc<[u8]>,
    place: Place,
    timer: Slot,
}

/// All queues of the server.
#[derive(Default)]
pub struct Waiters {
    queues: HashMap<i32, HashMap<Rc<[u8]>, Queue>>,
    entries: HashMap<WaiterId, Entry>,
    deadlines: Deadlines<WaiterId>,
    arrivals: u64,
}

impl Waiters {
    /// How many wait in the server.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many wait for this lock.
    pub fn waiting_for(&self, db: i32, key: &[u8]) -> usize {
        self.queue(db, key).map_or(0, |queue| queue.order.len())
    }

    /// How many locks are waited for, and the length of the longest queue.
    pub fn queue_lengths(&self) -> (usize, usize) {
        let lengths = self.queues.values().flat_map(HashMap::values).map(|queue| queue.order.len());
        lengths.fold((0, 0), |(count, longest), len| (count + 1, longest.max(len)))
    }

    /// Whether there is room for one more.
    pub fn room(&self, db: i32, key: &[u8], caps: Caps) -> Result<(), Full> {
        if self.len() >= caps.all {
            Err(Full::Server(caps.all))
        } else if self.waiting_for(db, key) >= caps.per_key {
            Err(Full::Key(caps.per_key))
        } else {
            Ok(())
        }
    }

    /// The number of whoever is put in next.
    pub const fn next_id(&self) -> WaiterId {
        WaiterId(self.arrivals + 1)
    }

    /// Puts a waiter at the end of the queue, or into the place of the same owner's earlier wait.
    pub fn enqueue(&mut self, db: i32, key: &[u8], waiter: Waiter) -> Queued {
        let id = self.next_id();
        self.arrivals += 1;
        let superseded = self.waiter_of(db, key, waiter.ask.owner.as_bytes());
        let place =
            superseded.and_then(|old| self.remove_entry(old)).map_or(Place(self.arrivals), |old| old.place);
        let queues = self.queues.entry(db).or_default();
        let name = queues.get_key_value(key).map_or_else(|| key.into(), |(name, _)| Rc::clone(name));
        let queue = queues.entry(Rc::clone(&name)).or_default();
        queue.order.insert(place, id);
        queue.by_owner.insert(waiter.ask.owner.clone(), id);
        let timer = match waiter.deadline {
            Moment::NEVER => Slot::NONE,
            deadline => self.deadlines.insert(deadline, id),
        };
        self.entries.insert(id, Entry { waiter, db, key: name, place, timer });
        Queued { id, superseded }
    }

    /// Takes a waiter out of its queue.
    pub fn remove(&mut self, id: WaiterId) -> Option<Waiter> {
        self.remove_entry(id).map(|entry| entry.waiter)
    }

    fn remove_entry(&mut self, id: WaiterId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.deadlines.remove(entry.timer);
        if let Some(queues) = self.queues.get_mut(&entry.db) {
            if let Some(queue) = queues.get_mut(&entry.key) {
                queue.order.remove(&entry.place);
                queue.by_owner.remove(&entry.waiter.ask.owner);
                if queue.order.is_empty() {
                    queues.remove(&entry.key);
                }
            }
        }
        Some(entry)
    }

    /// Who comes next for this lock.
    pub fn front(&self, db: i32, key: &[u8]) -> Option<(WaiterId, &Waiter)> {
        self.iter(db, key).next()
    }

    /// Everyone who waits for this lock, first come first.
    pub fn iter(&self, db: i32, key: &[u8]) -> impl Iterator<Item = (WaiterId, &Waiter)> {
        let order = self.queue(db, key).map(|queue| queue.order.values());
        order.into_iter().flatten().filter_map(|id| Some((*id, &self.entries.get(id)?.waiter)))
    }

    /// The wait of this owner for this lock.
    pub fn waiter_of(&self, db: i32, key: &[u8], owner: &[u8]) -> Option<WaiterId> {
        self.queue(db, key)?.by_owner.get(owner).copied()
    }

    /// The lock that this waiter waits for.
    pub fn lock_of(&self, id: WaiterId) -> Option<(i32, Rc<[u8]>)> {
        self.entries.get(&id).map(|entry| (entry.db, Rc::clone(&entry.key)))
    }

    /// Someone whose wait is over at `now`; still in the queue.
    pub fn pop_due(&mut self, now: Moment) -> Option<WaiterId> {
        let id = self.deadlines.pop_due(now)?;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.timer = Slot::NONE;
        }
        Some(id)
    }

    /// When to call [`Waiters::pop_due`] next.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.next_deadline()
    }

    /// The locks of one database, or of all, that somebody waits for.
    pub fn locks(&self, db: Option<i32>) -> Vec<(i32, Rc<[u8]>)> {
        let chosen = self.queues.iter().filter(|(queue_db, _)| db.is_none_or(|db| db == **queue_db));
        chosen.flat_map(|(db, queues)| queues.keys().map(|key| (*db, Rc::clone(key)))).collect()
    }

    /// Forgets everyone.
    pub fn clear(&mut self) {
        let arrivals = self.arrivals;
        *self = Self { arrivals, ..Self::default() };
    }

    fn queue(&self, db: i32, key: &[u8]) -> Option<&Queue> {
        if self.entries.is_empty() {
            return None;
        }
        self.queues.get(&db)?.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { all: 3, per_key: 2 };

    fn waiter(owner: &[u8], deadline: Moment) -> Waiter {
        let ask = Ask {
            owner: Owner::new(owner).unwrap(),
            claim: Claim::EXCLUSIVE,
            lease: Lease::ms(1),
            note: None,
        };
        Waiter { ask, since: Moment(0), deadline }
    }

    fn owners(waiters: &Waiters, key: &[u8]) -> Vec<Vec<u8>> {
        waiters.iter(0, key).map(|(_, waiter)| waiter.ask.owner.as_bytes().to_vec()).collect()
    }

    #[test]
    fn first_come_first() {
        let mut waiters = Waiters::default();
        for owner in [b"a", b"b", b"c"] {
            waiters.enqueue(0, b"k", waiter(owner, Moment::NEVER));
        }
        let (first, _) = waiters.front(0, b"k").unwrap();
        waiters.remove(first);
        assert_eq!(owners(&waiters, b"k"), [b"b", b"c"]);
    }

    #[test]
    fn the_same_owner_keeps_its_place() {
        let mut waiters = Waiters::default();
        let first = waiters.enqueue(0, b"k", waiter(b"a", Moment(1000)));
        waiters.enqueue(0, b"k", waiter(b"b", Moment::NEVER));
        let again = waiters.enqueue(0, b"k", waiter(b"a", Moment::NEVER));
        assert_eq!(again.superseded, Some(first.id));
        assert_eq!(owners(&waiters, b"k"), [b"a", b"b"]);
        assert_eq!(waiters.pop_due(Moment(5000)), None, "the earlier wait's deadline is gone with it");
    }

    #[test]
    fn queues_of_two_databases_are_two_queues() {
        let mut waiters = Waiters::default();
        waiters.enqueue(0, b"k", waiter(b"a", Moment::NEVER));
        waiters.enqueue(5, b"k", waiter(b"a", Moment::NEVER));
        assert_eq!((waiters.waiting_for(0, b"k"), waiters.waiting_for(5, b"k")), (1, 1));
        assert_eq!(waiters.locks(Some(5)), [(5, Rc::from(&b"k"[..]))]);
    }

    #[test]
    fn caps_hold_at_the_limit() {
        let mut waiters = Waiters::default();
        waiters.enqueue(0, b"k", waiter(b"a", Moment::NEVER));
        assert_eq!(waiters.room(0, b"k", CAPS), Ok(()));
        waiters.enqueue(0, b"k", waiter(b"b", Moment::NEVER));
        assert_eq!(waiters.room(0, b"k", CAPS), Err(Full::Key(2)));
        waiters.enqueue(0, b"l", waiter(b"b", Moment::NEVER));
        assert_eq!(waiters.room(0, b"m", CAPS), Err(Full::Server(3)));
    }

    #[test]
    fn an_emptied_queue_leaves_nothing() {
        let mut waiters = Waiters::default();
        let queued = waiters.enqueue(0, b"k", waiter(b"a", Moment(1000)));
        waiters.remove(queued.id);
        assert_eq!((waiters.queue_lengths(), waiters.next_deadline()), ((0, 0), None));
    }
}
