//! The roll: the locks of one database by the hash of their names, so that they can be gone through bit by bit while
//! they come and go. A lock that stays is passed exactly once, as its place in the order never changes.
//!
//! A bucket has the entries whose hashes begin with the same bits, so the order of the buckets is the order of the hashes,
//! however many buckets there are. When their number changes, each insertion and removal moves a few buckets over, from the
//! front: up to a border all entries are in the new buckets, and from there on in the old ones.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "the arithmetic of its own places, within bounds that the tests hold"
)]

use std::ops::Range;

use super::broken::broken;
use super::slab::Slot;

/// Least buckets.
const SMALLEST: usize = 16;
/// How many outgrown buckets each insertion or removal moves. All are moved long before there can be too many entries again.
const MOVED_AT_ONCE: usize = 32;
/// How many hashes there are.
pub(crate) const END: u64 = 1 << 32;

/// An entry's hash, and its neighbours in the bucket: all holds of one lock are in one, and may end together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub hash: u32,
    next: Slot,
    before: Slot,
}

/// Where the entries are kept.
pub(crate) trait Links {
    /// The link of the entry at this place.
    fn link(&self, slot: Slot) -> Option<Link>;
    /// The same, to be changed.
    fn link_mut(&mut self, slot: Slot) -> Option<&mut Link>;
}

/// First entries of the buckets. A slot stands here as its number and one, so that new buckets are zeroed memory.
#[derive(Default)]
struct Buckets(Vec<u32>);

impl Buckets {
    fn new(count: usize) -> Self {
        Self(vec![0; count])
    }

    /// Which bucket has this hash.
    fn of(&self, hash: u64) -> usize {
        ((hash * self.0.len() as u64) / END) as usize
    }

    /// The hashes of a bucket.
    fn range(&self, bucket: usize) -> Range<u64> {
        let width = END / self.0.len().max(1) as u64;
        bucket as u64 * width..(bucket as u64 + 1) * width
    }

    fn first(&self, bucket: usize) -> Slot {
        let Some(first) = self.0.get(bucket) else {
            broken("the roll has no such bucket");
            return Slot::NONE;
        };
        first.checked_sub(1).map_or(Slot::NONE, Slot::from_bits)
    }

    fn set_first(&mut self, bucket: usize, slot: Slot) {
        if let Some(first) = self.0.get_mut(bucket) {
            *first = if slot == Slot::NONE { 0 } else { slot.bits() + 1 };
        } else {
            broken("the roll has no such bucket");
        }
    }
}

/// The order of the entries.
#[derive(Default)]
pub(crate) struct Roll {
    buckets: Buckets,
    /// The buckets that were too few or too many; none when all are moved.
    old: Buckets,
    /// How many of the old buckets are moved.
    moved: usize,
    len: usize,
}

impl Roll {
    /// Adds an entry with this hash, which `put` puts in its place with the link that it is given. Returns that place.
    pub(crate) fn add<L: Links>(
        &mut self,
        hash: u32,
        links: &mut L,
        put: impl FnOnce(&mut L, Link) -> Slot,
    ) -> Slot {
        self.len += 1;
        self.resize_some(links);
        let (buckets, bucket) = self.bucket_of(hash);
        let first = buckets.first(bucket);
        let slot = put(links, Link { hash, next: first, before: Slot::NONE });
        buckets.set_first(bucket, slot);
        if let Some(next) = neighbour(links, first) {
            next.before = slot;
        }
        slot
    }

    /// Forgets an entry that had this link and was taken out.
    pub(crate) fn forget(&mut self, link: Link, links: &mut impl Links) {
        let (buckets, bucket) = self.bucket_of(link.hash);
        match neighbour(links, link.before) {
            Some(before) => before.next = link.next,
            None => buckets.set_first(bucket, link.next),
        }
        if let Some(next) = neighbour(links, link.next) {
            next.before = link.before;
        }
        debug_assert!(self.len > 0, "an entry is forgotten where there is none");
        self.len = self.len.saturating_sub(1);
        self.resize_some(links);
    }

