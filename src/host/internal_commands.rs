//! The internal commands: what a primary decided, or what an AOF says it did. Nothing is judged here, and what
//! arrived goes on as it arrived.

use redis_module::raw;
use smallvec::SmallVec;

use super::api::{has, has_flags, is_loading, rm, Ctx};
use super::handler::{Call, Handler};
use super::key::{LockKey, OpenKey};
use super::register::handlers;
use super::{clock, config, replicate, reply, state};
use crate::command::effect::stream::{self, EffectKind, LockEffects};
use crate::command::effect::window::WindowEffect;
use crate::command::latch_effect::{DownEffect, SetEffect};
use crate::command::spec::Spec;
use crate::command::{effect, latch_effect};
use crate::error::LockError;
use crate::primitive::codec::Source;
use crate::primitive::latch::Latch;
use crate::primitive::step::replica::Change;
use crate::primitive::Step;

/// The commands with one effect on a lock.
macro_rules! effect_handlers {
    ($($handler:ident: $kind:ident, $spec:expr;)*) => { $(
        pub(super) struct $handler;

        impl Handler for $handler {
            const SPEC: &'static Spec = &$spec;

            fn run(call: &Call) -> Result<(), LockError> {
                let words = call.words();
                apply_change(call, LockEffects::from_iter([EffectKind::$kind.parse(&words)?]))
            }
        }
    )* };
}

effect_handlers!(
    HoldHandler: Hold, effect::HOLD;
    RenewHandler: Renew, effect::changes::RENEW;
    EnterHandler: Enter, effect::changes::ENTER;
    LeaveHandler: Leave, effect::changes::LEAVE;
    BoundsHandler: Bounds, effect::bounds::BOUNDS;
    CoolHandler: Cool, effect::bounds::COOL;
    FreeHandler: Free, effect::FREE;
    LimitHandler: Limit, effect::LIMIT;
);

handlers!(
    add_internal:
    HoldHandler,
    RenewHandler,
    EnterHandler,
    LeaveHandler,
    BoundsHandler,
    CoolHandler,
    FreeHandler,
    LimitHandler,
    StepHandler,
    WindowHandler,
    SetLatchHandler,
    CountDownHandler,
);

pub(super) struct StepHandler;

impl Handler for StepHandler {
    const SPEC: &'static Spec = &stream::STEP;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let effects = stream::parse(&words)?;
        apply_change(call, effects)
    }
}

pub(super) struct WindowHandler;

impl Handler for WindowHandler {
    const SPEC: &'static Spec = &effect::window::RECOVERY;

    fn run(call: &Call) -> Result<(), LockError> {
        let effect = WindowEffect::parse(&call.words())?;
        // No slot that moves in needs this one.
        if !is_stream(call.ctx) {
            return Err(LockError::EffectRefused);
        }
        let window = effect.here(source(call.ctx), clock::read());
        state::with(|host| host.manager.recovery.hear(window));
        replicate::pass_on(call.ctx);
        reply::int(call.ctx, 1);
        Ok(())
    }
}

pub(super) struct SetLatchHandler;

impl Handler for SetLatchHandler {
    const SPEC: &'static Spec = &latch_effect::SET;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let effect = SetEffect::parse(&words)?;
        apply_to_latch(call, |key| {
            key.put(effect.latch);
            if let Some(at) = effect.expires_unix_ms {
                key.expire_at(at);
            }
            Ok(true)
        })
    }
}

pub(super) struct CountDownHandler;

impl Handler for CountDownHandler {
    const SPEC: &'static Spec = &latch_effect::DOWN;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let effect = DownEffect::parse(&words)?;
        apply_to_latch(call, |key| key.value().map_or(Ok(false), |latch| effect.apply(latch)))
    }
}

fn apply_to_latch(
    call: &Call,
    work: impl FnOnce(&mut OpenKey<Latch>) -> Result<bool, LockError>,
) -> Result<(), LockError> {
    admit(call.ctx)?;
    let changed = work(&mut OpenKey::open(call.ctx, call.key())?)?;
    state::with(|host| host.tell(|manager| manager.recheck_if_awaited(call.db(), call.key().as_bytes())));
    pass_on(call, changed);
    Ok(())
}

/// Does to the lock what the effects say, all of them or none.
fn apply_change(call: &Call, effects: LockEffects) -> Result<(), LockError> {
    admit(call.ctx)?;
    let (source, clock) = (source(call.ctx), clock::read());
    let changes: Option<SmallVec<[Change; 2]>> =
        effects.into_iter().map(|effect| effect.here(source, clock)).collect();
    let changes = changes.ok_or(LockError::BadEffect)?;
    let mut key = LockKey::open(call.ctx, call.key())?;
    let changed = state::with(|host| {
        let (db, key_bytes) = (call.db(), call.key().as_bytes());
        let effects = &mut Vec::new();
        let manager = &mut host.manager;
        let mut step = Step { clock, db, key: key_bytes, lock: key.lock(), manager, effects };
        let changed = changes.into_iter().fold(false, |changed, change| step.apply_change(change) | changed);
        #[cfg(debug_assertions)]
        step.check();
        key.store();
        host.tell(|manager| match source {
            Source::Client { .. } => manager.recheck_newcomer(db, key_bytes, key.lock()),
            _ => manager.recheck_if_awaited(db, key_bytes),
        });
        changed
    });
    pass_on(call, changed);
    Ok(())
}

/// Refuses applications. Where ACL categories exist they keep ordinary users out, and a slot that moves in needs these
/// commands.
fn admit(ctx: Ctx) -> Result<(), LockError> {
    if has!(RedisModule_SetCommandACLCategories) || is_stream(ctx) {
        Ok(())
    } else {
        Err(LockError::EffectRefused)
    }
}

/// Tells others of what was changed, and replies whether anything was.
fn pass_on(call: &Call, changed: bool) {
    if changed {
        rm!(RedisModule_SignalModifiedKey(call.ctx.as_ptr(), call.key().as_ptr()));
        replicate::pass_on(call.ctx);
    }
    reply::int(call.ctx, i64::from(changed));
}

/// The source of a command: an AOF that is being loaded, the primary, or some client.
fn source(ctx: Ctx) -> Source {
    if is_loading(ctx) {
        Source::File
    } else if is_stream(ctx) {
        Source::Primary
    } else {
        Source::Client { ahead_ms: config::fence_ahead_ms() }
    }
}

fn is_stream(ctx: Ctx) -> bool {
    is_loading(ctx) || has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_REPLICATED)
}
