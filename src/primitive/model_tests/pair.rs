//! Both, side by side: each step is done by the core and by the model, and then everything is compared.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Hold, Model, Undo, Waiter};
use super::ops::Op;
use super::watch;
use super::world::World;
use super::{CLAIM_MS, ENTRIES, KEYS, OWNERS};
use crate::command::acquire::{Acquire, Acquired};
use crate::command::convert::{Convert, Converted};
use crate::command::group::{AcquireAll, HeldAll};
use crate::command::holder::Holder;
use crate::command::operate::{cancel, Break, Steal};
use crate::command::policy::Wait;
use crate::command::release::{Release, Released, What};
use crate::command::renew::Renew;
use crate::command::revoke;
use crate::command::set_limit::SetLimit;
use crate::command::terms::Terms;
use crate::command::transfer::Transfer;
use crate::command::Policy;
use crate::error::LockError;
use crate::primitive::bounds::{Bounds, Span, Tie};
use crate::primitive::claim::ALL;
use crate::primitive::time::left_to_wire;
use crate::primitive::waiter::Kind;
use crate::primitive::{memory, Claim, End, Fence, Lease, Lock, Moment};

pub struct Pair {
    world: World,
    model: Model,
    /// Which fence a grant of the model has got.
    fences: BTreeMap<usize, Fence>,
}

/// What a wait came to.
#[derive(Debug, PartialEq)]
enum Asked<T> {
    AtOnce(T),
    Waits,
    Refused(LockError),
}

fn holder(key: usize, owner: usize, fence: Option<Fence>) -> Holder<'static> {
    Holder { key: KEYS[key], owner: OWNERS[owner], fence, with_info: false }
}

fn plain_terms(claim: Claim) -> Terms<'static> {
    let span = Span::default();
    Terms { claim, lease: None, wait: None, fence: None, note: None, entry: b"", span, with_info: false }
}

fn span(most: Option<u64>, least: Option<u64>, tie: Option<Tie>) -> Span {
    let longest = most.map_or(Lease::NEVER, Lease::ms);
    Span { longest, shortest: least.map_or(Lease::NONE, Lease::ms), tie }
}

fn names(keys: &BTreeSet<usize>) -> Vec<&'static [u8]> {
    keys.iter().map(|key| KEYS[*key]).collect()
}

/// Whether the request goes by MACQUIRE; one owner asks for single locks that way, too.
fn is_for_group(waiter: &Waiter) -> bool {
    waiter.keys.len() > 1 || (waiter.owner == 3 && waiter.entry == 0)
}

impl Pair {
    pub fn new(delay_ms: u64) -> Self {
        let mut world = World::default();
        world.memory.lock_delay_ms = delay_ms;
        world.memory.claim_ms = CLAIM_MS;
        Self { world, model: Model::new(KEYS.len(), delay_ms), fences: BTreeMap::new() }
    }

    fn now(&self) -> Moment {
        Moment(self.world.now_us)
    }

