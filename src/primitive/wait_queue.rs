//! The waiters: a first-in first-out queue for each lock that somebody waits for. The choice of the next grant is made
//! elsewhere, in [`Step`](super::Step).
//!
//! Queues live in memory, on the primary only, and know locks by database and name: they outlast the key, and are never
//! part of it. A waiter's number is its arrival number and is never used again. A waiter for several locks together
//! stands in all their queues at one and the same place, so that no two queues disagree about who comes first.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

mod caps;
#[cfg(any(test, debug_assertions))]
mod check;
mod databases;
mod footprint;
mod lengths;
mod new_limits;
mod sieve;
mod tickets;
mod waits;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use smallvec::SmallVec;

use super::broken::broken;
use super::deadlines::{Deadlines, Slot};
use super::leases::place_of;
use super::slab::Slab;
use super::table::Table;
use super::users::Users;
use super::waiter::{Waiter, WaiterId, WaiterKind};
use super::Moment;
use crate::limits::AHEAD_COUNTED_MAX;

pub(crate) use caps::{Caps, Full};
use databases::Databases;
use footprint::owner_bytes;
use lengths::Lengths;
pub(crate) use new_limits::Changed;
use new_limits::NewLimit;
use sieve::Sieve;

use waits::Waits;

/// The names of the locks that one waiter waits for, in order and each once.
pub(crate) type Keys = SmallVec<[Rc<[u8]>; 1]>;

/// A lock, by its database and its name there.
pub(crate) type LockName = (i32, Rc<[u8]>);

/// Something for each key, or for each owner: the tables share the bytes of the names.
type ByName<V> = Table<Rc<[u8]>, V>;

/// Where in its queues somebody stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

impl Position {
    /// Before all who came without a hold.
    pub(crate) const HEAD: Self = Self(0);

    /// After all.
    pub(crate) const END: Self = Self(u64::MAX);
}

/// Those who wait for one lock. Never empty between two changes.
struct Queue {
    db: i32,
    key: Rc<[u8]>,
    order: BTreeMap<Position, WaiterId>,
    by_owner: ByName<WaiterId>,
    /// Those whose owner waits elsewhere too: through them a wait here can depend on another lock.
    links: BTreeMap<Position, WaiterId>,
    tickets: usize,
    new_limit: Option<Box<NewLimit>>,
}

impl Queue {
    fn new(db: i32, key: Rc<[u8]>) -> Self {
        Self {
            db,
            key,
            order: BTreeMap::new(),
            by_owner: ByName::default(),
            links: BTreeMap::new(),
            tickets: 0,
            new_limit: None,
        }
    }
}

/// One wait as it stands in the queues.
pub(crate) struct QueueNode {
    pub waiter: Waiter,
    pub db: i32,
    pub keys: Keys,
    pub place: Position,
    timer: Slot,
}

/// All queues of the server.
#[derive(Default)]
pub(crate) struct Waiters {
    /// Boxed, as the places stay when they are empty.
    queues: Slab<Box<Queue>>,
    /// The queue that was found last. A hint: whoever takes it compares.
    found: Cell<Slot>,
    sieve: Sieve,
    /// The queues by the names of their locks, and all waits of each owner.
    databases: Databases,
    /// Boxed, as a tree has room for up to twice as many as are in it.
    entries: BTreeMap<WaiterId, Box<QueueNode>>,
    /// Those who wait for several locks.
    groups: BTreeSet<WaiterId>,
    deadlines: Deadlines<WaiterId>,
    tickets: usize,
    lengths: Lengths,
    /// How many queues are to get another limit.
    new_limits: usize,
    /// The tickets whose turn a client is kept waiting for, by the number of the client.
    attached: Table<WaiterId, WaiterId>,
    users: Users,
    /// The bytes of the server's memory that all this takes, but for the tables of queues and owners; and the bytes of
    /// those.
    bytes: usize,
    table_bytes: usize,
    arrivals: u64,
}

impl Waiters {
    /// How many wait in the server.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are tickets.
    pub(crate) const fn tickets(&self) -> usize {
        self.tickets
    }

    /// How many clients are kept waiting, for themselves or for the turn of a ticket.
    pub(crate) fn clients(&self) -> usize {
        self.len() - self.tickets + self.attached.len()
    }

