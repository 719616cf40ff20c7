//! `LOCK.CONVERT key owner SHARED|EXCLUSIVE [BLOCK ms] [QUEUE ms [NOTIFY channel]] [FENCE n]`
//!
//! Turns a hold into the other kind without giving it back; replies its fence, or nil when the owner does not hold
//! the lock or others share it. To SHARED it goes at once, under the same fence, and waiting readers come in. To
//! EXCLUSIVE it goes when the other readers have left, before all others who wait, and gets a new fence. With QUEUE the
//! place is kept as for ACQUIRE, but what is granted need not be claimed: the hold has its own lease already. Two
//! readers that wait for each other to leave would wait for ever, so the second is refused with DEADLOCK. Sent again with the
//! fence that it named, it replies the same for as long as the hold stands that it came to.

use super::args::Args;
use super::holder::Holder;
use super::policy::{Policy, Wait};
use super::report::Location;
use super::spec::{Arg, Spec};
use super::terms::{self, WaitWords};
use super::token::Token;
use crate::error::LockError;
use crate::primitive::broken::broken;
use crate::primitive::deadlock::HoldSource;
use crate::primitive::effect::Recipient;
use crate::primitive::wait_queue::Position;
use crate::primitive::waiter::WaitEdge;
use crate::primitive::waiter::{AcquireRequest, WaiterKind};
use crate::primitive::{Fence, Locks, Owner, Permits, Step, WaiterId};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.convert",
    summary: "Turns a shared hold into an exclusive one, or back, without giving it up.",
    flags: "write",
    arity: -4,
    acl: "write slow blocking",
    complexity: "O(N) with N holds of the lock, nearly always one",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        Arg::one_of("mode", &[Arg::word("shared", Token::Shared), Arg::word("exclusive", Token::Exclusive)]),
        terms::BLOCK,
        terms::QUEUE,
        terms::FENCE,
        terms::WITHINFO,
    ],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// The request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Convert<'a> {
    pub holder: Holder<'a>,
    /// The permits that the hold shall have.
    pub permits: Permits,
    /// `None` for a try.
    pub wait: Option<Wait>,
    /// The channel that is told when a ticket has its turn.
    pub notify: Option<&'a [u8]>,
}

/// The outcome of the request at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Converted {
    /// The hold was of that kind already.
    Held(Fence),
    Done(Fence),
    /// Others share the lock.
    Busy,
    /// The same, and the owner has a ticket.
    Queued,
    /// The owner does not hold it.
    NotHeld,
}

