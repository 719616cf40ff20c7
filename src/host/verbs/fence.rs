//! LOCK.FENCE: the newest fence that a resource elsewhere has seen. The register is a string of the server, read and
//! written by the server's own commands; nothing of this module's state takes part.

use std::ffi::{c_int, CStr};

use redis_module::raw;

use super::super::api::{rm, Ctx, Str};
use super::super::handler::{Call, Handler};
use super::super::server_reply::ServerReply;
use super::super::{clock, reply, state};
use crate::command::fence::{Admission, Admit};
use crate::error::LockError;
use crate::limits::FENCE_DIGITS_MAX;

const GET: &CStr = c"GET";
const SET: &CStr = c"SET";

pub(in crate::host) struct FenceHandler;

impl Handler for FenceHandler {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = Admit::parse(&words)?;
        // The server refuses clients; another module's call gets this far.
        if !state::with(|host| host.is_primary) {
            return Err(LockError::ReadOnly);
        }
        let admission = judge(call, &request)?;
        if admission == Admission::New {
            write(call.ctx, call.key(), &request)?;
        }
        reply::int(call.ctx, i64::from(admission != Admission::Stale));
        Ok(())
    }
}

fn judge(call: &Call, request: &Admit) -> Result<Admission, LockError> {
    let found = string_bytes(call.ctx, call.key())?;
    match found {
        None => return request.judge(None),
        // Not to be copied only to be refused.
        Some(bytes) if bytes > FENCE_DIGITS_MAX => return Err(LockError::NoFence),
        Some(_) => {}
    }
    let register = rm!(RedisModule_Call(call.ctx.as_ptr(), GET.as_ptr(), c"s".as_ptr(), call.key().as_ptr()));
    let register = ServerReply::of(call.ctx, GET, register)?;
    if register.root().is_error() {
        return Err(LockError::NoRegister);
    }
    request.judge(register.root().bytes())
}

/// The length of the string in this key, if there is one.
fn string_bytes(ctx: Ctx, key: Str) -> Result<Option<usize>, LockError> {
    let handle = rm!(RedisModule_OpenKey(ctx.as_ptr(), key.as_ptr(), raw::REDISMODULE_READ as c_int));
    if handle.is_null() {
        return Ok(None);
    }
    let is_string = rm!(RedisModule_KeyType(handle)) == raw::REDISMODULE_KEYTYPE_STRING as c_int;
    let bytes = rm!(RedisModule_ValueLength(handle));
    rm!(RedisModule_CloseKey(handle));
    is_string.then_some(Some(bytes)).ok_or(LockError::NoRegister)
}

/// Writes the fence down, here and for replicas and the AOF: absolute, as all that they are told.
fn write(ctx: Ctx, key: Str, request: &Admit) -> Result<(), LockError> {
    let (set, fence) = (SET.as_ptr(), request.fence.to_wire());
    let done = if let Some(ms) = request.remember_ms {
        let until = clock::read().unix_ms().saturating_add(ms) as i64;
        rm!(RedisModule_Call(
            ctx.as_ptr(),
            set,
            c"!slcl".as_ptr(),
            key.as_ptr(),
            fence,
            c"PXAT".as_ptr(),
            until
        ))
    } else {
        rm!(RedisModule_Call(ctx.as_ptr(), set, c"!slc".as_ptr(), key.as_ptr(), fence, c"KEEPTTL".as_ptr()))
    };
    if ServerReply::of(ctx, SET, done)?.root().is_error() {
        return Err(LockError::NotRun { command: "SET", is_missing: false });
    }
    Ok(())
}
