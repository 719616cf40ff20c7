//! One lock's key in the keyspace: opened, read, stored.

use std::ffi::c_int;
use std::ptr;

use redis_module::raw;

use super::api::{rm, Ctx, KeyHandle, RString};
use super::data_type::{self, lock_type};
use crate::error::LockError;
use crate::primitive::Lock;

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
    pub(super) fn clear_expiry(&self, ctx: *mut Ctx, name: *mut RString, listening: bool) {
        let never = i64::from(raw::REDISMODULE_NO_EXPIRE);
        if !self.stored.is_null() && rm!(RedisModule_GetExpire(self.handle)) != never {
            rm!(RedisModule_SetExpire(self.handle, never));
            if listening {
                rm!(RedisModule_Replicate(ctx, c"PERSIST".as_ptr(), c"s".as_ptr(), name));
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
