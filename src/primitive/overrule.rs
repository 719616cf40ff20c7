//! What goes against leases and the order of the queue: holds that are broken, stolen, handed over or asked for.

use super::bounds::Bounds;
use super::deadlock::{find_cycle, Holds, Link, Near, Want};
use super::entries::Entries;
use super::hold::Extra;
use super::turn::{Effect, Left, To};
use super::waiter::Ask;
use super::{End, Fence, Hold, Lease, Owner, Turn, WaiterId};
use crate::limits::SEARCH_COST_MAX;

impl Turn<'_> {
    /// Ends all holds and makes one for somebody else, before all who wait.
    pub fn steal(&mut self, ask: Ask, may_have: &mut dyn FnMut(WaiterId) -> bool) -> Fence {
        self.end_all(|_| true, End::Stolen);
        self.end_cooling(|_| true);
        self.grant_out_of_turn(ask, may_have)
    }

    /// Ends all holds that are chosen, and what cooled of such before, and serves the queue after the last; how many.
    pub fn break_holds(&mut self, mut chosen: impl FnMut(&Hold) -> bool) -> usize {
        let cooled = self.end_cooling(&mut chosen);
        let count = cooled + self.end_all(chosen, End::Broken);
        self.serve();
        count
    }

    fn end_all(&mut self, chosen: impl FnMut(&Hold) -> bool, how: End) -> usize {
        let holds = self.lock.end_each(chosen);
        let count = holds.len();
        holds.into_iter().for_each(|hold| self.note_end(hold, how));
        count
    }

    /// Asks all holders to give the lock up; how many there are. It is on them to do it.
    pub fn revoke(&mut self) -> usize {
        let holds = self.lock.holds_mut();
        holds.iter_mut().for_each(Hold::ask_for);
        let count = holds.len();
        if count > 0 {
            self.effects.push(Effect::Wanted);
        }
        count
    }

    /// Gives the hold to another owner; the new fence.
    pub fn transfer(
        &mut self,
        fence: Fence,
        to: Owner,
        lease: Lease,
        may_have: &mut dyn FnMut(WaiterId) -> bool,
    ) -> Option<Fence> {
        let old = self.lock.end(fence)?;
        // What bounds the hold stays with it, but for the tie: that was the old owner's.
        let bounds = old.bounds().and_then(|bounds| Bounds { tie: None, ..*bounds }.boxed());
        let extra = Extra { note: old.note().into(), bounds, ..Extra::default() }.boxed();
        let ask = Ask { owner: to, claim: old.claim, lease, extra, span: None };
        self.note_end(old, End::Transferred);
        Some(self.grant_out_of_turn(ask, may_have))
    }

    /// A grant before all who wait. If the owner waits for just this, its wait ends with it, and the hold is entered
    /// under the id that it asked with, and bounded as it asked, too. If it waits for something else, as for several locks
    /// or in another mode, its client must not take this for what it asked for: that wait ends with nothing. So does that of
    /// a client that may not have it.
    /// What is given on purpose need not be claimed, unless a client is told that may not hear it: a ticket ends with it.
    fn grant_out_of_turn(&mut self, mut ask: Ask, may_have: &mut dyn FnMut(WaiterId) -> bool) -> Fence {
        let waiters = &self.memory.waiters;
        let waiting = waiters.waiter_of(self.db, self.key, ask.owner.as_bytes());
        let is_for_this = |id: &WaiterId| {
            waiters.get(*id).is_some_and(|entry| {
                let waiter = &entry.waiter;
                entry.keys.len() == 1 && waiter.upgrades.is_none() && waiter.ask.claim == ask.claim
            })
        };
        let mut may_be_told = |id: &WaiterId| waiters.client_of(*id).is_none_or(&mut *may_have);
        let told = waiting.filter(is_for_this).filter(&mut may_be_told);
        let mut to = To::Caller;
        if let Some((id, entry)) = told.and_then(|id| Some((id, self.memory.waiters.remove(id)?))) {
            match To::waiter(id, &entry.waiter) {
                To::Ticket(None) => self.memory.stats.handed_off += 1,
                waiter => to = waiter,
            }
            let asked = entry.waiter.ask;
            let mut extra = ask.extra.take().map_or_else(Extra::default, |extra| *extra);
            extra.entries = asked.extra.map_or_else(Entries::default, |asked| asked.entries);
            ask.extra = extra.boxed();
            ask.span = match (ask.span, asked.span) {
                (Some(span), Some(asked)) => Some(Box::new(span.and(*asked))),
                (span, asked) => asked.or(span),
            };
        } else if let Some(id) = waiting {
            self.leave(id, Left::Superseded);
        }
        let fence = self.grant(ask, to);
        self.serve();
        fence
    }

    /// The cycle that there would be if this owner had the hold: what it waits for might wait for it. All of its waits
    /// together have the time of one search; what is not found in it is let pass, and leases end it.
    pub fn find_cycle_after_transfer(
        &mut self,
        fence: Fence,
        to: &Owner,
        others: &mut dyn Holds,
    ) -> Option<Vec<Link>> {
        let owner = std::mem::replace(&mut self.lock.hold_with_mut(fence)?.owner, to.clone());
        // The hold that was to be upgraded is gone then.
        let upgrade = self.memory.waiters.waiter_of(self.db, self.key, owner.as_bytes());
        // No search is free of cost, so that there is no time for more of them.
        let waits = self.memory.waiters.waits_of(self.db, to.as_bytes()).take(SEARCH_COST_MAX);
        let waits: Vec<WaiterId> = waits.collect();
        let at_hand = &[(self.key, &*self.lock)];
        let mut near = Near { now: self.clock.now, at_hand, others, spent: 0 };
        let mut cycle = None;
        for id in waits {
            if cycle.is_some() || !near.has_time() {
                break;
            }
            let Some(entry) = self.memory.waiters.get(id) else { continue };
            if entry.keys.iter().any(|key| **key == *self.key) {
                // This wait ends with the transfer.
                continue;
            }
            let (keys, claim, place) = (entry.keys.clone(), entry.waiter.ask.claim, entry.place);
            let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
            let want =
                Want { db: self.db, owner: to.as_bytes(), keys: &keys, claim, place, without: upgrade };
            cycle = find_cycle(self.memory, &want, &mut near);
        }
        self.lock.hold_with_mut(fence)?.owner = owner;
        cycle
    }
}
