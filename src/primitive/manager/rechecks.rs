//! Locks to look at once more, when the step or the server event that named them is over: somebody may have left their
//! queue, their key may have gone, a grant may have to be taken back. Hints, all of them: a look at a lock that needs none
//! changes nothing.

use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::smallvec;

use super::Provisional;
use crate::primitive::sweep::Sweep;
use crate::primitive::table::Set;
use crate::primitive::ties::Tied;
use crate::primitive::wait_queue::{Keys, LockName};
use crate::primitive::{Fence, Lock, LockManager, Moment, WaitEnd, WaiterId};

/// How many queues or ties a sweep looks up at once: some tens of microseconds.
const SWEPT_AT_ONCE: usize = 100;

/// A lock to look at; several only where a grant of several is to be taken back.
#[derive(Debug)]
pub(crate) struct Recheck {
    pub db: i32,
    pub keys: Keys,
    /// A grant to take back, if it is still provisional.
    pub rollback: Option<Fence>,
}

impl Recheck {
    /// A look at one lock.
    pub(crate) fn of(db: i32, key: Rc<[u8]>) -> Self {
        Self { db, keys: smallvec![key], rollback: None }
    }
}

/// The locks, waiters and ties to look at.
#[derive(Default)]
pub(crate) struct Rechecks {
    locks: VecDeque<Recheck>,
    /// Grants to take back, where they are still provisional: that says which locks these are.
    pub(super) unread: VecDeque<Fence>,
    /// Connections that are gone, and how far their ties have been looked up.
    gone: VecDeque<(u64, Option<(i32, Tied)>)>,
    /// All locks with a queue.
    queues: Sweep<Option<LockName>>,
    /// All holds that are tied to a connection.
    ties: Sweep<Option<(i32, Tied)>>,
}

impl Rechecks {
    /// Whether there is nothing to look at.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.locks.is_empty()
            && self.unread.is_empty()
            && self.gone.is_empty()
            && !self.queues.is_on()
            && !self.ties.is_on()
    }

    /// Adds a look.
    pub(crate) fn push(&mut self, recheck: Recheck) {
        self.locks.push_back(recheck);
    }
}

impl LockManager {
    /// Asks for a look at this lock, unless that was the last thing asked for.
    pub(crate) fn recheck(&mut self, db: i32, key: &[u8]) {
        let is_this = |last: &Recheck| {
            last.rollback.is_none()
                && last.db == db
                && matches!(last.keys.as_slice(), [only] if **only == *key)
        };
        if !self.rechecks.locks.back().is_some_and(is_this) {
            self.rechecks.push(Recheck::of(db, key.into()));
        }
    }

    /// Asks for a look at this key if somebody waits for its lock or watches it.
    pub(crate) fn recheck_if_awaited(&mut self, db: i32, key: &[u8]) {
        self.observers.mark(db, key);
        if self.waiters.waiting_for(db, key) > 0 {
            self.recheck(db, key);
        }
    }

    /// The same for a lock that has come here from elsewhere. It is looked at, too, if it is tied to a connection, which may
    /// be another server's, or gone, and if nobody has it, so that its key is to go.
    pub(crate) fn recheck_newcomer(&mut self, db: i32, key: &[u8], lock: &Lock) {
        if lock.is_free() || lock.holds().iter().any(|hold| hold.tie().is_some()) {
            self.recheck(db, key);
        } else {
            self.recheck_if_awaited(db, key);
        }
    }

    /// Asks for a look at the holds that are tied to this connection.
    pub(super) fn recheck_ties(&mut self, client: u64) {
        if !self.ties.after(None, Some(client), 1).is_empty() {
            self.rechecks.gone.push_back((client, None));
        }
    }

    /// Asks for a look at all holds that are tied to any connection.
    pub(super) fn recheck_all_ties(&mut self) {
        if self.ties.len() > 0 {
            self.rechecks.ties.ask();
        }
    }

    /// Asks for a look at all keys that are watched, and at all locks that are waited for.
    pub(super) fn recheck_all(&mut self) {
        self.observers.mark_all();
        if self.waiters.len() > 0 {
            self.rechecks.queues.ask();
        }
    }

    /// Returns the next lock to look at: one for which that was asked, or whose lease is due at `now`. `None` if there is none,
    /// or no time to find it.
    pub(crate) fn next_look(&mut self, now: Moment, in_budget: impl Fn() -> bool) -> Option<Recheck> {
        self.next_recheck(in_budget).or_else(|| self.next_due_lease(now))
    }

    /// Returns the next lock for which a look was asked; otherwise as [`LockManager::next_look`].
    pub(crate) fn next_recheck(&mut self, in_budget: impl Fn() -> bool) -> Option<Recheck> {
        while let Some(fence) = self.rechecks.unread.pop_front() {
            if let Some(Provisional { db, keys, .. }) = self.provisional.get(&fence) {
                return Some(Recheck { db: *db, keys: keys.clone(), rollback: Some(fence) });
            }
        }
        loop {
            if let Some(recheck) = self.rechecks.locks.pop_front() {
                return Some(recheck);
            }
            if !in_budget() || !self.name_some() {
                return None;
            }
        }
    }

