//! The core against a model that is slow and obvious: plain lists, searched from the front, with no index and no
//! wheel. Few keys, few owners and short times, so that they collide. A replica is fed with the effects alone and
//! must agree as well.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::claim::ALL;
use super::codec::Source;
use super::turn::Left;
use super::{Claim, Clock, Effect, Fence, Lease, Lock, Memory, Moment, Turn, WaiterId};
use crate::command::acquire::{Acquire, Acquired};
use crate::command::effect::HoldEffect;
use crate::command::policy::Wait;
use crate::command::release::Release;
use crate::command::renew::Renew;
use crate::command::Policy;

const KEYS: [&[u8]; 2] = [b"k", b"l"];
const OWNERS: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];

#[derive(Clone, Copy, Debug)]
enum Op {
    Acquire {
        key: usize,
        owner: usize,
        claim: Claim,
        lease: Option<u64>,
        wait: Option<u64>,
    },
    Release {
        key: usize,
        owner: usize,
        right_fence: bool,
    },
    Renew {
        key: usize,
        owner: usize,
        lease: Option<u64>,
    },
    /// The client of the n-th waiter goes away.
    Vanish {
        nth: usize,
    },
    /// The n-th provisional grant was never read.
    Undo {
        nth: usize,
    },
    /// The key is deleted from outside.
    Delete {
        key: usize,
    },
    Pass {
        us: u64,
    },
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        4 => Just(Claim::EXCLUSIVE),
        3 => Just(Claim { limit: ALL, permits: 1 }),
        3 => (1..=3_u32).prop_map(|permits| Claim { limit: 3, permits }),
        1 => Just(Claim { limit: 2, permits: 1 }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let (key, owner) = (0..KEYS.len(), 0..OWNERS.len());
    let time = || prop::option::weighted(0.8, 1..20_u64);
    prop_oneof![
        6 => (key.clone(), owner.clone(), claim(), time(), time())
            .prop_map(|(key, owner, claim, lease, wait)| Op::Acquire { key, owner, claim, lease, wait }),
        4 => (key.clone(), owner.clone(), prop::bool::weighted(0.9))
            .prop_map(|(key, owner, right_fence)| Op::Release { key, owner, right_fence }),
        2 => (key.clone(), owner, time()).prop_map(|(key, owner, lease)| Op::Renew { key, owner, lease }),
        1 => any::<usize>().prop_map(|nth| Op::Vanish { nth }),
        1 => any::<usize>().prop_map(|nth| Op::Undo { nth }),
        1 => key.prop_map(|key| Op::Delete { key }),
        4 => (0..12_000_u64).prop_map(|us| Op::Pass { us }),
    ]
}

// ---- The model ------------------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq)]
struct ModelHold {
    owner: usize,
    claim: Claim,
    lease: Lease,
    deadline: Moment,
    provisional: bool,
}

#[derive(Clone, Debug)]
struct ModelWaiter {
    owner: usize,
    claim: Claim,
    lease: Lease,
    deadline: Moment,
}

#[derive(Clone, Debug, Default)]
struct ModelLock {
    holds: Vec<ModelHold>,
    queue: Vec<ModelWaiter>,
}

impl ModelLock {
    fn fits(&self, claim: Claim) -> bool {
        let taken: u64 = self.holds.iter().map(|hold| u64::from(hold.claim.permits)).sum();
        let same_kind = self.holds.iter().all(|hold| hold.claim.limit == claim.limit);
        same_kind && taken + u64::from(claim.permits) <= u64::from(claim.limit)
    }

    fn settle(&mut self, now: Moment) {
        self.holds.retain(|hold| now < hold.deadline);
        while let Some(next) = self.queue.first().cloned() {
            if next.deadline <= now {
                self.queue.remove(0);
            } else if self.fits(next.claim) {
                self.queue.remove(0);
                self.holds.push(ModelHold {
                    owner: next.owner,
                    claim: next.claim,
                    lease: next.lease,
                    deadline: next.lease.deadline(now),
                    provisional: true,
                });
            } else {
                break;
            }
        }
    }
}

// ---- The real thing, with this test as its host ----------------------------------------------------------------

#[derive(Default)]
struct World {
    keyspace: BTreeMap<usize, Lock>,
    memory: Memory,
    replica: BTreeMap<usize, Lock>,
    replica_memory: Memory,
    now_us: u64,
    newest: u64,
}

impl World {
    fn clock(&self) -> Clock {
        // The wall clock runs backwards: nothing but the monotonic clock may count.
        Clock { now: Moment(self.now_us), unix_us: 1_700_000_000_000_000 - self.now_us }
    }

