//! The locks that were waited for most lately, in bounded memory: a name that is not known takes the place of the one with the
//! fewest waits, and its count (Metwally's Space-Saving). No count is too low, and each has with it how much of it may be the
//! other names'. Now and then all are halved, so that old quarrels fade.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use super::table::hash_of;

/// How many names are known.
const NAMES_MAX: usize = 64;
/// After so many waits all counts are halved.
const FADE_AFTER: u32 = if cfg!(test) { 1_000 } else { 100_000 };

/// A lock and how often it was waited for.
#[derive(Debug)]
pub(crate) struct Contended {
    pub db: i32,
    pub key: Box<[u8]>,
    hash: u64,
    /// How many waits, or up to `error` less.
    pub waits: u64,
    pub error: u64,
}

/// The names with the most waits.
#[derive(Default)]
pub(crate) struct MostContended {
    names: Vec<Contended>,
    noted: u32,
}

impl MostContended {
    /// Somebody begins to wait for this lock.
    pub(crate) fn record(&mut self, db: i32, key: &[u8]) {
        self.noted += 1;
        if self.noted >= FADE_AFTER {
            self.fade();
        }
        let hash = hash_of(&(db, key));
        if let Some(known) = self.names.iter_mut().find(|known| known.hash == hash) {
            known.waits += 1;
            return;
        }
        let new = |before: u64| Contended { db, key: key.into(), hash, waits: before + 1, error: before };
        if self.names.len() < NAMES_MAX {
            self.names.push(new(0));
        } else if let Some(fewest) = self.names.iter_mut().min_by_key(|known| known.waits) {
            *fewest = new(fewest.waits);
        }
    }

    /// The names, those with the most waits first.
    pub(crate) fn sorted(&self) -> Vec<&Contended> {
        let mut names: Vec<&Contended> = self.names.iter().collect();
        names.sort_by_key(|known| std::cmp::Reverse(known.waits));
        names
    }

    #[cold]
    fn fade(&mut self) {
        self.noted = 0;
        for known in &mut self.names {
            known.waits /= 2;
            known.error /= 2;
        }
        self.names.retain(|known| known.waits > 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_count_is_too_low_and_none_further_off_than_it_says(keys in prop::collection::vec(0..200_u32, 1..900)) {
            let (mut most, mut exact) = (MostContended::default(), BTreeMap::<Vec<u8>, u64>::new());
            for key in keys {
                // Some names come far more often than others.
                let key = (key * key / 300).to_string().into_bytes();
                most.record(0, &key);
                *exact.entry(key).or_default() += 1;
            }
            let named = most.sorted();
            prop_assert!(named.len() <= NAMES_MAX);
            for known in &named {
                let count = exact[&*known.key];
                prop_assert!(known.waits - known.error <= count && count <= known.waits, "{known:?} {count}");
            }
            let total: u64 = exact.values().sum();
            for (key, count) in exact.iter().filter(|(_, count)| **count > total / NAMES_MAX as u64) {
                prop_assert!(named.iter().any(|known| *known.key == **key), "{count} waits and not named");
            }
        }
    }

    #[test]
    fn old_quarrels_fade() {
        let mut most = MostContended::default();
        (0..10).for_each(|_| most.record(0, b"old"));
        (0..5 * FADE_AFTER).for_each(|_| most.record(1, b"new"));
        assert_eq!(most.sorted().iter().map(|known| &*known.key).collect::<Vec<_>>(), [b"new"]);
    }
}
