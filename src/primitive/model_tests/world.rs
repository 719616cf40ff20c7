//! The real thing with a keyspace of plain maps, and a replica that hears the effects only. The loop around the steps is
//! the one that servers run.

use std::collections::BTreeMap;

use super::{db_of, CLIENTS, KEYS, KEYS_IN_EACH, OWNERS};
use crate::command::effect::stream::effects_of;
use crate::primitive::allowance::Allowance;
use crate::primitive::bounds::Tie;
use crate::primitive::codec::Source;
use crate::primitive::deadlock::HoldSource;
use crate::primitive::driver::{self, Keyspace, NotALock};
use crate::primitive::plain::{self, Plain};
use crate::primitive::step::group::Part;
use crate::primitive::wait_queue::Keys;
use crate::primitive::{
    Clock, Effect, Fence, GroupStep, Hold, HoldEnd, Lease, Lock, LockManager, Moment, Step, WaitEnd, WaiterId,
};

#[derive(Default)]
pub(super) struct World {
    pub keyspace: BTreeMap<usize, Lock>,
    pub manager: LockManager,
    pub replica: BTreeMap<usize, Lock>,
    pub replica_memory: LockManager,
    pub now_us: u64,
    /// Whether the plain way is gone where it can be, and how often it was.
    pub(crate) goes_plainly: bool,
    pub(crate) went_plainly: usize,
    /// How many connections there were before each of those that are there.
    closed: [u64; CLIENTS],
    /// The lock whose slot is another server's for now.
    away: Option<usize>,
    /// The newest fence of each lock.
    newest: BTreeMap<usize, u64>,
}

/// The locks that a step has not taken out of the keyspace.
pub(super) struct Others<'a> {
    keyspace: &'a BTreeMap<usize, Lock>,
    db: i32,
}

impl HoldSource for Others<'_> {
    fn each(&mut self, key: &[u8], each: &mut dyn FnMut(&Hold)) {
        let lock = self.keyspace.get(&number(self.db, key));
        lock.into_iter().flat_map(|lock| lock.holds()).for_each(each);
    }
}

fn number(db: i32, key: &[u8]) -> usize {
    (0..KEYS.len()).find(|at| db_of(*at) == db && KEYS[*at] == key).unwrap()
}

impl World {
    fn clock(&self) -> Clock {
        // The wall clock runs backwards: nothing but the monotonic clock may count.
        Clock { now: Moment(self.now_us), unix_us: 1_700_000_000_000_000 - self.now_us }
    }

    /// One step on one lock, and what it leaves to be done.
    pub(super) fn step<R>(&mut self, key: usize, work: impl FnOnce(&mut Step, &mut Others) -> R) -> R {
        self.manager.allowance = Allowance::default();
        let result = self.step_alone(key, work);
        self.finish();
        result
    }

    /// One step on several locks, and what it leaves to be done.
    pub(super) fn group<R>(
        &mut self,
        keys: &[usize],
        work: impl FnOnce(&mut GroupStep, &mut Others) -> R,
    ) -> R {
        self.manager.allowance = Allowance::default();
        let result = self.group_alone(keys, work);
        self.finish();
        result
    }

    /// Grants a free lock without a step, if the plain way can be gone.
    pub(crate) fn grant_plainly(&mut self, key: usize, owner: &[u8], lease: Lease) -> Option<Fence> {
        if !self.goes_plainly(key) || self.keyspace.contains_key(&key) {
            return None;
        }
        let (lock, fence) = self.plain(key, owner).grant(&mut self.manager, lease)?;
        self.store(key, lock, &[Effect::Granted { fence, to: None }]);
        self.went_plainly += 1;
        Some(fence)
    }

    /// Ends the hold that the owner means without a step, if the plain way can be gone; its fence.
    pub(crate) fn release_plainly(
        &mut self,
        key: usize,
        owner: &[u8],
        named: Option<Fence>,
    ) -> Option<Fence> {
        let request = self.plain(key, owner);
        let lock = self.keyspace.get(&key).filter(|_| self.goes_plainly(key))?;
        let fence = request.release(&mut self.manager, lock, named)?;
        self.keyspace.remove(&key);
        self.store(key, Lock::free(), &[Effect::Ended { fence, how: HoldEnd::Released }]);
        self.went_plainly += 1;
        Some(fence)
    }

