//! The loop around the steps: what one step leaves to be done, and what a look at a lock does. The server and the model
//! tests run this same loop; each brings the keyspace in which the locks lie.

use super::allowance::Allowance;
use super::manager::rechecks::Recheck;
use super::wait_queue::Keys;
use super::work_list::Work;
use super::{GroupStep, LockManager, Locks, Moment, Step, WaitEnd, WaiterId};

/// The key holds something that is not a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotALock;

/// Where the locks lie.
pub(crate) trait Keyspace {
    /// Lets `work` have the state outside the keyspace, between two steps.
    fn manager<R>(&mut self, work: impl FnOnce(&mut LockManager) -> R) -> R;

    /// Makes one step on a lock: opens it, lets `work` change it, stores it and carries out the effects.
    fn step(&mut self, db: i32, key: &[u8], work: impl FnOnce(&mut Step)) -> Result<(), NotALock>;

    /// The same on several locks together.
    fn group_step(&mut self, db: i32, keys: &Keys, work: impl FnOnce(&mut GroupStep))
        -> Result<(), NotALock>;

    /// Whether the command at hand may open this key.
    fn may_open(&self, key: &[u8]) -> bool;

    /// A look at locks of this database begins.
    fn select(&mut self, db: i32);

    /// Whether the slot of this lock is another server's.
    fn is_away(&mut self, db: i32, key: &[u8]) -> bool;

    /// The client of this waiter is told that its wait has ended without a grant.
    fn wait_ended(&mut self, id: WaiterId, why: WaitEnd);

    /// A lock was looked at: those who only watch it may have to be told.
    fn looked(&mut self);

    /// Ends the waits for a lock that is away. One that still lies here is looked at again later.
    fn turn_away(&mut self, db: i32, key: &[u8]);

    /// Ends the waits for a lock whose key holds something else by now.
    fn refuse_waits(&mut self, db: i32, key: &[u8]);
}

/// Does what a step has found on other locks, before anybody else runs. Work that the step has no allowance for is left
/// to looks of its own, between the clients.
pub(crate) fn finish_step(keyspace: &mut impl Keyspace) {
    while let Some(next) = keyspace.manager(LockManager::next_work) {
        match next {
            Work::Lock(db, key) => {
                let done = keyspace.may_open(&key)
                    && keyspace.step(db, &key, |step| step.expire_and_grant()) != Err(NotALock);
                if !done {
                    keyspace.manager(|manager| manager.recheck_if_awaited(db, &key));
                }
            }
            Work::Group(id) => {
                let found = keyspace.manager(|manager| {
                    let node = manager.waiters.get(id)?;
                    Some((node.db, node.keys.clone()))
                });
                let Some((db, keys)) = found else { continue };
                if keyspace.group_step(db, &keys, |group| group.grant_waiter(id)) == Err(NotALock) {
                    keyspace.manager(|manager| {
                        keys.iter().for_each(|key| manager.recheck_if_awaited(db, key));
                    });
                }
            }
        }
    }
}

/// Ends the waits that are over, for as long as the budget allows. They change no data, so that this may be done when nothing
/// may be written.
pub(crate) fn end_due_waits(keyspace: &mut impl Keyspace, now: Moment, in_budget: impl Fn() -> bool) {
    while in_budget() {
        let Some((id, why)) = keyspace.manager(|manager| manager.end_due_wait(now)) else { return };
        keyspace.wait_ended(id, why);
    }
}

/// Looks at the locks for which that was asked, and at those with leases that are over, for as long as the budget allows.
pub(crate) fn look_at_due(
    keyspace: &mut impl Keyspace,
    now: Moment,
    in_budget: impl Fn() -> bool,
    is_connected: impl Fn(u64) -> bool,
) {
    while in_budget() {
        let Some(recheck) = keyspace.manager(|manager| manager.next_look(now, &in_budget)) else { return };
        look_at(keyspace, recheck, &is_connected);
    }
}

/// Looks at a lock: ends what is due on it, frees it from connections that are gone, takes back a grant that nobody has heard
/// of, and grants it to those who wait. Of a lock whose slot is another server's nothing is decided.
fn look_at(keyspace: &mut impl Keyspace, recheck: Recheck, is_connected: impl Fn(u64) -> bool) {
    let Recheck { db, keys, rollback } = recheck;
    keyspace.select(db);
    // Locks that were granted together are in one slot.
    if keys.first().is_some_and(|key| keyspace.is_away(db, key)) {
        // The server that has the slot cannot know of the rollback: the lease ends the hold.
        rollback.into_iter().for_each(|fence| keyspace.manager(|manager| manager.confirm(fence)));
        keys.iter().for_each(|key| keyspace.turn_away(db, key));
        return;
    }
    let (node, rollback) = keyspace.manager(|manager| {
        manager.allowance = Allowance::default();
        (manager.node, rollback.and_then(|fence| Some((fence, manager.take_rollback(fence)?))))
    });
    for key in &keys {
        let done = keyspace.step(db, key, |step| {
            step.orphan_tied_holds(|tie| tie.node == node && is_connected(tie.client));
            step.expire_and_grant();
            if let Some((fence, how)) = rollback {
                step.roll_back(fence, how);
            }
        });
        finish_step(keyspace);
        if done == Err(NotALock) {
            keyspace.refuse_waits(db, key);
        }
    }
    keyspace.looked();
}
