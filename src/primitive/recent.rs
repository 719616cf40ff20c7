//! The newest values, found by a tag: what a memory of a fixed size is made of.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "the arithmetic of its own places, within bounds that the tests hold"
)]

use std::collections::VecDeque;

use super::table::Table;

use super::footprint::{allocated, in_table};

/// Values, each under a tag. The oldest go when there is no room; a newer one under the same tag hides the one before.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    values: VecDeque<(u64, T)>,
    /// The number of the oldest value; they are numbered as they come.
    first: u64,
    /// By tag, the number of its newest value.
    newest: Table<u64, u64>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { values: VecDeque::new(), first: 0, newest: Table::default() }
    }
}

impl<T> Recent<T> {
    /// Whether there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Lets the oldest go until there are no more than this.
    pub(crate) fn trim(&mut self, room: usize) {
        while self.values.len() > room {
            let Some((tag, _)) = self.values.pop_front() else { return };
            if self.newest.get(&tag) == Some(&self.first) {
                self.newest.remove(&tag);
            }
            self.first += 1;
        }
    }

    /// The bytes of the server's memory that all of it takes.
    pub(crate) fn bytes(&self) -> usize {
        let tags = self.newest.len() * in_table::<(u64, u64)>();
        allocated(self.values.capacity() * size_of::<(u64, T)>()) + tags
    }

    /// Lets the oldest go until it takes no more memory than this.
    pub(crate) fn fit(&mut self, bytes: usize) {
        while self.bytes() > bytes {
            let len = self.values.len();
            // Half of it is left to grow into, so that it is not moved again soon.
            if len == 0 || self.values.capacity() > 2 * len + 16 {
                self.values.shrink_to(len + len / 2);
            } else {
                self.trim(len - 1);
            }
        }
    }

    /// Adds a value where there is room for this many.
    pub(crate) fn put(&mut self, tag: u64, value: T, room: usize) {
        let Some(others) = room.checked_sub(1) else { return };
        self.trim(others);
        self.newest.insert(tag, self.first + self.values.len() as u64);
        self.values.push_back((tag, value));
    }

    /// The newest value under this tag.
    pub(crate) fn get(&self, tag: u64) -> Option<&T> {
        let place = self.newest.get(&tag)? - self.first;
        self.values.get(usize::try_from(place).ok()?).map(|(_, value)| value)
    }

    /// The same, to be changed in place.
    pub(crate) fn get_mut(&mut self, tag: u64) -> Option<&mut T> {
        let place = self.newest.get(&tag)? - self.first;
        self.values.get_mut(usize::try_from(place).ok()?).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_fits_and_keeps_the_newest_that_fit(
            count in 0..2_000_u64, bytes in 0..100_000_usize, later in 0..100_000_usize,
        ) {
            let mut recent = Recent::default();
            for n in 1..=count {
                recent.put(n, n, usize::MAX);
                recent.fit(bytes);
                prop_assert!(recent.bytes() <= bytes);
            }
            recent.fit(later);
            prop_assert!(recent.bytes() <= later);
            let kept: Vec<u64> = recent.values.iter().map(|(_, n)| *n).collect();
            let first = count + 1 - kept.len() as u64;
            prop_assert!(kept.iter().copied().eq(first..=count), "the newest, without a gap");
            prop_assert!(kept.iter().all(|n| recent.get(*n) == Some(n)));
            // Room grows by more than one place at a time, so where there is room for two there may be none.
            let fits = (bytes.min(later) / 200) as u64;
            prop_assert!(kept.len() as u64 >= count.min(fits.saturating_sub(2)), "and not much fewer than there is room for");
        }

        #[test]
        fn finds_what_is_among_the_newest(
            steps in prop::collection::vec((0..4_u64, prop::option::weighted(0.1, 0..4_usize)), 0..60),
            mut room in 0..4_usize,
        ) {
            let (mut recent, mut model) = (Recent::default(), Vec::new());
            for (value, (tag, other_room)) in steps.into_iter().enumerate() {
                room = other_room.unwrap_or(room);
                recent.trim(room);
                recent.put(tag, value, room);
                model.push((tag, value));
                let kept = &model[model.len().saturating_sub(room)..];
                model = kept.to_vec();
                for tag in 0..4 {
                    let newest = model.iter().rev().find(|(other, _)| *other == tag).map(|(_, value)| value);
                    prop_assert_eq!(recent.get(tag), newest);
                    prop_assert_eq!(recent.get_mut(tag).map(|value| &*value), newest);
                }
                prop_assert_eq!(recent.is_empty(), model.is_empty());
                prop_assert!(recent.newest.len() <= model.len(), "nothing is left of what went");
            }
        }
    }
}
