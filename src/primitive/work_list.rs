//! Work that a step has found on other locks than its own, to be looked at before it is over.

use std::collections::VecDeque;
use std::rc::Rc;

use super::table::Set;
use super::WaiterId;

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// A waiter for several locks that comes first on one of them, which would admit it.
    Group(WaiterId),
    /// A lock whose queue somebody has left from elsewhere.
    Lock(i32, Rc<[u8]>),
}

/// Things to look at, in the order in which they were found, and each there once.
#[derive(Default)]
pub(crate) struct WorkList {
    order: VecDeque<Work>,
    there: Set<Work>,
}

impl WorkList {
    /// Whether there is nothing to look at.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds a thing at the end, unless it is there.
    pub(crate) fn push(&mut self, item: Work) {
        if self.there.insert(item.clone()) {
            self.order.push_back(item);
        }
    }

    /// The next thing.
    pub(crate) fn pop(&mut self) -> Option<Work> {
        loop {
            let item = self.order.pop_front()?;
            // One that was cancelled is still in line.
            if self.there.remove(&item) {
                return Some(item);
            }
        }
    }

    /// Strikes out a thing that has been looked at meanwhile.
    pub(crate) fn cancel(&mut self, item: &Work) {
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
        let (first, second) = (Work::Group(WaiterId(1)), Work::Lock(0, Rc::from(&b"k"[..])));
        let mut work_list = WorkList::default();
        for item in [&first, &second, &first] {
            work_list.push(item.clone());
        }
        work_list.cancel(&first);
        assert_eq!(work_list.pop(), Some(second.clone()));
        assert_eq!(work_list.pop(), None);
        work_list.push(first.clone());
        work_list.cancel(&first);
        work_list.push(first.clone());
        assert_eq!(work_list.pop(), Some(first.clone()), "once, though it was struck out before");
        assert_eq!(work_list.pop(), None);
        work_list.push(second);
        work_list.push(first.clone());
        work_list.cancel(&first);
        work_list.push(first);
        assert!(work_list.pop().is_some() && work_list.pop().is_some());
        assert_eq!(work_list.pop(), None);
        assert!(work_list.is_empty());
    }
}
