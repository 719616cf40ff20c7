//! The commands at the server's side: words in, one step on the lock, reply out.

use rand::Rng;
use redis_module::raw;

use super::api::{has_flags, Ctx};
use super::blocked::Form;
use super::entry::{Call, Verb};
use super::key::{change, read, Site};
use super::reply::{self, Outcome};
use super::{clock, config, state};
use crate::command::acquire::{Acquire, Acquired};
use crate::command::release::Release;
use crate::command::renew::Renew;
use crate::command::report::{Place, Report};
use crate::command::waiters::ListWaiters;
use crate::command::{check, help, info};
use crate::error::LockError;
use crate::primitive::time::left_to_wire;
use crate::primitive::{Claim, Fence, Lock, Turn};

fn site(call: &Call) -> Site {
    Site { ctx: call.ctx, db: call.db(), name: call.key(), in_command: true }
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

pub(super) struct AcquireVerb;

impl Verb for AcquireVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let request = Acquire::parse(&words, &policy)?;
        let made_up = if request.owner.is_none() { Some(make_up_owner()) } else { None };
        let owner = request.owner.or(made_up.as_deref()).unwrap_or_default();
        let wait = request.wait.filter(|_| may_block(call.ctx));
        let step = change(site(call), |turn, blocked| {
            let acquired = request.apply(owner, turn, &policy)?;
            if let (Acquired::Busy, Some(wait)) = (acquired, wait) {
                request.check_room(owner, turn, &policy)?;
                let form = Form { made_up: made_up.clone(), with_info: request.with_info };
                // First the client, then the queue: a client that the server will not block only tries.
                if blocked.block(call.ctx, turn.memory.waiters.next_id(), form) {
                    request.enqueue(owner, wait, turn, &policy)?;
                    return Ok(Step::Waits);
                }
            }
            let report = request.with_info.then(|| report_acquired(acquired, turn, owner));
            let outcome = match acquired {
                Acquired::Granted(fence) | Acquired::Held(fence) => fence.into(),
                Acquired::Busy | Acquired::NotHeld => Outcome::Nil,
            };
            Ok(Step::Done(outcome, report))
        })?;
        let Step::Done(outcome, report) = step else { return Ok(()) };
        if let (Some(owner), true) = (&made_up, outcome != Outcome::Nil) {
            reply::array(call.ctx, 2);
            reply::text(call.ctx, owner);
        }
        say(call.ctx, outcome, report);
        Ok(())
    }
}

/// A name that nobody else has: 128 random bits in hexadecimal digits.
fn make_up_owner() -> Box<[u8]> {
    let mut bits = [0_u8; 16];
    rand::rng().fill_bytes(&mut bits);
    bits.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// Whether the client of this call can be kept waiting: not in a transaction or script, and not when the command
/// comes from somewhere else than a client.
fn may_block(ctx: *mut Ctx) -> bool {
    !has_flags(
        ctx,
        raw::REDISMODULE_CTX_FLAGS_LUA
            | raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
            | raw::REDISMODULE_CTX_FLAGS_REPLICATED
            | raw::REDISMODULE_CTX_FLAGS_LOADING,
    )
}

fn report_acquired(acquired: Acquired, turn: &Turn, owner: &[u8]) -> Report {
    let now = turn.clock.now;
    let held =
        |reason| turn.lock.hold_of(owner).map(|hold| Report::held(hold, reason, now)).unwrap_or_default();
    match acquired {
        Acquired::Granted(_) => held("granted"),
        Acquired::Held(_) => held("already-held"),
        Acquired::Busy => Report::busy(Some(turn.lock), now),
        Acquired::NotHeld => report_not_held(turn, owner, None),
    }
}

fn report_not_held(turn: &Turn, owner: &[u8], fence: Option<Fence>) -> Report {
    let place = Place { memory: turn.memory, db: turn.db, key: turn.key, now: turn.clock.now };
    Report::not_held(place, Some(turn.lock), owner, fence)
}

pub(super) struct ReleaseVerb;

impl Verb for ReleaseVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = Release::parse(&words)?;
        let (done, report) = change(site(call), |turn, _| {
            let released = request.apply(turn);
            let report = request.with_info.then(|| match released {
                Some(fence) => Report::released(fence),
                None => report_not_held(turn, request.owner, request.fence),
            });
            Ok((released.is_some(), report))
        })?;
        say(call.ctx, Outcome::Int(i64::from(done)), report);
        Ok(())
    }
}

