//! Tables: a map and a set that grow without a stall, under a hash that a client cannot foresee.
//!
//! A table of the standard library moves all that it has when it outgrows its room: half a million entries keep every
//! client waiting for tens of milliseconds. Here the outgrown room stays, and each insertion moves a few of its places
//! over until it is empty.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "the arithmetic of its own places, within bounds that the tests hold"
)]

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::iter::{Chain, Map};
use std::mem;
use std::sync::LazyLock;

use foldhash::quality::FoldHasher;
use foldhash::SharedSeed;
use hashbrown::hash_table::{Entry, HashTable, IntoIter};

use super::footprint::allocated;

/// How many places of an outgrown room each insertion empties. Room for new entries lasts for at least a sixteenth as many
/// insertions as there are such places: see [`Table::grow`].
const MOVED_PER_INSERT: usize = 32;

/// Less than this is moved at once, which is a few microseconds.
const SMALL: usize = 128;

/// Made of the system's randomness when the first table needs it. No reply, and no order of replies, shows a hash.
static SEED: LazyLock<(u64, SharedSeed)> = LazyLock::new(|| {
    let random = || RandomState::new().build_hasher().finish();
    (random(), SharedSeed::from_u64(random()))
});

/// The hash of a value, in this process.
pub(crate) fn hash_of(key: &(impl Hash + ?Sized)) -> u64 {
    let (seed, shared) = &*SEED;
    let mut hasher = FoldHasher::with_seed(*seed, shared);
    key.hash(&mut hasher);
    hasher.finish()
}

/// Room that was outgrown, and the first of its places that may still have an entry.
#[derive(Debug)]
struct Outgrown<T> {
    room: HashTable<T>,
    next: usize,
}

/// Values by their keys, in no order.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    room: HashTable<(K, V)>,
    outgrown: Option<Box<Outgrown<(K, V)>>>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { room: HashTable::new(), outgrown: None }
    }
}

