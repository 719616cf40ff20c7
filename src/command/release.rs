//! `LOCK.RELEASE key owner [FENCE n] [REENTRANT id | ALL | PERMITS k] [AFTER ms] [CANCEL] [WITHINFO]`
//!
//! Replies 1, or 0 when the owner does not hold the lock (with that fence, under that id). Sent twice it does no
//! harm: whoever has the lock by then keeps it. With the fence the second reply is that of the first, without it a 0.
//! A lock that was taken under ids is given back under them, and ends with the last; ALL gives it back at once.
//! PERMITS gives back some of a semaphore's permits. AFTER gives the lock a cooldown. CANCEL ends
//! the owner's wait too: a client that gives up sends this, whether it has got the lock meanwhile or not.

use super::args::Args;
use super::holder::Holder;
use super::operate::cancel_wait;
use super::report::Location;
use super::spec::{Arg, Spec};
use super::terms;
use super::token::Token;
use crate::error::LockError;
use crate::limits::{LEASE_MS_MAX, PERMITS_MAX};
use crate::primitive::permits::ALL;
use crate::primitive::reentry::Exit;
use crate::primitive::{ledger, Fence, Hold, HoldEnd, Lease, Step};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.release",
    summary: "Gives a lock back; the next in line has it in the same step.",
    flags: "write fast",
    arity: -3,
    acl: "write fast",
    complexity: "O(N) with N holds of the lock, nearly always one",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        terms::FENCE,
        Arg::one_of(
            "what",
            &[
                Arg::string("id").after(Token::Reentrant),
                Arg::word("all", Token::All),
                Arg::int("permits").after(Token::Permits),
            ],
        )
        .optional(),
        Arg::int("cooldown-milliseconds").after(Token::After).optional(),
        terms::CANCEL,
        terms::WITHINFO,
    ],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// The part that the owner gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// The entry under this id; the empty id if none was named.
    Entry(&'a [u8]),
    /// Everything.
    All,
    /// So many permits of a semaphore.
    Permits(u32),
}

impl<'a> What<'a> {
    /// Whether nothing is left of a hold without ids.
    const fn is_whole(self) -> bool {
        matches!(self, Self::All | Self::Entry(b""))
    }

    /// The id under which the hold is left; `None` if it is not, or under all.
    fn entry(self) -> Option<&'a [u8]> {
        match self {
            Self::Entry(id) => Some(id),
            Self::All | Self::Permits(_) => None,
        }
    }
}

/// The request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Release<'a> {
    pub holder: Holder<'a>,
    pub what: What<'a>,
    /// The cooldown of the lock, if the hold ends with this.
    pub after: Option<Lease>,
    /// Whether the owner's wait ends too.
    pub cancels: bool,
}

/// The outcome of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// The owner does not hold the lock, or not under that id.
    NotHeld,
    /// The same, and its wait has been ended.
    Cancelled,
    /// The owner is still in under other ids.
    StillHeld(Fence),
    Ended(Fence),
    /// The owner has released the hold of that fence before.
    Before(ledger::Ended),
}

