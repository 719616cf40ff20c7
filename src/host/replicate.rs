//! What goes to the AOF and to replicas: effects, and never the commands that had them.

use std::ffi::c_int;

use redis_module::raw;

use super::api::{has_flags, rm, Ctx, Io, OwnString, RString};
use crate::command::effect::bounds::{BoundsEffect, CoolEffect};
use crate::command::effect::HoldEffect;
use crate::command::latch_effect::{DownEffect, SetEffect};
use crate::primitive::latch::Latch;
use crate::primitive::{Clock, Cooling, Fence, Hold, Lock};

/// Whether anybody reads the stream.
///
/// Putting an effect into words costs more than the rest of an acquire, and the server throws the words away when
/// there is neither an AOF nor a replica nor a backlog. So we ask it, and forget the answer whenever something
/// happens that could change it: each reader begins with a fork, a load or a change of role, and the cron asks
/// anew in any case.
#[derive(Default)]
pub(super) struct Listeners {
    known: Option<bool>,
}

impl Listeners {
    /// Something happened: ask again before the next write.
    pub(super) fn forget(&mut self) {
        self.known = None;
    }

    #[inline]
    pub(super) fn any(&mut self, ctx: *mut Ctx) -> bool {
        match self.known {
            Some(any) => any,
            None => *self.known.insert(ask(ctx)),
        }
    }
}

#[cold]
fn ask(ctx: *mut Ctx) -> bool {
    // In a cluster a slot's stream can begin at any time.
    if has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_AOF | raw::REDISMODULE_CTX_FLAGS_CLUSTER) {
        return true;
    }
    let info = rm!(RedisModule_GetServerInfo(ctx, c"replication".as_ptr()));
    let mut wrong: c_int = 0;
    let mut number = |field: &std::ffi::CStr| {
        let n = rm!(RedisModule_ServerInfoGetFieldUnsigned(info, field.as_ptr(), &mut wrong));
        n > 0 || wrong != 0
    };
    let any = info.is_null() || number(c"connected_slaves") || number(c"repl_backlog_active");
    if !info.is_null() {
        rm!(RedisModule_FreeServerInfo(ctx, info));
    }
    any
}

/// Writes a hold, either to the replication stream or to a new AOF: both take the same words. What few holds have
/// comes at the end.
macro_rules! write_hold {
    ($function:ident, $to:expr, $key:expr, $effect:expr) => {{
        let e: HoldEffect = $effect;
        match e.extra.as_deref() {
            Some(extra) if extra.keys > 1 || !extra.entries.is_plain() => {
                let ids: Vec<OwnString> = extra.entries.ids().iter().map(|id| OwnString::new(id)).collect();
                let mut ids: Vec<*mut RString> = ids.iter().map(OwnString::as_ptr).collect();
                let (note, keys) = (&extra.note, i64::from(extra.keys));
                let (ids, count) = (ids.as_mut_ptr(), ids.len());
                write_hold!(
                    $function, $to, $key, e, c"sbllllllblv", note.as_ptr(), note.len(), keys, ids, count
                )
            }
            Some(extra) if !extra.note.is_empty() => {
                write_hold!($function, $to, $key, e, c"sbllllllb", extra.note.as_ptr(), extra.note.len())
            }
            _ => write_hold!($function, $to, $key, e, c"sbllllll"),
        };
    }};
    ($function:ident, $to:expr, $key:expr, $e:ident, $format:expr $(, $more:expr)*) => {
        rm!($function(
            $to,
            c"LOCK._HOLD".as_ptr(),
            $format.as_ptr(),
            $key,
            $e.owner.as_ptr(),
            $e.owner.len(),
            $e.fence.to_wire(),
            i64::from($e.claim.limit),
            i64::from($e.claim.permits),
            $e.lease.to_wire(),
            $e.end.left_ms,
            $e.end.unix_ms
            $(, $more)*
        ))
    };
}

/// Writes what bounds a hold beside its lease.
macro_rules! write_bounds {
    ($function:ident, $to:expr, $key:expr, $effect:expr) => {{
        let e: BoundsEffect = $effect;
        match e.tie {
            None => write_bounds!($function, $to, $key, e, c"slllll"),
            Some(tie) => {
                let (node, client) = (tie.node.cast_signed(), tie.client.cast_signed());
                write_bounds!($function, $to, $key, e, c"sllllllll", tie.grace.to_wire(), node, client)
            }
        };
    }};
    ($function:ident, $to:expr, $key:expr, $e:ident, $format:expr $(, $more:expr)*) => {
        rm!($function(
            $to,
            c"LOCK._BOUNDS".as_ptr(),
            $format.as_ptr(),
            $key,
            $e.fence.to_wire(),
            $e.cap.left_ms,
            $e.cap.unix_ms,
            $e.floor.left_ms,
            $e.floor.unix_ms
            $(, $more)*
        ))
    };
}

