//! Memory of what was emptied at once, given back bit by bit, so that nobody waits for it: the queues of a server that
//! became a replica, the index of a database that was flushed.

use std::collections::VecDeque;

#[derive(Default)]
pub(crate) struct Dropped(VecDeque<Box<dyn Iterator<Item = ()>>>);

impl Dropped {
    /// Leaves this to be given back; each item is a bit of it.
    pub(super) fn push(&mut self, mut bits: impl Iterator<Item = ()> + 'static) {
        if bits.next().is_some() {
            self.0.push_back(Box::new(bits));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives back a bit. Returns whether there was any.
    pub(crate) fn give_back_some(&mut self) -> bool {
        let Some(first) = self.0.front_mut() else { return false };
        if first.next().is_none() {
            self.0.pop_front();
        }
        true
    }
}