    pub fn step(&mut self, op: Op) {
        let now = self.now();
        self.model.settle(now);
        match op {
            Op::Acquire { keys, owner, claim, lease, wait, entry, most, least, tie } => {
                let lease = lease.map_or(Lease::NEVER, Lease::ms);
                let Wait { ms, kind } = wait.unwrap_or(Wait::block(0));
                let deadline = Wait { ms, kind }.deadline(now);
                let tie = tie.map(|(client, grace)| self.world.tie(client, Lease::ms(grace)));
                let span = span(most, least, tie);
                let waiter =
                    Waiter { kind, owner, keys, claim, lease, deadline, entry, span, upgrades: None };
                self.acquire(waiter, wait);
            }
            Op::Release { key, owner, right_fence, entry } => self.release(key, owner, right_fence, entry),
            Op::ReleaseAll { keys, owner, with_fence } => self.release_all(&keys, owner, with_fence),
            Op::Renew { key, owner, lease, tie } => {
                let lease = lease.map(Lease::ms);
                let tie = tie.map(|(client, grace)| self.world.tie(client, Lease::ms(grace)));
                let mut left = 0;
                if let Some(hold) = self.model.hold_of_mut(key, owner) {
                    hold.claim(now);
                    tie.into_iter().for_each(|tie| hold.tie(tie));
                    let lease = lease.unwrap_or(hold.lease);
                    hold.renew(lease, lease, now);
                    left = left_to_wire(hold.deadline, now);
                    let grant = hold.grant;
                    self.confirm(grant);
                }
                let request = Renew { holder: holder(key, owner, None), lease, tie };
                let policy = Policy::default();
                assert_eq!(self.world.turn(key, |turn, _| request.apply(turn, &policy)), left, "renew");
            }
            Op::RenewAll { keys, owner, lease } => {
                let lease = Lease::ms(lease);
                let mut left = Vec::new();
                for key in &keys {
                    let Some(hold) = self.model.hold_of_mut(*key, owner) else {
                        left.push(0);
                        continue;
                    };
                    hold.claim(now);
                    hold.renew(lease, lease, now);
                    left.push(left_to_wire(hold.deadline, now));
                    let grant = hold.grant;
                    self.confirm(grant);
                }
                let keys: Vec<usize> = keys.into_iter().collect();
                let names: Vec<&[u8]> = keys.iter().map(|key| KEYS[*key]).collect();
                let request = HeldAll { owner: OWNERS[owner], keys: &names, fence: None };
                assert_eq!(self.world.turns(&keys, |turns, _| request.renew(lease, turns)), left);
            }
            Op::Convert { key, owner, claim, wait } => self.convert(key, owner, claim, wait.map(Wait::block)),
            Op::SetLimit { key, limit } => self.set_limit(key, limit),
            Op::Break { key, owner } => {
                let request = Break { key: KEYS[key], owner: owner.map(|owner| OWNERS[owner]), reason: b"" };
                let got = self.world.turn(key, |turn, _| request.apply(turn));
                let chosen = |of: usize| owner.is_none_or(|owner| owner == of);
                let before = self.model.cooling[key].len();
                self.model.cooling[key].retain(|cooling| !chosen(cooling.owner));
                let cooled = before - self.model.cooling[key].len();
                let ended = self.model.end(key, End::Broken, now, |hold| chosen(hold.owner));
                assert_eq!(got, (ended + cooled) as i64, "broken");
            }
            Op::Steal { key, owner, claim, lease, most, least } => {
                let lease = lease.map_or(Lease::NEVER, Lease::ms);
                let span = span(most, least, None);
                let terms = Terms { lease: Some(lease), span, ..plain_terms(claim) };
                let request = Steal { key: KEYS[key], owner: OWNERS[owner], terms };
                let policy = Policy::default();
                let fence = self.world.turn(key, |turn, _| request.apply(turn, &policy)).unwrap();
                self.model.holds[key].clear();
                self.model.cooling[key].clear();
                self.grant_out_of_turn(key, owner, claim, lease, fence);
                self.bound(key, owner, span.from(now));
            }
            Op::Revoke { key } => {
                let asked = self.world.turn(key, |turn, _| revoke::apply(turn));
                let holds = &mut self.model.holds[key];
                holds.iter_mut().for_each(|hold| hold.is_wanted = true);
                assert_eq!(asked, holds.len() as i64);
            }
            Op::Cancel { key, owner } => {
                let got = self.world.turn(key, |turn, _| cancel(OWNERS[owner], turn));
                let waits = |waiter: &Waiter| waiter.owner == owner && waiter.keys.contains(&key);
                assert_eq!(got, self.model.waiters.iter().any(waits));
                self.model.waiters.retain(|waiter| !waits(waiter));
            }
            Op::Transfer { key, from, to, lease } => self.transfer(key, from, to, lease.map(Lease::ms)),
            Op::Disconnect { client } => self.disconnect(client),
            Op::Vanish { nth } => self.vanish(nth),
            Op::Undo { nth } => self.undo(nth),
            Op::Delete { key } => self.delete(key),
            Op::Pass { us } => {
                self.world.now_us += us;
                self.world.run_due();
                let now = self.now();
                // The timer may look up to a millisecond late; a turn on the lock ends what is over in any case.
                self.model.waiters.retain(|waiter| waiter.deadline.0.div_ceil(1000) > now.0 / 1000);
                (0..KEYS.len()).for_each(|key| self.world.settle(key));
            }
        }
        let now = self.now();
        self.model.settle(now);
        self.check();
    }

