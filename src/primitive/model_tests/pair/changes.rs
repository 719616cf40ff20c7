//! Requests about holds that are there: releases, other limits, other owners.

use super::*;

impl Pair {
    pub(super) fn release(&mut self, key: usize, owner: usize, right_fence: bool, entry: Option<usize>) {
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

    pub(super) fn release_all(&mut self, keys: &BTreeSet<usize>, owner: usize, with_fence: bool) {
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

    pub(super) fn set_limit(&mut self, key: usize, limit: u32) {
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

    pub(super) fn grant_out_of_turn(
        &mut self,
        key: usize,
        owner: usize,
        claim: Claim,
        lease: Lease,
        fence: Fence,
    ) {
        let now = self.now();
        let waits = |waiter: &Waiter| waiter.owner == owner && waiter.keys.contains(&key);
        let waiting = self.model.waiters.iter().position(waits).map(|at| self.model.waiters.remove(at));
        let is_for_this =
            |waiter: &Waiter| waiter.keys.len() == 1 && waiter.upgrades.is_none() && waiter.claim == claim;
        let told = waiting.filter(is_for_this);
        let keys = BTreeSet::from([key]);
        let deadline = Moment::NEVER;
        let (entry, span) = told.as_ref().map_or((0, Span::default()), |waiter| (waiter.entry, waiter.span));
        let is_waiting =
            told.as_ref().is_some_and(|waiter| waiter.kind == Kind::Client || waiter.attached.is_some());
        let kind = told.map_or(Kind::Client, |waiter| waiter.kind);
        let (attached, upgrades) = (None, None);
        let waiter = Waiter { kind, owner, keys, claim, lease, deadline, attached, entry, span, upgrades };
        let grant = self.model.grant(&waiter, now, is_waiting);
        self.fences.insert(grant, fence);
    }

    /// The hold has these bounds beside its own.
    pub(super) fn bound(&mut self, key: usize, owner: usize, more: Bounds) {
        let hold = self.model.hold_of_mut(key, owner).unwrap();
        hold.bounds.cap = hold.bounds.cap.min(more.cap);
        hold.bounds.floor = hold.bounds.floor.max(more.floor);
        hold.deadline = hold.deadline.min(more.cap);
    }

    pub(super) fn transfer(&mut self, key: usize, from: usize, to: usize, lease: Option<Lease>) {
        let policy = Policy::default();
        let request = Transfer { holder: holder(key, from, None), to: OWNERS[to], lease };
        let got = self.world.turn(key, |turn, others| request.apply(turn, &policy, others, &mut |_| true));
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
}
