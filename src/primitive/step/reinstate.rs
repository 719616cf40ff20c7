//! Holds that the primary before this one granted, and that are not known here. While the recovery window is open their
//! owners bring them back.

use super::Step;
use crate::primitive::broken::broken;
use crate::primitive::effect::{Effect, WaitEnd};
use crate::primitive::hold::Mark;
use crate::primitive::permits::ALL;
use crate::primitive::recovery::LostHold;
use crate::primitive::reentry::Exit;
use crate::primitive::waiter::AcquireRequest;
use crate::primitive::{Fence, Hold, HoldEnd, Locks, Permits};

impl Step<'_> {
    /// Whether a hold of this fence and these permits may have been granted behind what is known here, and stand.
    pub(crate) fn may_be_lost(&self, owner: &[u8], fence: Fence, permits: Permits) -> bool {
        self.manager.recovery.may_be_lost(self.lost(owner, fence), permits, self.lock.holds())
    }

    /// The same, whatever permits it had.
    pub(crate) fn may_be_lost_in_any_mode(&self, owner: &[u8], fence: Fence) -> bool {
        self.manager.recovery.may_be_lost_in_any_mode(self.lost(owner, fence), self.lock.holds())
    }

    fn lost<'a>(&'a self, owner: &'a [u8], fence: Fence) -> LostHold<'a> {
        LostHold { db: self.db, key: self.key, owner, fence }
    }

    /// Brings back the hold that its owner says it has under this fence, with what it asks for. Of two holds that cannot have
    /// stood together the one with the higher fence came later, so the other one is over. An exclusive hold below a shared
    /// one was downgraded, perhaps. A semaphore takes in all, over its limit if need be: one of the holds is over in truth,
    /// and nobody knows which. Returns whether the owner has that hold now.
    pub(crate) fn reinstate(&mut self, request: AcquireRequest, fence: Fence) -> bool {
        let mut permits = request.permits;
        if !self.may_be_lost(request.owner.as_bytes(), fence, permits) {
            self.manager.count_refused_claim(fence);
            return false;
        }
        if permits == Permits::SHARED {
            let others = self.lock.holds_mut().iter_mut();
            for hold in others.filter(|hold| hold.permits == Permits::EXCLUSIVE) {
                hold.permits = Permits::SHARED;
                self.effects.push(Effect::Downgraded { fence: hold.fence });
            }
        }
        self.end_cooldowns(|hold| !hold.permits.can_share(permits));
        let limit = self.lock.limit();
        if !self.lock.is_free() && permits.limit < ALL && limit < ALL && limit != permits.limit {
            if self.lock.holds().iter().any(|hold| hold.fence > fence) {
                permits.limit = limit;
            } else {
                self.lock.set_limit(permits.limit);
                self.effects.push(Effect::Limited { limit: permits.limit });
            }
        }
        let AcquireRequest { owner, lease, extra, span, .. } = request;
        let name = owner.clone();
        let deadline = lease.deadline(self.clock.now);
        let mut hold = Hold { owner, fence, lease, deadline, extra, permits, mark: Mark::NONE };
        if let Some(span) = span {
            hold.set_bounds(hold.bounds().copied().unwrap_or_default().and(span.from(self.clock.now)));
        }
        self.manager.fences.advance_past(fence);
        let displaced = self.lock.force(hold);
        if let Some(hold) = self.lock.hold_with_mut(fence) {
            self.manager.index(self.db, self.key, hold);
        } else {
            broken("a hold that was brought back is not there");
        }
        // An owner that waits for what it has would wait for itself.
        if let Some(wait) = self.manager.waiters.waiter_of(self.db, self.key, name.as_bytes()) {
            self.end_wait(wait, WaitEnd::Superseded);
        }
        self.manager.stats.reinstated.up();
        self.effects.push(Effect::Reinstated { fence });
        displaced.into_iter().for_each(|hold| self.record_end(hold, HoldEnd::Displaced));
        true
    }

    /// No hold of this lock that was lost comes back.
    pub(crate) fn keep_all_away(&mut self) {
        if let Some(newest) = self.manager.recovery.newest() {
            self.keep_away(newest);
        }
    }

    fn keep_away(&mut self, fence: Fence) {
        self.manager.recovery.keep_away(self.db, self.key, fence);
        self.effects.push(Effect::KeptAway { fence });
    }

    /// The owner gives back a hold that may have been lost: it is over, and what it had before that as well. Returns
    /// whether that was so.
    pub(crate) fn release_lost(&mut self, owner: &[u8], fence: Fence) -> bool {
        let may_be = self.may_be_lost_in_any_mode(owner, fence);
        if may_be {
            self.keep_away(fence);
            self.remember_exit(owner, fence, b"", Exit::Last);
            self.manager.stats.released.up();
            if let Some(earlier) = self.lock.hold_of(owner).map(|hold| hold.fence) {
                self.end(earlier, HoldEnd::Displaced);
            }
        }
        may_be
    }
}
