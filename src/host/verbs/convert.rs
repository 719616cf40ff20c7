//! LOCK.CONVERT and LOCK.SETLIMIT: another mode or another limit for a lock that is held.

use super::super::blocked::{Asked, Form};
use super::super::config;
use super::super::entry::{Call, Verb};
use super::super::reply::{self, Outcome};
use super::super::rights::check_channel;
use super::super::step::change;
use super::waiting::{get_in_line, judge, possible, wait_for_turn};
use super::{place, report_held, report_not_held, say, site, Step};
use crate::command::convert::{Convert, Converted};
use crate::command::report::Report;
use crate::command::set_limit::SetLimit;
use crate::error::LockError;
use crate::primitive::deadlock::Holds;
use crate::primitive::waiter::Kind;

pub(in crate::host) struct ConvertVerb;

impl Verb for ConvertVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let request = Convert::parse(&words, &policy)?;
        check_channel(call.ctx, request.notify)?;
        let holder = request.holder;
        let wait = request.wait.and_then(|wait| possible(call.ctx, wait));
        let step = change(site(call), call.key(), |turn, blocked| {
            let form = || Form { asked: Asked::Convert, made_up: None, with_info: holder.with_info };
            let converted = match (request.apply(turn)?, wait) {
                (Converted::Busy, Some(wait)) if wait.kind() == Kind::Ticket => {
                    let queue =
                        |turn: &mut _, others: &mut dyn Holds| request.queue(wait, turn, &policy, others);
                    let converted = judge(call, turn, queue)?;
                    if wait_for_turn(call, turn, blocked, form(), holder.owner, wait) {
                        return Ok(Step::Waits);
                    }
                    converted
                }
                (Converted::Busy, Some(wait)) => {
                    let check = |turn: &mut _, others: &mut dyn Holds| {
                        request.check_wait(wait, turn, &policy, others)
                    };
                    let enqueue = |turn: &mut _| request.enqueue(wait, turn).map(drop);
                    if get_in_line(call, turn, blocked, form(), check, enqueue)? {
                        return Ok(Step::Waits);
                    }
                    Converted::Busy
                }
                (converted, _) => converted,
            };
            let report = holder.with_info.then(|| match converted {
                Converted::Held(_) => report_held(turn, holder.owner, "already-held"),
                Converted::Done(_) => report_held(turn, holder.owner, "converted"),
                Converted::Busy => Report::busy(place(turn), turn.lock, holder.owner),
                Converted::Queued => Report::queued(place(turn), turn.lock, holder.owner),
                Converted::NotHeld => report_not_held(turn, holder.owner, holder.fence),
            });
            let outcome = match converted {
                Converted::Held(fence) | Converted::Done(fence) => fence.into(),
                Converted::Busy | Converted::Queued | Converted::NotHeld => Outcome::Nil,
            };
            Ok(Step::Done(outcome, report))
        })?;
        if let Step::Done(outcome, report) = step {
            say(call.ctx, outcome, report);
        }
        Ok(())
    }
}

pub(in crate::host) struct SetLimitVerb;

impl Verb for SetLimitVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = SetLimit::parse(&words)?;
        let done = change(site(call), call.key(), |turn, _| request.apply(turn))?;
        reply::int(call.ctx, i64::from(done));
        Ok(())
    }
}