pub(super) struct RenewVerb;

impl Verb for RenewVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = Renew::parse(&words, &config::policy())?;
        let (left, report) = change(site(call), |turn, _| {
            let left = request.apply(turn);
            let report = request.with_info.then(|| match turn.lock.hold_of(request.owner) {
                Some(hold) if left != 0 => Report::held(hold, "renewed", turn.clock.now),
                _ => report_not_held(turn, request.owner, request.fence),
            });
            Ok((left, report))
        })?;
        say(call.ctx, Outcome::Int(left), report);
        Ok(())
    }
}

pub(super) struct CheckVerb;

impl Verb for CheckVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = check::parse(&words)?;
        let now = clock::now();
        let (left, report) = read(call.ctx, call.key(), |lock| {
            let left = check::apply(&request, lock, now);
            let report = request.with_info.then(|| match lock.and_then(|lock| lock.hold_of(request.owner)) {
                Some(hold) if left != 0 => Report::held(hold, "held", now),
                _ => state::with(|host| {
                    let place = Place { memory: &host.memory, db: call.db(), key: request.key, now };
                    Report::not_held(place, lock, request.owner, request.fence)
                }),
            });
            (left, report)
        })?;
        say(call.ctx, Outcome::Int(left), report);
        Ok(())
    }
}

pub(super) struct InfoVerb;

impl Verb for InfoVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let key = info::parse(&words)?;
        let waiting = state::with(|host| host.memory.waiters.waiting_for(call.db(), key));
        read(call.ctx, call.key(), |lock| describe(call.ctx, lock, waiting))
    }
}

/// The map of LOCK.INFO. Holds that are over are not shown, swept or not.
fn describe(ctx: *mut Ctx, lock: Option<&Lock>, waiting: usize) {
    let now = clock::now();
    let holds: Vec<_> =
        lock.map(|lock| lock.holds().iter().filter(|hold| hold.is_live(now)).collect()).unwrap_or_default();
    reply::map(ctx, 4);
    let claim = holds.first().map(|hold| hold.claim);
    reply::text_field(ctx, "mode", claim.map_or("free", Claim::mode).as_bytes());
    reply::int_field(ctx, "limit", claim.map_or(0, |claim| claim.shown().0));
    reply::text(ctx, b"holds");
    reply::array(ctx, holds.len());
    for hold in holds {
        reply::map(ctx, 6);
        reply::text_field(ctx, "owner", hold.owner.as_bytes());
        reply::int_field(ctx, "fence", hold.fence.to_wire());
        reply::int_field(ctx, "permits", hold.claim.shown().1);
        reply::int_field(ctx, "lease-ms", hold.lease.to_wire());
        reply::int_field(ctx, "left-ms", hold.left(now));
        reply::text_field(ctx, "note", hold.note());
    }
    reply::int_field(ctx, "waiting", waiting as i64);
}

pub(super) struct WaitersVerb;

impl Verb for WaitersVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = ListWaiters::parse(&words)?;
        // Reading the key refuses values of other types.
        read(call.ctx, call.key(), |_| ())?;
        let (ctx, db, now) = (call.ctx, call.db(), clock::now());
        state::with(|host| {
            let waiters = &host.memory.waiters;
            reply::array(ctx, waiters.waiting_for(db, request.key).min(request.count));
            for (_, waiter) in waiters.iter(db, request.key).take(request.count) {
                reply::map(ctx, 6);
                reply::text_field(ctx, "owner", waiter.ask.owner.as_bytes());
                reply::text_field(ctx, "mode", waiter.ask.claim.mode().as_bytes());
                reply::int_field(ctx, "permits", waiter.ask.claim.shown().1);
                reply::int_field(ctx, "waited-ms", waiter.since.ms_until(now) as i64);
                reply::int_field(ctx, "left-ms", left_to_wire(waiter.deadline, now));
                reply::text_field(
                    ctx,
                    "note",
                    waiter.ask.note.as_ref().map_or(&[][..], |note| note.as_bytes()),
                );
            }
        });
        Ok(())
    }
}

pub(super) struct HelpVerb;

impl Verb for HelpVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let lines: Vec<String> = help::lines().collect();
        reply::array(call.ctx, lines.len());
        for line in lines {
            reply::text(call.ctx, line.as_bytes());
        }
        Ok(())
    }
}
