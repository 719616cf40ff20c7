//! The internal commands, the only words that go to the AOF and to replicas. Each states a result: absolute, safe
//! to apply twice, decided without a clock.
//!
//! - `LOCK._HOLD key owner fence limit permits lease-ms left-ms deadline-unix-ms [note [keys [id…]]]`: this hold
//!   stands. Both times say where it ends; a stream is believed by what is left, a file by the wall clock. -1 is
//!   never. `keys` locks were granted together; the ids are those of re-entry.
//! - `LOCK._HOLD key owner fence lease-ms [deadline-unix-ms]`: the same for what most grants are, an exclusive hold that has all
//!   of its lease before it, and no more to tell. Where the fence is the time of the grant, as it is unless the clock was set
//!   back, it says where the lease ends. Each word costs the server about a thousand instructions.
//! - `LOCK._FREE key fence`: this hold has ended.
//! - `LOCK._LIMIT key limit`: the semaphore has this limit now, all its holds with it.
//!
//! The words of what few holds have are in [`bounds`], those of what changes at a hold in [`changes`]; several effects on
//! one lock are one command, in [`stream`]. The time without grants after a failover is no lock's: [`window`].

pub(crate) mod bounds;
pub(crate) mod changes;
pub(crate) mod stream;
pub(crate) mod window;

use std::borrow::Cow;

use bounds::Stamp;
use stream::{Word, Words};

use super::args::{self, parse_i64, Args};
use super::spec::{Arg, Spec};
use crate::error::LockError;
use crate::limits::{ID_BYTES_MAX, KEYS_MAX, NOTE_BYTES_MAX, PERMITS_MAX};
use crate::primitive::codec::Source;
use crate::primitive::hold::{Extra, Mark};
use crate::primitive::reentry::ReentryIds;
use crate::primitive::{Clock, Fence, Hold, Lease, Owner, Permits};

pub(crate) const HOLD: Spec = Spec {
    name: "lock._hold",
    summary: "Internal: states that a hold stands. For the AOF and for replicas only.",
    flags: "write admin",
    arity: -5,
    acl: "admin dangerous write",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        Arg::int("fence"),
        Arg::one_of(
            "form",
            &[
                Arg::block("fresh", &[Arg::int("lease-ms"), Arg::int("deadline-unix-ms").optional()]),
                Arg::block(
                    "any",
                    &[
                        Arg::int("limit"),
                        Arg::int("permits"),
                        Arg::int("lease-ms"),
                        Arg::int("left-ms"),
                        Arg::int("deadline-unix-ms"),
                        EXTRA,
                    ],
                ),
            ],
        ),
    ],
    ..Spec::WRITES_KEY
}
.with_grammar();

const EXTRA: Arg = Arg::block(
    "extra",
    &[
        Arg::string("note"),
        Arg::block("group", &[Arg::int("keys"), Arg::string("id").optional().many()]).optional(),
    ],
)
.optional();

/// Most words of a fresh hold after the key: owner, fence, lease, end.
const FRESH_WORDS: usize = 4;

pub(crate) const FREE: Spec = Spec {
    name: "lock._free",
    summary: "Internal: states that a hold has ended. For the AOF and for replicas only.",
    flags: "write admin",
    arity: 3,
    acl: "admin dangerous write",
    args: &[Arg::KEY, Arg::int("fence")],
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const LIMIT: Spec = Spec {
    name: "lock._limit",
    summary: "Internal: states the limit of a semaphore. For the AOF and for replicas only.",
    flags: "write admin",
    arity: 3,
    acl: "admin dangerous write",
    args: &[Arg::KEY, Arg::int("limit")],
    complexity: "O(N) with N holds",
    ..Spec::WRITES_KEY
}
.with_grammar();

/// A hold as it stands in the stream, after the key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HoldEffect<'a> {
    pub owner: &'a [u8],
    pub fence: Fence,
    pub permits: Permits,
    pub lease: Lease,
    pub end: Stamp,
    pub extra: Option<Cow<'a, Extra>>,
}

impl<'a> HoldEffect<'a> {
    /// The effect that states this hold.
    pub(crate) fn of(hold: &'a Hold, clock: Clock) -> Self {
        Self {
            owner: hold.owner.as_bytes(),
            fence: hold.fence,
            permits: hold.permits,
            lease: hold.lease,
            end: Stamp::of(hold.deadline, clock),
            extra: hold.extra.as_deref().map(Cow::Borrowed),
        }
    }

