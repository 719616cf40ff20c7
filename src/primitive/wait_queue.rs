//! Who wants it: a first-in first-out queue of waiters for each lock that somebody waits for.
//!
//! Queues live in memory, on the primary only, and know locks by database and name: they outlast the key, and
//! are never part of it. A waiter's number is its arrival number and is never used again. Who waits for several
//! locks together stands in all their queues at one and the same place, so that no two queues disagree about who
//! comes first.

mod caps;
mod tickets;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use smallvec::SmallVec;

use super::deadlines::{Deadlines, Slot};
use super::table::Table;
use super::waiter::{Kind, Waiter, WaiterId};
use super::Moment;

pub use caps::{Caps, Full};

/// The names of the locks that one waiter waits for, in order and each once.
pub type Keys = SmallVec<[Rc<[u8]>; 1]>;

/// Something for each key, or for each owner: the tables share the bytes of the names.
type ByName<V> = Table<Rc<[u8]>, V>;

/// Where in its queues somebody stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

impl Place {
    /// Before all who came without a hold.
    pub const HEAD: Self = Self(0);
}

#[derive(Default)]
struct Queue {
    order: BTreeMap<Place, WaiterId>,
    by_owner: ByName<WaiterId>,
    /// Those whose owner waits elsewhere too: through them a wait here can depend on another lock.
    links: BTreeMap<Place, WaiterId>,
    tickets: usize,
}

/// One wait as it stands in the queues.
pub struct Entry {
    pub waiter: Waiter,
    pub db: i32,
    pub keys: Keys,
    pub place: Place,
    timer: Slot,
}

/// The name as this table has it, or anew.
fn shared<V>(known: &ByName<V>, name: &[u8]) -> Rc<[u8]> {
    known.get_key_value(name).map_or_else(|| Rc::from(name), |(name, _)| Rc::clone(name))
}

/// All queues of the server.
#[derive(Default)]
pub struct Waiters {
    queues: BTreeMap<i32, ByName<Queue>>,
    /// Boxed, as a table has room for up to twice as many as are in it.
    entries: Table<WaiterId, Box<Entry>>,
    /// All waits of each owner.
    waits: BTreeMap<i32, ByName<SmallVec<[WaiterId; 2]>>>,
    /// Those who wait for several locks.
    groups: BTreeSet<WaiterId>,
    deadlines: Deadlines<WaiterId>,
    tickets: usize,
    /// The tickets whose turn a client is kept waiting for, by the number of the client.
    attached: Table<WaiterId, WaiterId>,
    arrivals: u64,
}

impl Waiters {
    /// How many wait in the server.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are tickets.
    pub const fn tickets(&self) -> usize {
        self.tickets
    }

    /// How many clients are kept waiting, for themselves or for the turn of a ticket.
    pub fn clients(&self) -> usize {
        self.len() - self.tickets + self.attached.len()
    }

    /// How many wait for this lock.
    pub fn waiting_for(&self, db: i32, key: &[u8]) -> usize {
        self.queue(db, key).map_or(0, |queue| queue.order.len())
    }

    /// How many locks are waited for, and the length of the longest queue.
    pub fn queue_lengths(&self) -> (usize, usize) {
        let lengths = self.queues.values().flat_map(Table::values).map(|queue| queue.order.len());
        lengths.fold((0, 0), |(count, longest), len| (count + 1, longest.max(len)))
    }

    /// The number of whoever is put in next.
    pub const fn next_id(&self) -> WaiterId {
        WaiterId(self.arrivals + 1)
    }

    /// A number for one who waits for something else than a lock.
    pub fn take_id(&mut self) -> WaiterId {
        let id = self.next_id();
        self.arrivals += 1;
        id
    }