impl<'a> Convert<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let (mut permits, mut wait) = (None, WaitWords::default());
        let holder = Holder::parse(&SPEC, words, |option, args: &mut Args<'a>| {
            match option {
                Token::Shared => permits = Some(Permits::SHARED),
                Token::Exclusive => permits = Some(Permits::EXCLUSIVE),
                other => wait.read(other, args, policy)?,
            }
            Ok(())
        })?;
        let (wait, notify) = wait.finish()?;
        Ok(Self { holder, permits: permits.ok_or(LockError::Arity(SPEC.name))?, wait, notify })
    }

    /// Converts the hold if that is possible now.
    pub(crate) fn apply(&self, step: &mut Step) -> Result<Converted, LockError> {
        step.expire_and_grant();
        let Holder { owner, fence: named, .. } = self.holder;
        Location::of(step).refuse_if_lost(Some(step.lock), owner, named)?;
        let Some(hold) = self.holder.find(step.lock) else {
            let upgraded = named.filter(|_| self.permits == Permits::EXCLUSIVE);
            let Some(fence) = upgraded.and_then(|fence| step.upgraded_before(owner, fence)) else {
                return Ok(Converted::NotHeld);
            };
            step.confirm(fence);
            return Ok(Converted::Held(fence));
        };
        let (fence, permits) = (hold.fence, hold.permits);
        // One that is known as exclusive may have been shared since, and others with it.
        let is_sure = self.permits == Permits::SHARED || !step.manager.recovery.is_open();
        if permits == self.permits && is_sure {
            step.confirm(fence);
            return Ok(Converted::Held(fence));
        }
        if ![Permits::SHARED, Permits::EXCLUSIVE].contains(&permits) {
            return Err(LockError::NotConvertible);
        }
        step.confirm(fence);
        if self.permits == Permits::SHARED {
            step.downgrade(fence, fence);
            return Ok(Converted::Done(fence));
        }
        if !is_sure || !step.lock.is_alone(fence) {
            return Ok(Converted::Busy);
        }
        let Some(new) = step.upgrade(fence, Recipient::Caller) else {
            broken("the hold to be upgraded is gone");
            return Ok(Converted::NotHeld);
        };
        if named.is_some() {
            step.remember_upgrade(owner, fence, new);
        }
        Ok(Converted::Done(new))
    }

    /// Whether the owner may wait, after [`Convert::apply`] found that others share the lock.
    pub(crate) fn check_wait(
        &self,
        wait: Wait,
        step: &mut Step,
        policy: &Policy,
        others: &mut dyn HoldSource,
    ) -> Result<(), LockError> {
        let owner = self.holder.owner;
        // Plain to see, whatever the operator says about searching.
        let front = step.manager.waiters.front(step.db, step.key).map(|(_, waiter)| waiter);
        if let Some(first) =
            front.filter(|first| first.upgrades.is_some() && first.request.owner.as_bytes() != owner)
        {
            let names = [Some(&first.request.owner), step.lock.hold_of(owner).map(|hold| &hold.owner)];
            let link = |owner: &Owner| WaitEdge { owner: owner.clone(), key: step.key.into() };
            let cycle: Vec<WaitEdge> = names.into_iter().rev().flatten().map(link).collect();
            step.manager.stats.deadlocks.up();
            step.manager.history.record_deadlock(step.db, &cycle, step.clock.now);
            return Err(LockError::Deadlock(cycle));
        }
        step.check_room(owner, wait.kind(), policy.caps)?;
        policy.refuse_cycle(|| step.find_cycle(owner, self.permits, Position::HEAD, others))
    }

    /// Puts the owner before all who wait, when [`Convert::check_wait`] has let it.
    pub(crate) fn enqueue(&self, wait: Wait, step: &mut Step) -> Result<WaiterId, LockError> {
        let (request, fence) = self.ask(step)?;
        Ok(step.enqueue(request, Some(fence), wait.kind(), wait.deadline(step.clock.now)))
    }

    /// Gives the owner a ticket before all who wait, or keeps the one that it has, after [`Convert::apply`] found that
    /// others share the lock.
    pub(crate) fn queue(
        &self,
        wait: Wait,
        step: &mut Step,
        policy: &Policy,
        others: &mut dyn HoldSource,
    ) -> Result<Converted, LockError> {
        if wait.block_ms.is_some() {
            step.check_room(self.holder.owner, WaiterKind::Client, policy.caps)?;
        }
        let (request, fence) = self.ask(step)?;
        let deadline = wait.deadline(step.clock.now);
        let id = if let Some(id) = step.keep_ticket(&request, Some(fence), deadline) {
            id
        } else {
            self.check_wait(wait, step, policy, others)?;
            self.enqueue(wait, step)?
        };
        step.manager.waiters.set_channel(id, self.notify);
        Ok(Converted::Queued)
    }

    fn ask(&self, step: &Step) -> Result<(AcquireRequest, Fence), LockError> {
        let hold = self.holder.find(step.lock).ok_or(LockError::Internal)?;
        let (owner, lease) = (hold.owner.clone(), hold.lease);
        Ok((AcquireRequest { owner, permits: self.permits, lease, extra: None, span: None }, hold.fence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(words: &'a [&'a [u8]]) -> Result<Convert<'a>, LockError> {
        Convert::parse(words, &Policy::default())
    }

    #[test]
    fn words() {
        let request = parse(&[b"k", b"o", b"exclusive", b"BLOCK", b"0", b"FENCE", b"7"]).unwrap();
        assert_eq!((request.permits, request.wait), (Permits::EXCLUSIVE, Some(Wait::block(0))));
        assert_eq!(request.holder.fence, Fence::new(7));
        assert_eq!(parse(&[b"k", b"o", b"Shared"]).map(|request| request.permits), Ok(Permits::SHARED));
        assert_eq!(parse(&[b"k", b"o", b"BLOCK", b"0"]), Err(LockError::Arity("lock.convert")));
        assert_eq!(parse(&[b"k", b"o", b"SHARED", b"EXCLUSIVE"]), Err(LockError::Repeated("EXCLUSIVE")));
        assert_eq!(parse(&[b"k", b"o", b"LIMIT"]), Err(LockError::UnknownOption(b"LIMIT".to_vec())));
    }
}
