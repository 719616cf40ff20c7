//! LOCK.CONVERT and LOCK.SETLIMIT: another mode or another limit for a lock that is held.

use super::super::blocked::{BlockingCommand, ReplySpec};
use super::super::change::change;
use super::super::config;
use super::super::handler::{Call, Handler};
use super::super::reply::{self, Outcome};
use super::super::rights::check_channel;
use super::waiting::{get_in_line, possible, wait_for_turn, with_deadlock_check};
use super::{origin, report_held, report_not_held, say, Handled};
use crate::command::convert::{Convert, Converted};
use crate::command::report::Location;
use crate::command::report::Report;
use crate::command::set_limit::SetLimit;
use crate::command::spec::Spec;
use crate::error::LockError;
use crate::primitive::deadlock::HoldSource;
use crate::primitive::waiter::WaiterKind;

pub(in crate::host) struct ConvertHandler;

impl Handler for ConvertHandler {
    const SPEC: &'static Spec = &crate::command::convert::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let request = Convert::parse(&words, &policy)?;
        check_channel(call.ctx, request.notify)?;
        let holder = request.holder;
        let wait = request.wait.and_then(|wait| possible(call.ctx, wait));
        let step = change(origin(call), call.key(), |step, blocked| {
            let reply_spec = || ReplySpec {
                command: BlockingCommand::Convert,
                generated_owner: None,
                with_info: holder.with_info,
            };
            let converted = match (request.apply(step)?, wait) {
                (Converted::Busy, Some(wait)) if wait.kind() == WaiterKind::Ticket => {
                    let queue = |step: &mut _, others: &mut dyn HoldSource| {
                        request.queue(wait, step, &policy, others)
                    };
                    let converted = with_deadlock_check(call, step, queue)?;
                    if wait_for_turn(call, step, blocked, reply_spec(), holder.owner, wait) {
                        return Ok(Handled::Waits);
                    }
                    converted
                }
                (Converted::Busy, Some(wait)) => {
                    let check = |step: &mut _, others: &mut dyn HoldSource| {
                        request.check_wait(wait, step, &policy, others)
                    };
                    let enqueue = |step: &mut _| request.enqueue(wait, step).map(drop);
                    if get_in_line(call, step, blocked, reply_spec(), check, enqueue)? {
                        return Ok(Handled::Waits);
                    }
                    Converted::Busy
                }
                (converted, _) => converted,
            };
            let report = holder.with_info.then(|| {
                Box::new(match converted {
                    Converted::Held(_) => report_held(step, holder.owner, "already-held"),
                    Converted::Done(_) => report_held(step, holder.owner, "converted"),
                    Converted::Busy => Report::busy(Location::of(step), step.lock, holder.owner),
                    Converted::Queued => Report::queued(Location::of(step), step.lock, holder.owner),
                    Converted::NotHeld => report_not_held(step, holder.owner, holder.fence),
                })
            });
            let outcome = match converted {
                Converted::Held(fence) | Converted::Done(fence) => fence.into(),
                Converted::Busy | Converted::Queued | Converted::NotHeld => Outcome::Nil,
            };
            Ok(Handled::Done(outcome, report))
        })?;
        if let Handled::Done(outcome, report) = step {
            say(call.ctx, outcome, report);
        }
        Ok(())
    }
}

pub(in crate::host) struct SetLimitHandler;

impl Handler for SetLimitHandler {
    const SPEC: &'static Spec = &crate::command::set_limit::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = SetLimit::parse(&words)?;
        let done = change(origin(call), call.key(), |step, _| request.apply(step))?;
        reply::int(call.ctx, i64::from(done));
        Ok(())
    }
}
