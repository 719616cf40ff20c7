//! What a replica does, and a server that loads its AOF: it puts in what it is told, judges nothing and tells nobody.

use super::bounds::Bounds;
use super::claim::ALL;
use super::{Cooling, Fence, Hold, Turn};

impl Turn<'_> {
    /// Puts a hold in as the primary has it.
    pub fn impose(&mut self, hold: Hold) {
        let fence = hold.fence;
        self.memory.fences.fold(fence);
        for gone in self.lock.impose(hold) {
            self.memory.unindex(self.db, self.key, &gone);
        }
        if let Some(hold) = self.lock.hold_with_mut(fence) {
            self.memory.index(self.db, self.key, hold);
        }
    }

    /// Gives a hold the bounds that it has on the primary; whether there is such a hold.
    pub fn impose_bounds(&mut self, fence: Fence, bounds: Bounds) -> bool {
        let Some(hold) = self.lock.hold_with_mut(fence) else { return false };
        self.memory.unindex(self.db, self.key, hold);
        hold.set_bounds(bounds);
        self.memory.index(self.db, self.key, hold);
        true
    }

    /// Lets permits cool as they do on the primary, after a hold that is over with this.
    pub fn impose_cooling(&mut self, mut cooling: Cooling) {
        let fence = cooling.hold.fence;
        self.memory.fences.fold(fence);
        self.free(fence);
        self.memory.index(self.db, self.key, &mut cooling.hold);
        self.lock.cool(cooling);
    }

    /// Takes a hold out, or what cools after it, as the primary did; whether there was one.
    pub fn free(&mut self, fence: Fence) -> bool {
        let cooled = |cooling: &Cooling| cooling.hold.fence == fence;
        let gone = match self.lock.end(fence) {
            Some(hold) => Some(hold),
            None => self.lock.take_cooling(cooled).map(|cooling| cooling.hold),
        };
        gone.is_some_and(|hold| {
            self.memory.unindex(self.db, self.key, &hold);
            true
        })
    }

    /// Gives the semaphore the limit that it has on the primary; whether there was one.
    pub fn impose_limit(&mut self, limit: u32) -> bool {
        let is_semaphore = !self.lock.is_free() && self.lock.limit() < ALL;
        if is_semaphore {
            self.lock.set_limit(limit);
        }
        is_semaphore
    }
}
