//! One key in the keyspace that holds a value of this module: opened, read, stored.

use std::ffi::c_int;
use std::ptr;

use redis_module::raw;

use super::api::{rm, Ctx, KeyHandle, Str};
use super::value::Value;
use crate::error::LockError;
use crate::primitive::Lock;

/// An open key that holds a value of one type, or nothing.
pub(super) struct OpenKey<V: Value> {
    handle: *mut KeyHandle,
    /// The value in the keyspace; null while there is none.
    stored: *mut V,
}

impl<V: Value> OpenKey<V> {
    /// Opens the key for change.
    pub(super) fn open(ctx: Ctx, name: Str) -> Result<Self, LockError> {
        let mode = (raw::REDISMODULE_READ | raw::REDISMODULE_WRITE) as c_int;
        let handle = rm!(RedisModule_OpenKey(ctx.as_ptr(), name.as_ptr(), mode));
        let key = Self { handle, stored: stored(handle) };
        if key.stored.is_null() && rm!(RedisModule_KeyType(handle)) != raw::REDISMODULE_KEYTYPE_EMPTY as c_int
        {
            return Err(V::wrong_type());
        }
        Ok(key)
    }

    /// The value, if there is one.
    pub(super) fn value(&mut self) -> Option<&mut V> {
        // SAFETY: the value lives in the keyspace as long as the key is open, and nobody else runs meanwhile.
        unsafe { self.stored.as_mut() }
    }

    /// Makes this the key's value; a time to live goes with the one before.
    pub(super) fn put(&mut self, value: V) {
        self.stored = value.into_keyspace();
        rm!(RedisModule_ModuleTypeSetValue(self.handle, V::kind().handle(), self.stored.cast()));
    }

    /// Lets the server delete the key after this time; the moment at which it will, in ms since 1970.
    pub(super) fn expire_after(&mut self, life_ms: i64) -> i64 {
        rm!(RedisModule_SetExpire(self.handle, life_ms));
        rm!(RedisModule_GetAbsExpire(self.handle))
    }

    /// Lets the server delete the key at this moment, in ms since 1970.
    pub(super) fn expire_at(&mut self, unix_ms: i64) {
        rm!(RedisModule_SetAbsExpire(self.handle, unix_ms));
    }

    /// Takes the value away, and the key with it.
    pub(super) fn delete(&mut self) {
        rm!(RedisModule_DeleteKey(self.handle));
        self.stored = ptr::null_mut();
    }
}

impl<V: Value> Drop for OpenKey<V> {
    fn drop(&mut self) {
        rm!(RedisModule_CloseKey(self.handle));
    }
}

/// An open key that holds a lock or nothing.
pub(super) struct LockKey {
    key: OpenKey<Lock>,
    /// What takes its place while there is none.
    fresh: Option<Lock>,
}

impl From<OpenKey<Lock>> for LockKey {
    fn from(key: OpenKey<Lock>) -> Self {
        Self { key, fresh: None }
    }
}

impl LockKey {
    /// Opens the key for change.
    pub(super) fn open(ctx: Ctx, name: Str) -> Result<Self, LockError> {
        OpenKey::open(ctx, name).map(Self::from)
    }

    /// The lock, free if there is no value.
    pub(super) fn lock(&mut self) -> &mut Lock {
        self.key.value().unwrap_or_else(|| self.fresh.get_or_insert_with(Lock::free))
    }

    /// Takes away a time to live that another command gave the key; whether there was one.
    pub(super) fn clear_expiry(&self, ctx: Ctx, name: Str, replicating: bool) -> bool {
        let never = i64::from(raw::REDISMODULE_NO_EXPIRE);
        if self.key.stored.is_null() || rm!(RedisModule_GetExpire(self.key.handle)) == never {
            return false;
        }
        rm!(RedisModule_SetExpire(self.key.handle, never));
        if replicating {
            rm!(RedisModule_Replicate(ctx.as_ptr(), c"PERSIST".as_ptr(), c"s".as_ptr(), name.as_ptr()));
        }
        true
    }

    /// Makes the keyspace agree with the lock: a key for a held lock, none for a free one.
    pub(super) fn store(&mut self) {
        match self.key.value() {
            Some(stored) if stored.is_free() => self.key.delete(),
            Some(_) => {}
            None => {
                if let Some(fresh) = self.fresh.take_if(|fresh| !fresh.is_free()) {
                    self.key.put(fresh);
                }
            }
        }
    }
}

/// The value in an open key; null for nothing and for values of other types.
fn stored<V: Value>(handle: *mut KeyHandle) -> *mut V {
    if rm!(RedisModule_ModuleTypeGetType(handle)) == V::kind().handle() {
        rm!(RedisModule_ModuleTypeGetValue(handle)).cast()
    } else {
        ptr::null_mut()
    }
}

/// Lets `work` read a value; nothing if there is none.
pub(super) fn read_value<V: Value, R>(
    ctx: Ctx,
    name: Str,
    work: impl FnOnce(Option<&V>) -> R,
) -> Result<R, LockError> {
    let handle = rm!(RedisModule_OpenKey(ctx.as_ptr(), name.as_ptr(), raw::REDISMODULE_READ as c_int));
    if handle.is_null() {
        return Ok(work(None));
    }
    let value = stored::<V>(handle);
    // SAFETY: the value lives in the keyspace as long as the key is open, and reading runs no callbacks.
    let result = unsafe { value.as_ref() }.map(|value| work(Some(value))).ok_or_else(V::wrong_type);
    rm!(RedisModule_CloseKey(handle));
    result
}

/// The same for a lock.
pub(super) fn read<R>(ctx: Ctx, name: Str, work: impl FnOnce(Option<&Lock>) -> R) -> Result<R, LockError> {
    read_value(ctx, name, work)
}

/// Lets `work` change what is only ours in a lock, such as its place in the lease index; nothing if there is none.
pub(super) fn touch(ctx: Ctx, name: Str, work: impl FnOnce(&mut Lock)) {
    let handle = rm!(RedisModule_OpenKey(ctx.as_ptr(), name.as_ptr(), raw::REDISMODULE_READ as c_int));
    if handle.is_null() {
        return;
    }
    // SAFETY: the value lives in the keyspace as long as the key is open, and nobody else runs meanwhile.
    if let Some(lock) = unsafe { stored::<Lock>(handle).as_mut() } {
        work(lock);
    }
    rm!(RedisModule_CloseKey(handle));
}
