//! Count-down latches: LATCH.SET, LATCH.DOWN, LATCH.AWAIT, LATCH.INFO.

use redis_module::raw;

use super::super::api::{has_flags, rm, Ctx};
use super::super::blocked::BlockingCommand;
use super::super::handler::{Call, Handler};
use super::super::key::{read_value, OpenKey};
use super::super::notify::{publish, Event};
use super::super::{config, observe, replicate, reply, state};
use super::observe::watch;
use crate::command::latch::{parse_info, AwaitLatch, CountDown, SetLatch};
use crate::command::latch_effect::{DownEffect, SetEffect};
use crate::command::spec::Spec;
use crate::error::LockError;
use crate::limits::LATCH_IDS_SHOWN_MAX;
use crate::primitive::condition::{Condition, Seen};
use crate::primitive::latch::Latch;

pub(in crate::host) struct SetLatchHandler;

impl Handler for SetLatchHandler {
    const SPEC: &'static Spec = &crate::command::latch::SET;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = SetLatch::parse(&words)?;
        let mut key = open(call)?;
        let new = request.apply(key.value().as_deref());
        let is_set = new.is_some();
        if let Some(latch) = new {
            let mut effect = SetEffect { latch: latch.clone(), expires_unix_ms: None };
            key.put(latch);
            effect.expires_unix_ms = request.life_ms.map(|ms| key.expire_after(ms));
            replicate::latch(call.ctx, call.key(), &effect);
            changed(call, key, &[Event::LatchSet]);
        }
        reply::int(call.ctx, i64::from(is_set));
        Ok(())
    }
}

pub(in crate::host) struct CountDownHandler;

impl Handler for CountDownHandler {
    const SPEC: &'static Spec = &crate::command::latch::DOWN;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = CountDown::parse(&words)?;
        let mut key = open(call)?;
        let (left, is_news) =
            request.apply(key.value(), || has_flags(call.ctx, raw::REDISMODULE_CTX_FLAGS_OOM))?;
        if is_news {
            replicate::count_down(call.ctx, call.key(), DownEffect { left, id: request.id });
            let events: &[Event] =
                if left == 0 { &[Event::LatchDown, Event::LatchOpen] } else { &[Event::LatchDown] };
            changed(call, key, events);
        }
        reply::int(call.ctx, i64::from(left));
        Ok(())
    }
}

/// Opens the latch for change. A replica takes it from its primary alone.
fn open<'c>(call: &Call<'c>) -> Result<OpenKey<'c, Latch>, LockError> {
    if !state::with(|host| host.is_primary) {
        return Err(LockError::ReadOnly);
    }
    OpenKey::open(call.ctx, call.key())
}

/// Tells onlookers and those who wait, once the key is closed: other modules may listen and call us again.
fn changed(call: &Call, key: OpenKey<Latch>, events: &[Event]) {
    drop(key);
    rm!(RedisModule_SignalModifiedKey(call.ctx.as_ptr(), call.key().as_ptr()));
    publish(call.ctx, call.key(), events);
    observe::changed(call.ctx, call.db(), call.key().as_bytes());
}

pub(in crate::host) struct AwaitLatchHandler;

impl Handler for AwaitLatchHandler {
    const SPEC: &'static Spec = &crate::command::latch::AWAIT;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = AwaitLatch::parse(&words, &config::policy())?;
        let is_open = read_value(call.ctx, call.key(), |latch| latch.is_some_and(Latch::is_open))?;
        let seen = Seen { latch: Some(is_open), ..Seen::default() };
        watch(call, BlockingCommand::AwaitLatch, Condition::Open, &seen, request.wait)
    }
}

pub(in crate::host) struct LatchInfoHandler;

impl Handler for LatchInfoHandler {
    const SPEC: &'static Spec = &crate::command::latch::INFO;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        parse_info(&words)?;
        read_value(call.ctx, call.key(), |latch| match latch {
            Some(latch) => describe(call.ctx, latch),
            None => reply::nil(call.ctx),
        })
    }
}

/// The map of LATCH.INFO.
fn describe(ctx: Ctx, latch: &Latch) {
    reply::map(ctx, 3);
    reply::int_field(ctx, "size", i64::from(latch.size()));
    reply::int_field(ctx, "left", i64::from(latch.left()));
    reply::text(ctx, b"ids");
    let shown = latch.ids().len().min(LATCH_IDS_SHOWN_MAX);
    reply::array(ctx, shown);
    latch.ids().take(shown).for_each(|id| reply::text(ctx, id));
}
