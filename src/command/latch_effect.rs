//! The internal commands for latches, which go to the AOF and to replicas beside those for locks. Each states a result:
//! absolute, safe to apply twice, decided without a clock.
//!
//! - `LATCH._SET key size left expires-unix-ms`: this latch stands, and nobody has counted it down under an id. -1 is
//!   never.
//! - `LATCH._DOWN key left [id]`: no more than so many are left, and this id has counted.

use std::ffi::CStr;

use super::args::{parse_i64, Args};
use super::effect::stream::{Word, Words};
use super::spec::{Arg, Spec};
use crate::error::LockError;
use crate::primitive::latch::Latch;

pub(crate) const SET: Spec = Spec {
    name: "latch._set",
    summary: "Internal: states that a latch stands. For the AOF and for replicas only.",
    flags: "write admin",
    arity: 5,
    acl: "admin dangerous write",
    args: &[Arg::KEY, Arg::int("size"), Arg::int("left"), Arg::int("expires-unix-ms")],
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const DOWN: Spec = Spec {
    name: "latch._down",
    summary: "Internal: states how far a latch has been counted down. For the AOF and for replicas only.",
    flags: "write admin",
    arity: -3,
    acl: "admin dangerous write",
    complexity: "O(log N) with N ids",
    args: &[Arg::KEY, Arg::int("left"), Arg::string("id").optional()],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// A latch as it stands in the stream, after the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetEffect {
    pub latch: Latch,
    /// ms since 1970; `None` for never.
    pub expires_unix_ms: Option<i64>,
}

impl SetEffect {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &[&[u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&SET, words);
        args.key()?;
        let (size, left, expires) = (number(&mut args)?, number(&mut args)?, number(&mut args)?);
        args.finish()?;
        let fields = || {
            let latch = Latch::counted_to(u32::try_from(size).ok()?, u32::try_from(left).ok()?)?;
            let expires_unix_ms = Some(expires).filter(|at| *at != -1);
            expires_unix_ms.is_none_or(|at| at >= 0).then_some(Self { latch, expires_unix_ms })
        };
        fields().ok_or(LockError::BadEffect)
    }

    /// The command, and its words after the key.
    pub(crate) fn command(&self) -> (&'static CStr, Words<'static>) {
        Self::command_for(&self.latch, self.expires_unix_ms)
    }

    /// The same for a latch that is only borrowed. Its ids go as counts, each on its own.
    pub(crate) fn command_for(
        latch: &Latch,
        expires_unix_ms: Option<i64>,
    ) -> (&'static CStr, Words<'static>) {
        let numbers = [i64::from(latch.size()), i64::from(latch.left()), expires_unix_ms.unwrap_or(-1)];
        (c"LATCH._SET", numbers.into_iter().map(Word::Number).collect())
    }
}

/// How far a latch was counted, as it stands in the stream, after the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DownEffect<'a> {
    pub left: u32,
    pub id: Option<&'a [u8]>,
}

impl<'a> DownEffect<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&DOWN, words);
        args.key()?;
        let left = u32::try_from(number(&mut args)?).map_err(|_| LockError::BadEffect)?;
        let id = args.optional_id().map_err(|_| LockError::BadEffect)?;
        args.finish()?;
        Ok(Self { left, id })
    }

    /// The command, and its words after the key.
    pub(crate) fn command(&self) -> (&'static CStr, Words<'a>) {
        let left = Word::Number(i64::from(self.left));
        (c"LATCH._DOWN", [left].into_iter().chain(self.id.map(Word::Text)).collect())
    }

    /// Makes it so. Returns whether that changed anything.
    pub(crate) fn apply(&self, latch: &mut Latch) -> Result<bool, LockError> {
        latch.force(self.left, self.id).ok_or(LockError::BadEffect)
    }
}

fn number(args: &mut Args) -> Result<i64, LockError> {
    parse_i64(args.required()?).ok_or(LockError::BadEffect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The words of a command as a replica or a file gives them back: the key before them.
    fn in_stream(words: &Words) -> Vec<Vec<u8>> {
        [b"k".to_vec()].into_iter().chain(words.iter().map(Word::bytes)).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            (size, left) in (1..=1_000_000_u32).prop_flat_map(|size| (Just(size), 0..=size)),
            expires_unix_ms in proptest::option::of(0..i64::MAX),
            id in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..=64)),
        ) {
            let set = SetEffect { latch: Latch::counted_to(size, left).unwrap(), expires_unix_ms };
            let (name, words) = set.command();
            prop_assert_eq!(name.to_str().unwrap().to_lowercase(), SET.name);
            let words = in_stream(&words);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(SetEffect::parse(&words), Ok(set.clone()));

            let down = DownEffect { left, id: id.as_deref() };
            let (name, words) = down.command();
            prop_assert_eq!(name.to_str().unwrap().to_lowercase(), DOWN.name);
            let words = in_stream(&words);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(DownEffect::parse(&words), Ok(down));
        }
    }

    #[test]
    fn words() {
        let set = |size: &[u8], left: &[u8], expires: &[u8]| {
            SetEffect::parse(&[b"k", size, left, expires])
                .map(|effect| (effect.latch.size(), effect.latch.left(), effect.expires_unix_ms))
        };
        assert_eq!(set(b"3", b"3", b"-1"), Ok((3, 3, None)));
        assert_eq!(set(b"1000000", b"0", b"17"), Ok((1_000_000, 0, Some(17))));
        let bad: [[&[u8]; 3]; 8] = [
            [b"0", b"0", b"-1"],
            [b"1000001", b"0", b"-1"],
            [b"3", b"4", b"-1"],
            [b"3", b"-1", b"-1"],
            [b"3", b"3", b"-2"],
            [b"3", b"3", b"x"],
            [b"4294967299", b"3", b"-1"],
            [b"03", b"3", b"-1"],
        ];
        for [size, left, expires] in bad {
            assert_eq!(set(size, left, expires), Err(LockError::BadEffect));
        }

        assert_eq!(DownEffect::parse(&[b"k", b"2"]), Ok(DownEffect { left: 2, id: None }));
        assert_eq!(DownEffect::parse(&[b"k", b"2", b"i"]), Ok(DownEffect { left: 2, id: Some(b"i") }));
        assert_eq!(DownEffect::parse(&[b"k", b"2", b"i", b"j"]), Err(LockError::Arity("latch._down")));
        let bad: [&[&[u8]]; 4] =
            [&[b"k", b"-1"], &[b"k", b"4294967296"], &[b"k", b"2", b""], &[b"k", b"2", &[b'i'; 65]]];
        for words in bad {
            assert_eq!(DownEffect::parse(words), Err(LockError::BadEffect));
        }
        let mut latch = Latch::counted_to(3, 2).unwrap();
        assert_eq!(DownEffect { left: 1, id: Some(b"i") }.apply(&mut latch), Ok(true));
        assert_eq!(DownEffect { left: 1, id: Some(b"i") }.apply(&mut latch), Ok(false));
    }
}