    /// The owner has been heard of: nothing of this grant is provisional any more.
    fn confirm(&mut self, grant: usize) {
        let holds = self.model.holds.iter_mut().flatten();
        holds.filter(|hold| hold.grant == grant).for_each(|hold| hold.provisional = None);
    }

    fn acquire(&mut self, waiter: Waiter, wait: Option<Wait>) {
        let got = self.ask(&waiter, wait);
        let Waiter { owner, claim, lease, entry, ref keys, .. } = waiter;
        let now = self.now();
        let mine: Vec<Hold> =
            keys.iter().filter_map(|key| self.model.hold_of(*key, owner).cloned()).collect();
        if let Some(first) = mine.first() {
            let is_group = mine.len() == keys.len()
                && mine.iter().all(|hold| hold.grant == first.grant)
                && (first.keys == keys.len() || !is_for_group(&waiter));
            if !is_group || mine.iter().any(|hold| hold.claim != claim) {
                assert!(matches!(got, Asked::Refused(_)), "other holds: {got:?}");
                return;
            }
            let fence = self.fences[&first.grant];
            let told =
                if first.unclaimed.is_some() { Acquired::Granted(fence) } else { Acquired::Held(fence) };
            assert_eq!(got, Asked::AtOnce(told), "the same fence again");
            self.confirm(first.grant);
            for key in keys {
                let hold = self.model.hold_of_mut(*key, owner).unwrap();
                hold.claim(now);
                hold.entries.insert(entry);
                waiter.span.tie.into_iter().for_each(|tie| hold.tie(tie));
                hold.raise(lease, now);
            }
            return;
        }
        let limits: Vec<u32> = keys.iter().filter_map(|key| self.model.limit_of(*key)).collect();
        if limits.iter().any(|limit| *limit != claim.limit) {
            assert!(matches!(got, Asked::Refused(_)), "another kind of lock: {got:?}");
            return;
        }
        if keys.iter().all(|key| self.model.queue(*key).next().is_none() && self.model.fits(*key, claim)) {
            self.model.grant(&waiter, now, false);
            assert!(matches!(got, Asked::AtOnce(Acquired::Granted(_))), "free: {got:?}");
            return;
        }
        match wait {
            None => assert_eq!(got, Asked::AtOnce(Acquired::Busy)),
            Some(Wait { kind: Kind::Client, .. }) => self.wait(waiter, &got),
            Some(Wait { kind: Kind::Ticket, .. }) => self.queue(waiter, got),
        }
    }

    /// The model's side of a request for a ticket: the one that is there is kept, or there is a new one.
    fn queue(&mut self, mut waiter: Waiter, got: Asked<Acquired>) {
        let Waiter { owner, claim, lease, .. } = waiter;
        let (keys, tie, now) = (waiter.keys.clone(), waiter.span.tie.take(), self.now());
        let is_same = |other: &&mut Waiter| {
            (other.kind, other.owner, other.claim) == (Kind::Ticket, owner, claim) && other.keys == keys
        };
        if let Some(same) = self.model.waiters.iter_mut().find(is_same) {
            assert_eq!(got, Asked::AtOnce(Acquired::Queued), "a ticket stays where it is");
            *same = waiter;
            return;
        }
        let is_granted = matches!(got, Asked::AtOnce(Acquired::Granted(_)));
        let got = match got {
            Asked::AtOnce(Acquired::Queued | Acquired::Granted(_)) => Asked::Waits,
            got => got,
        };
        self.wait(waiter, &got);
        if is_granted {
            // In the place of an earlier wait for more it had its turn at once.
            self.model.settle(now);
            for key in keys {
                let hold = self.model.hold_of_mut(key, owner).unwrap();
                assert!(hold.unclaimed.is_some());
                hold.claim(now);
                tie.into_iter().for_each(|tie| hold.tie(tie));
                hold.raise(lease, now);
            }
        }
    }

