//! The module's one piece of state, and who may touch it: the server's main thread, one at a time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use lazy_static::lazy_static;
use smallvec::smallvec;

use super::after_sleep::AfterSleep;
use super::blocked::Blocked;
use super::hearing::Hearing;
use super::journal::Refusals;
use super::replicate::Listeners;
use super::wake::Alarm;
use super::{config, rights};
use crate::primitive::memory::Gate;
use crate::primitive::sweep::Sweep;
use crate::primitive::table::Table;
use crate::primitive::ties::Tied;
use crate::primitive::turn::Left;
use crate::primitive::wait_queue::Keys;
use crate::primitive::{Effect, Fence, Lock, Memory, Moment, WaiterId};

/// How many waits or ties a sweep looks up at once: some tens of microseconds.
const SWEPT_AT_ONCE: usize = 100;

/// All that the module keeps outside the keyspace.
pub(super) struct Host {
    /// What the pure layers work on.
    pub(super) memory: Memory,
    /// The clients of the waiters in it.
    pub(super) blocked: Blocked,
    /// Work that must not be done inside the callback that found it.
    pub(super) deferred: Deferred,
    /// What was emptied at once, such as the queues of a server that became a replica: each step gives some of it back.
    pub(super) remains: VecDeque<Box<dyn Iterator<Item = ()>>>,
    /// Empty between two steps; kept for its room.
    pub(super) effects: Vec<Effect>,
    pub(super) alarm: Alarm,
    pub(super) after_sleep: AfterSleep,
    pub(super) listeners: Listeners,
    pub(super) refusals: Refusals,
    /// How far the search for queues of moved locks has come.
    pub(super) queues_checked: WaiterId,
    /// The same among those who wait for several locks.
    pub(super) groups_checked: WaiterId,
    /// Which of the server's commands can block, of those that were asked about.
    pub(super) blocking_commands: Table<Box<[u8]>, bool>,
    pub(super) idle_timeout: IdleTimeout,
    /// Changes that nobody was told of, as nobody listens.
    pub(super) uncounted: u64,
    /// Only a primary grants, ends and wakes; a replica obeys.
    pub(super) is_primary: bool,
    /// Whether those who waited while this was a primary are still to be sent away.
    pub(super) steps_down: bool,
    /// Whether the data that is being loaded comes from a primary, and not from this server's disk.
    pub(super) loads_stream: bool,
    /// Whether somebody deletes or moves locks from outside, so that renames are worth listening for.
    pub(super) watches_moves: bool,
    pub(super) hearing: Hearing,
}

/// After how many seconds the server closes an idle connection, by its setting `timeout`; 0 if it does not.
#[derive(Default)]
pub(super) struct IdleTimeout {
    /// Whether it was asked for since a setting has changed.
    pub(super) is_known: bool,
    /// What the log was told of last.
    pub(super) told: i64,
}

/// Things to look at again once the native command that caused them is over. Hints, all of them.
#[derive(Default)]
pub(super) struct Deferred {
    /// Locks that may have changed behind our back.
    pub(super) suspects: VecDeque<Suspect>,
    /// Grants whose reply was given: is the client still there to read it?
    pub(super) delivered: Vec<Delivered>,
    /// Connections that are gone, and how far their ties have been looked up.
    pub(super) gone: VecDeque<(u64, Option<(i32, Tied)>)>,
    /// Going over all locks with a queue.
    pub(super) queues: Sweep<WaiterId>,
    /// Going over all holds that are tied to a connection.
    pub(super) ties: Sweep<Option<(i32, Tied)>>,
}

impl Deferred {
    /// Whether there is a lock to look at.
    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty() || !self.gone.is_empty() || self.queues.is_on() || self.ties.is_on()
    }
}

/// A lock to look at; several only where a grant of several is to be taken back.
pub(super) struct Suspect {
    pub(super) db: i32,
    pub(super) keys: Keys,
    /// A grant to take back, if it is still provisional.
    pub(super) undo: Option<Fence>,
}

impl Suspect {
    /// A lock that may have changed behind our back.
    pub(super) fn of(db: i32, key: Rc<[u8]>) -> Self {
        Self { db, keys: smallvec![key], undo: None }
    }
}

