//! The real thing, with this test as its host: a keyspace of plain maps, and a replica that hears the effects only.

use std::collections::BTreeMap;

use super::{CLIENTS, KEYS, OWNERS};
use crate::command::effect::step::effects_of;
use crate::primitive::allowance::Allowance;
use crate::primitive::bounds::Tie;
use crate::primitive::codec::Source;
use crate::primitive::deadlock::Holds;
use crate::primitive::turn::Left;
use crate::primitive::turns::Part;
use crate::primitive::unsettled::Item;
use crate::primitive::{Clock, Effect, Fence, Hold, Lease, Lock, Memory, Moment, Turn, Turns};

#[derive(Default)]
pub struct World {
    pub keyspace: BTreeMap<usize, Lock>,
    pub memory: Memory,
    pub replica: BTreeMap<usize, Lock>,
    pub replica_memory: Memory,
    pub now_us: u64,
    /// How many connections there were before each of those that are there.
    closed: [u64; CLIENTS],
    /// The newest fence of each lock.
    newest: BTreeMap<usize, u64>,
}

/// The locks that a step has not taken out of the keyspace.
pub struct Others<'a>(&'a BTreeMap<usize, Lock>);

impl Holds for Others<'_> {
    fn each(&mut self, key: &[u8], each: &mut dyn FnMut(&Hold)) {
        let lock = self.0.get(&number(key));
        lock.into_iter().flat_map(|lock| lock.holds()).for_each(each);
    }
}

fn number(key: &[u8]) -> usize {
    KEYS.iter().position(|name| *name == key).unwrap()
}

impl World {
    fn clock(&self) -> Clock {
        // The wall clock runs backwards: nothing but the monotonic clock may count.
        Clock { now: Moment(self.now_us), unix_us: 1_700_000_000_000_000 - self.now_us }
    }

    /// One step on one lock, and what it leaves to be done.
    pub fn turn<R>(&mut self, key: usize, work: impl FnOnce(&mut Turn, &mut Others) -> R) -> R {
        self.memory.allowance = Allowance::default();
        let result = self.step(key, work);
        self.finish();
        result
    }

    /// One step on several locks, and what it leaves to be done.
    pub fn turns<R>(&mut self, keys: &[usize], work: impl FnOnce(&mut Turns, &mut Others) -> R) -> R {
        self.memory.allowance = Allowance::default();
        let result = self.step_all(keys, work);
        self.finish();
        result
    }

    /// A tie to one of the connections.
    pub fn tie(&self, client: usize, grace: Lease) -> Tie {
        Tie::new(self.memory.node, self.closed[client] * 10 + client as u64, grace)
    }

    /// What the host does when a connection closes.
    pub fn disconnect(&mut self, client: usize) {
        let gone = self.tie(client, Lease::NONE).client;
        self.closed[client] += 1;
        for (_, (_, key, _)) in self.memory.ties.after(None, Some(gone), usize::MAX) {
            self.turn(number(&key), |turn, _| {
                turn.cut_ties(|tie| tie.client != gone);
                turn.settle();
            });
        }
    }

    pub fn settle(&mut self, key: usize) {
        self.turn(key, |turn, _| turn.settle());
    }

    fn finish(&mut self) {
        self.settle_all();
        // The host does this right after the step.
        while let Some((_, key)) = self.memory.unfinished.pop() {
            self.memory.allowance = Allowance::default();
            self.step(number(&key), |turn, _| turn.settle());
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        while let Some(next) = self.memory.next_unsettled() {
            match next {
                Item::Lock(_, key) => self.step(number(&key), |turn, _| turn.settle()),
                Item::Group(id) => {
                    let entry = self.memory.waiters.get(id);
                    let keys: Vec<usize> =
                        entry.into_iter().flat_map(|entry| &entry.keys).map(|key| number(key)).collect();
                    self.step_all(&keys, |turns, _| turns.serve(id));
                }
            }
        }
    }

    fn step<R>(&mut self, key: usize, work: impl FnOnce(&mut Turn, &mut Others) -> R) -> R {
        let clock = self.clock();
        let mut lock = self.keyspace.remove(&key).unwrap_or_else(Lock::free);
        let mut effects = Vec::new();
        let Self { memory, keyspace, .. } = self;
        let mut turn = Turn { clock, db: 0, key: KEYS[key], lock: &mut lock, memory, effects: &mut effects };
        let result = work(&mut turn, &mut Others(keyspace));
        self.store(key, lock, &effects);
        result
    }

    fn step_all<R>(&mut self, keys: &[usize], work: impl FnOnce(&mut Turns, &mut Others) -> R) -> R {
        let clock = self.clock();
        let mut locks: Vec<Lock> =
            keys.iter().map(|key| self.keyspace.remove(key).unwrap_or_else(Lock::free)).collect();
        let Self { memory, keyspace, .. } = self;
        let parts = keys.iter().zip(&mut locks);
        let parts = parts.map(|(key, lock)| Part { key: KEYS[*key], lock, effects: Vec::new() }).collect();
        let mut turns = Turns { clock, db: 0, parts, memory };
        let result = work(&mut turns, &mut Others(keyspace));
        let effects: Vec<Vec<Effect>> = turns.parts.into_iter().map(|part| part.effects).collect();
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
        let (memory, effects) = (&mut self.replica_memory, &mut Vec::new());
        let mut turn = Turn { clock, db: 0, key: KEYS[key], lock: &mut copy, memory, effects };
        for told in effects_of(std::slice::from_ref(effect), lock, clock) {
            turn.obey(told.here(Source::Primary, clock).unwrap());
        }
        if let Effect::Granted { fence, .. } = effect {
            let newest = self.newest.insert(key, fence.get());
            assert!(newest < Some(fence.get()), "I3: the fences of a lock grow");
        }
        if !copy.is_free() {
            self.replica.insert(key, copy);
        }
    }

    /// What the host does when its timer fires.
    pub fn run_due(&mut self) {
        let now = Moment(self.now_us);
        let is_due = |next: Option<Moment>| next.is_some_and(|next| next <= now);
        while is_due(self.memory.waiters.next_deadline()) {
            let Some(id) = self.memory.waiters.pop_due(now) else { continue };
            if self.memory.waiters.end_slice(id).is_some() {
                continue;
            }
            let entry = self.memory.waiters.get(id);
            let keys: Vec<usize> =
                entry.into_iter().flat_map(|entry| &entry.keys).map(|key| number(key)).collect();
            if let Some(key) = keys.first() {
                self.turn(*key, |turn, _| {
                    turn.leave(id, Left::TimedOut);
                    turn.settle();
                });
            }
        }
        while is_due(self.memory.leases.next_deadline()) {
            let Some((_, lease)) = self.memory.leases.pop_due(now) else { continue };
            self.settle(number(&lease.key));
        }
    }

    pub fn fence_of(&self, key: usize, owner: usize) -> Option<Fence> {
        Some(self.keyspace.get(&key)?.hold_of(OWNERS[owner])?.fence)
    }
}
