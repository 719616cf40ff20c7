//! Work that nobody's command does: leases and waits that are due, grants to take back, locks that changed behind
//! our back. It runs from a timer or from the cron, never inside the callback that found it, because a write made
//! there would be replicated together with the native command that is being run.
//!
//! Three guards before every write: still primary; no pause or failover that wants the stream quiet; in a
//! cluster, the slot still ours, for otherwise "the key is gone" means "the key has moved".

use std::ffi::CStr;
use std::rc::Rc;

use redis_module::raw;

use super::api::{bytes, has_flags, is_loading, rm, Ctx, OwnString, OK};
use super::blocked::{Answer, NOT_A_LOCK};
use super::elsewhere::{self, reads_replicas, Elsewhere};
use super::key::{read, touch};
use super::state::{self, Delivered, Host, Suspect};
use super::step::{change, Site};
use super::{clock, cluster, hearing, observe, replicate};
use crate::error::LockError;
use crate::limits::RUN_BUDGET_US;
use crate::primitive::allowance::Allowance;
use crate::primitive::table::{Set, Table};
use crate::primitive::turn::Left;
use crate::primitive::{Moment, WaiterId};

/// How long to wait, in ms, when the stream must be quiet.
const PAUSE_MS: u64 = 10;

/// How long to wait, in ms, before looking again at a lock whose slot is not ours.
const AWAY_MS: u64 = 1_000;

/// How many of those who wait for several locks one run of the cron looks at.
const GROUPS_PER_RUN: usize = 20;

/// How many of those who only watch.
const WATCHED_PER_RUN: usize = 100;

/// Does what is due, for as long as the budget allows, and sees that it is called again in time.
pub(super) fn run(ctx: *mut Ctx) {
    state::with(|host| hearing::hear_of_clients(host, ctx));
    step_down(ctx);
    let start = clock::now();
    let in_budget = || clock::now() < Moment(start.0 + RUN_BUDGET_US);
    end_waits(start, in_budget);
    // Without knowing whose a slot is nothing may be decided, and nobody sent away.
    let is_blind = state::with(|host| host.has_keys_to_open(start)) && cluster::is_blind(ctx);
    let may_write = !is_blind && may_write(ctx);
    let may_look = !is_blind && !is_loading(ctx);
    while may_look && in_budget() && observe::look_at_next(ctx) {}
    while in_budget() && observe::tell_next() {}
    if may_write {
        while in_budget() && next_suspect(in_budget).is_some_and(|suspect| look_at(ctx, suspect, in_budget)) {
        }
        while in_budget() && next_lease(start).is_some_and(|suspect| look_at(ctx, suspect, in_budget)) {}
    }
    while in_budget() && state::with(Host::give_back_some) {}
    state::with(|host| {
        if !host.remains.is_empty() {
            host.alarm.soon();
        }
        if may_look && !host.memory.observers.is_quiet() {
            host.alarm.soon();
        }
        if !host.is_primary {
            if !host.steps_down {
                host.deferred = state::Deferred::default();
            }
            // Those who only watch are all that waits here.
            if let Some(deadline) = host.memory.observers.next_deadline() {
                host.alarm.by(deadline.max(Moment(1)));
            }
            return;
        }
        if !may_write {
            host.alarm.by(clock::now().plus_ms(PAUSE_MS));
        } else if host.deferred.has_suspects() {
            host.alarm.soon();
        } else if let Some(deadline) = host.memory.next_deadline() {
            host.alarm.by(deadline.max(Moment(1)));
        }
    });
}

