//! Observers: clients that are told when something becomes true of a key, and want nothing of it.
//!
//! A table beside the queues, by database and name like them. It knows nothing of what lies in a key: the one who has
//! looked at a key says of each condition whether it is met. A step that changes a key notes it here, and so does
//! everything that sees that a key may have changed; a key is looked at when the step is over. The result of that look
//! counts, though a crowd may hear of it one after the other.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;

use super::broken::broken;
use super::condition::{Condition, Verdict};
use super::deadlines::{Deadlines, Slot};
use super::footprint::{first_node, in_table, in_tree, shared_name, CLIENT};
use super::sweep::Sweep;
use super::table::Table;
use super::{Moment, WaiterId};
use crate::limits::OBSERVED_PER_STEP;

/// Those who watch one key.
#[derive(Default)]
struct Watched {
    conditions: BTreeMap<WaiterId, Condition>,
    is_noted: bool,
}

struct Entry {
    db: i32,
    key: Rc<[u8]>,
    timer: Slot,
}

/// Somebody who is to be told what became of its condition.
#[derive(Debug)]
pub(crate) struct Told {
    pub id: WaiterId,
    pub key: Rc<[u8]>,
    pub verdict: Verdict,
}

/// The bytes of the server's memory that one observer takes.
const WATCH: usize = CLIENT
    + in_tree::<(WaiterId, Entry)>()
    + in_tree::<(WaiterId, Condition)>()
    + Deadlines::<WaiterId>::ENTRY_BYTES;

/// The bytes of the server's memory that a watched key takes, beside its observers.
const fn key_bytes(key: &[u8]) -> usize {
    in_table::<(Rc<[u8]>, Watched)>() + first_node::<(WaiterId, Condition)>() + shared_name(key.len())
}

/// All observers of the server.
#[derive(Default)]
pub(crate) struct Observers {
    keys: BTreeMap<i32, Table<Rc<[u8]>, Watched>>,
    entries: BTreeMap<WaiterId, Entry>,
    deadlines: Deadlines<WaiterId>,
    /// The bytes of the server's memory that the watched keys take.
    key_bytes: usize,
    /// Keys to look at. The newest come first: those of the step at hand.
    noted: Vec<(i32, Rc<[u8]>)>,
    told: VecDeque<Told>,
    /// Going over all keys, some at a time.
    all: Sweep<WaiterId>,
    /// How far [`Observers::note_some`] has come.
    noted_up_to: WaiterId,
}

