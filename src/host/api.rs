//! The server's module API: one macro that calls a function of it, the server's things as values that live as long as it says,
//! and the few calls that need more than a line. A pointer is made into such a value in the function that the server calls.
//! Functions are found by name when the module is loaded, and an older server has not all of them.

mod client;
mod command;
mod event;
mod key;
mod lent;
mod needed;
mod reply;
mod string;

use std::ffi::{c_int, CStr};
use std::ptr;

use redis_module::raw;

pub(super) use client::{BlockedHandle, User};
pub(super) use command::CommandHandle;
pub(super) use event::{listen, stop, EventHandler, Listener};
pub(super) use key::{DataType, KeyHandle};
pub(super) use lent::{has_flags, is_loading, Ctx, Digest, InfoCtx, Io, KeyOpt};
pub(super) use needed::{looked_for, missing};
pub(super) use redis_module::raw::{
    RedisModuleBlockedClient as RawBlocked, RedisModuleCtx as RawCtx, RedisModuleString as RawStr,
};
pub(super) use reply::{Part, ServerReply};
pub(super) use string::{OwnString, Str};

/// Calls a function of the module API: `rm!(RedisModule_Name(args))`. Only one of those that are [`needed`].
macro_rules! rm {
    ($name:ident ( $($arg:expr),* $(,)? )) => {{
        let () = $crate::host::api::looked_for::$name;
        // SAFETY: the pointers are written once, when the module is loaded, before anything of it runs. It runs only where
        // `missing` has found none of those that it looks for to be null. And every caller passes what the function asks
        // for: a context and handles of this call.
        unsafe { redis_module::raw::$name.unwrap_unchecked()($($arg),*) }
    }};
}
pub(super) use rm;

/// Runs a command of the server: `call!(ctx, c"NAME", c"format", arguments)`. Gives what it replied, or `None` if the
/// server would not run it; its reason is then the last error of the system.
macro_rules! call {
    ($ctx:expr, $command:expr, $format:expr $(, $arg:expr)* $(,)?) => {{
        let (command, format) = ($command.as_ptr(), $format.as_ptr());
        let reply = $crate::host::api::rm!(RedisModule_Call($ctx.as_ptr(), command, format $(, $arg)*));
        // SAFETY: the reply is ours to free.
        unsafe { $crate::host::api::ServerReply::adopt(reply) }
    }};
}
pub(super) use call;

/// Whether the server has a function.
macro_rules! has {
    ($name:ident) => {{
        // SAFETY: the pointers are written once, when the module is loaded.
        unsafe { redis_module::raw::$name }.is_some()
    }};
}
pub(super) use has;

/// Calls a function that only newer servers have. Gives `None` where the server lacks it.
macro_rules! rm_if_there {
    ($name:ident ( $($arg:expr),* $(,)? )) => {{
        // SAFETY: the pointers are written once, when the module is loaded, before anything of it runs.
        let function = unsafe { redis_module::raw::$name };
        // SAFETY: every caller passes what the function asks for: a context and handles of this call.
        function.map(|function| unsafe { function($($arg),*) })
    }};
}
pub(super) use rm_if_there;

/// The API's "done".
pub(super) const OK: c_int = raw::REDISMODULE_OK as c_int;
/// The API's "not done".
pub(super) const ERR: c_int = raw::REDISMODULE_ERR as c_int;

/// A section of INFO, freed at the end.
pub(super) struct ServerInfo<'c> {
    ctx: Ctx<'c>,
    info: *mut raw::RedisModuleServerInfoData,
}

impl<'c> ServerInfo<'c> {
    /// The answer of the server now. Returns `None` if it gives none.
    pub(super) fn ask(ctx: Ctx<'c>, section: &CStr) -> Option<Self> {
        let info = rm!(RedisModule_GetServerInfo(ctx.as_ptr(), section.as_ptr()));
        (!info.is_null()).then_some(Self { ctx, info })
    }

    /// A number that is not negative; `None` if there is no such field.
    pub(super) fn number(&self, field: &CStr) -> Option<u64> {
        let mut wrong: c_int = 0;
        let n = rm!(RedisModule_ServerInfoGetFieldUnsigned(self.info, field.as_ptr(), &raw mut wrong));
        (wrong == 0).then_some(n)
    }

    /// `None` if there is no such field.
    pub(super) fn text(&self, field: &CStr) -> Option<&[u8]> {
        let text = rm!(RedisModule_ServerInfoGetFieldC(self.info, field.as_ptr()));
        // SAFETY: the server gave a text that ends with a NUL and lives as long as the information.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
    }
}

impl Drop for ServerInfo<'_> {
    fn drop(&mut self) {
        rm!(RedisModule_FreeServerInfo(self.ctx.as_ptr(), self.info));
    }
}

/// Writes a line to the server's log, where it has one: to say what a server lacks, too.
pub(super) fn log(level: &CStr, text: &str) {
    let line: Vec<u8> = text.bytes().map(|byte| if byte == 0 { b'?' } else { byte }).chain(Some(0)).collect();
    rm_if_there!(RedisModule_Log(ptr::null_mut(), level.as_ptr(), c"%s".as_ptr(), line.as_ptr()));
}