/// Sends those away who waited while this server was a primary, and forgets their queues. Most servers have ended the waits
/// themselves by then. Valkey leaves to us whom it would tell where to go, or has reading from replicas; and during FAILOVER
/// it keeps everybody until there is a new primary, for if there is none this one goes on as before. Who reads from replicas
/// may go on watching, but not for what a replica never knows.
pub(super) fn step_down(ctx: *mut Ctx) {
    if !state::with(|host| host.steps_down) || elsewhere::is_undecided(ctx) {
        return;
    }
    let may_watch = !has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER);
    let mut waiting: Vec<(WaiterId, u64, bool)> = state::with(|host| {
        let observers = &host.memory.observers;
        let waiting = host.blocked.waiting();
        waiting.map(|(id, client, is_watch)| (id, client, is_watch && !observers.needs_primary(id))).collect()
    });
    waiting.retain(|(_, client, can_watch)| !(may_watch && *can_watch && reads_replicas(ctx, *client)));
    if !waiting.is_empty() {
        let elsewhere = Rc::new(Elsewhere::now(ctx));
        state::with(|host| {
            for (id, ..) in waiting {
                host.memory.observers.remove(id);
                host.blocked.answer(id, Answer::Sent(Rc::clone(&elsewhere)));
            }
        });
    }
    state::with(|host| {
        host.steps_down = false;
        let left = host.memory.waiters.len() as u64;
        host.memory.stats.failed += left;
        let waiters = host.memory.waiters.clear();
        host.leave_behind(waiters);
        host.memory.provisional = Table::default();
        host.deferred = state::Deferred::default();
        host.alarm.soon();
    });
}

/// Looks at what is kept for those who wait for several locks, a few at a time. A lock that is kept is free and has no
/// key, so nobody is told when a stranger puts a value of another type there.
pub(super) fn check_groups(ctx: *mut Ctx) {
    let kept: Set<(i32, Rc<[u8]>)> = state::with(|host| {
        let groups = host.memory.waiters.groups_after(host.groups_checked);
        let chosen: Vec<_> = groups.take(GROUPS_PER_RUN).collect();
        // Where there are no more the next run begins anew.
        let last = chosen.last().filter(|_| chosen.len() == GROUPS_PER_RUN);
        host.groups_checked = last.map_or(WaiterId(0), |(id, _)| *id);
        chosen.iter().flat_map(|(_, entry)| entry.keys.iter().map(|key| (entry.db, Rc::clone(key)))).collect()
    });
    for (db, key) in kept {
        rm!(RedisModule_SelectDb(ctx, db));
        let name = OwnString::new(&key);
        if read(ctx, name.as_ptr(), |_| ()) == Err(LockError::WrongType) {
            state::with(|host| host.suspect(db, &key));
        }
    }
}

/// Looks at keys that are watched, a few at a time: a slot may have moved, and of data that a stranger puts where there was
/// nothing nobody is told.
pub(super) fn check_watched() {
    state::with(|host| host.memory.observers.note_some(WATCHED_PER_RUN));
}

/// Counts what was changed while nobody listened. If somebody does by now, the word that counts would reach it.
pub(super) fn count_changes(ctx: *mut Ctx) {
    let changes = state::with(|host| std::mem::take(&mut host.uncounted));
    if changes > 0 && may_write(ctx) && !state::with(|host| host.listeners.any(ctx)) {
        replicate::count_changes(ctx, changes);
    }
}

fn may_write(ctx: *mut Ctx) -> bool {
    has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_MASTER)
        && !is_loading(ctx)
        && rm!(RedisModule_AvoidReplicaTraffic()) == 0
}

/// Waits that are over. They change no data, so they end during a pause too.
fn end_waits(now: Moment, in_budget: impl Fn() -> bool) {
    state::with(|host| {
        while in_budget() {
            let memory = &mut host.memory;
            let due = memory.waiters.pop_due(now).or_else(|| memory.observers.pop_due(now));
            let Some(id) = due else { break };
            if let Some(client) = host.memory.waiters.end_slice(id) {
                host.blocked.answer(client, Answer::Left(Left::PlaceKept));
            } else if host.dismiss_between_steps(id, Left::TimedOut) {
                host.blocked.answer(id, Answer::Left(Left::TimedOut));
            }
        }
    });
}

/// Grants whose reply was given in the last turn of the event loop: confirmed if the client is there to read it,
/// to be taken back otherwise.
pub(super) fn settle_delivered(host: &mut Host) {
    while let Some(Delivered { client, grant }) = host.deferred.delivered.pop() {
        match grant.undo {
            Some(fence) if is_connected(client) => host.memory.confirm(fence),
            _ => {
                host.deferred.suspects.push_back(grant);
                host.alarm.soon();
            }
        }
    }
}

fn is_connected(client: u64) -> bool {
    rm!(RedisModule_GetClientInfoById(std::ptr::null_mut(), client)) == OK
}

