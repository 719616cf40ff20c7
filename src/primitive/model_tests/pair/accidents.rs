//! What nobody asks for: clients that go, replies that are lost, keys that are deleted.

use super::*;

impl Pair {
    /// Its waits end, and so do grants that it has not heard of; its other holds have their grace.
    pub(super) fn disconnect(&mut self, client: usize) {
        let (now, gone) = (self.now(), self.world.tie(client, Lease::NONE).client);
        let waits = |waiter: &Waiter| waiter.span.tie.is_some_and(|tie| tie.client == gone);
        let (waiting, others): (Vec<_>, Vec<_>) = self.model.waiters.drain(..).partition(waits);
        self.model.waiters = others;
        let is_tied = |hold: &Hold| hold.bounds.tie.filter(|tie| tie.client == gone && !tie.is_cut());
        for holds in &mut self.model.holds {
            holds.retain(|hold| is_tied(hold).is_none() || hold.provisional != Some(Undo::End));
            for hold in holds {
                is_tied(hold)
                    .into_iter()
                    .for_each(|tie| hold.tie(Tie { end: tie.grace.deadline(now), ..tie }));
            }
        }
        waiting.iter().for_each(|waiter| self.forget_waiter(waiter));
        self.world.disconnect(client);
        (0..KEYS.len()).for_each(|key| self.world.settle(key));
    }

    pub(super) fn forget_waiter(&mut self, gone: &Waiter) {
        let key = *gone.keys.first().unwrap();
        let id = self.world.memory.waiters.waiter_of(0, KEYS[key], OWNERS[gone.owner]).unwrap();
        self.world.memory.waiters.remove(id);
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
            let waiters = &mut self.world.memory.waiters;
            let client = waiters.client_of(waiters.waiter_of(0, KEYS[key], owner).unwrap()).unwrap();
            assert_eq!(waiters.detach(client, now), Some(waiter.deadline), "the place is kept");
            return;
        }
        let gone = self.model.waiters.remove(nth % count);
        self.forget_waiter(&gone);
        gone.keys.iter().for_each(|key| self.world.settle(*key));
    }

    pub(super) fn undo(&mut self, nth: usize) {
        let holds = self.model.holds.iter().flatten();
        let grants: BTreeMap<usize, Undo> =
            holds.filter_map(|hold| Some((hold.grant, hold.provisional.clone()?))).collect();
        let Some((grant, undo)) = grants.into_iter().nth(nth % 3) else { return };
        let fence = self.fences[&grant];
        let how = self.world.memory.take_undo(fence).expect("it can be undone");
        for key in 0..KEYS.len() {
            self.world.turn(key, |turn, _| {
                turn.settle();
                turn.undo(fence, how);
            });
        }
        for (key, holds) in self.model.holds.iter_mut().enumerate() {
            match undo {
                Undo::End => {
                    let undone = holds.iter().filter(|hold| hold.grant == grant);
                    self.model.past.extend(undone.map(|hold| ((key, hold.owner), grant)));
                    holds.retain(|hold| hold.grant != grant);
                }
                Undo::Downgrade { grant: old } => {
                    for hold in holds.iter_mut().filter(|hold| hold.grant == grant) {
                        (hold.grant, hold.claim, hold.provisional) = (old, Claim::SHARED, None);
                    }
                }
            }
        }
    }

    /// The key goes at once, and the host looks at the queue right after.
    pub(super) fn delete(&mut self, key: usize) {
        let now = self.now();
        self.model.end(key, End::Vanished, now, |_| true);
        self.model.cooling[key].clear();
        let (memory, replica_memory) = (&mut self.world.memory, &mut self.world.replica_memory);
        if let Some(mut lock) = self.world.keyspace.remove(&key) {
            for hold in lock.holds() {
                memory.forget(hold.fence);
                let of = Named { db: 0, key: KEYS[key], owner: hold.owner.as_bytes() };
                memory.ledger.record(of, Ended { fence: hold.fence, how: End::Vanished, at: now });
            }
            lock.each_mut(|hold| memory.unindex(0, KEYS[key], hold));
        }
        if let Some(mut lock) = self.world.replica.remove(&key) {
            lock.each_mut(|hold| replica_memory.unindex(0, KEYS[key], hold));
        }
        self.world.settle(key);
    }
}
