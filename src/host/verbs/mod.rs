//! The commands at the server's side: words in, one step on the locks, reply out.

mod convert;
mod fence;
mod group;
mod guard;
mod hold;
mod inspect;
mod latch;
mod observe;
mod operate;
mod scan;
mod stats;
mod take;
mod tying;
mod waiting;

pub(super) use convert::{ConvertVerb, SetLimitVerb};
pub(super) use fence::FenceVerb;
pub(super) use group::{AcquireAllVerb, ReleaseAllVerb, RenewAllVerb};
pub(super) use guard::GuardVerb;
pub(super) use hold::{CheckVerb, ReleaseVerb, RenewVerb};
pub(super) use inspect::{HelpVerb, InfoVerb, WaitersVerb};
pub(super) use latch::{AwaitLatchVerb, CountDownVerb, LatchInfoVerb, SetLatchVerb};
pub(super) use observe::{ObserveVerb, RevokeVerb};
pub(super) use operate::{BreakVerb, CancelVerb, StealVerb, TransferVerb};
pub(super) use scan::ScanVerb;
pub(super) use stats::StatsVerb;
pub(super) use take::AcquireVerb;

use super::api::Ctx;
use super::entry::Call;
use super::reply::{self, Outcome};
use super::step::Site;
use crate::command::acquire::Acquired;
use crate::command::report::{Place, Report};
use crate::primitive::{Fence, Turn};

fn site(call: &Call) -> Site {
    Site { ctx: call.ctx, db: call.db(), in_command: true }
}

/// What a step came to.
enum Step {
    Done(Outcome, Option<Report>),
    /// The client waits; its reply comes later.
    Waits,
}

/// Replies, with the report if one was asked for.
fn say(ctx: *mut Ctx, outcome: Outcome, report: Option<Report>) {
    match report {
        Some(report) => reply::report(ctx, outcome, &report),
        None => reply::outcome(ctx, outcome),
    }
}

/// Replies to a request for a lock; with the owner's name, if the server has made it up.
fn say_acquired(ctx: *mut Ctx, step: Step, made_up: Option<&[u8]>) {
    let Step::Done(outcome, report) = step else { return };
    if let (Some(owner), true) = (made_up, outcome != Outcome::Nil) {
        reply::array(ctx, 2);
        reply::text(ctx, owner);
    }
    say(ctx, outcome, report);
}

impl From<Acquired> for Outcome {
    fn from(acquired: Acquired) -> Self {
        match acquired {
            Acquired::Granted(fence) | Acquired::Held(fence) => fence.into(),
            Acquired::Already | Acquired::Busy | Acquired::Queued | Acquired::NotHeld => Self::Nil,
        }
    }
}

fn report_acquired(acquired: Acquired, turn: &Turn, owner: &[u8], fence: Option<Fence>) -> Report {
    match acquired {
        Acquired::Granted(_) => report_held(turn, owner, "granted"),
        Acquired::Held(_) | Acquired::Already => report_held(turn, owner, "already-held"),
        Acquired::Busy => Report::busy(place(turn), turn.lock, owner),
        Acquired::Queued => Report::queued(place(turn), turn.lock, owner),
        Acquired::NotHeld => report_not_held(turn, owner, fence),
    }
}

fn report_held(turn: &Turn, owner: &[u8], reason: &'static str) -> Report {
    let hold = turn.lock.hold_of(owner);
    hold.map(|hold| Report::held(hold, reason, turn.clock.now)).unwrap_or_default()
}

fn report_not_held(turn: &Turn, owner: &[u8], fence: Option<Fence>) -> Report {
    Report::not_held(place(turn), Some(turn.lock), owner, fence)
}

fn place<'t>(turn: &'t Turn) -> Place<'t> {
    Place { memory: turn.memory, db: turn.db, key: turn.key, now: turn.clock.now }
}
