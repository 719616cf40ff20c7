//! `LATCH.SET key n [PX milliseconds]`, `LATCH.DOWN key [id]`, `LATCH.AWAIT key [BLOCK milliseconds]`, `LATCH.INFO key`
//!
//! A gate that opens when n parties have counted. Each may set it, as only the first is heard, and under an id each counts
//! once: so every request can be sent again, and the parties may start in any order.

use super::args::Args;
use super::policy::{Policy, Wait};
use super::spec::{Arg, Spec};
use super::terms;
use super::token::Token;
use crate::error::LockError;
use crate::limits::{LATCH_IDS_MAX, LATCH_LIFE_MS_MAX, LATCH_SIZE_MAX};
use crate::primitive::latch::Latch;

pub(crate) const SET: Spec = Spec {
    name: "latch.set",
    summary: "Sets up a count-down latch, unless there is one already.",
    flags: "write deny-oom fast",
    arity: -3,
    acl: "write fast",
    args: &[Arg::KEY, Arg::int("count"), Arg::int("milliseconds").after(Token::Px).optional()],
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const DOWN: Spec = Spec {
    name: "latch.down",
    summary: "Counts a latch down by one, once for each id; replies how many are left.",
    flags: "write fast",
    arity: -2,
    acl: "write fast",
    complexity: "O(log N) with N ids",
    args: &[Arg::KEY, Arg::string("id").optional()],
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const AWAIT: Spec = Spec {
    name: "latch.await",
    summary: "Waits until a latch has been counted down; replies nil if it has not.",
    flags: "readonly",
    arity: -2,
    acl: "read slow blocking",
    args: &[Arg::KEY, terms::BLOCK],
    ..Spec::READS_KEY
}
.with_grammar();

pub(crate) const INFO: Spec = Spec {
    name: "latch.info",
    summary: "Shows a latch: how many it was set to, how many are left, who has counted.",
    flags: "readonly",
    arity: 2,
    acl: "read",
    complexity: "O(N) with N ids that are shown, at most 1000",
    args: &[Arg::KEY],
    ..Spec::READS_KEY
}
.with_grammar();

/// A request to set a latch up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetLatch<'a> {
    pub key: &'a [u8],
    pub size: u32,
    /// How long the latch shall live; `None` for ever.
    pub life_ms: Option<i64>,
}

impl<'a> SetLatch<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&SET, words);
        let key = args.new_key()?;
        let size = args.count("count", LATCH_SIZE_MAX)?;
        let mut life_ms = None;
        while args.is_next(Token::Px)? {
            life_ms = Some(args.number("PX", 1, LATCH_LIFE_MS_MAX)?);
        }
        Ok(Self { key, size, life_ms })
    }

    /// The new latch. Returns `None` if there is one.
    pub(crate) fn apply(&self, there: Option<&Latch>) -> Option<Latch> {
        if there.is_some() {
            return None;
        }
        Latch::new(self.size)
    }
}

/// A request to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CountDown<'a> {
    pub key: &'a [u8],
    pub id: Option<&'a [u8]>,
}

impl<'a> CountDown<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&DOWN, words);
        let key = args.key()?;
        let id = args.optional_id()?;
        args.finish()?;
        Ok(Self { key, id })
    }

    /// Counts. Returns how many are left, and whether that is news. A client that has counted, or leaves no id, is
    /// answered even when the server is out of memory; whether it is, is asked only where it matters.
    pub(crate) fn apply(
        &self,
        there: Option<&mut Latch>,
        is_out_of_memory: impl FnOnce() -> bool,
    ) -> Result<(u32, bool), LockError> {
        let latch = there.ok_or(LockError::NoLatch)?;
        if latch.would_grow(self.id) {
            if latch.ids().len() >= LATCH_IDS_MAX {
                return Err(LockError::TooManyIds);
            }
            if is_out_of_memory() {
                return Err(LockError::OutOfMemory);
            }
        }
        let counted = latch.count(self.id);
        Ok((latch.left(), counted))
    }
}

/// A request to be told when the latch is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AwaitLatch<'a> {
    pub key: &'a [u8],
    pub wait: Option<Wait>,
}

impl<'a> AwaitLatch<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let mut args = Args::new(&AWAIT, words);
        let key = args.key()?;
        let mut wait = None;
        while args.is_next(Token::Block)? {
            wait = Some(Wait::block(policy.block_ms(&mut args)?));
        }
        Ok(Self { key, wait })
    }
}

