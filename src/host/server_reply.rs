//! What the server replies when this module runs one of its commands.

use std::ffi::{c_int, CStr};
use std::io;
use std::marker::PhantomData;

use redis_module::raw;

use super::api::{rm, Ctx};
use super::cluster;
use crate::error::LockError;

/// A whole reply, freed at the end.
pub(super) struct ServerReply(*mut raw::RedisModuleCallReply);

/// A reply or a part of one, as long as the whole lives.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    reply: *mut raw::RedisModuleCallReply,
    whole: PhantomData<&'a ServerReply>,
}

impl ServerReply {
    /// Takes over what `RM_Call` returned for a command that the module needs. Ask at once: the server's reason for
    /// running nothing is the last error of the system.
    pub(super) fn of(
        ctx: Ctx,
        command: &'static CStr,
        reply: *mut raw::RedisModuleCallReply,
    ) -> Result<Self, LockError> {
        let is_missing = || io::Error::last_os_error().kind() == io::ErrorKind::NotFound;
        Self::adopt(reply).ok_or_else(|| {
            let is_missing = is_missing();
            if cluster::is_blind(ctx) {
                return LockError::CallsRefused;
            }
            LockError::NotRun { command: command.to_str().unwrap_or_default(), is_missing }
        })
    }

    /// Takes over what `RM_Call` returned; nothing if the server would not run the command.
    pub(super) fn adopt(reply: *mut raw::RedisModuleCallReply) -> Option<Self> {
        // Not made before it is known to be one, for making it means freeing it.
        (!reply.is_null()).then(|| Self(reply))
    }

    /// Replies the same to the client of this call.
    pub(super) fn pass_on(&self, ctx: Ctx) {
        rm!(RedisModule_ReplyWithCallReply(ctx.as_ptr(), self.0));
    }

    pub(super) const fn root(&self) -> Part<'_> {
        Part { reply: self.0, whole: PhantomData }
    }
}

impl Drop for ServerReply {
    fn drop(&mut self) {
        rm!(RedisModule_FreeCallReply(self.0));
    }
}

impl<'a> Part<'a> {
    pub(super) fn is_error(self) -> bool {
        rm!(RedisModule_CallReplyType(self.reply)) == raw::REDISMODULE_REPLY_ERROR as c_int
    }

    /// The bytes of a string, a status or an error; nothing for anything else, a null among it.
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        let mut len = 0;
        let start = rm!(RedisModule_CallReplyStringPtr(self.reply, &raw mut len));
        if start.is_null() {
            return None;
        }
        // SAFETY: the server gave the start and the length of a string that lives as long as the whole reply.
        Some(unsafe { std::slice::from_raw_parts(start.cast(), len) })
    }

    /// A whole number; nothing for anything else.
    pub(super) fn int(self) -> Option<i64> {
        let is_int = rm!(RedisModule_CallReplyType(self.reply)) == raw::REDISMODULE_REPLY_INTEGER as c_int;
        is_int.then(|| rm!(RedisModule_CallReplyInteger(self.reply)))
    }

    /// One item of an array; nothing if it is none, or has not so many.
    pub(super) fn item(self, at: usize) -> Option<Self> {
        let reply = rm!(RedisModule_CallReplyArrayElement(self.reply, at));
        (!reply.is_null()).then_some(Self { reply, ..self })
    }

    /// The items of an array.
    pub(super) fn items(self) -> impl Iterator<Item = Self> {
        (0..).map_while(move |at| self.item(at))
    }
}
