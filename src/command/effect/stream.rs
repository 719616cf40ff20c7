//! All that one step did to one lock, as one command.
//!
//! - `LOCK._STEP key (effect words word…)+`: all of these effects, in this order. Each is named as its own command is,
//!   without `LOCK._`, and followed by the number of its words and the words.
//!
//! So a hand-off never stands in a MULTI: some servers go on writing behind one that the end of an AOF has cut, and
//! lose all of it when they load that file again. An effect that is alone goes by its own command.

use std::ffi::CStr;

use smallvec::SmallVec;

use super::super::args::{parse_i64, Args};
use super::super::spec::{Arg, Spec};
use super::bounds::{BoundsEffect, CoolEffect, BOUNDS, COOL};
use super::changes::{IdEffect, RenewEffect, ENTER, LEAVE, RENEW};
use super::{parse_fence, parse_limit, HoldEffect, FREE, HOLD, LIMIT};
use crate::error::LockError;
use crate::primitive::codec::Source;
use crate::primitive::step::replica::Change;
use crate::primitive::{Clock, Cooldown, Effect, Fence, Hold, Lock};

pub(crate) const STEP: Spec = Spec {
    name: "lock._step",
    summary: "Internal: states all that one step did to a lock. For the AOF and for replicas only.",
    flags: "write admin",
    arity: -5,
    acl: "admin dangerous write",
    args: &[
        Arg::KEY,
        Arg::block("effect", &[Arg::string("name"), Arg::int("words"), Arg::string("word").many()]).many(),
    ],
    complexity: "O(N) with N words",
    ..Spec::WRITES_KEY
}
.with_grammar();

/// One word of a command in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    Number(i64),
    Text(&'a [u8]),
}

#[cfg(test)]
impl Word<'_> {
    /// The word as it is sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Word::Number(n) => n.to_string().into_bytes(),
            Word::Text(text) => text.to_vec(),
        }
    }
}

/// The words after a key. A hand-off has no more than fit inline.
pub(crate) type Words<'a> = SmallVec<[Word<'a>; 16]>;

/// One thing that happened to a lock, as the stream tells it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LockEffect<'a> {
    Hold(HoldEffect<'a>),
    Renew(RenewEffect<'a>),
    Enter(IdEffect<'a>),
    Leave(IdEffect<'a>),
    Bounds(BoundsEffect),
    Cool(CoolEffect<'a>),
    Free(Fence),
    Limit(u32),
}

/// All that one step did to a lock. Nearly always one or two things.
pub(crate) type LockEffects<'a> = SmallVec<[LockEffect<'a>; 2]>;

/// The commands of the effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EffectKind {
    Hold,
    Renew,
    Enter,
    Leave,
    Bounds,
    Cool,
    Free,
    Limit,
}

impl EffectKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Hold,
        Self::Renew,
        Self::Enter,
        Self::Leave,
        Self::Bounds,
        Self::Cool,
        Self::Free,
        Self::Limit,
    ];

    /// The description of the command for the server.
    pub(crate) const fn spec(self) -> &'static Spec {
        match self {
            Self::Hold => &HOLD,
            Self::Renew => &RENEW,
            Self::Enter => &ENTER,
            Self::Leave => &LEAVE,
            Self::Bounds => &BOUNDS,
            Self::Cool => &COOL,
            Self::Free => &FREE,
            Self::Limit => &LIMIT,
        }
    }

    /// The command's name in the stream.
    pub(crate) const fn command(self) -> &'static CStr {
        match self {
            Self::Hold => c"LOCK._HOLD",
            Self::Renew => c"LOCK._RENEW",
            Self::Enter => c"LOCK._ENTER",
            Self::Leave => c"LOCK._LEAVE",
            Self::Bounds => c"LOCK._BOUNDS",
            Self::Cool => c"LOCK._COOL",
            Self::Free => c"LOCK._FREE",
            Self::Limit => c"LOCK._LIMIT",
        }
    }

    /// The effect's name in a step.
    fn name(self) -> &'static [u8] {
        let command = self.command().to_bytes();
        command.strip_prefix(b"LOCK._").unwrap_or(command)
    }

    /// Reads the words of the command after its name: the key, which the server has read, and the effect.
    pub(crate) fn parse<'a>(self, words: &'a [&'a [u8]]) -> Result<LockEffect<'a>, LockError> {
        let mut args = Args::new(self.spec(), words);
        args.key()?;
        self.parse_rest(&mut args)
    }

    /// Reads the words after the key, all of them.
    fn parse_rest<'a>(self, args: &mut Args<'a>) -> Result<LockEffect<'a>, LockError> {
        let effect = match self {
            Self::Hold => LockEffect::Hold(HoldEffect::parse(args)?),
            Self::Renew => LockEffect::Renew(RenewEffect::parse(args)?),
            Self::Enter => LockEffect::Enter(IdEffect::parse(args)?),
            Self::Leave => LockEffect::Leave(IdEffect::parse(args)?),
            Self::Bounds => LockEffect::Bounds(BoundsEffect::parse(args)?),
            Self::Cool => LockEffect::Cool(CoolEffect::parse(args)?),
            Self::Free => LockEffect::Free(parse_fence(args)?),
            Self::Limit => LockEffect::Limit(parse_limit(args)?),
        };
        args.finish()?;
        Ok(effect)
    }
}

