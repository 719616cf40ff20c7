//! LOCK.ACQUIRE.

use super::super::blocked::{Asked, Form};
use super::super::config;
use super::super::entry::{Call, Verb};
use super::super::rights::check_channel;
use super::super::step::change;
use super::tying::tie;
use super::waiting::{get_in_line, judge, make_up_owner, possible, wait_for_turn};
use super::{report_acquired, say_acquired, site, Step};
use crate::command::acquire::{Acquire, Acquired};
use crate::error::LockError;
use crate::primitive::deadlock::Holds;
use crate::primitive::waiter::Kind;

pub(in crate::host) struct AcquireVerb;

impl Verb for AcquireVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let mut request = Acquire::parse(&words, &policy)?;
        tie(call.ctx, &mut request.terms.span.tie)?;
        check_channel(call.ctx, request.terms.notify)?;
        let made_up = if request.owner.is_none() { Some(make_up_owner()) } else { None };
        let owner = request.owner.or(made_up.as_deref()).unwrap_or_default();
        let with_info = request.terms.with_info;
        let wait = request.terms.wait.and_then(|wait| possible(call.ctx, wait));
        let step = change(site(call), call.key(), |turn, blocked| {
            let request = Acquire { terms: request.terms.adopted(turn)?, ..request };
            let form = || Form { asked: Asked::Acquire, made_up: made_up.clone(), with_info };
            let acquired = match (request.apply(owner, turn, &policy)?, wait) {
                (Acquired::Busy, Some(wait)) if wait.kind() == Kind::Ticket => {
                    let queue = |turn: &mut _, others: &mut dyn Holds| {
                        request.queue(owner, wait, turn, &policy, others)
                    };
                    let acquired = judge(call, turn, queue)?;
                    if acquired == Acquired::Queued && wait_for_turn(call, turn, blocked, form(), owner, wait)
                    {
                        return Ok(Step::Waits);
                    }
                    acquired
                }
                (Acquired::Busy, Some(wait)) => {
                    let check = |turn: &mut _, others: &mut dyn Holds| {
                        request.check_wait(owner, wait, turn, &policy, others)
                    };
                    let enqueue = |turn: &mut _| request.enqueue(owner, wait, turn, &policy).map(drop);
                    if get_in_line(call, turn, blocked, form(), check, enqueue)? {
                        return Ok(Step::Waits);
                    }
                    Acquired::Busy
                }
                (acquired, _) => acquired,
            };
            let report = with_info.then(|| report_acquired(acquired, turn, owner, request.terms.fence));
            Ok(Step::Done(acquired.into(), report))
        })?;
        say_acquired(call.ctx, step, made_up.as_deref());
        Ok(())
    }
}
