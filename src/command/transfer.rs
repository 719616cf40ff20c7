//! `LOCK.TRANSFER key owner newowner [PX ms | EX s | NOEXPIRE] [FENCE n]`
//!
//! Hands a hold over to another owner in one step, before all who wait; replies the new fence, or nil when the owner
//! does not hold the lock. If the new owner waits for the lock, its wait ends with this grant. Sent again with the fence
//! it replies the same fence once more.

use super::args::Args;
use super::holder::Holder;
use super::policy::Policy;
use super::recovery;
use super::report::Location;
use super::spec::{Arg, Spec};
use super::terms;
use super::token::Token;
use crate::error::LockError;
use crate::primitive::deadlock::HoldSource;
use crate::primitive::{Fence, Lease, Owner, Step, WaiterId};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.transfer",
    summary: "Hands a held lock over to another owner; replies the new fence.",
    flags: "write",
    arity: -4,
    acl: "write slow",
    complexity: "O(N) with N holds of the lock, nearly always one",
    args: &[Arg::KEY, Arg::string("owner"), Arg::string("new-owner"), terms::LEASE, terms::FENCE],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// The request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Transfer<'a> {
    pub holder: Holder<'a>,
    pub to: &'a [u8],
    /// `None` for the lease that the hold has.
    pub lease: Option<Lease>,
}

impl<'a> Transfer<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let mut args = Args::new(&SPEC, words);
        let (key, owner, to) = (args.key()?, args.owner()?, args.owner()?);
        let (mut lease, mut fence) = (None, None);
        while let Some(option) = args.next_option()? {
            match option {
                Token::Fence => fence = Some(args.fence()?),
                other => lease = Some(policy.lease(other, &mut args)?),
            }
        }
        Ok(Self { holder: Holder { key, owner, fence, with_info: false }, to, lease })
    }

    /// Hands the hold over; the new fence. A client of the new owner that waits for it is told if it `may_have` it.
    pub(crate) fn apply(
        &self,
        step: &mut Step,
        policy: &Policy,
        others: &mut dyn HoldSource,
        may_have: &mut dyn FnMut(WaiterId) -> bool,
    ) -> Result<Option<Fence>, LockError> {
        step.expire_and_grant();
        let Holder { owner, fence: named, .. } = self.holder;
        let Some(hold) = self.holder.find(step.lock) else {
            Location::of(step).refuse_if_lost(Some(step.lock), owner, named)?;
            return Ok(named.and_then(|fence| step.was_transferred(owner, fence, self.to)));
        };
        recovery::refuse(step.manager, step.clock.now)?;
        let (fence, lease) = (hold.fence, self.lease.unwrap_or_else(|| policy.again(hold.lease)));
        step.manager.confirm(fence);
        if self.to != self.holder.owner && step.lock.hold_of(self.to).is_some() {
            return Err(LockError::HoldsAlready);
        }
        let to = Owner::new(self.to).ok_or(LockError::OwnerLength)?;
        policy.refuse_cycle(|| step.find_cycle_after_transfer(fence, &to, others))?;
        let new = step.transfer(fence, to, lease, may_have);
        if let (Some(new), true) = (new, named.is_some()) {
            step.remember_transfer(owner, fence, self.to, new);
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let policy = Policy::default();
        let request = Transfer::parse(&[b"k", b"a", b"b", b"EX", b"2", b"FENCE", b"7"], &policy).unwrap();
        assert_eq!((request.to, request.lease), (&b"b"[..], Some(Lease::ms(2000))));
        assert_eq!(request.holder.fence, Fence::new(7));
        assert_eq!(Transfer::parse(&[b"k", b"a"], &policy), Err(LockError::Arity("lock.transfer")));
        assert_eq!(Transfer::parse(&[b"k", b"a", b""], &policy), Err(LockError::OwnerLength));
    }
}
