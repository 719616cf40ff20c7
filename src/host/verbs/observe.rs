//! LOCK.AWAIT and LOCK.REVOKE: waiting without taking, and asking without taking away; what LATCH.AWAIT has in common
//! with the first.

use redis_module::raw;

use super::super::api::has_flags;
use super::super::blocked::{BlockingCommand, ReplySpec};
use super::super::blocking;
use super::super::change::change;
use super::super::handler::{Call, Handler};
use super::super::key::read;
use super::super::reply::{self, Outcome};
use super::super::state::{self, Host};
use super::super::{clock, config};
use super::origin;
use super::waiting::may_block;
use crate::command::observe::{Observe, What};
use crate::command::policy::Wait;
use crate::command::revoke;
use crate::command::spec::Spec;
use crate::error::LockError;
use crate::primitive::condition::{Condition, Seen, Verdict, View};

pub(in crate::host) struct ObserveHandler;

impl Handler for ObserveHandler {
    const SPEC: &'static Spec = &crate::command::observe::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let request = Observe::parse(&words, &policy)?;
        let (db, now) = (call.db(), clock::now());
        let (condition, view) = read(call.ctx, call.key(), |lock| {
            state::with(|Host { manager, is_primary, .. }| {
                if !*is_primary && matches!(request.what, What::Wanted(_)) {
                    return Err(LockError::ReadOnly);
                }
                let first = manager.waiters.front(db, request.key).map(|(_, first)| first);
                let view = View::of(lock, first, now);
                let condition = request.condition(lock, &view)?;
                Ok((condition, view))
            })
        })??;
        let seen = Seen { lock: Some(view), ..Seen::default() };
        watch(call, BlockingCommand::Observe, condition, &seen, request.wait)
    }
}

/// Tells what is so of the key of this call, or keeps the client until the condition is met.
pub(super) fn watch(
    call: &Call,
    command: BlockingCommand,
    condition: Condition,
    seen: &Seen,
    wait: Option<Wait>,
) -> Result<(), LockError> {
    let wait = wait.filter(|_| may_block(call.ctx));
    let outcome = match (seen.judge(condition), wait) {
        (Some(Verdict::Met), _) => Outcome::Int(1),
        (Some(Verdict::HoldEnded), _) => return Err(LockError::NotHeld),
        (Some(Verdict::NotALock), _) => return Err(LockError::WrongType),
        (Some(Verdict::NotALatch), _) => return Err(LockError::WrongTypeForLatch),
        (None, Some(wait)) if block(call, command, condition, wait)? => return Ok(()),
        (None, _) => Outcome::Nil,
    };
    reply::outcome(call.ctx, outcome);
    Ok(())
}

/// Keeps the client of this call until the condition is met; false if the server will not have it blocked.
fn block(call: &Call, command: BlockingCommand, condition: Condition, wait: Wait) -> Result<bool, LockError> {
    if has_flags(call.ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER) && !state::with(|host| host.is_primary) {
        return Err(LockError::CannotWatch);
    }
    state::with(|Host { manager, blocked, timer, .. }| {
        let (db, key) = (call.db(), call.key().as_bytes());
        manager.room_to_watch(db, key, config::policy().caps)?;
        let id = manager.waiters.take_id();
        let reply_spec = ReplySpec { command, generated_owner: None, with_info: false };
        if !blocking::block(blocked, call.ctx, id, reply_spec) {
            return Ok(false);
        }
        let deadline = wait.deadline(clock::now());
        manager.observers.insert(id, db, key, condition, deadline);
        manager.fit_ledger();
        timer.wake_by(deadline);
        Ok(true)
    })
}

pub(in crate::host) struct RevokeHandler;

impl Handler for RevokeHandler {
    const SPEC: &'static Spec = &revoke::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        revoke::parse(&words)?;
        let count = change(origin(call), call.key(), |step, _| Ok(revoke::apply(step)))?;
        reply::int(call.ctx, count);
        Ok(())
    }
}