    /// The same owner's earlier waits for any of these locks: a new one takes over from them.
    pub fn earlier_waits(&self, db: i32, keys: &[&[u8]], owner: &[u8]) -> SmallVec<[WaiterId; 1]> {
        let mut ids: SmallVec<[WaiterId; 1]> =
            keys.iter().filter_map(|key| self.waiter_of(db, key, owner)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Where a new wait of this owner would stand: in the place of an earlier one if that waits for the same
    /// locks or more, at the end otherwise.
    pub fn place_for(&self, db: i32, keys: &[&[u8]], owner: &[u8]) -> Place {
        let earlier = self.earlier_waits(db, keys, owner);
        let old = if let [only] = earlier.as_slice() { self.entries.get(only) } else { None };
        old.filter(|old| keys.iter().all(|key| old.keys.iter().any(|known| **known == **key)))
            .map_or(Place(self.arrivals + 1), |old| old.place)
    }

    /// Puts a waiter into the queues of these locks. Its owner must not wait for any of them.
    pub fn insert(&mut self, db: i32, keys: &[&[u8]], place: Place, waiter: Waiter) -> WaiterId {
        let id = self.take_id();
        let owner = shared(self.waits.entry(db).or_default(), waiter.ask.owner.as_bytes());
        let tickets = usize::from(waiter.kind == Kind::Ticket);
        self.tickets += tickets;
        let mut names = Keys::new();
        let queues = self.queues.entry(db).or_default();
        for key in keys {
            let name = shared(queues, key);
            let queue = queues.get_or_default(Rc::clone(&name));
            queue.order.insert(place, id);
            queue.by_owner.insert(Rc::clone(&owner), id);
            queue.tickets += tickets;
            names.push(name);
        }
        names.sort_unstable();
        let timer = match waiter.deadline {
            Moment::NEVER => Slot::NONE,
            deadline => self.deadlines.insert(deadline, id),
        };
        if names.len() > 1 {
            self.groups.insert(id);
        }
        self.entries.insert(id, Box::new(Entry { waiter, db, keys: names, place, timer }));
        let waits = self.waits.entry(db).or_default().get_or_default(owner);
        waits.push(id);
        match *waits.as_slice() {
            [first, _] => [first, id].into_iter().for_each(|id| self.mark(id, true)),
            [_] if keys.len() == 1 => {}
            _ => self.mark(id, true),
        }
        id
    }

    /// Takes a waiter out of its queues.
    pub fn remove(&mut self, id: WaiterId) -> Option<Entry> {
        let entry = *self.entries.remove(&id)?;
        self.deadlines.remove(entry.timer);
        self.groups.remove(&id);
        if let Some(attached) = entry.waiter.attached() {
            self.attached.remove(&attached.client);
        }
        let owner = entry.waiter.ask.owner.as_bytes();
        let tickets = usize::from(entry.waiter.kind == Kind::Ticket);
        self.tickets -= tickets;
        if let Some(queues) = self.queues.get_mut(&entry.db) {
            for key in &entry.keys {
                let Some(queue) = queues.get_mut(key) else { continue };
                queue.order.remove(&entry.place);
                queue.links.remove(&entry.place);
                queue.by_owner.remove(owner);
                queue.tickets -= tickets;
                if queue.order.is_empty() {
                    queues.remove(key);
                }
            }
        }
        self.forget_wait(entry.db, owner, id);
        Some(entry)
    }

    fn forget_wait(&mut self, db: i32, owner: &[u8], id: WaiterId) {
        let Some(owners) = self.waits.get_mut(&db) else { return };
        let Some(waits) = owners.get_mut(owner) else { return };
        // In the order of their arrival.
        if let Ok(at) = waits.binary_search(&id) {
            waits.remove(at);
        }
        match *waits.as_slice() {
            [] => {
                owners.remove(owner);
            }
            [last] => {
                let is_link = self.entries.get(&last).is_some_and(|last| last.keys.len() > 1);
                self.mark(last, is_link);
            }
            _ => {}
        }
    }

    /// Notes in a waiter's queues whether it links them to others.
    fn mark(&mut self, id: WaiterId, is_link: bool) {
        let Some(entry) = self.entries.get(&id) else { return };
        let Some(queues) = self.queues.get_mut(&entry.db) else { return };
        for key in &entry.keys {
            if let Some(queue) = queues.get_mut(key) {
                if is_link {
                    queue.links.insert(entry.place, id);
                } else {
                    queue.links.remove(&entry.place);
                }
            }
        }
    }

    /// Who comes next for this lock.
    #[inline]
    pub fn front(&self, db: i32, key: &[u8]) -> Option<(WaiterId, &Waiter)> {
        let (_, id) = self.queue(db, key)?.order.first_key_value()?;
        Some((*id, &self.entries.get(id)?.waiter))
    }

    /// Everyone who waits for this lock, first come first.
    pub fn iter(&self, db: i32, key: &[u8]) -> impl Iterator<Item = (WaiterId, &Waiter)> {
        let order = self.queue(db, key).map(|queue| queue.order.values());
        order.into_iter().flatten().filter_map(|id| Some((*id, &self.entries.get(id)?.waiter)))
    }

    /// Everyone who waits for this lock between two places, the first of them included, first come first.
    pub fn between(
        &self,
        db: i32,
        key: &[u8],
        from: Place,
        to: Place,
    ) -> impl Iterator<Item = (WaiterId, &Waiter)> {
        let order = self.queue(db, key).map(|queue| queue.order.range(from..to));
        order.into_iter().flatten().filter_map(|(_, id)| Some((*id, &self.entries.get(id)?.waiter)))
    }

    /// Those of them whose owner waits elsewhere too.
    pub fn links_between(
        &self,
        db: i32,
        key: &[u8],
        from: Place,
        to: Place,
    ) -> impl Iterator<Item = WaiterId> + '_ {
        let links = self.queue(db, key).map(|queue| queue.links.range(from..to));
        links.into_iter().flatten().map(|(_, id)| *id)
    }

    /// Those who wait for several locks and came after this one.
    pub fn groups_after(&self, id: WaiterId) -> impl Iterator<Item = (WaiterId, &Entry)> {
        let later = self.groups.range((Bound::Excluded(id), Bound::Unbounded));
        later.filter_map(|id| Some((*id, self.get(*id)?)))
    }

    /// One wait.
    pub fn get(&self, id: WaiterId) -> Option<&Entry> {
        self.entries.get(&id).map(|entry| &**entry)
    }

    /// All waits of this owner.
    pub fn waits_of(&self, db: i32, owner: &[u8]) -> &[WaiterId] {
        self.waits.get(&db).and_then(|owners| owners.get(owner)).map_or(&[], |waits| waits.as_slice())
    }

    /// The wait of this owner for this lock.
    pub fn waiter_of(&self, db: i32, key: &[u8], owner: &[u8]) -> Option<WaiterId> {
        self.queue(db, key)?.by_owner.get(owner).copied()
    }

    /// Gives this waiter another limit to ask with.
    pub fn set_limit(&mut self, id: WaiterId, limit: u32) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.waiter.ask.claim.limit = limit;
        }
    }

    /// Someone whose wait is over at `now`, or the wait of the client at a ticket: see [`Waiters::end_slice`]. Still in the
    /// queue.
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
    pub fn locks(&self, db: Option<i32>) -> impl Iterator<Item = (i32, &Rc<[u8]>)> {
        let chosen = self.queues.iter().filter(move |(queue_db, _)| db.is_none_or(|db| db == **queue_db));
        chosen.flat_map(|(db, queues)| queues.keys().map(|key| (*db, key)))
    }

    /// Forgets everyone at once. What they took up is given back bit by bit, with each step of the iterator.
    pub fn clear(&mut self) -> impl Iterator<Item = ()> {
        let empty = Self { arrivals: self.arrivals, ..Self::default() };
        let Self { queues, entries, waits, .. } = std::mem::replace(self, empty);
        let entries = entries.into_iter().map(drop);
        let queues = queues.into_values().flatten().map(drop);
        let waits = waits.into_values().flatten().map(drop);
        entries.chain(queues).chain(waits)
    }

    #[inline]
    fn queue(&self, db: i32, key: &[u8]) -> Option<&Queue> {
        if self.entries.is_empty() {
            return None;
        }
        self.queues.get(&db)?.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::waiter::Ask;
    use super::super::{Claim, Lease, Owner};
    use super::*;

    pub(super) fn ask(owner: &[u8]) -> Ask {
        let owner = Owner::new(owner).unwrap();
        Ask { owner, claim: Claim::EXCLUSIVE, lease: Lease::ms(1), extra: None, span: None }
    }

    pub(super) fn enqueue(
        waiters: &mut Waiters,
        db: i32,
        keys: &[&[u8]],
        owner: &[u8],
        deadline: Moment,
    ) -> WaiterId {
        enqueue_as(Kind::Client, waiters, db, keys, owner, deadline)
    }

    pub(super) fn enqueue_as(
        kind: Kind,
        waiters: &mut Waiters,
        db: i32,
        keys: &[&[u8]],
        owner: &[u8],
        deadline: Moment,
    ) -> WaiterId {
        let place = waiters.place_for(db, keys, owner);
        for old in waiters.earlier_waits(db, keys, owner) {
            waiters.remove(old);
        }
        let waiter = Waiter { kind, ask: ask(owner), since: Moment(0), deadline, told: None, upgrades: None };
        waiters.insert(db, keys, place, waiter)
    }

    pub(super) fn owners(waiters: &Waiters, key: &[u8]) -> Vec<Vec<u8>> {
        waiters.iter(0, key).map(|(_, waiter)| waiter.ask.owner.as_bytes().to_vec()).collect()
    }

    fn links(waiters: &Waiters, key: &[u8]) -> Vec<WaiterId> {
        waiters.links_between(0, key, Place::HEAD, Place(u64::MAX)).collect()
    }

    #[test]
    fn first_come_first() {
        let mut waiters = Waiters::default();
        for owner in [b"a", b"b", b"c"] {
            enqueue(&mut waiters, 0, &[b"k"], owner, Moment::NEVER);
        }
        let (first, _) = waiters.front(0, b"k").unwrap();
        waiters.remove(first);
        assert_eq!(owners(&waiters, b"k"), [b"b", b"c"]);
    }

    #[test]
    fn the_same_owner_keeps_its_place() {
        let mut waiters = Waiters::default();
        enqueue(&mut waiters, 0, &[b"k"], b"a", Moment(1000));
        enqueue(&mut waiters, 0, &[b"k"], b"b", Moment::NEVER);
        enqueue(&mut waiters, 0, &[b"k"], b"a", Moment::NEVER);
        assert_eq!(owners(&waiters, b"k"), [b"a", b"b"]);
        assert_eq!(waiters.pop_due(Moment(5000)), None, "the earlier wait's deadline is gone with it");
    }

    #[test]
    fn who_waits_for_several_has_one_place_in_all() {
        let mut waiters = Waiters::default();
        enqueue(&mut waiters, 0, &[b"l"], b"a", Moment::NEVER);
        enqueue(&mut waiters, 0, &[b"k"], b"b", Moment::NEVER);
        enqueue(&mut waiters, 0, &[b"l", b"k"], b"m", Moment::NEVER);
        // More than it waited for: it goes to the end, or the two queues would disagree about it and m.
        enqueue(&mut waiters, 0, &[b"k", b"l"], b"b", Moment::NEVER);
        assert_eq!(owners(&waiters, b"k"), [b"m", b"b"]);
        assert_eq!(owners(&waiters, b"l"), [b"a", b"m", b"b"]);
        // The same, in another order, and then less: it keeps its place.
        let again = enqueue(&mut waiters, 0, &[b"k", b"l"], b"m", Moment::NEVER);
        assert_eq!(owners(&waiters, b"l"), [b"a", b"m", b"b"]);
        assert_eq!(waiters.get(again).map(|entry| entry.keys.len()), Some(2));
        enqueue(&mut waiters, 0, &[b"l"], b"m", Moment::NEVER);
        assert_eq!(owners(&waiters, b"k"), [b"b"]);
        assert_eq!(owners(&waiters, b"l"), [b"a", b"m", b"b"]);
    }

    #[test]
    fn links_are_those_who_wait_elsewhere_too() {
        let mut waiters = Waiters::default();
        let first = enqueue(&mut waiters, 0, &[b"k"], b"a", Moment::NEVER);
        assert_eq!(links(&waiters, b"k"), []);
        let second = enqueue(&mut waiters, 0, &[b"l"], b"a", Moment::NEVER);
        assert_eq!((links(&waiters, b"k"), links(&waiters, b"l")), (vec![first], vec![second]));
        let third = enqueue(&mut waiters, 0, &[b"m"], b"a", Moment::NEVER);
        waiters.remove(second);
        assert_eq!((links(&waiters, b"k"), links(&waiters, b"m")), (vec![first], vec![third]));
        waiters.remove(third);
        assert_eq!(links(&waiters, b"k"), []);
        let both = enqueue(&mut waiters, 0, &[b"k", b"l"], b"b", Moment::NEVER);
        assert_eq!((links(&waiters, b"k"), links(&waiters, b"l")), (vec![both], vec![both]));
    }

    #[test]
    fn queues_of_two_databases_are_two_queues() {
        let mut waiters = Waiters::default();
        enqueue(&mut waiters, 0, &[b"k"], b"a", Moment::NEVER);
        enqueue(&mut waiters, 5, &[b"k"], b"a", Moment::NEVER);
        assert_eq!((waiters.waiting_for(0, b"k"), waiters.waiting_for(5, b"k")), (1, 1));
        assert!(waiters.locks(Some(5)).eq([(5, &Rc::from(&b"k"[..]))]));
    }

    #[test]
    fn an_emptied_queue_leaves_nothing() {
        let mut waiters = Waiters::default();
        let id = enqueue(&mut waiters, 0, &[b"k", b"l"], b"a", Moment(1000));
        waiters.remove(id);
        assert_eq!((waiters.queue_lengths(), waiters.next_deadline()), ((0, 0), None));
        assert!(waiters.waits_of(0, b"a").is_empty());
    }
}