    /// Sends the request to the core as a client would.
    fn ask(&mut self, waiter: &Waiter, wait: Option<Wait>) -> Asked<Acquired> {
        let Waiter { owner, claim, lease, entry, span, ref keys, .. } = *waiter;
        let (name, policy) = (OWNERS[owner], Policy::default());
        let entry = ENTRIES[entry];
        let terms = Terms { lease: Some(lease), wait, entry, span, ..plain_terms(claim) };
        let order: Vec<usize> = keys.iter().copied().collect();
        let result = if let ([key], false) = (order.as_slice(), is_for_group(waiter)) {
            let request = Acquire { key: KEYS[*key], owner: Some(name), terms };
            self.world.turn(*key, |turn, others| {
                let got = request.apply(name, turn, &policy)?;
                let (Acquired::Busy, Some(wait)) = (got, wait) else { return Ok(Asked::AtOnce(got)) };
                if wait.kind == Kind::Ticket {
                    return request.queue(name, wait, turn, &policy, others).map(Asked::AtOnce);
                }
                request.check_wait(name, wait, turn, &policy, others)?;
                let id = turn.memory.waiters.next_id();
                assert_eq!(request.enqueue(name, wait, turn, &policy), Ok(id));
                Ok(Asked::Waits)
            })
        } else {
            let names = names(keys);
            let request = AcquireAll { owner: Some(name), keys: &names, terms };
            self.world.turns(&order, |turns, others| {
                let got = request.apply(name, turns, &policy)?;
                let (Acquired::Busy, Some(wait)) = (got, wait) else { return Ok(Asked::AtOnce(got)) };
                if wait.kind == Kind::Ticket {
                    return request.queue(name, wait, turns, &policy, others).map(Asked::AtOnce);
                }
                request.check_wait(name, wait, turns, &policy, others)?;
                let id = turns.memory.waiters.next_id();
                assert_eq!(request.enqueue(name, wait, turns, &policy), Ok(id));
                Ok(Asked::Waits)
            })
        };
        result.unwrap_or_else(Asked::Refused)
    }

    /// The model's side of a request that has to wait: in line, or refused if the wait would never end.
    fn wait<T: std::fmt::Debug>(&mut self, waiter: Waiter, got: &Asked<T>) {
        let was_clear = self.model.stuck().is_empty();
        let is_stuck = self.model.would_be_stuck(&waiter);
        match got {
            Asked::Refused(LockError::Deadlock(cycle)) => {
                assert!(is_stuck, "no false alarm: {cycle:?}");
                assert_eq!(cycle.first().map(|link| link.owner.as_bytes()), Some(OWNERS[waiter.owner]));
                let links: BTreeSet<_> = cycle.iter().map(|link| link.owner.as_bytes()).collect();
                assert_eq!(links.len(), cycle.len(), "each owner once: {cycle:?}");
            }
            Asked::Waits => {
                assert!(!(is_stuck && was_clear), "a deadlock was not seen");
                self.model.enqueue(waiter);
            }
            got => panic!("it should wait: {got:?}"),
        }
    }

