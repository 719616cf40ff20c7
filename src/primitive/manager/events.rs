//! Events that concern locks without a step, a function for each: a client goes, a key goes or is overwritten, a
//! database is emptied, two change places, the server gets another role. The state outside the keyspace follows, and
//! asks for a look at what it concerns; nothing is granted or ended here. Servers, the model tests and the simulator
//! tell of events by these.
//!
//! A connection that closes is up to three events:
//!
//! - its client waited: [`client_gone`](LockManager::client_gone). The wait leaves its queue, and those behind it may have
//!   their turn; the place of a ticket stays, for its owner may ask from elsewhere;
//! - a grant was not read: [`grant_unread`](LockManager::grant_unread). It is taken back as its
//!   [`Provisional`](super::Provisional) says: the hold ends, or is shared again, and the queue goes on;
//! - holds are tied to it: [`connection_closed`](LockManager::connection_closed). They get the rest of their grace; one that was
//!   just given, and never heard of, ends at once.
//!
//! Any other hold lasts to the end of its lease.

use crate::primitive::effect::WaitEnd;
use crate::primitive::ledger::{Ended, Named};
use crate::primitive::manager::rechecks::Rechecks;
use crate::primitive::recovery::Length;
use crate::primitive::table::Table;
use crate::primitive::{Clock, Fence, HoldEnd, Lock, LockManager, Moment, WaiterId};

impl LockManager {
    /// The client of this waiter is gone, or its wait was ended for the reason `why`. It leaves its queue; only a ticket keeps
    /// its place for its owner, who may ask from elsewhere. Returns how the wait has ended for the client.
    pub(crate) fn client_gone(&mut self, id: WaiterId, why: WaitEnd, now: Moment) -> WaitEnd {
        if let Some(deadline) = self.waiters.detach(id, now) {
            self.wake_by(deadline);
            return WaitEnd::PlaceKept;
        }
        self.dismiss_between_steps(id, why);
        why
    }

    /// Nobody has read the reply that told of this grant: it is taken back, unless its owner is heard of before.
    pub(crate) fn grant_unread(&mut self, fence: Fence) {
        self.rechecks.unread.push_back(fence);
    }

    /// A connection has closed: the holds that are tied to it are looked at.
    pub(crate) fn connection_closed(&mut self, client: u64) {
        self.recheck_ties(client);
    }

    /// The lock has left its key: deleted, overwritten, evicted, renamed or moved. Its holds have vanished. A replica hears of
    /// no releases, and what it remembered would be out of date when it is promoted; so it remembers nothing.
    pub(crate) fn key_gone(&mut self, db: i32, key: &[u8], lock: &Lock, now: Moment, is_primary: bool) {
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
        self.recheck_if_awaited(db, key);
    }

    /// This database has been emptied, or all of them.
    pub(crate) fn flushed(&mut self, db: Option<i32>, now: Moment) {
        self.dropped.push(self.leases.clear(db).chain(self.ties.clear(db)));
        self.ledger.flush(db, now);
        self.recovery.let_nothing_back();
        self.recheck_all();
    }

    /// Two databases have changed places.
    pub(crate) fn swapped(&mut self, first: i32, second: i32, now: Moment) {
        self.leases.swap(first, second);
        self.ties.swap(first, second);
        for grant in self.provisional.values_mut() {
            grant.db = match grant.db {
                db if db == first => second,
                db if db == second => first,
                db => db,
            };
        }
        self.recovery.swap(first, second);
        [first, second].iter().for_each(|db| self.ledger.flush(Some(*db), now));
        self.recheck_all();
        // A client that was found to be gone is looked for in the other database by now.
        self.recheck_all_ties();
    }

    /// A load is over: all that waits, watches or is tied may concern what has come with it.
    pub(crate) fn loaded(&mut self) {
        self.recheck_all();
        self.recheck_all_ties();
    }

    /// This server is a primary from now on. Its memory of ended holds is from before, and connections of the primary
    /// before it are none of its own.
    pub(crate) fn promoted(&mut self) {
        self.ledger.clear();
        self.recheck_all();
        self.recheck_all_ties();
    }

    /// This server is a replica from now on. Those who wait are still there: their primary may come back.
    pub(crate) fn demoted(&mut self) {
        self.ledger.clear();
    }

    /// This server is a primary from now on, or has loaded what may not be all there was: whatever it does not know of may
    /// have been granted. Returns whether nothing is granted for a while.
    pub(crate) fn took_over(&mut self, length: Length, clock: Clock, ahead_ms: u64) -> bool {
        let is_open = self.recovery.open(length, self.fences.last(), clock, ahead_ms);
        self.pass_thrown_away();
        if let Some(until) = self.recovery.until() {
            self.wake_by(until);
            // Every grant of this server is newer than all that was lost, and its replicas are to know that.
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

    /// This server is no longer a primary, and those who waited have been sent away: their queues are forgotten, and
    /// what a primary would still have looked at.
    pub(crate) fn stepped_down(&mut self) {
        self.stats.failed.add(self.waiters.len());
        self.provisional = Table::default();
        self.rechecks = Rechecks::default();
        let waiters = self.waiters.clear();
        self.dropped.push(waiters);
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
