//! The reply of the server when this module runs one of its commands.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::NonNull;

use redis_module::raw;

use super::{rm, Ctx};

/// A whole reply, freed at the end.
pub(in crate::host) struct ServerReply(NonNull<raw::RedisModuleCallReply>);

/// A reply or a part of one, as long as the whole lives.
#[derive(Clone, Copy)]
pub(in crate::host) struct Part<'a> {
    reply: NonNull<raw::RedisModuleCallReply>,
    whole: PhantomData<&'a ServerReply>,
}

impl ServerReply {
    /// Takes over what `RM_Call` returned. Returns `None` if the server would not run the command.
    ///
    /// # Safety
    ///
    /// If it is not null, it is a whole reply of the server that is ours to free.
    pub(in crate::host) unsafe fn adopt(reply: *mut raw::RedisModuleCallReply) -> Option<Self> {
        NonNull::new(reply).map(Self)
    }

    /// Replies the same to the client of this call.
    pub(in crate::host) fn pass_on(&self, ctx: Ctx) {
        rm!(RedisModule_ReplyWithCallReply(ctx.as_ptr(), self.0.as_ptr()));
    }

    pub(in crate::host) const fn root(&self) -> Part<'_> {
        Part { reply: self.0, whole: PhantomData }
    }
}

impl Drop for ServerReply {
    fn drop(&mut self) {
        rm!(RedisModule_FreeCallReply(self.0.as_ptr()));
    }
}

impl<'a> Part<'a> {
    pub(in crate::host) fn is_error(self) -> bool {
        rm!(RedisModule_CallReplyType(self.reply.as_ptr())) == raw::REDISMODULE_REPLY_ERROR as c_int
    }

    /// The bytes of a string, a status or an error. Returns `None` for anything else, a null among it.
    pub(in crate::host) fn bytes(self) -> Option<&'a [u8]> {
        let mut len = 0;
        let start = rm!(RedisModule_CallReplyStringPtr(self.reply.as_ptr(), &raw mut len));
        if start.is_null() {
            return None;
        }
        // SAFETY: the server gave the start and the length of a string that lives as long as the whole reply.
        Some(unsafe { std::slice::from_raw_parts(start.cast(), len) })
    }

    /// A whole number. Returns `None` for anything else.
    pub(in crate::host) fn int(self) -> Option<i64> {
        let is_int =
            rm!(RedisModule_CallReplyType(self.reply.as_ptr())) == raw::REDISMODULE_REPLY_INTEGER as c_int;
        is_int.then(|| rm!(RedisModule_CallReplyInteger(self.reply.as_ptr())))
    }

    /// One item of an array. Returns `None` if it is none, or has not so many.
    pub(in crate::host) fn item(self, at: usize) -> Option<Self> {
        let reply = rm!(RedisModule_CallReplyArrayElement(self.reply.as_ptr(), at));
        NonNull::new(reply).map(|reply| Self { reply, ..self })
    }

    /// The items of an array.
    pub(in crate::host) fn items(self) -> impl Iterator<Item = Self> {
        (0..).map_while(move |at| self.item(at))
    }
}
