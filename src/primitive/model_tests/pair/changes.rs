//! Requests about holds that are there: releases, other limits, other owners.

use super::*;

impl Pair {
    pub(super) fn release(
        &mut self,
        key: usize,
        owner: usize,
        by: By,
        entry: Option<usize>,
        cancels: bool,
        after: Option<Lease>,
    ) {
        let fence = self.named(key, owner, by);
        let what = entry.map_or(What::All, |entry| What::Entry(ENTRIES[entry]));
        let request = Release { holder: holder(key, owner, fence), what, after, cancels };
        let is_plain = what == What::Entry(b"") && after.is_none() && !cancels;
        let plainly = is_plain.then(|| self.world.release_plainly(key, OWNERS[owner], fence)).flatten();
        let got = match plainly {
            Some(fence) => Ok(Released::Ended(fence)),
            None => self.world.step(key, |step, _| request.apply(step)),
        };
        let named = fence.map(|fence| self.grant_of(fence));
        let held = self.model.hold_of(key, owner).map(|hold| hold.grant);
        let meant = held.filter(|grant| named.is_none_or(|named| named == Some(*grant)));
        if let (Some(grant), Some(0)) = (meant, entry) {
            let had_left = fence.is_some() && self.model.left.contains(&(key, owner, grant, 0));
            if !had_left && !self.model.hold_of(key, owner).unwrap().entries.contains(&0) {
                assert_eq!(got, Err(LockError::Reentrant));
                return;
            }
        }
        let cancelled = cancels && self.model.cancel(key, owner);
        let nothing = if cancelled { Released::Cancelled } else { Released::NotHeld };
        let Some(grant) = meant else {
            let before = named.flatten().is_some_and(|grant| self.was_released(key, owner, grant));
            match got {
                Ok(Released::Before(ended)) => assert!(before && Some(ended.fence) == fence),
                got => assert!(!before && got == Ok(nothing), "{got:?}"),
            }
            return;
        };
        self.confirm(grant);
        let was_left = entry.is_some_and(|entry| self.model.left.contains(&(key, owner, grant, entry)));
        let hold = self.model.hold_of_mut(key, owner).unwrap();
        let known = entry.is_none_or(|entry| hold.entries.contains(&entry));
        if let Some(entry) = entry.filter(|_| known && hold.entries.len() > 1) {
            hold.entries.remove(&entry);
            assert_eq!(got, Ok(Released::StillHeld(self.fences[&grant])));
            if fence.is_some() {
                self.model.left.insert((key, owner, grant, entry));
            }
        } else if known {
            let now = self.now();
            let hold = self.model.hold_of_mut(key, owner).unwrap();
            after
                .into_iter()
                .for_each(|rest| hold.bounds.min_end = hold.bounds.min_end.max(rest.deadline(now)));
            self.model.end(key, HoldEnd::Released, now, |hold| hold.owner == owner);
            assert_eq!(got, Ok(Released::Ended(self.fences[&grant])));
            if fence.is_some() {
                self.model.ended.insert((key, owner, grant), HoldEnd::Released);
            }
        } else if fence.is_some() && was_left {
            assert_eq!(got, Ok(Released::StillHeld(self.fences[&grant])), "as before");
        } else {
            assert_eq!(got, Ok(nothing));
        }
    }

