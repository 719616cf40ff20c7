//! - `LOCK._BOUNDS key fence cap-left-ms cap-unix-ms floor-left-ms floor-unix-ms [grace-ms node client]`: what bounds this
//!   hold beside its lease, after the `_HOLD` that states it. -1 is none. The connection of a tie is told by the process
//!   that it belongs to and its client id there.
//! - `LOCK._COOL key owner fence limit permits cooldown-ms left-ms end-unix-ms why`: this hold has ended, and its permits stay
//!   taken for that long. `why` is 0 for MINHOLD, 1 for the delay after abnormal ends.

use super::super::args::{parse_i64, Args};
use super::super::spec::{Arg, Spec};
use super::stream::{Word, Words};
use super::{parse_fence, HoldEffect};
use crate::error::LockError;
use crate::primitive::bounds::{Bounds, Tie};
use crate::primitive::codec::{moment_here, Source};
use crate::primitive::cooldown::CooldownReason;
use crate::primitive::time::left_to_wire;
use crate::primitive::{Clock, Cooldown, Fence, Lease, Moment};

pub(crate) const BOUNDS: Spec = Spec {
    name: "lock._bounds",
    summary: "Internal: states what bounds a hold beside its lease. For the AOF and for replicas only.",
    flags: "write admin",
    arity: -7,
    acl: "admin dangerous write",
    args: &[
        Arg::KEY,
        Arg::int("fence"),
        Arg::int("cap-left-ms"),
        Arg::int("cap-unix-ms"),
        Arg::int("floor-left-ms"),
        Arg::int("floor-unix-ms"),
        Arg::block("tie", &[Arg::int("grace-ms"), Arg::int("node"), Arg::int("client")]).optional(),
    ],
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const COOL: Spec = Spec {
    name: "lock._cool",
    summary: "Internal: states that a hold has ended and its lock is in cooldown. For the AOF and for replicas only.",
    flags: "write admin",
    arity: 10,
    acl: "admin dangerous write",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        Arg::int("fence"),
        Arg::int("limit"),
        Arg::int("permits"),
        Arg::int("cooldown-ms"),
        Arg::int("left-ms"),
        Arg::int("end-unix-ms"),
        Arg::int("why"),
    ],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// A moment as it stands in the stream: what is left of it, and where it is by the wall clock; in ms, -1 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub left_ms: i64,
    pub unix_ms: i64,
}

impl Stamp {
    pub(crate) const NONE: Self = Self { left_ms: -1, unix_ms: -1 };

    /// A moment; none if it is never.
    pub(crate) fn of(moment: Moment, clock: Clock) -> Self {
        let left_ms = left_to_wire(moment, clock.now);
        let unix_ms = i64::try_from(clock.unix_ms_of(moment)).unwrap_or(i64::MAX);
        Self { left_ms, unix_ms: if left_ms < 0 { -1 } else { unix_ms } }
    }

    /// Reads two numbers. Returns `None` if they cannot be true together.
    pub(crate) fn parse(args: &mut Args) -> Option<Self> {
        let mut number = || parse_i64(args.required().ok()?);
        Self { left_ms: number()?, unix_ms: number()? }.checked()
    }

    /// Itself. Returns `None` if both numbers cannot be true together.
    pub(crate) fn checked(self) -> Option<Self> {
        let Self { left_ms, unix_ms } = self;
        let in_range = left_ms >= -1 && unix_ms >= -1 && (left_ms == -1) == (unix_ms == -1);
        in_range.then_some(self)
    }

    /// Adds both numbers; the inverse of [`Stamp::parse`].
    pub(crate) fn put(self, words: &mut Words) {
        words.extend([Word::Number(self.left_ms), Word::Number(self.unix_ms)]);
    }

    /// The moment here; `None` for no end.
    pub(crate) fn here(self, source: Source, clock: Clock) -> Option<Moment> {
        let (left_ms, unix_ms) = (u64::try_from(self.left_ms).ok()?, u64::try_from(self.unix_ms).ok()?);
        Some(moment_here(left_ms.saturating_mul(1000), unix_ms.saturating_mul(1000), source, clock))
    }