impl Observers {
    /// Whether nobody watches anything.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many watch in the server.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of the server's memory that all of it takes, with the clients that are kept waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.len() * WATCH + self.key_bytes
    }

    /// How many watch this key.
    pub(crate) fn watching(&self, db: i32, key: &[u8]) -> usize {
        self.watched(db, key).map_or(0, |watched| watched.conditions.len())
    }

    /// Those who watch this key, first come first.
    pub(crate) fn of(&self, db: i32, key: &[u8]) -> impl Iterator<Item = WaiterId> + '_ {
        self.watched(db, key).into_iter().flat_map(|watched| watched.conditions.keys().copied())
    }

    /// Adds one who watches this key until `deadline`. Its number must be new.
    pub(crate) fn insert(
        &mut self,
        id: WaiterId,
        db: i32,
        key: &[u8],
        condition: Condition,
        deadline: Moment,
    ) {
        let keys = self.keys.entry(db).or_default();
        let key = keys.get_key_value(key).map_or_else(|| Rc::from(key), |(key, _)| Rc::clone(key));
        let conditions = &mut keys.get_or_default(Rc::clone(&key)).conditions;
        let is_new = conditions.is_empty();
        conditions.insert(id, condition);
        if is_new {
            self.key_bytes += key_bytes(&key);
        }
        let timer = match deadline {
            Moment::NEVER => Slot::NONE,
            deadline => self.deadlines.insert(deadline, id),
        };
        self.entries.insert(id, Entry { db, key, timer });
    }

    /// Forgets an observer. Returns whether there was one.
    pub(crate) fn remove(&mut self, id: WaiterId) -> bool {
        let Some(Entry { db, key, .. }) = self.forget(id) else { return false };
        if let Some(keys) = self.keys.get_mut(&db) {
            let left = keys.get_mut(&key).map(|watched| {
                watched.conditions.remove(&id);
                watched.conditions.len()
            });
            if left == Some(0) {
                self.key_bytes -= key_bytes(&key);
                keys.remove(&key);
            } else if left.is_none() {
                broken("somebody watches a key that nobody watches");
            }
        } else {
            broken("somebody watches a key of no database");
        }
        true
    }

    /// Whether this one watches for what only a primary knows: who wants a lock.
    pub(crate) fn needs_primary(&self, id: WaiterId) -> bool {
        let watched = self.entries.get(&id).and_then(|entry| self.watched(entry.db, &entry.key));
        let condition = watched.and_then(|watched| watched.conditions.get(&id));
        matches!(condition, Some(Condition::Wanted(_)))
    }

    fn forget(&mut self, id: WaiterId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.deadlines.remove(entry.timer);
        Some(entry)
    }

    /// Asks for a look at this key, if anybody watches it. Returns whether somebody does.
    #[inline]
    pub(crate) fn mark(&mut self, db: i32, key: &[u8]) -> bool {
        !self.is_empty() && self.note_watched(db, key)
    }

    fn note_watched(&mut self, db: i32, key: &[u8]) -> bool {
        let Some(keys) = self.keys.get_mut(&db) else { return false };
        let Some(name) = keys.get_key_value(key).map(|(name, _)| Rc::clone(name)) else { return false };
        if let Some(watched) = keys.get_mut(key).filter(|watched| !watched.is_noted) {
            watched.is_noted = true;
            self.noted.push((db, name));
        }
        true
    }

    /// Asks for a look at all keys that somebody watches.
    pub(crate) fn mark_all(&mut self) {
        self.all.ask();
    }

    /// Asks for a look at the keys of so many of those who watch, going round all of them.
    pub(crate) fn note_some(&mut self, count: usize) {
        self.noted_up_to = self.note_after(self.noted_up_to, count).unwrap_or_default();
    }

    /// The same for those who come after one of them. Returns the last; `None` if there are no more.
    fn note_after(&mut self, after: WaiterId, count: usize) -> Option<WaiterId> {
        let others = (Bound::Excluded(after), Bound::Unbounded);
        let chosen = self.entries.range(others).take(count);
        let chosen: Vec<_> = chosen.map(|(id, entry)| (*id, entry.db, Rc::clone(&entry.key))).collect();
        let last = chosen.last().filter(|_| chosen.len() == count).map(|(id, ..)| *id);
        for (_, db, key) in chosen {
            self.note_watched(db, &key);
        }
        last
    }

    /// Whether a key is to be looked at, or somebody to be told.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.noted.is_empty() && self.told.is_empty() && !self.all.is_on()
    }

    /// The next key to look at, when those that were noted one by one are done of all that are watched.
    pub(crate) fn next(&mut self) -> Option<(i32, Rc<[u8]>)> {
        loop {
            let noted = self.next_noted();
            if noted.is_some() || !self.all.is_on() {
                return noted;
            }
            let last = self.note_after(*self.all.last(), OBSERVED_PER_STEP);
            self.all.go_on(last);
        }
    }

    /// The next key to look at of those that were noted one by one.
    pub(crate) fn next_noted(&mut self) -> Option<(i32, Rc<[u8]>)> {
        loop {
            let (db, key) = self.noted.pop()?;
            let watched = self.keys.get_mut(&db).and_then(|keys| keys.get_mut(&key));
            // The observers may be gone by now, and others may have come.
            if let Some(watched) = watched.filter(|watched| watched.is_noted) {
                watched.is_noted = false;
                return Some((db, key));
            }
        }
    }

    /// Goes over the conditions of a key that has been looked at. Those that a verdict was passed on are over.
    pub(crate) fn judge(
        &mut self,
        db: i32,
        key: &[u8],
        mut verdict: impl FnMut(Condition) -> Option<Verdict>,
    ) {
        let Some(keys) = self.keys.get_mut(&db) else { return };
        let Some(name) = keys.get_key_value(key).map(|(name, _)| Rc::clone(name)) else { return };
        let Some(watched) = keys.get_mut(key) else { return };
        let first = self.told.len();
        let told = &mut self.told;
        watched.conditions.retain(|id, condition| {
            let Some(verdict) = verdict(*condition) else { return true };
            told.push_back(Told { id: *id, key: Rc::clone(&name), verdict });
            false
        });
        if watched.conditions.is_empty() {
            self.key_bytes -= key_bytes(key);
            keys.remove(key);
        }
        for at in first..self.told.len() {
            if let Some(id) = self.told.get(at).map(|told| told.id) {
                self.forget(id);
            }
        }
    }

    /// The next one to be told.
    pub(crate) fn next_told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// Someone whose time is over at `now`; it still watches.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<WaiterId> {
        let id = self.deadlines.pop_due(now)?;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.timer = Slot::NONE;
        } else {
            broken("a watch that is due is unknown");
        }
        Some(id)
    }

    /// When to call [`Observers::pop_due`] next.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.next_deadline()
    }

    fn watched(&self, db: i32, key: &[u8]) -> Option<&Watched> {
        self.keys.get(&db)?.get(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::primitive::Fence;

    const KEYS: [&[u8]; 3] = [b"a", b"b", b"c"];

    #[derive(Clone, Debug)]
    enum Op {
        Insert {
            db: i32,
            key: usize,
            fence: u64,
            ms: Option<u64>,
        },
        Remove(usize),
        Note {
            db: i32,
            key: usize,
        },
        NoteAll,
        NoteSome(usize),
        /// Looks at all that is noted; the conditions with these fences are met.
        Look(u64),
        Advance(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let (db, key) = (0..2_i32, 0..KEYS.len());
        prop_oneof![
            4 => (db.clone(), key.clone(), 1..5_u64, prop::option::of(0..20_u64))
                .prop_map(|(db, key, fence, ms)| Op::Insert { db, key, fence, ms }),
            1 => any::<usize>().prop_map(Op::Remove),
            3 => (db.clone(), key).prop_map(|(db, key)| Op::Note { db, key }),
            1 => Just(Op::NoteAll),
            1 => (1..4_usize).prop_map(Op::NoteSome),
            2 => (1..5_u64).prop_map(Op::Look),
            1 => (0..30_u64).prop_map(Op::Advance),
        ]
    }

    /// One who watches, as a row of a list.
    #[derive(Clone, Copy, Debug)]
    struct Row {
        id: WaiterId,
        db: i32,
        key: usize,
        fence: u64,
        deadline: Moment,
    }

    #[derive(Default)]
    struct World {
        observers: Observers,
        rows: Vec<Row>,
        noted: BTreeSet<(i32, usize)>,
        /// Whether all keys are to be looked at, whoever watches them by then.
        all: bool,
        now: u64,
        ids: u64,
        noted_up_to: u64,
    }

    impl World {
        #[expect(clippy::needless_pass_by_value, reason = "an operation is done once")]
        fn apply(&mut self, op: Op) {
            match op {
                Op::Insert { db, key, fence, ms } => {
                    self.ids += 1;
                    let id = WaiterId(self.ids);
                    let deadline = ms.map_or(Moment::NEVER, |ms| Moment(self.now * 1000).plus_ms(ms));
                    let condition = Condition::Wanted(Fence::new(fence).unwrap());
                    self.observers.insert(id, db, KEYS[key], condition, deadline);
                    self.rows.push(Row { id, db, key, fence, deadline });
                }
                Op::Remove(n) if !self.rows.is_empty() => {
                    let row = self.rows.remove(n % self.rows.len());
                    assert!(self.observers.remove(row.id));
                    assert!(!self.observers.remove(row.id));
                }
                Op::Remove(_) => {}
                Op::Note { db, key } => {
                    let is_watched = self.rows.iter().any(|row| (row.db, row.key) == (db, key));
                    assert_eq!(self.observers.mark(db, KEYS[key]), is_watched);
                    self.mark(|row| (row.db, row.key) == (db, key));
                }
                Op::NoteAll => {
                    self.observers.mark_all();
                    self.all = true;
                }
                Op::NoteSome(count) => {
                    self.observers.note_some(count);
                    let after = WaiterId(self.noted_up_to);
                    let ids = self.rows.iter().map(|row| row.id).filter(|id| *id > after);
                    let ids: Vec<WaiterId> = ids.take(count).collect();
                    self.noted_up_to = if ids.len() == count { ids[count - 1].0 } else { 0 };
                    self.mark(|row| ids.contains(&row.id));
                }
                Op::Look(fence) => self.look(fence),
                Op::Advance(ms) => {
                    self.now += ms;
                    let now = Moment(self.now * 1000);
                    let mut due = BTreeSet::new();
                    while self.observers.next_deadline().is_some_and(|next| next <= now) {
                        due.extend(self.observers.pop_due(now));
                    }
                    let expected = self.rows.iter().filter(|row| row.deadline <= now).map(|row| row.id);
                    assert_eq!(due, expected.collect());
                    assert!(due.into_iter().all(|id| self.observers.remove(id)));
                    self.rows.retain(|row| row.deadline > now);
                }
            }
            // A key that nobody watches any more is not looked at, even if others begin to watch it.
            let rows = &self.rows;
            self.noted.retain(|noted| rows.iter().any(|row| (row.db, row.key) == *noted));
        }

        fn mark(&mut self, chosen: impl Fn(&Row) -> bool) {
            self.noted.extend(self.rows.iter().filter(|row| chosen(row)).map(|row| (row.db, row.key)));
        }

        fn look(&mut self, fence: u64) {
            let mut looked = BTreeSet::new();
            let met = Condition::Wanted(Fence::new(fence).unwrap());
            let all = std::mem::take(&mut self.all);
            if all {
                self.mark(|_| true);
            }
            while let Some((db, key)) = self.observers.next() {
                let at = KEYS.iter().position(|name| **name == *key).unwrap();
                assert!(looked.insert((db, at)) || all, "each once, or with each of those who watch it");
                self.observers.judge(db, &key, |condition| (condition == met).then_some(Verdict::Met));
            }
            assert_eq!(looked, self.noted);
            let (told, rest): (Vec<Row>, Vec<Row>) =
                self.rows.iter().partition(|row| row.fence == fence && looked.contains(&(row.db, row.key)));
            let expected: BTreeSet<_> = told.iter().map(|row| (row.id, KEYS[row.key].to_vec())).collect();
            let heard = std::iter::from_fn(|| self.observers.next_told());
            let heard: Vec<_> = heard.map(|told| (told.id, told.key.to_vec())).collect();
            assert_eq!((heard.len(), heard.into_iter().collect()), (expected.len(), expected));
            self.rows = rest;
            self.noted.clear();
        }

        fn compare(&self) {
            let Self { observers, rows, .. } = self;
            assert_eq!((observers.len(), observers.is_empty()), (rows.len(), rows.is_empty()));
            assert_eq!(observers.is_quiet(), observers.noted.is_empty() && !self.all);
            assert!(self.noted.is_empty() || !observers.is_quiet());
            let at = |db: i32, key: usize| rows.iter().filter(move |row| (row.db, row.key) == (db, key));
            for (db, key) in (0..2).flat_map(|db| (0..KEYS.len()).map(move |key| (db, key))) {
                assert_eq!(observers.watching(db, KEYS[key]), at(db, key).count());
                assert!(observers.of(db, KEYS[key]).eq(at(db, key).map(|row| row.id)), "first come first");
            }
            let watched: BTreeSet<_> = rows.iter().map(|row| (row.db, row.key)).collect();
            let names: usize = watched.iter().map(|(_, key)| key_bytes(KEYS[*key])).sum();
            assert_eq!(observers.bytes(), rows.len() * WATCH + names);
            let first =
                rows.iter().map(|row| row.deadline).filter(|deadline| *deadline != Moment::NEVER).min();
            assert_eq!(observers.next_deadline().is_some(), first.is_some());
            assert!(first.is_none() || observers.next_deadline() <= first);
        }
    }

    proptest! {
        #[test]
        fn a_list_would_do_the_same(ops in prop::collection::vec(op(), 1..60)) {
            let mut world = World::default();
            for op in ops {
                world.apply(op);
                world.compare();
            }
        }
    }

    #[test]
    fn the_newest_notes_come_first() {
        let mut observers = Observers::default();
        for (id, key) in (1..).zip(KEYS) {
            observers.insert(WaiterId(id), 0, key, Condition::Free, Moment::NEVER);
            observers.mark(0, key);
        }
        let order: Vec<_> =
            std::iter::from_fn(|| observers.next_noted()).map(|(_, key)| key.to_vec()).collect();
        assert_eq!(order, [b"c", b"b", b"a"]);
    }
}
