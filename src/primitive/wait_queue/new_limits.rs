//! Another limit for all who wait for a semaphore: a few of them in each step, from the front, so that a long line
//! keeps nobody waiting. The first in line has it already, as grants come after that.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use smallvec::SmallVec;

use super::{Position, Queue, Waiters};
use crate::primitive::broken::broken;
use crate::primitive::waiter::WaiterId;

/// The work still to be done in one queue.
pub(super) struct NewLimit {
    limit: u32,
    /// The limits that those who get the new one may have asked with.
    old: SmallVec<[u32; 2]>,
    next: Position,
    /// Waiters from here on have asked with the new one.
    end: Position,
}

/// The work done in one step.
pub(crate) struct Changed {
    pub limit: u32,
    pub looked_at: usize,
    /// Those who cannot wait with this limit.
    pub misfits: Vec<WaiterId>,
    /// Whether there are more to look at.
    pub is_unfinished: bool,
}

impl Waiters {
    /// Gives another limit to all who wait for this lock with the old one, with each
    /// [`change_some_limits`](Self::change_some_limits).
    pub(crate) fn change_limits(&mut self, db: i32, key: &[u8], old: u32, limit: u32) {
        let end = Position(self.arrivals + 1);
        let Some((_, queue)) = self.queue_mut(db, key) else { return };
        let unfinished = queue.new_limit.take();
        let is_another = unfinished.is_none();
        let mut olds: SmallVec<[u32; 2]> = unfinished.map_or_else(SmallVec::new, |unfinished| unfinished.old);
        if !olds.contains(&old) {
            olds.push(old);
        }
        queue.new_limit = Some(Box::new(NewLimit { limit, old: olds, next: Position::HEAD, end }));
        self.new_limits += usize::from(is_another);
    }

    /// Whether some queue is to get another limit.
    #[inline]
    pub(crate) const fn has_new_limits(&self) -> bool {
        self.new_limits > 0
    }

    /// Looks at as many who wait for this lock and are to get another limit; one who waits for several locks and cannot
    /// have them counts as many. `None` if there is nothing to do.
    pub(crate) fn change_some_limits(&mut self, db: i32, key: &[u8], count: usize) -> Option<Changed> {
        let slot = self.find(db, key)?;
        let Self { queues, entries, new_limits, .. } = self;
        let Queue { order, new_limit, .. } = &mut **queues.get_mut(slot)?;
        let change = new_limit.as_mut()?;
        let (limit, mut misfits, mut looked_at, mut spent) = (change.limit, Vec::new(), 0, 0);
        for (place, id) in order.range(change.next..change.end) {
            if spent >= count {
                return Some(Changed { limit, looked_at, misfits, is_unfinished: true });
            }
            looked_at += 1;
            spent += 1;
            change.next = Position(place.0 + 1);
            let Some(entry) = entries.get_mut(id) else {
                broken("a queue has a waiter that is unknown");
                continue;
            };
            let request = &mut entry.waiter.request;
            if !change.old.contains(&request.permits.limit) {
                continue;
            }
            if request.permits.count <= limit && entry.keys.len() == 1 {
                request.permits.limit = limit;
            } else {
                spent += entry.keys.len();
                misfits.push(*id);
            }
        }
        *new_limit = None;
        *new_limits -= 1;
        Some(Changed { limit, looked_at, misfits, is_unfinished: false })
    }
}
