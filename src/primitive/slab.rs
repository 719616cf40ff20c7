//! Numbered places for values. Places are kept in blocks, and only the first of them grows, so that growing by one never
//! copies much: a copy of a million entries would stall every client.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "the arithmetic of its own places, within bounds that the tests hold"
)]

use super::broken::broken;
use super::footprint::allocated;

const BLOCK: usize = 1024;
/// The places that the first block begins with, and keeps when nothing is in them.
const SMALL: usize = 16;

/// A place in a [`Slab`]: a hint that may be stale, so whoever uses it compares what it finds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    /// No place. A bit is left to whoever keeps a slot.
    pub(crate) const NONE: Self = Self(u32::MAX >> 1);

    /// The slot as a number of 31 bits.
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// The slot with this number.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::NONE.0)
    }

    const fn split(self) -> (usize, usize) {
        (self.0 as usize / BLOCK, self.0 as usize % BLOCK)
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::NONE
    }
}

enum Cell<T> {
    Taken(T),
    Vacant { next: Slot },
}

/// Values of one kind, each at a [`Slot`]. Freed places are used again, the last freed first.
pub(crate) struct Slab<T> {
    blocks: Vec<Vec<Cell<T>>>,
    vacant: Slot,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), vacant: Slot::NONE, len: 0 }
    }
}

impl<T> Slab<T> {
    /// The size of one place, in bytes.
    pub(crate) const PLACE_BYTES: usize = size_of::<Cell<T>>();

    /// How many values there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The bytes of the server's memory that it takes: as many as at its largest.
    pub(crate) const fn bytes(&self) -> usize {
        let blocks = match self.blocks.as_slice() {
            [] => 0,
            [first] => allocated(first.capacity() * Self::PLACE_BYTES),
            blocks => blocks.len() * allocated(BLOCK * Self::PLACE_BYTES),
        };
        blocks + self.blocks.capacity() * size_of::<Vec<Cell<T>>>()
    }

    /// Gives all of it back, a block with each step of the iterator.
    pub(crate) fn into_blocks(self) -> impl Iterator<Item = ()> {
        self.blocks.into_iter().map(drop)
    }

    /// Gives all values out, one by one.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.blocks.into_iter().flatten().filter_map(|place| match place {
            Cell::Taken(value) => Some(value),
            Cell::Vacant { .. } => None,
        })
    }

    /// Gives the room back, if no value is in it and it is more than a little.
    pub(crate) fn give_back(&mut self) {
        if self.len == 0 && self.blocks.first().is_some_and(|first| first.len() > SMALL) {
            *self = Self::default();
        }
    }

    /// Puts a value in.
    pub(crate) fn insert(&mut self, value: T) -> Slot {
        self.len += 1;
        let slot = self.vacant;
        if let Some(place) = self.place_mut(slot)
            && let Cell::Vacant { next } = *place
        {
            *place = Cell::Taken(value);
            self.vacant = next;
            return slot;
        }
        if slot != Slot::NONE {
            broken("a place that was freed is taken");
        }
        self.append(value)
    }

    fn append(&mut self, value: T) -> Slot {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(if self.blocks.is_empty() { SMALL } else { BLOCK }));
        }
        let before = (self.blocks.len() - 1) * BLOCK;
        let Some(block) = self.blocks.last_mut() else {
            broken("a slab that has just got a block has none");
            return Slot::NONE;
        };
        let place = before + block.len();
        block.push(Cell::Taken(value));
        if place >= Slot::NONE.0 as usize {
            // The value stays, and nobody finds it: whoever keeps a slot is told that there is none.
            broken("a slab has more values than there are places");
            return Slot::NONE;
        }
        Slot(place as u32)
    }

    /// Takes the value out.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let next = self.vacant;
        let place = self.place_mut(slot)?;
        if matches!(place, Cell::Vacant { .. }) {
            return None;
        }
        let old = std::mem::replace(place, Cell::Vacant { next });
        self.vacant = slot;
        self.len -= 1;
        match old {
            Cell::Taken(value) => Some(value),
            Cell::Vacant { .. } => {
                broken("a place is taken and vacant");
                None
            }
        }
    }

    /// All values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten().filter_map(|place| match place {
            Cell::Taken(value) => Some(value),
            Cell::Vacant { .. } => None,
        })
    }

    /// The value at this place.
    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        let (block, at) = slot.split();
        match self.blocks.get(block)?.get(at)? {
            Cell::Taken(value) => Some(value),
            Cell::Vacant { .. } => None,
        }
    }

    /// The value at this place, to be changed.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        match self.place_mut(slot)? {
            Cell::Taken(value) => Some(value),
            Cell::Vacant { .. } => None,
        }
    }

    fn place_mut(&mut self, slot: Slot) -> Option<&mut Cell<T>> {
        let (block, at) = slot.split();
        self.blocks.get_mut(block)?.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_place_is_used_again() {
        let mut slab = Slab::default();
        let first = slab.insert("a");
        let second = slab.insert("b");
        assert_eq!(slab.remove(first), Some("a"));
        assert_eq!(slab.insert("c"), first);
        assert_eq!((slab.get(first), slab.get(second)), (Some(&"c"), Some(&"b")));
    }

    #[test]
    fn removing_twice_or_nowhere_is_nothing() {
        let mut slab = Slab::default();
        let slot = slab.insert(1);
        assert_eq!((slab.remove(slot), slab.remove(slot), slab.remove(Slot::NONE)), (Some(1), None, None));
        assert_eq!(slab.len(), 0);
    }

    #[test]
    fn a_few_values_take_little_and_many_give_their_room_back() {
        let mut slab = Slab::default();
        let only = slab.insert(1_u64);
        let few = slab.bytes();
        assert!(few < 512, "{few}");
        slab.remove(only);
        slab.give_back();
        assert_eq!(slab.bytes(), few, "what comes and goes one by one allocates nothing");
        let slots: Vec<_> = (0..2 * BLOCK as u64).map(|n| slab.insert(n)).collect();
        assert!(slab.bytes() > 2 * BLOCK * size_of::<u64>());
        assert!(slots.into_iter().all(|slot| slab.remove(slot).is_some()));
        slab.give_back();
        assert_eq!(slab.bytes(), 0);
    }

    #[test]
    fn places_outgrow_one_block() {
        let mut slab = Slab::default();
        let slots: Vec<_> = (0..3 * BLOCK).map(|n| slab.insert(n)).collect();
        assert!(slots.iter().enumerate().all(|(n, slot)| slab.get(*slot) == Some(&n)));
        assert_eq!(slab.len(), 3 * BLOCK);
    }
}