/// Reads the words after the name of LATCH.INFO.
pub(crate) fn parse_info<'a>(words: &'a [&'a [u8]]) -> Result<&'a [u8], LockError> {
    let mut args = Args::new(&INFO, words);
    let key = args.key()?;
    args.finish()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let set = |words: &[&[u8]]| SetLatch::parse(words).map(|latch| (latch.size, latch.life_ms));
        assert_eq!(set(&[b"k", b"3"]), Ok((3, None)));
        assert_eq!(set(&[b"k", b"1000000", b"px", b"315360000000"]), Ok((1_000_000, Some(315_360_000_000))));
        assert_eq!(set(&[b"k", b"3", b"PX", b"1", b"PX", b"1"]), Err(LockError::Repeated("PX")));
        assert_eq!(set(&[b"k", b"3", b"PX"]), Err(LockError::MissingValue("PX")));
        assert_eq!(set(&[b"k", b"3", b"EX", b"1"]), Err(LockError::UnknownOption(b"EX".to_vec())));
        assert_eq!(set(&[&[b'k'; 1025], b"3"]), Err(LockError::KeyLength));
        for n in [&b"0"[..], b"-1", b"1000001", b"03", b"x"] {
            assert!(matches!(set(&[b"k", n]), Err(LockError::Number { what: "count", .. })));
        }
        for n in [&b"0"[..], b"-1", b"315360000001", b"1.5"] {
            assert!(matches!(set(&[b"k", b"3", b"PX", n]), Err(LockError::Number { what: "PX", .. })));
        }

        let down = |words: &[&[u8]]| CountDown::parse(words).map(|request| request.id.map(<[u8]>::to_vec));
        assert_eq!(down(&[b"k"]), Ok(None));
        assert_eq!(down(&[b"k", &[b'i'; 64]]), Ok(Some(vec![b'i'; 64])));
        assert_eq!(down(&[b"k", b""]), Err(LockError::IdLength));
        assert_eq!(down(&[b"k", &[b'i'; 65]]), Err(LockError::IdLength));
        assert_eq!(down(&[b"k", b"a", b"b"]), Err(LockError::Arity("latch.down")));

        let policy = Policy::default();
        let wait = |words: &[&[u8]]| AwaitLatch::parse(words, &policy).map(|request| request.wait);
        assert_eq!(wait(&[b"k"]), Ok(None));
        assert_eq!(wait(&[b"k", b"block", b"0"]), Ok(Some(Wait::block(0))));
        assert_eq!(wait(&[b"k", b"BLOCK", b"5", b"BLOCK", b"5"]), Err(LockError::Repeated("BLOCK")));
        assert_eq!(wait(&[b"k", b"BLOCK"]), Err(LockError::MissingValue("BLOCK")));
        assert_eq!(wait(&[b"k", b"5"]), Err(LockError::UnknownOption(b"5".to_vec())));
        assert_eq!(wait(&[]), Err(LockError::Arity("latch.await")));
        for ms in [&b"-1"[..], b"86400001", b"x"] {
            assert!(matches!(wait(&[b"k", b"BLOCK", ms]), Err(LockError::Number { what: "BLOCK", .. })));
        }

        assert_eq!(parse_info(&[b"k", b"a"]), Err(LockError::Arity("latch.info")));
    }

    #[test]
    fn an_id_too_many_is_refused_and_all_others_count() {
        let mut latch = Latch::new(LATCH_SIZE_MAX).unwrap();
        let ids: Vec<String> = (0..LATCH_IDS_MAX).map(|id| id.to_string()).collect();
        let down = |latch: &mut Latch, id| CountDown { key: b"k", id }.apply(Some(latch), || false);
        for id in &ids {
            assert!(down(&mut latch, Some(id.as_bytes())).is_ok());
        }
        let left = latch.left();
        assert_eq!(down(&mut latch, Some(b"one more")), Err(LockError::TooManyIds));
        assert_eq!(down(&mut latch, Some(b"7")), Ok((left, false)));
        assert_eq!(down(&mut latch, None), Ok((left - 1, true)));
    }

    #[test]
    fn the_first_one_sets_it_and_nobody_counts_what_is_not_there() {
        let set = SetLatch { key: b"k", size: 2, life_ms: None };
        let mut latch = set.apply(None).unwrap();
        let down = |latch: &mut Latch, id| CountDown { key: b"k", id }.apply(Some(latch), || false);
        assert_eq!(down(&mut latch, Some(b"a")), Ok((1, true)));
        assert_eq!(down(&mut latch, Some(b"a")), Ok((1, false)));
        assert_eq!(set.apply(Some(&latch)), None);
        let short = |latch: &mut Latch, id| CountDown { key: b"k", id }.apply(Some(latch), || true);
        assert_eq!(short(&mut latch, Some(b"b")), Err(LockError::OutOfMemory));
        assert_eq!(short(&mut latch, Some(b"a")), Ok((1, false)));
        assert_eq!(short(&mut latch, None), Ok((0, true)));
        assert_eq!(short(&mut latch, Some(b"late")), Ok((0, false)));
        assert_eq!(latch.ids().collect::<Vec<_>>(), [b"a"]);
        assert_eq!(CountDown { key: b"k", id: None }.apply(None, || true), Err(LockError::NoLatch));
    }
}