    fn turn<R>(&mut self, key: usize, work: impl FnOnce(&mut Turn) -> R) -> R {
        let clock = self.clock();
        let mut lock = self.keyspace.remove(&key).unwrap_or_else(Lock::free);
        let mut effects = Vec::new();
        let memory = &mut self.memory;
        let name = KEYS[key];
        let result =
            work(&mut Turn { clock, db: 0, key: name, lock: &mut lock, memory, effects: &mut effects });
        for effect in effects {
            self.replicate(key, &lock, &effect);
        }
        if !lock.is_free() {
            self.keyspace.insert(key, lock);
        }
        result
    }

    fn replicate(&mut self, key: usize, lock: &Lock, effect: &Effect) {
        let clock = self.clock();
        let mut copy = self.replica.remove(&key).unwrap_or_else(Lock::free);
        let (memory, effects) = (&mut self.replica_memory, &mut Vec::new());
        let mut turn = Turn { clock, db: 0, key: KEYS[key], lock: &mut copy, memory, effects };
        match effect {
            Effect::Granted { fence, .. } | Effect::Renewed { fence } => {
                if let Some(hold) = lock.hold_with(*fence) {
                    let hold = HoldEffect::of(hold, clock).to_hold(Source::Primary, clock).unwrap();
                    turn.impose(hold);
                }
                if let Effect::Granted { fence, .. } = effect {
                    assert!(fence.get() > self.newest, "fences grow");
                    self.newest = fence.get();
                }
            }
            Effect::Ended { hold, .. } => {
                turn.free(hold.fence);
            }
            Effect::Queued | Effect::Left { .. } => {}
        }
        if !copy.is_free() {
            self.replica.insert(key, copy);
        }
    }

    /// What the host does when its timer fires.
    fn run_due(&mut self) {
        let now = Moment(self.now_us);
        while let Some(id) = self.memory.waiters.pop_due(now) {
            if let Some((_, name)) = self.memory.waiters.lock_of(id) {
                let key = KEYS.iter().position(|key| **key == *name).unwrap();
                self.turn(key, |turn| {
                    turn.leave(id, Left::TimedOut);
                    turn.settle();
                });
            }
        }
        while let Some((_, lease)) = self.memory.leases.pop_due(now) {
            let key = KEYS.iter().position(|key| **key == *lease.key).unwrap();
            self.turn(key, |turn| turn.settle());
        }
    }

