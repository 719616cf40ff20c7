//! Which events the server tells us of. [`hearing`](super::hearing) decides which are needed.

use super::api::{listen, log, stop, Ctx, Listener};
use super::handover::Streams;
use crate::primitive::Moment;

/// How much is heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Level {
    /// Nothing: there is nothing that an event could change.
    #[default]
    Nothing,
    /// A few events: locks are held, or ended holds are remembered.
    AtRest,
    All,
}

/// All events that can be asked for.
#[derive(Clone, Copy)]
pub(super) struct Listeners {
    /// Those that are heard also while locks are at rest.
    pub(super) at_rest: &'static [Listener],
    /// Those that are heard besides while the module is in use.
    pub(super) in_use: &'static [Listener],
    /// That of clients which come and go.
    pub(super) clients: Listener,
}

#[derive(Default)]
pub(super) struct Subscriptions {
    listeners: Option<Listeners>,
    level: Level,
    /// Since when nobody has used the module.
    quiet_since: Option<Moment>,
    /// As they were when we ceased to hear of changes of the role.
    pub(super) streams: Option<Streams>,
    /// Whether we hear of clients that come and go: while something is tied to one.
    clients: bool,
}

impl Subscriptions {
    /// Names the listeners, when the module is loaded.
    pub(super) fn set_up(&mut self, listeners: Listeners) {
        self.listeners = Some(listeners);
    }

    pub(super) const fn level(&self) -> Level {
        self.level
    }

    pub(super) fn are_all(&self) -> bool {
        self.level == Level::All
    }

    pub(super) const fn hear_of_clients(&self) -> bool {
        self.clients
    }

    pub(super) const fn quiet_since(&self) -> Option<Moment> {
        self.quiet_since
    }

    /// How many kinds of events are heard, without that of the event loop.
    pub(super) fn count(&self) -> usize {
        let Some(Listeners { at_rest, in_use, .. }) = self.listeners else { return 0 };
        let level = match self.level {
            Level::Nothing => 0,
            Level::AtRest => at_rest.len(),
            Level::All => at_rest.len().saturating_add(in_use.len()),
        };
        level.saturating_add(usize::from(self.clients))
    }

    /// Asks for all but clients; false if the server refuses.
    pub(super) fn hear_all(&mut self, ctx: Ctx) -> bool {
        let Some(Listeners { at_rest, in_use, .. }) = self.listeners else { return false };
        if !at_rest.iter().chain(in_use).all(|listener| listen(ctx, *listener)) {
            log(c"warning", "lock: the server refused an event; asked again with the next command");
            return false;
        }
        (self.level, self.quiet_since) = (Level::All, None);
        true
    }

    /// The cron has looked whether the module was used since it looked before.
    pub(super) fn note_quiet(&mut self, now: Moment, was_used: bool) {
        if was_used {
            self.quiet_since = None;
        }
        self.quiet_since.get_or_insert(now);
    }

    /// Gives up what `level` does not need. Only from a timer.
    pub(super) fn rest(&mut self, ctx: Ctx, level: Level) {
        let Some(Listeners { at_rest, in_use, .. }) = self.listeners else { return };
        in_use.iter().for_each(|listener| _ = stop(ctx, *listener));
        if level == Level::Nothing {
            at_rest.iter().for_each(|listener| _ = stop(ctx, *listener));
        }
        self.level = level;
    }

    /// Asks for clients, too.
    #[cold]
    pub(super) fn add_clients(&mut self, ctx: Ctx) {
        self.clients = self.listeners.is_some_and(|all| listen(ctx, all.clients));
    }

    /// Gives up clients. Only from a timer.
    pub(super) fn forget_clients(&mut self, ctx: Ctx) {
        self.clients = !self.listeners.is_some_and(|all| stop(ctx, all.clients));
    }
}
