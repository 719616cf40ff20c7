//! One key in the keyspace that holds a value of this module: opened, read, stored.

use std::ffi::c_int;
use std::ptr::NonNull;

use redis_module::raw;

use super::api::{rm, Ctx, KeyHandle, Str};
use super::value::Value;
use crate::error::LockError;
use crate::primitive::Lock;

/// An open key that holds a value of one type, or nothing.
pub(super) struct OpenKey<'c, V: Value> {
    handle: KeyHandle<'c>,
    /// The value in the keyspace.
    stored: Option<NonNull<V>>,
}

impl<'c, V: Value> OpenKey<'c, V> {
    /// Opens the key for change.
    pub(super) fn open(ctx: Ctx<'c>, name: Str) -> Result<Self, LockError> {
        let handle = KeyHandle::open(ctx, name);
        let stored = stored(&handle);
        let is_empty =
            || rm!(RedisModule_KeyType(handle.as_ptr())) == raw::REDISMODULE_KEYTYPE_EMPTY as c_int;
        if stored.is_none() && !is_empty() {
            return Err(V::wrong_type());
        }
        Ok(Self { handle, stored })
    }

    /// The value, if there is one.
    pub(super) fn value(&mut self) -> Option<&mut V> {
        // SAFETY: the value lives in the keyspace as long as the key is open, and nobody else runs meanwhile.
        self.stored.map(|mut stored| unsafe { stored.as_mut() })
    }

    /// Makes this the key's value; a time to live goes with the one before.
    pub(super) fn put(&mut self, value: V) {
        let value = value.into_keyspace();
        let (key, kind) = (self.handle.as_ptr(), V::kind().data_type.as_ptr());
        rm!(RedisModule_ModuleTypeSetValue(key, kind, value.as_ptr().cast()));
        self.stored = Some(value);
    }

    /// Lets the server delete the key after this time; the moment at which it will, in ms since 1970.
    pub(super) fn expire_after(&mut self, life_ms: i64) -> i64 {
        rm!(RedisModule_SetExpire(self.handle.as_ptr(), life_ms));
        rm!(RedisModule_GetAbsExpire(self.handle.as_ptr()))
    }

    /// Lets the server delete the key at this moment, in ms since 1970.
    pub(super) fn expire_at(&mut self, unix_ms: i64) {
        rm!(RedisModule_SetAbsExpire(self.handle.as_ptr(), unix_ms));
    }

    /// Takes the value away, and the key with it.
    pub(super) fn delete(&mut self) {
        rm!(RedisModule_DeleteKey(self.handle.as_ptr()));
        self.stored = None;
    }
}

/// An open key that holds a lock or nothing.
pub(super) struct LockKey<'c> {
    key: OpenKey<'c, Lock>,
    /// The value that takes its place while there is none.
    fresh: Option<Lock>,
}

impl<'c> From<OpenKey<'c, Lock>> for LockKey<'c> {
    fn from(key: OpenKey<'c, Lock>) -> Self {
        Self { key, fresh: None }
    }
}

impl<'c> LockKey<'c> {
    /// Opens the key for change.
    pub(super) fn open(ctx: Ctx<'c>, name: Str) -> Result<Self, LockError> {
        OpenKey::open(ctx, name).map(Self::from)
    }

    /// The lock, free if there is no value.
    pub(super) fn lock(&mut self) -> &mut Lock {
        self.key.value().unwrap_or_else(|| self.fresh.get_or_insert_with(Lock::free))
    }

    /// Takes away a time to live that another command gave the key. Returns whether there was one.
    pub(super) fn clear_expiry(&self, ctx: Ctx, name: Str, replicating: bool) -> bool {
        let never = i64::from(raw::REDISMODULE_NO_EXPIRE);
        if self.key.stored.is_none() || rm!(RedisModule_GetExpire(self.key.handle.as_ptr())) == never {
            return false;
        }
        rm!(RedisModule_SetExpire(self.key.handle.as_ptr(), never));
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

/// The value in an open key. Returns `None` for values of other types.
fn stored<V: Value>(key: &KeyHandle) -> Option<NonNull<V>> {
    key.value(&V::kind().data_type).map(NonNull::cast)
}

/// Lets `work` read a value, or `None` if there is no key.
pub(super) fn read_value<V: Value, R>(
    ctx: Ctx,
    name: Str,
    work: impl FnOnce(Option<&V>) -> R,
) -> Result<R, LockError> {
    let Some(key) = KeyHandle::read(ctx, name) else { return Ok(work(None)) };
    let value = stored::<V>(&key).ok_or_else(V::wrong_type)?;
    // SAFETY: the value lives in the keyspace as long as the key is open, and reading runs no callbacks.
    Ok(work(Some(unsafe { value.as_ref() })))
}

/// The same for a lock.
pub(super) fn read<R>(ctx: Ctx, name: Str, work: impl FnOnce(Option<&Lock>) -> R) -> Result<R, LockError> {
    read_value(ctx, name, work)
}

/// Lets `work` change what is only ours in a lock, such as its place in the lease index. Does nothing if there is none.
pub(super) fn touch(ctx: Ctx, name: Str, work: impl FnOnce(&mut Lock)) {
    let Some(key) = KeyHandle::read(ctx, name) else { return };
    if let Some(mut lock) = stored::<Lock>(&key) {
        // SAFETY: the value lives in the keyspace as long as the key is open, and nobody else runs meanwhile.
        work(unsafe { lock.as_mut() });
    }
}
