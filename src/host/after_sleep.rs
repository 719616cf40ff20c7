//! The moment after the event loop has slept: replies have gone out and doomed clients have been closed, and nobody has
//! been heard since. Whoever is gone now never read its grant. To whoever closes later it was sent,
//! and nobody can know whether it was read.
//!
//! Whoever asks the server to tell of that moment makes each turn of its loop dearer by a third of a PING, for all
//! clients. So it is asked when a client is told of a grant, and no more when some turns have passed without one.
//!
//! The server must not be told to stop inside an event, our own or another module's: it would free what its loop
//! over listeners stands on. Only a timer runs outside of all events.

use std::ffi::c_void;

use redis_module::raw;

use super::api::{log, rm, Ctx, RawCtx, OK};
use super::deferred;
use super::panics::catch_panic;
use super::state::{self, Host};

/// After so many turns without a grant these have cost about as much as to stop and to ask again.
const IDLE_TURNS: u32 = 8;

/// Whether the server tells of that moment.
#[derive(Default)]
pub(super) struct AfterSleep {
    is_asked: bool,
    idle_turns: u32,
}

impl AfterSleep {
    /// Has the server tell of the moment that comes next.
    pub(super) fn ask(&mut self, ctx: Option<Ctx>) {
        self.idle_turns = 0;
        if !self.is_asked {
            self.is_asked = ctx.is_some_and(|ctx| listen(ctx, Some(on_turn)));
            if !self.is_asked {
                log(c"warning", "lock: the server does not tell of its event loop; grants stay unconfirmed");
            }
        }
    }

    /// Has it stop, after enough turns without a grant. Only from a timer.
    pub(super) fn stop_if_idle(&mut self, ctx: Ctx) {
        if self.is_asked && self.is_idle() {
            self.is_asked = !listen(ctx, None);
        }
    }

    /// Whether the server tells of that moment.
    pub(super) const fn is_asked(&self) -> bool {
        self.is_asked
    }

    const fn is_idle(&self) -> bool {
        self.idle_turns >= IDLE_TURNS
    }
}

fn listen(ctx: Ctx, callback: raw::RedisModuleEventCallback) -> bool {
    let event = raw::RedisModuleEvent { id: raw::REDISMODULE_EVENT_EVENTLOOP, dataver: 1 };
    rm!(RedisModule_SubscribeToServerEvent(ctx.as_ptr(), event, callback)) == OK
}

unsafe extern "C" fn on_turn(
    _ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    what: u64,
    _data: *mut c_void,
) {
    if what == raw::REDISMODULE_SUBEVENT_EVENTLOOP_AFTER_SLEEP {
        catch_panic("event loop", || state::with(has_slept));
    }
}

fn has_slept(host: &mut Host) {
    if !host.delivered.is_empty() {
        return deferred::confirm_delivered(host);
    }
    host.after_sleep.idle_turns = host.after_sleep.idle_turns.saturating_add(1);
    if host.after_sleep.is_idle() {
        host.timer.wake_now();
    }
}
