//! What goes against leases and the order of the queue: holds that are broken, stolen or handed over.

use super::deadlock::{find_cycle, Holds, Link, Near, Want};
use super::hold::Extra;
use super::turn::Left;
use super::waiter::Ask;
use super::{End, Fence, Hold, Lease, Owner, Turn, WaiterId};

impl Turn<'_> {
    /// Ends all holds and makes one for somebody else, before all who wait.
    pub fn steal(&mut self, ask: Ask) -> Fence {
        self.end_all(|_| true, End::Stolen);
        self.grant_out_of_turn(ask)
    }

    /// Ends all holds that are chosen, and serves the queue after the last; how many.
    pub fn break_holds(&mut self, chosen: impl FnMut(&Hold) -> bool) -> usize {
        let count = self.end_all(chosen, End::Broken);
        self.serve();
        count
    }

    fn end_all(&mut self, mut chosen: impl FnMut(&Hold) -> bool, how: End) -> usize {
        let holds = self.lock.holds().iter().filter(|hold| chosen(hold));
        let fences: Vec<Fence> = holds.map(|hold| hold.fence).collect();
        for fence in &fences {
            if let Some(hold) = self.lock.end(*fence) {
                self.note_end(hold, how);
            }
        }
        fences.len()
    }

    /// Gives the hold to another owner; the new fence.
    pub fn transfer(&mut self, fence: Fence, to: Owner, lease: Lease) -> Option<Fence> {
        let old = self.lock.end(fence)?;
        let extra = Extra { note: old.note().into(), ..Extra::default() }.boxed();
        let ask = Ask { owner: to, claim: old.claim, lease, extra };
        self.note_end(old, End::Transferred);
        Some(self.grant_out_of_turn(ask))
    }

    /// A grant before all who wait. If the owner waits for this lock, its wait ends with it; if it waits for
    /// others as well, with nothing.
    fn grant_out_of_turn(&mut self, ask: Ask) -> Fence {
        let waiters = &self.memory.waiters;
        let waiting = waiters.waiter_of(self.db, self.key, ask.owner.as_bytes());
        let is_plain = |id: &WaiterId| {
            waiters.get(*id).is_some_and(|entry| entry.keys.len() == 1 && entry.waiter.upgrades.is_none())
        };
        let plain = waiting.filter(is_plain);
        match (plain, waiting) {
            (Some(id), _) => {
                self.memory.waiters.remove(id);
            }
            (None, Some(id)) => self.leave(id, Left::Superseded),
            (None, None) => {}
        }
        let fence = self.grant(ask, plain);
        self.serve();
        fence
    }

    /// The cycle that there would be if this owner had the hold: what it waits for might wait for it.
    pub fn find_cycle_after_transfer(
        &mut self,
        fence: Fence,
        to: &Owner,
        others: &mut dyn Holds,
    ) -> Option<Vec<Link>> {
        let owner = std::mem::replace(&mut self.lock.hold_with_mut(fence)?.owner, to.clone());
        // The hold that was to be upgraded is gone then.
        let upgrade = self.memory.waiters.waiter_of(self.db, self.key, owner.as_bytes());
        let waits = self.memory.waiters.waits_of(self.db, to.as_bytes()).to_vec();
        let cycle = waits.iter().find_map(|id| {
            let entry = self.memory.waiters.get(*id)?;
            if entry.keys.iter().any(|key| **key == *self.key) {
                // This wait ends with the transfer.
                return None;
            }
            let keys: Vec<&[u8]> = entry.keys.iter().map(|key| &**key).collect();
            let (claim, place) = (entry.waiter.ask.claim, entry.place);
            let want =
                Want { db: self.db, owner: to.as_bytes(), keys: &keys, claim, place, without: upgrade };
            let at_hand = &[(self.key, &*self.lock)];
            find_cycle(&self.memory.waiters, &want, &mut Near { now: self.clock.now, at_hand, others })
        });
        self.lock.hold_with_mut(fence)?.owner = owner;
        self.memory.stats.deadlocks += u64::from(cycle.is_some());
        cycle
    }
}
