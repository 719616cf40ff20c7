//! The internal commands: what a primary decided, or what an AOF says it did. Nothing is judged here, and what
//! arrived goes on as it arrived.

use redis_module::raw;

use super::api::{bytes, has, has_flags, rm, Ctx};
use super::entry::{Call, Verb};
use super::key::LockKey;
use super::{clock, replicate, reply, state};
use crate::command::effect::{self, HoldEffect};
use crate::error::LockError;
use crate::limits::HOLDS_MAX;
use crate::primitive::codec::Source;
use crate::primitive::Turn;

pub(super) struct HoldVerb;

impl Verb for HoldVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let (_, effect) = HoldEffect::parse(&words)?;
        obey(call, |turn| {
            let hold = effect.into_hold(source(call.ctx), turn.clock).ok_or(LockError::BadEffect)?;
            let is_full = turn.lock.holds().len() >= HOLDS_MAX as usize;
            if is_full && turn.lock.hold_of(hold.owner.as_bytes()).is_none() {
                return Err(LockError::BadEffect);
            }
            turn.impose(hold);
            Ok(true)
        })
    }
}

pub(super) struct FreeVerb;

impl Verb for FreeVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let (_, fence) = effect::parse_free(&words)?;
        obey(call, |turn| Ok(turn.free(fence)))
    }
}

pub(super) struct LimitVerb;

impl Verb for LimitVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let (_, limit) = effect::parse_limit(&words)?;
        obey(call, |turn| Ok(turn.impose_limit(limit)))
    }
}

fn obey(call: &Call, work: impl FnOnce(&mut Turn) -> Result<bool, LockError>) -> Result<(), LockError> {
    // Where ACL categories exist they keep ordinary users out, and a slot that moves in needs these commands.
    if !has!(RedisModule_SetCommandACLCategories) && !is_stream(call.ctx) {
        return Err(LockError::EffectRefused);
    }
    let mut key = LockKey::open(call.ctx, call.key())?;
    let changed = state::with(|host| -> Result<bool, LockError> {
        let (db, key_bytes) = (call.db(), bytes(call.key()));
        let effects = &mut Vec::new();
        let memory = &mut host.memory;
        let mut turn = Turn { clock: clock::read(), db, key: key_bytes, lock: key.lock(), memory, effects };
        let changed = work(&mut turn)?;
        key.store();
        host.suspect(db, key_bytes);
        if let Some(deadline) = host.memory.take_soonest().filter(|_| host.is_primary) {
            host.alarm.by(deadline);
        }
        Ok(changed)
    })?;
    if changed {
        rm!(RedisModule_SignalModifiedKey(call.ctx, call.key()));
        replicate::pass_on(call.ctx);
    }
    reply::int(call.ctx, i64::from(changed));
    Ok(())
}

/// Who speaks: an AOF that is being loaded, the primary, or some client.
fn source(ctx: *mut Ctx) -> Source {
    if is_loading(ctx) {
        Source::File
    } else if is_stream(ctx) {
        Source::Primary
    } else {
        Source::Client
    }
}

fn is_loading(ctx: *mut Ctx) -> bool {
    has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_LOADING | raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING)
}

fn is_stream(ctx: *mut Ctx) -> bool {
    is_loading(ctx) || has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_REPLICATED)
}