    /// Passes the entries of one bucket whose hashes are not below `from`. Returns where to go on: [`END`] after the last.
    pub(crate) fn pass(&self, from: u64, links: &impl Links, mut visit: impl FnMut(Slot)) -> u64 {
        if self.len == 0 || from >= END {
            return END;
        }
        let border = if self.old.0.is_empty() { END } else { self.old.range(self.moved).start };
        let (buckets, end) = if from < border { (&self.buckets, border) } else { (&self.old, END) };
        let bucket = buckets.of(from);
        let next = buckets.range(bucket).end.min(end);
        let mut slot = buckets.first(bucket);
        while let Some(link) = links.link(slot) {
            if u64::from(link.hash) >= from {
                visit(slot);
            }
            slot = link.next;
        }
        if slot != Slot::NONE {
            broken("the neighbour of an entry of the roll is gone");
        }
        next
    }

    /// The bytes of the server's memory that it takes.
    pub(crate) const fn bytes(&self) -> usize {
        (self.buckets.0.len() + self.old.0.len()) * size_of::<u32>()
    }

    fn bucket_of(&mut self, hash: u32) -> (&mut Buckets, usize) {
        let hash = u64::from(hash);
        if !self.old.0.is_empty() {
            let bucket = self.old.of(hash);
            if bucket >= self.moved {
                return (&mut self.old, bucket);
            }
        }
        let bucket = self.buckets.of(hash);
        (&mut self.buckets, bucket)
    }

    /// Sees that there are about as many buckets as entries, and moves some old ones.
    fn resize_some(&mut self, links: &mut impl Links) {
        let count = self.buckets.0.len();
        if !self.old.0.is_empty() {
            self.move_some(links);
        } else if self.len > count {
            self.resize((count * 2).max(SMALLEST));
        } else if self.len < count / 8 && count > SMALLEST {
            self.resize(count / 2);
        }
    }

    #[cold]
    fn resize(&mut self, count: usize) {
        self.old = std::mem::replace(&mut self.buckets, Buckets::new(count));
        self.moved = 0;
    }

    #[cold]
    fn move_some(&mut self, links: &mut impl Links) {
        let end = (self.moved + MOVED_AT_ONCE).min(self.old.0.len());
        for bucket in self.moved..end {
            let mut slot = self.old.first(bucket);
            while let Some(link) = links.link(slot) {
                let new = self.buckets.of(u64::from(link.hash));
                push(&mut self.buckets, new, slot, links);
                slot = link.next;
            }
            if slot != Slot::NONE {
                broken("the neighbour of an entry of the roll is gone");
            }
        }
        self.moved = end;
        if end == self.old.0.len() {
            self.old = Buckets::default();
        }
    }
}

fn push(buckets: &mut Buckets, bucket: usize, slot: Slot, links: &mut impl Links) {
    let first = buckets.first(bucket);
    if let Some(next) = neighbour(links, first) {
        next.before = slot;
    }
    if let Some(link) = neighbour(links, slot) {
        (link.next, link.before) = (first, Slot::NONE);
        buckets.set_first(bucket, slot);
    }
}

