//! When to run deferred work: one module timer, armed for the nearest deadline.
//!
//! Module timers follow the wall clock, so the timer only wakes: what is due is decided by the monotonic clock,
//! and the server's cron, which a clock step does not stop, wakes too.
//!
//! No timer is made while ours fires. The server reads the wall clock once and then fires every timer that is due by
//! that; after a step back a new one would always be, and the event loop would stand still for as long as the clock was
//! set back. So the next deadline is only noted then, and the timer made in the next turn of the loop.

use std::ffi::c_void;
use std::ptr;

use super::api::{rm, Ctx, RawCtx};
use super::clock;
use crate::primitive::Moment;

/// Longest sleep, so that a deadline far away needs no large timer.
const SLEEP_MS_MAX: u64 = 3_600_000;

/// How long, in ms, clients have the server for themselves before a timer fires again.
const REST_MS: u64 = 1;

/// The functions that the server is to call.
#[derive(Clone, Copy)]
pub(super) struct Callbacks {
    /// When the timer fires.
    pub(super) on_timer: unsafe extern "C" fn(*mut RawCtx, *mut c_void),
    /// In the turn of the event loop that follows.
    pub(super) on_next_turn: unsafe extern "C" fn(*mut c_void),
}

/// The timer.
#[derive(Default)]
pub(super) struct WakeTimer {
    /// A context of our own, for arming from callbacks that have none.
    ctx: Option<Ctx<'static>>,
    callbacks: Option<Callbacks>,
    state: State,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Unarmed,
    /// The timer, and when it is to fire.
    Armed(u64, Moment),
    /// The timer fires, or has fired and the next turn of the event loop arms it again: for when.
    Firing(Moment),
}

impl WakeTimer {
    /// Gives the timer what it needs, when the module is loaded.
    pub(super) fn set_up(&mut self, ctx: Option<Ctx<'static>>, callbacks: Callbacks) {
        (self.ctx, self.callbacks) = (ctx, Some(callbacks));
    }

    /// The context given at load.
    pub(super) const fn ctx(&self) -> Option<Ctx<'static>> {
        self.ctx
    }

    /// Wakes as soon as the event loop comes round.
    pub(super) fn wake_now(&mut self) {
        self.wake_by(Moment(0));
    }

    /// Wakes at `deadline` or before.
    #[inline]
    pub(super) fn wake_by(&mut self, deadline: Moment) {
        let (State::Armed(_, next) | State::Firing(next)) = self.state else { return self.arm(deadline) };
        if deadline < next {
            self.arm(deadline);
        }
    }

    /// Gives up a timer that should have fired by now: the wall clock was set back, and the timer with it.
    pub(super) fn forget_if_late(&mut self) {
        if matches!(self.state, State::Armed(_, deadline) if deadline < clock::now()) {
            self.stop();
        }
    }

    #[cold]
    fn arm(&mut self, deadline: Moment) {
        if let State::Firing(next) = &mut self.state {
            *next = deadline;
            return;
        }
        self.stop();
        let (Some(ctx), Some(Callbacks { on_timer, .. })) = (self.ctx, self.callbacks) else { return };
        if deadline == Moment::NEVER {
            return;
        }
        let sleep = if deadline == Moment(0) { 0 } else { deadline.ms_after(clock::now()).min(SLEEP_MS_MAX) };
        let timer = rm!(RedisModule_CreateTimer(ctx.as_ptr(), sleep as i64, Some(on_timer), ptr::null_mut()));
        self.state = State::Armed(timer, deadline);
    }

    fn stop(&mut self) {
        if let (Some(ctx), State::Armed(timer, _)) = (self.ctx, self.state) {
            rm!(RedisModule_StopTimer(ctx.as_ptr(), timer, ptr::null_mut()));
            self.state = State::Unarmed;
        }
    }

    /// Wakes no more until it is asked again.
    pub(super) fn forget(&mut self) {
        match &mut self.state {
            State::Firing(next) => *next = Moment::NEVER,
            _ => self.stop(),
        }
    }

    /// The timer is about to do its work.
    pub(super) fn fires(&mut self) {
        self.state = State::Firing(Moment::NEVER);
    }

    /// It has done its work for now, but the server still loops over its timers.
    pub(super) fn fired(&mut self) {
        match (self.state, self.callbacks) {
            (State::Firing(next), Some(Callbacks { on_next_turn, .. })) if next != Moment::NEVER => {
                self.state = State::Firing(next.max(clock::now().plus_ms(REST_MS)));
                rm!(RedisModule_EventLoopAddOneShot(Some(on_next_turn), ptr::null_mut()));
            }
            _ => self.state = State::Unarmed,
        }
    }

    /// The event loop has come round.
    pub(super) fn arm_again(&mut self) {
        if let State::Firing(next) = self.state {
            self.state = State::Unarmed;
            self.arm(next);
        }
    }
}