    fn release(&mut self, key: usize, owner: usize, right_fence: bool, entry: Option<usize>) {
        let fence = if right_fence { self.world.fence_of(key, owner) } else { Fence::new(1) };
        let what = entry.map_or(What::All, |entry| What::Entry(ENTRIES[entry]));
        let request = Release { holder: holder(key, owner, fence), what };
        let got = self.world.turn(key, |turn, _| request.apply(turn));
        let Some(grant) = self.model.hold_of(key, owner).map(|hold| hold.grant).filter(|_| right_fence)
        else {
            assert_eq!(got, Ok(Released::NotHeld));
            return;
        };
        self.confirm(grant);
        let hold = self.model.hold_of_mut(key, owner).unwrap();
        let known = entry.is_none_or(|entry| hold.entries.contains(&entry));
        if let Some(entry) = entry.filter(|_| known && hold.entries.len() > 1) {
            hold.entries.remove(&entry);
            assert_eq!(got, Ok(Released::StillHeld(self.fences[&grant])));
        } else if known {
            let now = self.now();
            self.model.end(key, End::Released, now, |hold| hold.owner == owner);
            assert_eq!(got, Ok(Released::Ended(self.fences[&grant])));
        } else if entry == Some(0) {
            assert_eq!(got, Err(LockError::Reentrant));
        } else {
            assert_eq!(got, Ok(Released::NotHeld));
        }
    }

    fn release_all(&mut self, keys: &BTreeSet<usize>, owner: usize, with_fence: bool) {
        let first = *keys.first().unwrap();
        let fence = self.world.fence_of(first, owner).filter(|_| with_fence);
        let order: Vec<usize> = keys.iter().copied().collect();
        let names = names(keys);
        let request = HeldAll { owner: OWNERS[owner], keys: &names, fence };
        let got = self.world.turns(&order, |turns, _| request.release(turns));
        let grant = self.model.hold_of(first, owner).map(|hold| hold.grant).filter(|_| fence.is_some());
        let mut held: Vec<usize> = order.clone();
        held.retain(|key| {
            let hold = self.model.hold_of(*key, owner);
            hold.is_some_and(|hold| grant.is_none_or(|grant| grant == hold.grant))
        });
        if fence.is_some() && held.len() < order.len() {
            held.clear();
        }
        for key in &held {
            self.confirm(self.model.hold_of(*key, owner).unwrap().grant);
        }
        held.retain(|key| self.model.hold_of(*key, owner).is_some_and(|hold| hold.entries.contains(&0)));
        for key in &held {
            let hold = self.model.hold_of_mut(*key, owner).unwrap();
            hold.entries.remove(&0);
            if hold.entries.is_empty() {
                let now = self.now();
                self.model.end(*key, End::Released, now, |hold| hold.owner == owner);
            }
        }
        assert_eq!(got, held.len() as i64, "released together");
    }

    fn convert(&mut self, key: usize, owner: usize, claim: Claim, wait: Option<Wait>) {
        let now = self.now();
        let policy = Policy::default();
        let request = Convert { holder: holder(key, owner, None), claim, wait };
        let got = self.world.turn(key, |turn, others| {
            let got = request.apply(turn)?;
            let (Converted::Busy, Some(wait)) = (got, wait) else { return Ok(Asked::AtOnce(got)) };
            request.check_wait(turn, &policy, others)?;
            assert!(request.enqueue(wait, turn).is_ok());
            Ok(Asked::Waits)
        });
        let got = got.unwrap_or_else(Asked::Refused);
        let Some(hold) = self.model.hold_of(key, owner).cloned() else {
            assert_eq!(got, Asked::AtOnce(Converted::NotHeld));
            return;
        };
        let fence = self.fences[&hold.grant];
        if hold.claim == claim {
            assert_eq!(got, Asked::AtOnce(Converted::Held(fence)));
            self.confirm(hold.grant);
            self.model.hold_of_mut(key, owner).unwrap().claim(now);
            return;
        }
        if hold.claim.limit != ALL {
            assert_eq!(got, Asked::Refused(LockError::NotConvertible));
            return;
        }
        self.confirm(hold.grant);
        self.model.hold_of_mut(key, owner).unwrap().claim(now);
        let lease = hold.lease;
        let deadline = wait.unwrap_or(Wait::block(0)).deadline(now);
        let keys = BTreeSet::from([key]);
        let (entry, span, upgrades) = (0, Span::default(), Some(hold.grant));
        let kind = Kind::Client;
        let waiter = Waiter { kind, owner, keys, claim, lease, deadline, entry, span, upgrades };
        if claim == Claim::SHARED {
            assert_eq!(got, Asked::AtOnce(Converted::Done(fence)), "down it goes at once");
            self.model.hold_of_mut(key, owner).unwrap().claim = claim;
        } else if self.model.holds[key].len() == 1 && self.model.cooling[key].is_empty() {
            let grant = self.model.grant(&waiter, now, false);
            let Asked::AtOnce(Converted::Done(new)) = got else { panic!("alone: {got:?}") };
            assert!(new > fence);
            self.fences.insert(grant, new);
        } else if wait.is_some() {
            self.wait(waiter, &got);
        } else {
            assert_eq!(got, Asked::AtOnce(Converted::Busy));
        }
    }

