//! LOCK.MACQUIRE, LOCK.MRELEASE and LOCK.MRENEW: several locks in one step.

use std::ffi::c_int;

use redis_module::raw;

use super::super::api::{rm, RString};
use super::super::blocked::{Asked, Form};
use super::super::config;
use super::super::entry::{Call, Verb};
use super::super::reply;
use super::super::rights::check_channel;
use super::super::step::change_all;
use super::tying::tie;
use super::waiting::{get_in_line, judge, make_up_owner, possible, wait_for_turn};
use super::{report_acquired, say_acquired, site, Step};
use crate::command::acquire::Acquired;
use crate::command::args::parse_i64;
use crate::command::group::{AcquireAll, HeldAll};
use crate::command::report::Report;
use crate::command::terms::Terms;
use crate::error::LockError;
use crate::primitive::deadlock::Holds;
use crate::primitive::waiter::Kind;
use crate::primitive::Turns;

/// The keys of a call, whose first stands at this word after the name.
fn names<'a>(call: &Call<'a>, first: usize, count: usize) -> &'a [*mut RString] {
    call.strings().get(first..first + count).unwrap_or_default()
}

/// Tells the server where the keys are, of a call whose number of keys is this word after the name. Its key specs say
/// the same, but a cluster does not route by them. Words that make no sense have no keys, and are refused later.
fn tell_keys(call: &Call, numkeys: usize) {
    let words = call.words();
    let count = words.get(numkeys).and_then(|word| parse_i64(word)).and_then(|n| usize::try_from(n).ok());
    let flags =
        raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE;
    let first = numkeys + 2;
    let count = count.filter(|count| *count < words.len().saturating_sub(numkeys)).unwrap_or(0);
    for at in first..first + count {
        rm!(RedisModule_KeyAtPosWithFlags(call.ctx, at as c_int, flags as c_int));
    }
}

pub(in crate::host) struct AcquireAllVerb;

impl Verb for AcquireAllVerb {
    const TELLS_KEYS: bool = true;

    fn tell_keys(call: &Call) {
        tell_keys(call, 1);
    }

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let mut request = AcquireAll::parse(&words, &policy)?;
        tie(call.ctx, &mut request.terms.span.tie)?;
        check_channel(call.ctx, request.terms.notify)?;
        let made_up = if request.owner.is_none() { Some(make_up_owner()) } else { None };
        let owner = request.owner.or(made_up.as_deref()).unwrap_or_default();
        let with_info = request.terms.with_info;
        let wait = request.terms.wait.and_then(|wait| possible(call.ctx, wait));
        let names = names(call, 2, request.keys.len());
        let step = change_all(site(call), names, |turns, blocked| {
            let form = || Form { asked: Asked::AcquireAll, made_up: made_up.clone(), with_info };
            let acquired = match (request.apply(owner, turns, &policy)?, wait) {
                (Acquired::Busy, Some(wait)) if wait.kind() == Kind::Ticket => {
                    let queue = |turns: &mut _, others: &mut dyn Holds| {
                        request.queue(owner, wait, turns, &policy, others)
                    };
                    let acquired = judge(call, turns, queue)?;
                    if acquired == Acquired::Queued
                        && wait_for_turn(call, turns, blocked, form(), owner, wait)
                    {
                        return Ok(Step::Waits);
                    }
                    acquired
                }
                (Acquired::Busy, Some(wait)) => {
                    let check = |turns: &mut _, others: &mut dyn Holds| {
                        request.check_wait(owner, wait, turns, &policy, others)
                    };
                    let enqueue = |turns: &mut _| request.enqueue(owner, wait, turns, &policy).map(drop);
                    if get_in_line(call, turns, blocked, form(), check, enqueue)? {
                        return Ok(Step::Waits);
                    }
                    Acquired::Busy
                }
                (acquired, _) => acquired,
            };
            let report = with_info.then(|| report(acquired, turns, owner, &request.terms));
            Ok(Step::Done(acquired.into(), report))
        })?;
        say_acquired(call.ctx, step, made_up.as_deref());
        Ok(())
    }
}

/// Tells of the first of the locks; if the request has to wait, of the first that stands in its way.
fn report(acquired: Acquired, turns: &mut Turns, owner: &[u8], terms: &Terms) -> Report {
    let waits = matches!(acquired, Acquired::Busy | Acquired::Queued);
    let mut told = None;
    turns.each(|turn| {
        let matters = !waits || turn.is_behind(owner) || !turn.lock.admits(terms.claim);
        if told.is_none() && matters {
            told = Some(report_acquired(acquired, turn, owner, terms.fence));
        }
    });
    told.unwrap_or_default()
}

pub(in crate::host) struct ReleaseAllVerb;

impl Verb for ReleaseAllVerb {
    const TELLS_KEYS: bool = true;

    fn tell_keys(call: &Call) {
        tell_keys(call, 1);
    }

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = HeldAll::parse_release(&words)?;
        let names = names(call, 2, request.keys.len());
        let count = change_all(site(call), names, |turns, _| request.release(turns))?;
        reply::int(call.ctx, count);
        Ok(())
    }
}

pub(in crate::host) struct RenewAllVerb;

impl Verb for RenewAllVerb {
    const TELLS_KEYS: bool = true;

    fn tell_keys(call: &Call) {
        tell_keys(call, 2);
    }

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let (request, lease) = HeldAll::parse_renew(&words, &config::policy())?;
        let names = names(call, 3, request.keys.len());
        let left = change_all(site(call), names, |turns, _| request.renew(lease, turns))?;
        reply::array(call.ctx, left.len());
        left.iter().for_each(|ms| reply::int(call.ctx, *ms));
        Ok(())
    }
}
