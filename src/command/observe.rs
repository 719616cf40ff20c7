//! Waiting without taking: `LOCK.AWAIT`.
//!
//! - `LOCK.AWAIT key FREE [BLOCK ms]`: until nobody holds the lock and it is not in cooldown.
//! - `LOCK.AWAIT key CHANGED [FENCE n] [BLOCK ms]`: until the newest hold has another fence than this, or there is none;
//!   without one, than it has now.
//! - `LOCK.AWAIT key owner WANTED [BLOCK ms]`: for a holder, until somebody wants what it has.
//!
//! Replies 1 when it is so, and nil when the time is over. Without BLOCK it tells whether it is so now. It only reads,
//! stands in no queue and is in nobody's way.

use super::args::Args;
use super::policy::{Policy, Wait};
use super::spec::{Arg, Spec};
use super::terms;
use super::token::Token;
use crate::error::LockError;
use crate::primitive::condition::{Condition, View};
use crate::primitive::{Fence, Lock};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.await",
    summary: "Waits until a lock is free, or has changed hands, or until somebody wants it from its owner; takes nothing.",
    flags: "readonly",
    arity: -3,
    acl: "read slow blocking",
    complexity: "O(N) with N holds of the lock, nearly always one",
    args: &[
        Arg::KEY,
        Arg::one_of(
            "condition",
            &[
                Arg::word("free", Token::Free),
                Arg::block("changed", &[Arg::word("changed", Token::Changed), terms::FENCE]),
                Arg::block("wanted", &[Arg::string("owner"), Arg::word("wanted", Token::Wanted)]),
            ],
        ),
        terms::BLOCK,
    ],
    ..Spec::READS_KEY
}
.with_grammar();

/// The request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observe<'a> {
    pub key: &'a [u8],
    pub what: What<'a>,
    pub wait: Option<Wait>,
}

/// The thing to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    Free,
    Changed(Option<Fence>),
    /// Somebody wants what this owner has.
    Wanted(&'a [u8]),
}

impl<'a> Observe<'a> {
    /// Reads the words after the command's name. The word after FREE, CHANGED or an owner says which of them it is,
    /// so an owner can have any name.
    pub(crate) fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let mut args = Args::new(&SPEC, words);
        let key = args.key()?;
        let wanted =
            words.get(2).and_then(|word| SPEC.option(word)).filter(|(token, _)| *token == Token::Wanted);
        let owner = wanted.map(|_| args.owner()).transpose()?;
        let mut what = match (owner, args.next_option()?) {
            (Some(owner), _) => What::Wanted(owner),
            (None, Some(Token::Free)) => What::Free,
            (None, Some(Token::Changed)) => What::Changed(None),
            (None, Some(other)) => return Err(Args::unread(other)),
            (None, None) => return Err(LockError::Arity(SPEC.name)),
        };
        let mut wait = None;
        while let Some(option) = args.next_option()? {
            match (&mut what, option) {
                (_, Token::Block) => wait = Some(Wait::block(policy.block_ms(&mut args)?)),
                (What::Changed(fence), Token::Fence) => *fence = Some(args.fence()?),
                (_, other) => return Err(Args::unread(other)),
            }
        }
        if what == What::Changed(None) && wait.is_none() {
            return Err(LockError::ChangedSinceWhen);
        }
        Ok(Self { key, what, wait })
    }

    /// The condition that the lock has to meet, which is seen like this by now.
    pub(crate) fn condition(&self, lock: Option<&Lock>, view: &View) -> Result<Condition, LockError> {
        Ok(match self.what {
            What::Free => Condition::Free,
            What::Changed(fence) => Condition::Changed(fence.or_else(|| view.newest())),
            What::Wanted(owner) => {
                let hold = lock.and_then(|lock| lock.hold_of(owner));
                Condition::Wanted(hold.ok_or(LockError::NotHeld)?.fence)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(words: &'a [&'a [u8]]) -> Result<Observe<'a>, LockError> {
        Observe::parse(words, &Policy::default())
    }

    fn what<'a>(words: &'a [&'a [u8]]) -> Result<(What<'a>, Option<Wait>), LockError> {
        parse(words).map(|request| (request.what, request.wait))
    }

    #[test]
    fn three_forms() {
        let (fence, wait) = (Fence::new(7), Some(Wait::block(5)));
        assert_eq!(what(&[b"k", b"free"]), Ok((What::Free, None)));
        assert_eq!(what(&[b"k", b"FREE", b"BLOCK", b"5"]), Ok((What::Free, wait)));
        assert_eq!(what(&[b"k", b"changed", b"fence", b"7"]), Ok((What::Changed(fence), None)));
        assert_eq!(
            what(&[b"k", b"CHANGED", b"BLOCK", b"5", b"FENCE", b"7"]),
            Ok((What::Changed(fence), wait))
        );
        assert_eq!(what(&[b"k", b"CHANGED", b"BLOCK", b"5"]), Ok((What::Changed(None), wait)));
        assert_eq!(what(&[b"k", b"o", b"wanted", b"BLOCK", b"5"]), Ok((What::Wanted(b"o"), wait)));
    }

    #[test]
    fn an_owner_can_have_the_name_of_an_option() {
        for owner in [&b"FREE"[..], b"CHANGED", b"WANTED", b"BLOCK"] {
            assert_eq!(what(&[b"k", owner, b"WANTED"]), Ok((What::Wanted(owner), None)));
        }
    }

    #[test]
    fn what_makes_no_sense() {
        let unknown = |word: &[u8]| Err(LockError::UnknownOption(word.to_vec()));
        assert_eq!(what(&[b"k"]), Err(LockError::Arity("lock.await")));
        assert_eq!(what(&[b"k", b"o"]), unknown(b"o"));
        assert_eq!(what(&[b"k", b"WANTED"]), unknown(b"WANTED"));
        assert_eq!(what(&[b"k", b"FREE", b"FENCE", b"7"]), unknown(b"FENCE"));
        assert_eq!(what(&[b"k", b"o", b"WANTED", b"FENCE", b"7"]), unknown(b"FENCE"));
        assert_eq!(what(&[b"k", b"", b"WANTED"]), Err(LockError::OwnerLength));
        assert_eq!(what(&[b"k", b"CHANGED"]), Err(LockError::ChangedSinceWhen));
        assert_eq!(what(&[b"k", b"CHANGED", b"FENCE"]), Err(LockError::MissingValue("FENCE")));
        for option in [&b"BLOCK"[..], b"FENCE"] {
            let words = [&b"k"[..], b"CHANGED", option, b"7", option, b"7"];
            assert!(matches!(parse(&words), Err(LockError::Repeated(_))));
        }
        for ms in [&b"-1"[..], b"x", b"86400001", b"9223372036854775808"] {
            assert!(matches!(what(&[b"k", b"FREE", b"BLOCK", ms]), Err(LockError::Number { .. })));
        }
    }
}
