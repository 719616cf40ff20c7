//! One step: a lock, or several together, changed by a request or by a wake-up, stored, and the effects carried
//! out in their order. Nobody else runs until the step is over, and everything that it left undone with it.

use super::api::{bytes, rm, Ctx, OwnString, RString};
use super::blocked::{Answer, Blocked, NOT_PERMITTED};
use super::key::LockKey;
use super::notify::{self, Event, Events};
use super::reach::Reach;
use super::replicate;
use super::state::{self, Host, Suspect};
use super::{clock, hearing, observe};
use crate::command::effect::step::effects_of;
use crate::error::LockError;
use crate::primitive::allowance::Allowance;
use crate::primitive::turns::Part;
use crate::primitive::unsettled::Item;
use crate::primitive::wait_queue::Keys;
use crate::primitive::{Clock, Effect, Fence, Turn, Turns, WaiterId};

/// Where a change takes place, and on whose behalf.
#[derive(Clone, Copy)]
pub(super) struct Site {
    pub(super) ctx: *mut Ctx,
    pub(super) db: i32,
    /// Whether a client's command is being run, and not work of our own.
    pub(super) in_command: bool,
}

/// Lets `work` change a lock, then stores it and carries out what follows. What was due on the lock is done even
/// if the request itself is refused.
pub(super) fn change<R>(
    site: Site,
    name: *mut RString,
    work: impl FnOnce(&mut Turn, &mut Blocked) -> Result<R, LockError>,
) -> Result<R, LockError> {
    begin(site);
    let (result, is_over) = change_one(site, name, work)?;
    if !is_over {
        finish(site, name);
    }
    result
}

/// The same for several locks together, each named once.
pub(super) fn change_all<R>(
    site: Site,
    names: &[*mut RString],
    work: impl FnOnce(&mut Turns, &mut Blocked) -> Result<R, LockError>,
) -> Result<R, LockError> {
    begin(site);
    let result = change_group(site, names, work);
    names.first().into_iter().for_each(|name| finish(site, *name));
    result
}

/// Gives a client's command its allowance. Work of our own has its own, whatever it consists of.
fn begin(site: Site) {
    if site.in_command {
        state::with(|host| host.memory.allowance = Allowance::default());
    }
}

/// Looks at the locks that a step on this one has found worth looking at, until there are none.
fn finish(site: Site, name: *mut RString) {
    let reach = if site.in_command { Reach::of_command(site.ctx, bytes(name)) } else { Reach::All };
    while let Some(next) = state::with(|host| host.memory.next_unsettled()) {
        match next {
            Item::Lock(db, key) if !reach.has(&key) => state::with(|host| host.suspect(db, &key)),
            Item::Lock(db, key) => {
                let name = OwnString::new(&key);
                let settled = change_one(Site { db, ..site }, name.as_ptr(), |turn, _| {
                    turn.settle();
                    Ok(())
                });
                if matches!(settled, Err(LockError::WrongType)) {
                    state::with(|host| host.suspect(db, &key));
                }
            }
            Item::Group(id) => {
                let found = state::with(|host| {
                    let entry = host.memory.waiters.get(id)?;
                    Some((entry.db, entry.keys.clone()))
                });
                let Some((db, keys)) = found else { continue };
                let names: Vec<OwnString> = keys.iter().map(|key| OwnString::new(key)).collect();
                let names: Vec<*mut RString> = names.iter().map(OwnString::as_ptr).collect();
                let served = change_group(Site { db, ..site }, &names, |turns, _| {
                    turns.serve(id);
                    Ok(())
                });
                if served == Err(LockError::WrongType) {
                    keys.iter().for_each(|key| state::with(|host| host.suspect(db, key)));
                }
            }
        }
    }
    state::with(|host| {
        while let Some((db, key)) = host.memory.unfinished.pop() {
            host.look_soon(db, &key);
        }
    });
    if !state::with(|host| host.memory.observers.is_quiet()) {
        observe::after_step(site.ctx, reach);
    }
}

/// The result of the work, and whether it left nothing undone; an error if the lock could not even be opened.
fn change_one<R>(
    site: Site,
    name: *mut RString,
    work: impl FnOnce(&mut Turn, &mut Blocked) -> Result<R, LockError>,
) -> Result<(Result<R, LockError>, bool), LockError> {
    let mut events = Events::new();
    // Before the state is taken: opening deletes a key that a stranger's time to live has ended.
    let mut key = LockKey::open(site.ctx, name)?;
    let result = state::with(|host| {
        if !host.is_primary {
            return (Err(LockError::ReadOnly), true);
        }
        let clock = clock::read();
        let mut effects = std::mem::take(&mut host.effects);
        let result = {
            let (db, memory, effects) = (site.db, &mut host.memory, &mut effects);
            let mut turn = Turn { clock, db, key: bytes(name), lock: key.lock(), memory, effects };
            work(&mut turn, &mut host.blocked)
        };
        Carrying { site, clock, name, group: &[name] }.out(host, &mut key, &mut effects, &mut events);
        host.effects = effects;
        (result, host.memory.is_settled())
    });
    drop(key);
    notify::publish(site.ctx, name, &events);
    Ok(result)
}

