//! Requests that may have to wait: locks that are asked for, one or several, and holds that are converted.

use super::*;

/// What the host does for BLOCK beside QUEUE: the client waits for the turn of the ticket, if there is one now.
fn attach(memory: &mut memory::Memory, key: usize, owner: &[u8], wait: Wait, now: Moment) {
    let ticket = memory.waiters.waiter_of(0, KEYS[key], owner);
    if let (Some(ticket), Some(until), Some(keep_ms)) = (ticket, wait.until(now), wait.keep_ms) {
        memory.attach(ticket, until, keep_ms);
    }
}

impl Pair {
    pub(super) fn acquire(&mut self, waiter: Waiter, wait: Option<Wait>) {
        let got = self.ask(&waiter, wait);
        let Waiter { owner, claim, lease, entry, ref keys, .. } = waiter;
        let now = self.now();
        let mine: Vec<Hold> =
            keys.iter().filter_map(|key| self.model.hold_of(*key, owner).cloned()).collect();
        if let Some(first) = mine.first() {
            let is_group = mine.len() == keys.len()
                && mine.iter().all(|hold| hold.grant == first.grant)
                && (first.keys == keys.len() || !is_for_group(&waiter));
            let includes = first.claim == Claim::EXCLUSIVE
                && claim == Claim::SHARED
                && !is_for_group(&waiter)
                && waiter.entry != 0;
            if !is_group || mine.iter().any(|hold| hold.claim != claim && !includes) {
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
            Some(wait) if wait.kind() == Kind::Client => self.wait(waiter, &got),
            Some(_) => self.queue(waiter, got),
        }
    }

    /// The model's side of a request for a ticket: the one that is there is kept, or there is a new one.
    pub(super) fn queue(&mut self, mut waiter: Waiter, got: Asked<Acquired>) {
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
    pub(super) fn ask(&mut self, waiter: &Waiter, wait: Option<Wait>) -> Asked<Acquired> {
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
                if wait.kind() == Kind::Ticket {
                    let got = request.queue(name, wait, turn, &policy, others)?;
                    attach(turn.memory, *key, name, wait, turn.clock.now);
                    return Ok(Asked::AtOnce(got));
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
                if wait.kind() == Kind::Ticket {
                    let got = request.queue(name, wait, turns, &policy, others)?;
                    attach(turns.memory, order[0], name, wait, turns.clock.now);
                    return Ok(Asked::AtOnce(got));
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
    pub(super) fn wait<T: std::fmt::Debug>(&mut self, waiter: Waiter, got: &Asked<T>) {
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

    pub(super) fn convert(&mut self, key: usize, owner: usize, claim: Claim, wait: Option<Wait>, by: By) {
        let now = self.now();
        let policy = Policy::default();
        let named_fence = self.named(key, owner, by);
        let request = Convert { holder: holder(key, owner, named_fence), claim, wait, notify: None };
        let got = self.world.turn(key, |turn, others| {
            let got = request.apply(turn)?;
            let (Converted::Busy, Some(wait)) = (got, wait) else { return Ok(Asked::AtOnce(got)) };
            if wait.kind() == Kind::Ticket {
                assert_eq!(request.queue(wait, turn, &policy, others)?, Converted::Queued);
                attach(turn.memory, key, OWNERS[owner], wait, turn.clock.now);
            } else {
                request.check_wait(wait, turn, &policy, others)?;
                assert!(request.enqueue(wait, turn).is_ok());
            }
            Ok(Asked::Waits)
        });
        let got = got.unwrap_or_else(Asked::Refused);
        let Some(hold) = self.model.hold_of(key, owner).cloned() else {
            assert_eq!(got, Asked::AtOnce(Converted::NotHeld));
            return;
        };
        let fence = self.fences[&hold.grant];
        let named = named_fence.map(|fence| self.grant_of(fence));
        let is_again = named.flatten().is_some_and(|named| {
            let upgraded = self.model.upgraded.get(&(key, owner, named)) == Some(&hold.grant);
            upgraded && (hold.claim, claim) == (Claim::EXCLUSIVE, Claim::EXCLUSIVE)
        });
        if !is_again && named.is_some_and(|named| named != Some(hold.grant)) {
            assert_eq!(got, Asked::AtOnce(Converted::NotHeld));
            return;
        }
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
        let (kind, deadline, attached) = place(wait, now);
        let keys = BTreeSet::from([key]);
        let (entry, span, upgrades) = (0, Span::default(), Some(hold.grant));
        let waiter = Waiter { kind, owner, keys, claim, lease, deadline, attached, entry, span, upgrades };
        if claim == Claim::SHARED {
            assert_eq!(got, Asked::AtOnce(Converted::Done(fence)), "down it goes at once");
            self.model.hold_of_mut(key, owner).unwrap().claim = claim;
        } else if self.model.holds[key].len() == 1 && self.model.cooling[key].is_empty() {
            let grant = self.model.grant(&waiter, now, false);
            let Asked::AtOnce(Converted::Done(new)) = got else { panic!("alone: {got:?}") };
            assert!(new > fence);
            self.fences.insert(grant, new);
            if named.is_some() {
                self.model.upgraded.insert((key, owner, hold.grant), grant);
            }
        } else if wait.is_some() {
            self.wait(waiter, &got);
        } else {
            assert_eq!(got, Asked::AtOnce(Converted::Busy));
        }
    }
}