    fn fence_of(&self, key: usize, owner: usize) -> Option<Fence> {
        Some(self.keyspace.get(&key)?.hold_of(OWNERS[owner])?.fence)
    }
}

// ---- Both, side by side ----------------------------------------------------------------------------------------

struct Pair {
    world: World,
    model: [ModelLock; KEYS.len()],
}

impl Pair {
    fn step(&mut self, op: Op) {
        let now = Moment(self.world.now_us);
        match op {
            Op::Acquire { key, owner, claim, lease, wait } => self.acquire(key, owner, claim, lease, wait),
            Op::Release { key, owner, right_fence } => {
                let model = &mut self.model[key];
                model.settle(now);
                let held = model.holds.iter().position(|hold| hold.owner == owner).filter(|_| right_fence);
                if let Some(at) = held {
                    model.holds.remove(at);
                    model.settle(now);
                }
                let fence = if right_fence { self.world.fence_of(key, owner) } else { Fence::new(1) };
                let request = Release { key: KEYS[key], owner: OWNERS[owner], fence, with_info: false };
                let done = self.world.turn(key, |turn| request.apply(turn));
                assert_eq!(done.is_some(), held.is_some(), "release");
            }
            Op::Renew { key, owner, lease } => {
                let model = &mut self.model[key];
                model.settle(now);
                let lease = lease.map(Lease::ms);
                let mut left = 0;
                if let Some(hold) = model.holds.iter_mut().find(|hold| hold.owner == owner) {
                    hold.lease = lease.unwrap_or(hold.lease);
                    hold.deadline = hold.lease.deadline(now);
                    hold.provisional = false;
                    left = hold.lease.to_wire();
                }
                let request =
                    Renew { key: KEYS[key], owner: OWNERS[owner], lease, fence: None, with_info: false };
                assert_eq!(self.world.turn(key, |turn| request.apply(turn)), left, "renew");
            }
            Op::Vanish { nth } => self.vanish(nth),
            Op::Undo { nth } => self.undo(nth),
            Op::Delete { key } => {
                // The key goes at once, and the host looks at the queue right after.
                self.model[key].holds.clear();
                self.model[key].settle(now);
                if let Some(lock) = self.world.keyspace.remove(&key) {
                    for hold in lock.holds() {
                        self.world.memory.leases.remove(0, hold);
                        self.world.memory.confirm(hold.fence);
                    }
                }
                self.world.replica.remove(&key).iter().flat_map(|lock| lock.holds()).for_each(|hold| {
                    self.world.replica_memory.leases.remove(0, hold);
                });
                self.world.turn(key, |turn| turn.settle());
            }
            Op::Pass { us } => {
                self.world.now_us += us;
                self.world.run_due();
                let now = Moment(self.world.now_us);
                // The timer may look up to a millisecond late; a turn on the lock ends what is over in any case.
                for key in 0..KEYS.len() {
                    self.world.turn(key, |turn| turn.settle());
                    self.model[key].queue.retain(|waiter| waiter.deadline.0.div_ceil(1000) > now.0 / 1000);
                    self.model[key].settle(now);
                }
            }
        }
        self.check();
    }

    fn acquire(&mut self, key: usize, owner: usize, claim: Claim, lease: Option<u64>, wait: Option<u64>) {
        let policy = Policy::default();
        let lease = lease.map_or(Lease::NEVER, Lease::ms);
        let now = Moment(self.world.now_us);
        let wait = wait.map(Wait);
        let request = Acquire {
            key: KEYS[key],
            owner: Some(OWNERS[owner]),
            claim,
            lease: Some(lease),
            wait,
            fence: None,
            note: None,
            with_info: false,
        };
        let before = self.world.fence_of(key, owner);
        let got = self.world.turn(key, |turn| {
            let got = request.apply(OWNERS[owner], turn, &policy);
            if let (Ok(Acquired::Busy), Some(wait)) = (&got, wait) {
                let id = turn.memory.waiters.next_id();
                assert_eq!(request.enqueue(OWNERS[owner], wait, turn, &policy), Ok(id));
            }
            got
        });

        let model = &mut self.model[key];
        model.settle(now);
        if let Some(hold) = model.holds.iter_mut().find(|hold| hold.owner == owner) {
            if hold.claim != claim {
                assert!(got.is_err(), "another mode");
                return;
            }
            hold.provisional = false;
            if lease.deadline(now) > hold.deadline {
                (hold.lease, hold.deadline) = (hold.lease.max(lease), lease.deadline(now));
            }
            let fence = self.world.fence_of(key, owner).unwrap();
            assert_eq!(got, Ok(Acquired::Held(fence)));
            assert!(before.is_none_or(|before| before == fence), "the same fence again");
        } else if model.holds.iter().any(|hold| hold.claim.limit != claim.limit) {
            assert!(got.is_err(), "another kind of lock");
        } else if model.queue.is_empty() && model.fits(claim) {
            let deadline = lease.deadline(now);
            model.holds.push(ModelHold { owner, claim, lease, deadline, provisional: false });
            assert!(matches!(got, Ok(Acquired::Granted(_))), "free: {got:?}");
        } else {
            assert_eq!(got, Ok(Acquired::Busy));
            if let Some(wait) = wait {
                let waiter = ModelWaiter { owner, claim, lease, deadline: wait.deadline(now) };
                match model.queue.iter_mut().find(|waiter| waiter.owner == owner) {
                    Some(place) => *place = waiter,
                    None => model.queue.push(waiter),
                }
                model.settle(now);
            }
        }
    }

