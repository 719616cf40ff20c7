//! Deadlocks, found before they begin: would this wait ever end, if everybody who does not wait lets go in time?
//!
//! An owner waits for the holds that leave it no room and for everyone before it in the queue, and it does not let
//! go of anything while it waits. So the search supposes that the one who asks waits for ever, and looks who can
//! still go on: whoever waits for nothing, and whoever waits only for what those leave. If the wait itself is not
//! among what can be granted then, but would be if the one who asks let go, it closes a cycle and is refused. Where
//! permits of others can still come free nobody is stuck, and whoever only comes upon a deadlock of others is not
//! blamed for it: there are no false alarms.
//!
//! Only what can be reached from the new wait is looked at, and nearly always nobody there waits for anything
//! else. The work is bounded; a wait that cannot be judged within the bound is let in, and leases end it.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

mod search;

use super::wait_queue::{Position, Waiters};
use super::waiter::{WaitEdge, WaiterId};
use super::{Hold, Lock, LockManager, Moment, Permits};
use crate::limits::SEARCH_COST_MAX;

/// The wait that is asked about.
#[derive(Clone, Copy)]
pub(crate) struct WaitRequest<'a> {
    pub db: i32,
    pub owner: &'a [u8],
    pub keys: &'a [&'a [u8]],
    pub permits: Permits,
    pub place: Position,
    /// Other waits that end in the same step.
    pub without: &'a [WaiterId],
}

/// Tells of the holds of a lock; some may be over.
pub(crate) trait HoldSource {
    /// Passes each hold of the lock to `each`.
    fn each(&mut self, key: &[u8], each: &mut dyn FnMut(&Hold));
}

/// The locks at hand first, and the others after them; only what is not over.
pub(crate) struct LocalFirst<'a> {
    pub now: Moment,
    pub at_hand: &'a [(&'a [u8], &'a Lock)],
    pub others: &'a mut dyn HoldSource,
    /// The cost of the searches of this step so far: all of them together have the time of one.
    pub spent: usize,
}

impl LocalFirst<'_> {
    /// Whether there is time for one more search.
    pub(crate) const fn has_time(&self) -> bool {
        self.spent < SEARCH_COST_MAX
    }

    fn each(&mut self, key: &[u8], each: &mut dyn FnMut(&Hold)) {
        let now = self.now;
        let mut live = |hold: &Hold| {
            if hold.is_live(now) {
                each(hold);
            }
        };
        match self.at_hand.iter().find(|(name, _)| *name == key) {
            Some((_, lock)) => lock.holds().iter().for_each(live),
            None => self.others.each(key, &mut live),
        }
    }
}

/// The cycle that the wait would close, beginning with the one who asks. Returns `None` if there is none. Each cycle is
/// counted.
pub(crate) fn find_cycle(
    manager: &mut LockManager,
    want: &WaitRequest,
    holds: &mut LocalFirst,
) -> Option<Vec<WaitEdge>> {
    let cycle = look_for_cycle(&manager.waiters, want, holds)?;
    manager.stats.deadlocks.up();
    manager.history.record_deadlock(want.db, &cycle, holds.now);
    Some(cycle)
}

fn look_for_cycle(waiters: &Waiters, want: &WaitRequest, holds: &mut LocalFirst) -> Option<Vec<WaitEdge>> {
    let before = holds.spent;
    // While a line gets another limit, some in it show one that they do not ask with any more.
    if waiters.len() == 0 || waiters.has_new_limits() || !somebody_waits_elsewhere(waiters, want, holds) {
        return None;
    }
    let mut search = search::Search::new(waiters, *want, before)?;
    let cycle = search.run(holds);
    holds.spent += search.spent - before;
    cycle
}

/// Whether anyone before this wait waits for anything but this: if not, there is nothing to search. With too many
/// holders to look at it is not worth while either.
fn somebody_waits_elsewhere(waiters: &Waiters, want: &WaitRequest, holds: &mut LocalFirst) -> bool {
    let (before, mut spent) = (holds.spent, 0);
    let found = want.keys.iter().any(|key| {
        holds.spent += search::OPEN_COST;
        let mut found = waiters.links_between(want.db, key, Position::HEAD, want.place).next().is_some();
        holds.each(key, &mut |hold| {
            let owner = hold.owner.as_bytes();
            if !found && spent <= SEARCH_COST_MAX {
                spent += search::LOOK_COST;
                found = owner != want.owner && waiters.does_wait(want.db, owner);
            }
        });
        found
    });
    holds.spent = holds.spent.max(before + spent);
    found && spent <= SEARCH_COST_MAX
}