    pub(super) fn give_back(&mut self, key: usize, owner: usize, permits: u32) {
        let (what, after, cancels) = (What::Permits(permits), None, false);
        let request = Release { holder: holder(key, owner, None), what, after, cancels };
        let got = self.world.step(key, |step, _| request.apply(step));
        let Some(hold) = self.model.hold_of(key, owner).cloned() else {
            assert_eq!(got, Ok(Released::NotHeld));
            return;
        };
        let has = hold.permits.count;
        if hold.permits.limit == ALL {
            assert_eq!(got, Err(LockError::NoPart { is: hold.permits.mode() }));
        } else if permits > has {
            assert_eq!(got, Err(LockError::Number { what: "PERMITS", min: 1, max: i64::from(has) }));
        } else if permits < has {
            assert_eq!(got, Ok(Released::StillHeld(self.fences[&hold.grant])));
            self.confirm(hold.grant);
            let now = self.now();
            let hold = self.model.hold_of_mut(key, owner).unwrap();
            hold.claim(now);
            hold.permits.count -= permits;
        } else if !hold.entries.contains(&0) {
            assert_eq!(got, Err(LockError::Reentrant));
        } else if hold.entries.len() > 1 {
            assert_eq!(got, Ok(Released::StillHeld(self.fences[&hold.grant])));
            self.confirm(hold.grant);
            self.model.hold_of_mut(key, owner).unwrap().entries.remove(&0);
        } else {
            assert_eq!(got, Ok(Released::Ended(self.fences[&hold.grant])));
            self.confirm(hold.grant);
            let now = self.now();
            self.model.end(key, HoldEnd::Released, now, |hold| hold.owner == owner);
        }
    }

