//! The module's one piece of state, and who may touch it: the server's main thread, one at a time.

use std::cell::RefCell;

use lazy_static::lazy_static;

use super::after_sleep::AfterSleep;
use super::blocked::Blocked;
use super::handover::Handover;
use super::journal::Refusals;
use super::replicate::Listeners;
use super::subscriptions::Subscriptions;
use super::wake_timer::WakeTimer;
use super::{config, rights};
use crate::primitive::manager::rechecks::Rechecks;
use crate::primitive::manager::Gate;
use crate::primitive::table::Table;
use crate::primitive::wait_queue::LockName;
use crate::primitive::{Effect, Fence, LockManager, Moment, WaiterId};

/// All that the module keeps outside the keyspace.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Host {
    /// The state that the pure layers work on.
    pub(super) manager: LockManager,
    /// The clients of the waiters in it.
    pub(super) blocked: Blocked,
    /// Grants whose reply was given: is the client still there to read it?
    pub(super) delivered: Vec<Delivered>,
    /// Empty between two steps; kept for its room.
    pub(super) effects: Vec<Effect>,
    pub(super) timer: WakeTimer,
    pub(super) after_sleep: AfterSleep,
    pub(super) listeners: Listeners,
    pub(super) refusals: Refusals,
    /// How far the search for queues of moved locks has come.
    pub(super) queue_checked: Option<LockName>,
    /// The same among those who wait for several locks.
    pub(super) groups_checked: WaiterId,
    /// Which of the server's commands can block, of those that were asked about.
    pub(super) blocking_commands: Table<Box<[u8]>, bool>,
    pub(super) idle_timeout: IdleTimeout,
    /// Changes that nobody was told of, as nobody listens.
    pub(super) unreplicated_changes: u64,
    /// Only a primary grants, ends and wakes; a replica does what it is told.
    pub(super) is_primary: bool,
    /// While this is a replica: whether its primary hands over to it.
    pub(super) handover: Handover,
    /// Whether the event loop has begun: what is loaded before that is what a start finds.
    pub(super) has_run: bool,
    /// Whether those who waited while this was a primary are still to be sent away.
    pub(super) steps_down: bool,
    /// Whether the data that is being loaded comes from a primary, and not from this server's disk.
    pub(super) loads_stream: bool,
    /// Whether somebody deletes or moves locks from outside, so that renames are worth listening for.
    pub(super) watches_moves: bool,
    pub(super) subscriptions: Subscriptions,
}

/// After how many seconds the server closes an idle connection, by its setting `timeout`; 0 if it does not.
#[derive(Default)]
pub(super) struct IdleTimeout {
    /// Whether it was asked for since a setting has changed.
    pub(super) is_known: bool,
    /// The value that the log was told of last.
    pub(super) told: i64,
}

/// A grant whose client has been sent its reply.
pub(super) struct Delivered {
    pub(super) client: u64,
    pub(super) fence: Fence,
}

impl Host {
    fn new() -> Self {
        let mut manager = LockManager::default();
        manager.history.since = super::clock::now();
        config::apply_to(&mut manager);
        manager.gate = Gate(rights::may_take);
        Self {
            manager,
            blocked: Blocked::default(),
            delivered: Vec::new(),
            effects: Vec::new(),
            timer: WakeTimer::default(),
            after_sleep: AfterSleep::default(),
            listeners: Listeners::default(),
            refusals: Refusals::default(),
            queue_checked: None,
            groups_checked: WaiterId(0),
            blocking_commands: Table::default(),
            idle_timeout: IdleTimeout::default(),
            unreplicated_changes: 0,
            is_primary: true,
            handover: Handover::default(),
            has_run: false,
            steps_down: false,
            loads_stream: false,
            watches_moves: false,
            subscriptions: Subscriptions::default(),
        }
    }

    /// Whether nobody waits or watches, nothing is tied to a connection, and no work is left.
    pub(super) fn has_nothing_to_do(&self) -> bool {
        let Self { manager, .. } = self;
        manager.waiters.len() == 0
            && !manager.recovery.is_open()
            && manager.observers.is_empty()
            && manager.ties.len() == 0
            && manager.provisional.is_empty()
            && self.delivered.is_empty()
            && manager.rechecks.is_empty()
            && manager.dropped.is_empty()
            && self.unreplicated_changes == 0
            && !self.steps_down
            && !self.after_sleep.is_asked()
    }

    /// Whether there may be a key that deferred work would open at `now`.
    pub(super) fn has_keys_to_open(&self, now: Moment) -> bool {
        let is_due = || self.manager.leases.next_deadline().is_some_and(|due| due <= now);
        !self.manager.rechecks.is_empty() || !self.manager.observers.is_quiet() || is_due()
    }

    /// Tells the manager of something that has happened, and sees that what follows from it is done soon. All callbacks tell
    /// of events by this; what an event means, the manager knows.
    pub(super) fn tell<R>(&mut self, event: impl FnOnce(&mut LockManager) -> R) -> R {
        let result = event(&mut self.manager);
        self.wake_for_work();
        result
    }

    /// Sees that what the manager has to do between two steps is done soon.
    pub(super) fn wake_for_work(&mut self) {
        if self.manager.has_work() {
            self.timer.wake_now();
        }
        if let Some(deadline) = self.manager.take_soonest().filter(|_| self.is_primary) {
            self.timer.wake_by(deadline);
        }
    }

    /// Forgets what was to be looked at: a replica decides nothing.
    pub(super) fn forget_looks(&mut self) {
        self.manager.rechecks = Rechecks::default();
        self.delivered.clear();
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
