//! Which events we ask the server for.
//!
//! The server looks through all listeners twice in each turn of its loop, whatever they listen for, and all its clients
//! pay for that. So nothing is heard on a server without locks, and little while they are at rest; what may have changed
//! unheard is asked when somebody uses the module again.
//!
//! To ask for an event is safe at any time, also inside one. To give one up is not (see
//! [`after_sleep`](super::after_sleep)): only a timer does.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use redis_module::raw;

use super::api::{is_loading, log, rm, Ctx, OK};
use super::events::{self, Listener};
use super::handover::Streams;
use super::state::Host;
use super::{clock, config, state};
use crate::primitive::Moment;

/// How long nobody must have used the module before it rests, in ms.
const QUIET_MS: u64 = 1_000;

/// How far ahead the next deadline must be, in ms. At rest no timer is armed, and the cron, which comes once in a second
/// where it comes most seldom, looks ahead.
const AHEAD_MS: u64 = 2_000;

/// Whether a command of ours has run since the cron looked.
static WAS_USED: AtomicBool = AtomicBool::new(false);

/// How much is heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
    /// Nothing: there is nothing that an event could change.
    #[default]
    Nothing,
    /// A few events: locks are held, or ended holds are remembered.
    AtRest,
    All,
}

/// What the server tells us of.
#[derive(Default)]
pub(super) struct Hearing {
    level: Level,
    /// Since when nobody has used the module.
    quiet_since: Option<Moment>,
    /// As they were when we ceased to hear of changes of the role.
    streams: Option<Streams>,
    /// Whether we hear of clients that come and go: while something is tied to one.
    clients: bool,
}

impl Hearing {
    pub(super) fn is_awake(&self) -> bool {
        self.level == Level::All
    }

    /// How many kinds of events are heard, without that of the event loop.
    pub(super) fn events(&self) -> usize {
        let level = match self.level {
            Level::Nothing => 0,
            Level::AtRest => events::AT_REST.len(),
            Level::All => events::AT_REST.len().saturating_add(events::IN_USE.len()),
        };
        level.saturating_add(usize::from(self.clients))
    }
}

/// A command of ours runs.
#[inline]
pub(super) fn note_use() {
    if !WAS_USED.load(Relaxed) {
        begin_use();
    }
}

#[cold]
fn begin_use() {
    WAS_USED.store(state::with(wake_up), Relaxed);
}

/// Hears of everything from here on, and asks what may have changed before; whether the server will tell. To be called
/// before anything that rests on what events tell.
pub(super) fn wake_up(host: &mut Host) -> bool {
    if host.hearing.is_awake() {
        return true;
    }
    let Some(ctx) = host.timer.ctx() else { return false };
    if !events::AT_REST.iter().chain(&events::IN_USE).all(|listener| listen(ctx, listener)) {
        log(c"warning", "lock: the server refused an event; asked again with the next command");
        return false;
    }
    host.hearing.level = Level::All;
    host.hearing.quiet_since = None;
    // A command of a client comes after all that a start loads.
    host.has_run |= !is_loading(ctx);
    clock::set_by_wall();
    config::ask_max_clients(ctx);
    host.idle_timeout.is_known = false;
    host.listeners.forget();
    events::ask_role(host, ctx);
    host.handover.watch(ctx, !host.is_primary);
    if host.hearing.streams.take().is_some_and(|before| before.tell_of_promotion(ctx)) {
        events::was_promoted(host);
    }
    events::ask_load(host, ctx);
    if let Some(deadline) = host.manager.next_deadline().filter(|_| host.is_primary) {
        host.timer.wake_by(deadline);
    }
    true
}

/// What the cron has to do about it.
pub(super) fn look(host: &mut Host) {
    let now = clock::now();
    match host.hearing.level {
        Level::Nothing => {}
        Level::AtRest => {
            if !host.is_primary || is_near(host, now) {
                wake_up(host);
            }
        }
        Level::All => {
            if WAS_USED.swap(false, Relaxed) {
                host.hearing.quiet_since = None;
            }
            host.hearing.quiet_since.get_or_insert(now);
            if may_rest(host, now) || (host.hearing.clients && host.manager.ties.len() == 0) {
                host.timer.wake_now();
            }
        }
    }
}

/// Gives up what need not be heard for now. Only from a timer.
pub(super) fn rest(host: &mut Host, ctx: Ctx) {
    if host.hearing.clients && host.manager.ties.len() == 0 {
        host.hearing.clients = !stop(ctx, &events::CLIENTS);
    }
    if !may_rest(host, clock::now()) {
        return;
    }
    host.hearing.streams = Streams::ask(ctx);
    events::IN_USE.iter().for_each(|listener| _ = stop(ctx, listener));
    host.hearing.level = Level::AtRest;
    if host.manager.leases.is_empty() && host.manager.ledger.bytes() == 0 {
        events::AT_REST.iter().for_each(|listener| _ = stop(ctx, listener));
        host.hearing.level = Level::Nothing;
    }
    host.timer.forget();
}

/// Whether nobody has used the module for a while, and nothing is there that could not wait for the cron. A replica does not
/// rest: it has to hear of each load and of its promotion.
fn may_rest(host: &Host, now: Moment) -> bool {
    let Host { manager, hearing, .. } = host;
    let is_quiet = hearing.quiet_since.is_some_and(|since| since.plus_ms(QUIET_MS) <= now);
    hearing.is_awake()
        && is_quiet
        && !WAS_USED.load(Relaxed)
        && host.is_primary
        && host.has_nothing_to_do()
        && !hearing.clients
        && !manager.is_aside()
        && !is_near(host, now)
}

fn is_near(host: &Host, now: Moment) -> bool {
    host.manager.next_deadline().is_some_and(|deadline| deadline <= now.plus_ms(AHEAD_MS))
}

/// Hears of clients that go, if something is tied to one. To be called when a step is over, and before deferred work, which
/// looks at all ties that came in another way.
#[inline]
pub(super) fn hear_of_clients(host: &mut Host, ctx: Ctx) {
    if !host.hearing.clients && host.manager.ties.len() > 0 {
        host.hearing.clients = listen(ctx, &events::CLIENTS);
    }
}

fn listen(ctx: Ctx, (id, handler): &Listener) -> bool {
    subscribe(ctx, *id, Some(*handler))
}

fn stop(ctx: Ctx, (id, _): &Listener) -> bool {
    subscribe(ctx, *id, None)
}

fn subscribe(ctx: Ctx, id: u64, callback: raw::RedisModuleEventCallback) -> bool {
    let event = raw::RedisModuleEvent { id, dataver: 1 };
    rm!(RedisModule_SubscribeToServerEvent(ctx.as_ptr(), event, callback)) == OK
}