    /// Where a hold with this lease ends here.
    pub(crate) fn of_lease(self, lease: Lease, source: Source, clock: Clock) -> Moment {
        self.here(source, clock).map_or(Moment::NEVER, |end| end.min(lease.deadline(clock.now)))
    }
}

/// The bounds of a hold, as they stand in the stream after the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BoundsEffect {
    pub fence: Fence,
    pub cap: Stamp,
    pub min_end: Stamp,
    pub tie: Option<Tie>,
}

impl BoundsEffect {
    /// The effect that states these bounds.
    pub(crate) fn of(fence: Fence, bounds: &Bounds, clock: Clock) -> Self {
        let min_end = if bounds.min_end > clock.now { Stamp::of(bounds.min_end, clock) } else { Stamp::NONE };
        Self { fence, cap: Stamp::of(bounds.cap, clock), min_end, tie: bounds.tie }
    }

    /// Reads the words after the key.
    pub(crate) fn parse(args: &mut Args) -> Result<Self, LockError> {
        let fence = parse_fence(args)?;
        let mut fields = || {
            let (cap, min_end) = (Stamp::parse(args)?, Stamp::parse(args)?);
            let Some(grace) = args.next_word() else { return Some((cap, min_end, None)) };
            let grace = Lease::from_wire(parse_i64(grace)?).filter(|grace| *grace != Lease::NEVER)?;
            // Both numbers use all of their 64 bits.
            let mut bits = || parse_i64(args.next_word()?).map(i64::cast_unsigned);
            Some((cap, min_end, Some(Tie::new(bits()?, bits()?, grace))))
        };
        let (cap, min_end, tie) = fields().ok_or(LockError::BadEffect)?;
        Ok(Self { fence, cap, min_end, tie })
    }

    /// Adds the words after the key; the inverse of [`BoundsEffect::parse`].
    pub(crate) fn put(&self, words: &mut Words) {
        words.push(Word::Number(self.fence.to_wire()));
        self.cap.put(words);
        self.min_end.put(words);
        if let Some(tie) = self.tie {
            let (node, client) = (tie.node.cast_signed(), tie.client.cast_signed());
            words.extend([Word::Number(tie.grace.to_wire()), Word::Number(node), Word::Number(client)]);
        }
    }

    /// The bounds on this server.
    pub(crate) fn into_bounds(self, source: Source, clock: Clock) -> Bounds {
        Bounds {
            cap: self.cap.here(source, clock).unwrap_or(Moment::NEVER),
            min_end: self.min_end.here(source, clock).unwrap_or(Moment::MIN),
            tie: self.tie,
        }
    }
}

/// Permits that cool, as they stand in the stream after the key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CoolEffect<'a> {
    pub hold: HoldEffect<'a>,
    pub why: CooldownReason,
}

impl<'a> CoolEffect<'a> {
    /// The effect that states this.
    pub(crate) fn of(cooldown: &'a Cooldown, clock: Clock) -> Self {
        Self { hold: HoldEffect::of(&cooldown.hold, clock), why: cooldown.why }
    }

    /// Reads the words after the key.
    pub(crate) fn parse(args: &mut Args<'a>) -> Result<Self, LockError> {
        let hold = HoldEffect::parse_plain(args)?;
        let why = parse_i64(args.required()?).and_then(CooldownReason::from_wire);
        Ok(Self { hold, why: why.ok_or(LockError::BadEffect)? })
    }

