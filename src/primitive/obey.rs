//! What a replica does, and a server that loads its AOF: it puts in what it is told, judges nothing and tells nobody.
//! Whatever it is told, it leaves a lock that can be saved and loaded again: what cannot stand beside the newest word has
//! to go.

use super::bounds::Bounds;
use super::claim::{Claim, ALL};
use super::entries::Exit;
use super::hold::Mark;
use super::{Cooling, Fence, Hold, Lease, Moment, Turn};

/// All of a hold that can change while it stands, but for its ids and its bounds.
#[derive(Debug)]
pub struct Renewal {
    pub permits: u32,
    pub lease: Lease,
    pub deadline: Moment,
    pub note: Box<[u8]>,
}

/// What an effect says of a lock, with the times of this server.
#[derive(Debug)]
pub enum Change {
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
    Cool(Cooling),
    /// The hold of this fence is over, or what cooled after it.
    Free(Fence),
    /// The semaphore has this limit.
    Limit(u32),
}

impl Turn<'_> {
    /// Makes it so; whether that changed anything.
    pub fn obey(&mut self, change: Change) -> bool {
        match change {
            Change::Hold(hold) => self.impose(hold),
            Change::Renew(fence, renewal) => return self.impose_renewal(fence, renewal),
            Change::Enter(fence, id) => return self.impose_entry(fence, &id),
            Change::Leave(fence, id) => return self.impose_exit(fence, &id),
            Change::Bounds(fence, bounds) => return self.impose_bounds(fence, bounds),
            Change::Cool(cooling) => self.impose_cooling(cooling),
            Change::Free(fence) => return self.free(fence),
            Change::Limit(limit) => return self.impose_limit(limit),
        }
        true
    }

    /// Puts a hold in as the primary has it.
    fn impose(&mut self, hold: Hold) {
        let fence = hold.fence;
        self.memory.fences.fold(fence);
        for gone in self.lock.impose(hold) {
            self.memory.unindex(self.db, self.key, &gone);
        }
        if let Some(hold) = self.lock.hold_with_mut(fence) {
            self.memory.index(self.db, self.key, hold);
        }
    }

    /// Makes a hold what it is on the primary; whether there is such a hold, which can be that.
    fn impose_renewal(&mut self, fence: Fence, renewal: Renewal) -> bool {
        let Some(hold) = self.lock.hold_with_mut(fence) else { return false };
        let Renewal { permits, lease, deadline, note } = renewal;
        let Some(claim) = Claim::held(hold.claim.limit, permits) else { return false };
        self.memory.unindex(self.db, self.key, hold);
        // It takes the place of itself, by the rule for all that is put in.
        let (owner, extra, mark) = (hold.owner.clone(), hold.extra.take(), Mark::NONE);
        hold.mark = mark;
        let mut next = Hold { owner, fence, lease, deadline, extra, claim, mark };
        next.restate(note);
        self.impose(next);
        true
    }

    /// Lets the owner in as it is on the primary; whether that changed anything.
    fn impose_entry(&mut self, fence: Fence, id: &[u8]) -> bool {
        let hold = self.lock.hold_with_mut(fence);
        let Some(hold) = hold.filter(|hold| !hold.entries().has(id) && !hold.entries().is_full()) else {
            return false;
        };
        hold.enter(id);
        true
    }

    /// Lets the owner out as it is on the primary; whether that changed anything. With the last id the hold ends, which is
    /// another effect.
    fn impose_exit(&mut self, fence: Fence, id: &[u8]) -> bool {
        let hold = self.lock.hold_with_mut(fence);
        hold.is_some_and(|hold| hold.leave(id) == Exit::StillHeld)
    }

    /// Gives a hold the bounds that it has on the primary; whether there is such a hold.
    fn impose_bounds(&mut self, fence: Fence, bounds: Bounds) -> bool {
        let Some(hold) = self.lock.hold_with_mut(fence) else { return false };
        self.memory.unindex(self.db, self.key, hold);
        hold.set_bounds(bounds);
        self.memory.index(self.db, self.key, hold);
        true
    }

    /// Lets permits cool as they do on the primary, after a hold that is over with this.
    fn impose_cooling(&mut self, mut cooling: Cooling) {
        let fence = cooling.hold.fence;
        self.memory.fences.fold(fence);
        self.free(fence);
        self.memory.index(self.db, self.key, &mut cooling.hold);
        for gone in self.lock.impose_cooling(cooling) {
            self.memory.unindex(self.db, self.key, &gone);
        }
    }

    /// Takes a hold out, or its cooldown, as the primary did; whether there was one.
    fn free(&mut self, fence: Fence) -> bool {
        let cooled = |cooling: &Cooling| cooling.hold.fence == fence;
        let gone = match self.lock.end(fence) {
            Some(hold) => Some(hold),
            None => self.lock.take_cooling(cooled).pop().map(|cooling| cooling.hold),
        };
        gone.is_some_and(|hold| {
            self.memory.unindex(self.db, self.key, &hold);
            true
        })
    }

    /// Gives the semaphore the limit that it has on the primary; whether there was one.
    fn impose_limit(&mut self, limit: u32) -> bool {
        let is_semaphore = !self.lock.is_free() && self.lock.limit() < ALL;
        if is_semaphore {
            self.lock.set_limit(limit);
        }
        is_semaphore
    }
}