    /// How many wait for this lock.
    pub(crate) fn waiting_for(&self, db: i32, key: &[u8]) -> usize {
        self.queue(db, key).map_or(0, |queue| queue.order.len())
    }

    /// How many locks are waited for, and the length of the longest queue.
    pub(crate) fn queue_lengths(&self) -> (usize, usize) {
        (self.queues.len(), self.lengths.longest())
    }

    /// The number of whoever is put in next.
    pub(crate) const fn next_id(&self) -> WaiterId {
        WaiterId(self.arrivals + 1)
    }

    /// A number for one who waits for something else than a lock.
    pub(crate) fn take_id(&mut self) -> WaiterId {
        let id = self.next_id();
        self.arrivals += 1;
        id
    }

    /// The same owner's earlier waits for any of these locks: a new one takes over from them.
    pub(crate) fn earlier_waits(&self, db: i32, keys: &[&[u8]], owner: &[u8]) -> SmallVec<[WaiterId; 1]> {
        let mut ids: SmallVec<[WaiterId; 1]> =
            keys.iter().filter_map(|key| self.waiter_of(db, key, owner)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Where a new wait of this owner would stand: in the place of an earlier one if that waits for the same
    /// locks or more, at the end otherwise.
    pub(crate) fn place_for(&self, db: i32, keys: &[&[u8]], owner: &[u8]) -> Position {
        self.place_instead(&self.earlier_waits(db, keys, owner), keys)
    }

    /// The same, when its earlier waits for these locks are known.
    pub(crate) fn place_instead(&self, earlier: &[WaiterId], keys: &[&[u8]]) -> Position {
        let old = if let [only] = earlier { self.entries.get(only) } else { None };
        old.filter(|old| keys.iter().all(|key| old.keys.iter().any(|known| **known == **key)))
            .map_or(Position(self.arrivals + 1), |old| old.place)
    }

    /// Puts a waiter into the queues of these locks. Its owner must not wait for any of them.
    pub(crate) fn insert(&mut self, db: i32, keys: &[&[u8]], place: Position, waiter: Waiter) -> WaiterId {
        let id = self.take_id();
        let tickets = usize::from(waiter.kind == WaiterKind::Ticket);
        self.tickets += tickets;
        let (owner, waits, first) = self.databases.add_wait(db, waiter.request.owner.as_bytes(), id);
        let mut names = Keys::new();
        debug_assert!(!keys.is_empty(), "who waits waits for something");
        for key in keys {
            let slot = self.find(db, key).unwrap_or_else(|| self.open(db, key));
            let Some(queue) = self.queues.get_mut(slot) else {
                broken("a queue that was found is gone");
                continue;
            };
            self.lengths.change(queue.order.len(), queue.order.len() + 1);
            let before = queue.bytes();
            let (other, earlier) =
                (queue.order.insert(place, id), queue.by_owner.insert(Rc::clone(&owner), id));
            debug_assert_eq!(other, None, "two stand at one place of a queue");
            debug_assert_eq!(earlier, None, "an owner stands in a queue twice");
            queue.tickets += tickets;
            // It can take less than before: a table that grew gives its old room back bit by bit.
            self.bytes = self.bytes + queue.bytes() - before;
            names.push(Rc::clone(&queue.key));
        }
        names.sort_unstable();
        let timer = match waiter.deadline {
            Moment::NEVER => Slot::NONE,
            deadline => self.deadlines.insert(deadline, id),
        };
        if names.len() > 1 {
            self.groups.insert(id);
        }
        let entry = QueueNode { waiter, db, keys: names, place, timer };
        self.bytes += entry.bytes();
        let other = self.entries.insert(id, Box::new(entry));
        debug_assert!(other.is_none(), "two waits have one number");
        if waits == 1 {
            self.bytes += owner_bytes(&owner);
        }
        if waits == 2 {
            self.mark(first, true);
        }
        if waits > 1 || keys.len() > 1 {
            self.mark(id, true);
        }
        self.measure_tables();
        id
    }

    /// Takes a waiter out of its queues.
    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<QueueNode> {
        let entry = *self.entries.remove(&id)?;
        let timed = self.deadlines.remove(entry.timer);
        debug_assert_eq!(
            timed,
            Some(id).filter(|_| entry.timer != Slot::NONE),
            "a wait has a timer of its own"
        );
        let was_group = self.groups.remove(&id);
        debug_assert_eq!(was_group, entry.keys.len() > 1, "who waits for several is among those");
        if let Some(attached) = entry.waiter.attached() {
            let ticket = self.attached.remove(&attached.client);
            debug_assert_eq!(ticket, Some(id), "a client waits for the turn of one ticket");
        }
        let owner = entry.waiter.request.owner.as_bytes();
        let tickets = usize::from(entry.waiter.kind == WaiterKind::Ticket);
        self.tickets -= tickets;
        self.bytes -= entry.bytes();
        for key in &entry.keys {
            let Some((slot, queue)) = self.queue_mut(entry.db, key) else {
                broken("a waiter stands in no queue of its lock");
                continue;
            };
            let (length, before) = (queue.order.len(), queue.bytes());
            let stood = (queue.order.remove(&entry.place), queue.by_owner.remove(owner));
            debug_assert_eq!(stood, (Some(id), Some(id)), "a waiter stands at its place, under its owner");
            queue.links.remove(&entry.place);
            queue.tickets -= tickets;
            let (is_empty, after) = (queue.order.is_empty(), queue.bytes());
            self.lengths.change(length, length - 1);
            self.bytes = self.bytes + after - before;
            if is_empty {
                self.close(slot);
            }
        }
        self.forget_wait(entry.db, owner, id);
        self.measure_tables();
        Some(entry)
    }

    /// Makes a queue for this lock, which has none. Returns its place.
    fn open(&mut self, db: i32, key: &[u8]) -> Slot {
        let key: Rc<[u8]> = key.into();
        self.sieve.add(&key);
        let slot = self.queues.insert(Box::new(Queue::new(db, Rc::clone(&key))));
        self.databases.add_queue(db, &key, slot);
        slot
    }

    /// Ends the queue at this place, in which nobody is left.
    fn close(&mut self, slot: Slot) {
        let Some(queue) = self.queues.remove(slot) else { return broken("a queue that was found is gone") };
        self.sieve.remove(&queue.key);
        self.databases.remove_queue(queue.db, &queue.key);
        self.new_limits -= usize::from(queue.new_limit.is_some());
        self.queues.give_back();
    }

    fn forget_wait(&mut self, db: i32, owner: &[u8], id: WaiterId) {
        let (left, first) = self.databases.remove_wait(db, owner, id);
        if left == 0 {
            self.bytes -= owner_bytes(owner);
        }
        if let (1, Some(last)) = (left, first) {
            let is_link = self.entries.get(&last).is_some_and(|last| last.keys.len() > 1);
            self.mark(last, is_link);
        }
    }

    /// Notes in a waiter's queues whether it links them to others.
    fn mark(&mut self, id: WaiterId, is_link: bool) {
        let Some(entry) = self.entries.get(&id) else { return broken("a wait is unknown") };
        let (db, place, keys) = (entry.db, entry.place, entry.keys.clone());
        for key in &keys {
            if let Some((_, queue)) = self.queue_mut(db, key) {
                let before = queue.bytes();
                if is_link {
                    queue.links.insert(place, id);
                } else {
                    queue.links.remove(&place);
                }
                let after = queue.bytes();
                self.bytes = self.bytes + after - before;
            } else {
                broken("a waiter stands in no queue of its lock");
            }
        }
    }

    /// The waiter that comes next for this lock.
    #[inline]
    pub(crate) fn front(&self, db: i32, key: &[u8]) -> Option<(WaiterId, &Waiter)> {
        let (_, id) = self.queue(db, key)?.order.first_key_value()?;
        Some((*id, &self.entries.get(id)?.waiter))
    }

    /// Everyone who waits for this lock, first come first.
    #[cfg(test)]
    pub(crate) fn iter(&self, db: i32, key: &[u8]) -> impl Iterator<Item = (WaiterId, &Waiter)> {
        let order = self.queue(db, key).map(|queue| queue.order.values());
        order.into_iter().flatten().filter_map(|id| Some((*id, &self.entries.get(id)?.waiter)))
    }

    /// Everyone who waits for this lock between two places, the first of them included, first come first.
    pub(crate) fn between(
        &self,
        db: i32,
        key: &[u8],
        from: Position,
        to: Position,
    ) -> impl Iterator<Item = (WaiterId, &Waiter)> {
        let order = self.queue(db, key).map(|queue| queue.order.range(from..to));
        order.into_iter().flatten().filter_map(|(_, id)| Some((*id, &self.entries.get(id)?.waiter)))
    }

    /// Everyone who waits for this lock before a place, last come first.
    pub(crate) fn before(
        &self,
        db: i32,
        key: &[u8],
        place: Position,
    ) -> impl Iterator<Item = (WaiterId, &Waiter)> {
        let order = self.queue(db, key).map(|queue| queue.order.range(..place).rev());
        order.into_iter().flatten().filter_map(|(_, id)| Some((*id, &self.entries.get(id)?.waiter)))
    }

    /// The first place behind this owner in the queue of this lock, if it waits there.
    pub(crate) fn place_after(&self, db: i32, key: &[u8], owner: &[u8]) -> Option<Position> {
        let entry = self.entries.get(&self.waiter_of(db, key, owner)?)?;
        Some(Position(entry.place.0 + 1))
    }

    /// Those of them whose owner waits elsewhere too.
    pub(crate) fn links_between(
        &self,
        db: i32,
        key: &[u8],
        from: Position,
        to: Position,
    ) -> impl Iterator<Item = WaiterId> + '_ {
        let links = self.queue(db, key).map(|queue| queue.links.range(from..to));
        links.into_iter().flatten().map(|(_, id)| *id)
    }

    /// Those who wait for several locks and came after this one.
    pub(crate) fn groups_after(&self, id: WaiterId) -> impl Iterator<Item = (WaiterId, &QueueNode)> {
        let later = self.groups.range((Bound::Excluded(id), Bound::Unbounded));
        later.filter_map(|id| Some((*id, self.get(*id)?)))
    }

    /// One wait.
    pub(crate) fn get(&self, id: WaiterId) -> Option<&QueueNode> {
        self.entries.get(&id).map(|entry| &**entry)
    }

    /// All waits of this owner, in the order of their arrival.
    pub(crate) fn waits_of(&self, db: i32, owner: &[u8]) -> impl Iterator<Item = WaiterId> + '_ {
        self.databases.waits(db, owner).into_iter().flat_map(Waits::iter)
    }

