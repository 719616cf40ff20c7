//! Which holds are tied to which connection: where to look when one is gone. Every entry is a hint: whoever gets one
//! opens the key and compares.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::bounds::Tie;
use super::table::Table;
use super::Fence;

/// The tied holds, each by database, key and fence.
type Tied = BTreeSet<(i32, Rc<[u8]>, Fence)>;

/// The tied holds, by the client id of their connection. Other processes give the same ids, which does no harm.
#[derive(Debug, Default)]
pub struct Ties {
    by_client: Table<u64, Tied>,
}

impl Ties {
    /// Notes a hold. One that is cut needs no note: its deadline ends it.
    pub fn note(&mut self, db: i32, key: &[u8], fence: Fence, tie: &Tie) {
        if !tie.is_cut() {
            self.by_client.get_or_default(tie.client).insert((db, key.into(), fence));
        }
    }

    /// Forgets a hold.
    pub fn forget(&mut self, db: i32, key: &[u8], fence: Fence, tie: &Tie) {
        if let Some(tied) = self.by_client.get_mut(&tie.client) {
            tied.remove(&(db, key.into(), fence));
            if tied.is_empty() {
                self.by_client.remove(&tie.client);
            }
        }
    }

    /// Where the holds of one connection are.
    pub fn of(&self, client: u64) -> impl Iterator<Item = (i32, Rc<[u8]>)> + '_ {
        self.by_client.get(&client).into_iter().flatten().map(|(db, key, _)| (*db, Rc::clone(key)))
    }

    /// Where all of them are.
    pub fn all(&self) -> impl Iterator<Item = (i32, Rc<[u8]>)> + '_ {
        self.by_client.values().flatten().map(|(db, key, _)| (*db, Rc::clone(key)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_client.values().map(BTreeSet::len).sum()
    }

    /// Two databases have changed places.
    pub fn swap(&mut self, first: i32, second: i32) {
        for tied in self.by_client.values_mut() {
            let swapped = std::mem::take(tied).into_iter().map(|(db, key, fence)| match db {
                db if db == first => (second, key, fence),
                db if db == second => (first, key, fence),
                db => (db, key, fence),
            });
            *tied = swapped.collect();
        }
    }

    /// One database has been emptied, or all.
    pub fn clear(&mut self, db: Option<i32>) {
        self.by_client.values_mut().for_each(|tied| tied.retain(|(of, ..)| db.is_some_and(|db| db != *of)));
        self.by_client.retain(|_, tied| !tied.is_empty());
    }
}
