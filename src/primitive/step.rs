//! One step on one lock: everything that one request, or one wake-up, may read and change, and the moves that all of
//! them are made of. A step that ends a hold also grants to the queue, so that no lock is ever free while somebody who
//! could have it waits.

mod cooldowns;
pub(crate) mod group;
pub(crate) mod locks;
mod orphans;
mod preempt;
mod reinstate;
pub(crate) mod replica;

use smallvec::SmallVec;

use self::locks::{AtHand, Locks};
use super::broken::broken;
use super::effect::{Effect, Recipient, WaitEnd};
use super::hold::Mark;
use super::ledger::{Ended, HoldEnd, Named};
use super::manager::Rollback;
use super::reentry::Exit;
use super::wait_queue::{Caps, Changed, Full, QueueNode};
use super::waiter::{AcquireRequest, Told, WaiterId, WaiterKind};
use super::work_list::Work;
use super::{Clock, Fence, Hold, Lease, Lock, LockManager, Moment, Permits};

/// The next thing to happen to the first in line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Granted,
    Leaves(WaitEnd),
    /// It is called up, to be given all of its locks or none.
    Group,
}

/// One lock at one moment.
pub(crate) struct Step<'a> {
    pub clock: Clock,
    pub db: i32,
    pub key: &'a [u8],
    pub lock: &'a mut Lock,
    pub manager: &'a mut LockManager,
    pub effects: &'a mut Vec<Effect>,
}

impl<'k> Locks<'k> for Step<'k> {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn db(&self) -> i32 {
        self.db
    }

    fn keys(&self) -> SmallVec<[&'k [u8]; 1]> {
        SmallVec::from_buf([self.key])
    }

    fn manager(&mut self) -> &mut LockManager {
        self.manager
    }

    fn split(&mut self) -> (&mut LockManager, AtHand<'k, '_>) {
        (self.manager, SmallVec::from_buf([(self.key, &*self.lock)]))
    }

    #[inline]
    fn find<R>(&self, mut look: impl FnMut(&Lock) -> Option<R>) -> Option<R> {
        look(self.lock)
    }

    #[inline]
    fn each_with<T: Clone>(&mut self, value: T, mut work: impl FnMut(&mut Step, T)) {
        work(self, value);
    }

    fn tell(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn begin(&mut self) -> bool {
        self.expire_and_grant();
        true
    }

    fn grant_waiter(&mut self, _id: WaiterId) {
        self.grant_waiters();
    }
}

