//! The internal commands, the only words that go to the AOF and to replicas. Each states a result: absolute, safe
//! to apply twice, decided without a clock.
//!
//! - `LOCK._HOLD key owner fence limit permits lease-ms left-ms deadline-unix-ms [note [keys [id…]]]`: this hold
//!   stands. Both times say where it ends; a stream is believed by what is left, a file by the wall clock. -1 is
//!   never. `keys` locks were granted together; the ids are those of re-entry.
//! - `LOCK._FREE key fence`: this hold has ended.
//! - `LOCK._LIMIT key limit`: the semaphore has this limit now, all its holds with it.
//!
//! The words of what few holds have are in [`bounds`].

pub mod bounds;

use std::borrow::Cow;

use bounds::Stamp;

use super::args::{parse_i64, Args};
use super::spec::{Arg, Spec};
use crate::error::LockError;
use crate::limits::{ID_BYTES_MAX, KEYS_MAX, NOTE_BYTES_MAX, PERMITS_MAX};
use crate::primitive::codec::Source;
use crate::primitive::deadlines::Slot;
use crate::primitive::entries::Entries;
use crate::primitive::hold::Extra;
use crate::primitive::{Claim, Clock, Fence, Hold, Lease, Moment, Owner};

pub const HOLD: Spec = Spec {
    name: "lock._hold",
    summary: "Internal: states that a hold stands. For the AOF and for replicas only.",
    flags: "write admin",
    arity: -9,
    acl: "admin dangerous write",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        Arg::int("fence"),
        Arg::int("limit"),
        Arg::int("permits"),
        Arg::int("lease-ms"),
        Arg::int("left-ms"),
        Arg::int("deadline-unix-ms"),
        Arg::block(
            "extra",
            &[
                Arg::string("note"),
                Arg::block("group", &[Arg::int("keys"), Arg::string("id").optional().many()]).optional(),
            ],
        )
        .optional(),
    ],
    ..Spec::WRITES_KEY
};

pub const FREE: Spec = Spec {
    name: "lock._free",
    summary: "Internal: states that a hold has ended. For the AOF and for replicas only.",
    flags: "write admin",
    arity: 3,
    acl: "admin dangerous write",
    args: &[Arg::KEY, Arg::int("fence")],
    ..Spec::WRITES_KEY
};

pub const LIMIT: Spec = Spec {
    name: "lock._limit",
    summary: "Internal: states the limit of a semaphore. For the AOF and for replicas only.",
    flags: "write admin",
    arity: 3,
    acl: "admin dangerous write",
    args: &[Arg::KEY, Arg::int("limit")],
    complexity: "O(N) with N holds",
    ..Spec::WRITES_KEY
};

/// A hold as it stands in the stream, after the key.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldEffect<'a> {
    pub owner: &'a [u8],
    pub fence: Fence,
    pub claim: Claim,
    pub lease: Lease,
    pub end: Stamp,
    pub extra: Option<Cow<'a, Extra>>,
}

impl<'a> HoldEffect<'a> {
    /// The effect that states this hold.
    pub fn of(hold: &'a Hold, clock: Clock) -> Self {
        Self {
            owner: hold.owner.as_bytes(),
            fence: hold.fence,
            claim: hold.claim,
            lease: hold.lease,
            end: Stamp::of(hold.deadline, clock),
            extra: hold.extra.as_deref().map(Cow::Borrowed),
        }
    }