/// A grant whose client has been sent its reply.
pub(super) struct Delivered {
    pub(super) client: u64,
    pub(super) grant: Suspect,
}

impl Host {
    fn new() -> Self {
        let mut memory = Memory::default();
        memory.history.since = super::clock::now();
        config::apply_to(&mut memory);
        memory.gate = Gate(rights::may_take);
        Self {
            memory,
            blocked: Blocked::default(),
            deferred: Deferred::default(),
            remains: VecDeque::new(),
            effects: Vec::new(),
            alarm: Alarm::default(),
            after_sleep: AfterSleep::default(),
            listeners: Listeners::default(),
            refusals: Refusals::default(),
            queues_checked: WaiterId(0),
            groups_checked: WaiterId(0),
            blocking_commands: Table::default(),
            idle_timeout: IdleTimeout::default(),
            uncounted: 0,
            is_primary: true,
            steps_down: false,
            loads_stream: false,
            watches_moves: false,
            hearing: Hearing::default(),
        }
    }

    /// Whether nobody waits or watches, nothing is tied to a connection, and no work is left.
    pub(super) fn has_nothing_to_do(&self) -> bool {
        let Self { memory, deferred, .. } = self;
        memory.waiters.len() == 0
            && memory.observers.is_empty()
            && memory.ties.len() == 0
            && memory.provisional.is_empty()
            && deferred.delivered.is_empty()
            && !deferred.has_suspects()
            && self.remains.is_empty()
            && self.uncounted == 0
            && !self.steps_down
            && !self.after_sleep.is_asked()
    }

    /// Whether there is a key that deferred work would open at `now`.
    pub(super) fn has_keys_to_open(&self, now: Moment) -> bool {
        let is_due = || self.memory.leases.next_deadline().is_some_and(|due| due <= now);
        !self.deferred.suspects.is_empty() || !self.memory.observers.is_quiet() || is_due()
    }

    /// Asks for another look at a key, soon, if somebody waits for its lock or watches it.
    pub(super) fn suspect(&mut self, db: i32, key: &[u8]) {
        if self.memory.observers.note(db, key) {
            self.alarm.soon();
        }
        if self.memory.waiters.waiting_for(db, key) > 0 {
            self.look_soon(db, key);
        }
    }

    /// Asks for another look at a lock that has come here from elsewhere, soon, if somebody waits for it, if it is tied to
    /// a connection, which may be another server's, or gone, or if nobody has it, and its key is to go.
    pub(super) fn suspect_newcomer(&mut self, db: i32, key: &[u8], lock: &Lock) {
        if lock.is_free() || lock.holds().iter().any(|hold| hold.tie().is_some()) {
            self.look_soon(db, key);
        } else {
            self.suspect(db, key);
        }
    }

    pub(super) fn look_soon(&mut self, db: i32, key: &[u8]) {
        self.deferred.suspects.push_back(Suspect::of(db, key.into()));
        self.alarm.soon();
    }

    /// Asks for a look at the holds that are tied to a connection.
    pub(super) fn suspect_ties(&mut self, client: u64) {
        if !self.memory.ties.after(None, Some(client), 1).is_empty() {
            self.deferred.gone.push_back((client, None));
            self.alarm.soon();
        }
    }

    /// Asks for a look at all holds that are tied to any connection.
    pub(super) fn suspect_all_ties(&mut self) {
        if self.memory.ties.len() > 0 {
            self.deferred.ties.ask();
            self.alarm.soon();
        }
    }

