//! `LOCK.CONVERT key owner SHARED|EXCLUSIVE [BLOCK ms] [QUEUE ms [NOTIFY channel]] [FENCE n]`
//!
//! Turns a hold into the other kind without giving it back; replies its fence, or nil when the owner does not hold
//! the lock or others share it. To SHARED it goes at once, under the same fence, and waiting readers come in. To
//! EXCLUSIVE it goes when the other readers have left, before all others who wait, and gets a new fence. With QUEUE the
//! place is kept as for ACQUIRE, but what is granted need not be claimed: the hold has its own lease already. Two
//! readers that wait for each other to leave would wait for ever, so the second is refused with DEADLOCK. Sent again with the
//! fence that it named, it replies the same for as long as the hold stands that it came to.

use super::args::{set_once, Args};
use super::holder::Holder;
use super::policy::{Policy, Wait};
use super::spec::{Arg, Spec};
use super::terms::{self, WaitWords};
use crate::error::LockError;
use crate::primitive::deadlock::{Holds, Link};
use crate::primitive::turn::To;
use crate::primitive::wait_queue::Place;
use crate::primitive::waiter::{Ask, Kind};
use crate::primitive::{Claim, Fence, Owner, Turn, WaiterId};

pub const SPEC: Spec = Spec {
    name: "lock.convert",
    summary: "Turns a shared hold into an exclusive one, or back, without giving it up.",
    flags: "write",
    arity: -4,
    acl: "write slow blocking",
    complexity: "O(N) with N holds of the lock, nearly always one",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        Arg::one_of("mode", &[Arg::word("shared", "SHARED"), Arg::word("exclusive", "EXCLUSIVE")]),
        terms::BLOCK,
        terms::QUEUE,
        terms::FENCE,
        terms::WITHINFO,
    ],
    ..Spec::WRITES_KEY
};

/// The request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convert<'a> {
    pub holder: Holder<'a>,
    /// What the hold shall become.
    pub claim: Claim,
    /// Nothing for a try.
    pub wait: Option<Wait>,
    /// The channel that is told when a ticket has its turn.
    pub notify: Option<&'a [u8]>,
}