    /// Whether this owner waits for anything.
    pub(crate) fn does_wait(&self, db: i32, owner: &[u8]) -> bool {
        self.databases.waits(db, owner).is_some()
    }

    /// The wait of this owner for this lock.
    pub(crate) fn waiter_of(&self, db: i32, key: &[u8], owner: &[u8]) -> Option<WaiterId> {
        // Nearly nobody who asks waits already, and that one look-up tells.
        if !self.does_wait(db, owner) {
            return None;
        }
        self.queue(db, key)?.by_owner.get(owner).copied()
    }

    /// Someone whose wait is over at `now`, or the wait of the client at a ticket: see [`Waiters::end_slice`]. Still in the
    /// queue.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<WaiterId> {
        let id = self.deadlines.pop_due(now)?;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.timer = Slot::NONE;
        } else {
            broken("a wait that is due is unknown");
        }
        Some(id)
    }

    /// How many come before this owner at a lock, or in all if it does not wait there; no more than
    /// [`AHEAD_COUNTED_MAX`] are counted.
    pub(crate) fn ahead_of(&self, db: i32, key: &[u8], owner: &[u8]) -> usize {
        let Some(queue) = self.queue(db, key) else { return 0 };
        let own = queue.by_owner.get(owner).and_then(|id| self.entries.get(id)).map(|entry| entry.place);
        queue.order.range(..own.unwrap_or(Position::END)).take(AHEAD_COUNTED_MAX).count()
    }

    /// When to call [`Waiters::pop_due`] next.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.next_deadline()
    }

    /// Forgets everyone at once. Their memory is given back bit by bit, with each step of the iterator.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = ()> + use<> {
        let empty = Self { arrivals: self.arrivals, ..Self::default() };
        let Self { queues, databases, entries, .. } = std::mem::replace(self, empty);
        let entries = entries.into_iter().map(drop);
        entries.chain(databases.into_parts()).chain(queues.into_values().map(drop))
    }

    /// Whether there may be something to do for those who wait: for a lock of this name, or for those who are to get another
    /// limit.
    #[inline]
    pub(crate) fn may_want(&self, key: &[u8]) -> bool {
        !self.entries.is_empty() && (self.sieve.may_have(key) || self.new_limits > 0)
    }

    /// The place of the queue of this lock. Whoever asks for one asks several times, so the one that was found last is
    /// looked at first.
    #[inline]
    fn find(&self, db: i32, key: &[u8]) -> Option<Slot> {
        let last = self.found.get();
        if self.queues.get(last).is_some_and(|queue| queue.db == db && *queue.key == *key) {
            return Some(last);
        }
        if self.queues.len() == 0 || !self.sieve.may_have(key) {
            return None;
        }
        let slot = self.databases.queue(db, key)?;
        self.found.set(slot);
        Some(slot)
    }

    #[inline]
    fn queue(&self, db: i32, key: &[u8]) -> Option<&Queue> {
        self.queues.get(self.find(db, key)?).map(|queue| &**queue)
    }

    /// The queue of this lock, to be changed, and its place.
    #[inline]
    fn queue_mut(&mut self, db: i32, key: &[u8]) -> Option<(Slot, &mut Queue)> {
        let slot = self.find(db, key)?;
        self.queues.get_mut(slot).map(|queue| (slot, &mut **queue))
    }
}