    /// Returns the lock of the next lease that is due; `None` if none is, or while the recovery window is open.
    fn next_due_lease(&mut self, now: Moment) -> Option<Recheck> {
        if self.recovery.is_open() {
            return None;
        }
        let (db, lease) = self.leases.pop_due(now)?;
        Some(Recheck::of(db, (*lease.key).into()))
    }

    /// Names some more of the locks that are to be looked at because all are. Returns whether there may be others.
    fn name_some(&mut self) -> bool {
        let Rechecks { locks, gone, queues, ties, .. } = &mut self.rechecks;
        if let Some((client, last)) = gone.front_mut() {
            let some = self.ties.after(last.as_ref(), Some(*client), SWEPT_AT_ONCE);
            locks.extend(some.iter().map(|(db, (_, key, _))| Recheck::of(*db, Rc::clone(key))));
            *last = some.last().filter(|_| some.len() == SWEPT_AT_ONCE).cloned();
            if last.is_none() {
                gone.pop_front();
            }
            return true;
        }
        if queues.is_on() {
            let (some, last) = self.waiters.queues_after(queues.last().as_ref(), SWEPT_AT_ONCE);
            locks.extend(some.into_iter().map(|(db, key)| Recheck::of(db, key)));
            queues.go_on(last.map(Some));
            return true;
        }
        if ties.is_on() {
            let some = self.ties.after(ties.last().as_ref(), None, SWEPT_AT_ONCE);
            locks.extend(some.iter().map(|(db, (_, key, _))| Recheck::of(*db, Rc::clone(key))));
            let last = some.last().filter(|_| some.len() == SWEPT_AT_ONCE).cloned();
            ties.go_on(last.map(Some));
            return true;
        }
        false
    }

    /// Ends the next wait or watch that is due. Returns the waiter and what to tell its client, if it has one; `None` if
    /// nothing is due.
    pub(crate) fn end_due_wait(&mut self, now: Moment) -> Option<(WaiterId, WaitEnd)> {
        loop {
            let id = self.waiters.pop_due(now).or_else(|| self.observers.pop_due(now))?;
            if let Some(client) = self.waiters.end_slice(id) {
                return Some((client, WaitEnd::PlaceKept));
            }
            if self.dismiss_between_steps(id, WaitEnd::TimedOut) {
                return Some((id, WaitEnd::TimedOut));
            }
        }
    }

    /// Takes a waiter out of its queues between two steps, or ends a watch. Nothing may be granted here, so this asks for
    /// a look at the queues. Returns whether there was such a wait.
    pub(crate) fn dismiss_between_steps(&mut self, id: WaiterId, why: WaitEnd) -> bool {
        let Some((db, keys)) = self.take_out(id, why) else {
            let was_there = self.observers.remove(id);
            self.stats.unobserved.add(usize::from(was_there && why == WaitEnd::TimedOut));
            return was_there;
        };
        keys.iter().for_each(|key| self.recheck_if_awaited(db, key));
        true
    }

    /// The same, but the caller asks for the looks. Returns the locks that it waited for, and their database; `None` if it
    /// waits for none.
    fn take_out(&mut self, id: WaiterId, why: WaitEnd) -> Option<(i32, Keys)> {
        let entry = self.waiters.remove(id)?;
        self.stats.record_wait_end(why);
        Some((entry.db, entry.keys))
    }

    /// Ends the waits for a lock that is not here any longer, for as long as the budget allows, and asks for looks at
    /// the rest of them and at the other locks that they waited for. `tell` gets their clients.
    pub(crate) fn fail_waits(
        &mut self,
        db: i32,
        key: &[u8],
        in_budget: impl Fn() -> bool,
        mut tell: impl FnMut(WaiterId),
    ) {
        // Each once, however many of them stood in its queue.
        let mut left = Set::default();
        while let Some((id, _)) = self.waiters.front(db, key) {
            if !in_budget() {
                self.recheck(db, key);
                break;
            }
            let client = self.waiters.client_of(id);
            left.extend(self.take_out(id, WaitEnd::Failed).into_iter().flat_map(|(_, keys)| keys));
            client.into_iter().for_each(&mut tell);
        }
        left.remove(key);
        left.iter().for_each(|key| self.recheck_if_awaited(db, key));
    }

    /// Keeps the leases and ties of a lock that is still here though its slot is another server's for now, and looks at it again
    /// at `later`: the slot may come back, or be on its way in.
    pub(crate) fn look_again(&mut self, db: i32, key: &[u8], lock: &mut Lock, later: Moment) {
        // A cooldown has an entry of its own.
        lock.each_mut(|hold| {
            let is_never_due = hold.deadline == Moment::NEVER;
            let at = if is_never_due && hold.tie().is_none() { Moment::NEVER } else { later };
            if !self.leases.has(db, hold) {
                self.leases.insert_at(db, key, hold, at);
            } else if is_never_due {
                self.leases.move_earlier(db, hold, at);
            }
        });
    }
}
