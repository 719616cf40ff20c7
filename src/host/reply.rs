//! Values as replies, in whichever protocol the client speaks.

use std::ffi::{c_long, CString};

use redis_module::raw;

use super::api::{rm, Ctx};
use crate::command::report::Report;
use crate::error::LockError;
use crate::primitive::Fence;

/// The result of a command, before it is put into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nil,
    Int(i64),
}

impl From<Fence> for Outcome {
    fn from(fence: Fence) -> Self {
        Self::Int(fence.to_wire())
    }
}

pub(super) fn outcome(ctx: Ctx, outcome: Outcome) {
    match outcome {
        Outcome::Nil => nil(ctx),
        Outcome::Int(n) => int(ctx, n),
    }
}

pub(super) fn int(ctx: Ctx, n: i64) {
    rm!(RedisModule_ReplyWithLongLong(ctx.as_ptr(), n));
}

pub(super) fn nil(ctx: Ctx) {
    rm!(RedisModule_ReplyWithNull(ctx.as_ptr()));
}

pub(super) fn text(ctx: Ctx, bytes: &[u8]) {
    rm!(RedisModule_ReplyWithStringBuffer(ctx.as_ptr(), bytes.as_ptr().cast(), bytes.len()));
}

pub(super) fn array(ctx: Ctx, len: usize) {
    rm!(RedisModule_ReplyWithArray(ctx.as_ptr(), len as c_long));
}

/// Begins an array whose length is told when it is closed.
pub(super) fn open_array(ctx: Ctx) {
    rm!(RedisModule_ReplyWithArray(ctx.as_ptr(), c_long::from(raw::REDISMODULE_POSTPONED_LEN)));
}

pub(super) fn close_array(ctx: Ctx, len: usize) {
    rm!(RedisModule_ReplySetArrayLength(ctx.as_ptr(), len as c_long));
}

pub(super) fn map(ctx: Ctx, len: usize) {
    rm!(RedisModule_ReplyWithMap(ctx.as_ptr(), len as c_long));
}

pub(super) fn error(ctx: Ctx, error: &LockError) {
    // An error's text has no NUL: clients' bytes stand in it escaped.
    let line = CString::new(error.to_string()).unwrap_or_default();
    rm!(RedisModule_ReplyWithError(ctx.as_ptr(), line.as_ptr()));
}

/// A field of a map: a number.
pub(super) fn int_field(ctx: Ctx, name: &str, n: i64) {
    text(ctx, name.as_bytes());
    int(ctx, n);
}

/// A field of a map: bytes.
pub(super) fn text_field(ctx: Ctx, name: &str, bytes: &[u8]) {
    text(ctx, name.as_bytes());
    text(ctx, bytes);
}

/// The map of WITHINFO.
pub(super) fn report(ctx: Ctx, result: Outcome, report: &Report) {
    let optional = |name: &str, value: Option<i64>| {
        text(ctx, name.as_bytes());
        value.map_or_else(|| nil(ctx), |n| int(ctx, n));
    };
    map(ctx, 8);
    text(ctx, b"result");
    outcome(ctx, result);
    optional("fence", report.fence.map(Fence::to_wire));
    optional("lease-ms", report.lease_ms);
    text_field(ctx, "reason", report.reason.as_bytes());
    optional("ago-ms", report.ago_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)));
    text(ctx, b"holder");
    report.holder.as_ref().map_or_else(|| nil(ctx), |owner| text(ctx, owner.as_bytes()));
    optional("holder-ms", report.holder_ms);
    optional("ahead", report.ahead.map(usize::cast_signed).map(|n| n as i64));
}
