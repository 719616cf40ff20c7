//! One step: a lock, or several together, changed by a request or by a wake-up, stored, and the effects carried
//! out in their order. Nobody else runs until the step is over, and everything that it left undone with it.

use super::api::{rm, Ctx, Str};
use super::blocked::{Answer, Blocked, NOT_PERMITTED};
use super::key::LockKey;
use super::notify::{self, Event, Events};
use super::replicate;
use super::state::{self, Host};
use super::{clock, hearing};
use crate::command::effect::stream::effects_of;
use crate::error::LockError;
use crate::primitive::step::group::Part;
use crate::primitive::{Clock, Effect, Fence, GroupStep, Lock, Step, WaiterId};

/// Where a change takes place, and on whose behalf.
#[derive(Clone, Copy)]
pub(super) struct Origin<'c> {
    pub(super) ctx: Ctx<'c>,
    pub(super) db: i32,
    /// Whether a client's command is being run, and not work of our own.
    pub(super) in_command: bool,
}

/// The result of the work, and whether nothing was left undone.
pub(super) fn change_one<R>(
    origin: Origin,
    name: Str,
    mut key: LockKey,
    work: impl FnOnce(&mut Step, &mut Blocked) -> Result<R, LockError>,
) -> (Result<R, LockError>, bool) {
    let mut events = Events::new();
    let result = state::with(|host| {
        if !host.is_primary {
            return (Err(LockError::ReadOnly), true);
        }
        let clock = clock::read();
        let mut effects = std::mem::take(&mut host.effects);
        let result = {
            let (db, manager, effects) = (origin.db, &mut host.manager, &mut effects);
            let mut step = Step { clock, db, key: name.as_bytes(), lock: key.lock(), manager, effects };
            let result = work(&mut step, &mut host.blocked);
            #[cfg(debug_assertions)]
            step.check();
            result
        };
        Commit { origin, clock, name, group: &[name] }.run(host, &mut key, &mut effects, &mut events);
        host.effects = effects;
        (result, host.manager.is_settled())
    });
    drop(key);
    notify::publish(origin.ctx, name, &events);
    result
}

pub(super) fn change_group<R>(
    origin: Origin,
    names: &[Str],
    work: impl FnOnce(&mut GroupStep, &mut Blocked) -> Result<R, LockError>,
) -> Result<R, LockError> {
    let mut keys = Vec::with_capacity(names.len());
    for name in names {
        keys.push(LockKey::open(origin.ctx, *name)?);
    }
    let mut told: Vec<(Str, Events)> = Vec::new();
    let result = state::with(|host| {
        if !host.is_primary {
            return Err(LockError::ReadOnly);
        }
        let clock = clock::read();
        let parts = names.iter().zip(&mut keys);
        let parts =
            parts.map(|(name, key)| Part { key: name.as_bytes(), lock: key.lock(), effects: Vec::new() });
        let mut group =
            GroupStep { clock, db: origin.db, parts: parts.collect(), manager: &mut host.manager };
        let result = work(&mut group, &mut host.blocked);
        #[cfg(debug_assertions)]
        crate::primitive::Locks::each(&mut group, |step| step.check());
        let effects: Vec<Vec<Effect>> = group.parts.into_iter().map(|part| part.effects).collect();
        for ((name, key), mut effects) in names.iter().zip(&mut keys).zip(effects) {
            let mut events = Events::new();
            let commit = Commit { origin, clock, name: *name, group: names };
            commit.run(host, key, &mut effects, &mut events);
            told.push((*name, events));
        }
        result
    });
    drop(keys);
    told.iter().for_each(|(name, events)| notify::publish(origin.ctx, *name, events));
    result
}

/// The effects of a step on one lock, on their way out.
struct Commit<'a> {
    origin: Origin<'a>,
    clock: Clock,
    name: Str<'a>,
    /// All locks of the step.
    group: &'a [Str<'a>],
}

impl Commit<'_> {
    /// Tells replicas and the AOF. Apart, so that a step of which nobody hears does not pay for the room it takes.
    #[inline(never)]
    fn replicate(&self, effects: &[Effect], lock: &Lock) {
        replicate::lock(self.origin.ctx, self.name, &effects_of(effects, lock, self.clock));
    }

    /// Stores the lock, replicates in one command, wakes, and collects what to publish.
    fn run(&self, host: &mut Host, key: &mut LockKey, effects: &mut Vec<Effect>, events: &mut Events) {
        let Origin { ctx, db, in_command } = self.origin;
        if !host.manager.observers.is_empty() {
            host.manager.observers.mark(db, self.name.as_bytes());
        }
        if effects.is_empty() {
            key.store();
            return;
        }
        let replicating = !in_command || host.listeners.any(ctx);
        // An owner that is told how long it has the lock must not lose it earlier.
        let tells_owner = |effect: &Effect| matches!(effect, Effect::Granted { .. } | Effect::Kept);
        let mut changed = effects.iter().any(tells_owner) && key.clear_expiry(ctx, self.name, replicating);
        key.store();
        if replicating {
            self.replicate(effects, key.lock());
        }
        let mut holder_changed = false;
        for effect in &*effects {
            match *effect {
                Effect::Granted { fence, to } => {
                    (changed, holder_changed) = (true, true);
                    events.push(Event::Acquired);
                    if let Some(waiter) = to {
                        answer_with(host, waiter, fence, self.group);
                    }
                }
                Effect::Reinstated { .. } => {
                    (changed, holder_changed) = (true, true);
                    events.push(Event::Acquired);
                }
                Effect::Renewed { .. } | Effect::Entered { .. } | Effect::Exited { .. } => changed = true,
                Effect::Downgraded { .. } => {
                    (changed, holder_changed) = (true, true);
                    events.push(Event::Downgraded);
                }
                Effect::Limited { .. } => {
                    (changed, holder_changed) = (true, true);
                    events.push(Event::Limited);
                }
                Effect::Ended { how, .. } => {
                    (changed, holder_changed) = (true, true);
                    events.push(Event::of_end(how));
                }
                Effect::Kept | Effect::KeptAway { .. } => {}
                Effect::Queued => events.push(Event::Waiting),
                Effect::Announced { fence, ref channel } => {
                    if let Some(hold) = key.lock().hold_with(fence) {
                        notify::announce(ctx, channel, hold, self.name.as_bytes());
                    }
                }
                Effect::Wanted => events.push(Event::Wanted),
                Effect::WaitEnded { client, why } => host.blocked.answer(client, Answer::WaitEnded(why)),
            }
        }
        effects.clear();
        if changed && !replicating {
            host.unreplicated_changes = host.unreplicated_changes.saturating_add(1);
        }
        if holder_changed {
            rm!(RedisModule_SignalModifiedKey(ctx.as_ptr(), self.name.as_ptr()));
        }
        if let Some(deadline) = host.manager.take_soonest() {
            host.timer.wake_by(deadline);
        }
        hearing::hear_of_clients(host, ctx);
    }
}

/// Gives a waiting client its grant, if it may still have it.
fn answer_with(host: &mut Host, waiter: WaiterId, fence: Fence, names: &[Str]) {
    if host.blocked.is_permitted(waiter, names) {
        host.blocked.answer(waiter, Answer::Granted(fence));
    } else {
        host.blocked.answer(waiter, Answer::Failed(NOT_PERMITTED));
        host.tell(|manager| manager.grant_unread(fence));
    }
}