impl<K: Hash + Eq, V> Table<K, V> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.room.len() + self.outgrown.as_ref().map_or(0, |outgrown| outgrown.room.len())
    }

    /// Whether there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.room.is_empty() && self.outgrown.as_ref().is_none_or(|outgrown| outgrown.room.is_empty())
    }

    /// The bytes of the server's memory that it takes, beside what its entries have elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        let of_old = |old: &Outgrown<(K, V)>| {
            allocated(size_of::<Outgrown<(K, V)>>()) + allocated(old.room.allocation_size())
        };
        allocated(self.room.allocation_size()) + self.outgrown.as_deref().map_or(0, of_old)
    }

    /// The key as it stands here, and its value.
    pub(crate) fn get_key_value<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        if self.is_empty() {
            return None;
        }
        let hash = hash_of(key);
        let is_it = |entry: &(K, V)| entry.0.borrow() == key;
        let found = self.room.find(hash, is_it).or_else(|| self.outgrown.as_ref()?.room.find(hash, is_it));
        found.map(|(key, value)| (key, value))
    }

    /// The value of this key.
    #[inline]
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// Whether there is this key.
    pub(crate) fn has<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).is_some()
    }

    /// The value of this key, to be changed.
    pub(crate) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if self.is_empty() {
            return None;
        }
        let hash = hash_of(key);
        let is_it = |entry: &(K, V)| entry.0.borrow() == key;
        let Self { room, outgrown } = self;
        let found = room.find_mut(hash, is_it);
        let found = found.or_else(|| outgrown.as_mut()?.room.find_mut(hash, is_it));
        found.map(|(_, value)| value)
    }

    /// The value of this key, which is made if there is none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let hash = hash_of(&key);
        self.make_room();
        self.fetch(hash, &key);
        match self.room.entry(hash, |known| known.0 == key, |known| hash_of(&known.0)) {
            Entry::Occupied(known) => &mut known.into_mut().1,
            Entry::Vacant(place) => &mut place.insert((key, make())).into_mut().1,
        }
    }

    /// The key as it stands here, and its value. Both are made if there is none.
    pub(crate) fn get_or_make<Q: Hash + Eq + ?Sized>(
        &mut self,
        key: &Q,
        make: impl FnOnce() -> (K, V),
    ) -> (&K, &mut V)
    where
        K: Borrow<Q>,
    {
        let hash = hash_of(key);
        self.make_room();
        self.fetch(hash, key);
        let entry = self.room.entry(hash, |known| known.0.borrow() == key, |known| hash_of(&known.0));
        let (key, value) = match entry {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(make()).into_mut(),
        };
        (key, value)
    }

    /// Moves the entry of this key over, if it is among the outgrown.
    #[inline]
    fn fetch<Q: Hash + Eq + ?Sized>(&mut self, hash: u64, key: &Q)
    where
        K: Borrow<Q>,
    {
        let Some(old) = &mut self.outgrown else { return };
        if let Ok(entry) = old.room.find_entry(hash, |known| known.0.borrow() == key) {
            self.room.insert_unique(hash, entry.remove().0, |known| hash_of(&known.0));
        }
    }

    /// The value of this key, which is empty if there was none.
    pub(crate) fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.get_or_insert_with(key, V::default)
    }

    /// Puts a value in. Returns the one that was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = hash_of(&key);
        self.make_room();
        self.fetch(hash, &key);
        match self.room.entry(hash, |known| known.0 == key, |known| hash_of(&known.0)) {
            Entry::Occupied(mut known) => Some(mem::replace(&mut known.get_mut().1, value)),
            Entry::Vacant(place) => {
                place.insert((key, value));
                None
            }
        }
    }

    /// Takes a value out.
    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.remove_if(key, |_| true)
    }

    /// Takes a value out, unless `is_over`, which may change it, says otherwise.
    pub(crate) fn remove_if<Q: Hash + Eq + ?Sized>(
        &mut self,
        key: &Q,
        is_over: impl FnOnce(&mut V) -> bool,
    ) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if self.is_empty() {
            return None;
        }
        let hash = hash_of(key);
        let is_it = |entry: &(K, V)| entry.0.borrow() == key;
        let found = self.room.find_entry(hash, is_it).ok();
        let found = found.or_else(|| self.outgrown.as_mut()?.room.find_entry(hash, is_it).ok());
        let mut found = found?;
        if !is_over(&mut found.get_mut().1) {
            return None;
        }
        let ((_, value), _) = found.remove();
        if self.is_empty() && self.room.num_buckets() > SMALL {
            *self = Self::default();
        }
        Some(value)
    }

    /// All entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let old = self.outgrown.iter().flat_map(|old| &old.room);
        self.room.iter().chain(old).map(|(key, value)| (key, value))
    }

    /// All keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let old = self.outgrown.iter_mut().flat_map(|old| &mut old.room);
        self.room.iter_mut().chain(old).map(|(_, value)| value)
    }

    /// Sees that there is room for one more, and empties some of the outgrown.
    #[inline]
    fn make_room(&mut self) {
        if self.outgrown.is_some() {
            self.move_some(MOVED_PER_INSERT);
        }
        if self.room.len() == self.room.capacity() && self.room.num_buckets() > SMALL {
            self.grow();
        }
    }

    /// Begins with new room: twice as much as is there, or less where most places are only marked as used. It is never so
    /// little that it could be full before the outgrown is empty.
    #[cold]
    fn grow(&mut self) {
        self.move_some(usize::MAX);
        let capacity = (self.room.len() * 2).max(self.room.num_buckets() / 8);
        let room = mem::replace(&mut self.room, HashTable::with_capacity(capacity));
        self.outgrown = Some(Box::new(Outgrown { room, next: 0 }));
    }

    fn move_some(&mut self, places: usize) {
        let Some(old) = &mut self.outgrown else { return };
        let end = old.next.saturating_add(places).min(old.room.num_buckets());
        for place in old.next..end {
            if let Ok(entry) = old.room.get_bucket_entry(place) {
                let entry = entry.remove().0;
                self.room.insert_unique(hash_of(&entry.0), entry, |known| hash_of(&known.0));
            }
        }
        old.next = end;
        if old.room.is_empty() {
            self.outgrown = None;
        }
    }
}

impl<K, V> IntoIterator for Table<K, V> {
    type Item = (K, V);
    type IntoIter = Entries<K, V>;

    fn into_iter(self) -> Entries<K, V> {
        let old = self.outgrown.map(|old| old.room).unwrap_or_default();
        self.room.into_iter().chain(old)
    }
}

/// The entries of a table that was taken apart.
pub(crate) type Entries<K, V> = Chain<IntoIter<(K, V)>, IntoIter<(K, V)>>;

/// Things that are each there once, in no order.
#[derive(Debug)]
pub(crate) struct Set<T>(Table<T, ()>);

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self(Table::default())
    }
}

impl<T: Hash + Eq> Set<T> {
    /// Whether there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is there.
    pub(crate) fn has<Q: Hash + Eq + ?Sized>(&self, thing: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.has(thing)
    }