    /// Reads the words after the command's name: the key and the effect.
    pub fn parse(words: &'a [&'a [u8]]) -> Result<(&'a [u8], Self), LockError> {
        let mut args = Args::new(HOLD.name, words);
        let (key, plain) = Self::parse_plain(&mut args)?;
        let extra = parse_extra(&mut args).ok_or(LockError::BadEffect)?;
        let extra = extra.boxed().map(|extra| Cow::Owned(*extra));
        Ok((key, Self { extra, ..plain }))
    }

    /// Reads the words that every hold has.
    fn parse_plain(args: &mut Args<'a>) -> Result<(&'a [u8], Self), LockError> {
        let (key, owner) = (args.key()?, args.owner()?);
        let mut fields = || {
            let mut number = || parse_i64(args.required().ok()?);
            let (fence, limit, permits, lease) = (number()?, number()?, number()?, number()?);
            let claim = Claim::held(u32::try_from(limit).ok()?, u32::try_from(permits).ok()?)?;
            let fence = Fence::new(u64::try_from(fence).ok()?)?;
            let (lease, end) = (Lease::from_wire(lease)?, Stamp::parse(args)?);
            // A hold without expiry can have another end, but no lease is without one.
            let agree = end.left_ms >= 0 || lease == Lease::NEVER;
            agree.then_some(Self { owner, fence, claim, lease, end, extra: None })
        };
        Ok((key, fields().ok_or(LockError::BadEffect)?))
    }

    /// The words after the key; the inverse of [`HoldEffect::parse`].
    #[cfg(test)]
    pub fn to_args(&self) -> Vec<Vec<u8>> {
        let numbers = [
            self.fence.to_wire(),
            i64::from(self.claim.limit),
            i64::from(self.claim.permits),
            self.lease.to_wire(),
            self.end.left_ms,
            self.end.unix_ms,
        ];
        let mut words = vec![self.owner.to_vec()];
        words.extend(numbers.iter().map(|n| n.to_string().into_bytes()));
        if let Some(extra) = &self.extra {
            words.extend([extra.note.to_vec(), extra.keys.to_string().into_bytes()]);
            words.extend(extra.entries.ids().iter().map(|id| id.to_vec()));
        }
        words
    }

    /// The hold as it stands on this server; nothing if its fence cannot be true.
    pub fn into_hold(self, source: Source, clock: Clock) -> Option<Hold> {
        let deadline = self.end.here(source, clock).map(|end| end.min(self.lease.deadline(clock.now)));
        source.believes(self.fence, clock).then_some(())?;
        Some(Hold {
            owner: Owner::new(self.owner)?,
            fence: self.fence,
            lease: self.lease,
            deadline: deadline.unwrap_or(Moment::NEVER),
            extra: self.extra.map(|extra| Box::new(extra.into_owned())),
            claim: self.claim,
            slot: Slot::NONE,
        })
    }
}

/// The words of a hold that few have; nothing if they cannot be true.
fn parse_extra(args: &mut Args) -> Option<Extra> {
    let mut extra = Extra::default();
    let Some(note) = args.next_word() else { return Some(extra) };
    extra.note = (note.len() <= NOTE_BYTES_MAX).then(|| note.into())?;
    let Some(keys) = args.next_word() else { return Some(extra) };
    let keys = parse_i64(keys).and_then(|keys| u32::try_from(keys).ok())?;
    extra.keys = Some(keys).filter(|keys| (1..=KEYS_MAX as u32).contains(keys))?;
    let mut ids: Vec<Box<[u8]>> = Vec::new();
    while let Some(id) = args.next_word() {
        ids.push((id.len() <= ID_BYTES_MAX).then(|| id.into())?);
    }
    extra.entries = Entries::from_ids(ids)?;
    Some(extra)
}

/// Reads the words of `LOCK._LIMIT`: the key and its limit.
pub fn parse_limit<'a>(words: &'a [&'a [u8]]) -> Result<(&'a [u8], u32), LockError> {
    let mut args = Args::new(LIMIT.name, words);
    let key = args.key()?;
    let limit = parse_i64(args.required()?).and_then(|n| u32::try_from(n).ok());
    args.finish()?;
    let limit = limit.filter(|limit| (1..=PERMITS_MAX).contains(limit)).ok_or(LockError::BadEffect)?;
    Ok((key, limit))
}

