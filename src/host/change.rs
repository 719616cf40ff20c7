//! A change of a lock, or of several together, and then everything that it leaves to be done.

use super::api::Str;
use super::blocked::Blocked;
use super::commit::{change_group, change_one, Origin};
use super::key::LockKey;
use super::keyspace::ServerKeyspace;
use super::slot_scope::SlotScope;
use super::{observe, state};
use crate::error::LockError;
use crate::primitive::allowance::Allowance;
use crate::primitive::driver;
use crate::primitive::{GroupStep, LockManager, Step};

/// Lets `work` change a lock, then stores it and carries out what follows. Work that was due on the lock is done even
/// if the request itself is refused.
pub(super) fn change<R>(
    origin: Origin,
    name: Str,
    work: impl FnOnce(&mut Step, &mut Blocked) -> Result<R, LockError>,
) -> Result<R, LockError> {
    // Before the state is taken: opening deletes a key whose time to live, which another command gave it, has ended.
    change_open(origin, name, LockKey::open(origin.ctx, name)?, work)
}

/// The same for a key that is open.
pub(super) fn change_open<R>(
    origin: Origin,
    name: Str,
    key: LockKey,
    work: impl FnOnce(&mut Step, &mut Blocked) -> Result<R, LockError>,
) -> Result<R, LockError> {
    let (result, is_over) = change_one(origin, name, key, |step, blocked| {
        begin(origin, step.manager);
        work(step, blocked)
    });
    if !is_over {
        finish(origin, name);
    }
    check();
    result
}

/// The same for several locks together, each named once.
pub(super) fn change_all<R>(
    origin: Origin,
    names: &[Str],
    work: impl FnOnce(&mut GroupStep, &mut Blocked) -> Result<R, LockError>,
) -> Result<R, LockError> {
    state::with(|host| begin(origin, &mut host.manager));
    let result = change_group(origin, names, work);
    names.first().into_iter().for_each(|name| finish(origin, *name));
    check();
    result
}

/// In a debug build, panics unless the whole state agrees with itself, as it does between two steps. Where many wait it would
/// take too long.
pub(super) fn check() {
    #[cfg(debug_assertions)]
    state::with(|host| {
        if host.manager.waiters.len() <= 100 {
            host.manager.check();
        }
    });
}

/// Gives a client's command its allowance. Work of our own has its own, whatever it consists of.
fn begin(origin: Origin, manager: &mut LockManager) {
    if origin.in_command {
        manager.allowance = Allowance::default();
    }
}

/// Does what a step on this lock has left to be done.
#[inline(never)]
fn finish(origin: Origin, name: Str) {
    let scope =
        if origin.in_command { SlotScope::of_command(origin.ctx, name.as_bytes()) } else { SlotScope::All };
    driver::finish_step(&mut ServerKeyspace { origin, scope, in_budget: &|| true });
    let is_watched = state::with(|host| {
        if !host.manager.rechecks.is_empty() {
            host.timer.wake_now();
        }
        !host.manager.observers.is_quiet()
    });
    if is_watched {
        observe::after_step(origin.ctx, scope);
    }
}
