//! Re-entry: under which ids an owner has entered its hold. The hold ends when the last of them has left.
//!
//! A set and not a count, so that a request whose reply was lost can be sent again: the same id enters once and leaves
//! once. An owner that gives no id enters under the empty one.

use crate::limits::ENTRIES_MAX;

/// The ids of one hold, at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReentryIds(
    /// In order; none stands for the empty id alone, which is what nearly every hold has.
    Vec<Box<[u8]>>,
);

/// The outcome of leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// There is no such id here.
    Unknown,
    /// Others are still in.
    StillHeld,
    /// That was the last one.
    Last,
}

impl ReentryIds {
    /// One entry without an id.
    pub(crate) const PLAIN: Self = Self(Vec::new());

    /// One entry, under this id.
    pub(crate) fn of(id: &[u8]) -> Self {
        Self(if id.is_empty() { Vec::new() } else { vec![id.into()] })
    }

    /// The entries under these ids, unless they are too many, out of order or not as they would be kept.
    pub(crate) fn from_ids(ids: Vec<Box<[u8]>>) -> Option<Self> {
        let in_order = ids.windows(2).all(|pair| matches!(pair, [first, second] if first < second));
        let empty_alone = matches!(ids.as_slice(), [only] if only.is_empty());
        (in_order && !empty_alone && ids.len() <= ENTRIES_MAX).then_some(Self(ids))
    }

    /// The ids that are kept: all but an empty one that is alone.
    pub(crate) fn ids(&self) -> &[Box<[u8]>] {
        &self.0
    }

    /// How often the owner is in.
    pub(crate) fn count(&self) -> usize {
        self.0.len().max(1)
    }

    /// Whether this is the plain entry that a hold has when nobody speaks of ids.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody is in under this id.
    pub(crate) fn has(&self, id: &[u8]) -> bool {
        if self.is_plain() {
            id.is_empty()
        } else {
            self.find(id).is_ok()
        }
    }

    /// Whether one more id would be too many.
    pub(crate) fn is_full(&self) -> bool {
        self.count() >= ENTRIES_MAX
    }

    /// Enters under this id; once, however often it is said.
    pub(crate) fn enter(&mut self, id: &[u8]) {
        if self.has(id) {
            return;
        }
        if self.is_plain() {
            self.0.push(Box::default());
        }
        if let Err(at) = self.find(id) {
            self.0.insert(at, id.into());
        }
    }

    /// Leaves under this id. The last one stays in the list: its hold ends with it.
    pub(crate) fn exit(&mut self, id: &[u8]) -> Exit {
        if !self.has(id) {
            return Exit::Unknown;
        }
        if self.count() == 1 {
            return Exit::Last;
        }
        if let Ok(at) = self.find(id) {
            self.0.remove(at);
        }
        if matches!(self.0.as_slice(), [only] if only.is_empty()) {
            self.0.clear();
        }
        Exit::StillHeld
    }

    fn find(&self, id: &[u8]) -> Result<usize, usize> {
        self.0.binary_search_by(|other| (**other).cmp(id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_set(steps in prop::collection::vec((any::<bool>(), 0..4_usize), 0..40), first in 0..4_usize) {
            const IDS: [&[u8]; 4] = [b"", b"a", b"b", b"c"];
            let mut entries = ReentryIds::of(IDS[first]);
            let mut model = BTreeSet::from([IDS[first]]);
            for (enters, id) in steps {
                let id = IDS[id];
                if enters {
                    entries.enter(id);
                    model.insert(id);
                } else {
                    let expected = match (model.contains(id), model.len()) {
                        (false, _) => Exit::Unknown,
                        (true, 1) => Exit::Last,
                        (true, _) => { model.remove(id); Exit::StillHeld }
                    };
                    prop_assert_eq!(entries.exit(id), expected);
                }
                prop_assert_eq!(entries.count(), model.len());
                prop_assert!(IDS.iter().all(|id| entries.has(id) == model.contains(id)));
                prop_assert_eq!(ReentryIds::from_ids(entries.ids().to_vec()), Some(entries.clone()));
            }
        }
    }

    #[test]
    fn lists_that_were_never_kept_are_refused() {
        let ids = |list: &[&str]| ReentryIds::from_ids(list.iter().map(|id| id.as_bytes().into()).collect());
        assert_eq!(ids(&[]), Some(ReentryIds::default()));
        assert!(ids(&["a", "b"]).is_some());
        assert!(ids(&["", "b"]).is_some());
        assert_eq!(ids(&[""]), None, "it is kept as no list at all");
        assert_eq!(ids(&["b", "a"]), None);
        assert_eq!(ids(&["a", "a"]), None);
        let many: Vec<Box<[u8]>> = (0..=ENTRIES_MAX).map(|n| format!("{n:05}").into_bytes().into()).collect();
        assert!(ReentryIds::from_ids(many[1..].to_vec()).is_some());
        assert_eq!(ReentryIds::from_ids(many), None);
    }
}
