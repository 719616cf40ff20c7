//! The work of a replica, and of a server that loads its AOF: it puts in what it is told, judges nothing and tells
//! nobody. It always leaves a lock that can be saved and loaded again: what cannot stand beside the newest word has to
//! go.

use crate::primitive::bounds::Bounds;
use crate::primitive::broken::broken;
use crate::primitive::hold::Mark;
use crate::primitive::permits::{Permits, ALL};
use crate::primitive::reentry::Exit;
use crate::primitive::{Cooldown, Fence, Hold, Lease, Moment, Step};

/// All of a hold that can change while it stands, but for its ids and its bounds.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub permits: u32,
    pub lease: Lease,
    pub deadline: Moment,
    pub note: Box<[u8]>,
}

/// A change that an effect tells of a lock, with the times of this server.
#[derive(Debug)]
pub(crate) enum Change {
    /// This hold stands.
    Hold(Hold),
    /// The hold of this fence is so now, and has no bounds.
    Renew(Fence, Renewal),
    /// The hold of this fence is entered under this id.
    Enter(Fence, Box<[u8]>),
    /// The hold of this fence is left under this id, and goes on under others.
    Leave(Fence, Box<[u8]>),
    /// The hold of this fence is bounded so.
    Bounds(Fence, Bounds),
    /// The hold of this fence is over, and its permits cool.
    Cool(Cooldown),
    /// The hold of this fence is over, or what cooled after it.
    Free(Fence),
    /// The semaphore has this limit.
    Limit(u32),
}

impl Step<'_> {
    /// Makes it so. Returns whether that changed anything.
    pub(crate) fn apply_change(&mut self, change: Change) -> bool {
        match change {
            Change::Hold(hold) => self.force_hold(hold),
            Change::Renew(fence, renewal) => return self.force_renewal(fence, renewal),
            Change::Enter(fence, id) => return self.force_entry(fence, &id),
            Change::Leave(fence, id) => return self.force_exit(fence, &id),
            Change::Bounds(fence, bounds) => return self.force_bounds(fence, bounds),
            Change::Cool(cooldown) => self.force_cooldown(cooldown),
            Change::Free(fence) => return self.remove_hold(fence),
            Change::Limit(limit) => return self.force_limit(limit),
        }
        true
    }

    /// Puts a hold in as the primary has it.
    fn force_hold(&mut self, hold: Hold) {
        let fence = hold.fence;
        self.manager.fences.advance_past(fence);
        for gone in self.lock.force(hold) {
            self.manager.unindex(self.db, self.key, &gone);
            if gone.fence != fence {
                self.manager.recovery.record_end(self.db, self.key, gone.fence, Some(gone.permits));
            }
        }
        if let Some(hold) = self.lock.hold_with_mut(fence) {
            self.manager.index(self.db, self.key, hold);
        } else {
            broken("a hold that was put in is not there");
        }
    }

    /// Makes a hold what it is on the primary. Returns whether there is such a hold, which can be that.
    fn force_renewal(&mut self, fence: Fence, renewal: Renewal) -> bool {
        let Some(hold) = self.lock.hold_with_mut(fence) else { return false };
        let Renewal { permits, lease, deadline, note } = renewal;
        let Some(permits) = Permits::held(hold.permits.limit, permits) else { return false };
        self.manager.unindex(self.db, self.key, hold);
        // It takes the place of itself, by the rule for all that is put in.
        let (owner, extra, mark) = (hold.owner.clone(), hold.extra.take(), Mark::NONE);
        hold.mark = mark;
        let mut next = Hold { owner, fence, lease, deadline, extra, permits, mark };
        next.restate(note);
        self.force_hold(next);
        true
    }

    /// Lets the owner in as it is on the primary. Returns whether that changed anything.
    fn force_entry(&mut self, fence: Fence, id: &[u8]) -> bool {
        let hold = self.lock.hold_with_mut(fence);
        let Some(hold) = hold.filter(|hold| !hold.entries().has(id) && !hold.entries().is_full()) else {
            return false;
        };
        hold.enter(id);
        true
    }

    /// Lets the owner out as it is on the primary. Returns whether that changed anything. With the last id the hold
    /// ends, which is another effect.
    fn force_exit(&mut self, fence: Fence, id: &[u8]) -> bool {
        let hold = self.lock.hold_with_mut(fence);
        hold.is_some_and(|hold| hold.exit(id) == Exit::StillHeld)
    }

    /// Gives a hold the bounds that it has on the primary. Returns whether there is such a hold.
    fn force_bounds(&mut self, fence: Fence, bounds: Bounds) -> bool {
        let Some(hold) = self.lock.hold_with_mut(fence) else { return false };
        self.manager.unindex(self.db, self.key, hold);
        hold.set_bounds(bounds);
        self.manager.index(self.db, self.key, hold);
        true
    }

    /// Lets permits cool as they do on the primary, after a hold that is over with this.
    fn force_cooldown(&mut self, mut cooldown: Cooldown) {
        let fence = cooldown.hold.fence;
        self.manager.fences.advance_past(fence);
        self.remove_hold(fence);
        self.manager.index(self.db, self.key, &mut cooldown.hold);
        for gone in self.lock.force_cooldown(cooldown) {
            self.manager.unindex(self.db, self.key, &gone);
        }
    }

    /// Takes a hold out, or its cooldown, as the primary did. Returns whether there was one, or it could have come
    /// back.
    fn remove_hold(&mut self, fence: Fence) -> bool {
        let cooled = |cooldown: &Cooldown| cooldown.hold.fence == fence;
        let gone = match self.lock.end(fence) {
            Some(hold) => Some(hold),
            None => self.lock.take_cooldowns(cooled).pop().map(|cooldown| cooldown.hold),
        };
        let Some(hold) = gone else { return self.manager.recovery.keep_away(self.db, self.key, fence) };
        self.manager.unindex(self.db, self.key, &hold);
        self.manager.recovery.record_end(self.db, self.key, fence, Some(hold.permits));
        true
    }

    /// Gives the semaphore the limit that it has on the primary. Returns whether there is one.
    fn force_limit(&mut self, limit: u32) -> bool {
        let is_semaphore = !self.lock.is_free() && self.lock.limit() < ALL;
        if is_semaphore {
            self.lock.set_limit(limit);
        }
        is_semaphore
    }
}
