//! Accidents: clients that go, replies that are lost, keys that are deleted.

use super::*;
use crate::primitive::WaitEnd;

impl Pair {
    /// Its waits end, and so do grants that it has not heard of; its other holds have their grace.
    pub(super) fn disconnect(&mut self, client: usize) {
        let (now, gone) = (self.now(), self.world.tie(client, Lease::NONE).client);
        let waits = |waiter: &Waiter| waiter.span.tie.is_some_and(|tie| tie.client == gone);
        let (waiting, others): (Vec<_>, Vec<_>) = self.model.waiters.drain(..).partition(waits);
        self.model.waiters = others;
        let is_tied = |hold: &Hold| hold.bounds.tie.filter(|tie| tie.client == gone && !tie.is_orphaned());
        for holds in &mut self.model.holds {
            holds.retain(|hold| is_tied(hold).is_none() || hold.provisional != Some(Rollback::EndHold));
            for hold in holds {
                is_tied(hold)
                    .into_iter()
                    .for_each(|tie| hold.tie(Tie { end: tie.grace.deadline(now), ..tie }));
            }
        }
        waiting.iter().for_each(|waiter| self.forget_waiter(waiter));
        self.world.disconnect(client);
    }

    pub(super) fn forget_waiter(&mut self, gone: &Waiter) {
        let key = *gone.keys.first().unwrap();
        let id = self.world.manager.waiters.waiter_of(db_of(key), KEYS[key], OWNERS[gone.owner]).unwrap();
        let end = self.world.manager.client_gone(id, WaitEnd::Gone, self.now());
        assert_eq!(end, WaitEnd::Gone, "it leaves its queue");
    }

    pub(super) fn vanish(&mut self, nth: usize) {
        let count = self.model.waiters.len();
        if count == 0 {
            return;
        }
        let now = self.now();
        let waiter = &mut self.model.waiters[nth % count];
        if let Some((until, keep_ms)) = waiter.attached.take() {
            waiter.deadline = now.min(until).plus_ms(keep_ms);
            let (key, owner) = (*waiter.keys.first().unwrap(), OWNERS[waiter.owner]);
            let manager = &mut self.world.manager;
            let ticket = manager.waiters.waiter_of(db_of(key), KEYS[key], owner).unwrap();
            let client = manager.waiters.client_of(ticket).unwrap();
            assert_eq!(manager.client_gone(client, WaitEnd::Gone, now), WaitEnd::PlaceKept);
            return;
        }
        let gone = self.model.waiters.remove(nth % count);
        self.forget_waiter(&gone);
        self.world.run_rechecks();
    }

    pub(super) fn roll_back(&mut self, nth: usize) {
        let holds = self.model.holds.iter().flatten();
        let grants: BTreeMap<usize, Rollback> =
            holds.filter_map(|hold| Some((hold.grant, hold.provisional.clone()?))).collect();
        let Some((grant, rollback)) = grants.into_iter().nth(nth % 3) else { return };
        let fence = self.fences[&grant];
        self.world.manager.grant_unread(fence);
        self.world.run_rechecks();
        for (key, holds) in self.model.holds.iter_mut().enumerate() {
            match rollback {
                Rollback::EndHold => {
                    let undone = holds.iter().filter(|hold| hold.grant == grant);
                    self.model.past.extend(undone.map(|hold| ((key, hold.owner), grant)));
                    holds.retain(|hold| hold.grant != grant);
                }
                Rollback::Downgrade { grant: old } => {
                    for hold in holds.iter_mut().filter(|hold| hold.grant == grant) {
                        (hold.grant, hold.permits, hold.provisional) = (old, Permits::SHARED, None);
                    }
                }
            }
        }
    }

    /// The key goes at once, and its queue is looked at right after.
    pub(super) fn delete(&mut self, key: usize) {
        let now = self.now();
        self.model.end(key, HoldEnd::Vanished, now, |_| true);
        self.model.cooldown[key].clear();
        let world = &mut self.world;
        if let Some(lock) = world.keyspace.remove(&key) {
            world.manager.key_gone(db_of(key), KEYS[key], &lock, now, true);
        }
        if let Some(lock) = world.replica.remove(&key) {
            world.replica_memory.key_gone(db_of(key), KEYS[key], &lock, now, false);
        }
        world.run_rechecks();
    }

    /// All keys go at once, and nothing is told of each.
    pub(super) fn flush(&mut self) {
        self.model.flush();
        self.world.flush();
    }

    /// All locks change their database. Those who wait stay, and what is remembered of holds.
    pub(super) fn swap_databases(&mut self) {
        self.model.swap_databases();
        self.world.swap_databases();
    }

    /// Those who wait for it are sent to the other server; its holds stay until the slot has come back.
    pub(super) fn move_away(&mut self, key: usize) {
        self.model.waiters.retain(|waiter| !waiter.keys.contains(&key));
        self.world.move_away(key);
    }

    /// The world alone goes on, as it would with nobody in it.
    pub(crate) fn pass_away(&mut self, key: usize, us: u64) {
        self.world.pass_away(key, us);
    }

    /// Whether no lock is left, in the keyspace or in the index.
    pub(crate) fn is_settled(&self) -> bool {
        self.world.keyspace.is_empty() && self.world.manager.leases.is_empty()
    }

    /// Those who wait are sent away, and nothing is remembered; the holds stay.
    pub(super) fn change_roles(&mut self) {
        self.model.change_roles();
        self.world.change_roles();
    }
}
