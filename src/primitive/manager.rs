//! All that the module keeps outside the keyspace. Apart from the queues, the newest fence and the recovery
//! window everything here is a hint: before anyone acts on it the key is opened again and owner and fence are compared.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

pub(crate) mod aside;
mod dropped;
mod events;
pub(crate) mod rechecks;

use std::rc::Rc;

use super::allowance::Allowance;
use super::effect::WaitEnd;
use super::fence::FenceSource;
use super::history::History;
use super::leases::{Kept, Leases};
use super::ledger::{Ended, Ledger, Named};
use super::observers::Observers;
use super::recovery::Recovery;
use super::stats::Stats;
use super::table::Table;
use super::ties::Ties;
use super::wait_queue::{Caps, Full, Keys, Waiters};
use super::waiter::{AcquireRequest, Waiter, WaiterId, WaiterKind};
use super::work_list::{Work, WorkList};
use super::{Fence, Hold, Lock, Moment, Permits};
use aside::Aside;
use dropped::Dropped;
use rechecks::{Recheck, Rechecks};

/// A grant to a client that may not have heard of it yet, and how to take it back. Others name it by its fence.
#[derive(Debug)]
pub(crate) struct Provisional {
    pub db: i32,
    pub keys: Keys,
    pub rollback: Rollback,
}

/// How to take back a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rollback {
    /// The hold ends; several if several locks were granted together, of which so many are left.
    EndHold { left: u32 },
    /// The hold was shared before, under this fence, and is again.
    Downgrade(Fence),
}

/// Says whether the user of this name has the right to all of these keys.
#[derive(Clone, Copy)]
pub(crate) struct Gate(pub fn(&[u8], &[&[u8]]) -> bool);

impl Default for Gate {
    /// Everyone may.
    fn default() -> Self {
        Self(|_, _| true)
    }
}

/// How many bytes all that lies outside the keyspace may take, but for what belongs to a hold there: those who wait come
/// first, and the ledger of losses has what they leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget(pub usize);

impl Default for Budget {
    fn default() -> Self {
        Self(usize::MAX)
    }
}

/// Queues, lease index, fences, losses and counters of one server.
#[derive(Default)]
pub(crate) struct LockManager {
    pub waiters: Waiters,
    pub observers: Observers,
    pub leases: Leases,
    pub ties: Ties,
    /// The same of what a replica loads and does not serve yet.
    pub(super) aside: Option<Box<Aside>>,
    /// The newest fence of what was loaded and never served.
    thrown_away: Option<Fence>,
    /// Names this process beside others, for ties.
    pub node: u64,
    pub fences: FenceSource,
    /// Whether nothing may be granted for now, because a failover may have lost grants.
    pub recovery: Recovery,
    pub ledger: Ledger,
    pub budget: Budget,
    pub stats: Stats,
    pub history: History,
    /// Since when the lock of this step could have been given, if that was before the step.
    pub free_since: Option<Moment>,
    /// Grants handed to a waiter that may not have heard of them yet.
    pub provisional: Table<Fence, Provisional>,
    /// The cooldown of a lock after a hold that its owner may not know to be over, in ms.
    pub lock_delay_ms: u64,
    /// How long the hold that a ticket was given may stay unclaimed, in ms.
    pub claim_ms: u64,
    /// Decides whether a user may have a lock, when the turn of its ticket comes.
    pub gate: Gate,
    /// The work that the step at hand may still do of what follows from it.
    pub allowance: Allowance,
    /// Empty between two steps.
    pub work_list: WorkList,
    /// Locks to look at between two steps.
    pub rechecks: Rechecks,
    /// The memory of what went at once, as in a flush; it is given back between two steps.
    pub dropped: Dropped,
    /// The earliest deadline that was added since somebody looked.
    soonest: Option<Moment>,
}

impl LockManager {
    /// Notes this hold, and when it is due; one without expiry never is.
    pub(crate) fn index(&mut self, db: i32, key: &[u8], hold: &mut Hold) {
        self.recovery.leases.note(hold.lease);
        self.record_tie(db, key, hold);
        self.leases.insert(db, key, hold);
        if hold.deadline != Moment::NEVER {
            self.wake_by(hold.deadline);
        }
    }

    /// Makes sure that the index looks at this hold no later than at its deadline. A later deadline, or none, needs
    /// nothing: the entry comes up early, finds the hold alive and goes in again.
    #[inline]
    pub(crate) fn keep_indexed(&mut self, db: i32, key: &[u8], hold: &mut Hold) {
        self.record_tie(db, key, hold);
        match self.leases.keep(db, hold) {
            Kept::InPlace => {}
            Kept::Missing => self.index(db, key, hold),
            Kept::Moved => self.wake_by(hold.deadline),
        }
    }