impl<'a> Step<'a> {
    /// This owner on this lock, for the ledger.
    pub(crate) fn named<'n>(&self, owner: &'n [u8]) -> Named<'n>
    where
        'a: 'n,
    {
        Named { db: self.db, key: self.key, owner }
    }

    /// Panics unless lock and index agree, which they do at the end of each step.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        self.lock.check();
        let cooldowns = self.lock.cooldowns().iter().map(|cooldown| &cooldown.hold);
        for hold in self.lock.holds().iter().chain(cooldowns) {
            assert!(self.manager.leases.has(self.db, hold), "I7: the index knows the hold");
        }
    }

    /// Ends the holds that are over, grants what can be granted, and sees that the lease index knows what is
    /// left. Every step begins with it.
    pub(crate) fn expire_and_grant(&mut self) {
        let now = self.clock.now;
        let is_live = self.lock.holds().iter().all(|hold| hold.is_live(now))
            && self.lock.cooldowns().iter().all(|cooldown| cooldown.hold.is_live(now));
        self.manager.free_since = if is_live { None } else { Some(self.expire()) };
        self.manager.allowance.spend_on_look(self.lock.holds().len());
        self.grant_waiters();
        self.manager.free_since = None;
        let (db, key, manager) = (self.db, self.key, &mut *self.manager);
        self.lock.each_mut(|hold| manager.keep_indexed(db, key, hold));
    }

    /// Ends the holds and cooldowns that are over; since when what they took is free.
    #[inline(never)]
    fn expire(&mut self) -> Moment {
        let now = self.clock.now;
        let may_end = !self.manager.recovery.is_open();
        let over = self.lock.end_each(|hold| may_end && !hold.is_live(now));
        self.manager.allowance.spend(over.len());
        let mut free_since = now;
        for hold in over {
            free_since = free_since.min(hold.deadline);
            let how = hold.end_reason();
            self.record_end(hold, how);
        }
        self.end_cooldowns(|hold| {
            let is_over = !hold.is_live(now);
            if is_over {
                free_since = free_since.min(hold.deadline);
            }
            is_over
        });
        free_since
    }

    /// Grants to waiters in their order, up to the first that does not fit. A wait is over at its deadline,
    /// whether the timer has come round or not.
    #[inline]
    pub(crate) fn grant_waiters(&mut self) {
        if self.manager.waiters.may_want(self.key) {
            self.grant_from_the_front();
        }
    }

    #[inline(never)]
    fn grant_from_the_front(&mut self) {
        if self.manager.waiters.has_new_limits() {
            self.change_some_limits();
        }
        while let Some((id, next)) = self.next_in_line() {
            if next == Next::Group {
                return self.manager.work_list.push(Work::Group(id));
            }
            if self.manager.allowance.is_spent() {
                // They are in line, so nobody passes them meanwhile.
                return self.postpone();
            }
            self.manager.allowance.spend(1);
            self.manager.allowance.spend_on_look(self.lock.holds().len());
            if let Next::Leaves(why) = next {
                self.end_wait(id, why);
            } else if let Some(QueueNode { waiter, .. }) = self.manager.waiters.remove(id) {
                let to = Recipient::waiter(id, &waiter);
                self.record_wait_over(waiter.since);
                let Some(old) = waiter.upgrades else {
                    let fence = self.grant(waiter.request, to);
                    self.announce(fence, waiter.told);
                    continue;
                };
                if let Some(new) = self.upgrade(old, to) {
                    // Whether it was named by its fence is not known any more.
                    self.remember_upgrade(waiter.request.owner.as_bytes(), old, new);
                    self.announce(new, waiter.told);
                } else {
                    broken("the hold to be upgraded is gone");
                    let client = to.client();
                    let ended = client.map(|client| Effect::WaitEnded { client, why: WaitEnd::HoldEnded });
                    self.effects.extend(ended);
                }
            } else {
                return broken("the first in line is unknown");
            }
        }
    }

    /// Somebody who waited since then has the lock now.
    fn record_wait_over(&mut self, since: Moment) {
        let now = self.clock.now;
        let free_since = self.manager.free_since.unwrap_or(now);
        self.manager.history.waits.record(now.us_after(since));
        self.manager.history.delays.record(now.us_after(free_since));
    }

    /// The first in line, and what is next for it; `None` while it has to wait.
    pub(super) fn next_in_line(&self) -> Option<(WaiterId, Next)> {
        let (id, waiter) = self.manager.waiters.front(self.db, self.key)?;
        let may_have = || self.manager.may_have(waiter, &[self.key]);
        let next = if waiter.deadline <= self.clock.now {
            Next::Leaves(WaitEnd::TimedOut)
        } else if self.manager.recovery.is_open() {
            return None;
        } else if let Some(fence) = waiter.upgrades {
            match self.lock.hold_with(fence) {
                None => Next::Leaves(WaitEnd::HoldEnded),
                Some(_) if !self.lock.is_alone(fence) => return None,
                Some(_) if !may_have() => Next::Leaves(WaitEnd::Barred),
                Some(_) => Next::Granted,
            }
        } else if !self.lock.admits(waiter.request.permits) {
            // The line stops at the first that does not fit, even if others behind it would. A writer behind readers, or one
            // who wants many permits behind those who want few, would otherwise wait for ever while newcomers pass: the
            // lock would never be free enough for it. So whoever is first keeps the others waiting, and what comes free is
            // saved up for it. The price is that permits lie unused meanwhile.
            return None;
        } else if self.lock.hold_of(waiter.request.owner.as_bytes()).is_some() {
            // It came by the lock otherwise, as by RESTORE; nobody holds a lock twice.
            Next::Leaves(WaitEnd::Superseded)
        } else if waiter.request.keys() > 1 {
            Next::Group
        } else if !may_have() {
            Next::Leaves(WaitEnd::Barred)
        } else {
            Next::Granted
        };
        Some((id, next))
    }

    fn announce(&mut self, fence: Fence, told: Option<Box<Told>>) {
        let channel = told.and_then(|told| told.channel);
        self.effects.extend(channel.map(|channel| Effect::Announced { fence, channel }));
    }

    fn change_some_limits(&mut self) {
        let LockManager { waiters, allowance, .. } = &mut *self.manager;
        // The other half is for those whose turn has come.
        let changed = waiters.change_some_limits(self.db, self.key, allowance.left().div_ceil(2));
        let Some(Changed { limit, looked_at, misfits, is_unfinished }) = changed else { return };
        allowance.spend(looked_at);
        misfits.into_iter().for_each(|id| self.end_wait(id, WaitEnd::OverLimit(limit)));
        if is_unfinished {
            self.postpone();
        }
    }

    /// Leaves the rest of what is to be done at this lock to another step.
    pub(super) fn postpone(&mut self) {
        self.manager.recheck(self.db, self.key);
    }

    /// Whether somebody else comes before this owner.
    pub(crate) fn is_behind(&self, owner: &[u8]) -> bool {
        let front = self.manager.waiters.front(self.db, self.key);
        front.is_some_and(|(_, first)| first.request.owner.as_bytes() != owner)
    }

    /// Makes a hold that the lock admits, for a newcomer or for one who waited, under a fence that was made for it.
    #[inline]
    pub(super) fn grant_as(&mut self, fence: Fence, request: AcquireRequest, to: Recipient) {
        // A hold that is handed over keeps its permits, also where the limit was lowered below what is held.
        let is_handed_over =
            |effect: &Effect| matches!(effect, Effect::Ended { how: HoldEnd::Transferred, .. });
        debug_assert!(
            self.lock.admits(request.permits) || self.effects.iter().any(is_handed_over),
            "{:?} in {:?}",
            request.permits,
            self.lock
        );
        debug_assert!(self.lock.hold_of(request.owner.as_bytes()).is_none(), "nobody holds a lock twice");
        let mut hold = Hold {
            owner: request.owner,
            fence,
            lease: request.lease,
            deadline: request.lease.deadline(self.clock.now),
            extra: request.extra,
            permits: request.permits,
            mark: if matches!(to, Recipient::Client(_)) { Mark::UNHEARD } else { Mark::NONE },
        };
        if hold.bounds().is_some() || request.span.is_some() {
            let asked = request.span.map(|span| span.from(self.clock.now)).unwrap_or_default();
            hold.set_bounds(hold.bounds().copied().unwrap_or_default().and(asked));
        }
        if matches!(to, Recipient::Ticket(_)) {
            hold.await_claim(Lease::ms(self.manager.claim_ms), self.clock.now);
        }
        self.manager.index(self.db, self.key, &mut hold);
        self.lock.grant(hold);
        debug_assert!(self.lock.hold_with(fence).is_some_and(|hold| self.manager.leases.has(self.db, hold)));
        self.manager.stats.granted.up();
        self.effects.push(Effect::Granted { fence, to: to.client() });
    }

    /// The owner of this hold has been heard of, and knows of it. If it was given to a ticket it is claimed by this, and
    /// lasts from now for as long as the ticket asked.
    pub(crate) fn confirm(&mut self, fence: Fence) {
        self.manager.confirm(fence);
        let Some(hold) = self.lock.hold_with_mut(fence) else {
            return broken("the hold of this step is gone");
        };
        hold.touch();
        self.effects.push(Effect::Kept);
        if let Some(lease) = hold.claim() {
            let owner = hold.owner.clone();
            self.renew(owner.as_bytes(), lease);
        }
    }

    /// Makes the only hold of a lock exclusive; its new fence.
    pub(crate) fn upgrade(&mut self, old: Fence, to: Recipient) -> Option<Fence> {
        let fence = self.manager.fences.next(self.clock.unix_us);
        self.convert(old, fence, Permits::EXCLUSIVE)?;
        self.manager.confirm(old);
        if to != Recipient::Caller {
            self.record_hand_off(fence, to, Rollback::Downgrade(old));
        }
        self.manager.stats.granted.up();
        self.effects.push(Effect::Granted { fence, to: to.client() });
        Some(fence)
    }

    /// Lets others share what this hold had alone, and grants to the queue. The fence may be an earlier one of the
    /// same owner, when an upgrade is taken back.
    pub(crate) fn downgrade(&mut self, from: Fence, fence: Fence) {
        if self.convert(from, fence, Permits::SHARED).is_some() {
            self.effects.push(Effect::Downgraded { fence });
            self.grant_waiters();
        }
    }

    fn convert(&mut self, from: Fence, fence: Fence, permits: Permits) -> Option<()> {
        let hold = self.lock.hold_with_mut(from)?;
        self.manager.unindex(self.db, self.key, hold);
        (hold.fence, hold.permits) = (fence, permits);
        self.manager.index(self.db, self.key, hold);
        Some(())
    }

    /// Gives a held semaphore another limit, and all who wait for it with it, but for those who want more than that.
    /// Holders keep their permits. A waiter for several locks with one limit cannot have them any more.
    pub(crate) fn set_limit(&mut self, limit: u32) {
        let old = self.lock.limit();
        self.lock.set_limit(limit);
        self.effects.push(Effect::Limited { limit });
        self.manager.waiters.change_limits(self.db, self.key, old, limit);
        self.grant_waiters();
    }

    /// Whether there is room in the queue for this owner. An owner that waits there already as the same kind takes no
    /// more of it.
    pub(super) fn room_in_line(&self, owner: &[u8], kind: WaiterKind, caps: Caps) -> Result<(), Full> {
        let waiters = &self.manager.waiters;
        let takes_over = waiters.waiter_of(self.db, self.key, owner).is_some_and(|id| match kind {
            WaiterKind::Client => waiters.client_of(id).is_some(),
            WaiterKind::Ticket => waiters.get(id).is_some_and(|earlier| earlier.waiter.kind == kind),
        });
        if takes_over {
            return Ok(());
        }
        self.manager.room(self.db, self.key, kind, caps)
    }

    /// Ends the hold that this fence names, and grants to the queue.
    pub(crate) fn end(&mut self, fence: Fence, how: HoldEnd) -> bool {
        let Some(hold) = self.lock.end(fence) else { return false };
        self.record_end(hold, how);
        self.grant_waiters();
        true
    }

    /// Takes back a grant whose waiter was gone before it could know.
    pub(crate) fn roll_back(&mut self, fence: Fence, how: Rollback) {
        match how {
            Rollback::EndHold { .. } => {
                self.end(fence, HoldEnd::Undone);
            }
            Rollback::Downgrade(old) => {
                self.manager.stats.undone.up();
                self.downgrade(fence, old);
            }
        }
    }

    /// Gives the owner's hold another note; a renewal tells of it.
    pub(crate) fn set_note(&mut self, owner: &[u8], note: &[u8]) {
        if let Some(hold) = self.lock.hold_of_mut(owner) {
            hold.set_note(note);
        }
    }

    /// Gives the lock a cooldown of so long from now, if the owner's hold ends when it leaves under this id, or under all.
    pub(crate) fn cool_down(&mut self, fence: Fence, id: Option<&[u8]>, cooldown: Lease) {
        let until = cooldown.deadline(self.clock.now);
        let Some(hold) = self.lock.hold_with_mut(fence) else {
            return broken("the hold of this step is gone");
        };
        if id.is_none_or(|id| hold.entries().count() == 1 && hold.entries().has(id)) {
            hold.set_min_end(until);
        }
    }

    /// Takes so many permits from a hold, which has more than that, and grants to the queue.
    pub(crate) fn give_back(&mut self, fence: Fence, permits: u32) {
        let Some(hold) = self.lock.hold_with_mut(fence) else {
            return broken("the hold of this step is gone");
        };
        hold.permits.count = hold.permits.count.saturating_sub(permits).max(1);
        self.push_renewed(fence);
        self.grant_waiters();
    }

    /// Gives the owner's hold a new lease, counted from now; what is left of it on the wire.
    pub(crate) fn renew(&mut self, owner: &[u8], lease: Lease) -> i64 {
        self.set_end(owner, lease, lease)
    }

    /// Lets the owner in under this id too, if it is not in already.
    pub(crate) fn enter(&mut self, owner: &[u8], id: &[u8]) {
        let Some(hold) = self.lock.hold_of_mut(owner).filter(|hold| !hold.entries().has(id)) else { return };
        hold.enter(id);
        self.effects.push(Effect::Entered { fence: hold.fence, id: id.into() });
    }

    /// Lets the owner out of this hold under this id; the hold ends with the last one.
    pub(crate) fn exit(&mut self, fence: Fence, id: &[u8]) -> Exit {
        let Some(hold) = self.lock.hold_with_mut(fence) else { return Exit::Unknown };
        let exit = hold.exit(id);
        match exit {
            Exit::Unknown => {}
            Exit::StillHeld => {
                self.effects.extend([Effect::Kept, Effect::Exited { fence, id: id.into() }]);
            }
            Exit::Last => {
                self.end(fence, HoldEnd::Released);
            }
        }
        exit
    }

    /// Lets the owner's hold last for `lease` from now, if that is longer than it would. Later renewals go by the
    /// longest lease it has had.
    pub(crate) fn raise(&mut self, owner: &[u8], lease: Lease) {
        let Some(hold) = self.lock.hold_of(owner) else { return };
        if lease.deadline(self.clock.now).min(hold.end_max()) > hold.deadline {
            let longest = hold.lease.max(lease);
            self.set_end(owner, longest, lease);
        }
    }

    /// Gives a hold another lease and another end; what is left of it on the wire.
    fn set_end(&mut self, owner: &[u8], lease: Lease, from_now: Lease) -> i64 {
        let Some(hold) = self.lock.hold_of_mut(owner) else { return 0 };
        hold.lease = lease;
        self.manager.recovery.leases.note(lease);
        hold.set_deadline(from_now, self.clock.now);
        self.manager.keep_indexed(self.db, self.key, hold);
        let (fence, left) = (hold.fence, hold.remaining_ms(self.clock.now));
        self.push_renewed(fence);
        left
    }

    /// A hold is told of as it stands when the step is over, so once is enough.
    pub(super) fn push_renewed(&mut self, fence: Fence) {
        if !matches!(self.effects.last(), Some(Effect::Renewed { fence: told }) if *told == fence) {
            self.effects.push(Effect::Renewed { fence });
        }
    }

    /// Does all that follows from the end of a hold, which the lock does not have any more.
    pub(super) fn record_end(&mut self, hold: Hold, how: HoldEnd) {
        debug_assert!(self.lock.hold_with(hold.fence).is_none(), "a hold that has ended stands");
        self.manager.unindex(self.db, self.key, &hold);
        self.manager.forget(hold.fence);
        self.manager.recovery.record_end(self.db, self.key, hold.fence, Some(hold.permits));
        if how != HoldEnd::Undone {
            self.manager.history.record_hold(hold.fence, self.clock);
        }
        let stats = &mut self.manager.stats;
        match how {
            HoldEnd::Released => stats.released.up(),
            HoldEnd::Expired | HoldEnd::Capped => {
                stats.expired.up();
                stats.untouched.add(usize::from(hold.is_untouched()));
            }
            HoldEnd::Unclaimed => stats.unclaimed.up(),
            HoldEnd::Closed => stats.closed.up(),
            HoldEnd::Undone => stats.undone.up(),
            HoldEnd::Vanished => stats.vanished.up(),
            HoldEnd::Broken | HoldEnd::Stolen => stats.broken.up(),
            HoldEnd::Transferred => stats.transferred.up(),
            HoldEnd::Displaced => stats.displaced.up(),
            HoldEnd::Cooled => {}
        }
        let (of, fence, at) = (self.named(hold.owner.as_bytes()), hold.fence, self.clock.now);
        match how {
            HoldEnd::Released => self.manager.ledger.supersede(of, fence, at),
            // Nobody knew of it.
            HoldEnd::Undone => {}
            _ => self.manager.record_loss(of, Ended { fence, how, at }),
        }
        self.effects.push(Effect::Ended { fence: hold.fence, how });
        self.start_cooldown(hold, how);
    }
}
