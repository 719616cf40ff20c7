//! Open keys and data types, as the server knows them.

use std::ffi::{c_int, c_void, CStr};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use redis_module::raw;

use super::{rm, Ctx, Str};

/// An open key, closed at the end.
pub(in crate::host) struct KeyHandle<'c>(NonNull<raw::RedisModuleKey>, PhantomData<Ctx<'c>>);

impl<'c> KeyHandle<'c> {
    /// Opens a key for change, be there anything in it or not.
    #[inline]
    pub(in crate::host) fn open(ctx: Ctx<'c>, name: Str) -> Self {
        let mode = (raw::REDISMODULE_READ | raw::REDISMODULE_WRITE) as c_int;
        let key = rm!(RedisModule_OpenKey(ctx.as_ptr(), name.as_ptr(), mode));
        // SAFETY: the server refuses only to open an empty key that is not to be written.
        Self(unsafe { NonNull::new_unchecked(key) }, PhantomData)
    }

    /// Opens a key to read it; `None` if there is nothing in it.
    pub(in crate::host) fn read(ctx: Ctx<'c>, name: Str) -> Option<Self> {
        let mode = raw::REDISMODULE_READ as c_int;
        let key = rm!(RedisModule_OpenKey(ctx.as_ptr(), name.as_ptr(), mode));
        NonNull::new(key).map(|key| Self(key, PhantomData))
    }

    /// Where the value lies, if there is one of this type.
    #[inline]
    pub(in crate::host) fn value(&self, of: &DataType) -> Option<NonNull<c_void>> {
        if rm!(RedisModule_ModuleTypeGetType(self.as_ptr())) == of.as_ptr() {
            NonNull::new(rm!(RedisModule_ModuleTypeGetValue(self.as_ptr())))
        } else {
            None
        }
    }

    /// For [`rm!`].
    #[inline]
    pub(in crate::host) const fn as_ptr(&self) -> *mut raw::RedisModuleKey {
        self.0.as_ptr()
    }
}

impl Drop for KeyHandle<'_> {
    #[inline]
    fn drop(&mut self) {
        rm!(RedisModule_CloseKey(self.as_ptr()));
    }
}

/// A data type of ours.
pub(in crate::host) struct DataType {
    name: &'static CStr,
    /// Null until the server knows it.
    made: AtomicPtr<raw::RedisModuleType>,
}

impl DataType {
    /// One that the server does not know yet. The name has nine characters, as it asks; it stands in RDB files and in TYPE.
    pub(in crate::host) const fn new(name: &'static CStr) -> Self {
        Self { name, made: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Tells the server about it. Returns whether the server takes it.
    pub(in crate::host) fn register(
        &self,
        ctx: Ctx,
        encoding: c_int,
        mut methods: raw::RedisModuleTypeMethods,
    ) -> bool {
        let name = self.name.as_ptr();
        let made = rm!(RedisModule_CreateDataType(ctx.as_ptr(), name, encoding, &raw mut methods));
        self.made.store(made, Relaxed);
        !made.is_null()
    }

    /// For [`rm!`].
    #[inline]
    pub(in crate::host) fn as_ptr(&self) -> *mut raw::RedisModuleType {
        self.made.load(Relaxed)
    }
}
