//! Work that nobody's command does: leases and waits that are due, grants to take back, locks that changed behind
//! our back. It runs from a timer or from the cron, never inside the callback that found it, because a write made
//! there would be replicated together with the native command that is being run.
//!
//! Three guards before every write: still primary; no pause or failover that wants the stream quiet; in a
//! cluster, the slot still ours, for otherwise "the key is gone" means "the key has moved".

use redis_module::raw;

use super::api::{bytes, has_flags, rm, Ctx, OwnString, OK};
use super::blocked::Answer;
use super::key::{change, touch, Site};
use super::state::{self, Delivered, Host, Suspect};
use super::{clock, cluster, replicate};
use crate::error::LockError;
use crate::limits::RUN_BUDGET_US;
use crate::primitive::turn::Left;
use crate::primitive::Moment;

/// How long to wait, in ms, when the stream must be quiet.
const PAUSE_MS: u64 = 10;

/// How long to wait, in ms, before looking again at a lock whose slot is not ours.
const AWAY_MS: u64 = 1_000;

/// Does what is due, for as long as the budget allows, and sees that it is called again in time.
pub(super) fn run(ctx: *mut Ctx) {
    let start = clock::now();
    let in_budget = || clock::now() < Moment(start.0 + RUN_BUDGET_US);
    end_waits(start, in_budget);
    let may_write = may_write(ctx);
    if may_write {
        while in_budget() && next_suspect().is_some_and(|suspect| look_at(ctx, suspect)) {}
        while in_budget() && next_lease(start).is_some_and(|suspect| look_at(ctx, suspect)) {}
    }
    state::with(|host| {
        if !host.is_primary {
            host.deferred = state::Deferred::default();
            return;
        }
        if !may_write {
            host.alarm.by(clock::now().plus_ms(PAUSE_MS));
        } else if !host.deferred.suspects.is_empty() {
            host.alarm.soon();
        } else if let Some(deadline) = host.memory.next_deadline() {
            host.alarm.by(deadline.max(Moment(1)));
        }
    });
}

/// Counts what was changed while nobody listened. If somebody does by now, the word that counts would reach it.
pub(super) fn count_changes(ctx: *mut Ctx) {
    let changes = state::with(|host| std::mem::take(&mut host.uncounted));
    if changes > 0 && may_write(ctx) && !state::with(|host| host.listeners.any(ctx)) {
        replicate::count_changes(ctx, changes);
    }
}

fn may_write(ctx: *mut Ctx) -> bool {
    let loading = raw::REDISMODULE_CTX_FLAGS_LOADING | raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING;
    has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_MASTER)
        && !has_flags(ctx, loading)
        && rm!(RedisModule_AvoidReplicaTraffic()) == 0
}

/// Waits that are over. They change no data, so they end during a pause too.
fn end_waits(now: Moment, in_budget: impl Fn() -> bool) {
    state::with(|host| {
        while in_budget() {
            let Some(id) = host.memory.waiters.pop_due(now) else { break };
            let Some((db, key)) = host.memory.waiters.lock_of(id) else { continue };
            host.memory.waiters.remove(id);
            host.memory.stats.note_left(Left::TimedOut);
            host.blocked.answer(id, Answer::Left(Left::TimedOut));
            host.suspect(db, &key);
        }
    });
}

/// Grants whose reply was given in the last turn of the event loop: confirmed if the client is there to read it,
/// to be taken back otherwise.
pub(super) fn settle_delivered(host: &mut Host) {
    while let Some(Delivered { client, grant }) = host.deferred.delivered.pop() {
        let is_there = rm!(RedisModule_GetClientInfoById(std::ptr::null_mut(), client)) == OK;
        match grant.undo {
            Some(fence) if is_there => host.memory.confirm(fence),
            _ => {
                host.deferred.suspects.push_back(grant);
                host.alarm.soon();
            }
        }
    }
}

/// The next lock to look at, for whatever reason.
fn next_suspect() -> Option<Suspect> {
    state::with(|host| host.deferred.suspects.pop_front())
}

/// The next lock with a lease that is due.
fn next_lease(now: Moment) -> Option<Suspect> {
    let (db, lease) = state::with(|host| host.memory.leases.pop_due(now))?;
    Some(Suspect { db, key: lease.key.as_slice().into(), undo: None })
}

/// Opens a lock again and does what is due on it. Always true, for loops.
fn look_at(ctx: *mut Ctx, suspect: Suspect) -> bool {
    let Suspect { db, key, undo } = suspect;
    rm!(RedisModule_SelectDb(ctx, db));
    let name = OwnString::new(&key);
    if !cluster::owns(ctx, name.as_ptr()) {
        cluster::turn_away(db, &key);
        look_again(ctx, db, &name);
        return true;
    }
    let site = Site { ctx, db, name: name.as_ptr(), in_command: false };
    let result = change(site, |turn, _| {
        turn.settle();
        if let Some(fence) = undo {
            turn.undo(fence);
        }
        Ok(())
    });
    if result == Err(LockError::WrongType) {
        if let Some(fence) = undo {
            state::with(|host| host.memory.confirm(fence));
        }
        fail_all(db, &key, c"WRONGTYPE the key was overwritten with a value that is not a lock");
    }
    true
}

/// Keeps the leases of a lock that is still here though its slot is not ours for now: the slot may come back, or
/// be on its way in.
fn look_again(ctx: *mut Ctx, db: i32, name: &OwnString) {
    touch(ctx, name.as_ptr(), |lock| {
        let later = clock::now().plus_ms(AWAY_MS);
        state::with(|host| {
            for hold in lock.holds_mut().iter_mut().filter(|hold| hold.deadline != Moment::NEVER) {
                if !host.memory.leases.has(db, hold) {
                    host.memory.leases.insert_at(db, bytes(name.as_ptr()), hold, later);
                }
            }
        });
    });
}

/// Ends all waits for a lock with an error.
pub(super) fn fail_all(db: i32, key: &[u8], text: &'static std::ffi::CStr) {
    state::with(|host| {
        let ids: Vec<_> = host.memory.waiters.iter(db, key).map(|(id, _)| id).collect();
        for id in ids {
            host.memory.waiters.remove(id);
            host.blocked.answer(id, Answer::Failed(text));
        }
    });
}
