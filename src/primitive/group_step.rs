//! One step on several locks at once: what a request for all of them together is made of. It takes all or none, all
//! holds of one grant have one fence, and who waits holds nothing meanwhile.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use super::deadlock::{find_cycle, HoldSource, LocalFirst, WaitRequest};
use super::effect::{Effect, Recipient, WaitEnd};
use super::manager::Rollback;
use super::step::{Next, Step};
use super::wait_queue::{Caps, Full};
use super::waiter::WaitEdge;
use super::waiter::{AcquireRequest, Waiter, WaiterId, WaiterKind};
use super::work_list::Work;
use super::{Clock, Fence, Lock, LockManager, Moment, Permits};
use crate::limits::HOLDS_MAX;

/// One of the locks, and what follows for it.
pub(crate) struct Part<'a> {
    pub key: &'a [u8],
    pub lock: &'a mut Lock,
    pub effects: Vec<Effect>,
}

/// Some locks of one database at one moment, each there once.
pub(crate) struct GroupStep<'a> {
    pub clock: Clock,
    pub db: i32,
    pub parts: Vec<Part<'a>>,
    pub manager: &'a mut LockManager,
}

impl AsMut<LockManager> for GroupStep<'_> {
    fn as_mut(&mut self) -> &mut LockManager {
        self.manager
    }
}

