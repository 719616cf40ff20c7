//! The stream to the AOF and to replicas: effects, and never the commands that had them.

use std::ffi::CStr;

use redis_module::raw;
use smallvec::SmallVec;

use super::api::{has_flags, rm, Ctx, Io, OwnString, ServerInfo, Str};
use super::config;
use crate::command::effect::stream::{command_of, LockEffect, LockEffects, Word, Words};
use crate::command::effect::window::WindowEffect;
use crate::command::latch_effect::{DownEffect, SetEffect};
use crate::primitive::latch::Latch;
use crate::primitive::{Clock, Lock};

/// Whether anybody reads the stream, and whether enough do for the operator.
///
/// Putting an effect into words costs more than the rest of an acquire, and the server throws the words away when
/// there is neither an AOF nor a replica nor a backlog. So we ask it, and forget the answer whenever something
/// happens that could change it: each reader begins with a fork, a load or a change of role, and the cron asks
/// anew in any case.
#[derive(Default)]
pub(super) struct Listeners {
    known: Option<bool>,
    are_enough: Option<bool>,
}

impl Listeners {
    /// Something happened: ask again before the next write.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    #[inline]
    pub(super) fn any(&mut self, ctx: Ctx) -> bool {
        match self.known {
            Some(any) => any,
            None => *self.known.insert(ask(ctx)),
        }
    }

    /// Whether as many replicas are near as `min-replicas-to-write` asks for. The server refuses writes of clients where they
    /// are not; what nobody's command writes, we have to leave undone.
    pub(super) fn are_enough(&mut self, ctx: Ctx) -> bool {
        *self.are_enough.get_or_insert_with(|| {
            // Told only where the setting is on.
            let near =
                ServerInfo::ask(ctx, c"replication").and_then(|info| info.number(c"min_slaves_good_slaves"));
            near.is_none_or(|near| near >= config::min_replicas(ctx).unwrap_or(1))
        })
    }
}

#[cold]
fn ask(ctx: Ctx) -> bool {
    // In a cluster a slot's stream can begin at any time.
    if has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_AOF | raw::REDISMODULE_CTX_FLAGS_CLUSTER) {
        return true;
    }
    // If the server does not say, all is told.
    let any = |info: &ServerInfo, field| info.number(field).is_none_or(|n| n > 0);
    ServerInfo::ask(ctx, c"replication")
        .is_none_or(|info| any(&info, c"connected_slaves") || any(&info, c"repl_backlog_active"))
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

/// Puts a command into the replication stream.
fn send(ctx: Ctx, key: Option<Str>, command: &CStr, words: &Words) {
    let strings = strings(words);
    let words = strings.iter().map(OwnString::as_str);
    let words: SmallVec<[Str; 17]> = key.into_iter().chain(words).collect();
    let (command, words, count) = (command.as_ptr(), Str::argv(&words), words.len());
    rm!(RedisModule_Replicate(ctx.as_ptr(), command, c"v".as_ptr(), words, count));
}

/// Puts a command into an AOF that is being rewritten.
fn emit(io: Io, key: Str, command: &CStr, words: &Words) {
    let strings = strings(words);
    let words: SmallVec<[Str; 16]> = strings.iter().map(OwnString::as_str).collect();
    let (command, words, count) = (command.as_ptr(), Str::argv(&words), words.len());
    rm!(RedisModule_EmitAOF(io.as_ptr(), command, c"sv".as_ptr(), key.as_ptr(), words, count));
}

/// Tells what a step did to a lock, to the replication stream.
pub(super) fn lock(ctx: Ctx, key: Str, effects: &[LockEffect]) {
    let Some((command, words)) = command_of(effects) else { return };
    send(ctx, Some(key), command, &words);
}

/// A lock, in an AOF that is being rewritten: a command for each hold and each cooldown.
pub(super) fn rewrite(io: Io, key: Str, lock: &Lock, clock: Clock) {
    let emit = |effects: &[LockEffect]| {
        let Some((command, words)) = command_of(effects) else { return };
        emit(io, key, command, &words);
    };
    for hold in lock.holds() {
        emit(&LockEffect::of_hold(hold, clock).collect::<LockEffects>());
    }
    for cooldown in lock.cooldowns() {
        emit(&[LockEffect::of_cooldown(cooldown, clock)]);
    }
}

/// Whether a recovery window is open. It is no key's.
pub(super) fn window(ctx: Ctx, effect: WindowEffect) {
    let (command, words) = effect.command();
    send(ctx, None, command, &words);
}

/// A latch stands.
pub(super) fn latch(ctx: Ctx, key: Str, effect: &SetEffect) {
    let (command, words) = effect.command();
    send(ctx, Some(key), command, &words);
}

/// A latch was counted down.
pub(super) fn count_down(ctx: Ctx, key: Str, effect: DownEffect) {
    let (command, words) = effect.command();
    send(ctx, Some(key), command, &words);
}

/// A latch, in an AOF that is being rewritten. The server itself writes when the key expires.
pub(super) fn rewrite_latch(io: Io, key: Str, latch: &Latch) {
    let (command, words) = SetEffect::command_for(latch, None);
    emit(io, key, command, &words);
    for id in latch.ids() {
        let (command, words) = DownEffect { left: latch.left(), id: Some(id) }.command();
        emit(io, key, command, &words);
    }
}

/// Most changes that one run of the cron counts.
const COUNTED_PER_RUN: u64 = 1_000;

/// Counts changes that were not replicated, since nobody listens, for the server's save points. Only replicating
/// counts, so a word goes out that the server throws away, and that would harm nobody.
pub(super) fn count_changes(ctx: Ctx, changes: u64) {
    for _ in 0..changes.min(COUNTED_PER_RUN) {
        rm!(RedisModule_Replicate(ctx.as_ptr(), c"PING".as_ptr(), c"".as_ptr()));
    }
}

/// Hands an effect that came from a primary on, as it came.
pub(super) fn pass_on(ctx: Ctx) {
    rm!(RedisModule_ReplicateVerbatim(ctx.as_ptr()));
}
