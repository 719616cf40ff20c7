//! Things that fall due: a timing wheel with O(1) insertion and removal, so that a million acquire/release pairs
//! inside one lease period leave nothing behind.
//!
//! Eight levels of 64 buckets. A bucket of level `n` spans 64ⁿ ticks of a millisecond, and an entry lies on the
//! level of the highest 6-bit digit in which its tick differs from the wheel's. Entries move down a level when
//! the wheel reaches their bucket, at most seven times in their life; so many at once that a full bucket keeps nobody
//! waiting. Within a bucket the order is free.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "the arithmetic of its own places, within bounds that the tests hold"
)]

use super::broken::broken;
use super::slab::Slab;
use super::Moment;

pub(crate) use super::slab::Slot;

const DIGIT_BITS: u32 = 6;
const BUCKETS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 8;
/// How many entries move down in one call: some tens of microseconds. The tests come upon it with few.
const SPILLED_AT_ONCE: usize = if cfg!(test) { 3 } else { 1_000 };
/// The last tick that the levels can tell apart, 8,900 years after the machine's start.
const TICK_MAX: u64 = (1 << (DIGIT_BITS as u64 * LEVELS as u64)) - 1;
/// Stands for what never falls due: it has a place, and is on no level.
const NEVER: u64 = u64::MAX;

/// A set of values, each with the moment at which it falls due.
pub(crate) struct Deadlines<T> {
    entries: Slab<TimerNode<T>>,
    /// First entry of each bucket, level by level.
    heads: Box<[Slot]>,
    /// One bit for each bucket that has entries.
    occupied: [u64; LEVELS],
    /// First of those that the wheel has reached and that are still to move down.
    spill: Slot,
    /// Every entry due before this tick has been taken out, but for those that are to move down.
    tick: u64,
    /// How many entries never fall due.
    undue: usize,
}

/// The tick in which something with this deadline falls due.
fn tick_of(deadline: Moment) -> u64 {
    if deadline == Moment::NEVER {
        NEVER
    } else {
        deadline.0.div_ceil(1000)
    }
}

struct TimerNode<T> {
    tick: u64,
    /// The entry before it; [`Slot::NONE`] for the first.
    before: Slot,
    next: Slot,
    value: T,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self {
            entries: Slab::default(),
            heads: vec![Slot::NONE; BUCKETS * LEVELS].into_boxed_slice(),
            occupied: [0; LEVELS],
            spill: Slot::NONE,
            tick: 0,
            undue: 0,
        }
    }
}

impl<T> Deadlines<T> {
    /// The size of one entry, in bytes.
    pub(crate) const ENTRY_BYTES: usize = Slab::<TimerNode<T>>::PLACE_BYTES;