    /// Whether a try would be refused without a step.
    pub(crate) fn is_refused_plainly(&mut self, key: usize, owner: &[u8]) -> bool {
        let request = self.plain(key, owner);
        let lock = self.keyspace.get(&key).filter(|_| self.goes_plainly(key));
        let is_refused = lock.is_some_and(|lock| request.is_refused(lock));
        self.went_plainly += usize::from(is_refused);
        is_refused
    }

    fn goes_plainly(&self, key: usize) -> bool {
        self.goes_plainly && plain::is_open(&self.manager, KEYS[key])
    }

    fn plain<'a>(&self, key: usize, owner: &'a [u8]) -> Plain<'a> {
        Plain { clock: self.clock(), db: db_of(key), key: KEYS[key], owner }
    }

    /// A tie to one of the connections.
    pub(super) fn tie(&self, client: usize, grace: Lease) -> Tie {
        Tie::new(self.manager.node, self.closed[client] * 10 + client as u64, grace)
    }

    /// A connection closes.
    pub(super) fn disconnect(&mut self, client: usize) {
        let gone = self.tie(client, Lease::NONE).client;
        self.closed[client] += 1;
        self.manager.connection_closed(gone);
        self.run_rechecks();
    }

    pub(super) fn expire_and_grant(&mut self, key: usize) {
        self.step(key, |step, _| step.expire_and_grant());
    }

    fn finish(&mut self) {
        driver::finish_step(self);
        self.run_rechecks();
    }

    /// All looks that were asked for, one after the other. No lease is over at this moment.
    pub(super) fn run_rechecks(&mut self) {
        self.look_at_due(Moment::MIN);
    }

    fn look_at_due(&mut self, now: Moment) {
        let closed = self.closed;
        let is_connected = |client: u64| closed[client as usize % 10] == client / 10;
        driver::look_at_due(self, now, || true, is_connected);
    }

    /// All data of all databases go at once.
    pub(super) fn flush(&mut self) {
        for (keyspace, manager) in
            [(&mut self.keyspace, &mut self.manager), (&mut self.replica, &mut self.replica_memory)]
        {
            keyspace.clear();
            manager.flushed(None, Moment(self.now_us));
            while manager.dropped.give_back_some() {}
        }
        self.run_rechecks();
    }

    /// Time passes while the slot of a lock is another server's, and after it has come back. Nobody asks for the lock.
    pub(super) fn pass_away(&mut self, key: usize, us: u64) {
        for away in [Some(key), None] {
            self.away = away;
            self.now_us += us;
            self.run_due();
        }
    }

    /// The server has loaded what was there before.
    pub(super) fn load(&mut self) {
        self.manager.loaded();
        self.run_rechecks();
    }

    /// The slot of a lock is another server's for as long as it takes to look at it.
    pub(super) fn move_away(&mut self, key: usize) {
        self.away = Some(key);
        self.manager.recheck(db_of(key), KEYS[key]);
        self.run_rechecks();
        self.away = None;
    }

    /// The two databases change places.
    pub(super) fn swap_databases(&mut self) {
        for (keyspace, manager) in
            [(&mut self.keyspace, &mut self.manager), (&mut self.replica, &mut self.replica_memory)]
        {
            let locks = std::mem::take(keyspace).into_iter();
            keyspace.extend(locks.map(|(key, lock)| ((key + KEYS_IN_EACH) % KEYS.len(), lock)));
            manager.swapped(0, 1, Moment(self.now_us));
        }
        self.run_rechecks();
    }

    /// The server becomes a replica, and a primary again.
    pub(super) fn change_roles(&mut self) {
        self.manager.demoted();
        self.manager.stepped_down();
        while self.manager.dropped.give_back_some() {}
        self.manager.promoted();
        self.run_rechecks();
    }

    fn step_alone<R>(&mut self, key: usize, work: impl FnOnce(&mut Step, &mut Others) -> R) -> R {
        let clock = self.clock();
        let mut lock = self.keyspace.remove(&key).unwrap_or_else(Lock::free);
        let mut effects = Vec::new();
        let Self { manager, keyspace, .. } = self;
        let db = db_of(key);
        let mut step = Step { clock, db, key: KEYS[key], lock: &mut lock, manager, effects: &mut effects };
        let result = work(&mut step, &mut Others { keyspace, db });
        self.store(key, lock, &effects);
        result
    }

    fn group_alone<R>(&mut self, keys: &[usize], work: impl FnOnce(&mut GroupStep, &mut Others) -> R) -> R {
        let clock = self.clock();
        let mut locks: Vec<Lock> =
            keys.iter().map(|key| self.keyspace.remove(key).unwrap_or_else(Lock::free)).collect();
        let Self { manager, keyspace, .. } = self;
        let parts = keys.iter().zip(&mut locks);
        let parts = parts.map(|(key, lock)| Part { key: KEYS[*key], lock, effects: Vec::new() }).collect();
        let db = db_of(keys[0]);
        let mut group = GroupStep { clock, db, parts, manager };
        let result = work(&mut group, &mut Others { keyspace, db });
        let effects: Vec<Vec<Effect>> = group.parts.into_iter().map(|part| part.effects).collect();
        for ((key, lock), effects) in keys.iter().zip(locks).zip(effects) {
            self.store(*key, lock, &effects);
        }
        result
    }

    fn store(&mut self, key: usize, lock: Lock, effects: &[Effect]) {
        for effect in effects {
            self.replicate(key, &lock, effect);
        }
        if !lock.is_free() {
            self.keyspace.insert(key, lock);
        }
    }

    fn replicate(&mut self, key: usize, lock: &Lock, effect: &Effect) {
        let clock = self.clock();
        let mut copy = self.replica.remove(&key).unwrap_or_else(Lock::free);
        let (manager, effects) = (&mut self.replica_memory, &mut Vec::new());
        let mut step = Step { clock, db: db_of(key), key: KEYS[key], lock: &mut copy, manager, effects };
        for told in effects_of(std::slice::from_ref(effect), lock, clock) {
            step.apply_change(told.here(Source::Primary, clock).unwrap());
        }
        if let Effect::Granted { fence, .. } = effect {
            let newest = self.newest.insert(key, fence.get());
            assert!(newest < Some(fence.get()), "I3: the fences of a lock grow");
        }
        if !copy.is_free() {
            self.replica.insert(key, copy);
        }
    }

    /// The timer fires: all that is due. A wheel that has much to move says so by a deadline that is not after now, and goes on with the next
    /// call.
    pub(super) fn run_due(&mut self) {
        let now = Moment(self.now_us);
        while self.manager.next_deadline().is_some_and(|due| due <= now) {
            driver::end_due_waits(self, now, || true);
            self.look_at_due(now);
        }
    }

    pub(super) fn fence_of(&self, key: usize, owner: usize) -> Option<Fence> {
        Some(self.keyspace.get(&key)?.hold_of(OWNERS[owner])?.fence)
    }
}