    /// Reads the words after the key.
    pub(crate) fn parse(args: &mut Args<'a>) -> Result<Self, LockError> {
        if args.count_left() <= FRESH_WORDS {
            return Self::parse_fresh(args).ok_or(LockError::BadEffect);
        }
        let plain = Self::parse_plain(args)?;
        let extra = parse_extra(args).ok_or(LockError::BadEffect)?;
        let extra = extra.boxed().map(|extra| Cow::Owned(*extra));
        Ok(Self { extra, ..plain })
    }

    /// Reads the words of a fresh hold.
    fn parse_fresh(args: &mut Args<'a>) -> Option<Self> {
        let (owner, fence) = (args.owner().ok()?, parse_fence(args).ok()?);
        let (permits, lease) = (Permits::EXCLUSIVE, Lease::from_wire(parse_i64(args.next_word()?)?)?);
        let end = match args.next_word() {
            Some(unix_ms) => Stamp { left_ms: lease.to_wire(), unix_ms: parse_i64(unix_ms)? }.checked()?,
            None => Self::end_of_lease_from(fence, lease),
        };
        Some(Self { owner, fence, permits, lease, end, extra: None })
    }

    /// Whether it is an exclusive hold with all of its lease before it, and no more to tell.
    fn is_fresh(&self) -> bool {
        self.permits == Permits::EXCLUSIVE
            && self.end.left_ms == self.lease.to_wire()
            && self.extra.as_ref().is_none_or(|extra| extra.note.is_empty() && !extra.tells_of_ids())
    }

    /// Where a lease ends that began at the time which the fence names, in µs since 1970.
    fn end_of_lease_from(fence: Fence, lease: Lease) -> Stamp {
        let left_ms = lease.to_wire();
        let begun_ms = fence.get().div_ceil(1000) as i64;
        let unix_ms = if left_ms < 0 { -1 } else { begun_ms.saturating_add(left_ms) };
        Stamp { left_ms, unix_ms }
    }

    /// Whether the fence says where a fresh hold ends, to a millisecond and never too early: of several grants at one moment each
    /// has a fence of its own.
    fn fence_tells_end(&self) -> bool {
        let told = Self::end_of_lease_from(self.fence, self.lease);
        (0..=1).contains(&told.unix_ms.saturating_sub(self.end.unix_ms))
    }

    /// Reads the words that every other hold has.
    fn parse_plain(args: &mut Args<'a>) -> Result<Self, LockError> {
        let owner = args.owner()?;
        let mut fields = || {
            let mut number = || parse_i64(args.required().ok()?);
            let (fence, limit, permits) = (number()?, number()?, number()?);
            let permits = Permits::held(u32::try_from(limit).ok()?, u32::try_from(permits).ok()?)?;
            let fence = Fence::new(u64::try_from(fence).ok()?)?;
            let (lease, end) = parse_term(args)?;
            Some(Self { owner, fence, permits, lease, end, extra: None })
        };
        fields().ok_or(LockError::BadEffect)
    }

    /// Adds the words after the key; the inverse of [`HoldEffect::parse`]. The part that few holds have comes at the
    /// end, and only as far as it says something.
    pub(crate) fn put<'s>(&'s self, words: &mut Words<'s>) {
        if self.is_fresh() {
            words.extend([
                Word::Text(self.owner),
                Word::Number(self.fence.to_wire()),
                Word::Number(self.lease.to_wire()),
            ]);
            if !self.fence_tells_end() {
                words.push(Word::Number(self.end.unix_ms));
            }
            return;
        }
        self.put_plain(words);
        let Some(extra) = &self.extra else { return };
        let is_told = extra.tells_of_ids();
        if is_told || !extra.note.is_empty() {
            words.push(Word::Text(&extra.note));
        }
        if is_told {
            words.push(Word::Number(i64::from(extra.keys)));
            words.extend(extra.entries.ids().iter().map(|id| Word::Text(id)));
        }
    }

    /// Adds the words that every hold but a fresh one has; the inverse of [`HoldEffect::parse_plain`].
    fn put_plain<'s>(&'s self, words: &mut Words<'s>) {
        words.extend([
            Word::Text(self.owner),
            Word::Number(self.fence.to_wire()),
            Word::Number(i64::from(self.permits.limit)),
            Word::Number(i64::from(self.permits.count)),
            Word::Number(self.lease.to_wire()),
        ]);
        self.end.put(words);
    }

    /// The hold as it stands on this server. Returns `None` if its fence cannot be true.
    pub(crate) fn into_hold(self, source: Source, clock: Clock) -> Option<Hold> {
        source.accepts_fence(self.fence, clock).then_some(())?;
        Some(Hold {
            owner: Owner::new(self.owner)?,
            fence: self.fence,
            lease: self.lease,
            deadline: self.end.of_lease(self.lease, source, clock),
            extra: self.extra.map(|extra| Box::new(extra.into_owned())),
            permits: self.permits,
            mark: Mark::NONE,
        })
    }
}

