//! `LOCK.FENCE key fence [EX seconds]`
//!
//! A register for a resource that is kept outside this server: it admits a fence that is not older than the newest one
//! it has seen, and remembers it. The register is a string with that number in decimal, so that everybody can read,
//! copy and delete it; whatever else stands in a string is left alone. EX says how long to remember, counted from this
//! write; without it a register keeps the time to live that it has.

use super::args::{parse_fence, Args};
use super::spec::{Arg, Spec};
use super::token::Token;
use crate::error::LockError;
use crate::limits::REMEMBER_S_MAX;
use crate::primitive::Fence;

pub(crate) const SPEC: Spec = Spec {
    name: "lock.fence",
    summary: "Tells whether a fence is not older than the newest one seen, and remembers it: for resources kept elsewhere.",
    flags: "write deny-oom fast",
    arity: -3,
    acl: "write fast",
    args: &[Arg::KEY, Arg::int("fence"), Arg::int("seconds").after(Token::Ex).optional()],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// The request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admit<'a> {
    pub key: &'a [u8],
    pub fence: Fence,
    /// For how long to remember the fence, in ms; `None` to leave that as it is.
    pub remember_ms: Option<u64>,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// A newer fence has been seen.
    Stale,
    /// This one is the newest, and all that was asked to be remembered is.
    Known,
    /// It is to be written down.
    New,
}

impl<'a> Admit<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&SPEC, words);
        let (key, fence) = (args.key()?, args.fence()?);
        let mut remember_ms = None;
        while args.is_next(Token::Ex)? {
            let seconds = args.number("EX", 1, REMEMBER_S_MAX)?;
            remember_ms = Some(seconds.unsigned_abs().saturating_mul(1_000));
        }
        Ok(Self { key, fence, remember_ms })
    }

    /// Compares the fence with what the register holds.
    pub(crate) fn judge(&self, register: Option<&[u8]>) -> Result<Admission, LockError> {
        let newest = register.map(|text| parse_fence(text).ok_or(LockError::NoFence)).transpose()?;
        Ok(match newest {
            Some(newest) if self.fence < newest => Admission::Stale,
            Some(newest) if self.fence == newest && self.remember_ms.is_none() => Admission::Known,
            _ => Admission::New,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FENCE_MAX;

    fn admit(fence: u64, remember_ms: Option<u64>) -> Admit<'static> {
        Admit { key: b"k", fence: Fence::new(fence).unwrap(), remember_ms }
    }

    #[test]
    fn words() {
        assert_eq!(Admit::parse(&[b"k", b"7"]), Ok(admit(7, None)));
        assert_eq!(Admit::parse(&[b"k", b"7", b"ex", b"60"]), Ok(admit(7, Some(60_000))));
        let longest = REMEMBER_S_MAX.to_string();
        assert!(Admit::parse(&[b"k", b"7", b"EX", longest.as_bytes()]).is_ok());
        let beyond = (REMEMBER_S_MAX + 1).to_string();
        for seconds in [&b"0"[..], b"-1", b"x", beyond.as_bytes()] {
            assert!(matches!(Admit::parse(&[b"k", b"7", b"EX", seconds]), Err(LockError::Number { .. })));
        }
        assert!(matches!(Admit::parse(&[b"k", b"0"]), Err(LockError::Number { .. })));
        assert!(matches!(Admit::parse(&[b"k", b"7", b"PX", b"5"]), Err(LockError::UnknownOption(_))));
        assert_eq!(Admit::parse(&[b"k", b"7", b"EX", b"5", b"EX", b"5"]), Err(LockError::Repeated("EX")));
    }

    #[test]
    fn the_newest_fence_stays() {
        assert_eq!(admit(1, None).judge(None), Ok(Admission::New));
        assert_eq!(admit(6, None).judge(Some(b"7")), Ok(Admission::Stale));
        assert_eq!(admit(7, None).judge(Some(b"7")), Ok(Admission::Known));
        assert_eq!(admit(8, None).judge(Some(b"7")), Ok(Admission::New));
        // By number, and not by letters.
        assert_eq!(admit(10, None).judge(Some(b"9")), Ok(Admission::New));
        assert_eq!(admit(9, None).judge(Some(b"10")), Ok(Admission::Stale));
    }

    #[test]
    fn a_new_time_to_remember_is_written_down_unless_the_fence_is_stale() {
        assert_eq!(admit(7, Some(1)).judge(Some(b"7")), Ok(Admission::New));
        assert_eq!(admit(6, Some(1)).judge(Some(b"7")), Ok(Admission::Stale));
    }

    #[test]
    fn a_register_holds_a_fence_and_nothing_else() {
        let largest = FENCE_MAX.to_string();
        assert_eq!(admit(FENCE_MAX, None).judge(Some(largest.as_bytes())), Ok(Admission::Known));
        let beyond = (FENCE_MAX + 1).to_string();
        for text in [&b""[..], b"0", b"-7", b"07", b"7 ", b"7.0", b"seven", b"\xff", beyond.as_bytes()] {
            assert_eq!(admit(7, None).judge(Some(text)), Err(LockError::NoFence), "{text:?}");
        }
    }
}
