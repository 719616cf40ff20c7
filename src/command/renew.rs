//! `LOCK.RENEW key owner [PX ms | EX s | NOEXPIRE] [FENCE n] [SHARED | LIMIT n [PERMITS k]] [TIED ms] [NOTE text]
//! [WITHINFO]`
//!
//! Gives the hold a new lease counted from now; without a time, the lease it has. It sets and never adds, so it
//! can shorten, and it lasts no longer than MAXHOLD lets it. With TIED the hold is tied to this connection from now on.
//! NOTE gives it another note. Replies the ms left, -1 without expiry, 0 when the owner does not hold the lock.
//! In the recovery window after a failover, a hold of that fence that this server has never heard of stands again, in the
//! mode that is named; without one, exclusive. At any other time the mode changes nothing.

use super::args::Args;
use super::holder::Holder;
use super::policy::Policy;
use super::spec::{Arg, Spec};
use super::terms::{self, ModeWords};
use super::token::Token;
use crate::error::LockError;
use crate::primitive::bounds::Tie;
use crate::primitive::waiter::AcquireRequest;
use crate::primitive::{Lease, Owner, Permits, Step};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.renew",
    summary: "Gives a held lock a new lease, counted from now.",
    flags: "write fast",
    arity: -3,
    acl: "write fast",
    complexity: "O(N) with N holds of the lock, nearly always one",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        terms::LEASE,
        terms::FENCE,
        terms::MODE,
        terms::TIED,
        terms::NOTE,
        terms::WITHINFO,
    ],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// The request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Renew<'a> {
    pub holder: Holder<'a>,
    /// `None` for the lease that the hold has.
    pub lease: Option<Lease>,
    /// The permits that the hold has, if this server does not know it.
    pub permits: Permits,
    /// `None` for the tie that the hold has, if it has one.
    pub tie: Option<Tie>,
    /// `None` for the note that the hold has, if it has one.
    pub note: Option<&'a [u8]>,
}

impl<'a> Renew<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let (mut lease, mut mode, mut tie, mut note) = (None, ModeWords::default(), None, None);
        let holder = Holder::parse(&SPEC, words, |option, args: &mut Args<'a>| {
            match option {
                Token::Tied => tie = Some(policy.tie(args)?),
                Token::Note => note = Some(args.note()?),
                Token::Px | Token::Ex | Token::NoExpire => lease = Some(policy.lease(option, args)?),
                other => mode.read(other, args)?,
            }
            Ok(())
        })?;
        Ok(Self { holder, lease, permits: mode.finish()?, tie, note })
    }

    /// Renews the owner's hold; what is left of it, 0 when there is none.
    pub(crate) fn apply(&self, step: &mut Step, policy: &Policy) -> i64 {
        step.expire_and_grant();
        if step.manager.recovery.is_open() {
            self.reinstate(step, policy);
        }
        let Some(hold) = self.holder.find(step.lock) else { return 0 };
        let (fence, lease) = (hold.fence, self.lease.unwrap_or_else(|| policy.again(hold.lease)));
        step.confirm(fence);
        step.manager.stats.renewed.up();
        if let Some(tie) = self.tie {
            step.tie(self.holder.owner, tie);
        }
        if let Some(note) = self.note {
            step.set_note(self.holder.owner, note);
        }
        step.renew(self.holder.owner, lease)
    }

    /// Brings the hold back if a failover has lost it.
    #[cold]
    fn reinstate(&self, step: &mut Step, policy: &Policy) {
        let (Some(fence), Some(owner)) = (self.holder.fence, Owner::new(self.holder.owner)) else { return };
        let lease = self.lease.unwrap_or(Lease::ms(policy.default_lease_ms.unsigned_abs()));
        let (permits, extra, span) = (self.permits, None, None);
        step.reinstate(AcquireRequest { owner, permits, lease, extra, span }, fence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Fence;

    #[test]
    fn words() {
        let policy = Policy::default();
        let request = Renew::parse(&[b"k", b"o", b"NOEXPIRE", b"FENCE", b"7"], &policy).unwrap();
        assert_eq!((request.lease, request.holder.fence), (Some(Lease::NEVER), Fence::new(7)));
        let twice = Renew::parse(&[b"k", b"o", b"PX", b"7", b"NOEXPIRE"], &policy);
        assert_eq!(twice, Err(LockError::Repeated("NOEXPIRE")));
        let blocking = Renew::parse(&[b"k", b"o", b"BLOCK", b"7"], &policy);
        assert_eq!(blocking, Err(LockError::UnknownOption(b"BLOCK".to_vec())));
    }
}