/// The effects of a step that the stream tells, with the lock as the step leaves it.
pub(crate) fn effects_of<'a>(effects: &'a [Effect], lock: &'a Lock, clock: Clock) -> LockEffects<'a> {
    let mut told = LockEffects::new();
    for effect in effects {
        match *effect {
            Effect::Granted { fence, .. } | Effect::Reinstated { fence } | Effect::Downgraded { fence } => {
                told.extend(
                    lock.hold_with(fence).into_iter().flat_map(|hold| LockEffect::of_hold(hold, clock)),
                );
            }
            Effect::Renewed { fence } => {
                told.extend(
                    lock.hold_with(fence).into_iter().flat_map(|hold| LockEffect::of_renewal(hold, clock)),
                );
            }
            Effect::Entered { fence, ref id } => told.push(LockEffect::Enter(IdEffect { fence, id })),
            Effect::Exited { fence, ref id } => told.push(LockEffect::Leave(IdEffect { fence, id })),
            Effect::Limited { limit } => told.push(LockEffect::Limit(limit)),
            Effect::Ended { fence, .. } => told.push(match lock.cooldown_with(fence) {
                Some(cooldown) => LockEffect::of_cooldown(cooldown, clock),
                None => LockEffect::Free(fence),
            }),
            Effect::KeptAway { fence } => told.push(LockEffect::Free(fence)),
            Effect::Kept
            | Effect::Queued
            | Effect::Announced { .. }
            | Effect::Wanted
            | Effect::WaitEnded { .. } => {}
        }
    }
    told
}

impl<'a> LockEffect<'a> {
    /// The effects that state a hold: the hold, and what bounds it.
    pub(crate) fn of_hold(hold: &'a Hold, clock: Clock) -> impl Iterator<Item = Self> {
        [Self::Hold(HoldEffect::of(hold, clock))].into_iter().chain(Self::of_bounds(hold, clock))
    }

    /// The effects that state a hold which is known already, but for its ids.
    fn of_renewal(hold: &'a Hold, clock: Clock) -> impl Iterator<Item = Self> {
        [Self::Renew(RenewEffect::of(hold, clock))].into_iter().chain(Self::of_bounds(hold, clock))
    }

    fn of_bounds(hold: &Hold, clock: Clock) -> Option<Self> {
        hold.bounds().map(|bounds| Self::Bounds(BoundsEffect::of(hold.fence, bounds, clock)))
    }

    /// The effect that states a cooldown.
    pub(crate) fn of_cooldown(cooldown: &'a Cooldown, clock: Clock) -> Self {
        Self::Cool(CoolEffect::of(cooldown, clock))
    }

    pub(crate) const fn kind(&self) -> EffectKind {
        match self {
            Self::Hold(_) => EffectKind::Hold,
            Self::Renew(_) => EffectKind::Renew,
            Self::Enter(_) => EffectKind::Enter,
            Self::Leave(_) => EffectKind::Leave,
            Self::Bounds(_) => EffectKind::Bounds,
            Self::Cool(_) => EffectKind::Cool,
            Self::Free(_) => EffectKind::Free,
            Self::Limit(_) => EffectKind::Limit,
        }
    }

