//! The server's contexts: on whose behalf a function of it is called.

use std::marker::PhantomData;
use std::ptr::NonNull;

use redis_module::raw;

use super::{rm, OwnString, RawCtx};

/// A context of the server, which lives during `'c`.
#[derive(Clone, Copy)]
pub(in crate::host) struct Ctx<'c>(NonNull<RawCtx>, PhantomData<&'c RawCtx>);

impl Ctx<'_> {
    /// Borrows a context that the server passed.
    ///
    /// # Safety
    ///
    /// It is a context of the server, not null, and lives during `'c`.
    pub(in crate::host) const unsafe fn new(ctx: *mut RawCtx) -> Self {
        // SAFETY: by the word of the caller.
        Self(unsafe { NonNull::new_unchecked(ctx) }, PhantomData)
    }

    /// One of our own, which is never given back.
    pub(in crate::host) fn of_our_own(self) -> Option<Ctx<'static>> {
        NonNull::new(rm!(RedisModule_GetDetachedThreadSafeContext(self.as_ptr())))
            .map(|ctx| Ctx(ctx, PhantomData))
    }

    /// For [`rm!`].
    #[inline]
    pub(in crate::host) const fn as_ptr(self) -> *mut RawCtx {
        self.0.as_ptr()
    }

    /// The name of the user on whose behalf this call runs; `None` for one who is none.
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
