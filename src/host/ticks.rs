//! The functions that the server calls as time passes: when our timer fires, in the turn of its loop after that, and
//! when the loop has slept.

use std::ffi::c_void;

use redis_module::raw;

use super::api::{Ctx, RawCtx};
use super::panics::catch_panic;
use super::wake_timer::Callbacks;
use super::{deferred, hearing, state};

/// For the timer.
pub(super) const TIMER: Callbacks = Callbacks { on_timer, on_next_turn };

unsafe extern "C" fn on_timer(ctx: *mut RawCtx, _data: *mut c_void) {
    // SAFETY: the server passes a context, which lives as long as this call.
    let ctx = unsafe { Ctx::new(ctx) };
    catch_panic("timer", || {
        state::with(|host| {
            host.timer.fires();
            hearing::wake_up(host);
        });
        deferred::run(ctx);
        state::with(|host| {
            host.after_sleep.stop_if_idle(ctx);
            hearing::rest(host, ctx);
        });
    });
    // Also where the work has failed.
    catch_panic("timer", || state::with(|host| host.timer.fired()));
}

unsafe extern "C" fn on_next_turn(_data: *mut c_void) {
    catch_panic("next turn", || state::with(|host| host.timer.arm_again()));
}

/// The event loop has slept: grants whose replies went out before that are confirmed, or taken back.
pub(super) unsafe extern "C" fn on_turn(
    _ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    what: u64,
    _data: *mut c_void,
) {
    if what != raw::REDISMODULE_SUBEVENT_EVENTLOOP_AFTER_SLEEP {
        return;
    }
    catch_panic("event loop", || {
        state::with(|host| {
            if !host.delivered.is_empty() {
                deferred::confirm_delivered(host);
            } else if host.after_sleep.was_idle() {
                host.timer.wake_now();
            }
        });
    });
}