    /// Adds the words after the key.
    pub(crate) fn put<'s>(&'s self, words: &mut Words<'s>) {
        match self {
            Self::Hold(effect) => effect.put(words),
            Self::Renew(effect) => effect.put(words),
            Self::Enter(effect) | Self::Leave(effect) => effect.put(words),
            Self::Bounds(effect) => effect.put(words),
            Self::Cool(effect) => effect.put(words),
            Self::Free(fence) => words.push(Word::Number(fence.to_wire())),
            Self::Limit(limit) => words.push(Word::Number(i64::from(*limit))),
        }
    }

    /// The change that it makes to the lock on this server. Returns `None` if it cannot be true.
    pub(crate) fn here(self, source: Source, clock: Clock) -> Option<Change> {
        Some(match self {
            Self::Hold(effect) => Change::Hold(effect.into_hold(source, clock)?),
            Self::Renew(effect) => Change::Renew(effect.fence, effect.here(source, clock)),
            Self::Enter(effect) => Change::Enter(effect.fence, effect.id.into()),
            Self::Leave(effect) => Change::Leave(effect.fence, effect.id.into()),
            Self::Bounds(effect) => Change::Bounds(effect.fence, effect.into_bounds(source, clock)),
            Self::Cool(effect) => Change::Cool(effect.into_cooldown(source, clock)?),
            Self::Free(fence) => Change::Free(fence),
            Self::Limit(limit) => Change::Limit(limit),
        })
    }
}

/// The command that states these effects, and its words after the key. Returns `None` if there is nothing to state.
pub(crate) fn command_of<'a>(effects: &'a [LockEffect]) -> Option<(&'static CStr, Words<'a>)> {
    let mut words = Words::new();
    if let [only] = effects {
        only.put(&mut words);
        return Some((only.kind().command(), words));
    }
    for effect in effects {
        words.push(Word::Text(effect.kind().name()));
        let at = words.len();
        words.push(Word::Number(0));
        effect.put(&mut words);
        let count = words.iter().skip(at).skip(1).count();
        if let Some(number) = words.get_mut(at) {
            *number = Word::Number(count as i64);
        }
    }
    (!words.is_empty()).then_some((c"LOCK._STEP", words))
}

