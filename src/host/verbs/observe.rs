//! LOCK.AWAIT and LOCK.REVOKE: waiting without taking, and asking without taking away.

use redis_module::raw;

use super::super::api::has_flags;
use super::super::blocked::{Asked, Form};
use super::super::entry::{Call, Verb};
use super::super::key::read;
use super::super::reply::{self, Outcome};
use super::super::state::{self, Host};
use super::super::step::change;
use super::super::{clock, config};
use super::site;
use super::waiting::may_block;
use crate::command::observe::{Observe, What};
use crate::command::revoke;
use crate::error::LockError;
use crate::primitive::condition::{Condition, Verdict, View};
use crate::primitive::Moment;

pub(in crate::host) struct ObserveVerb;

impl Verb for ObserveVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let request = Observe::parse(&words, &policy)?;
        let (db, now) = (call.db(), clock::now());
        let (condition, verdict) = read(call.ctx, call.key(), |lock| {
            state::with(|Host { memory, is_primary, .. }| {
                if !*is_primary && matches!(request.what, What::Wanted(_)) {
                    return Err(LockError::ReadOnly);
                }
                let first = memory.waiters.front(db, request.key).map(|(_, first)| first);
                let view = View::of(lock, first, now);
                let condition = request.condition(lock, &view)?;
                Ok((condition, view.judge(condition)))
            })
        })??;
        let wait = request.wait.filter(|_| may_block(call.ctx));
        let outcome = match (verdict, wait) {
            (Some(Verdict::Met), _) => Outcome::Int(1),
            (Some(Verdict::HoldEnded), _) => return Err(LockError::NotHeld),
            (Some(Verdict::WrongType), _) => return Err(LockError::WrongType),
            (None, Some(wait)) if block(call, request.key, condition, wait.deadline(now))? => return Ok(()),
            (None, _) => Outcome::Nil,
        };
        reply::outcome(call.ctx, outcome);
        Ok(())
    }
}

/// Keeps the client of this call until the condition is met; false if the server will not have it blocked.
fn block(call: &Call, key: &[u8], condition: Condition, deadline: Moment) -> Result<bool, LockError> {
    if has_flags(call.ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER) && !state::with(|host| host.is_primary) {
        return Err(LockError::CannotWatch);
    }
    state::with(|Host { memory, blocked, alarm, .. }| {
        memory.room_to_watch(call.db(), key, config::policy().caps)?;
        let id = memory.waiters.take_id();
        let form = Form { asked: Asked::Observe, made_up: None, with_info: false };
        if !blocked.block(call.ctx, id, form) {
            return Ok(false);
        }
        memory.observers.insert(id, call.db(), key, condition, deadline);
        alarm.by(deadline);
        Ok(true)
    })
}

pub(in crate::host) struct RevokeVerb;

impl Verb for RevokeVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        revoke::parse(&words)?;
        let count = change(site(call), call.key(), |turn, _| Ok(revoke::apply(turn)))?;
        reply::int(call.ctx, count);
        Ok(())
    }
}
