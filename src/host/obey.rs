//! The internal commands: what a primary decided, or what an AOF says it did. Nothing is judged here, and what
//! arrived goes on as it arrived.

use redis_module::raw;

use super::api::{bytes, has, has_flags, is_loading, rm, Ctx};
use super::entry::{Call, Verb};
use super::key::{LockKey, OpenKey};
use super::{clock, replicate, reply, state};
use crate::command::effect::bounds::{BoundsEffect, CoolEffect};
use crate::command::effect::{self, HoldEffect};
use crate::command::latch_effect::{DownEffect, SetEffect};
use crate::error::LockError;
use crate::primitive::codec::Source;
use crate::primitive::latch::Latch;
use crate::primitive::Turn;

pub(super) struct HoldVerb;

impl Verb for HoldVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let (_, effect) = HoldEffect::parse(&words)?;
        obey(call, |turn| {
            let hold = effect.into_hold(source(call.ctx), turn.clock).ok_or(LockError::BadEffect)?;
            if turn.lock.is_full() && turn.lock.hold_of(hold.owner.as_bytes()).is_none() {
                return Err(LockError::BadEffect);
            }
            turn.impose(hold);
            Ok(true)
        })
    }
}

pub(super) struct BoundsVerb;

impl Verb for BoundsVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let (_, effect) = BoundsEffect::parse(&words)?;
        obey(call, |turn| {
            let bounds = effect.into_bounds(source(call.ctx), turn.clock);
            Ok(turn.impose_bounds(effect.fence, bounds))
        })
    }
}

pub(super) struct CoolVerb;

impl Verb for CoolVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let (_, effect) = CoolEffect::parse(&words)?;
        obey(call, |turn| {
            let cooling = effect.into_cooling(source(call.ctx), turn.clock).ok_or(LockError::BadEffect)?;
            if turn.lock.is_full() && turn.lock.hold_with(cooling.hold.fence).is_none() {
                return Err(LockError::BadEffect);
            }
            turn.impose_cooling(cooling);
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

pub(super) struct SetLatchVerb;

impl Verb for SetLatchVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let effect = SetEffect::parse(&words)?;
        obey_latch(call, |key| {
            key.put(effect.latch);
            if let Some(at) = effect.expires_unix_ms {
                key.expire_at(at);
            }
            Ok(true)
        })
    }
}

pub(super) struct CountDownVerb;

impl Verb for CountDownVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let effect = DownEffect::parse(&words)?;
        obey_latch(call, |key| key.value().map_or(Ok(false), |latch| effect.apply(latch)))
    }
}

fn obey_latch(
    call: &Call,
    work: impl FnOnce(&mut OpenKey<Latch>) -> Result<bool, LockError>,
) -> Result<(), LockError> {
    admit(call.ctx)?;
    let changed = work(&mut OpenKey::open(call.ctx, call.key())?)?;
    state::with(|host| host.suspect(call.db(), bytes(call.key())));
    pass_on(call, changed);
    Ok(())
}

fn obey(call: &Call, work: impl FnOnce(&mut Turn) -> Result<bool, LockError>) -> Result<(), LockError> {
    admit(call.ctx)?;
    let mut key = LockKey::open(call.ctx, call.key())?;
    let changed = state::with(|host| -> Result<bool, LockError> {
        let (db, key_bytes) = (call.db(), bytes(call.key()));
        let effects = &mut Vec::new();
        let memory = &mut host.memory;
        let mut turn = Turn { clock: clock::read(), db, key: key_bytes, lock: key.lock(), memory, effects };
        let changed = work(&mut turn)?;
        key.store();
        if source(call.ctx) == Source::Client {
            host.suspect_newcomer(db, key_bytes, key.lock());
        } else {
            host.suspect(db, key_bytes);
        }
        if let Some(deadline) = host.memory.take_soonest().filter(|_| host.is_primary) {
            host.alarm.by(deadline);
        }
        Ok(changed)
    })?;
    pass_on(call, changed);
    Ok(())
}

/// Refuses applications. Where ACL categories exist they keep ordinary users out, and a slot that moves in needs these
/// commands.
fn admit(ctx: *mut Ctx) -> Result<(), LockError> {
    if has!(RedisModule_SetCommandACLCategories) || is_stream(ctx) {
        Ok(())
    } else {
        Err(LockError::EffectRefused)
    }
}

/// Tells others of what was changed, and replies whether anything was.
fn pass_on(call: &Call, changed: bool) {
    if changed {
        rm!(RedisModule_SignalModifiedKey(call.ctx, call.key()));
        replicate::pass_on(call.ctx);
    }
    reply::int(call.ctx, i64::from(changed));
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

fn is_stream(ctx: *mut Ctx) -> bool {
    is_loading(ctx) || has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_REPLICATED)
}