/// Reads the words of `LOCK._FREE`: the key and the fence of the hold that ended.
pub fn parse_free<'a>(words: &'a [&'a [u8]]) -> Result<(&'a [u8], Fence), LockError> {
    let mut args = Args::new(FREE.name, words);
    let key = args.key()?;
    let fence = parse_i64(args.required()?).and_then(|n| u64::try_from(n).ok()).and_then(Fence::new);
    args.finish()?;
    Ok((key, fence.ok_or(LockError::BadEffect)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOCK: Clock = Clock { now: Moment(9_000_000), unix_us: 1_700_000_000_000_000 };

    proptest! {
        #[test]
        fn words_and_effect_are_inverse(
            owner in prop::collection::vec(any::<u8>(), 1..=256),
            fence in 1..=crate::limits::FENCE_MAX,
            limit in 1..=u32::MAX, part in any::<u32>(),
            times in prop::option::of((0..1_000_000_i64, 0..1_000_000_i64, 0..i64::MAX)),
            note in prop::collection::vec(any::<u8>(), 0..=NOTE_BYTES_MAX),
            keys in 1..=KEYS_MAX as u32,
            id in prop::collection::vec(any::<u8>(), 0..=ID_BYTES_MAX),
        ) {
            let (lease, left_ms, unix_ms) = times.unwrap_or((-1, -1, -1));
            let effect = HoldEffect {
                owner: &owner,
                fence: Fence::new(fence).unwrap(),
                claim: Claim::new(limit, 1 + part % limit).unwrap(),
                lease: Lease::from_wire(lease).unwrap(),
                end: Stamp { left_ms, unix_ms },
                extra: Extra { note: note.into(), keys, entries: Entries::of(&id), ..Extra::default() }.boxed().map(|extra| Cow::Owned(*extra)),
            };
            let mut words = vec![b"k".to_vec()];
            words.extend(effect.to_args());
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(HoldEffect::parse(&words), Ok((&b"k"[..], effect)));
        }

        #[test]
        fn a_replica_has_the_hold_that_the_primary_has(left in 1..20_000_u64, note in any::<bool>()) {
            let hold = Hold {
                owner: Owner::new(b"o").unwrap(),
                fence: Fence::new(CLOCK.unix_us).unwrap(),
                lease: Lease::ms(20_000),
                deadline: CLOCK.now.plus_ms(left),
                extra: note.then(|| Box::new(Extra { note: b"text"[..].into(), ..Extra::default() })),
                claim: Claim { limit: 5, permits: 2 },
                slot: Slot::NONE,
            };
            for source in [Source::Primary, Source::File] {
                let there = HoldEffect::of(&hold, CLOCK).into_hold(source, CLOCK).unwrap();
                prop_assert_eq!(format!("{there:?}"), format!("{hold:?}"));
            }
        }
    }

    #[test]
    fn effects_that_cannot_be_true_are_refused() {
        let good: [&[u8]; 8] = [b"k", b"o", b"7", b"1", b"1", b"1000", b"900", b"5000"];
        assert!(HoldEffect::parse(&good).is_ok());
        let bad: [(usize, &[u8]); 11] = [
            (2, b"0"),
            (2, b"-7"),
            (2, b"9007199254740992"),
            (3, b"0"),
            (3, b"4294967296"),
            (4, b"0"),
            (4, b"1000001"),
            (5, b"-2"),
            (6, b"-1"),
            (7, b"-1"),
            (6, b"x"),
        ];
        for (at, word) in bad {
            let mut words = good;
            words[at] = word;
            assert_eq!(HoldEffect::parse(&words), Err(LockError::BadEffect), "{at}");
        }
        for extra in [&[&b"n"[..], b"0"][..], &[b"n", b"65"], &[b"n", b"1", b""], &[b"n", b"1", b"b", b"a"]] {
            assert_eq!(HoldEffect::parse(&[&good, extra].concat()), Err(LockError::BadEffect), "{extra:?}");
        }
        assert_eq!(parse_free(&[b"k", b"0"]), Err(LockError::BadEffect));
        assert_eq!(parse_limit(&[b"k", b"0"]), Err(LockError::BadEffect));
        assert_eq!(parse_limit(&[b"k", b"1000001"]), Err(LockError::BadEffect));
        assert_eq!(parse_limit(&[b"k", b"3"]), Ok((&b"k"[..], 3)));
        let tomorrow = (CLOCK.unix_us + 86_400_000_000).to_string();
        let mut words = good;
        words[2] = tomorrow.as_bytes();
        let (_, effect) = HoldEffect::parse(&words).unwrap();
        assert!(effect.into_hold(Source::Client, CLOCK).is_none());
    }
}
