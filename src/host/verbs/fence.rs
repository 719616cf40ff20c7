//! LOCK.FENCE: the newest fence that a resource elsewhere has seen. The register is a string of the server, read and
//! written by the server's own commands; nothing of this module's state takes part.

use std::ffi::CStr;

use super::super::api::{rm, Ctx, RString};
use super::super::entry::{Call, Verb};
use super::super::server_reply::ServerReply;
use super::super::{clock, reply, state};
use crate::command::fence::{Admission, Admit};
use crate::error::LockError;

const GET: &CStr = c"GET";
const SET: &CStr = c"SET";

pub(in crate::host) struct FenceVerb;

impl Verb for FenceVerb {
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
    let register = rm!(RedisModule_Call(call.ctx, GET.as_ptr(), c"s".as_ptr(), call.key()));
    let register = ServerReply::of(call.ctx, GET, register)?;
    if register.root().is_error() {
        return Err(LockError::NoRegister);
    }
    request.judge(register.root().bytes())
}

/// Writes the fence down, here and for replicas and the AOF: absolute, as all that they are told.
fn write(ctx: *mut Ctx, key: *mut RString, request: &Admit) -> Result<(), LockError> {
    let (set, fence) = (SET.as_ptr(), request.fence.to_wire());
    let done = match request.remember_ms {
        Some(ms) => {
            let until = clock::read().unix_ms().saturating_add(ms) as i64;
            rm!(RedisModule_Call(ctx, set, c"!slcl".as_ptr(), key, fence, c"PXAT".as_ptr(), until))
        }
        None => rm!(RedisModule_Call(ctx, set, c"!slc".as_ptr(), key, fence, c"KEEPTTL".as_ptr())),
    };
    if ServerReply::of(ctx, SET, done)?.root().is_error() {
        return Err(LockError::NotRun { command: "SET", is_missing: false });
    }
    Ok(())
}