    /// Finds some more of the locks that are to be looked at because all are; whether there may be others.
    pub(super) fn suspect_some(&mut self) -> bool {
        let Deferred { queues, ties, gone, suspects, .. } = &mut self.deferred;
        if let Some((client, last)) = gone.front_mut() {
            let some = self.memory.ties.after(last.as_ref(), Some(*client), SWEPT_AT_ONCE);
            suspects.extend(some.iter().map(|(db, (_, key, _))| Suspect::of(*db, Rc::clone(key))));
            *last = some.last().filter(|_| some.len() == SWEPT_AT_ONCE).cloned();
            if last.is_none() {
                gone.pop_front();
            }
            return true;
        }
        if queues.is_on() {
            let (locks, last) = self.memory.waiters.fronts_after(*queues.last(), SWEPT_AT_ONCE);
            suspects.extend(locks.into_iter().map(|(db, key)| Suspect::of(db, key)));
            queues.go_on(last);
            return true;
        }
        if ties.is_on() {
            let some = self.memory.ties.after(ties.last().as_ref(), None, SWEPT_AT_ONCE);
            suspects.extend(some.iter().map(|(db, (_, key, _))| Suspect::of(*db, Rc::clone(key))));
            let last = some.last().filter(|_| some.len() == SWEPT_AT_ONCE).cloned();
            ties.go_on(last.map(Some));
            return true;
        }
        false
    }

    /// Takes a waiter out of its queues between two steps, or ends a watch; whether it was there. Nothing may be granted
    /// here, so this asks for another look at the queues, soon.
    pub(super) fn dismiss_between_steps(&mut self, id: WaiterId, why: Left) -> bool {
        let Some((db, keys)) = self.take_out(id, why) else {
            let was_there = self.memory.observers.remove(id);
            self.memory.stats.unobserved += u64::from(was_there && why == Left::TimedOut);
            return was_there;
        };
        keys.iter().for_each(|key| self.suspect(db, key));
        true
    }

    /// The same, but who asks for another look is the caller. The locks that it waited for, and their database.
    pub(super) fn take_out(&mut self, id: WaiterId, why: Left) -> Option<(i32, Keys)> {
        let entry = self.memory.waiters.remove(id)?;
        self.memory.stats.note_left(why);
        Some((entry.db, entry.keys))
    }

    /// Leaves this to be given back bit by bit.
    pub(super) fn leave_behind(&mut self, mut remains: impl Iterator<Item = ()> + 'static) {
        if remains.next().is_some() {
            self.remains.push_back(Box::new(remains));
            self.alarm.soon();
        }
    }

    /// Gives back a bit of what is left behind; whether there was any.
    pub(super) fn give_back_some(&mut self) -> bool {
        let Some(first) = self.remains.front_mut() else { return false };
        if first.next().is_none() {
            self.remains.pop_front();
        }
        true
    }

    /// Two databases have changed places: grants that may have to be taken back are in the other one now.
    pub(super) fn swap_grants(&mut self, first: i32, second: i32) {
        let deferred = &mut self.deferred;
        let delivered = deferred.delivered.iter_mut().map(|delivered| &mut delivered.grant);
        let grants = deferred.suspects.iter_mut().chain(delivered).chain(self.blocked.grants());
        for grant in grants.filter(|grant| grant.undo.is_some()) {
            grant.db = match grant.db {
                db if db == first => second,
                db if db == second => first,
                db => db,
            };
        }
    }

    /// Asks for a look at all keys that are watched, and at all locks that are waited for.
    pub(super) fn suspect_all(&mut self) {
        self.memory.observers.note_all();
        if self.memory.waiters.len() > 0 {
            self.deferred.queues.ask();
        }
        self.alarm.soon();
    }
}

struct MainThread(RefCell<Host>);

// SAFETY: every entry of this module but the type's `free` runs on the server's main thread, or in a forked child
// that has a copy of its own; `free` touches nothing of this.
unsafe impl Sync for MainThread {}
// SAFETY: as above.
unsafe impl Send for MainThread {}

lazy_static! {
    static ref HOST: MainThread = MainThread(RefCell::new(Host::new()));
}

/// Runs `work` on the state. Work must not call anything that runs callbacks which need the state themselves.
pub(super) fn with<R>(work: impl FnOnce(&mut Host) -> R) -> R {
    work(&mut HOST.0.borrow_mut())
}

/// The same for callbacks that may also run inside our own steps: nothing happens then, since the step knows what
/// it does.
pub(super) fn with_unless_ours<R>(work: impl FnOnce(&mut Host) -> R) -> Option<R> {
    HOST.0.try_borrow_mut().ok().map(|mut host| work(&mut host))
}