impl<'a> Release<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let (mut what, mut after, mut cancels) = (What::Entry(b""), None, false);
        let holder = Holder::parse(&SPEC, words, |option, args: &mut Args<'a>| {
            match option {
                Token::Reentrant => what = What::Entry(args.entry()?),
                Token::All => what = What::All,
                Token::Permits => what = What::Permits(args.count("PERMITS", PERMITS_MAX)?),
                Token::After => {
                    let ms = args.number("AFTER", 1, i64::from(LEASE_MS_MAX))?;
                    after = Some(Lease::ms(ms.unsigned_abs()));
                }
                Token::Cancel => cancels = true,
                other => return Err(Args::unread(other)),
            }
            Ok(())
        })?;
        Ok(Self { holder, what, after, cancels })
    }

    /// Ends the owner's hold, or one of its re-entries. A release that named a fence is remembered, so that the same
    /// request again has the same reply.
    pub(crate) fn apply(&self, step: &mut Step) -> Result<Released, LockError> {
        step.expire_and_grant();
        let Holder { owner, fence: named, .. } = self.holder;
        if self.after.is_some() || !self.what.is_whole() {
            Location::of(step).refuse_if_lost(Some(step.lock), owner, named)?;
        }
        let hold = self.holder.find(step.lock);
        let fence = hold.map(|hold| hold.fence);
        let what = self.what_of(hold)?;
        let is_in = hold.is_none_or(|hold| what != What::Entry(b"") || hold.entries().has(b""));
        let had_left = named.filter(|_| !is_in).is_some_and(|fence| step.has_left(owner, fence, b""));
        if !is_in && !had_left {
            return Err(LockError::Reentrant);
        }
        // Before the hold ends, or its end would give the lock to the wait.
        let cancelled = self.cancels && cancel_wait(owner, step);
        let nothing = if cancelled { Released::Cancelled } else { Released::NotHeld };
        let Some(fence) = fence else {
            if let Some(lost) = named.filter(|fence| step.release_lost(owner, *fence)) {
                return Ok(Released::Ended(lost));
            }
            let before = named.and_then(|fence| step.released_before(owner, fence));
            return Ok(before.map_or(nothing, Released::Before));
        };
        step.manager.confirm(fence);
        if let What::Permits(permits) = what {
            step.confirm(fence);
            step.give_back(fence, permits);
            return Ok(Released::StillHeld(fence));
        }
        if let Some(cooldown) = self.after {
            step.cool_down(fence, what.entry(), cooldown);
        }
        let (id, exit) = match what {
            What::Entry(id) => (id, step.exit(fence, id)),
            What::All | What::Permits(_) => {
                step.end(fence, HoldEnd::Released);
                (&b""[..], Exit::Last)
            }
        };
        if named.is_some() {
            step.remember_exit(owner, fence, id, exit);
        }
        match exit {
            Exit::Unknown if named.is_some() && step.has_left(owner, fence, id) => {
                Ok(Released::StillHeld(fence))
            }
            Exit::Unknown => Ok(nothing),
            Exit::StillHeld => Ok(Released::StillHeld(fence)),
            Exit::Last => Ok(Released::Ended(fence)),
        }
    }

    /// The part of this hold that is given back: all permits of a semaphore are the hold itself.
    fn what_of(&self, hold: Option<&Hold>) -> Result<What<'a>, LockError> {
        let (What::Permits(permits), Some(hold)) = (self.what, hold) else { return Ok(self.what) };
        let has = hold.permits;
        if has.limit == ALL {
            Err(LockError::NoPart { is: has.mode() })
        } else if permits > has.count {
            Err(LockError::Number { what: "PERMITS", min: 1, max: i64::from(has.count) })
        } else if permits == has.count {
            Ok(What::Entry(b""))
        } else {
            Ok(self.what)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let request = Release::parse(&[b"k", b"o", b"fence", b"7", b"WITHINFO"]).unwrap();
        assert_eq!((request.holder.fence, request.holder.with_info), (Fence::new(7), true));
        assert_eq!(request.what, What::Entry(b""));
        let what = |request: Result<Release<'static>, LockError>| request.map(|request| request.what);
        assert_eq!(what(Release::parse(&[b"k", b"o", b"reentrant", b"x"])), Ok(What::Entry(b"x")));
        assert_eq!(what(Release::parse(&[b"k", b"o", b"All"])), Ok(What::All));
        let both = Release::parse(&[b"k", b"o", b"ALL", b"REENTRANT", b"x"]);
        assert_eq!(what(both), Err(LockError::Repeated("REENTRANT")));
        let empty = Release::parse(&[b"k", b"o", b"REENTRANT"]);
        assert_eq!(what(empty), Err(LockError::MissingValue("REENTRANT")));
        let unknown = Release::parse(&[b"k", b"o", b"PX", b"7"]);
        assert_eq!(what(unknown), Err(LockError::UnknownOption(b"PX".to_vec())));
    }
}
