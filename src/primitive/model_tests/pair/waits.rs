//! Requests that may have to wait: locks that are asked for, one or several, and holds that are converted.

use super::*;
use crate::primitive::deadlock::HoldSource;
use crate::primitive::Locks;

/// Does as the host does for BLOCK beside QUEUE: the client waits for the turn of the ticket, if there is one now.
fn attach<'k>(locks: &mut impl Locks<'k>, owner: &[u8], wait: Wait) {
    let (db, key, now) = (locks.db(), locks.keys()[0], locks.clock().now);
    let manager = locks.manager();
    let ticket = manager.waiters.waiter_of(db, key, owner);
    if let (Some(ticket), Some(until), Some(keep_ms)) = (ticket, wait.until(now), wait.keep_ms) {
        manager.attach(ticket, until, keep_ms);
    }
}

/// Does as the host does with a request for locks.
fn take<'k>(
    request: &Acquire,
    locks: &mut impl Locks<'k>,
    others: &mut dyn HoldSource,
) -> Result<Answered<Acquired>, LockError> {
    let (owner, policy) = (request.owner.unwrap(), Policy::default());
    let got = request.apply(owner, locks, &policy)?;
    let (Acquired::Busy, Some(wait)) = (got, request.terms.wait) else { return Ok(Answered::AtOnce(got)) };
    if wait.kind() == WaiterKind::Ticket {
        let got = request.queue(owner, wait, locks, &policy, others)?;
        attach(locks, owner, wait);
        return Ok(Answered::AtOnce(got));
    }
    request.check_wait(owner, wait, locks, &policy, others)?;
    let id = locks.manager().waiters.next_id();
    assert_eq!(request.enqueue(owner, wait, locks, &policy), Ok(id));
    Ok(Answered::Waits)
}

