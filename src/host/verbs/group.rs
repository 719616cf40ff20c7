//! LOCK.MACQUIRE, LOCK.MRELEASE and LOCK.MRENEW: several locks in one step.

use std::ffi::c_int;

use redis_module::raw;

use super::super::api::{rm, Str};
use super::super::blocked::{BlockingCommand, ReplySpec};
use super::super::change::change_all;
use super::super::config;
use super::super::handler::{Call, Handler};
use super::super::reply;
use super::super::rights::check_channel;
use super::tie::tie;
use super::waiting::{generate_owner, possible, Taking};
use super::{origin, report_acquired, say_acquired, Handled};
use crate::command::acquire::Acquired;
use crate::command::args::parse_i64;
use crate::command::group::{AcquireAll, HeldAll};
use crate::command::report::Report;
use crate::command::terms::Terms;
use crate::error::LockError;
use crate::primitive::GroupStep;

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
    const TELLS_KEYS: bool = true;

    fn declare_keys(call: &Call) {
        declare_keys(call, 1);
    }

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let mut request = AcquireAll::parse(&words, &policy)?;
        tie(call.ctx, &mut request.terms.span.tie)?;
        check_channel(call.ctx, request.terms.notify)?;
        let generated_owner = if request.owner.is_none() { Some(generate_owner()) } else { None };
        let owner = request.owner.or(generated_owner.as_deref()).unwrap_or_default();
        let with_info = request.terms.with_info;
        let wait = request.terms.wait.and_then(|wait| possible(call.ctx, wait));
        let names = names(call, 2, request.keys.len());
        let taking = Taking { call, owner, wait, policy: &policy };
        let handled = change_all(origin(call), names, |group, blocked| {
            let reply_spec = || ReplySpec {
                command: BlockingCommand::AcquireAll,
                generated_owner: generated_owner.clone(),
                with_info,
            };
            let Some(acquired) = taking.run(&request, group, blocked, reply_spec)? else {
                return Ok(Handled::Waits);
            };
            let report = with_info.then(|| report(acquired, group, owner, &request.terms));
            Ok(Handled::Done(acquired.into(), report))
        })?;
        say_acquired(call.ctx, handled, generated_owner.as_deref());
        Ok(())
    }
}

/// Tells of the first of the locks; if the request has to wait, of the first that stands in its way.
fn report(acquired: Acquired, group: &mut GroupStep, owner: &[u8], terms: &Terms) -> Box<Report> {
    let waits = matches!(acquired, Acquired::Busy | Acquired::Queued);
    let mut told = None;
    group.each(|step| {
        let is_in_the_way = || step.is_behind(owner) || !step.lock.admits(terms.permits);
        let matters = !waits || step.manager.recovery.is_open() || is_in_the_way();
        if told.is_none() && matters {
            told = Some(report_acquired(acquired, step, owner, terms.fence));
        }
    });
    told.unwrap_or_default()
}

pub(in crate::host) struct ReleaseAllHandler;

impl Handler for ReleaseAllHandler {
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