    /// Adds the words after the key; the inverse of [`CoolEffect::parse`].
    pub(crate) fn put<'s>(&'s self, words: &mut Words<'s>) {
        self.hold.put_plain(words);
        words.push(Word::Number(i64::from(self.why.to_wire())));
    }

    /// The cooldown on this server. Returns `None` if its fence cannot be true, or if it would never end.
    pub(crate) fn into_cooldown(self, source: Source, clock: Clock) -> Option<Cooldown> {
        let hold = self.hold.into_hold(source, clock)?;
        (hold.lease != Lease::NEVER).then_some(Cooldown { hold, why: self.why })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::stream::{EffectKind, LockEffect};
    use super::*;

    const CLOCK: Clock = Clock { now: Moment(9_000_000), unix_us: 1_700_000_000_000_000 };

    fn parse(line: &str) -> Result<BoundsEffect, LockError> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        EffectKind::Bounds.parse(&words).map(|effect| match effect {
            LockEffect::Bounds(effect) => effect,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn bounds_that_cannot_be_true_are_refused() {
        let tie = Tie::new(u64::MAX, 7, Lease::ms(2_000));
        let none = Stamp::NONE;
        let effect = parse("k 5 -1 -1 -1 -1 2000 -1 7").unwrap();
        assert_eq!(
            effect,
            BoundsEffect { fence: Fence::new(5).unwrap(), cap: none, min_end: none, tie: Some(tie) }
        );
        assert!(parse("k 5 100 200 0 0").is_ok());
        for line in [
            "k 0 -1 -1 -1 -1",
            "k 5 -2 -1 -1 -1",
            "k 5 -1 7 -1 -1",
            "k 5 7 -1 -1 -1",
            "k 5 -1 -1 x -1",
            "k 5 -1 -1 -1 -1 -1 1 1",
            "k 5 -1 -1 -1 -1 2000 1",
            "k 5 -1 -1 -1 -1 2000 1 99999999999999999999",
        ] {
            assert_eq!(parse(line), Err(LockError::BadEffect), "{line}");
        }
        assert_eq!(parse("k 5 -1 -1 -1 -1 2000 1 1 1"), Err(LockError::Arity("lock._bounds")));
    }

    proptest! {
        #[test]
        fn what_is_told_never_ends_early_and_is_told_the_same_again(
            left_us in 100_000..1_000_000_000_u64,
            loads in prop::collection::vec((0..1_000_u64, 0..u64::MAX / 4), 1..20),
            us in 0..1_000_u64,
        ) {
            let mut clock = Clock { unix_us: CLOCK.unix_us + us, ..CLOCK };
            let end_unix_us = clock.unix_us + left_us;
            let mut moment = clock.now.plus_us(left_us);
            let first = Stamp::of(moment, clock);
            prop_assert!(first.here(Source::Primary, CLOCK).unwrap() >= moment);
            for (takes_us, now) in loads {
                let told = Stamp::of(moment, clock);
                prop_assert_eq!(told.unix_ms, first.unix_ms);
                clock = Clock { now: Moment(now), unix_us: clock.unix_us + takes_us };
                moment = told.here(Source::File, clock).unwrap();
                let end = clock.unix_us + moment.us_after(clock.now);
                prop_assert!((end_unix_us..end_unix_us + 1_000).contains(&end), "{end} for {end_unix_us}");
            }
        }
    }

    #[test]
    fn a_cooldown_that_cannot_be_true_is_refused() {
        let parse = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            EffectKind::Cool.parse(&words).map(|effect| effect.here(Source::Primary, CLOCK).is_some())
        };
        assert_eq!(parse("k o 5 1 1 500 400 900 0"), Ok(true));
        assert_eq!(parse("k o 5 1 1 -1 -1 -1 1"), Ok(false), "it would never end");
        for line in ["k o 5 1 1 500 400 900 2", "k o 5 1 1 500 400 900 x", "k o 5 1 1 500 -1 -1 0"] {
            assert_eq!(parse(line), Err(LockError::BadEffect), "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_replica_has_the_bounds_that_the_primary_has(
            cap in prop::option::of(1..1_000_000_u64),
            min_end in prop::option::of(1..1_000_000_u64),
            tie in prop::option::of((any::<u64>(), any::<u64>(), 0..1_000_000_u64)),
        ) {
            let bounds = Bounds {
                cap: cap.map_or(Moment::NEVER, |ms| CLOCK.now.plus_ms(ms)),
                min_end: min_end.map_or(Moment::MIN, |ms| CLOCK.now.plus_ms(ms)),
                tie: tie.map(|(node, client, grace)| Tie::new(node, client, Lease::ms(grace))),
            };
            for source in [Source::Primary, Source::File] {
                let effect = BoundsEffect::of(Fence::new(7).unwrap(), &bounds, CLOCK);
                prop_assert_eq!(effect.into_bounds(source, CLOCK), bounds);
            }
        }
    }
}
