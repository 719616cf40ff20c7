//! The plain way: a mutex that is taken for a lease, tried in vain, or given back, while nobody else is concerned. Most requests are
//! such, and of all that a [`Step`](super::Step) looks at and does a few moves are left then. A property test holds the two
//! ways equal, and where this one cannot be gone nothing is changed.

use super::hold::Mark;
use super::ledger::{Deed, Done, Named};
use super::{Clock, Fence, Hold, Lease, Lock, LockManager, Owner, Permits};

/// A plain request: its time, its lock and its owner. Only for where the way is [open](is_open).
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a> {
    pub(crate) clock: Clock,
    pub(crate) db: i32,
    pub(crate) key: &'a [u8],
    pub(crate) owner: &'a [u8],
}

/// Whether it can be gone with this lock: nobody waits for it, nobody watches, no grant may have to be taken back, nothing is left
/// to be done, and locks are given. Apart, so that it keeps nothing of its callers while it looks.
#[inline(never)]
pub(crate) fn is_open(manager: &LockManager, key: &[u8]) -> bool {
    !manager.waiters.may_want(key)
        && manager.observers.is_empty()
        && manager.provisional.is_empty()
        && manager.is_settled()
        && !manager.recovery.is_open()
}

impl Plain<'_> {
    /// Grants a lock that nobody has, with nothing asked for but a lease. Returns `None` if the owner has no name.
    pub(crate) fn grant(self, manager: &mut LockManager, lease: Lease) -> Option<(Lock, Fence)> {
        let owner = Owner::new(self.owner)?;
        let fence = manager.fences.next(self.clock.unix_us);
        let deadline = lease.deadline(self.clock.now);
        let (extra, permits, mark) = (None, Permits::EXCLUSIVE, Mark::NONE);
        let mut hold = Hold { owner, fence, lease, deadline, extra, permits, mark };
        manager.index(self.db, self.key, &mut hold);
        manager.stats.granted.up();
        Some((Lock::held(hold), fence))
    }

    /// Whether somebody else has the lock, which is all that a try comes to then.
    pub(crate) fn is_refused(self, lock: &Lock) -> bool {
        lock.plain_hold()
            .is_some_and(|hold| hold.owner.as_bytes() != self.owner && hold.is_live(self.clock.now))
    }

    /// Ends the hold of its owner, who may have named it by the fence; its fence. Returns `None` if that takes a step.
    pub(crate) fn release(
        self,
        manager: &mut LockManager,
        lock: &Lock,
        named: Option<Fence>,
    ) -> Option<Fence> {
        let hold = lock.plain_hold().filter(|hold| hold.is_live(self.clock.now))?;
        if hold.owner.as_bytes() != self.owner || named.is_some_and(|named| named != hold.fence) {
            return None;
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
        Some(hold.fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::condition::Condition;
    use crate::primitive::manager::{Provisional, Rollback};
    use crate::primitive::recovery::Length;
    use crate::primitive::wait_queue::{Keys, Position};
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

    type Concern = fn(&mut LockManager);

    /// Things that let somebody else than the owner be concerned, with the lock at hand or at all.
    fn concerns() -> Vec<(&'static str, Concern)> {
        vec![
            ("somebody waits for the lock", |manager| {
                manager.waiters.insert(0, &[b"k"], Position::HEAD, waiter());
            }),
            ("somebody watches", |manager| {
                manager.observers.insert(WaiterId(1), 0, b"l", Condition::Free, Moment::NEVER);
            }),
            ("a grant may have to be taken back", |manager| {
                let (keys, rollback) = (Keys::new(), Rollback::EndHold { left: 1 });
                manager.provisional.insert(Fence::MIN, Provisional { db: 0, keys, rollback });
            }),
            ("something is left to be done", |manager| manager.recheck(0, b"l")),
            ("nothing is granted for now", |manager| {
                manager.recovery.open(Length::Fixed(lease()), 0, CLOCK, 0);
            }),
        ]
    }

    #[test]
    fn is_open_where_nobody_else_is_concerned() {
        let manager = &mut LockManager::default();
        manager.waiters.insert(0, &[b"another lock"], Position::HEAD, waiter());
        assert!(is_open(manager, b"k"));
        for (what, concern) in concerns() {
            let manager = &mut LockManager::default();
            concern(manager);
            assert!(!is_open(manager, b"k"), "{what}");
        }
    }

    #[test]
    fn a_hold_ends_for_its_owner_alone_while_it_stands() {
        let manager = &mut LockManager::default();
        let (lock, fence) = A.grant(manager, lease()).unwrap();
        let (b, over) = (Plain { owner: b"b", ..A }, Clock { now: Moment(12_000), ..CLOCK });
        assert_eq!((lock.plain_hold().unwrap().fence, manager.leases.len()), (fence, 1));
        assert_eq!(b.release(manager, &lock, None), None, "it has not got it");
        assert!(b.is_refused(&lock) && !A.is_refused(&lock));
        assert!(!Plain { clock: over, ..b }.is_refused(&lock), "it is over");
        assert_eq!(A.release(manager, &lock, Some(Fence::MIN)), None, "that is another hold");
        assert_eq!(Plain { clock: over, ..A }.release(manager, &lock, None), None, "it is over");
        assert_eq!(A.release(manager, &lock, Some(fence)), Some(fence));
        assert_eq!((manager.leases.len(), manager.stats.released.get()), (0, 1));
    }
}