    fn vanish(&mut self, nth: usize) {
        let waiting: Vec<(usize, usize)> = (0..KEYS.len())
            .flat_map(|key| (0..self.model[key].queue.len()).map(move |at| (key, at)))
            .collect();
        let Some((key, at)) = waiting.get(nth % waiting.len().max(1)).copied() else { return };
        let id: WaiterId = self.world.memory.waiters.iter(0, KEYS[key]).nth(at).unwrap().0;
        self.world.memory.waiters.remove(id);
        self.world.turn(key, |turn| turn.settle());
        self.model[key].queue.remove(at);
        self.model[key].settle(Moment(self.world.now_us));
    }

    fn undo(&mut self, nth: usize) {
        let now = Moment(self.world.now_us);
        for key in 0..KEYS.len() {
            self.world.turn(key, |turn| turn.settle());
            self.model[key].settle(now);
        }
        let provisional: Vec<(usize, usize)> = (0..KEYS.len())
            .flat_map(|key| self.model[key].holds.iter().map(move |hold| (key, hold)))
            .filter(|(_, hold)| hold.provisional)
            .map(|(key, hold)| (key, hold.owner))
            .collect();
        let Some((key, owner)) = provisional.get(nth % provisional.len().max(1)).copied() else { return };
        let fence = self.world.fence_of(key, owner).unwrap();
        assert!(self.world.turn(key, |turn| turn.undo(fence)), "a provisional grant can be undone");
        assert!(!self.world.turn(key, |turn| turn.undo(fence)), "once");
        self.model[key].holds.retain(|hold| hold.owner != owner);
        self.model[key].settle(now);
    }

    /// Core, model and replica agree, and the invariants hold.
    fn check(&self) {
        let World { keyspace, memory, replica, .. } = &self.world;
        let mut leased = 0;
        for (key, model) in self.model.iter().enumerate() {
            let holds: Vec<ModelHold> = keyspace
                .get(&key)
                .map_or(Vec::new(), |lock| lock.holds().iter().map(|hold| self.seen(hold)).collect());
            assert_eq!(holds, model.holds, "holds of {key}");
            let queue = memory.waiters.iter(0, KEYS[key]).map(|(_, waiter)| waiter.ask.owner.as_bytes());
            assert!(queue.eq(model.queue.iter().map(|waiter| OWNERS[waiter.owner])), "queue of {key}");
            if let Some(next) = model.queue.first() {
                assert!(!model.fits(next.claim), "I20: nobody waits for what it could have");
            }
            let Some(lock) = keyspace.get(&key) else {
                assert!(!replica.contains_key(&key), "the replica has a lock that is free");
                continue;
            };
            assert!(!lock.is_free(), "a free lock has no key");
            assert!(lock.used() <= u64::from(lock.limit()), "I1, I9, I10: permits within the limit");
            let digest = |lock: &Lock| -> Vec<String> {
                let part = |hold: &super::Hold| {
                    format!(
                        "{:?} {:?} {:?} {:?} {:?}",
                        hold.owner, hold.fence, hold.claim, hold.lease, hold.note
                    )
                };
                lock.holds().iter().map(part).collect()
            };
            assert_eq!(replica.get(&key).map(digest), Some(digest(lock)), "I14: the replica agrees");
            for hold in lock.holds().iter().filter(|hold| hold.deadline != Moment::NEVER) {
                leased += 1;
                assert!(memory.leases.has(0, hold), "I7: the lease index knows the hold");
            }
        }
        assert_eq!(memory.leases.len(), leased, "nothing is left of holds that ended");
        let waiting: usize = self.model.iter().map(|model| model.queue.len()).sum();
        assert_eq!(memory.waiters.len(), waiting);
    }

    fn seen(&self, hold: &super::Hold) -> ModelHold {
        ModelHold {
            owner: OWNERS.iter().position(|owner| *owner == hold.owner.as_bytes()).unwrap(),
            claim: hold.claim,
            lease: hold.lease,
            deadline: hold.deadline,
            provisional: self.world.memory.provisional.contains_key(&hold.fence),
        }
    }
}

/// How many random runs: `LOCK_MODEL_RUNS`, or enough for every day.
fn runs() -> u32 {
    std::env::var("LOCK_MODEL_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: runs(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn core_model_and_replica_agree(ops in prop::collection::vec(op(), 1..100)) {
        let mut pair = Pair { world: World::default(), model: Default::default() };
        for op in ops {
            pair.step(op);
        }
    }
}
