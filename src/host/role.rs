//! The role of this server: what it takes over from the one before it, and what it gives up.

use std::ffi::c_int;

use redis_module::raw;
use redis_module::raw::RedisModuleCommandFilterCtx as FilterCtx;

use super::api::{has_flags, log, rm, Ctx, Str};
use super::panics::catch_panic;
use super::state::{self, Host};
use super::{clock, config, elsewhere};
use crate::command::recovery;
use crate::primitive::LockManager;

/// This server is a primary from here on, or a replica.
pub(super) fn take_role(host: &mut Host, ctx: Ctx, is_primary: bool) {
    host.listeners.forget();
    host.is_primary = is_primary;
    if is_primary {
        host.steps_down = false;
        host.tell(LockManager::promoted);
        if elsewhere::is_undecided(ctx) {
            log(c"notice", "lock: event=handover-given-up; nobody else was a primary");
        } else if host.handover.lost_nothing(ctx) {
            log(c"notice", "lock: event=handover; the old primary had granted nothing that is unknown here");
            succeed(host);
        } else {
            take_over(host, "promotion");
        }
    } else {
        host.manager.demoted();
        host.steps_down = true;
    }
    watch_for_handover(host, ctx);
    host.timer.wake_now();
}

/// Earlier grants may be lost: nothing is granted for a while, if the operator wants it so.
pub(super) fn take_over(host: &mut Host, why: &str) {
    let known = host.manager.fences.last();
    let (window, clock) = (config::recovery_window(), clock::read());
    if host.manager.took_over(window, clock, config::fence_ahead_ms()) {
        let ms = recovery::left_ms(&host.manager, clock.now);
        // One that is longer than the window is not safe.
        let longest = host.manager.recovery.leases.longest().to_wire();
        let line = format!(
            "lock: event=recovery-began why={why} ms={ms} longest-lease={longest} known-fence={known}"
        );
        log(c"warning", &line);
    }
}

/// Nothing that was granted before is unknown here, unless the server before this one was waiting for such holds itself.
pub(super) fn succeed(host: &mut Host) {
    let now = clock::now();
    if host.manager.succeeded(now) {
        let ms = recovery::left_ms(&host.manager, now);
        log(c"warning", &format!("lock: event=recovery-goes-on ms={ms}"));
    }
}

/// Asks the server for its role, which may have changed unheard.
pub(super) fn ask_role(host: &mut Host, ctx: Ctx) {
    let is_primary = has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_MASTER);
    if is_primary != host.is_primary {
        let steps_down = host.steps_down && !is_primary;
        take_role(host, ctx, is_primary);
        // Nobody waited when it changed, or it would have been heard: who waits now came to a replica.
        host.steps_down = steps_down;
    }
}

/// This server was a replica and was promoted while nothing was heard, nobody knows when.
pub(super) fn was_promoted(host: &mut Host) {
    if host.is_primary && !host.manager.recovery.is_open() {
        take_over(host, "promotion");
    }
}

/// Asks whether something is being loaded whose beginning was not heard. A replica always hears of it; so who has become one
/// in the meantime loads what its primary sends.
pub(super) fn ask_load(host: &mut Host, ctx: Ctx) {
    const ASIDE: u32 = raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING;
    if has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_LOADING | ASIDE) {
        host.loads_stream = !host.is_primary;
    }
    if has_flags(ctx, ASIDE) && !host.manager.is_aside() {
        host.manager.begin_aside();
    }
}

/// Has all commands shown that could tell of a handover, while this is a replica.
pub(super) fn watch_for_handover(host: &mut Host, ctx: Ctx) {
    host.handover.watch(ctx, !host.is_primary, on_command);
}

unsafe extern "C" fn on_command(command: *mut FilterCtx) {
    catch_panic("filter", || {
        state::with_unless_ours(|host| {
            let word = |at: c_int| {
                let word = rm!(RedisModule_CommandFilterArgGet(command, at));
                // SAFETY: the server gives a word of the command, which lives as long as this call.
                unsafe { Str::if_any(word) }.map_or(&[][..], Str::as_bytes)
            };
            let count = rm!(RedisModule_CommandFilterArgsCount(command));
            host.handover.hear(count, word, host.timer.ctx());
        });
    });
}
