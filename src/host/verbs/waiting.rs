//! Clients that ask to wait: who can be kept waiting, and how it gets into line; what a search for deadlocks needs
//! of the server.

use rand::Rng;
use redis_module::raw;

use super::super::api::{has_flags, Ctx, OwnString};
use super::super::blocked::{Blocked, ReplySpec};
use super::super::handler::Call;
use super::super::key::read;
use super::super::rights::{user_name, Rights};
use super::super::slot_scope::SlotScope;
use crate::command::acquire::{Acquired, Take};
use crate::command::policy::Wait;
use crate::command::Policy;
use crate::error::LockError;
use crate::primitive::deadlock::HoldSource;
use crate::primitive::waiter::WaiterKind;
use crate::primitive::work_list::Work;
use crate::primitive::{GroupStep, Hold, LockManager, Moment, Owner, Step, WaiterId};

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

/// A request for locks of one call, and how it can wait.
pub(super) struct Taking<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) owner: &'a [u8],
    pub(super) wait: Option<Wait>,
    pub(super) policy: &'a Policy,
}

impl Taking<'_> {
    /// Takes the locks, or gets in line for them as the call wants to wait. Returns `None` if its client is kept waiting.
    pub(super) fn run<T: AnyStep>(
        &self,
        request: &impl Take<T>,
        step: &mut T,
        blocked: &mut Blocked,
        reply_spec: impl Fn() -> ReplySpec,
    ) -> Result<Option<Acquired>, LockError> {
        let Self { call, owner, policy, .. } = *self;
        let acquired = request.apply(owner, step, policy)?;
        let Some(wait) = self.wait.filter(|_| acquired == Acquired::Busy) else { return Ok(Some(acquired)) };
        let (acquired, waits) = if wait.kind() == WaiterKind::Ticket {
            let queue =
                |step: &mut _, others: &mut dyn HoldSource| request.queue(owner, wait, step, policy, others);
            let acquired = with_deadlock_check(call, step, queue)?;
            let is_queued = acquired == Acquired::Queued;
            (acquired, is_queued && wait_for_turn(call, step, blocked, reply_spec(), owner, wait))
        } else {
            let check = |step: &mut _, others: &mut dyn HoldSource| {
                request.check_wait(owner, wait, step, policy, others)
            };
            let enqueue = |step: &mut _| request.enqueue(owner, wait, step, policy).map(drop);
            (acquired, get_in_line(call, step, blocked, reply_spec(), check, enqueue)?)
        };
        Ok((!waits).then_some(acquired))
    }
}

/// Lets the client of this call wait, with a reply of this form, if `check` finds that its wait can end; whether it
/// waits now.
pub(super) fn get_in_line<T: AnyStep>(
    call: &Call,
    step: &mut T,
    blocked: &mut Blocked,
    reply_spec: ReplySpec,
    check: impl FnOnce(&mut T, &mut dyn HoldSource) -> Result<(), LockError>,
    enqueue: impl FnOnce(&mut T) -> Result<(), LockError>,
) -> Result<bool, LockError> {
    with_deadlock_check(call, step, check)?;
    // First the client, then the queue: a client that the server will not block only tries.
    if !blocked.block(call.ctx, step.as_mut().waiters.next_id(), reply_spec) {
        return Ok(false);
    }
    enqueue(step)?;
    Ok(true)
}

/// Notes who has asked for the ticket that the owner has, and keeps the client of this call waiting for its turn if it wants
/// to wait and the server will have it blocked; whether it waits now.
pub(super) fn wait_for_turn<T: AnyStep>(
    call: &Call,
    step: &mut T,
    blocked: &mut Blocked,
    reply_spec: ReplySpec,
    owner: &[u8],
    wait: Wait,
) -> bool {
    let Some(ticket) = step.ticket_of(call.db(), owner) else { return false };
    let user = user_name(call.ctx);
    step.as_mut().waiters.set_user(ticket, user.as_ref().map(|name| name.as_str().as_bytes()));
    let (Some(until), Some(keep_ms)) = (wait.until(step.now()), wait.keep_ms) else { return false };
    let manager = step.as_mut();
    let waits = blocked.block(call.ctx, manager.waiters.next_id(), reply_spec);
    if waits {
        manager.attach(ticket, until, keep_ms);
    }
    waits
}

/// A step on one lock or on several.
pub(super) trait AnyStep: AsMut<LockManager> {
    /// One of its locks.
    fn key(&self) -> &[u8];

    fn now(&self) -> Moment;

    /// The owner's place in line.
    fn ticket_of(&self, db: i32, owner: &[u8]) -> Option<WaiterId>;
}

impl AnyStep for Step<'_> {
    fn key(&self) -> &[u8] {
        self.key
    }

    fn now(&self) -> Moment {
        self.clock.now
    }

    fn ticket_of(&self, db: i32, owner: &[u8]) -> Option<WaiterId> {
        self.manager.waiters.waiter_of(db, self.key, owner)
    }
}

impl AnyStep for GroupStep<'_> {
    fn key(&self) -> &[u8] {
        self.parts.first().map_or(&[], |part| part.key)
    }

    fn now(&self) -> Moment {
        self.clock.now
    }

    fn ticket_of(&self, db: i32, owner: &[u8]) -> Option<WaiterId> {
        self.manager.waiters.waiter_of(db, self.key(), owner)
    }
}

/// Does `work` that looks for deadlocks, and so at other locks than those of its turn.
pub(super) fn with_deadlock_check<T: AnyStep, R>(
    call: &Call,
    step: &mut T,
    work: impl FnOnce(&mut T, &mut dyn HoldSource) -> Result<R, LockError>,
) -> Result<R, LockError> {
    let scope = SlotScope::of_command(call.ctx, step.key());
    let mut keyspace = Keyspace { ctx: call.ctx, scope, missing: Vec::new() };
    let result = work(step, &mut keyspace);
    keyspace.enqueue_rechecks(step.as_mut(), call.db());
    result.map_err(|error| redact(call.ctx, error))
}

/// The locks of one database, read while a step has other locks open.
struct Keyspace<'c> {
    ctx: Ctx<'c>,
    scope: SlotScope,
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
    /// What cannot be opened now is as if nobody held it: a circle through another slot is not found.
    fn each(&mut self, key: &[u8], each: &mut dyn FnMut(&Hold)) {
        if !self.scope.has(key) {
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