impl Pair {
    pub(super) fn acquire(&mut self, waiter: Waiter, wait: Option<Wait>) {
        let got = self.ask(&waiter, wait);
        let Waiter { owner, permits, lease, entry, ref keys, .. } = waiter;
        let now = self.now();
        let mine: Vec<Hold> =
            keys.iter().filter_map(|key| self.model.hold_of(*key, owner).cloned()).collect();
        if let Some(first) = mine.first() {
            let is_group = mine.len() == keys.len()
                && mine.iter().all(|hold| hold.grant == first.grant)
                && (first.keys == keys.len() || keys.len() == 1);
            let includes =
                first.permits == Permits::EXCLUSIVE && permits == Permits::SHARED && waiter.entry != 0;
            if !is_group || mine.iter().any(|hold| hold.permits != permits && !includes) {
                assert!(matches!(got, Answered::Refused(_)), "other holds: {got:?}");
                return;
            }
            let fence = self.fences[&first.grant];
            let told = if first.is_unclaimed { Acquired::Granted(fence) } else { Acquired::Held(fence) };
            assert_eq!(got, Answered::AtOnce(told), "the same fence again");
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
        if limits.iter().any(|limit| *limit != permits.limit) {
            assert!(matches!(got, Answered::Refused(_)), "another kind of lock: {got:?}");
            return;
        }
        if keys.iter().all(|key| self.model.queue(*key).next().is_none() && self.model.fits(*key, permits)) {
            self.model.grant(&waiter, now, false);
            assert!(matches!(got, Answered::AtOnce(Acquired::Granted(_))), "free: {got:?}");
            return;
        }
        match wait {
            None => assert_eq!(got, Answered::AtOnce(Acquired::Busy)),
            Some(wait) if wait.kind() == WaiterKind::Client => self.wait(waiter, &got),
            Some(_) => self.queue(waiter, got),
        }
    }

    /// The model's side of a request for a ticket: the one that is there is kept, or there is a new one.
    pub(super) fn queue(&mut self, mut waiter: Waiter, got: Answered<Acquired>) {
        let Waiter { owner, permits, lease, .. } = waiter;
        let (keys, tie, now) = (waiter.keys.clone(), waiter.span.tie.take(), self.now());
        let is_same = |other: &&mut Waiter| {
            (other.kind, other.owner, other.permits) == (WaiterKind::Ticket, owner, permits)
                && other.keys == keys
                && other.upgrades == waiter.upgrades
        };
        if let Some(same) = self.model.waiters.iter_mut().find(is_same) {
            assert_eq!(got, Answered::AtOnce(Acquired::Queued), "a ticket stays where it is");
            *same = waiter;
            return;
        }
        let is_granted = matches!(got, Answered::AtOnce(Acquired::Granted(_)));
        let got = match got {
            Answered::AtOnce(Acquired::Queued | Acquired::Granted(_)) => Answered::Waits,
            got => got,
        };
        self.wait(waiter, &got);
        if is_granted {
            // In the place of an earlier wait for more it had its turn at once.
            self.model.expire_and_grant(now);
            for key in keys {
                let hold = self.model.hold_of_mut(key, owner).unwrap();
                assert!(hold.is_unclaimed);
                hold.claim(now);
                tie.into_iter().for_each(|tie| hold.tie(tie));
                hold.raise(lease, now);
            }
        }
    }

    /// Sends the request to the core as a client would.
    pub(super) fn ask(&mut self, waiter: &Waiter, wait: Option<Wait>) -> Answered<Acquired> {
        let Waiter { owner, permits, lease, entry, span, ref keys, .. } = *waiter;
        let (name, policy) = (OWNERS[owner], Policy::default());
        let entry = ENTRIES[entry];
        let terms = Terms { lease: Some(lease), wait, entry, span, ..plain_terms(permits) };
        let order: Vec<usize> = keys.iter().copied().collect();
        let names = names(keys);
        let request = Acquire { keys: &names, owner: Some(name), terms };
        let result = if let ([key], false) = (order.as_slice(), is_for_group(waiter)) {
            let plain_lease = request.plain_lease(&policy);
            if let Some(fence) = plain_lease.and_then(|lease| self.world.grant_plainly(*key, name, lease)) {
                return Answered::AtOnce(Acquired::Granted(fence));
            }
            if plain_lease.is_some() && wait.is_none() && self.world.is_refused_plainly(*key, name) {
                return Answered::AtOnce(Acquired::Busy);
            }
            self.world.step(*key, |step, others| take(&request, step, others))
        } else {
            self.world.group(&order, |group, others| take(&request, group, others))
        };
        result.unwrap_or_else(Answered::Refused)
    }

    /// The model's side of a request that has to wait: in line, or refused if the wait would never end.
    pub(super) fn wait<T: std::fmt::Debug>(&mut self, waiter: Waiter, got: &Answered<T>) {
        let was_clear = self.model.stuck(waiter.db()).is_empty();
        let is_stuck = self.model.would_be_stuck(&waiter);
        match got {
            Answered::Refused(LockError::Deadlock(cycle)) => {
                assert!(is_stuck, "no false alarm: {cycle:?}");
                assert_eq!(cycle.first().map(|link| link.owner.as_bytes()), Some(OWNERS[waiter.owner]));
                let links: BTreeSet<_> = cycle.iter().map(|link| link.owner.as_bytes()).collect();
                assert_eq!(links.len(), cycle.len(), "each owner once: {cycle:?}");
            }
            Answered::Waits => {
                assert!(!(is_stuck && was_clear), "a deadlock was not seen");
                self.model.enqueue(waiter);
            }
            got => panic!("it should wait: {got:?}"),
        }
    }

    pub(super) fn convert(&mut self, key: usize, owner: usize, permits: Permits, wait: Option<Wait>, by: By) {
        let now = self.now();
        let policy = Policy::default();
        let named_fence = self.named(key, owner, by);
        let request = Convert { holder: holder(key, owner, named_fence), permits, wait, notify: None };
        let got = self.world.step(key, |step, others| {
            let got = request.apply(step)?;
            let (Converted::Busy, Some(wait)) = (got, wait) else { return Ok(Answered::AtOnce(got)) };
            if wait.kind() == WaiterKind::Ticket {
                assert_eq!(request.queue(wait, step, &policy, others)?, Converted::Queued);
                attach(step, OWNERS[owner], wait);
            } else {
                request.check_wait(wait, step, &policy, others)?;
                assert!(request.enqueue(wait, step).is_ok());
            }
            Ok(Answered::Waits)
        });
        let got = got.unwrap_or_else(Answered::Refused);
        let Some(hold) = self.model.hold_of(key, owner).cloned() else {
            assert_eq!(got, Answered::AtOnce(Converted::NotHeld));
            return;
        };
        let fence = self.fences[&hold.grant];
        let named = named_fence.map(|fence| self.grant_of(fence));
        let is_again = named.flatten().is_some_and(|named| {
            let upgraded = self.model.upgraded.get(&(key, owner, named)) == Some(&hold.grant);
            upgraded && (hold.permits, permits) == (Permits::EXCLUSIVE, Permits::EXCLUSIVE)
        });
        if !is_again && named.is_some_and(|named| named != Some(hold.grant)) {
            assert_eq!(got, Answered::AtOnce(Converted::NotHeld));
            return;
        }
        if hold.permits == permits {
            assert_eq!(got, Answered::AtOnce(Converted::Held(fence)));
            self.confirm(hold.grant);
            self.model.hold_of_mut(key, owner).unwrap().claim(now);
            return;
        }
        if hold.permits.limit != ALL {
            assert_eq!(got, Answered::Refused(LockError::NotConvertible));
            return;
        }
        self.confirm(hold.grant);
        self.model.hold_of_mut(key, owner).unwrap().claim(now);
        let lease = hold.lease;
        let (kind, deadline, attached) = place(wait, now);
        let keys = BTreeSet::from([key]);
        let (entry, span, upgrades) = (0, Span::default(), Some(hold.grant));
        let waiter = Waiter { kind, owner, keys, permits, lease, deadline, attached, entry, span, upgrades };
        if permits == Permits::SHARED {
            assert_eq!(got, Answered::AtOnce(Converted::Done(fence)), "down it goes at once");
            self.model.hold_of_mut(key, owner).unwrap().permits = permits;
        } else if self.model.holds[key].len() == 1 && self.model.cooldown[key].is_empty() {
            let grant = self.model.grant(&waiter, now, false);
            let Answered::AtOnce(Converted::Done(new)) = got else { panic!("alone: {got:?}") };
            assert!(new > fence);
            self.fences.insert(grant, new);
            if named.is_some() {
                self.model.upgraded.insert((key, owner, hold.grant), grant);
            }
        } else if wait.is_some() {
            self.wait(waiter, &got);
        } else {
            assert_eq!(got, Answered::AtOnce(Converted::Busy));
        }
    }
}
