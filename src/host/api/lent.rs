//! Things that the server lends to a function of ours that it calls, for as long as the function runs.

use std::marker::PhantomData;
use std::ptr::NonNull;

use redis_module::raw;

use super::{rm, OwnString, Str};

macro_rules! lent {
    ($($(#[$doc:meta])* $name:ident($raw:ident);)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(in crate::host) struct $name<'c>(NonNull<raw::$raw>, PhantomData<&'c raw::$raw>);

        impl $name<'_> {
            /// Borrows what the server passed.
            ///
            /// # Safety
            ///
            /// It is what the server passed as such a thing, not null, and lives during `'c`.
            pub(in crate::host) const unsafe fn new(lent: *mut raw::$raw) -> Self {
                // SAFETY: by the word of the caller.
                Self(unsafe { NonNull::new_unchecked(lent) }, PhantomData)
            }

            /// For [`rm!`].
            #[inline]
            pub(in crate::host) const fn as_ptr(self) -> *mut raw::$raw {
                self.0.as_ptr()
            }
        }
    )* };
}

lent! {
    /// A context: on whose behalf we are called.
    Ctx(RedisModuleCtx);
    /// A file that is read or written.
    Io(RedisModuleIO);
    /// A value that is weighed or leaves its key: which key that is.
    KeyOpt(RedisModuleKeyOptCtx);
    /// The answer to INFO.
    InfoCtx(RedisModuleInfoCtx);
    /// The digest of a value, for the comparison of two servers.
    Digest(RedisModuleDigest);
}

impl Ctx<'_> {
    /// A context of our own, which is never given back.
    pub(in crate::host) fn of_our_own(self) -> Option<Ctx<'static>> {
        let ctx = NonNull::new(rm!(RedisModule_GetDetachedThreadSafeContext(self.as_ptr())));
        ctx.map(|ctx| Ctx(ctx, PhantomData))
    }

    /// The name of the user on whose behalf this call runs; `None` if there is no such user.
    pub(in crate::host) fn user_name(self) -> Option<OwnString> {
        let name = rm!(RedisModule_GetCurrentUserName(self.as_ptr()));
        // SAFETY: the server makes a string for us.
        unsafe { OwnString::adopt(name) }
    }
}

/// Whether any of these context flags is set.
pub(in crate::host) fn has_flags(ctx: Ctx, flags: u32) -> bool {
    rm!(RedisModule_GetContextFlags(ctx.as_ptr())).unsigned_abs() & flags != 0
}

/// Whether a file is being loaded, or what a primary sends in place of all data, and there is nothing to serve meanwhile.
pub(in crate::host) fn is_loading(ctx: Ctx) -> bool {
    has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_LOADING)
}

impl<'c> Io<'c> {
    pub(in crate::host) fn ctx(self) -> Ctx<'c> {
        let ctx = rm!(RedisModule_GetContextFromIO(self.as_ptr()));
        // SAFETY: the server makes one for the file.
        unsafe { Ctx::new(ctx) }
    }

    /// The key whose value is being read or written.
    pub(in crate::host) fn key_name(self) -> Option<Str<'c>> {
        let name = rm!(RedisModule_GetKeyNameFromIO(self.as_ptr()));
        // SAFETY: the server keeps the name while it reads or writes the value.
        unsafe { Str::if_any(name) }
    }
}

impl<'c> KeyOpt<'c> {
    pub(in crate::host) fn key_name(self) -> Option<Str<'c>> {
        let name = rm!(RedisModule_GetKeyNameFromOptCtx(self.as_ptr()));
        // SAFETY: the server keeps the name as long as this.
        unsafe { Str::if_any(name) }
    }
}

impl Digest<'_> {
    pub(in crate::host) fn number(self, n: i64) {
        rm!(RedisModule_DigestAddLongLong(self.as_ptr(), n));
    }

    pub(in crate::host) fn text(self, text: &[u8]) {
        rm!(RedisModule_DigestAddStringBuffer(self.as_ptr(), text.as_ptr().cast(), text.len()));
    }
}
