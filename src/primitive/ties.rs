//! Which holds are tied to which connection: where to look when one is gone. Every entry is a hint: the code that gets
//! one opens the key and compares. `step/orphans.rs` decides what becomes of the hold.

#![expect(clippy::arithmetic_side_effects, reason = "sizes of what is in memory")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use super::bounds::Tie;
use super::footprint::{in_tree, shared_name};
use super::Fence;

/// One tied hold of a database: the client id of its connection, its key, and its fence.
pub(crate) type Tied = (u64, Rc<[u8]>, Fence);

/// The bytes that one tied hold takes here, of a lock with a name of this length.
pub(crate) const fn tie_bytes(name_len: usize) -> usize {
    in_tree::<Tied>() + shared_name(name_len)
}

/// The tied holds of one database.
#[derive(Debug, Default)]
struct Index {
    tied: BTreeSet<Tied>,
    bytes: usize,
}

/// The tied holds of each database. Other processes give the same client ids, which does no harm.
#[derive(Debug, Default)]
pub(crate) struct Ties {
    by_db: BTreeMap<i32, Index>,
}

impl Ties {
    /// Notes a hold. One that is cut needs no note: its deadline ends it.
    pub(crate) fn add(&mut self, db: i32, key: &[u8], fence: Fence, tie: &Tie) {
        if !tie.is_orphaned() {
            let index = self.by_db.entry(db).or_default();
            if index.tied.insert((tie.client, key.into(), fence)) {
                index.bytes += tie_bytes(key.len());
            }
        }
    }

    /// Forgets a hold.
    pub(crate) fn forget(&mut self, db: i32, key: &[u8], fence: Fence, tie: &Tie) {
        if let Some(index) = self.by_db.get_mut(&db)
            && index.tied.remove(&(tie.client, key.into(), fence))
        {
            index.bytes -= tie_bytes(key.len());
        }
    }

    /// The holds of one connection, or of all, database by database: as many as come after `last`.
    pub(crate) fn after(
        &self,
        last: Option<&(i32, Tied)>,
        client: Option<u64>,
        count: usize,
    ) -> Vec<(i32, Tied)> {
        let first_db = last.map_or(i32::MIN, |(db, _)| *db);
        let tied = self.by_db.range(first_db..).flat_map(|(db, index)| {
            let from = match (last, client) {
                (Some((last_db, last)), _) if last_db == db => Bound::Excluded(last.clone()),
                (_, Some(client)) => Bound::Included((client, Rc::default(), Fence::MIN)),
                (_, None) => Bound::Unbounded,
            };
            let later = index.tied.range((from, Bound::Unbounded));
            let own = later.take_while(|(of, ..)| client.is_none_or(|client| client == *of));
            own.map(|tied| (*db, tied.clone()))
        });
        tied.take(count).collect()
    }

    /// The keys of all of them.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Rc<[u8]>> {
        self.by_db.values().flat_map(|index| &index.tied).map(|(_, key, _)| key)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_db.values().map(|index| index.tied.len()).sum()
    }

    /// The bytes of the server's memory that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.by_db.values().map(|index| index.bytes).sum()
    }

    /// Two databases have changed places.
    pub(crate) fn swap(&mut self, first: i32, second: i32) {
        let (one, other) = (self.by_db.remove(&first), self.by_db.remove(&second));
        self.by_db.extend(one.map(|tied| (second, tied)).into_iter().chain(other.map(|tied| (first, tied))));
    }

    /// One database has been emptied, or all. The memory of its entries is given back bit by bit, with each step of the
    /// iterator.
    pub(crate) fn clear(&mut self, db: Option<i32>) -> impl Iterator<Item = ()> + use<> {
        let gone: Vec<Index> = match db {
            Some(db) => self.by_db.remove(&db).into_iter().collect(),
            None => std::mem::take(&mut self.by_db).into_values().collect(),
        };
        gone.into_iter().flat_map(|index| index.tied).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lease;
    use super::*;

    fn tie(client: u64) -> Tie {
        Tie::new(1, client, Lease::ms(0))
    }

    fn of(ties: &Ties, client: u64) -> Vec<(i32, Vec<u8>)> {
        let found = ties.after(None, Some(client), 100);
        found.into_iter().map(|(db, (_, key, _))| (db, key.to_vec())).collect()
    }

    #[test]
    fn a_connection_finds_its_own_in_all_databases_also_when_they_change_places() {
        let (mut ties, fence) = (Ties::default(), Fence::new(5).unwrap());
        for (db, key, client) in [(0, b"a", 7), (0, b"b", 8), (3, b"c", 7), (4, b"d", 9)] {
            ties.add(db, key, fence, &tie(client));
        }
        assert_eq!(of(&ties, 7), [(0, b"a".to_vec()), (3, b"c".to_vec())]);
        ties.swap(0, 3);
        assert_eq!(of(&ties, 7), [(0, b"c".to_vec()), (3, b"a".to_vec())]);
        ties.forget(0, b"c", fence, &tie(7));
        assert_eq!((of(&ties, 7), ties.len()), (vec![(3, b"a".to_vec())], 3));
        assert_eq!(ties.clear(Some(3)).count(), 2);
        assert_eq!((ties.len(), ties.clear(None).count(), ties.len()), (1, 1, 0));
    }

    #[test]
    fn whoever_goes_on_from_the_last_one_sees_each_once() {
        let (mut ties, fence) = (Ties::default(), Fence::new(5).unwrap());
        for n in 0..20_u8 {
            ties.add(i32::from(n % 3), &[n], fence, &tie(u64::from(n / 4)));
        }
        let (mut last, mut seen) = (None, Vec::new());
        loop {
            let some = ties.after(last.as_ref(), None, 6);
            seen.extend(some.iter().map(|(_, (_, key, _))| key.to_vec()));
            if some.len() < 6 {
                break;
            }
            last = some.last().cloned();
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..20_u8).map(|n| vec![n]).collect::<Vec<_>>());
    }
}