    fn set_limit(&mut self, key: usize, limit: u32) {
        let request = SetLimit { key: KEYS[key], limit };
        let got = self.world.turn(key, |turn, _| request.apply(turn));
        match self.model.limit_of(key) {
            None => assert_eq!(got, Ok(false)),
            Some(ALL) => assert!(matches!(got, Err(LockError::NoLimit { .. }))),
            Some(old) => {
                assert_eq!(got, Ok(true));
                self.model.holds[key].iter_mut().for_each(|hold| hold.claim.limit = limit);
                self.model.cooling[key].iter_mut().for_each(|cooling| cooling.claim.limit = limit);
                let agrees = |waiter: &Waiter| waiter.keys.contains(&key) && waiter.claim.limit == old;
                if old != limit {
                    let fits = |waiter: &Waiter| waiter.keys.len() == 1 && waiter.claim.permits <= limit;
                    self.model.waiters.retain(|waiter| !agrees(waiter) || fits(waiter));
                }
                let mine = self.model.waiters.iter_mut().filter(|waiter| agrees(waiter));
                mine.for_each(|waiter| waiter.claim.limit = limit);
            }
        }
    }

    fn grant_out_of_turn(&mut self, key: usize, owner: usize, claim: Claim, lease: Lease, fence: Fence) {
        let now = self.now();
        let waits = |waiter: &Waiter| waiter.owner == owner && waiter.keys.contains(&key);
        let waiting = self.model.waiters.iter().position(waits).map(|at| self.model.waiters.remove(at));
        let is_for_this =
            |waiter: &Waiter| waiter.keys.len() == 1 && waiter.upgrades.is_none() && waiter.claim == claim;
        let told = waiting.filter(is_for_this);
        let keys = BTreeSet::from([key]);
        let deadline = Moment::NEVER;
        let (entry, span) = told.as_ref().map_or((0, Span::default()), |waiter| (waiter.entry, waiter.span));
        let is_waiting = told.is_some_and(|waiter| waiter.kind == Kind::Client);
        let kind = Kind::Client;
        let waiter = Waiter { kind, owner, keys, claim, lease, deadline, entry, span, upgrades: None };
        let grant = self.model.grant(&waiter, now, is_waiting);
        self.fences.insert(grant, fence);
    }

    /// The hold has these bounds beside its own.
    fn bound(&mut self, key: usize, owner: usize, more: Bounds) {
        let hold = self.model.hold_of_mut(key, owner).unwrap();
        hold.bounds.cap = hold.bounds.cap.min(more.cap);
        hold.bounds.floor = hold.bounds.floor.max(more.floor);
        hold.deadline = hold.deadline.min(more.cap);
    }

