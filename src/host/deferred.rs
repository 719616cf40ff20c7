//! Work that nobody's command does: leases and waits that are due, grants to take back, locks that changed behind
//! our back. It runs from a timer or from the cron, never inside the callback that found it, because a write made
//! there would be replicated together with the native command that is being run.
//!
//! Four guards before every write: still primary; as many replicas as the operator asks for; no pause or failover that wants the
//! stream quiet; in a cluster, the slot still ours, for otherwise "the key is gone" means "the key has moved".

use std::rc::Rc;

use redis_module::raw;

use super::api::{has_flags, is_loading, rm, Ctx, OwnString, OK};
use super::blocked::Answer;
use super::elsewhere::{self, reads_replicas, Elsewhere};
use super::key::read;
use super::keyspace::ServerKeyspace;
use super::state::{self, Delivered, Host};
use super::{clock, cluster, hearing, journal, observe, replicate};
use crate::command::effect::window::WindowEffect;
use crate::error::LockError;
use crate::limits::RUN_BUDGET_US;
use crate::primitive::driver;
use crate::primitive::table::Set;
use crate::primitive::{LockManager, Moment, WaiterId};

/// How long to wait, in ms, when the stream must be quiet.
const PAUSE_MS: u64 = 10;

/// How many of those who wait for several locks one run of the cron looks at.
const GROUPS_PER_RUN: usize = 20;

/// How many of those who only watch.
const WATCHED_PER_RUN: usize = 100;

/// Does what is due, for as long as the budget allows, and sees that it is called again in time.
pub(super) fn run(ctx: Ctx) {
    state::with(|host| hearing::hear_of_clients(host, ctx));
    step_down(ctx);
    let start = clock::now();
    end_recovery(start);
    tell_of_recovery(ctx);
    let end = Moment(start.0.saturating_add(RUN_BUDGET_US));
    let in_budget = || clock::now() < end;
    driver::end_due_waits(&mut ServerKeyspace::of_work(ctx, &in_budget), start, in_budget);
    // Without knowing whose a slot is nothing may be decided, and nobody sent away.
    let has_keys = state::with(|host| host.has_keys_to_open(start));
    let is_blind = has_keys && cluster::is_blind(ctx);
    let may_write = !is_blind && may_write(ctx) && (!has_keys || has_replicas(ctx));
    let may_look = !is_blind && !is_loading(ctx);
    while may_look && in_budget() && observe::look_at_next(ctx) {}
    while in_budget() && observe::answer_next() {}
    if may_write {
        driver::look_at_due(&mut ServerKeyspace::of_work(ctx, &in_budget), start, in_budget, is_connected);
    }
    while in_budget() && state::with(|host| host.manager.dropped.give_back_some()) {}
    state::with(|host| {
        if !host.manager.dropped.is_empty() {
            host.timer.wake_now();
        }
        if may_look && !host.manager.observers.is_quiet() {
            host.timer.wake_now();
        }
        if !host.is_primary {
            if !host.steps_down {
                host.forget_looks();
            }
            // Those who only watch are all that waits here.
            if let Some(deadline) = host.manager.observers.next_deadline() {
                host.timer.wake_by(deadline.max(Moment(1)));
            }
            return;
        }
        if !may_write {
            host.timer.wake_by(clock::now().plus_ms(PAUSE_MS));
        } else if !host.manager.rechecks.is_empty() {
            host.timer.wake_now();
        } else if let Some(deadline) = host.manager.next_deadline() {
            host.timer.wake_by(deadline.max(Moment(1)));
        }
    });
}

/// Grants again, if the time without grants after a failover is over.
fn end_recovery(now: Moment) {
    let stats = state::with(|host| {
        if host.is_primary {
            return host.manager.end_recovery_if_due(now).then_some(host.manager.stats);
        }
        // The primary of a replica may not be there to say so.
        if host.manager.recovery.is_due(now) {
            host.manager.recovery.hear(None);
        }
        None
    });
    stats.iter().for_each(journal::note_recovery_end);
}

/// Tells those who may come after this server that nothing is granted for now, or that this is over.
fn tell_of_recovery(ctx: Ctx) {
    if !may_write(ctx) || !state::with(|host| host.manager.recovery.take_untold()) {
        return;
    }
    let effect = state::with(|host| {
        let window = host.manager.recovery.outline();
        host.listeners.any(ctx).then(|| WindowEffect::of(window, clock::read()))
    });
    effect.into_iter().for_each(|effect| replicate::window(ctx, effect));
}

