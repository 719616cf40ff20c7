//! Clients that ask to wait: who can be kept waiting, and how it gets into line; what a search for deadlocks needs
//! of the server.

use rand::Rng;
use redis_module::raw;

use super::super::api::{has_flags, Ctx, OwnString};
use super::super::blocked::{Blocked, ReplySpec};
use super::super::blocking::block;
use super::super::handler::Call;
use super::super::key::read;
use super::super::rights::{user_name, Rights};
use super::super::slot_scope::SlotScope;
use crate::command::policy::Wait;
use crate::error::LockError;
use crate::primitive::deadlock::HoldSource;
use crate::primitive::work_list::Work;
use crate::primitive::{Hold, LockManager, Locks, Owner};

/// How this call can wait, of how it wants to: where its client cannot be kept waiting a ticket is left, or nothing.
pub(super) fn possible(ctx: Ctx, wait: Wait) -> Option<Wait> {
    if may_block(ctx) {
        Some(wait)
    } else {
        wait.unblocked()
    }
}

/// Whether the client of this call can be kept waiting: not in a transaction or script, and not when the command
/// comes from somewhere else than a client.
pub(super) fn may_block(ctx: Ctx) -> bool {
    !has_flags(
        ctx,
        raw::REDISMODULE_CTX_FLAGS_LUA
            | raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
            | raw::REDISMODULE_CTX_FLAGS_REPLICATED
            | raw::REDISMODULE_CTX_FLAGS_LOADING,
    )
}

/// A name that nobody else has: 128 random bits in hexadecimal digits.
pub(super) fn generate_owner() -> Box<[u8]> {
    let mut bits = [0_u8; 16];
    rand::rng().fill_bytes(&mut bits);
    bits.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// Lets the client of this call wait, with a reply of this form, if `check` finds that its wait can end. Returns
/// whether it waits now.
pub(super) fn get_in_line<'k, L: Locks<'k>>(
    call: &Call,
    locks: &mut L,
    blocked: &mut Blocked,
    reply_spec: ReplySpec,
    check: impl FnOnce(&mut L, &mut dyn HoldSource) -> Result<(), LockError>,
    enqueue: impl FnOnce(&mut L) -> Result<(), LockError>,
) -> Result<bool, LockError> {
    with_deadlock_check(call, locks, check)?;
    // First the client, then the queue: a client that the server will not block only tries.
    if !block(blocked, call.ctx, locks.manager().waiters.next_id(), reply_spec) {
        return Ok(false);
    }
    enqueue(locks)?;
    Ok(true)
}

/// Notes who has asked for the ticket that the owner has, and keeps the client of this call waiting for its turn if it
/// wants to wait and the server will have it blocked. Returns whether it waits now.
pub(super) fn wait_for_turn<'k>(
    call: &Call,
    locks: &mut impl Locks<'k>,
    blocked: &mut Blocked,
    reply_spec: ReplySpec,
    owner: &[u8],
    wait: Wait,
) -> bool {
    let (db, now, key) = (locks.db(), locks.clock().now, first_key(locks));
    let Some(ticket) = locks.manager().waiters.waiter_of(db, key, owner) else { return false };
    let user = user_name(call.ctx);
    locks.manager().waiters.set_user(ticket, user.as_ref().map(|name| name.as_str().as_bytes()));
    let (Some(until), Some(keep_ms)) = (wait.until(now), wait.keep_ms) else { return false };
    let manager = locks.manager();
    let waits = block(blocked, call.ctx, manager.waiters.next_id(), reply_spec);
    if waits {
        manager.attach(ticket, until, keep_ms);
    }
    waits
}

/// Does `work` that looks for deadlocks, and so at other locks than those of its step.
pub(super) fn with_deadlock_check<'k, L: Locks<'k>, R>(
    call: &Call,
    locks: &mut L,
    work: impl FnOnce(&mut L, &mut dyn HoldSource) -> Result<R, LockError>,
) -> Result<R, LockError> {
    let mut keyspace = Keyspace { ctx: call.ctx, of: first_key(locks), scope: None, missing: Vec::new() };
    let result = work(locks, &mut keyspace);
    let db = locks.db();
    keyspace.enqueue_rechecks(locks.manager(), db);
    result.map_err(|error| redact(call.ctx, error))
}

fn first_key<'k>(locks: &impl Locks<'k>) -> &'k [u8] {
    locks.keys().first().copied().unwrap_or_default()
}

/// The locks of one database, read while a step has other locks open.
struct Keyspace<'c> {
    ctx: Ctx<'c>,
    /// The first key of the command.
    of: &'c [u8],
    /// Asked for when the first lock is looked at. Few waits look at any.
    scope: Option<SlotScope>,
    /// Locks that are waited for and not there.
    missing: Vec<Box<[u8]>>,
}

impl Keyspace<'_> {
    /// Sees that somebody looks at locks that are missing though their first waiter could have them: reading a key
    /// can delete it, when another command has given it a time to live, and nobody hears of that while the step has the
    /// state.
    fn enqueue_rechecks(self, manager: &mut LockManager, db: i32) {
        let is_odd =
            |key: &[u8]| manager.waiters.front(db, key).is_some_and(|(_, first)| first.request.keys() == 1);
        let odd: Vec<Box<[u8]>> = self.missing.into_iter().filter(|key| is_odd(key)).collect();
        odd.into_iter().for_each(|key| manager.work_list.push(Work::Lock(db, key.into())));
    }
}

impl HoldSource for Keyspace<'_> {
    /// A lock that cannot be opened now is as if nobody held it: a circle through another slot is not found.
    fn each(&mut self, key: &[u8], each: &mut dyn FnMut(&Hold)) {
        let scope = self.scope.get_or_insert_with(|| SlotScope::of_command(self.ctx, self.of));
        if !scope.has(key) {
            return;
        }
        let name = OwnString::new(key);
        let there = read(self.ctx, name.as_str(), |lock| {
            lock.map(|lock| lock.holds().iter().for_each(each)).is_some()
        });
        if there == Ok(false) {
            self.missing.push(key.into());
        }
    }
}

/// Takes names out of an error that the caller may not see: those of locks that it has no right to read.
fn redact(ctx: Ctx, error: LockError) -> LockError {
    let LockError::Deadlock(mut cycle) = error else { return error };
    let rights = Rights::of_caller(ctx);
    let own = cycle.first().map(|link| link.owner.clone());
    let hidden = Owner::new(b"?");
    let mut was_seen = true;
    for link in &mut cycle {
        let is_seen = rights.may_read(OwnString::new(&link.key).as_str());
        // An owner shows up as the one who has the lock before and as the one who waits for the next.
        if !(is_seen || was_seen) && Some(&link.owner) != own.as_ref() {
            link.owner = hidden.clone().unwrap_or_else(|| link.owner.clone());
        }
        if !is_seen {
            link.key = b"?"[..].into();
        }
        was_seen = is_seen;
    }
    LockError::Deadlock(cycle)
}