/// The link that a bucket or another link names, if it names any.
#[inline]
fn neighbour(links: &mut impl Links, slot: Slot) -> Option<&mut Link> {
    if slot == Slot::NONE {
        return None;
    }
    let link = links.link_mut(slot);
    if link.is_none() {
        broken("the neighbour of an entry of the roll is gone");
    }
    link
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::slab::Slab;
    use super::*;

    impl Links for Slab<Link> {
        fn link(&self, slot: Slot) -> Option<Link> {
            self.get(slot).copied()
        }

        fn link_mut(&mut self, slot: Slot) -> Option<&mut Link> {
            self.get_mut(slot)
        }
    }

    #[derive(Default)]
    struct Tested {
        roll: Roll,
        links: Slab<Link>,
        there: BTreeMap<u32, Slot>,
    }

    impl Tested {
        fn add(&mut self, hash: u32) {
            if !self.there.contains_key(&hash) {
                let slot = self.roll.add(hash, &mut self.links, Slab::insert);
                self.there.insert(hash, slot);
            }
        }

        fn remove(&mut self, hash: u32) {
            if let Some(slot) = self.there.remove(&hash) {
                let link = self.links.remove(slot).unwrap();
                self.roll.forget(link, &mut self.links);
            }
        }

        fn pass(&self, from: u64, passed: &mut Vec<u32>) -> u64 {
            let mut hashes = Vec::new();
            let next = self
                .roll
                .pass(from, &self.links, |slot| hashes.extend(self.links.get(slot).map(|link| link.hash)));
            hashes.sort_unstable();
            assert!(
                next > from && hashes.iter().all(|hash| (from..next).contains(&u64::from(*hash))),
                "{from}..{next}"
            );
            passed.extend(hashes);
            next
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Add(u32),
        Remove(u32),
        AddMany(u32),
        RemoveMany(u32),
        Pass,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => any::<u32>().prop_map(Op::Add),
            3 => any::<u32>().prop_map(Op::Remove),
            1 => any::<u32>().prop_map(Op::AddMany),
            1 => any::<u32>().prop_map(Op::RemoveMany),
            8 => Just(Op::Pass),
        ]
    }

    proptest! {
        #[test]
        fn what_stays_is_passed_once_whatever_comes_and_goes(ops in prop::collection::vec(op(), 1..200)) {
            let mut tested = Tested::default();
            (0..100_u32).for_each(|n| tested.add(n * 40_000_003));
            let (mut from, mut passed, mut stayed) = (0, Vec::new(), tested.there.clone());
            for op in ops {
                match op {
                    Op::Add(hash) => tested.add(hash),
                    Op::AddMany(seed) => (0..300_u32).for_each(|n| tested.add(seed.wrapping_add(n * 14_316_557))),
                    Op::Remove(n) => {
                        let hash = tested.there.range(n..).next().map(|(hash, _)| *hash);
                        hash.into_iter().for_each(|hash| tested.remove(hash));
                    }
                    Op::RemoveMany(n) => {
                        let hashes: Vec<u32> = tested.there.range(n..).take(400).map(|(hash, _)| *hash).collect();
                        hashes.into_iter().for_each(|hash| tested.remove(hash));
                    }
                    Op::Pass => from = tested.pass(from, &mut passed),
                }
                stayed.retain(|hash, slot| tested.there.get(hash) == Some(slot));
                if from == END {
                    break;
                }
            }
            while from < END {
                from = tested.pass(from, &mut passed);
            }
            let mut each_once = passed.clone();
            each_once.dedup();
            prop_assert_eq!(each_once.len(), passed.len(), "passed twice");
            prop_assert!(passed.is_sorted());
            for hash in stayed.keys() {
                prop_assert!(passed.binary_search(hash).is_ok(), "{hash} was not passed");
            }
        }
    }

    #[test]
    fn buckets_follow_the_entries_up_and_down() {
        let mut tested = Tested::default();
        let hashes: Vec<u32> = (0..10_000_u32).map(|n| n.wrapping_mul(2_654_435_761)).collect();
        hashes.iter().for_each(|hash| tested.add(*hash));
        assert!((8_192..=32_768).contains(&tested.roll.buckets.0.len()), "{}", tested.roll.buckets.0.len());
        hashes.iter().for_each(|hash| tested.remove(*hash));
        assert!(tested.roll.buckets.0.len() <= 64, "{}", tested.roll.buckets.0.len());
        assert_eq!(tested.pass(0, &mut Vec::new()), END);
    }
}