/// Reads the words of `LOCK._STEP`: the key, which the server has read, and the effects.
pub(crate) fn parse<'a>(words: &'a [&'a [u8]]) -> Result<LockEffects<'a>, LockError> {
    let mut args = Args::new(&STEP, words);
    args.key()?;
    let mut effects = LockEffects::new();
    while let Some(name) = args.next_word() {
        let kind =
            EffectKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or(LockError::BadEffect)?;
        let count = parse_i64(args.required()?).and_then(|count| usize::try_from(count).ok());
        let mut words = count.and_then(|count| args.take(count)).ok_or(LockError::BadEffect)?;
        effects.push(kind.parse_rest(&mut words)?);
    }
    Ok(effects)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bounds::Stamp;
    use super::*;
    use crate::limits::{ENTRIES_MAX, HOLDS_MAX, PERMITS_MAX};
    use crate::primitive::bounds::Tie;
    use crate::primitive::codec::{decode, encode};
    use crate::primitive::cooldown::CooldownReason;
    use crate::primitive::{Lease, LockManager, Moment, Permits, Step};

    const CLOCK: Clock = Clock { now: Moment(9_000_000), unix_us: 1_700_000_000_000_000 };

    fn read(line: &str) -> Result<LockEffects<'static>, LockError> {
        let words: Vec<&[u8]> = line.to_owned().leak().split(' ').map(str::as_bytes).collect();
        parse(words.leak())
    }

    /// The command of these effects as a line.
    fn written(effects: &[LockEffect]) -> Option<String> {
        let (command, words) = command_of(effects)?;
        let word = |word: &Word| match word {
            Word::Number(n) => format!(" {n}"),
            Word::Text(text) => format!(" {}", text.escape_ascii()),
        };
        Some(command.to_str().unwrap().to_owned() + " k" + &words.iter().map(word).collect::<String>())
    }

    #[test]
    fn several_effects_are_one_command_and_one_is_its_own() {
        let line = "k FREE 1 6 HOLD 7 o 7 1 1 1000 900 5000 BOUNDS 5 7 -1 -1 20 30 LIMIT 1 3 \
                    COOL 8 o 7 3 1 500 400 900 1 ENTER 2 7 id RENEW 5 7 1 1000 900 5000 \
                    RENEW 6 7 1 -1 -1 -1 note LEAVE 2 7 id HOLD 4 o 8 1000 5000";
        let effects = read(line).unwrap();
        assert_eq!(written(&effects).unwrap(), format!("LOCK._STEP {line}"));
        assert_eq!(written(&effects[..1]).unwrap(), "LOCK._FREE k 6");
        assert_eq!(written(&effects[1..2]).unwrap(), "LOCK._HOLD k o 7 1 1 1000 900 5000");
        assert_eq!(written(&[]), None);
    }

    #[test]
    fn a_step_with_one_part_that_cannot_be_true_is_refused_as_a_whole() {
        for line in [
            "k FREE 1 0",
            "k FREE 0",
            "k FREE",
            "k FREE 2 6",
            "k FREE -1 6",
            "k FREE x 6",
            "k FREE 1 6 HOLD 7 o 7 1 1 1000 -1 -1",
            "k FREE 1 6 FREE 2 6 7",
            "k STEP 1 6",
            "k free 1 6",
            "k HOLD 2 o 7",
            "k HOLD 3 o 7 x",
            "k HOLD 4 o 7 1000 -1",
            "k HOLD 4 o 0 1000 5000",
            "k HOLD 5 o 7 1000 5000 note",
            "k RENEW 4 7 1 1000 900",
            "k ENTER 1 7",
            "k LEAVE 3 7 id id",
        ] {
            let refused = read(line).unwrap_err();
            assert!(matches!(refused, LockError::BadEffect | LockError::Arity("lock._step")), "{line}");
        }
        let tomorrow = CLOCK.unix_us + 86_400_000_000;
        let effects = read(&format!("k FREE 1 6 HOLD 7 o {tomorrow} 1 1 1000 900 5000")).unwrap();
        let here = |source| {
            effects.iter().cloned().map(|effect| effect.here(source, CLOCK)).collect::<Option<Vec<_>>>()
        };
        assert!(here(Source::Client { ahead_ms: 3_600_000 }).is_none());
        assert!(here(Source::Primary).is_some());
    }

    /// One of these values.
    fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
        prop::sample::select(values.to_vec())
    }

    /// A time of the stream, or none.
    fn stamp() -> impl Strategy<Value = Stamp> {
        one_of(&[-1, 0, 5, 500, i64::MAX]).prop_map(|left_ms| {
            let unix_ms = if left_ms < 0 { -1 } else { (CLOCK.unix_ms() as i64).saturating_add(left_ms) };
            Stamp { left_ms, unix_ms }
        })
    }

    fn fence() -> impl Strategy<Value = Fence> {
        (1..6_u64).prop_map(|n| Fence::new(n).unwrap())
    }

    /// A hold that the words of a stream can state, if these can.
    fn stated_hold() -> impl Strategy<Value = Option<HoldEffect<'static>>> {
        let owner = one_of(&[&b"a"[..], b"b", b"c"]);
        let limit = one_of(&[u32::MAX, 1, 3, PERMITS_MAX, PERMITS_MAX + 1]);
        let permits = one_of(&[1, 2, 3, PERMITS_MAX, PERMITS_MAX + 1, u32::MAX]);
        let lease = one_of(&[-1, 0, 7, 1_000]).prop_map(|ms| Lease::from_wire(ms).unwrap());
        (owner, fence(), limit, permits, lease, stamp()).prop_map(
            |(owner, fence, limit, permits, lease, end)| {
                let permits = Permits::held(limit, permits)?;
                (end.left_ms >= 0 || lease == Lease::NEVER).then_some(HoldEffect {
                    owner,
                    fence,
                    permits,
                    lease,
                    end,
                    extra: None,
                })
            },
        )
    }

    const IDS: [&[u8]; 4] = [b"", b"a", b"b", b"c"];

    fn effect() -> impl Strategy<Value = Option<LockEffect<'static>>> {
        let tie = prop::option::of((0..9_u64).prop_map(|grace| Tie::new(1, 2, Lease::ms(grace))));
        let bounds = (fence(), stamp(), stamp(), tie);
        let why = one_of(&[CooldownReason::MinHold, CooldownReason::LockDelay]);
        prop_oneof![
            stated_hold().prop_map(|hold| hold.map(LockEffect::Hold)),
            (stated_hold(), why)
                .prop_map(|(hold, why)| hold.map(|hold| LockEffect::Cool(CoolEffect { hold, why }))),
            bounds.prop_map(|(fence, cap, min_end, tie)| {
                Some(LockEffect::Bounds(BoundsEffect { fence, cap, min_end, tie }))
            }),
            (fence(), stated_hold(), one_of(&[0, 1, 2, PERMITS_MAX + 1, u32::MAX])).prop_map(
                |(fence, hold, permits)| {
                    let HoldEffect { lease, end, .. } = hold?;
                    Some(LockEffect::Renew(RenewEffect { fence, permits, lease, end, note: b"why" }))
                }
            ),
            (fence(), one_of(&IDS), any::<bool>()).prop_map(|(fence, id, enters)| {
                let id = IdEffect { fence, id };
                Some(if enters { LockEffect::Enter(id) } else { LockEffect::Leave(id) })
            }),
            fence().prop_map(|fence| Some(LockEffect::Free(fence))),
            one_of(&[1, 2, PERMITS_MAX]).prop_map(|limit| Some(LockEffect::Limit(limit))),
        ]
    }

    /// No permits are none that a hold can have, and are refused as soon as they are read.
    fn can_be_read(effect: &LockEffect) -> bool {
        !matches!(effect, LockEffect::Renew(RenewEffect { permits: 0, .. }))
    }

    proptest! {
        #[test]
        fn the_command_of_effects_is_read_as_these_effects(effects in prop::collection::vec(effect(), 1..6)) {
            let effects: LockEffects = effects.into_iter().flatten().filter(can_be_read).collect();
            let Some((command, words)) = command_of(&effects) else { return Ok(()) };
            let words: Vec<Vec<u8>> = [b"k".to_vec()].into_iter().chain(words.iter().map(Word::bytes)).collect();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let read = match EffectKind::ALL.into_iter().find(|kind| kind.command() == command) {
                Some(kind) => kind.parse(&words).map(|effect| LockEffects::from_iter([effect])),
                None => parse(&words),
            };
            prop_assert_eq!(read.as_deref(), Ok(&effects[..]));
        }
    }

    /// A lock and what else its server remembers.
    struct Copy {
        lock: Lock,
        manager: LockManager,
    }

    impl Copy {
        fn apply_change(&mut self, effect: LockEffect) {
            let Some(change) = effect.here(Source::File, CLOCK) else { return };
            let Self { lock, manager } = self;
            Step { clock: CLOCK, db: 0, key: b"k", lock, manager, effects: &mut Vec::new() }
                .apply_change(change);
        }

        /// Whether what is saved can be loaded by whoever asks, and is the same.
        fn can_be_loaded(&self) -> bool {
            let bytes = encode(&self.lock, CLOCK);
            self.lock.is_free()
                || decode(&bytes, Source::Payload { ahead_ms: 3_600_000 }, CLOCK)
                    .is_some_and(|(again, left_out)| left_out == 0 && encode(&again, CLOCK) == bytes)
        }
    }

    proptest! {
        #[test]
        fn whatever_effects_leave_can_be_loaded_and_stands_if_they_are_told_again(
            effects in prop::collection::vec(effect(), 1..12),
        ) {
            let mut copy = Copy { lock: Lock::free(), manager: LockManager::default() };
            for effect in effects.into_iter().flatten() {
                let told = format!("{effect:?}");
                copy.apply_change(effect.clone());
                let bytes = encode(&copy.lock, CLOCK);
                copy.apply_change(effect);
                prop_assert_eq!(encode(&copy.lock, CLOCK), bytes, "{} told again", told);
                prop_assert!(copy.can_be_loaded(), "{told} left {:?}", copy.lock);
                let indexed = copy.lock.holds().len() + copy.lock.cooldowns().len();
                prop_assert!(copy.manager.leases.len() <= indexed, "{told} left something in the index");
            }
        }
    }

    #[test]
    fn a_fence_names_one_hold_whatever_is_told() {
        let mut copy = Copy { lock: Lock::free(), manager: LockManager::default() };
        let hold = "HOLD 7 o 5 1 1 -1 -1 -1";
        for line in [format!("k {hold}"), format!("k {}", hold.replace(" o ", " p "))] {
            read(&line).unwrap().into_iter().for_each(|effect| copy.apply_change(effect));
            assert_eq!(copy.lock.holds().len(), 1, "{line}");
        }
        read("k FREE 1 5").unwrap().into_iter().for_each(|effect| copy.apply_change(effect));
        assert!(copy.lock.is_free());
    }

    #[test]
    fn ids_come_and_go_one_by_one() {
        let mut copy = Copy { lock: Lock::free(), manager: LockManager::default() };
        let mut apply_change = |line: &str| {
            read(line).unwrap().into_iter().for_each(|effect| copy.apply_change(effect));
            let ids = copy.lock.holds().iter().flat_map(|hold| hold.entries().ids());
            let ids: Vec<String> = ids.map(|id| String::from_utf8(id.to_vec()).unwrap()).collect();
            assert!(copy.can_be_loaded(), "{line}");
            ids
        };
        apply_change("k HOLD 7 o 5 4294967295 4294967295 1000 900 5000");
        assert_eq!(apply_change("k ENTER 2 5 b"), ["", "b"]);
        assert_eq!(apply_change("k ENTER 2 5 a ENTER 2 5 a LEAVE 2 5 "), ["a", "b"]);
        assert_eq!(apply_change("k RENEW 6 5 4294967295 2000 1900 9000 note"), ["a", "b"]);
        assert_eq!(apply_change("k LEAVE 2 5 c LEAVE 2 4 a ENTER 2 4 c"), ["a", "b"], "of no such hold");
        assert_eq!(apply_change("k LEAVE 2 5 a LEAVE 2 5 b"), ["b"], "the last id goes with the hold");
        for n in 0..=ENTRIES_MAX {
            apply_change(&format!("k ENTER 2 5 {n}"));
        }
        let hold = &copy.lock.holds()[0];
        assert_eq!(
            (hold.entries().count(), hold.note(), hold.lease),
            (ENTRIES_MAX, &b"note"[..], Lease::ms(2000))
        );
    }

    #[test]
    fn a_renewal_takes_bounds_away_and_puts_nothing_past_the_limit() {
        let mut copy = Copy { lock: Lock::free(), manager: LockManager::default() };
        for line in [
            "k HOLD 7 a 5 3 2 -1 -1 -1 HOLD 7 b 6 3 1 -1 -1 -1 BOUNDS 5 5 -1 -1 500 1700000000500",
            "k RENEW 5 5 1 1000 900 1700000000900",
            "k RENEW 5 4 1 1000 900 1700000000900",
            "k RENEW 5 6 1000001 1000 900 1700000000900",
        ] {
            read(line).unwrap().into_iter().for_each(|effect| copy.apply_change(effect));
            assert!(copy.can_be_loaded(), "{line}");
        }
        let shown = |hold: &Hold| {
            (hold.fence.get(), hold.permits.count, hold.remaining_ms(CLOCK.now), hold.bounds().is_some())
        };
        let holds: Vec<_> = copy.lock.holds().iter().map(shown).collect();
        assert_eq!(holds, [(5, 1, 900, false), (6, 1, -1, false)]);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut copy = Copy { lock: Lock::free(), manager: LockManager::default() };
        for n in 1..=HOLDS_MAX + 2 {
            let line = format!("k o{n} {n} 4294967295 1 -1 -1 -1");
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            copy.apply_change(EffectKind::Hold.parse(&words).unwrap());
        }
        assert!(copy.can_be_loaded());
        let fences: Vec<u64> = copy.lock.holds().iter().map(|hold| hold.fence.get()).collect();
        assert_eq!((fences.len(), fences[0]), (HOLDS_MAX as usize, 3));
    }
}