/// What came of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Converted {
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
    pub fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let (mut claim, mut wait) = (None, WaitWords::default());
        let holder = Holder::parse(SPEC.name, words, |word, args: &mut Args<'a>| {
            if word.eq_ignore_ascii_case(b"SHARED") {
                set_once(&mut claim, "SHARED", Claim::SHARED)?;
            } else if word.eq_ignore_ascii_case(b"EXCLUSIVE") {
                set_once(&mut claim, "EXCLUSIVE", Claim::EXCLUSIVE)?;
            } else {
                return wait.read(word, args, policy);
            }
            Ok(true)
        })?;
        let (wait, notify) = wait.finish()?;
        Ok(Self { holder, claim: claim.ok_or(LockError::Arity(SPEC.name))?, wait, notify })
    }

    /// Converts the hold if that is possible now.
    pub fn apply(&self, turn: &mut Turn) -> Result<Converted, LockError> {
        turn.settle();
        let Holder { owner, fence: named, .. } = self.holder;
        let Some(hold) = self.holder.find(turn.lock) else {
            let upgraded = named.filter(|_| self.claim == Claim::EXCLUSIVE);
            let Some(fence) = upgraded.and_then(|fence| turn.upgraded_before(owner, fence)) else {
                return Ok(Converted::NotHeld);
            };
            turn.confirm(fence);
            return Ok(Converted::Held(fence));
        };
        let (fence, claim) = (hold.fence, hold.claim);
        if claim == self.claim {
            turn.confirm(fence);
            return Ok(Converted::Held(fence));
        }
        if ![Claim::SHARED, Claim::EXCLUSIVE].contains(&claim) {
            return Err(LockError::NotConvertible);
        }
        turn.confirm(fence);
        if self.claim == Claim::SHARED {
            turn.downgrade(fence, fence);
            return Ok(Converted::Done(fence));
        }
        if !turn.lock.is_alone(fence) {
            return Ok(Converted::Busy);
        }
        let Some(new) = turn.upgrade(fence, To::Caller) else { return Ok(Converted::NotHeld) };
        if named.is_some() {
            turn.remember_upgrade(owner, fence, new);
        }
        Ok(Converted::Done(new))
    }

    /// Whether the owner may wait, after [`Convert::apply`] found that others share the lock.
    pub fn check_wait(
        &self,
        wait: Wait,
        turn: &mut Turn,
        policy: &Policy,
        others: &mut dyn Holds,
    ) -> Result<(), LockError> {
        let owner = self.holder.owner;
        // Plain to see, whatever the operator says about searching.
        let front = turn.memory.waiters.front(turn.db, turn.key).map(|(_, waiter)| waiter);
        if let Some(first) =
            front.filter(|first| first.upgrades.is_some() && first.ask.owner.as_bytes() != owner)
        {
            let names = [Some(&first.ask.owner), turn.lock.hold_of(owner).map(|hold| &hold.owner)];
            let link = |owner: &Owner| Link { owner: owner.clone(), key: turn.key.into() };
            let cycle: Vec<Link> = names.into_iter().rev().flatten().map(link).collect();
            turn.memory.stats.deadlocks += 1;
            turn.memory.history.note_deadlock(turn.db, &cycle, turn.clock.now);
            return Err(LockError::Deadlock(cycle));
        }
        turn.check_room(owner, wait.kind(), policy.caps)?;
        policy.refuse_cycle(|| turn.find_cycle(owner, self.claim, Place::HEAD, others))
    }

    /// Puts the owner before all who wait, when [`Convert::check_wait`] has let it.
    pub fn enqueue(&self, wait: Wait, turn: &mut Turn) -> Result<WaiterId, LockError> {
        let (ask, fence) = self.ask(turn)?;
        Ok(turn.enqueue_upgrade(ask, wait.kind(), fence, wait.deadline(turn.clock.now)))
    }

    /// Gives the owner a ticket before all who wait, or keeps the one that it has, after [`Convert::apply`] found that
    /// others share the lock.
    pub fn queue(
        &self,
        wait: Wait,
        turn: &mut Turn,
        policy: &Policy,
        others: &mut dyn Holds,
    ) -> Result<Converted, LockError> {
        if wait.block_ms.is_some() {
            turn.check_room(self.holder.owner, Kind::Client, policy.caps)?;
        }
        let (ask, _) = self.ask(turn)?;
        let id = match turn.keep_ticket(&ask, wait.deadline(turn.clock.now)) {
            Some(id) => id,
            None => {
                self.check_wait(wait, turn, policy, others)?;
                self.enqueue(wait, turn)?
            }
        };
        turn.memory.waiters.set_channel(id, self.notify);
        Ok(Converted::Queued)
    }

    fn ask(&self, turn: &Turn) -> Result<(Ask, Fence), LockError> {
        let hold = self.holder.find(turn.lock).ok_or(LockError::Internal)?;
        let (owner, lease) = (hold.owner.clone(), hold.lease);
        Ok((Ask { owner, claim: self.claim, lease, extra: None, span: None }, hold.fence))
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
        assert_eq!((request.claim, request.wait), (Claim::EXCLUSIVE, Some(Wait::block(0))));
        assert_eq!(request.holder.fence, Fence::new(7));
        assert_eq!(parse(&[b"k", b"o", b"Shared"]).map(|request| request.claim), Ok(Claim::SHARED));
        assert_eq!(parse(&[b"k", b"o", b"BLOCK", b"0"]), Err(LockError::Arity("lock.convert")));
        assert_eq!(parse(&[b"k", b"o", b"SHARED", b"EXCLUSIVE"]), Err(LockError::Repeated("EXCLUSIVE")));
        assert_eq!(parse(&[b"k", b"o", b"LIMIT"]), Err(LockError::UnknownOption(b"LIMIT".to_vec())));
    }
}
