//! The commands at the server's side: words in, one step on the locks, reply out.

mod acquire;
mod convert;
mod fence;
mod group;
mod guard;
mod hold;
mod inspect;
mod latch;
mod needed;
mod observe;
mod operate;
mod plain;
mod recovery;
mod scan;
mod stats;
mod tie;
mod waiting;

handlers!(
    /// The commands for users, in the order of LOCK.HELP.
    PUBLIC, add_public:
    acquire::AcquireHandler,
    hold::ReleaseHandler,
    hold::RenewHandler,
    hold::CheckHandler,
    convert::ConvertHandler,
    convert::SetLimitHandler,
    group::AcquireAllHandler,
    group::ReleaseAllHandler,
    group::RenewAllHandler,
    guard::GuardHandler,
    fence::FenceHandler,
    operate::TransferHandler,
    operate::CancelHandler,
    operate::BreakHandler,
    operate::StealHandler,
    observe::ObserveHandler,
    observe::RevokeHandler,
    inspect::InfoHandler,
    inspect::WaitersHandler,
    scan::ScanHandler,
    stats::StatsHandler,
    recovery::RecoveryHandler,
    latch::SetLatchHandler,
    latch::CountDownHandler,
    latch::AwaitLatchHandler,
    latch::LatchInfoHandler,
    inspect::HelpHandler,
);

use super::api::Ctx;
use super::commit::Origin;
use super::handler::Call;
use super::register::handlers;
use super::reply::{self, Outcome};
use crate::command::acquire::Acquired;
use crate::command::report::{Location, Report};
use crate::primitive::{Fence, Step};

fn origin<'c>(call: &Call<'c>) -> Origin<'c> {
    Origin { ctx: call.ctx, db: call.db(), in_command: true }
}

/// The outcome of a step.
enum Handled {
    Done(Outcome, Option<Box<Report>>),
    /// The client waits; its reply comes later.
    Waits,
}

/// Replies, with the report if one was asked for.
fn say(ctx: Ctx, outcome: Outcome, report: Option<Box<Report>>) {
    match report {
        Some(report) => reply::report(ctx, outcome, &report),
        None => reply::outcome(ctx, outcome),
    }
}

impl From<Acquired> for Outcome {
    fn from(acquired: Acquired) -> Self {
        match acquired {
            Acquired::Granted(fence) | Acquired::Held(fence) => fence.into(),
            Acquired::Already | Acquired::Busy | Acquired::Queued | Acquired::NotHeld => Self::Nil,
        }
    }
}

#[cold]
fn report_acquired(acquired: Acquired, step: &Step, owner: &[u8], fence: Option<Fence>) -> Box<Report> {
    Box::new(match acquired {
        Acquired::Granted(_) => report_held(step, owner, "granted"),
        Acquired::Held(_) | Acquired::Already => report_held(step, owner, "already-held"),
        Acquired::Busy => Report::busy(Location::of(step), step.lock, owner),
        Acquired::Queued => Report::queued(Location::of(step), step.lock, owner),
        Acquired::NotHeld => report_not_held(step, owner, fence),
    })
}

fn report_held(step: &Step, owner: &[u8], reason: &'static str) -> Report {
    let hold = step.lock.hold_of(owner);
    hold.map(|hold| Report::held(hold, reason, step.clock.now)).unwrap_or_default()
}

fn report_not_held(step: &Step, owner: &[u8], fence: Option<Fence>) -> Report {
    Report::not_held(Location::of(step), Some(step.lock), owner, fence)
}
