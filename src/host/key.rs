//! One lock's key: opened, changed in one step, stored, and the effects carried out in their order.

use std::ffi::c_int;
use std::ptr;

use redis_module::raw;

use super::api::{bytes, rm, Ctx, KeyHandle, RString};
use super::blocked::{Answer, Blocked};
use super::data_type::{self, lock_type};
use super::notify::{self, Event};
use super::replicate;
use super::state::{self, Host, Suspect};
use super::{clock, config};
use crate::command::effect::HoldEffect;
use crate::error::LockError;
use crate::primitive::{Clock, Effect, End, Lock, Turn};

/// Where a change takes place, and on whose behalf.
#[derive(Clone, Copy)]
pub(super) struct Site {
    pub(super) ctx: *mut Ctx,
    pub(super) db: i32,
    pub(super) name: *mut RString,
    /// Whether a client's command is being run, and not work of our own.
    pub(super) in_command: bool,
}

/// An open key that holds a lock or nothing.
pub(super) struct LockKey {
    handle: *mut KeyHandle,
    /// The value in the keyspace; null while there is none.
    stored: *mut Lock,
    fresh: Lock,
}

impl LockKey {
    /// Opens the key for change.
    pub(super) fn open(ctx: *mut Ctx, name: *mut RString) -> Result<Self, LockError> {
        let mode = (raw::REDISMODULE_READ | raw::REDISMODULE_WRITE) as c_int;
        let handle = rm!(RedisModule_OpenKey(ctx, name, mode));
        let key = Self { handle, stored: stored(handle), fresh: Lock::free() };
        if key.stored.is_null() && rm!(RedisModule_KeyType(handle)) != raw::REDISMODULE_KEYTYPE_EMPTY as c_int
        {
            return Err(LockError::WrongType);
        }
        Ok(key)
    }

    /// The lock, free if there is no value.
    pub(super) fn lock(&mut self) -> &mut Lock {
        // SAFETY: the value lives in the keyspace as long as the key is open, and nobody else runs meanwhile.
        unsafe { self.stored.as_mut() }.unwrap_or(&mut self.fresh)
    }

    /// Takes away a time to live that a stranger gave the key: it was meant for the hold that was there.
    fn clear_expiry(&self, site: Site, listening: bool) {
        let never = i64::from(raw::REDISMODULE_NO_EXPIRE);
        if !self.stored.is_null() && rm!(RedisModule_GetExpire(self.handle)) != never {
            rm!(RedisModule_SetExpire(self.handle, never));
            if listening {
                rm!(RedisModule_Replicate(site.ctx, c"PERSIST".as_ptr(), c"s".as_ptr(), site.name));
            }
        }
    }

    /// Makes the keyspace agree with the lock: a key for a held lock, none for a free one.
    pub(super) fn store(&mut self) {
        match (self.stored.is_null(), self.lock().is_free()) {
            (true, false) => {
                let value = data_type::into_value(std::mem::replace(&mut self.fresh, Lock::free()));
                rm!(RedisModule_ModuleTypeSetValue(self.handle, lock_type(), value.cast()));
                self.stored = value;
            }
            (false, true) => {
                rm!(RedisModule_DeleteKey(self.handle));
                self.stored = ptr::null_mut();
            }
            _ => {}
        }
    }
}

impl Drop for LockKey {
    fn drop(&mut self) {
        rm!(RedisModule_CloseKey(self.handle));
    }
}

/// The lock in an open key; null for nothing and for values of other types.
fn stored(handle: *mut KeyHandle) -> *mut Lock {
    if rm!(RedisModule_ModuleTypeGetType(handle)) == lock_type() {
        rm!(RedisModule_ModuleTypeGetValue(handle)).cast()
    } else {
        ptr::null_mut()
    }
}

/// Lets `work` read a lock; nothing if there is none.
pub(super) fn read<R>(
    ctx: *mut Ctx,
    name: *mut RString,
    work: impl FnOnce(Option<&Lock>) -> R,
) -> Result<R, LockError> {
    let handle = rm!(RedisModule_OpenKey(ctx, name, raw::REDISMODULE_READ as c_int));
    if handle.is_null() {
        return Ok(work(None));
    }
    let lock = stored(handle);
    // SAFETY: the value lives in the keyspace as long as the key is open, and reading runs no callbacks.
    let result = unsafe { lock.as_ref() }.map(|lock| work(Some(lock))).ok_or(LockError::WrongType);
    rm!(RedisModule_CloseKey(handle));
    result
}