impl GroupStep<'_> {
    /// Does `work` on each of the locks.
    pub(crate) fn each(&mut self, mut work: impl FnMut(&mut Step)) {
        let Self { clock, db, parts, manager } = self;
        for part in parts {
            work(&mut Step {
                clock: *clock,
                db: *db,
                key: part.key,
                lock: part.lock,
                manager,
                effects: &mut part.effects,
            });
        }
    }

    /// What every request begins with, for all of the locks; whether it is done. Of locks that together have more holds
    /// which are over than one lock can have, some are left to other steps.
    pub(crate) fn expire_and_grant(&mut self) -> bool {
        let (now, mut ended, mut is_done) = (self.clock.now, 0, true);
        let may_end = !self.manager.recovery.is_open();
        self.each(|step| {
            let cooldown = step.lock.cooldowns().iter().map(|cooldown| &cooldown.hold);
            let holds = step.lock.holds().iter().filter(|_| may_end);
            let over = holds.chain(cooldown).filter(|hold| !hold.is_live(now)).count();
            if ended > 0 && ended + over > HOLDS_MAX as usize {
                is_done = false;
                return step.postpone();
            }
            ended += over;
            step.expire_and_grant();
        });
        is_done
    }

    /// Gives a waiter for these locks what it waits for, if it comes first everywhere and all admit it. What is over
    /// at them is ended first.
    pub(crate) fn grant_waiter(&mut self, id: WaiterId) {
        let is_settled = self.expire_and_grant();
        self.manager.allowance.spend(self.parts.len());
        // That has called it up once more, and this is the answer.
        self.manager.work_list.cancel(&Work::Group(id));
        // Locks at which something is left over are looked at again, and call it up.
        let mut is_ready = is_settled;
        self.each(|step| is_ready = is_ready && step.next_in_line() == Some((id, Next::Group)));
        let Some(entry) = self.manager.waiters.get(id).filter(|_| is_ready) else { return };
        let keys: Vec<&[u8]> = self.parts.iter().map(|part| part.key).collect();
        if !self.manager.may_have(&entry.waiter, &keys) {
            let client = self.manager.waiters.client_of(id);
            self.manager.dismiss_in_step(id, WaitEnd::Barred);
            if let (Some(client), Some(first)) = (client, self.parts.first_mut()) {
                first.effects.push(Effect::WaitEnded { client, why: WaitEnd::Barred });
            }
            self.expire_and_grant();
            return;
        }
        if let Some(entry) = self.manager.waiters.remove(id) {
            self.manager.history.waits.record(self.clock.now.us_after(entry.waiter.since));
            let fence = self.grant(&entry.waiter.request, Recipient::waiter(id, &entry.waiter));
            let channel = entry.waiter.told.and_then(|told| told.channel);
            let told = channel.map(|channel| Effect::Announced { fence, channel });
            self.parts.first_mut().into_iter().zip(told).for_each(|(part, told)| part.effects.push(told));
            self.each(|step| step.grant_waiters());
        }
    }

    /// Makes a hold on each of the locks, which must all admit it; the fence that they share.
    pub(crate) fn grant(&mut self, request: &AcquireRequest, mut to: Recipient) -> Fence {
        let fence = self.manager.fences.next(self.clock.unix_us);
        self.manager.hand_over(fence, Rollback::EndHold { left: request.keys() }, to);
        self.each(|step| {
            step.grant_as(fence, request.clone(), to);
            // The client is told once, with the first.
            to = match to {
                Recipient::Client(_) | Recipient::Caller => Recipient::Caller,
                Recipient::Ticket(_) => Recipient::Ticket(None),
            };
        });
        fence
    }

    /// Brings back the holds that their owner says it has under this fence, where they may have been lost: all of those that
    /// are not known, or none.
    pub(crate) fn reinstate(&mut self, request: &AcquireRequest, fence: Fence) {
        let (owner, mut all) = (request.owner.as_bytes(), true);
        self.each(|step| {
            let is_known = step.lock.hold_of(owner).is_some_and(|hold| hold.fence == fence);
            all = all && (is_known || step.may_be_lost(owner, fence, request.permits));
        });
        if all {
            self.each(|step| {
                step.reinstate(request.clone(), fence);
            });
        } else {
            self.manager.count_refused_claim(fence);
        }
    }

    /// The owner of the holds under this fence has been heard of.
    pub(crate) fn confirm(&mut self, fence: Fence) {
        self.each(|step| step.confirm(fence));
    }

    /// Whether there is room in all queues for this owner.
    pub(crate) fn check_room(&mut self, owner: &[u8], kind: WaiterKind, caps: Caps) -> Result<(), Full> {
        let mut room = Ok(());
        self.each(|step| room = room.and_then(|()| step.check_room(owner, kind, caps)));
        room
    }

    /// The cycle that a wait for all of the locks would close.
    pub(crate) fn find_cycle(
        &mut self,
        owner: &[u8],
        permits: Permits,
        others: &mut dyn HoldSource,
    ) -> Option<Vec<WaitEdge>> {
        let keys: Vec<&[u8]> = self.parts.iter().map(|part| part.key).collect();
        let at_hand: Vec<(&[u8], &Lock)> = self.parts.iter().map(|part| (part.key, &*part.lock)).collect();
        let place = self.manager.waiters.place_for(self.db, &keys, owner);
        let want = WaitRequest { db: self.db, owner, keys: &keys, permits, place, without: &[] };
        find_cycle(
            self.manager,
            &want,
            &mut LocalFirst { now: self.clock.now, at_hand: &at_hand, others, spent: 0 },
        )
    }

    /// Keeps the place of the owner's ticket for these locks, which is asked for again, until `deadline`. `None` if there is no
    /// such ticket.
    pub(crate) fn keep_ticket(&mut self, request: &AcquireRequest, deadline: Moment) -> Option<WaiterId> {
        let keys: Vec<&[u8]> = self.parts.iter().map(|part| part.key).collect();
        let (id, earlier) = self.manager.keep_ticket(self.db, &keys, request, None, deadline)?;
        self.supersede(earlier);
        Some(id)
    }

    /// Tells clients that their owner waits elsewhere.
    fn supersede(&mut self, clients: impl IntoIterator<Item = WaiterId>) {
        let left = clients.into_iter().map(|client| Effect::WaitEnded { client, why: WaitEnd::Superseded });
        self.parts.first_mut().into_iter().zip([left]).for_each(|(part, left)| part.effects.extend(left));
    }

    /// Puts a waiter into all of the queues at once.
    pub(crate) fn enqueue(
        &mut self,
        request: AcquireRequest,
        kind: WaiterKind,
        deadline: Moment,
    ) -> WaiterId {
        let keys: Vec<&[u8]> = self.parts.iter().map(|part| part.key).collect();
        let owner = request.owner.as_bytes();
        let earlier = self.manager.waiters.earlier_waits(self.db, &keys, owner);
        let place = self.manager.waiters.place_instead(&earlier, &keys);
        let told: Vec<_> = earlier.iter().filter_map(|id| self.manager.waiters.client_of(*id)).collect();
        earlier.iter().for_each(|id| {
            self.manager.dismiss_in_step(*id, WaitEnd::Superseded);
        });
        let waiter =
            Waiter { kind, request, since: self.clock.now, deadline, told: None, user: None, upgrades: None };
        let id = self.manager.waiters.insert(self.db, &keys, place, waiter);
        self.manager.record_wait(deadline);
        keys.iter().for_each(|key| self.manager.history.contended.record(self.db, key));
        self.supersede(told);
        self.parts.iter_mut().for_each(|part| part.effects.push(Effect::Queued));
        if !earlier.is_empty() {
            // The new wait may want less than those whose place it took.
            self.each(|step| step.grant_waiters());
        }
        id
    }
}