    #[inline]
    fn record_tie(&mut self, db: i32, key: &[u8], hold: &Hold) {
        if let Some(tie) = hold.tie() {
            self.ties.add(db, key, hold.fence, tie);
        }
    }

    /// Forgets a hold.
    #[inline]
    pub(crate) fn unindex(&mut self, db: i32, key: &[u8], hold: &Hold) {
        self.leases.remove(db, hold);
        if let Some(tie) = hold.tie() {
            self.ties.forget(db, key, hold.fence, tie);
        }
    }

    /// Ends a wait without a grant, in a step. Returns whether there was one. A waiter behind it may have its turn now:
    /// the caller grants at the lock at hand, and the others are noted, to be looked at before the step is over.
    pub(crate) fn dismiss_in_step(&mut self, id: WaiterId, why: WaitEnd) -> bool {
        let Some(entry) = self.waiters.remove(id) else { return false };
        self.stats.record_wait_end(why);
        if entry.keys.len() > 1 {
            self.allowance.spend(entry.keys.len());
            entry.keys.into_iter().for_each(|key| self.work_list.push(Work::Lock(entry.db, key)));
        }
        true
    }

    /// Whether one who comes now is granted these permits of the lock at once: nobody waits for it, and they fit. A newcomer
    /// overtakes nobody.
    #[inline]
    pub(crate) fn admits_newcomer(&self, db: i32, key: &[u8], lock: &Lock, permits: Permits) -> bool {
        self.waiters.waiting_for(db, key) == 0 && lock.admits(permits) && !self.recovery.is_open()
    }

    /// Whether this waiter may have these locks. A client is asked when it is told, since only then is it known whether it is
    /// there; for a ticket nobody is.
    pub(crate) fn may_have(&self, waiter: &Waiter, keys: &[&[u8]]) -> bool {
        let user = waiter.user.and_then(|user| self.waiters.user(user));
        user.is_none_or(|user| (self.gate.0)(user, keys))
    }

    /// Whether there is room for one more waiter of this kind.
    pub(crate) fn room(&self, db: i32, key: &[u8], kind: WaiterKind, caps: Caps) -> Result<(), Full> {
        self.room_in_memory()?;
        if kind == WaiterKind::Ticket {
            return self.waiters.room_for_ticket(db, key, caps);
        }
        self.room_in_server(caps)?;
        self.waiters.room_for_client(db, key, caps)
    }

    /// Whether there is room for one more who watches this key. No key is full for waiters because many watch it.
    pub(crate) fn room_to_watch(&self, db: i32, key: &[u8], caps: Caps) -> Result<(), Full> {
        self.room_in_memory()?;
        self.room_in_server(caps)?;
        if self.observers.watching(db, key) >= caps.per_key {
            return Err(Full::Key(caps.per_key));
        }
        Ok(())
    }

    /// Whether those who wait or watch may take more memory. The last one that is let in can take it past the bound, by no
    /// more than one wait can take.
    fn room_in_memory(&self) -> Result<(), Full> {
        if self.waiting_bytes() >= self.budget.0 {
            return Err(Full::Budget(self.budget.0));
        }
        Ok(())
    }

    /// Whether a ticket that is asked for again may have these terms, which can take more memory than those before.
    pub(crate) fn room_for_terms(
        &self,
        db: i32,
        keys: &[&[u8]],
        request: &AcquireRequest,
        channel: Option<&[u8]>,
    ) -> Result<(), Full> {
        let room = self.room_in_memory();
        if room.is_ok() {
            return room;
        }
        let ticket = self.waiters.ticket_for(db, keys, request, None).and_then(|id| self.waiters.get(id));
        match ticket {
            Some(ticket) if request.heap_bytes_with(channel) > ticket.waiter.heap_bytes() => room,
            _ => Ok(()),
        }
    }