#[cfg(test)]
mod tests {
    use super::super::waiter::AcquireRequest;
    use super::super::{Lease, Owner, Permits};
    use super::*;

    pub(super) fn request(owner: &[u8]) -> AcquireRequest {
        let owner = Owner::new(owner).unwrap();
        AcquireRequest { owner, permits: Permits::EXCLUSIVE, lease: Lease::ms(1), extra: None, span: None }
    }

    pub(super) fn enqueue(
        waiters: &mut Waiters,
        db: i32,
        keys: &[&[u8]],
        owner: &[u8],
        deadline: Moment,
    ) -> WaiterId {
        enqueue_as(WaiterKind::Client, waiters, db, keys, owner, deadline)
    }

    pub(super) fn enqueue_as(
        kind: WaiterKind,
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
        let waiter = Waiter {
            kind,
            request: request(owner),
            since: Moment(0),
            deadline,
            told: None,
            user: None,
            upgrades: None,
        };
        waiters.insert(db, keys, place, waiter)
    }

    pub(super) fn owners(waiters: &Waiters, key: &[u8]) -> Vec<Vec<u8>> {
        waiters.iter(0, key).map(|(_, waiter)| waiter.request.owner.as_bytes().to_vec()).collect()
    }

    fn links(waiters: &Waiters, key: &[u8]) -> Vec<WaiterId> {
        waiters.links_between(0, key, Position::HEAD, Position(u64::MAX)).collect()
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
        let k: Rc<[u8]> = Rc::from(&b"k"[..]);
        assert_eq!(waiters.queues_after(None, 9), (vec![(0, Rc::clone(&k)), (5, k)], None));
    }