/// Writes that a lock rests after a hold.
macro_rules! write_cooling {
    ($function:ident, $to:expr, $key:expr, $effect:expr) => {{
        let CoolEffect { hold, why }: CoolEffect = $effect;
        rm!($function(
            $to,
            c"LOCK._COOL".as_ptr(),
            c"sblllllll".as_ptr(),
            $key,
            hold.owner.as_ptr(),
            hold.owner.len(),
            hold.fence.to_wire(),
            i64::from(hold.claim.limit),
            i64::from(hold.claim.permits),
            hold.lease.to_wire(),
            hold.end.left_ms,
            hold.end.unix_ms,
            i64::from(why.to_wire())
        ));
    }};
}

/// A hold stands, within these bounds.
pub(super) fn hold(ctx: *mut Ctx, key: *mut RString, hold: &Hold, clock: Clock) {
    write_hold!(RedisModule_Replicate, ctx, key, HoldEffect::of(hold, clock));
    if let Some(bounds) = hold.bounds() {
        write_bounds!(RedisModule_Replicate, ctx, key, BoundsEffect::of(hold.fence, bounds, clock));
    }
}

/// A hold has ended, and its lock rests.
pub(super) fn cooling(ctx: *mut Ctx, key: *mut RString, cooling: &Cooling, clock: Clock) {
    write_cooling!(RedisModule_Replicate, ctx, key, CoolEffect::of(cooling, clock));
}

/// A lock, in an AOF that is being rewritten.
pub(super) fn rewrite(io: *mut Io, key: *mut RString, lock: &Lock, clock: Clock) {
    for hold in lock.holds() {
        write_hold!(RedisModule_EmitAOF, io, key, HoldEffect::of(hold, clock));
        if let Some(bounds) = hold.bounds() {
            write_bounds!(RedisModule_EmitAOF, io, key, BoundsEffect::of(hold.fence, bounds, clock));
        }
    }
    for cooling in lock.cooling() {
        write_cooling!(RedisModule_EmitAOF, io, key, CoolEffect::of(cooling, clock));
    }
}

/// A hold has ended.
pub(super) fn free(ctx: *mut Ctx, key: *mut RString, fence: Fence) {
    rm!(RedisModule_Replicate(ctx, c"LOCK._FREE".as_ptr(), c"sl".as_ptr(), key, fence.to_wire()));
}

/// A semaphore has another limit.
pub(super) fn limit(ctx: *mut Ctx, key: *mut RString, limit: u32) {
    rm!(RedisModule_Replicate(ctx, c"LOCK._LIMIT".as_ptr(), c"sl".as_ptr(), key, i64::from(limit)));
}

/// A latch stands.
pub(super) fn latch(ctx: *mut Ctx, key: *mut RString, effect: &SetEffect) {
    let (size, left) = (i64::from(effect.latch.size()), i64::from(effect.latch.left()));
    let expires = effect.expires_to_wire();
    rm!(RedisModule_Replicate(ctx, c"LATCH._SET".as_ptr(), c"slll".as_ptr(), key, size, left, expires));
}

/// A latch was counted down.
pub(super) fn count_down(ctx: *mut Ctx, key: *mut RString, effect: DownEffect) {
    let (command, left) = (c"LATCH._DOWN".as_ptr(), i64::from(effect.left));
    match effect.id {
        None => rm!(RedisModule_Replicate(ctx, command, c"sl".as_ptr(), key, left)),
        Some(id) => {
            rm!(RedisModule_Replicate(ctx, command, c"slb".as_ptr(), key, left, id.as_ptr(), id.len()))
        }
    };
}

/// A latch, in an AOF that is being rewritten. The server itself writes when the key expires.
pub(super) fn rewrite_latch(io: *mut Io, key: *mut RString, latch: &Latch) {
    let (size, left) = (i64::from(latch.size()), i64::from(latch.left()));
    rm!(RedisModule_EmitAOF(io, c"LATCH._SET".as_ptr(), c"slll".as_ptr(), key, size, left, -1_i64));
    for id in latch.ids() {
        let (text, len) = (id.as_ptr(), id.len());
        rm!(RedisModule_EmitAOF(io, c"LATCH._DOWN".as_ptr(), c"slb".as_ptr(), key, left, text, len));
    }
}

/// Most changes that one run of the cron counts.
const COUNTED_PER_RUN: u64 = 1_000;

/// Counts changes that were not replicated, since nobody listens, for the server's save points. Only replicating
/// counts, so a word goes out that the server throws away, and that would harm nobody.
pub(super) fn count_changes(ctx: *mut Ctx, changes: u64) {
    for _ in 0..changes.min(COUNTED_PER_RUN) {
        rm!(RedisModule_Replicate(ctx, c"PING".as_ptr(), c"".as_ptr()));
    }
}

/// Hands an effect that came from a primary on, as it came.
pub(super) fn pass_on(ctx: *mut Ctx) {
    rm!(RedisModule_ReplicateVerbatim(ctx));
}
