//! One step on several locks at once.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use smallvec::SmallVec;

use super::locks::{AtHand, Locks};
use super::{Next, Step};
use crate::limits::HOLDS_MAX;
use crate::primitive::broken::broken;
use crate::primitive::effect::{Effect, Recipient, WaitEnd};
use crate::primitive::waiter::WaiterId;
use crate::primitive::work_list::Work;
use crate::primitive::{Clock, Lock, LockManager};

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

impl<'k> Locks<'k> for GroupStep<'k> {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn db(&self) -> i32 {
        self.db
    }

    fn keys(&self) -> SmallVec<[&'k [u8]; 1]> {
        self.parts.iter().map(|part| part.key).collect()
    }

    fn manager(&mut self) -> &mut LockManager {
        self.manager
    }

    fn split(&mut self) -> (&mut LockManager, AtHand<'k, '_>) {
        (self.manager, self.parts.iter().map(|part| (part.key, &*part.lock)).collect())
    }

    fn find<R>(&self, mut look: impl FnMut(&Lock) -> Option<R>) -> Option<R> {
        self.parts.iter().find_map(|part| look(part.lock))
    }

    fn each_with<T: Clone>(&mut self, value: T, mut work: impl FnMut(&mut Step, T)) {
        let Self { clock, db, parts, manager } = self;
        for Part { key, lock, effects } in parts {
            work(&mut Step { clock: *clock, db: *db, key, lock, manager, effects }, value.clone());
        }
    }

    fn tell(&mut self, effect: Effect) {
        self.parts.first_mut().into_iter().zip([effect]).for_each(|(part, effect)| part.effects.push(effect));
    }

    /// Of locks that together have more holds which are over than one lock can have, some are left to other steps.
    fn begin(&mut self) -> bool {
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

    /// It has its turn if it comes first everywhere and all locks admit it. Holds and cooldowns that are over are ended
    /// first.
    fn grant_waiter(&mut self, id: WaiterId) {
        let is_settled = self.begin();
        self.manager.allowance.spend(self.parts.len());
        // That has called it up once more, and this is the answer.
        self.manager.work_list.cancel(&Work::Group(id));
        // Locks at which something is left over are looked at again, and call it up.
        let mut is_ready = is_settled;
        self.each(|step| is_ready = is_ready && step.next_in_line() == Some((id, Next::Group)));
        let keys = self.keys();
        let Some(entry) = self.manager.waiters.get(id).filter(|_| is_ready) else { return };
        if !self.manager.may_have(&entry.waiter, &keys) {
            self.end_wait(id, WaitEnd::Barred);
            self.begin();
            return;
        }
        let Some(entry) = self.manager.waiters.remove(id) else {
            return broken("a waiter whose turn has come is unknown");
        };
        self.manager.history.waits.record(self.clock.now.us_after(entry.waiter.since));
        let to = Recipient::waiter(id, &entry.waiter);
        let fence = self.grant(entry.waiter.request, to);
        if let Some(channel) = entry.waiter.told.and_then(|told| told.channel) {
            self.tell(Effect::Announced { fence, channel });
        }
        self.each(|step| step.grant_waiters());
    }
}
