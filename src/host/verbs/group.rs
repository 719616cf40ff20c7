//! LOCK.MACQUIRE, LOCK.MRELEASE and LOCK.MRENEW: several locks in one step.

use std::ffi::c_int;

use redis_module::raw;

use super::super::api::{rm, Str};
use super::super::blocked::BlockingCommand;
use super::super::change::change_all;
use super::super::config;
use super::super::handler::{Call, Handler};
use super::super::reply;
use super::acquire::Taking;
use super::origin;
use crate::command::acquire::Acquire;
use crate::command::args::parse_i64;
use crate::command::group::HeldAll;
use crate::command::spec::Spec;
use crate::error::LockError;

/// The keys of a call, whose first stands at this word after the name.
fn names<'a>(call: &Call<'a>, first: usize, count: usize) -> &'a [Str<'a>] {
    call.strings().get(first..).and_then(|names| names.get(..count)).unwrap_or_default()
}

/// Tells the server where the keys are, of a call whose number of keys is this word after the name. Its key specs say
/// the same, but a cluster does not route by them. Words that make no sense have no keys, and are refused later.
fn declare_keys(call: &Call, numkeys: usize) {
    let words = call.words();
    let count = words.get(numkeys).and_then(|word| parse_i64(word)).and_then(|n| usize::try_from(n).ok());
    let flags =
        raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE;
    let first = numkeys.saturating_add(2);
    let count = count.filter(|count| *count < words.len().saturating_sub(numkeys)).unwrap_or(0);
    for at in (first..).take(count) {
        rm!(RedisModule_KeyAtPosWithFlags(call.ctx.as_ptr(), at as c_int, flags as c_int));
    }
}

pub(in crate::host) struct AcquireAllHandler;

impl Handler for AcquireAllHandler {
    const SPEC: &'static Spec = &crate::command::group::ACQUIRE;

    const TELLS_KEYS: bool = true;

    fn declare_keys(call: &Call) {
        declare_keys(call, 1);
    }

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let request = Acquire::parse_all(&words, &policy)?;
        let names = names(call, 2, request.keys.len());
        let taking = Taking::new(call, request, &policy, BlockingCommand::AcquireAll)?;
        let handled = change_all(origin(call), names, |group, blocked| taking.run(group, blocked))?;
        taking.say(handled);
        Ok(())
    }
}

pub(in crate::host) struct ReleaseAllHandler;

impl Handler for ReleaseAllHandler {
    const SPEC: &'static Spec = &crate::command::group::RELEASE;

    const TELLS_KEYS: bool = true;

    fn declare_keys(call: &Call) {
        declare_keys(call, 1);
    }

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = HeldAll::parse_release(&words)?;
        let names = names(call, 2, request.keys.len());
        let count = change_all(origin(call), names, |group, _| request.release(group))?;
        reply::int(call.ctx, count);
        Ok(())
    }
}

pub(in crate::host) struct RenewAllHandler;

impl Handler for RenewAllHandler {
    const SPEC: &'static Spec = &crate::command::group::RENEW;

    const TELLS_KEYS: bool = true;

    fn declare_keys(call: &Call) {
        declare_keys(call, 2);
    }

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let (request, lease) = HeldAll::parse_renew(&words, &config::policy())?;
        let names = names(call, 3, request.keys.len());
        let left = change_all(origin(call), names, |group, _| request.renew(lease, group))?;
        reply::array(call.ctx, left.len());
        left.iter().for_each(|ms| reply::int(call.ctx, *ms));
        Ok(())
    }
}