impl Keyspace for World {
    fn manager<R>(&mut self, work: impl FnOnce(&mut LockManager) -> R) -> R {
        work(&mut self.manager)
    }

    fn step(&mut self, db: i32, key: &[u8], work: impl FnOnce(&mut Step)) -> Result<(), NotALock> {
        self.step_alone(number(db, key), |step, _| work(step));
        Ok(())
    }

    fn group_step(
        &mut self,
        db: i32,
        keys: &Keys,
        work: impl FnOnce(&mut GroupStep),
    ) -> Result<(), NotALock> {
        let keys: Vec<usize> = keys.iter().map(|key| number(db, key)).collect();
        self.group_alone(&keys, |group, _| work(group));
        Ok(())
    }

    fn may_open(&self, _key: &[u8]) -> bool {
        true
    }

    fn select(&mut self, _db: i32) {}

    fn is_away(&mut self, db: i32, key: &[u8]) -> bool {
        self.away == Some(number(db, key))
    }

    fn wait_ended(&mut self, _id: WaiterId, _why: WaitEnd) {}

    fn looked(&mut self) {}

    fn turn_away(&mut self, db: i32, key: &[u8]) {
        self.manager.fail_waits(db, key, || true, |_| {});
        let Self { manager, keyspace, now_us, .. } = self;
        if let Some(lock) = keyspace.get_mut(&number(db, key)) {
            manager.look_again(db, key, lock, Moment(*now_us).plus_ms(1));
        }
    }

    fn refuse_waits(&mut self, _db: i32, _key: &[u8]) {
        unreachable!("all keys hold locks");
    }
}
