//! Changes of a hold that is known already, named by its fence. None of these grows with the ids of the hold.
//!
//! - `LOCK._RENEW key fence permits lease-ms left-ms deadline-unix-ms [note]`: all of the hold but its ids is so now. Its
//!   bounds are gone unless a `_BOUNDS` follows, as after `_HOLD`.
//! - `LOCK._ENTER key fence id`: its owner is in under this id.
//! - `LOCK._LEAVE key fence id`: its owner is not in under this id any more, and is under others.

use super::super::args::{parse_i64, Args};
use super::super::spec::{Arg, Spec};
use super::bounds::Stamp;
use super::stream::{Word, Words};
use super::{parse_fence, parse_note, parse_term};
use crate::error::LockError;
use crate::limits::ID_BYTES_MAX;
use crate::primitive::codec::Source;
use crate::primitive::step::replica::Renewal;
use crate::primitive::{Clock, Fence, Hold, Lease};

pub(crate) const RENEW: Spec = Spec {
    name: "lock._renew",
    summary: "Internal: states how long a hold lasts. For the AOF and for replicas only.",
    flags: "write admin",
    arity: -7,
    acl: "admin dangerous write",
    args: &[
        Arg::KEY,
        Arg::int("fence"),
        Arg::int("permits"),
        Arg::int("lease-ms"),
        Arg::int("left-ms"),
        Arg::int("deadline-unix-ms"),
        Arg::string("note").optional(),
    ],
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const ENTER: Spec = Spec {
    name: "lock._enter",
    summary: "Internal: states that a hold is entered under an id. For the AOF and for replicas only.",
    flags: "write admin",
    arity: 4,
    acl: "admin dangerous write",
    args: &[Arg::KEY, Arg::int("fence"), Arg::string("id")],
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const LEAVE: Spec = Spec {
    name: "lock._leave",
    summary: "Internal: states that a hold was left under an id. For the AOF and for replicas only.",
    flags: "write admin",
    arity: 4,
    acl: "admin dangerous write",
    args: &[Arg::KEY, Arg::int("fence"), Arg::string("id")],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// A hold without its ids as it stands in the stream, after the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RenewEffect<'a> {
    pub fence: Fence,
    pub permits: u32,
    pub lease: Lease,
    pub end: Stamp,
    pub note: &'a [u8],
}

impl<'a> RenewEffect<'a> {
    /// The effect that states this hold, but for its ids.
    pub(crate) fn of(hold: &'a Hold, clock: Clock) -> Self {
        Self {
            fence: hold.fence,
            permits: hold.permits.count,
            lease: hold.lease,
            end: Stamp::of(hold.deadline, clock),
            note: hold.note(),
        }
    }

    /// Reads the words after the key.
    pub(crate) fn parse(args: &mut Args<'a>) -> Result<Self, LockError> {
        let fence = parse_fence(args)?;
        let mut fields = || {
            let permits = u32::try_from(parse_i64(args.next_word()?)?).ok().filter(|permits| *permits > 0)?;
            let (lease, end) = parse_term(args)?;
            let note = args.next_word().map_or(Some(&b""[..]), parse_note)?;
            Some(Self { fence, permits, lease, end, note })
        };
        fields().ok_or(LockError::BadEffect)
    }

    /// Adds the words after the key; the inverse of [`RenewEffect::parse`].
    pub(crate) fn put(&self, words: &mut Words<'a>) {
        words.extend([Word::Number(self.fence.to_wire()), Word::Number(i64::from(self.permits))]);
        words.push(Word::Number(self.lease.to_wire()));
        self.end.put(words);
        if !self.note.is_empty() {
            words.push(Word::Text(self.note));
        }
    }

    /// The renewal as it is on this server.
    pub(crate) fn here(self, source: Source, clock: Clock) -> Renewal {
        let deadline = self.end.of_lease(self.lease, source, clock);
        Renewal { permits: self.permits, lease: self.lease, deadline, note: self.note.into() }
    }
}

/// An id of a hold, as it stands in the stream after the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdEffect<'a> {
    pub fence: Fence,
    pub id: &'a [u8],
}

impl<'a> IdEffect<'a> {
    /// Reads the words after the key.
    pub(crate) fn parse(args: &mut Args<'a>) -> Result<Self, LockError> {
        let (fence, id) = (parse_fence(args)?, args.required()?);
        if id.len() > ID_BYTES_MAX {
            return Err(LockError::BadEffect);
        }
        Ok(Self { fence, id })
    }

    /// Adds the words after the key; the inverse of [`IdEffect::parse`].
    pub(crate) fn put(&self, words: &mut Words<'a>) {
        words.extend([Word::Number(self.fence.to_wire()), Word::Text(self.id)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::stream::{EffectKind, LockEffect};
    use super::*;
    use crate::limits::NOTE_BYTES_MAX;

    fn words_of(effect: &LockEffect) -> Vec<Vec<u8>> {
        let mut words = Words::new();
        effect.put(&mut words);
        [b"k".to_vec()].into_iter().chain(words.iter().map(Word::bytes)).collect()
    }

    proptest! {
        #[test]
        fn words_and_effect_are_inverse(
            fence in 1..=crate::limits::FENCE_MAX,
            permits in 1..=u32::MAX,
            times in prop::option::of((0..1_000_000_i64, 0..1_000_000_i64, 0..i64::MAX)),
            note in prop::collection::vec(any::<u8>(), 0..=NOTE_BYTES_MAX),
            id in prop::collection::vec(any::<u8>(), 0..=ID_BYTES_MAX),
        ) {
            let fence = Fence::new(fence).unwrap();
            let (lease, left_ms, unix_ms) = times.unwrap_or((-1, -1, -1));
            let (lease, end) = (Lease::from_wire(lease).unwrap(), Stamp { left_ms, unix_ms });
            for effect in [
                LockEffect::Renew(RenewEffect { fence, permits, lease, end, note: &note }),
                LockEffect::Enter(IdEffect { fence, id: &id }),
                LockEffect::Leave(IdEffect { fence, id: &id }),
            ] {
                let words = words_of(&effect);
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                prop_assert_eq!(effect.kind().parse(&words), Ok(effect));
            }
        }
    }

    #[test]
    fn changes_that_cannot_be_true_are_refused() {
        let long = "x".repeat(ID_BYTES_MAX + 1);
        let long_note = "x".repeat(NOTE_BYTES_MAX + 1);
        for (kind, good, bad) in [
            (
                EffectKind::Renew,
                "k 7 1 1000 900 5000 note",
                vec![
                    "k 0 1 1000 900 5000".to_owned(),
                    "k 7 -1 1000 900 5000".to_owned(),
                    "k 7 0 1000 900 5000".to_owned(),
                    "k 7 4294967296 1000 900 5000".to_owned(),
                    "k 7 1 -2 900 5000".to_owned(),
                    "k 7 1 1000 -1 -1".to_owned(),
                    "k 7 1 1000 900 -1".to_owned(),
                    "k 7 1 1000 900 x".to_owned(),
                    format!("k 7 1 1000 900 5000 {long_note}"),
                ],
            ),
            (EffectKind::Enter, "k 7 id", vec!["k 0 id".to_owned(), format!("k 7 {long}")]),
            (EffectKind::Leave, "k 7 ", vec!["k x id".to_owned(), format!("k 7 {long}")]),
        ] {
            let read = |line: &str| {
                let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                kind.parse(&words).map(drop)
            };
            assert_eq!(read(good), Ok(()));
            for line in bad {
                assert_eq!(read(&line), Err(LockError::BadEffect), "{kind:?} {line}");
            }
        }
    }
}