    /// How many entries there are.
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of the server's memory that it takes, but for what its values have allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.bytes() + size_of_val(&*self.heads)
    }

    /// How many of them never fall due.
    pub(crate) const fn undue(&self) -> usize {
        self.undue
    }

    /// Gives all of it back, a block with each step of the iterator.
    pub(crate) fn into_blocks(self) -> impl Iterator<Item = ()> {
        self.entries.into_blocks()
    }

    /// Adds a value that falls due at `deadline`, never earlier and at most a millisecond later.
    pub(crate) fn insert(&mut self, deadline: Moment, value: T) -> Slot {
        let tick = tick_of(deadline);
        let bucket = (tick != NEVER).then(|| self.bucket_of(tick));
        let next = bucket.map_or(Slot::NONE, |bucket| self.head(bucket));
        let slot = self.entries.insert(TimerNode { tick, before: Slot::NONE, next, value });
        match bucket {
            Some(bucket) => self.put_first(bucket, slot, next),
            None => self.undue += 1,
        }
        slot
    }

    /// Takes a value out before it falls due.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let entry = self.entries.remove(slot)?;
        self.join(slot, entry.before, entry.next, entry.tick);
        Some(entry.value)
    }

    /// Moves an entry to another deadline.
    pub(crate) fn reschedule(&mut self, slot: Slot, deadline: Moment) {
        let Some(entry) = self.entries.get_mut(slot) else {
            return broken("an entry to be moved is not on the wheel");
        };
        let tick = tick_of(deadline);
        let (before, next, old) = (entry.before, entry.next, std::mem::replace(&mut entry.tick, tick));
        self.join(slot, before, next, old);
        self.link(slot, tick);
    }

    /// Whether the entry would come out no later than `deadline`.
    pub(crate) fn covers(&self, slot: Slot, deadline: Moment) -> bool {
        self.entries.get(slot).is_some_and(|entry| entry.tick <= tick_of(deadline))
    }

    /// All values, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|entry| &entry.value)
    }

    /// The value at this place.
    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        self.entries.get(slot).map(|entry| &entry.value)
    }

    /// The value at this place, to be changed.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.entries.get_mut(slot).map(|entry| &mut entry.value)
    }

    /// Takes out one value that is due at `now`. Returns `None` too when many entries are still to move down; then
    /// [`Deadlines::next_deadline`] is not after `now`.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<T> {
        self.due(now).and_then(|slot| self.remove(slot))
    }

    /// The place of one value that is due at `now`; otherwise as [`Deadlines::pop_due`].
    pub(crate) fn due(&mut self, now: Moment) -> Option<Slot> {
        let now_tick = now.0 / 1000;
        self.spill_some();
        while let Some((level, bucket, start)) = self.first_bucket() {
            if start > now_tick {
                break;
            }
            if level > 0 && self.spill != Slot::NONE {
                // The entries that are reached first move down first: a lower level is always nearer.
                return None;
            }
            self.tick = self.tick.max(start);
            let slot = self.head(bucket);
            if level == 0 {
                return Some(slot);
            }
            self.spill = slot;
            self.set_head(bucket, Slot::NONE);
            self.spill_some();
        }
        if self.spill == Slot::NONE {
            // Every bucket left starts later, so the wheel may turn this far without passing one.
            self.tick = self.tick.max(now_tick.min(TICK_MAX));
        }
        None
    }

    /// When to call [`Deadlines::pop_due`] next: never later than the first deadline, perhaps somewhat earlier.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let first = self.first_bucket().map(|(_, _, start)| start);
        let first = if self.spill == Slot::NONE { first } else { Some(self.tick) };
        first.map(|start| Moment(start.saturating_mul(1000)))
    }

    /// The bucket that falls due first: level, number and first tick. A lower level is always nearer.
    fn first_bucket(&self) -> Option<(usize, usize, u64)> {
        let (level, bits) = self.occupied.iter().enumerate().find(|(_, bits)| **bits != 0)?;
        let digit = bits.trailing_zeros();
        let shift = DIGIT_BITS * level as u32;
        let above = (self.tick >> shift >> DIGIT_BITS) << DIGIT_BITS;
        let start = (above | u64::from(digit)) << shift;
        Some((level, level * BUCKETS + digit as usize, start))
    }

    /// Spreads some entries of a bucket that the wheel has reached over the levels below.
    fn spill_some(&mut self) {
        for _ in 0..SPILLED_AT_ONCE {
            let slot = self.spill;
            let Some(entry) = neighbour(&mut self.entries, slot) else { return };
            let (tick, next) = (entry.tick, entry.next);
            self.spill = next;
            if let Some(after) = neighbour(&mut self.entries, next) {
                after.before = Slot::NONE;
            }
            self.link(slot, tick);
        }
    }

    /// The bucket in which an entry of this tick lies. It stays the same until the wheel reaches the bucket.
    fn bucket_of(&self, tick: u64) -> usize {
        let tick = tick.max(self.tick).min(TICK_MAX);
        let differing = tick ^ self.tick;
        let level = (differing | 1).ilog2() / DIGIT_BITS;
        let digit = (tick >> (DIGIT_BITS * level)) & (BUCKETS as u64 - 1);
        level as usize * BUCKETS + digit as usize
    }

    fn link(&mut self, slot: Slot, tick: u64) {
        if tick == NEVER {
            self.undue += 1;
            return;
        }
        let bucket = self.bucket_of(tick);
        let next = self.head(bucket);
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.before = Slot::NONE;
            entry.next = next;
        } else {
            broken("an entry to be put on the wheel is gone");
        }
        self.put_first(bucket, slot, next);
    }

    /// Puts an entry, which knows it, before the first of a bucket.
    #[inline]
    fn put_first(&mut self, bucket: usize, slot: Slot, next: Slot) {
        if let Some(after) = neighbour(&mut self.entries, next) {
            after.before = slot;
        }
        self.set_head(bucket, slot);
    }

    /// Joins the neighbours of an entry that leaves its place.
    #[inline]
    fn join(&mut self, slot: Slot, before: Slot, next: Slot, tick: u64) {
        if tick == NEVER {
            self.undue -= 1;
            return;
        }
        if let Some(after) = neighbour(&mut self.entries, next) {
            after.before = before;
        }
        match neighbour(&mut self.entries, before) {
            Some(entry) => entry.next = next,
            None if self.spill == slot => self.spill = next,
            None => self.set_head(self.bucket_of(tick), next),
        }
    }

    fn head(&self, bucket: usize) -> Slot {
        self.heads.get(bucket).copied().unwrap_or_else(|| {
            broken("the wheel has no such bucket");
            Slot::NONE
        })
    }

    fn set_head(&mut self, bucket: usize, slot: Slot) {
        let (Some(head), Some(bits)) = (self.heads.get_mut(bucket), self.occupied.get_mut(bucket / BUCKETS))
        else {
            return broken("the wheel has no such bucket");
        };
        *head = slot;
        let bit = 1 << (bucket % BUCKETS);
        if slot == Slot::NONE {
            *bits &= !bit;
        } else {
            *bits |= bit;
        }
    }
}