    fn transfer(&mut self, key: usize, from: usize, to: usize, lease: Option<Lease>) {
        let policy = Policy::default();
        let request = Transfer { holder: holder(key, from, None), to: OWNERS[to], lease };
        let got = self.world.turn(key, |turn, others| request.apply(turn, &policy, others));
        let Some(hold) = self.model.hold_of(key, from).cloned() else {
            assert_eq!(got, Ok(None));
            return;
        };
        self.confirm(hold.grant);
        if from != to && self.model.hold_of(key, to).is_some() {
            assert_eq!(got, Err(LockError::HoldsAlready));
            return;
        }
        let was_clear = self.model.stuck().is_empty();
        let mut next = self.model.clone();
        next.holds[key].iter_mut().filter(|other| other.owner == from).for_each(|hold| hold.owner = to);
        next.waiters.retain(|waiter| waiter.owner != to || !waiter.keys.contains(&key));
        next.waiters.retain(|waiter| waiter.upgrades != Some(hold.grant));
        let is_stuck = next.stuck().iter().any(|waiter| waiter.owner == to);
        match got {
            Ok(Some(fence)) => {
                assert!(!(is_stuck && was_clear), "a deadlock was not seen");
                self.model.holds[key].retain(|hold| hold.owner != from);
                self.confirm(hold.grant);
                self.grant_out_of_turn(key, to, hold.claim, lease.unwrap_or(hold.lease), fence);
                self.bound(key, to, hold.bounds);
            }
            Err(LockError::Deadlock(cycle)) => assert!(is_stuck, "no false alarm: {cycle:?}"),
            got => panic!("it should change hands: {got:?}"),
        }
    }

