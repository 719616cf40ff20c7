//! The [plain way](crate::primitive::plain) of LOCK.ACQUIRE and LOCK.RELEASE.

use super::super::api::{rm, Ctx, Str};
use super::super::change::check;
use super::super::handler::Call;
use super::super::key::OpenKey;
use super::super::notify::{self, Event};
use super::super::state::{self, Host};
use super::super::{clock, hearing, replicate, reply};
use crate::command::effect::stream::LockEffect;
use crate::command::effect::HoldEffect;
use crate::error::LockError;
use crate::primitive::plain::{self, Plain};
use crate::primitive::{Clock, Fence, Lease, Lock};

/// How far it went.
pub(super) enum Went<'c> {
    Through,
    /// Only to the key, which is open.
    ToKey(OpenKey<'c, Lock>),
}

/// Takes the lock for its owner if it is free, and replies. A request that only tries is refused, too, if somebody has
/// it.
pub(super) fn acquire<'c>(
    call: &Call<'c>,
    key: &[u8],
    owner: &[u8],
    lease: Lease,
    tries: bool,
) -> Result<Went<'c>, LockError> {
    let (ctx, name) = (call.ctx, call.key());
    let mut open = OpenKey::<Lock>::open(ctx, name)?;
    if let Some(lock) = open.value() {
        let is_refused = tries
            && lock.plain_hold().is_some()
            && state::with(|host| {
                request(host, call, key, owner).is_some_and(|request| request.is_refused(lock))
            });
        if !is_refused {
            return Ok(Went::ToKey(open));
        }
        drop(open);
        reply::nil(ctx);
        return Ok(Went::Through);
    }
    let fence = state::with(|host| {
        let request = request(host, call, key, owner)?;
        let (lock, fence) = request.grant(&mut host.manager, lease)?;
        open.put(lock);
        if changed(host, ctx, name) {
            tell_granted(ctx, name, &mut open, request.clock);
        }
        Some(fence)
    });
    let Some(fence) = fence else { return Ok(Went::ToKey(open)) };
    drop(open);
    check();
    notify::publish(ctx, name, &[Event::Acquired]);
    reply::int(ctx, fence.to_wire());
    Ok(Went::Through)
}

/// Gives the lock back for its owner if that has it, and replies.
pub(super) fn release<'c>(
    call: &Call<'c>,
    key: &[u8],
    owner: &[u8],
    named: Option<Fence>,
) -> Result<Went<'c>, LockError> {
    let (ctx, name) = (call.ctx, call.key());
    let mut open = OpenKey::<Lock>::open(ctx, name)?;
    let is_free = state::with(|host| {
        let Some(lock) = open.value().filter(|lock| lock.plain_hold().is_some()) else { return false };
        let Some(request) = request(host, call, key, owner) else { return false };
        let Some(fence) = request.release(&mut host.manager, lock, named) else { return false };
        open.delete();
        if changed(host, ctx, name) {
            replicate::lock(ctx, name, &[LockEffect::Free(fence)]);
        }
        true
    });
    if !is_free {
        return Ok(Went::ToKey(open));
    }
    drop(open);
    check();
    notify::publish(ctx, name, &[Event::Released]);
    reply::int(ctx, 1);
    Ok(Went::Through)
}

/// The request in its plain form. Returns `None` where this server decides nothing, or the way is not open.
#[inline]
fn request<'a>(host: &mut Host, call: &Call, key: &'a [u8], owner: &'a [u8]) -> Option<Plain<'a>> {
    if !host.is_primary || !plain::is_open(&host.manager, key) {
        return None;
    }
    Some(Plain { clock: clock::read(), db: call.db(), key, owner })
}

/// Does what follows every change of a lock. Returns whether somebody is to be told of it; a change that nobody is told
/// of is counted.
#[inline]
fn changed(host: &mut Host, ctx: Ctx, name: Str) -> bool {
    let is_told = host.listeners.any(ctx);
    if !is_told {
        host.unreplicated_changes = host.unreplicated_changes.saturating_add(1);
    }
    rm!(RedisModule_SignalModifiedKey(ctx.as_ptr(), name.as_ptr()));
    if let Some(deadline) = host.manager.take_soonest() {
        host.timer.wake_by(deadline);
    }
    hearing::hear_of_clients(host, ctx);
    is_told
}

/// Tells replicas and the AOF of a grant.
#[inline(never)]
fn tell_granted(ctx: Ctx, name: Str, open: &mut OpenKey<Lock>, clock: Clock) {
    if let Some(hold) = open.value().and_then(|lock| lock.plain_hold()) {
        replicate::lock(ctx, name, &[LockEffect::Hold(HoldEffect::of(hold, clock))]);
    }
}