/// The entry that another one names, if it names any.
fn neighbour<T>(entries: &mut Slab<TimerNode<T>>, slot: Slot) -> Option<&mut TimerNode<T>> {
    if slot == Slot::NONE {
        return None;
    }
    let entry = entries.get_mut(slot);
    if entry.is_none() {
        broken("the neighbour of an entry of the wheel is gone");
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Remove(usize),
        Reschedule(usize, u64),
        Advance(u64),
        /// Asks once, whatever else is due.
        AskOnce(u64),
    }

    /// Distances that sit on the seams between levels as often as between them.
    fn distance() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..200_u64,
            (0..7_u32, 0..3_u64).prop_map(|(level, off)| (1000 << (DIGIT_BITS * level)) + off * 1000 - 1000),
            any::<u64>(),
            Just(u64::MAX),
        ]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => distance().prop_map(Op::Insert),
            2 => any::<usize>().prop_map(Op::Remove),
            1 => (any::<usize>(), distance()).prop_map(|(n, d)| Op::Reschedule(n, d)),
            3 => prop_oneof![0..100_000_u64, 0..1_000_000_000_000_u64].prop_map(Op::Advance),
            3 => prop_oneof![0..100_000_u64, 0..1_000_000_000_000_u64].prop_map(Op::AskOnce),
        ]
    }

    proptest! {
        #[test]
        fn every_value_comes_out_on_time_and_once(ops in prop::collection::vec(op(), 1..80)) {
            let mut wheel = Deadlines::default();
            let mut now = Moment(0);
            let mut model: Vec<(u64, usize, Slot)> = Vec::new();
            for (id, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Insert(distance) => {
                        let due = Moment(now.0.saturating_add(distance));
                        let slot = wheel.insert(due, id);
                        model.push((due.0, id, slot));
                    }
                    Op::Remove(n) if !model.is_empty() => {
                        let (_, id, slot) = model.swap_remove(n % model.len());
                        prop_assert_eq!(wheel.remove(slot), Some(id));
                    }
                    Op::Reschedule(n, distance) if !model.is_empty() => {
                        let at = n % model.len();
                        let due = Moment(now.0.saturating_add(distance));
                        wheel.reschedule(model[at].2, due);
                        model[at].0 = due.0;
                        prop_assert!(wheel.covers(model[at].2, due));
                    }
                    Op::Advance(distance) => {
                        now = Moment(now.0 + distance);
                        let mut out = BTreeSet::new();
                        while wheel.next_deadline().is_some_and(|wake| wake <= now) {
                            out.extend(wheel.pop_due(now));
                        }
                        // A tick is a millisecond, rounded up: what is due comes out within one.
                        let due = |at: u64| tick_of(Moment(at)) <= now.0 / 1000;
                        let expected = model.iter().filter(|(at, _, _)| due(*at)).map(|(_, id, _)| *id).collect();
                        prop_assert_eq!(out, expected);
                        model.retain(|(at, _, _)| !due(*at));
                    }
                    Op::AskOnce(distance) => {
                        now = Moment(now.0 + distance);
                        if let Some(out) = wheel.pop_due(now) {
                            let at = model.iter().position(|(_, id, _)| *id == out).unwrap();
                            prop_assert!(model.swap_remove(at).0.div_ceil(1000) <= now.0 / 1000);
                        }
                    }
                    Op::Remove(_) | Op::Reschedule(..) => {}
                }
                prop_assert_eq!(wheel.len(), model.len());
                let ends = || model.iter().map(|(at, _, _)| *at).filter(|at| *at != Moment::NEVER.0);
                prop_assert_eq!(wheel.len() - wheel.undue(), ends().count());
                let first = ends().map(|at| at.div_ceil(1000)).min();
                match (wheel.next_deadline(), first) {
                    (Some(wake), Some(first)) => prop_assert!(wake.0 / 1000 <= first.max(now.0 / 1000)),
                    (wake, first) => prop_assert_eq!(wake.is_some(), first.is_some()),
                }
            }
        }
    }

    #[test]
    fn nothing_is_left_of_pairs_inside_one_lease() {
        let mut wheel = Deadlines::default();
        for n in 0..1_000_000_u64 {
            let slot = wheel.insert(Moment(n + 30_000_000), n);
            assert_eq!(wheel.remove(slot), Some(n));
        }
        assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
    }
}
