//! `LOCK.RELEASE key owner [FENCE n] [WITHINFO]`
//!
//! Replies 1, or 0 when the owner does not hold the lock (with that fence). Sent twice it does no harm: the
//! second is a 0, and whoever has the lock by then keeps it.

use super::args::{set_once, Args};
use super::spec::{Arg, Spec};
use crate::error::LockError;
use crate::primitive::{End, Fence, Turn};

pub const SPEC: Spec = Spec {
    name: "lock.release",
    summary: "Gives a lock back; the next in line has it in the same step.",
    flags: "write fast",
    arity: -3,
    acl: "write fast",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        Arg::int("fence").after("FENCE").optional(),
        Arg::word("with-info", "WITHINFO").optional(),
    ],
    ..Spec::WRITES_KEY
};

/// Who says that it holds which lock: what RELEASE and CHECK have to say, and RENEW begins with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Release<'a> {
    pub key: &'a [u8],
    pub owner: &'a [u8],
    pub fence: Option<Fence>,
    pub with_info: bool,
}

impl<'a> Release<'a> {
    /// Reads the words after the command's name.
    pub fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        Self::parse_as(SPEC.name, words)
    }

    /// The same for another command with the same words.
    pub fn parse_as(command: &'static str, words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(command, words);
        let key = args.key()?;
        let owner = args.owner()?;
        let (mut fence, mut info) = (None, None);
        while let Some(word) = args.next_word() {
            if word.eq_ignore_ascii_case(b"FENCE") {
                set_once(&mut fence, "FENCE", args.fence()?)?;
            } else if word.eq_ignore_ascii_case(b"WITHINFO") {
                set_once(&mut info, "WITHINFO", ())?;
            } else {
                return Err(LockError::UnknownOption(word.to_vec()));
            }
        }
        Ok(Self { key, owner, fence, with_info: info.is_some() })
    }

    /// Ends the owner's hold; its fence, if there was one.
    pub fn apply(&self, turn: &mut Turn) -> Option<Fence> {
        turn.settle();
        let held = turn.lock.hold_of(self.owner).map(|hold| hold.fence);
        let fence = held.filter(|fence| self.fence.is_none_or(|expected| expected == *fence))?;
        turn.end(fence, End::Released);
        Some(fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let request = Release::parse(&[b"k", b"o", b"fence", b"7", b"WITHINFO"]).unwrap();
        assert_eq!((request.fence, request.with_info), (Fence::new(7), true));
        assert_eq!(Release::parse(&[b"k"]), Err(LockError::Arity("lock.release")));
        assert_eq!(Release::parse(&[b"k", b"o", b"FENCE"]), Err(LockError::MissingValue("FENCE")));
        for n in [&b"0"[..], b"-1", b"9007199254740992", b"x"] {
            assert!(matches!(Release::parse(&[b"k", b"o", b"FENCE", n]), Err(LockError::Number { .. })));
        }
        assert!(Release::parse(&[b"k", b"o", b"FENCE", b"9007199254740991"]).is_ok());
        assert_eq!(Release::parse(&[b"k", b"o", b"PX", b"7"]), Err(LockError::UnknownOption(b"PX".to_vec())));
    }
}
