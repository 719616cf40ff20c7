//! When to run [`deferred work`](super::deferred): one module timer, armed for the nearest deadline.
//!
//! Module timers follow the wall clock, so the timer only wakes: what is due is decided by the monotonic clock,
//! and the server's cron, which a clock step does not stop, wakes too.

use std::ffi::c_void;
use std::ptr;

use super::api::{rm, Ctx};
use super::{clock, deferred, entry};
use crate::primitive::Moment;

/// Longest sleep, so that a deadline far away needs no large timer.
const SLEEP_MS_MAX: u64 = 3_600_000;

/// The timer.
#[derive(Default)]
pub(super) struct Alarm {
    /// A context of our own, for arming from callbacks that have none.
    ctx: Option<*mut Ctx>,
    armed: Option<(u64, Moment)>,
}

impl Alarm {
    /// Gives the alarm its context, when the module is loaded.
    pub(super) fn set_ctx(&mut self, ctx: *mut Ctx) {
        self.ctx = Some(ctx);
    }

    /// The context given at load.
    pub(super) const fn ctx(&self) -> Option<*mut Ctx> {
        self.ctx
    }

    /// Wakes as soon as the event loop comes round.
    pub(super) fn soon(&mut self) {
        self.by(Moment(0));
    }

    /// Wakes at `deadline` or before.
    #[inline]
    pub(super) fn by(&mut self, deadline: Moment) {
        if self.armed.is_none_or(|(_, at)| deadline < at) && deadline != Moment::NEVER {
            self.arm(deadline);
        }
    }

    /// Gives up a timer that should have fired by now: the wall clock was set back, and the timer with it.
    pub(super) fn forget_if_late(&mut self) {
        if let (Some(ctx), Some((timer, deadline))) = (self.ctx, self.armed) {
            if deadline < clock::now() {
                rm!(RedisModule_StopTimer(ctx, timer, ptr::null_mut()));
                self.armed = None;
            }
        }
    }

    /// The timer has fired.
    pub(super) fn fired(&mut self) {
        self.armed = None;
    }

    #[cold]
    fn arm(&mut self, deadline: Moment) {
        let Some(ctx) = self.ctx else { return };
        if let Some((timer, _)) = self.armed.take() {
            rm!(RedisModule_StopTimer(ctx, timer, ptr::null_mut()));
        }
        let sleep = if deadline == Moment(0) { 0 } else { deadline.ms_after(clock::now()).min(SLEEP_MS_MAX) };
        let timer = rm!(RedisModule_CreateTimer(ctx, sleep as i64, Some(on_timer), ptr::null_mut()));
        self.armed = Some((timer, deadline));
    }
}

unsafe extern "C" fn on_timer(ctx: *mut Ctx, _data: *mut c_void) {
    entry::guard("timer", || {
        super::state::with(|host| host.alarm.fired());
        deferred::run(ctx);
    });
}
