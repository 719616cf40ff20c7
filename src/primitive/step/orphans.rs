//! Holds that are tied to a connection: tied, tied anew, and cut loose when it is gone.

use crate::primitive::bounds::{Bounds, Tie};
use crate::primitive::broken::broken;
use crate::primitive::manager::Rollback;
use crate::primitive::{Fence, HoldEnd, Step};

impl Step<'_> {
    /// Ties the owner's hold to another connection, or unties it from one that is gone.
    pub(crate) fn tie(&mut self, owner: &[u8], tie: Tie) {
        let Some(hold) = self.lock.hold_of_mut(owner).filter(|hold| hold.tie() != Some(&tie)) else { return };
        let fence = hold.fence;
        self.retie(fence, tie);
    }

    /// Gives the holds whose connection is gone the rest of their time. One that was just handed to that connection,
    /// which has not been heard of since, never was a hold to its owner: it is taken back.
    pub(crate) fn orphan_tied_holds(&mut self, is_there: impl Fn(&Tie) -> bool) {
        let now = self.clock.now;
        let tied = self.lock.holds().iter().filter_map(|hold| Some((hold.fence, *hold.tie()?)));
        let cut: Vec<_> = tied.filter(|(_, tie)| !tie.is_orphaned() && !is_there(tie)).collect();
        for (fence, tie) in cut {
            let unheard = self.manager.provisional.get(&fence).map(|grant| grant.rollback);
            if matches!(unheard, Some(Rollback::EndHold { .. })) {
                self.end(fence, HoldEnd::Undone);
            } else {
                self.retie(fence, Tie { end: tie.grace.deadline(now), ..tie });
            }
        }
    }

    fn retie(&mut self, fence: Fence, tie: Tie) {
        let (db, key) = (self.db, self.key);
        let Some(hold) = self.lock.hold_with_mut(fence) else { return broken("a hold to be tied is gone") };
        self.manager.unindex(db, key, hold);
        let bounds = hold.bounds().copied().unwrap_or_default();
        hold.set_bounds(Bounds { tie: Some(tie), ..bounds });
        self.manager.index(db, key, hold);
        self.push_renewed(fence);
    }
}
