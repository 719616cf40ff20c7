//! All waits of one owner, in the order of their arrival. Nearly every owner has one; one with thousands, such as a program
//! that takes tickets for many locks under one name, can leave each of them in no time.

use std::collections::BTreeSet;

use crate::primitive::waiter::WaiterId;

pub(super) enum Waits {
    One(WaiterId),
    Many(Box<Many>),
}

/// Some waits, never none.
pub(super) struct Many(BTreeSet<WaiterId>);

impl Waits {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.0.len(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = WaiterId> + '_ {
        let (one, many) = match self {
            Self::One(id) => (Some(id), None),
            Self::Many(many) => (None, Some(&many.0)),
        };
        one.into_iter().chain(many.into_iter().flatten()).copied()
    }

    /// Adds a wait, unless it is there.
    pub(super) fn add(&mut self, id: WaiterId) {
        match self {
            Self::One(known) if *known == id => {}
            Self::One(known) => *self = Self::Many(Box::new(Many(BTreeSet::from([*known, id])))),
            Self::Many(many) => {
                many.0.insert(id);
            }
        }
    }

    /// Takes a wait out. Returns whether it was the last.
    pub(super) fn remove(&mut self, id: WaiterId) -> bool {
        match self {
            Self::One(known) => *known == id,
            Self::Many(many) => {
                many.0.remove(&id);
                many.0.is_empty()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_waits_come_and_go_in_order() {
        let mut waits = Waits::One(WaiterId(1));
        (1..=40).for_each(|id| waits.add(WaiterId(id)));
        for id in (1..=40).filter(|id| id % 3 != 0) {
            assert!(!waits.remove(WaiterId(id)));
        }
        assert!(waits.iter().map(|id| id.0).eq((3..=39).step_by(3)));
        assert_eq!(waits.len(), 13);
        assert!((3..=36).step_by(3).all(|id| !waits.remove(WaiterId(id))));
        assert!(waits.remove(WaiterId(39)), "the last one");
        assert!(Waits::One(WaiterId(1)).remove(WaiterId(1)));
    }
}