    /// Puts a thing in. Returns whether it is new.
    pub(crate) fn insert(&mut self, thing: T) -> bool {
        let mut is_new = false;
        self.0.get_or_insert_with(thing, || is_new = true);
        is_new
    }

    /// Takes a thing out. Returns whether it was there.
    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, thing: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.remove(thing).is_some()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }
}

impl<T> IntoIterator for Set<T> {
    type Item = T;
    type IntoIter = Map<Entries<T, ()>, fn((T, ())) -> T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(|(thing, ())| thing)
    }
}

impl<T: Hash + Eq> Extend<T> for Set<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, things: I) {
        things.into_iter().for_each(|thing| {
            self.insert(thing);
        });
    }
}

impl<T: Hash + Eq> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(things: I) -> Self {
        let mut set = Self::default();
        set.extend(things);
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u16, u8),
        Make(u16, u8),
        Remove(u16),
        /// Takes out those whose value is this.
        Clean(u8),
    }

    fn op(keys: u16) -> impl Strategy<Value = Op> {
        prop_oneof![
            40 => (0..keys, any::<u8>()).prop_map(|(key, value)| Op::Insert(key, value)),
            20 => (0..keys, any::<u8>()).prop_map(|(key, value)| Op::Make(key, value)),
            40 => (0..keys).prop_map(Op::Remove),
            1 => any::<u8>().prop_map(Op::Clean),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
        #[test]
        fn a_standard_map_would_do_the_same(
            ops in prop_oneof![
                prop::collection::vec(op(5_000), 1..6_000), prop::collection::vec(op(200), 1..3_000)
            ]
        ) {
            let (mut table, mut map) = (Table::default(), HashMap::new());
            for op in ops {
                match op {
                    Op::Insert(key, value) => prop_assert_eq!(table.insert(key, value), map.insert(key, value)),
                    Op::Make(key, value) => {
                        let known = *map.entry(key).or_insert(value);
                        prop_assert_eq!(*table.get_or_insert_with(key, || value), known);
                    }
                    Op::Remove(key) => prop_assert_eq!(table.remove(&key), map.remove(&key)),
                    Op::Clean(value) => {
                        let clean = map.iter().filter(|(_, known)| **known == value).map(|(key, _)| *key);
                        for key in clean.collect::<Vec<_>>() {
                            prop_assert_eq!(table.remove(&key), map.remove(&key));
                        }
                    }
                }
                prop_assert_eq!((table.len(), table.is_empty()), (map.len(), map.is_empty()));
            }
            for key in 0..5_000 {
                prop_assert_eq!(table.get(&key), map.get(&key));
                prop_assert_eq!(table.get_mut(&key), map.get_mut(&key));
            }
            prop_assert_eq!(table.iter().map(|(key, value)| (*key, *value)).collect::<HashMap<_, _>>(), map.clone());
            prop_assert_eq!(table.into_iter().collect::<HashMap<_, _>>(), map);
        }
    }

    /// The largest number of entries that one insertion moves.
    fn moved_at_most(table: &mut Table<u64, ()>, keys: impl Iterator<Item = (u64, bool)>) -> usize {
        let mut most = 0;
        for (key, stays) in keys {
            let left = |table: &Table<_, _>| table.outgrown.as_ref().map_or(0, |old| old.room.len());
            let (before, places) = (left(table), table.room.num_buckets());
            table.insert(key, ());
            let has_grown = table.room.num_buckets() != places && places > SMALL;
            assert!(!has_grown || table.outgrown.is_some(), "{places} places were moved at once");
            most = most.max(before.saturating_sub(left(table)));
            if !stays {
                table.remove(&key);
            }
        }
        most
    }

    #[test]
    fn a_table_never_moves_many_entries_at_once() {
        let mut table = Table::default();
        let most = moved_at_most(&mut table, (0..200_000).map(|key| (key, true)));
        assert!(most <= MOVED_PER_INSERT, "{most} when it grows");
        assert_eq!(table.len(), 200_000);
        (0..200_000).filter(|key| key % 50 != 0).for_each(|key| assert!(table.remove(&key).is_some()));
        // Most places are now only marked as used.
        let most = moved_at_most(&mut table, (1_000_000..2_000_000).map(|key| (key, key % 10 == 0)));
        assert!(most <= MOVED_PER_INSERT, "{most} when others go");
        assert_eq!(table.len(), 104_000);
    }

    #[test]
    fn a_table_without_entries_takes_no_more_memory_than_its_places() {
        assert!(size_of::<Table<u64, u64>>() <= 40);
    }
}
