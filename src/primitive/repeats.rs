//! Requests that named a hold by its fence and are sent again: what the ledger remembers of the first time.

use super::ledger::{Deed, Done, Ended};
use super::reentry::Exit;
use super::{Fence, HoldEnd, Permits, Step};

impl Step<'_> {
    /// Remembers that this owner, who named its hold by the fence, has left it under this id.
    pub(crate) fn remember_exit(&mut self, owner: &[u8], fence: Fence, id: &[u8], exit: Exit) {
        match exit {
            Exit::Unknown => {}
            Exit::StillHeld => self.remember(owner, fence, Deed::Exit(id), fence),
            Exit::Last => self.remember(owner, fence, Deed::Release, fence),
        }
    }

    /// Remembers that this owner has handed its hold over, and under which fence the other one has it.
    pub(crate) fn remember_transfer(&mut self, owner: &[u8], fence: Fence, to: &[u8], new: Fence) {
        self.remember(owner, fence, Deed::Transfer(to), new);
    }

    /// Remembers that the hold of this fence was made exclusive, and is under another one.
    pub(crate) fn remember_upgrade(&mut self, owner: &[u8], fence: Fence, new: Fence) {
        self.remember(owner, fence, Deed::Upgrade, new);
    }

    fn remember(&mut self, owner: &[u8], fence: Fence, deed: Deed, new: Fence) {
        let (of, done) = (self.named(owner), Done { fence: new, at: self.clock.now });
        self.manager.ledger.remember(of, fence, deed, done);
        self.manager.fit_ledger();
    }

    /// The end of the hold of this fence, if this owner itself has ended it.
    pub(crate) fn released_before(&self, owner: &[u8], fence: Fence) -> Option<Ended> {
        let ended = self.manager.ledger.find(self.named(owner), Some(fence));
        ended.filter(|ended| ended.how == HoldEnd::Released)
    }

    /// Whether this owner has left the hold of this fence under this id, and holds it under others.
    pub(crate) fn has_left(&self, owner: &[u8], fence: Fence, id: &[u8]) -> bool {
        self.manager.ledger.done(self.named(owner), fence, Deed::Exit(id)).is_some()
    }

    /// The exclusive hold that this owner has now, if that of this fence was upgraded to it. The owner is told that it
    /// has the lock, so this must be so.
    pub(crate) fn upgraded_before(&self, owner: &[u8], fence: Fence) -> Option<Fence> {
        let done = self.manager.ledger.done(self.named(owner), fence, Deed::Upgrade)?;
        let hold = self.lock.hold_of(owner).filter(|hold| hold.permits == Permits::EXCLUSIVE);
        hold.map(|hold| hold.fence).filter(|fence| *fence == done.fence)
    }

    /// The fence under which the hold was handed over to this owner before.
    pub(crate) fn was_transferred(&self, owner: &[u8], fence: Fence, to: &[u8]) -> Option<Fence> {
        self.manager.ledger.done(self.named(owner), fence, Deed::Transfer(to)).map(|done| done.fence)
    }
}
