//! What goes to the AOF and to replicas: effects, and never the commands that had them.

use std::ffi::c_int;

use redis_module::raw;
use smallvec::SmallVec;

use super::api::{has_flags, rm, Ctx, Io, OwnString, RString};
use crate::command::effect::step::{command_of, LockEffect, LockEffects, Word, Words};
use crate::command::latch_effect::{DownEffect, SetEffect};
use crate::primitive::latch::Latch;
use crate::primitive::{Clock, Lock};

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

/// The words of a command as the server's own strings.
type Strings = SmallVec<[OwnString; 16]>;

fn strings(words: &Words) -> Strings {
    let string = |word: &Word| match *word {
        Word::Number(n) => OwnString::number(n),
        Word::Text(text) => OwnString::new(text),
    };
    words.iter().map(string).collect()
}

/// Tells what a step did to a lock, to the replication stream.
pub(super) fn lock(ctx: *mut Ctx, key: *mut RString, effects: &[LockEffect]) {
    let Some((command, words)) = command_of(effects) else { return };
    let strings = strings(&words);
    let mut words: SmallVec<[*mut RString; 16]> = strings.iter().map(OwnString::as_ptr).collect();
    let (command, words, count) = (command.as_ptr(), words.as_mut_ptr(), words.len());
    rm!(RedisModule_Replicate(ctx, command, c"sv".as_ptr(), key, words, count));
}

/// A lock, in an AOF that is being rewritten: a command for each hold and each cooldown.
pub(super) fn rewrite(io: *mut Io, key: *mut RString, lock: &Lock, clock: Clock) {
    let emit = |effects: &[LockEffect]| {
        let Some((command, words)) = command_of(effects) else { return };
        let strings = strings(&words);
        let mut words: Vec<*mut RString> = strings.iter().map(OwnString::as_ptr).collect();
        let (command, words, count) = (command.as_ptr(), words.as_mut_ptr(), words.len());
        rm!(RedisModule_EmitAOF(io, command, c"sv".as_ptr(), key, words, count));
    };
    for hold in lock.holds() {
        emit(&LockEffect::of_hold(hold, clock).collect::<LockEffects>());
    }
    for cooling in lock.cooling() {
        emit(&[LockEffect::of_cooling(cooling, clock)]);
    }
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
