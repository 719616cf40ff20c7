//! The moment after the event loop has slept: replies have gone out and doomed clients have been closed, and nobody has
//! been heard since. A client that is gone now never read its grant. To one that closes later it was sent, and nobody
//! can know whether it was read.
//!
//! To ask the server to tell of that moment makes each turn of its loop dearer by a third of a PING, for all clients.
//! So it is asked when a client is told of a grant, and no longer when some turns have passed without one.

use redis_module::raw;

use super::api::{listen, log, stop, Ctx, EventHandler, Listener};

/// After so many turns without a grant these have cost about as much as to stop and to ask again.
const IDLE_TURNS: u32 = 8;

/// The listener for that moment.
#[derive(Default)]
pub(super) struct AfterSleep {
    /// The listener, if the server is asked.
    asked: Option<Listener>,
    idle_turns: u32,
}

impl AfterSleep {
    /// Has the server call `on_turn` at the moment that comes next.
    pub(super) fn ask(&mut self, ctx: Option<Ctx>, on_turn: EventHandler) {
        self.idle_turns = 0;
        if self.asked.is_none() {
            let listener: Listener = (raw::REDISMODULE_EVENT_EVENTLOOP, on_turn);
            self.asked = ctx.filter(|ctx| listen(*ctx, listener)).map(|_| listener);
            if self.asked.is_none() {
                log(c"warning", "lock: the server does not tell of its event loop; grants stay unconfirmed");
            }
        }
    }

    /// Has it stop, after enough turns without a grant. Only from a timer.
    pub(super) fn stop_if_idle(&mut self, ctx: Ctx) {
        if self.is_idle() {
            self.asked = self.asked.filter(|listener| !stop(ctx, *listener));
        }
    }

    /// Whether the server tells of that moment.
    pub(super) const fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// The moment has come, and nobody had been told of a grant. Returns whether that has been so for long.
    pub(super) fn was_idle(&mut self) -> bool {
        self.idle_turns = self.idle_turns.saturating_add(1);
        self.is_idle()
    }

    const fn is_idle(&self) -> bool {
        self.idle_turns >= IDLE_TURNS
    }
}