    #[test]
    fn whoever_goes_on_from_the_last_queue_sees_each_once() {
        let mut waiters = Waiters::default();
        for n in 0..20_u8 {
            enqueue(&mut waiters, i32::from(n % 2), &[&[n % 5], &[9]], &[n], Moment::NEVER);
        }
        let (mut last, mut seen) = (None, Vec::new());
        loop {
            let (locks, next) = waiters.queues_after(last.as_ref(), 3);
            seen.extend(locks.iter().map(|(db, key)| (*db, key.to_vec())));
            let Some(next) = next else { break };
            last = Some(next);
        }
        seen.sort_unstable();
        let all = [0, 1].into_iter().flat_map(|db| [0, 1, 2, 3, 4, 9].map(|name| (db, vec![name])));
        assert_eq!(seen, all.collect::<Vec<_>>());
        assert_eq!(waiters.queue_lengths(), (12, 10));
        let first = waiters.front(0, &[9]).map(|(id, _)| id);
        first.into_iter().for_each(|id| drop(waiters.remove(id)));
        assert_eq!(waiters.queue_lengths(), (12, 10));
    }

    #[test]
    fn an_emptied_queue_leaves_nothing() {
        let mut waiters = Waiters::default();
        let id = enqueue(&mut waiters, 0, &[b"k", b"l"], b"a", Moment(1000));
        waiters.remove(id);
        assert_eq!((waiters.queue_lengths(), waiters.next_deadline()), ((0, 0), None));
        assert!(!waiters.does_wait(0, b"a"));
    }
}