/// The next lock to look at, for whatever reason.
fn next_suspect(in_budget: impl Fn() -> bool) -> Option<Suspect> {
    state::with(|host| loop {
        if let Some(suspect) = host.deferred.suspects.pop_front() {
            return Some(suspect);
        }
        if !in_budget() || !host.suspect_some() {
            return None;
        }
    })
}

/// The next lock with a lease that is due.
fn next_lease(now: Moment) -> Option<Suspect> {
    let (db, lease) = state::with(|host| host.memory.leases.pop_due(now))?;
    Some(Suspect::of(db, lease.key.as_slice().into()))
}

/// Opens a lock again and does what is due on it. Always true, for loops.
fn look_at(ctx: *mut Ctx, suspect: Suspect, in_budget: impl Fn() -> bool + Copy) -> bool {
    let Suspect { db, keys, undo } = suspect;
    state::with(|host| host.memory.allowance = Allowance::default());
    rm!(RedisModule_SelectDb(ctx, db));
    let names: Vec<OwnString> = keys.iter().map(|key| OwnString::new(key)).collect();
    // Locks that were granted together are in one slot.
    let is_away = names.first().is_some_and(|name| !cluster::owns(ctx, name.as_ptr()));
    if is_away {
        // Whoever owns the slot cannot know of the undo: the lease ends the hold.
        if let Some(fence) = undo {
            state::with(|host| host.memory.confirm(fence));
        }
        for (key, name) in keys.iter().zip(&names) {
            cluster::turn_away(db, key, in_budget);
            look_again(ctx, db, name);
        }
        return true;
    }
    let undo = undo.and_then(|fence| Some((fence, state::with(|host| host.memory.take_undo(fence))?)));
    let site = Site { ctx, db, in_command: false };
    for (key, name) in keys.iter().zip(&names) {
        let result = change(site, name.as_ptr(), |turn, _| {
            let node = turn.memory.node;
            turn.cut_ties(|tie| tie.node == node && is_connected(tie.client));
            turn.settle();
            if let Some((fence, how)) = undo {
                turn.undo(fence, how);
            }
            Ok(())
        });
        if result == Err(LockError::WrongType) {
            fail_waits(db, key, NOT_A_LOCK, in_budget);
        }
    }
    true
}

/// Keeps the leases and ties of a lock that is still here though its slot is not ours for now: the slot may come back, or
/// be on its way in.
fn look_again(ctx: *mut Ctx, db: i32, name: &OwnString) {
    touch(ctx, name.as_ptr(), |lock| {
        let later = clock::now().plus_ms(AWAY_MS);
        state::with(|host| {
            for hold in lock.holds_mut() {
                let is_never_due = hold.deadline == Moment::NEVER;
                let at = if is_never_due && hold.tie().is_none() { Moment::NEVER } else { later };
                if !host.memory.leases.has(db, hold) {
                    host.memory.leases.insert_at(db, bytes(name.as_ptr()), hold, at);
                } else if is_never_due {
                    host.memory.leases.hasten(db, hold, at);
                }
            }
        });
    });
}

/// Ends the waits for a lock that is no more, for as long as the budget allows, and sees that the rest follows. Those who
/// only watch the key are told when it is looked at.
pub(super) fn fail_waits(db: i32, key: &[u8], text: &'static CStr, in_budget: impl Fn() -> bool) {
    state::with(|host| {
        // Other locks that they waited for, each once, however many of them stood in its queue.
        let mut left = Set::default();
        while let Some((id, _)) = host.memory.waiters.front(db, key) {
            if !in_budget() {
                host.suspect(db, key);
                break;
            }
            let client = host.memory.waiters.client_of(id);
            left.extend(host.take_out(id, Left::Failed).into_iter().flat_map(|(_, keys)| keys));
            client.into_iter().for_each(|client| host.blocked.answer(client, Answer::Failed(text)));
        }
        left.remove(key);
        left.iter().for_each(|key| host.suspect(db, key));
    });
}

/// Ends the watches of a key with an error.
pub(super) fn fail_watches(db: i32, key: &[u8], text: &'static CStr) {
    state::with(|host| {
        let ids: Vec<WaiterId> = host.memory.observers.of(db, key).collect();
        for id in ids {
            host.memory.observers.remove(id);
            host.blocked.answer(id, Answer::Failed(text));
        }
    });
}
