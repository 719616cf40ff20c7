//! Moves against leases and the order of the queue: holds that are broken, stolen, handed over or asked for.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use crate::limits::SEARCH_COST_MAX;
use smallvec::SmallVec;

use crate::primitive::bounds::Bounds;
use crate::primitive::deadlock::{find_cycle, HoldSource, LocalFirst, WaitRequest};
use crate::primitive::hold::Extra;
use crate::primitive::reentry::ReentryIds;
use crate::primitive::step::{Effect, Recipient, WaitEnd};
use crate::primitive::waiter::AcquireRequest;
use crate::primitive::waiter::WaitEdge;
use crate::primitive::{Fence, Hold, HoldEnd, Lease, Locks, Owner, Step, WaiterId};

impl Step<'_> {
    /// Ends all holds and makes one for somebody else, before all who wait.
    pub(crate) fn steal(
        &mut self,
        request: AcquireRequest,
        may_have: &mut dyn FnMut(WaiterId) -> bool,
    ) -> Fence {
        self.end_all(|_| true, HoldEnd::Stolen);
        self.end_cooldowns(|_| true);
        self.grant_ahead_of_queue(request, may_have)
    }

    /// Ends all holds that are chosen, and the cooldowns of such holds, and grants to the queue after the last. Returns
    /// how many.
    pub(crate) fn break_holds(&mut self, mut chosen: impl FnMut(&Hold) -> bool) -> usize {
        let cooled = self.end_cooldowns(&mut chosen);
        let count = cooled + self.end_all(chosen, HoldEnd::Broken);
        self.grant_waiters();
        count
    }

    fn end_all(&mut self, chosen: impl FnMut(&Hold) -> bool, how: HoldEnd) -> usize {
        let holds = self.lock.end_each(chosen);
        let count = holds.len();
        holds.into_iter().for_each(|hold| self.record_end(hold, how));
        count
    }

    /// Asks all holders to give the lock up. Returns how many there are. It is on them to do it.
    pub(crate) fn revoke(&mut self) -> usize {
        let holds = self.lock.holds_mut();
        holds.iter_mut().for_each(Hold::ask_for);
        let count = holds.len();
        if count > 0 {
            self.effects.push(Effect::Wanted);
        }
        count
    }

    /// Gives the hold to another owner; the new fence.
    pub(crate) fn transfer(
        &mut self,
        fence: Fence,
        to: Owner,
        lease: Lease,
        may_have: &mut dyn FnMut(WaiterId) -> bool,
    ) -> Option<Fence> {
        let old = self.lock.end(fence)?;
        // The bounds of the hold stay with it, but for the tie: that was the old owner's.
        let bounds = old.bounds().and_then(|bounds| Bounds { tie: None, ..*bounds }.boxed());
        let extra = Extra { note: old.note().into(), bounds, ..Extra::default() }.boxed();
        let request = AcquireRequest { owner: to, permits: old.permits, lease, extra, span: None };
        self.record_end(old, HoldEnd::Transferred);
        Some(self.grant_ahead_of_queue(request, may_have))
    }

    /// A grant before all who wait. If the owner waits for just this, its wait ends with it, and the hold is entered
    /// under the id that it asked with, and bounded as it asked, too. If it waits for something else, as for several locks
    /// or in another mode, its client must not take this for what it asked for: that wait ends with nothing. So does that of
    /// a client that may not have it.
    /// A hold given on purpose need not be claimed, unless a client is told that may not hear it: a ticket ends with
    /// it.
    fn grant_ahead_of_queue(
        &mut self,
        mut request: AcquireRequest,
        may_have: &mut dyn FnMut(WaiterId) -> bool,
    ) -> Fence {
        let waiters = &self.manager.waiters;
        let waiting = waiters.waiter_of(self.db, self.key, request.owner.as_bytes());
        let is_for_this = |id: &WaiterId| {
            waiters.get(*id).is_some_and(|entry| {
                let waiter = &entry.waiter;
                entry.keys.len() == 1
                    && waiter.upgrades.is_none()
                    && waiter.request.permits == request.permits
            })
        };
        let mut may_be_told = |id: &WaiterId| waiters.client_of(*id).is_none_or(&mut *may_have);
        let told = waiting.filter(is_for_this).filter(&mut may_be_told);
        let mut to = Recipient::Caller;
        if let Some((id, entry)) = told.and_then(|id| Some((id, self.manager.waiters.remove(id)?))) {
            match Recipient::waiter(id, &entry.waiter) {
                Recipient::Ticket(None) => self.manager.stats.handed_off.up(),
                waiter => to = waiter,
            }
            let asked = entry.waiter.request;
            let mut extra = request.extra.take().map_or_else(Extra::default, |extra| *extra);
            extra.entries = asked.extra.map_or_else(ReentryIds::default, |asked| asked.entries);
            request.extra = extra.boxed();
            request.span = match (request.span, asked.span) {
                (Some(span), Some(asked)) => Some(Box::new(span.and(*asked))),
                (span, asked) => asked.or(span),
            };
        } else if let Some(id) = waiting {
            self.end_wait(id, WaitEnd::Superseded);
        }
        let fence = self.grant(request, to);
        self.grant_waiters();
        fence
    }

    /// The cycle that there would be if this owner had the hold: what it waits for might wait for it. All of its waits
    /// together have the time of one search; what is not found in it is let pass, and leases end it.
    pub(crate) fn find_cycle_after_transfer(
        &mut self,
        fence: Fence,
        to: &Owner,
        others: &mut dyn HoldSource,
    ) -> Option<Vec<WaitEdge>> {
        let owner = std::mem::replace(&mut self.lock.hold_with_mut(fence)?.owner, to.clone());
        // The hold that was to be upgraded is gone then, and the new owner no longer waits for this lock.
        let waits_here = |owner: &Owner| self.manager.waiters.waiter_of(self.db, self.key, owner.as_bytes());
        let ended: SmallVec<[WaiterId; 2]> = [&owner, to].into_iter().filter_map(waits_here).collect();
        // No search is free of cost, so that there is no time for more of them.
        let waits = self.manager.waiters.waits_of(self.db, to.as_bytes()).take(SEARCH_COST_MAX);
        let waits: Vec<WaiterId> = waits.collect();
        let at_hand = &[(self.key, &*self.lock)];
        let mut near = LocalFirst { now: self.clock.now, at_hand, others, spent: 0 };
        let mut cycle = None;
        for id in waits {
            if cycle.is_some() || !near.has_time() {
                break;
            }
            let Some(entry) = self.manager.waiters.get(id) else { continue };
            if entry.keys.iter().any(|key| **key == *self.key) {
                // This wait ends with the transfer.
                continue;
            }
            let (keys, permits, place) = (entry.keys.clone(), entry.waiter.request.permits, entry.place);
            let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
            let want = WaitRequest {
                db: self.db,
                owner: to.as_bytes(),
                keys: &keys,
                permits,
                place,
                without: &ended,
            };
            cycle = find_cycle(self.manager, &want, &mut near);
        }
        self.lock.hold_with_mut(fence)?.owner = owner;
        cycle
    }
}