    /// The bytes of the server's memory that waiters and observers take.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiters.bytes() + self.observers.bytes()
    }

    /// Lets the remembered losses have what is left of the budget.
    pub(crate) fn fit_ledger(&mut self) {
        self.ledger.fit(self.budget.0.saturating_sub(self.waiting_bytes()));
    }

    /// Remembers how a hold was lost.
    pub(crate) fn record_loss(&mut self, of: Named, ended: Ended) {
        self.ledger.record(of, ended);
        self.history.record_loss(of, ended);
        self.fit_ledger();
    }

    /// Somebody has got in line, and waits until `deadline`.
    pub(crate) fn record_wait(&mut self, deadline: Moment) {
        self.stats.queued.up();
        self.wake_by(deadline);
        self.fit_ledger();
    }

    /// A client that is kept waiting costs the same, whatever it waits for.
    fn room_in_server(&self, caps: Caps) -> Result<(), Full> {
        caps.room_in_server(self.waiters.clients() + self.observers.len())
    }

    /// The next thing that the step at hand is to look at. Work that it has no allowance for is left to later steps.
    pub(crate) fn next_work(&mut self) -> Option<Work> {
        let item = self.work_list.pop()?;
        if !self.allowance.is_spent() {
            self.allowance.spend(1);
            return Some(item);
        }
        let mut next = Some(item);
        while let Some(item) = next {
            let lock = match item {
                Work::Lock(db, key) => Some((db, key)),
                // Where it does not come first it has no turn; when it does, that lock calls it up.
                Work::Group(id) => {
                    self.waiters.get(id).and_then(|entry| Some((entry.db, Rc::clone(entry.keys.first()?))))
                }
            };
            lock.into_iter().for_each(|(db, key)| self.rechecks.push(Recheck::of(db, key)));
            next = self.work_list.pop();
        }
        None
    }

    /// Panics unless the state agrees with itself, as it does between two steps. Takes time in proportion to all of it.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        self.waiters.check();
        assert!(self.work_list.is_empty(), "nothing is left undone");
    }

    /// Whether there is something to do between two steps, as soon as can be.
    pub(crate) fn has_work(&self) -> bool {
        !self.rechecks.is_empty() || !self.observers.is_quiet() || !self.dropped.is_empty()
    }

    /// Whether a step has left nothing to look at.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.work_list.is_empty() && self.rechecks.is_empty() && self.observers.is_quiet()
    }

    /// Keeps the place of a ticket that is asked for again. Returns its number, and the client that was kept waiting for its
    /// turn and is not any more; `None` if there is no such ticket.
    pub(crate) fn keep_ticket(
        &mut self,
        db: i32,
        keys: &[&[u8]],
        request: &AcquireRequest,
        upgrades: Option<Fence>,
        deadline: Moment,
    ) -> Option<(WaiterId, Option<WaiterId>)> {
        let id = self.waiters.ticket_for(db, keys, request, upgrades)?;
        let earlier = self.waiters.keep_ticket(id, request.clone(), deadline);
        self.wake_by(deadline);
        Some((id, earlier))
    }

    /// Keeps a client waiting for the turn of its owner's ticket, until a moment.
    pub(crate) fn attach(&mut self, ticket: WaiterId, until: Moment, keep_ms: u64) {
        self.waiters.attach(ticket, until, keep_ms);
        self.wake_by(until);
    }

    /// The owner has shown that it knows of its hold.
    pub(crate) fn confirm(&mut self, fence: Fence) {
        if !self.provisional.is_empty() {
            self.provisional.remove(&fence);
        }
    }

    /// A hold has ended, and its owner need not know of it.
    pub(crate) fn forget(&mut self, fence: Fence) {
        if self.provisional.is_empty() {
            return;
        }
        match self.provisional.get_mut(&fence).map(|grant| &mut grant.rollback) {
            Some(Rollback::EndHold { left }) if *left > 1 => *left -= 1,
            _ => {
                self.provisional.remove(&fence);
            }
        }
    }

    /// How to take back a grant, unless its owner has been heard of since.
    pub(crate) fn take_rollback(&mut self, fence: Fence) -> Option<Rollback> {
        self.provisional.remove(&fence).map(|grant| grant.rollback)
    }

    /// Somebody must look no later than at `deadline`.
    pub(crate) fn wake_by(&mut self, deadline: Moment) {
        if self.soonest.is_none_or(|soonest| deadline < soonest) {
            self.soonest = Some(deadline);
        }
    }

    /// The earliest deadline that was added since the last call, if any was.
    pub(crate) fn take_soonest(&mut self) -> Option<Moment> {
        self.soonest.take()
    }

    /// When the next lease or wait is due: never later, perhaps somewhat earlier.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let waits = self.waiters.next_deadline().into_iter().chain(self.observers.next_deadline());
        // No lease ends while the window is open.
        let lease = self.recovery.until().or_else(|| self.leases.next_deadline());
        lease.into_iter().chain(waits).min()
    }
}
