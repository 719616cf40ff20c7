//! The plain way: a mutex that is taken for a lease, or given back, while nobody but its owner is concerned. Most requests are
//! such, and of all that a [`Step`](super::Step) looks at and does a few moves are left then. A property test holds the two
//! ways equal, and where this one cannot be gone nothing is changed.

use super::hold::Mark;
use super::ledger::{Deed, Done, Named};
use super::{Clock, Fence, Hold, Lease, Lock, LockManager, Owner, Permits};

/// Who asks for which lock, and when.
#[derive(Clone, Copy)]
pub struct Plain<'a> {
    pub clock: Clock,
    pub db: i32,
    pub key: &'a [u8],
    pub owner: &'a [u8],
}

impl Plain<'_> {
    /// Grants a lock that nobody has, with nothing asked for but a lease. Returns `None` if that takes a step.
    pub fn grant(self, manager: &mut LockManager, lease: Lease) -> Option<(Lock, Fence)> {
        if !self.is_alone(manager) {
            return None;
        }
        let owner = Owner::new(self.owner)?;
        let fence = manager.fences.next(self.clock.unix_us);
        let deadline = lease.deadline(self.clock.now);
        let (extra, permits, mark) = (None, Permits::EXCLUSIVE, Mark::NONE);
        let mut hold = Hold { owner, fence, lease, deadline, extra, permits, mark };
        manager.index(self.db, self.key, &mut hold);
        manager.stats.granted.up();
        Some((Lock::held(hold), fence))
    }

    /// Ends the hold of its owner, who may have named it by the fence. Returns whether the lock is free by this; if not, that
    /// takes a step.
    pub fn release(self, manager: &mut LockManager, lock: &Lock, named: Option<Fence>) -> bool {
        let Some(hold) = lock.only_hold().filter(|_| self.is_alone(manager)) else { return false };
        let is_meant = hold.owner.as_bytes() == self.owner && named.is_none_or(|named| named == hold.fence);
        let is_plain = hold.extra.is_none() && hold.permits == Permits::EXCLUSIVE;
        if !is_meant || !is_plain || !hold.is_live(self.clock.now) {
            return false;
        }
        manager.leases.remove(self.db, hold);
        manager.history.record_hold(hold.fence, self.clock);
        manager.stats.released.up();
        let (of, at) = (Named { db: self.db, key: self.key, owner: self.owner }, self.clock.now);
        manager.ledger.supersede(of, hold.fence, at);
        if let Some(fence) = named {
            manager.ledger.remember(of, fence, Deed::Release, Done { fence, at });
            manager.fit_ledger();
        }
        true
    }

    /// Whether nobody waits or watches, no grant may have to be taken back, nothing is left to be done, and locks are given.
    #[inline]
    fn is_alone(self, manager: &LockManager) -> bool {
        !manager.waiters.may_want(self.key)
            && manager.observers.is_empty()
            && manager.provisional.is_empty()
            && manager.is_settled()
            && !manager.recovery.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::condition::Condition;
    use crate::primitive::manager::Rollback;
    use crate::primitive::recovery::Length;
    use crate::primitive::wait_queue::Position;
    use crate::primitive::waiter::{AcquireRequest, Waiter, WaiterKind};
    use crate::primitive::{Moment, WaiterId};

    const CLOCK: Clock = Clock { now: Moment(5_000), unix_us: 1_700_000_000_000_000 };
    const A: Plain = Plain { clock: CLOCK, db: 0, key: b"k", owner: b"a" };

    fn lease() -> Lease {
        Lease::ms(7)
    }

    fn waiter() -> Waiter {
        let owner = Owner::new(b"b").unwrap();
        let request =
            AcquireRequest { owner, permits: Permits::EXCLUSIVE, lease: lease(), extra: None, span: None };
        let (kind, since, deadline) = (WaiterKind::Ticket, CLOCK.now, Moment(9_000_000));
        Waiter { kind, request, since, deadline, told: None, user: None, upgrades: None }
    }

    /// What lets somebody else than the owner be concerned, with the lock at hand or at all.
    fn concerns() -> Vec<(&'static str, fn(&mut LockManager))> {
        vec![
            ("somebody waits for the lock", |manager| {
                manager.waiters.insert(0, &[b"k"], Position::HEAD, waiter());
            }),
            ("somebody watches", |manager| {
                manager.observers.insert(WaiterId(1), 0, b"l", Condition::Free, Moment::NEVER);
            }),
            ("a grant may have to be taken back", |manager| {
                manager.provisional.insert(Fence::MIN, Rollback::EndHold { left: 1 });
            }),
            ("something is left to be done", |manager| manager.recheck(0, b"l")),
            ("nothing is granted for now", |manager| {
                manager.recovery.open(Length::Fixed(lease()), 0, CLOCK, 0);
            }),
        ]
    }

    #[test]
    fn is_gone_where_nobody_else_is_concerned() {
        let manager = &mut LockManager::default();
        manager.waiters.insert(0, &[b"another lock"], Position::HEAD, waiter());
        let (lock, fence) = A.grant(manager, lease()).unwrap();
        assert_eq!((lock.only_hold().unwrap().fence, manager.leases.len()), (fence, 1));
        assert!(!Plain { owner: b"b", ..A }.release(manager, &lock, None), "it has not got it");
        assert!(!A.release(manager, &lock, Some(Fence::MIN)), "that is another hold");
        let over = Clock { now: Moment(12_000), ..CLOCK };
        assert!(!Plain { clock: over, ..A }.release(manager, &lock, None), "it is over");
        assert!(A.release(manager, &lock, Some(fence)));
        assert_eq!((manager.leases.len(), manager.stats.released.get()), (0, 1));
    }

    #[test]
    fn is_not_gone_where_somebody_is() {
        for (what, concern) in concerns() {
            let manager = &mut LockManager::default();
            let (lock, _) = A.grant(manager, lease()).unwrap();
            concern(manager);
            assert!(!A.release(manager, &lock, None), "{what}");
            assert!(A.grant(manager, lease()).is_none(), "{what}");
            assert_eq!(
                (manager.leases.len(), manager.stats.granted.get()),
                (1, 1),
                "nothing has changed: {what}"
            );
        }
    }
}
