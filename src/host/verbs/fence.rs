//! LOCK.FENCE: the newest fence that a resource elsewhere has seen. The register is a string of the server, read and
//! written by the server's own commands; nothing of this module's state takes part.

use std::ffi::{c_int, CStr};

use redis_module::raw;

use super::super::api::{call, rm, Ctx, KeyHandle, Str};
use super::super::handler::{Call, Handler};
use super::super::{clock, reply, state};
use super::needed::needed;
use crate::command::fence::{Admission, Admit};
use crate::command::spec::Spec;
use crate::error::LockError;
use crate::limits::FENCE_DIGITS_MAX;

const GET: &CStr = c"GET";
const SET: &CStr = c"SET";

pub(in crate::host) struct FenceHandler;

impl Handler for FenceHandler {
    const SPEC: &'static Spec = &crate::command::fence::SPEC;

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
    let register = needed(call.ctx, GET, call!(call.ctx, GET, c"s", call.key().as_ptr()))?;
    if register.root().is_error() {
        return Err(LockError::NoRegister);
    }
    request.judge(register.root().bytes())
}

/// The length of the string in this key, if there is one.
fn string_bytes(ctx: Ctx, key: Str) -> Result<Option<usize>, LockError> {
    let Some(key) = KeyHandle::read(ctx, key) else { return Ok(None) };
    let is_string = rm!(RedisModule_KeyType(key.as_ptr())) == raw::REDISMODULE_KEYTYPE_STRING as c_int;
    let bytes = rm!(RedisModule_ValueLength(key.as_ptr()));
    is_string.then_some(Some(bytes)).ok_or(LockError::NoRegister)
}

/// Writes the fence down, here and for replicas and the AOF: absolute, as all that they are told.
fn write(ctx: Ctx, key: Str, request: &Admit) -> Result<(), LockError> {
    let fence = request.fence.to_wire();
    let done = if let Some(ms) = request.remember_ms {
        let until = clock::read().unix_ms().saturating_add(ms) as i64;
        call!(ctx, SET, c"!slcl", key.as_ptr(), fence, c"PXAT".as_ptr(), until)
    } else {
        call!(ctx, SET, c"!slc", key.as_ptr(), fence, c"KEEPTTL".as_ptr())
    };
    if needed(ctx, SET, done)?.root().is_error() {
        return Err(LockError::NotRun { command: "SET", is_missing: false });
    }
    Ok(())
}