/// Lets `work` change what is only ours in a lock, such as its place in the lease index; nothing if there is none.
pub(super) fn touch(ctx: *mut Ctx, name: *mut RString, work: impl FnOnce(&mut Lock)) {
    let handle = rm!(RedisModule_OpenKey(ctx, name, raw::REDISMODULE_READ as c_int));
    if handle.is_null() {
        return;
    }
    // SAFETY: the value lives in the keyspace as long as the key is open, and nobody else runs meanwhile.
    if let Some(lock) = unsafe { stored(handle).as_mut() } {
        work(lock);
    }
    rm!(RedisModule_CloseKey(handle));
}

/// Lets `work` change a lock, then stores it and carries out what follows. What was due on the lock is done even
/// if the request itself is refused.
pub(super) fn change<R>(
    site: Site,
    work: impl FnOnce(&mut Turn, &mut Blocked) -> Result<R, LockError>,
) -> Result<R, LockError> {
    let mut events = notify::Events::new();
    // Before the state is taken: opening deletes a key that a stranger's time to live has ended.
    let mut key = LockKey::open(site.ctx, site.name)?;
    let result = state::with(|host| {
        if !host.is_primary {
            return Err(LockError::ReadOnly);
        }
        let clock = clock::read();
        let mut effects = std::mem::take(&mut host.effects);
        let result = {
            let (db, memory, effects) = (site.db, &mut host.memory, &mut effects);
            let mut turn = Turn { clock, db, key: bytes(site.name), lock: key.lock(), memory, effects };
            work(&mut turn, &mut host.blocked)
        };
        if effects.iter().any(|effect| matches!(effect, Effect::Granted { .. })) {
            let listening = !site.in_command || host.listeners.any(site.ctx);
            key.clear_expiry(site, listening);
        }
        key.store();
        if !effects.is_empty() {
            carry_out(host, site, clock, key.lock(), &mut effects, &mut events);
        }
        host.effects = effects;
        result
    });
    drop(key);
    if config::events() {
        notify::publish(site.ctx, site.name, &events);
    }
    result
}

/// Replicates, wakes and collects what to publish.
fn carry_out(
    host: &mut Host,
    site: Site,
    clock: Clock,
    lock: &Lock,
    effects: &mut Vec<Effect>,
    events: &mut notify::Events,
) {
    let Site { ctx, db, name, in_command } = site;
    let listening = !in_command || host.listeners.any(ctx);
    let (mut changed, mut holder_changed) = (false, false);
    for effect in effects.drain(..) {
        match effect {
            Effect::Granted { fence, to } => {
                if let Some(hold) = lock.hold_with(fence).filter(|_| listening) {
                    replicate::hold(ctx, name, HoldEffect::of(hold, clock));
                }
                (changed, holder_changed) = (true, true);
                events.push(Event::Acquired);
                if let Some(waiter) = to {
                    let grant = Suspect { db, key: bytes(name).into(), undo: Some(fence) };
                    if host.blocked.is_permitted(waiter, host.acquire_name.as_ptr(), name) {
                        host.blocked.answer(waiter, Answer::Granted(grant, fence));
                    } else {
                        let text = c"NOPERM the right to this lock was taken away while waiting; ask an administrator";
                        host.blocked.answer(waiter, Answer::Failed(text));
                        host.deferred.suspects.push_back(grant);
                        host.alarm.soon();
                    }
                }
            }
            Effect::Renewed { fence } => {
                if let Some(hold) = lock.hold_with(fence).filter(|_| listening) {
                    replicate::hold(ctx, name, HoldEffect::of(hold, clock));
                }
                changed = true;
            }
            Effect::Ended { hold, how } => {
                if listening {
                    replicate::free(ctx, name, hold.fence);
                }
                (changed, holder_changed) = (true, true);
                events.push(if how == End::Expired { Event::Expired } else { Event::Released });
            }
            Effect::Queued => events.push(Event::Waiting),
            Effect::Left { waiter, why } => host.blocked.answer(waiter, Answer::Left(why)),
        }
    }
    if changed && !listening {
        host.uncounted += 1;
    }
    if holder_changed {
        rm!(RedisModule_SignalModifiedKey(ctx, name));
    }
    if let Some(deadline) = host.memory.take_soonest() {
        host.alarm.by(deadline);
    }
}