fn change_group<R>(
    site: Site,
    names: &[*mut RString],
    work: impl FnOnce(&mut Turns, &mut Blocked) -> Result<R, LockError>,
) -> Result<R, LockError> {
    let mut keys = Vec::with_capacity(names.len());
    for name in names {
        keys.push(LockKey::open(site.ctx, *name)?);
    }
    let mut told: Vec<(*mut RString, Events)> = Vec::new();
    let result = state::with(|host| {
        if !host.is_primary {
            return Err(LockError::ReadOnly);
        }
        let clock = clock::read();
        let parts = names.iter().zip(&mut keys);
        let parts =
            parts.map(|(name, key)| Part { key: bytes(*name), lock: key.lock(), effects: Vec::new() });
        let mut turns = Turns { clock, db: site.db, parts: parts.collect(), memory: &mut host.memory };
        let result = work(&mut turns, &mut host.blocked);
        let effects: Vec<Vec<Effect>> = turns.parts.into_iter().map(|part| part.effects).collect();
        for ((name, key), mut effects) in names.iter().zip(&mut keys).zip(effects) {
            let mut events = Events::new();
            let carrying = Carrying { site, clock, name: *name, group: names };
            carrying.out(host, key, &mut effects, &mut events);
            told.push((*name, events));
        }
        result
    });
    drop(keys);
    told.iter().for_each(|(name, events)| notify::publish(site.ctx, *name, events));
    result
}

/// The effects of a step on one lock, on their way out.
struct Carrying<'a> {
    site: Site,
    clock: Clock,
    name: *mut RString,
    /// All locks of the step.
    group: &'a [*mut RString],
}

impl Carrying<'_> {
    /// Stores the lock, replicates in one command, wakes, and collects what to publish.
    fn out(&self, host: &mut Host, key: &mut LockKey, effects: &mut Vec<Effect>, events: &mut Events) {
        let Site { ctx, db, in_command } = self.site;
        host.memory.observers.note(db, bytes(self.name));
        if effects.is_empty() {
            key.store();
            return;
        }
        let listening = !in_command || host.listeners.any(ctx);
        // An owner that is told how long it has the lock must not lose it earlier.
        let tells_owner = |effect: &Effect| matches!(effect, Effect::Granted { .. } | Effect::Kept);
        let mut changed = effects.iter().any(tells_owner) && key.clear_expiry(ctx, self.name, listening);
        key.store();
        let lock = key.lock();
        if listening {
            replicate::lock(ctx, self.name, &effects_of(effects, lock, self.clock));
        }
        let mut holder_changed = false;
        for effect in effects.drain(..) {
            match effect {
                Effect::Granted { fence, to } => {
                    (changed, holder_changed) = (true, true);
                    events.push(Event::Acquired);
                    if let Some(waiter) = to {
                        let keys: Keys = self.group.iter().map(|name| bytes(*name).into()).collect();
                        let grant = Suspect { db, keys, undo: Some(fence) };
                        hand_over(host, waiter, grant, fence, self.group);
                    }
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
                Effect::Kept => {}
                Effect::Queued => events.push(Event::Waiting),
                Effect::Announced { fence, channel } => {
                    if let Some(hold) = lock.hold_with(fence) {
                        notify::announce(ctx, &channel, hold, bytes(self.name));
                    }
                }
                Effect::Wanted => events.push(Event::Wanted),
                Effect::Left { client, why } => host.blocked.answer(client, Answer::Left(why)),
            }
        }
        if changed && !listening {
            host.uncounted += 1;
        }
        if holder_changed {
            rm!(RedisModule_SignalModifiedKey(ctx, self.name));
        }
        if let Some(deadline) = host.memory.take_soonest() {
            host.alarm.by(deadline);
        }
        hearing::hear_of_clients(host, ctx);
    }
}

/// Gives a waiting client its grant, if it may still have it.
fn hand_over(host: &mut Host, waiter: WaiterId, grant: Suspect, fence: Fence, names: &[*mut RString]) {
    if host.blocked.is_permitted(waiter, names) {
        host.blocked.answer(waiter, Answer::Granted(grant, fence));
    } else {
        host.blocked.answer(waiter, Answer::Failed(NOT_PERMITTED));
        host.deferred.suspects.push_back(grant);
        host.alarm.soon();
    }
}