/// The words of a hold that few have. Returns `None` if they cannot be true.
fn parse_extra(args: &mut Args) -> Option<Extra> {
    let mut extra = Extra::default();
    let Some(note) = args.next_word() else { return Some(extra) };
    extra.note = parse_note(note)?.into();
    let Some(keys) = args.next_word() else { return Some(extra) };
    let keys = parse_i64(keys).and_then(|keys| u32::try_from(keys).ok())?;
    extra.keys = Some(keys).filter(|keys| (1..=KEYS_MAX as u32).contains(keys))?;
    let mut ids: Vec<Box<[u8]>> = Vec::new();
    while let Some(id) = args.next_word() {
        ids.push((id.len() <= ID_BYTES_MAX).then(|| id.into())?);
    }
    extra.entries = ReentryIds::from_ids(ids)?;
    Some(extra)
}

/// Reads a note. Returns `None` if it is too long.
fn parse_note(note: &[u8]) -> Option<&[u8]> {
    (note.len() <= NOTE_BYTES_MAX).then_some(note)
}

/// Reads a lease and where its hold ends. Returns `None` if they cannot be true together.
fn parse_term(args: &mut Args) -> Option<(Lease, Stamp)> {
    let (lease, end) = (Lease::from_wire(parse_i64(args.next_word()?)?)?, Stamp::parse(args)?);
    // A hold without expiry can have another end, but no lease is without one.
    (end.left_ms >= 0 || lease == Lease::NEVER).then_some((lease, end))
}

/// Reads the limit of `LOCK._LIMIT`.
fn parse_limit(args: &mut Args) -> Result<u32, LockError> {
    let limit = parse_i64(args.required()?).and_then(|n| u32::try_from(n).ok());
    limit.filter(|limit| (1..=PERMITS_MAX).contains(limit)).ok_or(LockError::BadEffect)
}

