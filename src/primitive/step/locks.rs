//! The locks of one request: one ([`Step`]), or several together ([`GroupStep`](super::group::GroupStep)). All requests
//! for them stand here once, for any number of locks: a request takes all or none, all holds of one grant have one
//! fence, and a waiter holds nothing meanwhile.

use std::rc::Rc;

use smallvec::SmallVec;

use super::Step;
use crate::primitive::deadlock::{find_cycle, HoldSource, LocalFirst, WaitRequest};
use crate::primitive::effect::{Effect, Recipient, WaitEnd};
use crate::primitive::manager::{Provisional, Rollback};
use crate::primitive::wait_queue::{Caps, Full, Position};
use crate::primitive::waiter::{AcquireRequest, WaitEdge, Waiter, WaiterId, WaiterKind};
use crate::primitive::{Clock, Fence, Lock, LockManager, Moment, Permits};

/// Locks with their keys.
pub(crate) type AtHand<'k, 'l> = SmallVec<[(&'k [u8], &'l Lock); 1]>;

/// At least one lock of one database, each there once, at one moment.
pub(crate) trait Locks<'k> {
    fn clock(&self) -> Clock;

    fn db(&self) -> i32;

    fn keys(&self) -> SmallVec<[&'k [u8]; 1]>;

    /// The state outside the keyspace.
    fn manager(&mut self) -> &mut LockManager;

    /// The same, and the locks.
    fn split(&mut self) -> (&mut LockManager, AtHand<'k, '_>);

    /// The first thing that `look` finds at one of the locks.
    fn find<R>(&self, look: impl FnMut(&Lock) -> Option<R>) -> Option<R>;

    /// Does `work` on each of the locks, with a copy of `value`.
    fn each_with<T: Clone>(&mut self, value: T, work: impl FnMut(&mut Step, T));

    /// Does `work` on each of the locks.
    fn each(&mut self, mut work: impl FnMut(&mut Step)) {
        self.each_with((), |step, ()| work(step));
    }

    /// Tells of something that concerns all of the locks together; once, with the first.
    fn tell(&mut self, effect: Effect);

    /// Begins every request: ends what is over, and grants what is free. Returns whether all of that is done.
    fn begin(&mut self) -> bool;

    /// Gives a waiter for these locks what it waits for, if it is its turn. Of one lock, all whose turn has come are granted.
    fn grant_waiter(&mut self, id: WaiterId);

    /// Whether one who comes now is granted these permits at once: nobody waits, and they fit.
    fn admits_newcomer(&mut self, permits: Permits) -> bool {
        let mut admits = true;
        self.each(|step| {
            admits = admits && step.manager.admits_newcomer(step.db, step.key, step.lock, permits);
        });
        admits
    }

    /// Makes a hold on each of the locks, which must all admit it; the fence that they share.
    #[inline]
    fn grant(&mut self, request: AcquireRequest, mut to: Recipient) -> Fence {
        let (clock, left) = (self.clock(), request.keys());
        let fence = self.manager().fences.next(clock.unix_us);
        if to != Recipient::Caller {
            self.record_hand_off(fence, to, Rollback::EndHold { left });
        }
        self.each_with(request, |step, request| {
            step.grant_as(fence, request, to);
            to = to.of_the_rest();
        });
        fence
    }

    /// Notes a grant to one who waited. A client may not hear of it, and then it is taken back; a ticket has its time
    /// to claim it.
    fn record_hand_off(&mut self, fence: Fence, to: Recipient, rollback: Rollback) {
        let (db, keys) = (self.db(), self.keys());
        let manager = self.manager();
        manager.stats.handed_off.up();
        if matches!(to, Recipient::Client(_)) {
            let keys = keys.iter().map(|key| Rc::from(*key)).collect();
            manager.provisional.insert(fence, Provisional { db, keys, rollback });
        }
    }

    /// Brings back the holds that their owner says it has under this fence, where they may have been lost: all of those that
    /// are not known, or none.
    fn reinstate_all(&mut self, request: &AcquireRequest, fence: Fence) {
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
            self.manager().count_refused_claim(fence);
        }
    }

    /// Whether there is room in all queues for this owner. An owner that waits there already as the same kind takes no
    /// more of it.
    fn check_room(&mut self, owner: &[u8], kind: WaiterKind, caps: Caps) -> Result<(), Full> {
        let mut room = Ok(());
        self.each(|step| room = room.and_then(|()| step.room_in_line(owner, kind, caps)));
        room
    }

    /// Where a wait of this owner for all of the locks would stand.
    fn place_for(&mut self, owner: &[u8]) -> Position {
        let (db, keys) = (self.db(), self.keys());
        self.manager().waiters.place_for(db, &keys, owner)
    }

    /// The cycle that a wait at this place for all of the locks would close.
    fn find_cycle(
        &mut self,
        owner: &[u8],
        permits: Permits,
        place: Position,
        others: &mut dyn HoldSource,
    ) -> Option<Vec<WaitEdge>> {
        let (db, now, keys) = (self.db(), self.clock().now, self.keys());
        let (manager, at_hand) = self.split();
        let want = WaitRequest { db, owner, keys: &keys, permits, place, without: &[] };
        find_cycle(manager, &want, &mut LocalFirst { now, at_hand: &at_hand, others, spent: 0 })
    }

    /// Keeps the place of the owner's ticket for these locks, which is asked for again, until `deadline`; one to upgrade this
    /// hold, if there is any to upgrade. Returns `None` if there is no such ticket.
    fn keep_ticket(
        &mut self,
        request: &AcquireRequest,
        upgrades: Option<Fence>,
        deadline: Moment,
    ) -> Option<WaiterId> {
        let (db, keys) = (self.db(), self.keys());
        let (id, earlier) = self.manager().keep_ticket(db, &keys, request, upgrades, deadline)?;
        if let Some(client) = earlier {
            self.tell(Effect::WaitEnded { client, why: WaitEnd::Superseded });
        }
        Some(id)
    }

    /// Puts a waiter into all of the queues at once, in place of its owner's earlier waits for any of the locks; one that
    /// upgrades a hold comes before all others, who have to wait for that hold in any case. It gets the number that
    /// [`Waiters::next_id`](crate::primitive::wait_queue::Waiters::next_id) told.
    fn enqueue(
        &mut self,
        request: AcquireRequest,
        upgrades: Option<Fence>,
        kind: WaiterKind,
        deadline: Moment,
    ) -> WaiterId {
        let (db, since, keys) = (self.db(), self.clock().now, self.keys());
        let waiters = &self.manager().waiters;
        let earlier = waiters.earlier_waits(db, &keys, request.owner.as_bytes());
        let place = if upgrades.is_some() { Position::HEAD } else { waiters.place_instead(&earlier, &keys) };
        for id in &earlier {
            self.end_wait(*id, WaitEnd::Superseded);
        }
        let waiter = Waiter { kind, request, since, deadline, told: None, user: None, upgrades };
        let manager = self.manager();
        let id = manager.waiters.insert(db, &keys, place, waiter);
        manager.record_wait(deadline);
        self.each(|step| {
            step.manager.history.contended.record(db, step.key);
            step.effects.push(Effect::Queued);
        });
        if !earlier.is_empty() {
            // The new wait may want less than those whose place it took.
            self.each(|step| step.grant_waiters());
        }
        id
    }

    /// Ends a wait without a grant. The waiters behind it may have their turn now, so grants to waiters have to follow.
    fn end_wait(&mut self, waiter: WaiterId, why: WaitEnd) {
        let manager = self.manager();
        let client = manager.waiters.client_of(waiter);
        if let (true, Some(client)) = (manager.dismiss_in_step(waiter, why), client) {
            self.tell(Effect::WaitEnded { client, why });
        }
    }
}