/// Sends those away who waited while this server was a primary, and forgets their queues. Most servers have ended the
/// waits themselves by then. Valkey leaves to us whom it would tell where to go, or has reading from replicas; and
/// during FAILOVER it keeps everybody until there is a new primary, for if there is none this one goes on as before. A
/// client that reads from replicas may go on watching, but not for what a replica never knows.
pub(super) fn step_down(ctx: Ctx) {
    if !state::with(|host| host.steps_down) || elsewhere::is_undecided(ctx) {
        return;
    }
    let may_watch = !has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER);
    let mut waiting: Vec<(WaiterId, u64, bool)> = state::with(|host| {
        let observers = &host.manager.observers;
        let waiting = host.blocked.waiting();
        waiting.map(|(id, client, is_watch)| (id, client, is_watch && !observers.needs_primary(id))).collect()
    });
    waiting.retain(|(_, client, can_watch)| !(may_watch && *can_watch && reads_replicas(ctx, *client)));
    if !waiting.is_empty() {
        let elsewhere = Rc::new(Elsewhere::now(ctx));
        state::with(|host| {
            for (id, ..) in waiting {
                host.manager.observers.remove(id);
                host.blocked.answer(id, Answer::Sent(Rc::clone(&elsewhere)));
            }
        });
    }
    state::with(|host| {
        host.steps_down = false;
        host.tell(LockManager::stepped_down);
        host.delivered.clear();
    });
}

/// Looks at what is kept for those who wait for several locks, a few at a time. A lock that is kept is free and has no
/// key, so nobody is told when another command puts a value of another type there.
pub(super) fn check_groups(ctx: Ctx) {
    let kept: Set<(i32, Rc<[u8]>)> = state::with(|host| {
        let groups = host.manager.waiters.groups_after(host.groups_checked);
        let chosen: Vec<_> = groups.take(GROUPS_PER_RUN).collect();
        // Where there are no more the next run begins anew.
        let last = chosen.last().filter(|_| chosen.len() == GROUPS_PER_RUN);
        host.groups_checked = last.map_or(WaiterId(0), |(id, _)| *id);
        chosen.iter().flat_map(|(_, entry)| entry.keys.iter().map(|key| (entry.db, Rc::clone(key)))).collect()
    });
    for (db, key) in kept {
        rm!(RedisModule_SelectDb(ctx.as_ptr(), db));
        let name = OwnString::new(&key);
        if read(ctx, name.as_str(), |_| ()) == Err(LockError::WrongType) {
            state::with(|host| host.tell(|manager| manager.recheck_if_awaited(db, &key)));
        }
    }
}

/// Looks at keys that are watched, a few at a time: a slot may have moved, and of data that another command puts where there was
/// nothing nobody is told.
pub(super) fn check_watched() {
    state::with(|host| host.manager.observers.note_some(WATCHED_PER_RUN));
}

/// Counts what was changed while nobody listened. If somebody does by now, the word that counts would reach it.
pub(super) fn count_changes(ctx: Ctx) {
    let changes = state::with(|host| std::mem::take(&mut host.unreplicated_changes));
    if changes > 0 && may_write(ctx) && !state::with(|host| host.listeners.any(ctx)) {
        replicate::count_changes(ctx, changes);
    }
}

fn may_write(ctx: Ctx) -> bool {
    has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_MASTER)
        && !is_loading(ctx)
        && rm!(RedisModule_AvoidReplicaTraffic()) == 0
}

/// Whether the operator lets a primary with so few replicas write. One that is cut off might give a lock away that its
/// successor has given to somebody else.
fn has_replicas(ctx: Ctx) -> bool {
    state::with(|host| host.listeners.are_enough(ctx))
}

/// Grants whose reply was given in the last turn of the event loop: confirmed if the client is there to read it,
/// to be taken back otherwise.
pub(super) fn confirm_delivered(host: &mut Host) {
    while let Some(Delivered { client, fence }) = host.delivered.pop() {
        if is_connected(client) {
            host.manager.confirm(fence);
        } else {
            host.tell(|manager| manager.grant_unread(fence));
        }
    }
}

fn is_connected(client: u64) -> bool {
    rm!(RedisModule_GetClientInfoById(std::ptr::null_mut(), client)) == OK
}
