//! When which events are asked of the server.
//!
//! The server looks through all listeners twice in each turn of its loop, whatever they listen for, and all its clients
//! pay for that. So nothing is heard on a server without locks, and little while they are at rest; what may have changed
//! unheard is asked when somebody uses the module again.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::api::{is_loading, Ctx};
use super::handover::Streams;
use super::state::{self, Host};
use super::subscriptions::Level;
use super::{clock, config, role};
use crate::primitive::Moment;

/// How long nobody must have used the module before it rests, in ms.
const QUIET_MS: u64 = 1_000;

/// How far ahead the next deadline must be, in ms. At rest no timer is armed, and the cron, which comes once in a second
/// where it comes most seldom, looks ahead.
const AHEAD_MS: u64 = 2_000;

/// Whether a command of ours has run since the cron looked.
static WAS_USED: AtomicBool = AtomicBool::new(false);

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

/// Hears of everything from here on, and asks what may have changed before. Returns whether the server will tell. To be
/// called before anything that rests on what events tell.
pub(super) fn wake_up(host: &mut Host) -> bool {
    if host.subscriptions.are_all() {
        return true;
    }
    let Some(ctx) = host.timer.ctx() else { return false };
    if !host.subscriptions.hear_all(ctx) {
        return false;
    }
    // A command of a client comes after all that a start loads.
    host.has_run |= !is_loading(ctx);
    clock::set_by_wall();
    config::ask_max_clients(ctx);
    host.idle_timeout.is_known = false;
    host.listeners.forget();
    role::ask_role(host, ctx);
    role::watch_for_handover(host, ctx);
    if host.subscriptions.streams.take().is_some_and(|before| before.tell_of_promotion(ctx)) {
        role::was_promoted(host);
    }
    role::ask_load(host, ctx);
    if let Some(deadline) = host.manager.next_deadline().filter(|_| host.is_primary) {
        host.timer.wake_by(deadline);
    }
    true
}

/// The cron's part of it.
pub(super) fn look(host: &mut Host) {
    let now = clock::now();
    match host.subscriptions.level() {
        Level::Nothing => {}
        Level::AtRest => {
            if !host.is_primary || is_near(host, now) {
                wake_up(host);
            }
        }
        Level::All => {
            host.subscriptions.note_quiet(now, WAS_USED.swap(false, Relaxed));
            if may_rest(host, now) || hears_of_clients_in_vain(host) {
                host.timer.wake_now();
            }
        }
    }
}

/// Gives up what need not be heard for now. Only from a timer.
pub(super) fn rest(host: &mut Host, ctx: Ctx) {
    if hears_of_clients_in_vain(host) {
        host.subscriptions.forget_clients(ctx);
    }
    if !may_rest(host, clock::now()) {
        return;
    }
    host.subscriptions.streams = Streams::ask(ctx);
    let is_empty = host.manager.leases.is_empty() && host.manager.ledger.bytes() == 0;
    host.subscriptions.rest(ctx, if is_empty { Level::Nothing } else { Level::AtRest });
    host.timer.forget();
}

/// Whether nobody has used the module for a while, and nothing is there that could not wait for the cron. A replica does not
/// rest: it has to hear of each load and of its promotion.
fn may_rest(host: &Host, now: Moment) -> bool {
    let Host { manager, subscriptions, .. } = host;
    let is_quiet = subscriptions.quiet_since().is_some_and(|since| since.plus_ms(QUIET_MS) <= now);
    subscriptions.are_all()
        && is_quiet
        && !WAS_USED.load(Relaxed)
        && host.is_primary
        && host.has_nothing_to_do()
        && !subscriptions.hear_of_clients()
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
    if !host.subscriptions.hear_of_clients() && host.manager.ties.len() > 0 {
        host.subscriptions.add_clients(ctx);
    }
}

/// Whether clients are heard that come and go, and nothing is tied to one.
fn hears_of_clients_in_vain(host: &Host) -> bool {
    host.subscriptions.hear_of_clients() && host.manager.ties.len() == 0
}