    /// Its waits end, and so do grants that it has not heard of; its other holds have their grace.
    fn disconnect(&mut self, client: usize) {
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

    fn forget_waiter(&mut self, gone: &Waiter) {
        let key = *gone.keys.first().unwrap();
        let id = self.world.memory.waiters.waiter_of(0, KEYS[key], OWNERS[gone.owner]).unwrap();
        self.world.memory.waiters.remove(id);
    }

    fn vanish(&mut self, nth: usize) {
        let count = self.model.waiters.len();
        if count == 0 {
            return;
        }
        let gone = self.model.waiters.remove(nth % count);
        self.forget_waiter(&gone);
        gone.keys.iter().for_each(|key| self.world.settle(*key));
    }

    fn undo(&mut self, nth: usize) {
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
        for holds in &mut self.model.holds {
            match undo {
                Undo::End => holds.retain(|hold| hold.grant != grant),
                Undo::Downgrade { grant: old } => {
                    for hold in holds.iter_mut().filter(|hold| hold.grant == grant) {
                        (hold.grant, hold.claim, hold.provisional) = (old, Claim::SHARED, None);
                    }
                }
            }
        }
    }

    /// The key goes at once, and the host looks at the queue right after.
    fn delete(&mut self, key: usize) {
        self.model.holds[key].clear();
        self.model.cooling[key].clear();
        let (memory, replica_memory) = (&mut self.world.memory, &mut self.world.replica_memory);
        if let Some(mut lock) = self.world.keyspace.remove(&key) {
            lock.holds().iter().for_each(|hold| memory.forget(hold.fence));
            lock.each_mut(|hold| memory.unindex(0, KEYS[key], hold));
        }
        if let Some(mut lock) = self.world.replica.remove(&key) {
            lock.each_mut(|hold| replica_memory.unindex(0, KEYS[key], hold));
        }
        self.world.settle(key);
    }

    /// Core, model and replica agree, and the invariants hold.
    fn check(&mut self) {
        let World { keyspace, memory, replica, .. } = &self.world;
        assert!(memory.unsettled.is_empty(), "nothing is left undone");
        let (mut leased, mut tied) = (0, 0);
        for (key, expected) in self.model.holds.iter().enumerate() {
            let lock = keyspace.get(&key);
            let holds = lock.map_or(&[][..], Lock::holds);
            assert_eq!(holds.len(), expected.len(), "holds of {key}");
            for (hold, expected) in holds.iter().zip(expected) {
                let fence = *self.fences.entry(expected.grant).or_insert(hold.fence);
                assert_eq!(hold.fence, fence, "one fence for each grant");
                assert_eq!(seen(hold, memory, expected, &self.fences), *expected, "hold of {key}");
            }
            let queue = memory.waiters.iter(0, KEYS[key]).map(|(_, waiter)| waiter.ask.owner.as_bytes());
            let waiting = self.model.queue(key).map(|waiter| OWNERS[waiter.owner]);
            assert!(queue.eq(waiting), "queue of {key}");
            let Some(lock) = lock else {
                assert!(!replica.contains_key(&key), "the replica has a lock that is free");
                continue;
            };
            assert!(!lock.is_free(), "a free lock has no key");
            assert!(lock.limit() < ALL || lock.used() <= u64::from(ALL), "I1, I9: never beside a writer");
            assert_eq!(replica.get(&key).map(digest), Some(digest(lock)), "I14: the replica agrees");
            let cooling = lock.cooling();
            let all = lock.holds().iter().chain(cooling.iter().map(|cooling| &cooling.hold));
            for hold in all.filter(|hold| hold.deadline != Moment::NEVER) {
                leased += 1;
                assert!(memory.leases.has(0, hold), "I7: the lease index knows the hold");
            }
            tied += lock
                .holds()
                .iter()
                .filter_map(crate::primitive::Hold::tie)
                .filter(|tie| !tie.is_cut())
                .count();
            let seen = cooling.iter().map(|cooling| {
                (
                    cooling.hold.owner.as_bytes(),
                    cooling.hold.fence,
                    cooling.hold.claim,
                    cooling.hold.deadline,
                    cooling.why,
                )
            });
            let expected = self.model.cooling[key].iter().map(|cooling| {
                (
                    OWNERS[cooling.owner],
                    self.fences[&cooling.grant],
                    cooling.claim,
                    cooling.until,
                    cooling.why,
                )
            });
            assert!(seen.eq(expected), "what cools of {key}");
        }
        watch::check(&self.world, &self.model, &self.fences);
        let fences: BTreeSet<Fence> = self.fences.values().copied().collect();
        assert_eq!(fences.len(), self.fences.len(), "I3: no fence twice");
        assert_eq!(memory.leases.len(), leased, "nothing is left of holds that ended");
        assert_eq!(memory.ties.len(), tied, "nor of their ties");
        assert_eq!(memory.waiters.len(), self.model.waiters.len());
    }
}

/// What two servers agree on.
fn digest(lock: &Lock) -> Vec<String> {
    let part = |hold: &crate::primitive::Hold| {
        let crate::primitive::Hold { owner, fence, claim, lease, extra, .. } = hold;
        let extra = extra.as_ref().map(|extra| (&extra.note, extra.keys, &extra.entries));
        let tie = hold.tie().map(|tie| (tie.node, tie.client, tie.grace));
        let capped = hold.bounds().is_some_and(|bounds| bounds.cap != Moment::NEVER);
        let extra =
            extra.filter(|(note, keys, entries)| !note.is_empty() || *keys > 1 || !entries.is_plain());
        format!("{owner:?} {fence:?} {claim:?} {lease:?} {extra:?} {tie:?} {capped}")
    };
    let cooling = lock.cooling().iter().map(|cooling| (&cooling.hold, cooling.why));
    let cooling = cooling.map(|(hold, why)| format!("{} {why:?}", part(hold)));
    lock.holds().iter().map(part).chain(cooling).collect()
}

/// A hold of the core in the model's words.
fn seen(
    hold: &crate::primitive::Hold,
    memory: &memory::Memory,
    expected: &Hold,
    fences: &BTreeMap<usize, Fence>,
) -> Hold {
    let entries = (0..ENTRIES.len()).filter(|entry| hold.entries().has(ENTRIES[*entry])).collect();
    let undo = memory.provisional.get(&hold.fence).map(|undo| match undo {
        memory::Undo::End { .. } => Undo::End,
        memory::Undo::Downgrade(old) => {
            let grant = fences.iter().find(|(_, fence)| *fence == old).map(|(grant, _)| *grant);
            Undo::Downgrade { grant: grant.unwrap() }
        }
    });
    Hold {
        owner: OWNERS.iter().position(|owner| *owner == hold.owner.as_bytes()).unwrap(),
        grant: expected.grant,
        claim: hold.claim,
        lease: hold.lease,
        deadline: hold.deadline,
        keys: hold.keys() as usize,
        entries,
        bounds: hold.bounds().copied().unwrap_or_default(),
        is_wanted: hold.is_wanted(),
        unclaimed: hold.unclaimed(),
        provisional: undo,
    }
}