    pub(super) fn release_all(&mut self, keys: &BTreeSet<usize>, owner: usize, by: By, cancels: bool) {
        let fence = self.named(*keys.first().unwrap(), owner, by);
        let order: Vec<usize> = keys.iter().copied().collect();
        let names = names(keys);
        let request =
            HeldAll { owner: OWNERS[owner], keys: &names, fence, permits: Permits::EXCLUSIVE, cancels };
        let got = self.world.group(&order, |group, _| request.release(group));
        for key in order.iter().filter(|_| cancels) {
            self.model.cancel(*key, owner);
        }
        let named = fence.map(|fence| self.grant_of(fence));
        let is_done = |key: &usize| {
            let Some(grant) = named.flatten() else { return false };
            match self.model.hold_of(*key, owner).filter(|hold| hold.grant == grant) {
                Some(hold) => {
                    !hold.entries.contains(&0) && self.model.left.contains(&(*key, owner, grant, 0))
                }
                None => self.was_released(*key, owner, grant),
            }
        };
        if order.iter().all(is_done) {
            named.flatten().into_iter().for_each(|grant| self.confirm(grant));
            assert_eq!(got, Ok(order.len() as i64), "as before");
            return;
        }
        let mut held: Vec<usize> = order.clone();
        held.retain(|key| {
            let hold = self.model.hold_of(*key, owner);
            hold.is_some_and(|hold| named.is_none_or(|named| named == Some(hold.grant)))
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
            let (grant, is_over) = (hold.grant, hold.entries.is_empty());
            if is_over {
                let now = self.now();
                self.model.end(*key, HoldEnd::Released, now, |hold| hold.owner == owner);
            }
            if fence.is_some() && is_over {
                self.model.ended.insert((*key, owner, grant), HoldEnd::Released);
            } else if fence.is_some() {
                self.model.left.insert((*key, owner, grant, 0));
            }
        }
        assert_eq!(got, Ok(held.len() as i64), "released together");
    }

    pub(super) fn set_limit(&mut self, key: usize, limit: u32) {
        let request = SetLimit { key: KEYS[key], limit };
        let got = self.world.step(key, |step, _| request.apply(step));
        match self.model.limit_of(key) {
            None => assert_eq!(got, Ok(false)),
            Some(ALL) => assert!(matches!(got, Err(LockError::NoLimit { .. }))),
            Some(old) => {
                assert_eq!(got, Ok(true));
                self.model.holds[key].iter_mut().for_each(|hold| hold.permits.limit = limit);
                self.model.cooldown[key].iter_mut().for_each(|cooldown| cooldown.permits.limit = limit);
                let agrees = |waiter: &Waiter| waiter.keys.contains(&key) && waiter.permits.limit == old;
                if old != limit {
                    let fits = |waiter: &Waiter| waiter.keys.len() == 1 && waiter.permits.count <= limit;
                    self.model.waiters.retain(|waiter| !agrees(waiter) || fits(waiter));
                }
                let mine = self.model.waiters.iter_mut().filter(|waiter| agrees(waiter));
                mine.for_each(|waiter| waiter.permits.limit = limit);
            }
        }
    }

    pub(super) fn grant_ahead_of_queue(
        &mut self,
        key: usize,
        owner: usize,
        permits: Permits,
        lease: Lease,
        fence: Fence,
    ) {
        let now = self.now();
        let waits = |waiter: &Waiter| waiter.owner == owner && waiter.keys.contains(&key);
        let waiting = self.model.waiters.iter().position(waits).map(|at| self.model.waiters.remove(at));
        let is_for_this = |waiter: &Waiter| {
            waiter.keys.len() == 1 && waiter.upgrades.is_none() && waiter.permits == permits
        };
        let told = waiting.filter(is_for_this);
        let keys = BTreeSet::from([key]);
        let deadline = Moment::NEVER;
        let (entry, span) = told.as_ref().map_or((0, Span::default()), |waiter| (waiter.entry, waiter.span));
        let is_waiting = told
            .as_ref()
            .is_some_and(|waiter| waiter.kind == WaiterKind::Client || waiter.attached.is_some());
        let kind = told.map_or(WaiterKind::Client, |waiter| waiter.kind);
        let (attached, upgrades) = (None, None);
        let waiter = Waiter { kind, owner, keys, permits, lease, deadline, attached, entry, span, upgrades };
        let grant = self.model.grant(&waiter, now, is_waiting);
        self.fences.insert(grant, fence);
    }

    /// The hold has these bounds beside its own.
    pub(super) fn bound(&mut self, key: usize, owner: usize, more: Bounds) {
        let hold = self.model.hold_of_mut(key, owner).unwrap();
        hold.bounds.cap = hold.bounds.cap.min(more.cap);
        hold.bounds.min_end = hold.bounds.min_end.max(more.min_end);
        hold.deadline = hold.deadline.min(more.cap);
    }

    pub(super) fn transfer(&mut self, key: usize, from: usize, to: usize, lease: Option<Lease>, by: By) {
        let policy = Policy::default();
        let fence = self.named(key, from, by);
        let request = Transfer { holder: holder(key, from, fence), to: OWNERS[to], lease };
        let got = self.world.step(key, |step, others| request.apply(step, &policy, others, &mut |_| true));
        let named = fence.map(|fence| self.grant_of(fence));
        let held = self.model.hold_of(key, from).cloned();
        let Some(hold) = held.filter(|hold| named.is_none_or(|named| named == Some(hold.grant))) else {
            let before = named.flatten().and_then(|grant| self.model.handed.get(&(key, from, grant, to)));
            assert_eq!(got, Ok(before.map(|grant| self.fences[grant])));
            return;
        };
        self.confirm(hold.grant);
        if from != to && self.model.hold_of(key, to).is_some() {
            assert_eq!(got, Err(LockError::HoldsAlready));
            return;
        }
        let was_clear = self.model.stuck(db_of(key)).is_empty();
        let mut next = self.model.clone();
        next.holds[key].iter_mut().filter(|other| other.owner == from).for_each(|hold| hold.owner = to);
        next.waiters.retain(|waiter| waiter.owner != to || !waiter.keys.contains(&key));
        next.waiters.retain(|waiter| waiter.upgrades != Some(hold.grant));
        let is_stuck = next.stuck(db_of(key)).iter().any(|waiter| waiter.owner == to);
        match got {
            Ok(Some(fence)) => {
                assert!(!(is_stuck && was_clear), "a deadlock was not seen");
                let now = self.now();
                self.model.end(key, HoldEnd::Transferred, now, |hold| hold.owner == from);
                self.confirm(hold.grant);
                self.grant_ahead_of_queue(key, to, hold.permits, lease.unwrap_or(hold.lease), fence);
                if named.is_some() {
                    let new = self.model.hold_of(key, to).unwrap().grant;
                    self.model.handed.insert((key, from, hold.grant, to), new);
                }
                self.bound(key, to, hold.bounds);
            }
            Err(LockError::Deadlock(cycle)) => assert!(is_stuck, "no false alarm: {cycle:?}"),
            got => panic!("it should change hands: {got:?}"),
        }
    }
}
