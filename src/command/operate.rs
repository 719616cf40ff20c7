//! Commands of operators on locks of others: `LOCK.BREAK`, `LOCK.STEAL`, `LOCK.CANCEL`.
//!
//! - `LOCK.BREAK key [OWNER owner] [REASON text]` ends all holds, or those of one owner; replies how many. The
//!   waiters come next.
//! - `LOCK.STEAL key owner [lease] [mode] [MAXHOLD ms] [MINHOLD ms] [NOTE text]` ends all holds and gives the lock to this owner, before all
//!   who wait; replies the new fence.
//! - `LOCK.CANCEL key owner` ends an owner's wait with nil; replies 1, or 0 when it does not wait.
//!
//! They are commands of their own, and not options, so that an ACL can keep them from users.

use super::args::Args;
use super::policy::Policy;
use super::recovery;
use super::spec::{Arg, Spec};
use super::terms::{self, Terms};
use super::token::Token;
use std::fmt;

use crate::error::{LockError, Quoted};
use crate::limits::LOSERS_SHOWN_MAX;
use crate::primitive::effect::WaitEnd;
use crate::primitive::{Fence, Hold, Locks, Owner, Step, WaiterId};

pub(crate) const BREAK: Spec = Spec {
    name: "lock.break",
    summary: "Ends holds of others, whatever their leases say; replies how many. For operators.",
    flags: "write admin",
    arity: -2,
    acl: "write slow admin dangerous",
    complexity: "O(N) with N holds",
    args: &[
        Arg::KEY,
        Arg::string("owner").after(Token::Owner).optional(),
        Arg::string("text").after(Token::Reason).optional(),
    ],
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const STEAL: Spec = Spec {
    name: "lock.steal",
    summary:
        "Takes a lock away from whoever has it, before all who wait; replies the new fence. For operators.",
    flags: "write admin deny-oom",
    arity: -3,
    acl: "write slow admin dangerous",
    complexity: "O(N) with N holds",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        terms::LEASE,
        terms::MODE,
        terms::BOUNDS[1],
        terms::BOUNDS[2],
        terms::NOTE,
    ],
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const CANCEL: Spec = Spec {
    name: "lock.cancel",
    summary: "Ends an owner's wait for a lock with nil.",
    flags: "write fast",
    arity: 3,
    acl: "write fast",
    complexity: "O(log N) with N waiters",
    args: &[Arg::KEY, Arg::string("owner")],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// Whose holds were ended, for the log: how many, and the names of the first ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Losers {
    pub count: i64,
    names: Vec<Owner>,
}

impl Losers {
    fn add(&mut self, hold: &Hold) {
        self.count = self.count.saturating_add(1);
        if self.names.len() < LOSERS_SHOWN_MAX {
            self.names.push(hold.owner.clone());
        }
    }
}

impl fmt::Display for Losers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.names.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { "," }, Quoted(name.as_bytes()))?;
        }
        match self.names.len() {
            0 => f.write_str("''"),
            LOSERS_SHOWN_MAX if self.count > LOSERS_SHOWN_MAX as i64 => f.write_str(",..."),
            _ => Ok(()),
        }
    }
}

/// `LOCK.BREAK`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Break<'a> {
    pub key: &'a [u8],
    /// `None` for all.
    pub owner: Option<&'a [u8]>,
    /// For the log.
    pub reason: &'a [u8],
}

impl<'a> Break<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&BREAK, words);
        let key = args.key()?;
        let (mut owner, mut reason) = (None, &b""[..]);
        while let Some(option) = args.next_option()? {
            match option {
                Token::Owner => owner = Some(args.owner_after("OWNER")?),
                Token::Reason => reason = args.text("REASON")?,
                other => return Err(Args::unread(other)),
            }
        }
        Ok(Self { key, owner, reason })
    }

    /// Ends the holds; whose they were.
    pub(crate) fn apply(&self, step: &mut Step) -> Losers {
        step.expire_and_grant();
        let mut losers = Losers::default();
        if self.owner.is_none() {
            step.keep_all_away();
        }
        step.break_holds(|hold| {
            let chosen = self.owner.is_none_or(|owner| owner == hold.owner.as_bytes());
            if chosen {
                losers.add(hold);
            }
            chosen
        });
        losers
    }
}

/// `LOCK.STEAL`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Steal<'a> {
    pub key: &'a [u8],
    pub owner: &'a [u8],
    pub terms: Terms<'a>,
}

impl<'a> Steal<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let mut args = Args::new(&STEAL, words);
        let key = args.new_key()?;
        let owner = args.owner()?;
        let terms = Terms::parse(&mut args, policy)?;
        Ok(Self { key, owner, terms })
    }

    /// Takes the lock; whose it was. A client of the owner that waits for it is told if it `may_have` it.
    pub(crate) fn apply(
        &self,
        step: &mut Step,
        policy: &Policy,
        may_have: &mut dyn FnMut(WaiterId) -> bool,
    ) -> Result<(Fence, Losers), LockError> {
        step.expire_and_grant();
        recovery::refuse(step.manager, step.clock.now)?;
        let request = self.terms.ask(self.owner, 1, policy)?;
        let mut losers = Losers::default();
        step.lock.holds().iter().for_each(|hold| losers.add(hold));
        Ok((step.steal(request, may_have), losers))
    }
}

/// Reads the words of `LOCK.CANCEL`: key and owner.
pub(crate) fn parse_cancel<'a>(words: &'a [&'a [u8]]) -> Result<(&'a [u8], &'a [u8]), LockError> {
    let mut args = Args::new(&CANCEL, words);
    let (key, owner) = (args.key()?, args.owner()?);
    args.finish()?;
    Ok((key, owner))
}

/// Ends the owner's wait. Returns whether there was one.
pub(crate) fn cancel(owner: &[u8], step: &mut Step) -> bool {
    step.expire_and_grant();
    cancel_wait(owner, step)
}

/// The same on a lock whose due holds have ended.
pub(crate) fn cancel_wait(owner: &[u8], step: &mut Step) -> bool {
    let Some(id) = step.manager.waiters.waiter_of(step.db, step.key, owner) else { return false };
    step.end_wait(id, WaitEnd::Cancelled);
    step.grant_waiters();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let request = Break::parse(&[b"k", b"reason", b"stuck", b"OWNER", b"o"]).unwrap();
        assert_eq!((request.owner, request.reason), (Some(&b"o"[..]), &b"stuck"[..]));
        assert_eq!(Break::parse(&[b"k", b"OWNER"]), Err(LockError::MissingValue("OWNER")));
        assert_eq!(Break::parse(&[b"k", b"REASON"]), Err(LockError::MissingValue("REASON")));
        let policy = Policy::default();
        assert!(Steal::parse(&[b"k", b"o", b"PX", b"5", b"SHARED", b"NOTE", b"n"], &policy).is_ok());
        for words in [&[&b"k"[..], b"o", b"BLOCK", b"0"][..], &[b"k", b"o", b"FENCE", b"7"]] {
            assert!(matches!(Steal::parse(words, &policy), Err(LockError::UnknownOption(_))));
        }
        assert_eq!(parse_cancel(&[b"k", b"o", b"x"]), Err(LockError::Arity("lock.cancel")));
    }
}
