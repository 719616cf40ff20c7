//! What a step has found on other locks than its own, and what must be looked at before it is over.

use std::collections::VecDeque;
use std::rc::Rc;

use super::table::Set;
use super::WaiterId;

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// A waiter for several locks that comes first on one of them, which would admit it.
    Group(WaiterId),
    /// A lock whose queue somebody has left from elsewhere.
    Lock(i32, Rc<[u8]>),
}

/// Things to look at, in the order in which they were found, and each there once.
#[derive(Default)]
pub struct Unsettled {
    order: VecDeque<Item>,
    there: Set<Item>,
}

impl Unsettled {
    /// Whether there is nothing to look at.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds a thing at the end, unless it is there.
    pub fn push(&mut self, item: Item) {
        if self.there.insert(item.clone()) {
            self.order.push_back(item);
        }
    }

    /// The next thing.
    pub fn pop(&mut self) -> Option<Item> {
        loop {
            let item = self.order.pop_front()?;
            // One that was struck out is still in line.
            if self.there.remove(&item) {
                return Some(item);
            }
        }
    }

    /// Strikes out a thing that has been looked at meanwhile.
    pub fn strike(&mut self, item: &Item) {
        if self.there.remove(item) && self.there.is_empty() {
            self.order.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once() {
        let (first, second) = (Item::Group(WaiterId(1)), Item::Lock(0, Rc::from(&b"k"[..])));
        let mut unsettled = Unsettled::default();
        for item in [&first, &second, &first] {
            unsettled.push(item.clone());
        }
        unsettled.strike(&first);
        assert_eq!(unsettled.pop(), Some(second.clone()));
        assert_eq!(unsettled.pop(), None);
        unsettled.push(first.clone());
        unsettled.strike(&first);
        unsettled.push(first.clone());
        assert_eq!(unsettled.pop(), Some(first.clone()), "once, though it was struck out before");
        assert_eq!(unsettled.pop(), None);
        unsettled.push(second);
        unsettled.push(first.clone());
        unsettled.strike(&first);
        unsettled.push(first);
        assert!(unsettled.pop().is_some() && unsettled.pop().is_some());
        assert_eq!(unsettled.pop(), None);
        assert!(unsettled.is_empty());
    }
}
