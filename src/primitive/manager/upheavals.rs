//! What happens to locks without a step: a key goes or is overwritten, a database is emptied, two change places, the server
//! gets another role. The state outside the keyspace follows, and asks for a look at what it concerns.

use crate::primitive::ledger::{Ended, Named};
use crate::primitive::manager::rechecks::Rechecks;
use crate::primitive::recovery::Length;
use crate::primitive::table::Table;
use crate::primitive::{Clock, Fence, HoldEnd, Lock, LockManager, Moment};

impl LockManager {
    /// The lock has left its key: deleted, overwritten, evicted, renamed or moved. Its holds have vanished. A replica hears of
    /// no releases, and what it remembered would be out of date when it is promoted; so it remembers nothing. Returns whether
    /// somebody waits for the lock or watches the key.
    pub(crate) fn key_gone(
        &mut self,
        db: i32,
        key: &[u8],
        lock: &Lock,
        now: Moment,
        is_primary: bool,
    ) -> bool {
        lock.cooldowns().iter().for_each(|cooldown| self.unindex(db, key, &cooldown.hold));
        for hold in lock.holds() {
            self.unindex(db, key, hold);
            self.forget(hold.fence);
            self.recovery.record_end(db, key, hold.fence, Some(hold.permits));
            if hold.is_live(now) {
                self.stats.vanished.up();
                if is_primary {
                    let of = Named { db, key, owner: hold.owner.as_bytes() };
                    self.record_loss(of, Ended { fence: hold.fence, how: HoldEnd::Vanished, at: now });
                }
            }
        }
        self.recheck_if_awaited(db, key)
    }

    /// This database has been emptied, or all of them. Returns what is left to be given back, bit by bit.
    pub(crate) fn flushed(&mut self, db: Option<i32>, now: Moment) -> impl Iterator<Item = ()> + use<> {
        let (leases, ties) = (self.leases.clear(db), self.ties.clear(db));
        self.ledger.flush(db, now);
        self.recovery.let_nothing_back();
        self.recheck_all();
        leases.chain(ties)
    }

    /// Two databases have changed places.
    pub(crate) fn swapped(&mut self, first: i32, second: i32, now: Moment) {
        self.leases.swap(first, second);
        self.ties.swap(first, second);
        self.rechecks.swap(first, second);
        self.recovery.swap(first, second);
        [first, second].iter().for_each(|db| self.ledger.flush(Some(*db), now));
        self.recheck_all();
        // Whoever was found to be gone is looked for in the other database by now.
        self.recheck_all_ties();
    }

    /// This server is a primary from now on, or has loaded what may not be all there was: whatever it does not know of may
    /// have been granted. Returns whether nothing is granted for a while.
    pub(crate) fn took_over(&mut self, length: Length, clock: Clock, ahead_ms: u64) -> bool {
        let is_open = self.recovery.open(length, self.fences.last(), clock, ahead_ms);
        self.pass_thrown_away();
        if let Some(until) = self.recovery.until() {
            self.wake_by(until);
            // Whatever this server grants is newer than all that was lost, and its replicas are to know that.
            self.fences.advance_to(clock.unix_us);
        }
        is_open
    }

    /// This server is a primary from now on, or has started, and knows of all that was granted before. A time without grants that
    /// had begun goes on. Returns whether there is one.
    pub(crate) fn succeeded(&mut self, now: Moment) -> bool {
        self.pass_thrown_away();
        if self.recovery.is_due(now) {
            self.recovery.close();
        }
        self.recovery.until().into_iter().for_each(|until| self.wake_by(until));
        self.recovery.is_open()
    }

    /// Somebody has named this fence in vain: one that no server can have granted is counted.
    pub(crate) fn count_refused_claim(&mut self, fence: Fence) {
        if self.recovery.newest().is_some_and(|newest| fence > newest) {
            self.stats.implausible.up();
        }
    }

    /// Grants again, if the time without grants is over. Returns whether it has ended with this.
    pub(crate) fn end_recovery_if_due(&mut self, now: Moment) -> bool {
        self.recovery.is_due(now) && self.end_recovery()
    }

    /// Grants again. Returns whether there was a time without grants.
    pub(crate) fn end_recovery(&mut self) -> bool {
        let was_open = self.recovery.close();
        if was_open {
            self.recheck_all();
        }
        was_open
    }

    /// This server is a primary no more, and those who waited have been sent away: their queues are forgotten, and what a
    /// primary would still have looked at. Returns what is left to be given back, bit by bit.
    pub(crate) fn stepped_down(&mut self) -> impl Iterator<Item = ()> + use<> {
        self.stats.failed.add(self.waiters.len());
        self.provisional = Table::default();
        self.rechecks = Rechecks::default();
        self.waiters.clear()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Lease;

    const CLOCK: Clock = Clock { now: Moment(0), unix_us: 5_000 };

    /// A replica that is filled while the window is open gets the newest fence along, and takes what is older for over.
    #[test]
    fn who_opens_a_window_knows_all_fences_up_to_now_and_whoever_opens_none_does_not() {
        for (window, last) in [(Length::Fixed(Lease::ms(7)), 5_000), (Length::Off, 100)] {
            let mut manager = LockManager::default();
            manager.fences.advance_past(Fence::new(100).unwrap());
            assert_eq!(manager.took_over(window, CLOCK, 0), manager.recovery.is_open());
            assert_eq!(manager.fences.last(), last);
        }
    }
}