/// Reads the fence that names a hold.
fn parse_fence(args: &mut Args) -> Result<Fence, LockError> {
    args::parse_fence(args.required()?).ok_or(LockError::BadEffect)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::stream::{EffectKind, LockEffect};
    use super::*;
    use crate::primitive::Moment;

    const CLOCK: Clock = Clock { now: Moment(9_000_000), unix_us: 1_700_000_000_000_000 };

    proptest! {
        #[test]
        fn words_and_effect_are_inverse(
            owner in prop::collection::vec(any::<u8>(), 1..=256),
            fence in 1..=crate::limits::FENCE_MAX,
            limit in prop_oneof![Just(u32::MAX), 1..=PERMITS_MAX],
            part in prop_oneof![Just(u32::MAX - 1), any::<u32>()],
            times in prop::option::of((0..1_000_000_i64, prop::option::of(0..1_000_000_i64), 0..i64::MAX)),
            note in prop_oneof![Just(vec![]), prop::collection::vec(any::<u8>(), 0..=NOTE_BYTES_MAX)],
            keys in prop_oneof![Just(1), 1..=KEYS_MAX as u32],
            id in prop_oneof![Just(vec![]), prop::collection::vec(any::<u8>(), 0..=ID_BYTES_MAX)],
        ) {
            let (lease, left_ms, unix_ms) = times.unwrap_or((-1, None, -1));
            let left_ms = left_ms.unwrap_or(lease);
            let effect = HoldEffect {
                owner: &owner,
                fence: Fence::new(fence).unwrap(),
                permits: Permits::new(limit, 1 + part % limit).unwrap(),
                lease: Lease::from_wire(lease).unwrap(),
                end: Stamp { left_ms, unix_ms },
                extra: Extra { note: note.into(), keys, entries: ReentryIds::of(&id), ..Extra::default() }.boxed().map(|extra| Cow::Owned(*extra)),
            };
            let mut words = Words::new();
            effect.put(&mut words);
            let words: Vec<Vec<u8>> = words.iter().map(Word::bytes).collect();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(HoldEffect::parse(&mut Args::new(&HOLD, &words)), Ok(effect.clone()));
        }

        #[test]
        fn a_replica_has_the_hold_that_the_primary_has(left in 1..20_000_u64, note in any::<bool>()) {
            let hold = Hold {
                owner: Owner::new(b"o").unwrap(),
                fence: Fence::new(CLOCK.unix_us).unwrap(),
                lease: Lease::ms(20_000),
                deadline: CLOCK.now.plus_ms(left),
                extra: note.then(|| Box::new(Extra { note: b"text"[..].into(), ..Extra::default() })),
                permits: Permits { limit: 5, count: 2 },
                mark: Mark::NONE,
            };
            for source in [Source::Primary, Source::File] {
                let there = HoldEffect::of(&hold, CLOCK).into_hold(source, CLOCK).unwrap();
                prop_assert_eq!(format!("{there:?}"), format!("{hold:?}"));
            }
        }
    }

    #[test]
    fn a_fresh_hold_is_told_in_few_words_and_read_in_many() {
        let read = |line: &'static str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            HoldEffect::parse(&mut Args::new(&HOLD, words.leak())).map_err(|error| error.to_string())
        };
        let written = |effect: &HoldEffect| {
            let mut words = Words::new();
            effect.put(&mut words);
            words.iter().map(|word| String::from_utf8(word.bytes()).unwrap()).collect::<Vec<_>>().join(" ")
        };
        for (few, many) in [
            ("o 7 1000 5000", "o 7 4294967295 4294967295 1000 1000 5000"),
            ("o 7 -1", "o 7 4294967295 4294967295 -1 -1 -1"),
            ("o 1700000000000001 1000", "o 1700000000000001 4294967295 4294967295 1000 1000 1700000001001"),
            (
                "o 1700000000000000 1000 1700000001001",
                "o 1700000000000000 4294967295 4294967295 1000 1000 1700000001001",
            ),
            (
                "o 1700000000002001 1000 1700000001001",
                "o 1700000000002001 4294967295 4294967295 1000 1000 1700000001001",
            ),
        ] {
            assert_eq!(read(few), read(many), "{few}");
            assert_eq!(written(&read(many).unwrap()), few);
        }
        for stands in [
            "o 7 4294967295 4294967295 1000 999 5000",
            "o 7 4294967295 1 1000 1000 5000",
            "o 7 3 2 1000 1000 5000",
            "o 7 4294967295 4294967295 1000 1000 5000 note",
        ] {
            assert_eq!(written(&read(stands).unwrap()), stands);
        }
        // Of two grants at one moment the second has the fence of the next microsecond.
        let second = read("o 1700000000000001 4294967295 4294967295 1000 1000 1700000001000").unwrap();
        assert_eq!(written(&second), "o 1700000000000001 1000");
        assert_eq!(read("o 7 -1 -1"), read("o 7 -1"), "as it was told before");
        for bad in
            ["o 7 1000 -1", "o 7 -1 5000", "o 0 1000 5000", "o 7 x 5000", "o 7 x", "o 7", "o 7 1 1 1000"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn effects_that_cannot_be_true_are_refused() {
        let good: [&[u8]; 8] = [b"k", b"o", b"7", b"1", b"1", b"1000", b"900", b"5000"];
        assert!(EffectKind::Hold.parse(&good).is_ok());
        let bad: [(usize, &[u8]); 12] = [
            (2, b"0"),
            (2, b"-7"),
            (2, b"9007199254740992"),
            (3, b"0"),
            (3, b"1000001"),
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
            assert_eq!(EffectKind::Hold.parse(&words), Err(LockError::BadEffect), "{at}");
        }
        for extra in [&[&b"n"[..], b"0"][..], &[b"n", b"65"], &[b"n", b"1", b""], &[b"n", b"1", b"b", b"a"]] {
            assert_eq!(
                EffectKind::Hold.parse(&[&good, extra].concat()),
                Err(LockError::BadEffect),
                "{extra:?}"
            );
        }
        assert_eq!(EffectKind::Free.parse(&[b"k", b"0"]), Err(LockError::BadEffect));
        assert_eq!(EffectKind::Limit.parse(&[b"k", b"0"]), Err(LockError::BadEffect));
        assert_eq!(EffectKind::Limit.parse(&[b"k", b"1000001"]), Err(LockError::BadEffect));
        assert_eq!(EffectKind::Limit.parse(&[b"k", b"3"]), Ok(LockEffect::Limit(3)));
        let tomorrow = (CLOCK.unix_us + 86_400_000_000).to_string();
        let mut words = good;
        words[2] = tomorrow.as_bytes();
        assert!(EffectKind::Hold
            .parse(&words)
            .unwrap()
            .here(Source::Client { ahead_ms: 3_600_000 }, CLOCK)
            .is_none());
    }
}
