//! A count-down latch: a gate that opens when enough parties have counted, and stays open. This is the value that the
//! keyspace keeps; who waits at the gate is not its business.
//!
//! It only ever counts down, and whoever counts under an id counts once. So a request that is sent twice has the effect of
//! one, and what a replica is told can be told again.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "numbers whose types are below 2³², or that were compared just before"
)]

pub(crate) mod codec;

use std::collections::BTreeSet;

use crate::limits::LATCH_SIZE_MAX;

/// One latch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Latch {
    size: u32,
    left: u32,
    /// The ids that have counted: never more than were counted. In order, so that two servers with the same data list
    /// them alike.
    ids: BTreeSet<Box<[u8]>>,
}

impl Latch {
    /// A latch that opens when so many have counted.
    pub(crate) fn new(size: u32) -> Option<Self> {
        (1..=LATCH_SIZE_MAX).contains(&size).then(|| Self { size, left: size, ids: BTreeSet::new() })
    }

    /// The same when all but `left` have counted, none of them under an id.
    pub(crate) fn counted_to(size: u32, left: u32) -> Option<Self> {
        Self::new(size).filter(|_| left <= size).map(|latch| Self { left, ..latch })
    }

    /// How many it was set to.
    pub(crate) const fn size(&self) -> u32 {
        self.size
    }

    /// How many are still to count.
    pub(crate) const fn left(&self) -> u32 {
        self.left
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.left == 0
    }

    /// The ids that have counted, in order.
    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.ids.iter().map(|id| &**id)
    }

    /// Whether to count this one would take memory: an id that is to be remembered.
    pub(crate) fn would_grow(&self, id: Option<&[u8]>) -> bool {
        !self.is_open() && id.is_some_and(|id| !self.ids.contains(id))
    }

    /// One more has counted. Whether that changed anything: not if this id has counted before, or if all have.
    pub(crate) fn count(&mut self, id: Option<&[u8]>) -> bool {
        if self.is_open() || id.is_some_and(|id| self.ids.contains(id)) {
            return false;
        }
        self.left -= 1;
        self.ids.extend(id.map(Box::from));
        true
    }

    /// States that no more than `left` are to count, and that this id has counted: what a replica does, which
    /// decides nothing. Returns whether that changed anything; `None` if it cannot be true.
    pub(crate) fn force(&mut self, left: u32, id: Option<&[u8]>) -> Option<bool> {
        let left = left.min(self.left);
        let new = id.filter(|id| !self.ids.contains(*id));
        let counted = usize::try_from(self.size - left).ok()?;
        if self.ids.len() + usize::from(new.is_some()) > counted {
            return None;
        }
        let changes = left < self.left || new.is_some();
        self.left = left;
        self.ids.extend(new.map(Box::from));
        Some(changes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Few enough to meet again.
    fn id() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop::option::of(prop::collection::vec(b'a'..b'e', 1..2))
    }

    proptest! {
        #[test]
        fn counts_each_id_once_and_never_below_nothing(size in 1..8_u32, ids in prop::collection::vec(id(), 0..20)) {
            let mut latch = Latch::new(size).unwrap();
            let (mut seen, mut left) = (HashSet::new(), size);
            for id in ids {
                let is_new = id.as_ref().is_none_or(|id| !seen.contains(id));
                let counts = left > 0 && is_new;
                if counts {
                    left -= 1;
                    seen.extend(id.clone());
                }
                prop_assert_eq!(latch.count(id.as_deref()), counts);
                prop_assert_eq!(latch.left(), left);
                prop_assert_eq!(latch.is_open(), left == 0);
                prop_assert!(latch.ids().len() as u32 + left <= size);
                prop_assert_eq!(latch.ids().map(<[u8]>::to_vec).collect::<HashSet<_>>(), seen.clone());
            }
        }

        /// A replica that is told any part of the stream again has what its primary has.
        #[test]
        fn a_stream_can_be_told_again_from_any_point(
            size in 1..8_u32, ids in prop::collection::vec(id(), 0..20), again in any::<prop::sample::Index>(),
        ) {
            let mut primary = Latch::new(size).unwrap();
            let mut stream = Vec::new();
            for id in ids {
                if primary.count(id.as_deref()) {
                    stream.push((primary.left(), id));
                }
            }
            let mut replica = Latch::new(size).unwrap();
            for (left, id) in &stream {
                prop_assert_eq!(replica.force(*left, id.as_deref()), Some(true));
            }
            prop_assert_eq!(&replica, &primary);
            for (left, id) in stream.iter().skip(again.index(stream.len() + 1)) {
                prop_assert_eq!(replica.force(*left, id.as_deref()), Some(false));
            }
            prop_assert_eq!(&replica, &primary);
        }
    }

    #[test]
    fn sizes_have_bounds() {
        assert_eq!(Latch::new(0), None);
        assert_eq!(Latch::new(LATCH_SIZE_MAX).map(|latch| latch.left()), Some(LATCH_SIZE_MAX));
        assert_eq!(Latch::new(LATCH_SIZE_MAX + 1), None);
        assert_eq!(Latch::counted_to(3, 4), None);
        assert_eq!(Latch::counted_to(3, 0).map(|latch| latch.is_open()), Some(true));
    }

    #[test]
    fn more_ids_than_were_counted_cannot_be() {
        let mut latch = Latch::counted_to(3, 2).unwrap();
        assert_eq!(latch.force(2, Some(b"a")), Some(true));
        assert_eq!(latch.force(2, Some(b"a")), Some(false));
        assert_eq!(latch.force(2, Some(b"b")), None);
        assert_eq!((latch.left(), latch.ids().len()), (2, 1), "nothing was changed");
    }
}
