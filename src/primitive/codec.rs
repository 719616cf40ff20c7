//! A lock as bytes: what an RDB file and a DUMP carry. Written by whoever saved, read from whoever gave it, so
//! decoding trusts nothing: every count and length is checked against what is really there before memory is
//! taken for it.
//!
//! Version 4, all numbers little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version, 4 |
//! | 8 | when it was saved, wall clock, µs since 1970; ms before version 4, as all that is left |
//! | 4 | limit |
//! | 4 | number of holds |
//! | for each hold: 8 | fence |
//! | 4 | permits |
//! | 8 | lease in ms; all ones: never ends |
//! | 8 | µs left when it was saved; all ones: never ends |
//! | 2, then as many | owner |
//! | 2, then as many | note |
//! | 4 | locks granted together with it, 1 or more; not in version 1 |
//! | 2 | number of ids that it was entered under, none for the plain entry; not in version 1 |
//! | for each id: 2, then as many | id |
//! | 1 | which bounds follow: 1 cap, 2 floor, 4 tie; this and all below not in versions 1 and 2 |
//! | 8 | cap: µs left when it was saved |
//! | 8 | floor: the same |
//! | 8, 8, 4 | tie: process, client id, grace in ms |
//! | 4 | number of holds that cool; no less than 1 if there are no others |
//! | for each: | as above: fence, permits, lease, µs left, owner |
//! | 1 | why it is in cooldown |
//!
//! Times that leave the process are whole µs here, so that a lease ends where it would have ended, however often it is
//! saved and loaded.

#![expect(clippy::arithmetic_side_effects, reason = "checked against the limits above, or a size in memory")]

use super::bounds::{Bounds, Tie};
use super::bytes::{put_text, Input};
use super::cooldown::{Cooldown, CooldownReason};
use super::fence::is_plausible;
use super::hold::{Extra, Mark};
use super::reentry::ReentryIds;
use super::{Clock, Fence, Hold, Lease, Lock, Moment, Owner, Permits};
use crate::limits::{ENTRIES_MAX, HOLDS_MAX, ID_BYTES_MAX, KEYS_MAX, NOTE_BYTES_MAX, OWNER_BYTES_MAX};

/// The version that is written. Earlier versions are read as well: 1 has holds without extras but for a note, 2 has no
/// bounds, 3 has times in ms.
const VERSION: u8 = 4;
const NEVER: u64 = u64::MAX;
/// Which bounds a hold has.
const HAS_CAP: u8 = 1;
const HAS_FLOOR: u8 = 2;
const HAS_TIE: u8 = 4;

/// Where a lock comes from, and so what to believe of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The primary, by its stream or a full sync.
    Primary,
    /// A file of this server.
    File,
    /// A payload that a client restores; its fences may lie so many ms ahead of the clock.
    Payload { ahead_ms: u64 },
    /// An effect that a client sends, as when a slot moves in; the same.
    Client { ahead_ms: u64 },
}

impl Source {
    /// Whether a hold ends by the time that was left when it was written, as that was moments ago. A file or a
    /// payload may be days old, and goes by the wall clock.
    const fn goes_by_time_left(self) -> bool {
        matches!(self, Self::Primary | Self::Client { .. })
    }

    /// Whether this server or its primary wrote it, and not somebody else.
    const fn is_ours(self) -> bool {
        matches!(self, Self::Primary | Self::File)
    }

    /// Whether a fence can be true. Our own data are believed even if the clock was set back since they were
    /// written; what a client sends must lie near the clock.
    pub(crate) fn accepts_fence(self, fence: Fence, clock: Clock) -> bool {
        match self {
            Self::Primary | Self::File => true,
            Self::Payload { ahead_ms } | Self::Client { ahead_ms } => {
                is_plausible(fence, clock.unix_us, ahead_ms)
            }
        }
    }
}

/// Where a moment lies here that was `left_us` ahead, at `unix_us` by the wall clock there.
pub(crate) fn moment_here(left_us: u64, unix_us: u64, source: Source, clock: Clock) -> Moment {
    let left = if source.goes_by_time_left() { left_us } else { unix_us.saturating_sub(clock.unix_us) };
    clock.now.plus_us(left)
}

/// The bytes of a lock that somebody holds.
pub(crate) fn encode(lock: &Lock, clock: Clock) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + 96 * lock.holds().len());
    out.push(VERSION);
    out.extend(clock.unix_us.to_le_bytes());
    out.extend(lock.limit().to_le_bytes());
    out.extend((lock.holds().len() as u32).to_le_bytes());
    for hold in lock.holds() {
        put_hold(&mut out, hold, clock);
        put_text(&mut out, hold.note());
        out.extend(hold.keys().to_le_bytes());
        let ids = hold.entries().ids();
        out.extend((ids.len() as u16).to_le_bytes());
        ids.iter().for_each(|id| put_text(&mut out, id));
        put_bounds(&mut out, hold.bounds(), clock);
    }
    out.extend((lock.cooldowns().len() as u32).to_le_bytes());
    for cooldown in lock.cooldowns() {
        put_hold(&mut out, &cooldown.hold, clock);
        out.push(cooldown.why.to_wire());
    }
    out
}

/// Writes the part that every hold has.
fn put_hold(out: &mut Vec<u8>, hold: &Hold, clock: Clock) {
    let never = hold.deadline == Moment::NEVER;
    out.extend(hold.fence.get().to_le_bytes());
    out.extend(hold.permits.count.to_le_bytes());
    out.extend(u64::try_from(hold.lease.to_wire()).unwrap_or(NEVER).to_le_bytes());
    out.extend(if never { NEVER } else { hold.deadline.us_after(clock.now) }.to_le_bytes());
    put_text(out, hold.owner.as_bytes());
}

fn put_bounds(out: &mut Vec<u8>, bounds: Option<&Bounds>, clock: Clock) {
    let bounds = bounds.copied().unwrap_or_default();
    let (caps, floors) = (bounds.cap != Moment::NEVER, bounds.min_end > clock.now);
    out.push(
        if caps { HAS_CAP } else { 0 }
            | if floors { HAS_FLOOR } else { 0 }
            | bounds.tie.map_or(0, |_| HAS_TIE),
    );
    if caps {
        out.extend(bounds.cap.us_after(clock.now).to_le_bytes());
    }
    if floors {
        out.extend(bounds.min_end.us_after(clock.now).to_le_bytes());
    }
    if let Some(tie) = bounds.tie {
        out.extend(tie.node.to_le_bytes());
        out.extend(tie.client.to_le_bytes());
        out.extend((tie.grace.to_wire() as u32).to_le_bytes());
    }
}

/// The lock that these bytes stand for, and how many of its holds and cooldowns had to be left out. Returns `None` if the bytes
/// break any rule. Our own data may hold what cannot stand together, from a time when effects could make such a lock: the
/// server could not start with them, so that much is left out.
pub(crate) fn decode(bytes: &[u8], source: Source, clock: Clock) -> Option<(Lock, usize)> {
    let mut reader = Reader { input: Input::new(bytes), source, clock, unit_us: 1, saved_unix_us: 0 };
    let version = reader.input.u8().filter(|version| (1..=VERSION).contains(version))?;
    let saved = reader.input.u64()?;
    if version < 4 {
        // In ms, and rounded down: nothing may end early for that.
        (reader.unit_us, reader.saved_unix_us) = (1000, saved.saturating_mul(1000).saturating_add(999));
    } else {
        reader.saved_unix_us = saved;
    }
    let limit = reader.input.u32()?;
    let count = reader.input.u32().filter(|count| *count <= HOLDS_MAX)?;
    // One hold at a time, so that a false count runs out of bytes before it runs out of memory.
    let mut holds = Vec::new();
    for _ in 0..count {
        let mut hold = reader.hold(limit)?;
        let note = reader.input.text(NOTE_BYTES_MAX)?.into();
        let (keys, entries) = if version > 1 { reader.group()? } else { (1, ReentryIds::PLAIN) };
        let bounds = if version > 2 { reader.bounds()? } else { Bounds::default() };
        hold.extra = Extra { note, keys, entries, bounds: bounds.boxed(), ..Extra::default() }.boxed();
        holds.push(hold);
    }
    let mut cooldown = Vec::new();
    let count = if version > 2 { reader.input.u32().filter(|more| *more <= HOLDS_MAX - count)? } else { 0 };
    for _ in 0..count {
        let hold = reader.hold(limit).filter(|hold| hold.lease != Lease::NEVER)?;
        cooldown.push(Cooldown { hold, why: CooldownReason::from_wire(i64::from(reader.input.u8()?))? });
    }
    let (lock, left_out) = Lock::rebuilt(holds, cooldown);
    let is_whole = left_out == 0 && !lock.is_free();
    (reader.input.is_empty() && (is_whole || source.is_ours() && left_out > 0)).then_some((lock, left_out))
}

/// The bytes left to be read, and what is known of where they come from.
struct Reader<'a> {
    input: Input<'a>,
    source: Source,
    clock: Clock,
    /// The unit of the times that are left.
    unit_us: u64,
    saved_unix_us: u64,
}

impl Reader<'_> {
    /// How many locks were granted together, and the ids of re-entry.
    fn group(&mut self) -> Option<(u32, ReentryIds)> {
        let keys = self.input.u32().filter(|keys| (1..=KEYS_MAX as u32).contains(keys))?;
        let count = usize::from(self.input.u16()?);
        if count > ENTRIES_MAX {
            return None;
        }
        let ids: Option<Vec<Box<[u8]>>> =
            (0..count).map(|_| self.input.text(ID_BYTES_MAX).map(Box::from)).collect();
        Some((keys, ReentryIds::from_ids(ids?)?))
    }

    /// A moment that was so far ahead when this was saved.
    fn moment(&self, left: u64) -> Moment {
        let left_us = left.saturating_mul(self.unit_us);
        moment_here(left_us, self.saved_unix_us.saturating_add(left_us), self.source, self.clock)
    }

    fn hold(&mut self, limit: u32) -> Option<Hold> {
        let fence =
            Fence::new(self.input.u64()?).filter(|fence| self.source.accepts_fence(*fence, self.clock))?;
        // Whether it can be held is judged with the others.
        let permits = Permits { limit, count: self.input.u32()? };
        let lease = match self.input.u64()? {
            NEVER => Lease::NEVER,
            ms => Lease::from_wire(i64::try_from(ms).ok()?)?,
        };
        let deadline = match self.input.u64()? {
            // A hold without expiry can have another end, but no lease is without one.
            NEVER if lease != Lease::NEVER => return None,
            NEVER => Moment::NEVER,
            // However far the clocks are apart, a hold gets neither more than its lease nor a time that has passed.
            left => self.moment(left).min(lease.deadline(self.clock.now)),
        };
        let owner = Owner::new(self.input.text(OWNER_BYTES_MAX)?)?;
        Some(Hold { owner, fence, lease, deadline, extra: None, permits, mark: Mark::NONE })
    }

    fn bounds(&mut self) -> Option<Bounds> {
        let which = self.input.u8().filter(|which| *which <= HAS_CAP | HAS_FLOOR | HAS_TIE)?;
        let mut bounds = Bounds::default();
        if which & HAS_CAP != 0 {
            let left = self.input.u64()?;
            bounds.cap = self.moment(left);
        }
        if which & HAS_FLOOR != 0 {
            let left = self.input.u64()?;
            bounds.min_end = self.moment(left);
        }
        if which & HAS_TIE != 0 {
            let (node, client) = (self.input.u64()?, self.input.u64()?);
            let grace =
                Lease::from_wire(i64::from(self.input.u32()?)).filter(|grace| *grace != Lease::NEVER)?;
            bounds.tie = Some(Tie::new(node, client, grace));
        }
        Some(bounds)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::primitive::permits::ALL;

    const CLOCK: Clock = Clock { now: Moment(5_000_000), unix_us: 1_700_000_000_000_000 };

    fn extra() -> impl Strategy<Value = Extra> {
        let note = prop::collection::vec(any::<u8>(), 0..=NOTE_BYTES_MAX);
        let ids = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=ID_BYTES_MAX), 1..5);
        (note, 1..=KEYS_MAX as u32, ids, bounds()).prop_map(|(note, keys, ids, bounds)| {
            let mut entries = ReentryIds::of(&ids[0]);
            ids.iter().for_each(|id| entries.enter(id));
            Extra { note: note.into(), keys, entries, bounds: bounds.boxed(), ..Extra::default() }
        })
    }

    fn bounds() -> impl Strategy<Value = Bounds> {
        let ms = || prop::option::of(1..1_000_000_u64);
        let tie = prop::option::of((any::<u64>(), any::<u64>(), 0..1_000_000_u64));
        (ms(), ms(), tie).prop_map(|(cap, min_end, tie)| Bounds {
            cap: cap.map_or(Moment::NEVER, |ms| CLOCK.now.plus_ms(ms)),
            min_end: min_end.map_or(Moment::MIN, |ms| CLOCK.now.plus_ms(ms)),
            tie: tie.map(|(node, client, grace)| Tie::new(node, client, Lease::ms(grace))),
        })
    }

    fn hold() -> impl Strategy<Value = Hold> {
        let owner = prop::collection::vec(any::<u8>(), 1..=256);
        let lease = prop::option::of(1..1_000_000_u64);
        (owner, 1..CLOCK.unix_us, lease, 1..1_000_000_u64, extra(), 1..4_u32).prop_map(
            |(owner, fence, lease, left, extra, permits)| Hold {
                owner: Owner::new(&owner).unwrap(),
                fence: Fence::new(fence).unwrap(),
                lease: lease.map_or(Lease::NEVER, Lease::ms),
                deadline: lease.map_or(Moment::NEVER, |lease| CLOCK.now.plus_ms(left.min(lease))),
                extra: extra.boxed(),
                permits: Permits { limit: ALL, count: permits },
                mark: Mark::NONE,
            },
        )
    }

    fn lock() -> impl Strategy<Value = Lock> {
        // A limit below what is held is one that was lowered.
        let shapes = prop_oneof![Just(ALL), 1..10_u32];
        (shapes, prop::collection::vec(hold(), 1..4)).prop_filter_map("must fit", |(limit, mut holds)| {
            holds.iter_mut().for_each(|hold| hold.permits.limit = limit);
            if holds.len() == 1 && limit == ALL {
                holds[0].permits = Permits::EXCLUSIVE;
            }
            // Some of them have ended.
            let (cooldown, holds): (Vec<Hold>, Vec<Hold>) =
                holds.into_iter().partition(|hold| hold.lease != Lease::NEVER && hold.fence.get() % 3 == 0);
            let cool = |(at, hold): (usize, Hold)| Cooldown {
                hold: Hold { extra: None, ..hold },
                why: if at == 0 { CooldownReason::LockDelay } else { CooldownReason::MinHold },
            };
            let (lock, left_out) = Lock::rebuilt(holds, cooldown.into_iter().enumerate().map(cool).collect());
            (left_out == 0).then_some(lock)
        })
    }

    #[test]
    fn a_fence_names_one_hold_in_a_file_too() {
        let hold = |owner: &[u8], fence: u64| Hold {
            owner: Owner::new(owner).unwrap(),
            fence: Fence::new(fence).unwrap(),
            lease: Lease::NEVER,
            deadline: Moment::NEVER,
            extra: None,
            permits: Permits::SHARED,
            mark: Mark::NONE,
        };
        let (lock, left_out) = Lock::rebuilt(vec![hold(b"a", 1), hold(b"b", 1), hold(b"c", 2)], Vec::new());
        assert_eq!((lock.holds().len(), left_out), (2, 1));
        let why = CooldownReason::MinHold;
        let cooldown = vec![Cooldown { hold: hold(b"d", 2), why }];
        let (lock, left_out) = Lock::rebuilt(vec![hold(b"c", 2)], cooldown);
        assert_eq!((lock.holds().len(), lock.cooldowns().len(), left_out), (1, 0, 1));
    }

    fn text(lock: &Lock) -> String {
        format!("{lock:?}")
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(lock in lock()) {
            for source in [Source::Primary, Source::File, Source::Payload { ahead_ms: 3_600_000 }, Source::Client { ahead_ms: 3_600_000 }] {
                let (again, left_out) = decode(&encode(&lock, CLOCK), source, CLOCK).unwrap();
                prop_assert_eq!((text(&again), left_out), (text(&lock), 0));
            }
        }

        #[test]
        fn every_truncation_and_every_extra_byte_is_refused(lock in lock()) {
            let bytes = encode(&lock, CLOCK);
            for len in 0..bytes.len() {
                prop_assert!(decode(&bytes[..len], Source::Primary, CLOCK).is_none());
            }
            let longer = [bytes.as_slice(), &[0]].concat();
            prop_assert!(decode(&longer, Source::Primary, CLOCK).is_none());
        }

        #[test]
        fn no_bytes_make_it_panic_or_break_the_rule_of_permits(
            lock in lock(), at in any::<usize>(), patch in any::<[u8; 8]>(), len in 1..=8_usize,
        ) {
            let mut bytes = encode(&lock, CLOCK);
            let at = at % bytes.len();
            let end = bytes.len().min(at + len);
            bytes[at..end].copy_from_slice(&patch[..end - at]);
            if let Some((lock, left_out)) = decode(&bytes, Source::File, CLOCK) {
                prop_assert!(!lock.is_free() || left_out > 0);
                let payload = Source::Payload { ahead_ms: 3_600_000 };
                // An application may bring in less than a file may: no fence lies far ahead, none of a cooldown either.
                let mut holds = lock.holds().iter().chain(lock.cooldowns().iter().map(|cooldown| &cooldown.hold));
                let is_welcome = !lock.is_free() && holds.all(|hold| payload.accepts_fence(hold.fence, CLOCK));
                let again = decode(&encode(&lock, CLOCK), payload, CLOCK);
                prop_assert_eq!(again.is_some(), is_welcome);
                prop_assert!(lock.limit() < ALL || lock.occupancy().taken() <= u64::from(ALL));
                for hold in lock.holds() {
                    prop_assert!(hold.deadline <= hold.lease.deadline(CLOCK.now));
                }
            }
        }
    }

    #[test]
    fn a_file_follows_the_wall_clock_and_a_stream_the_time_left() {
        let mut lock = Lock::free();
        let owner = Owner::new(b"o").unwrap();
        let fence = Fence::new(7).unwrap();
        let (lease, mark) = (Lease::ms(10_000), Mark::NONE);
        let deadline = CLOCK.now.plus_ms(8_000);
        lock.grant(Hold { owner, fence, lease, deadline, extra: None, permits: Permits::EXCLUSIVE, mark });
        let bytes = encode(&lock, CLOCK);
        let left = |source, unix_us| {
            let clock = Clock { now: Moment(1), unix_us };
            decode(&bytes, source, clock).unwrap().0.holds()[0].deadline.ms_after(clock.now)
        };
        let three_seconds_on = CLOCK.unix_us + 3_000_000;
        assert_eq!(left(Source::Primary, three_seconds_on), 8_000);
        assert_eq!(left(Source::File, three_seconds_on), 5_000);
        assert_eq!(left(Source::File, CLOCK.unix_us + 60_000_000), 0, "over, and never negative");
        assert_eq!(left(Source::File, CLOCK.unix_us - 60_000_000), 10_000, "never more than the lease");
    }

    /// A hold that ends at this moment.
    fn ending(deadline: Moment) -> Lock {
        let mut lock = Lock::free();
        let (owner, fence) = (Owner::new(b"o").unwrap(), Fence::new(7).unwrap());
        let (lease, permits, mark) = (Lease::ms(2_000_000), Permits::EXCLUSIVE, Mark::NONE);
        lock.grant(Hold { owner, fence, lease, deadline, extra: None, permits, mark });
        lock
    }

    proptest! {
        #[test]
        fn a_lease_ends_where_it_would_have_ended_however_often_it_is_loaded(
            left_us in 100_000..1_000_000_000_u64,
            // How long it takes until it is loaded, and what the monotonic clock of that process says then.
            loads in prop::collection::vec((0..1_000_u64, 0..u64::MAX / 4), 1..20),
        ) {
            let end_unix_us = CLOCK.unix_us + left_us;
            let mut lock = ending(CLOCK.now.plus_us(left_us));
            let mut clock = CLOCK;
            for (takes_us, now) in loads {
                let bytes = encode(&lock, clock);
                clock = Clock { now: Moment(now), unix_us: clock.unix_us + takes_us };
                for source in [Source::File, Source::Payload { ahead_ms: 3_600_000 }] {
                    let again = decode(&bytes, source, clock).unwrap().0;
                    let end = clock.unix_us + again.holds()[0].deadline.us_after(clock.now);
                    prop_assert_eq!(end, end_unix_us);
                    lock = again;
                }
            }
        }

        #[test]
        fn no_lease_of_an_old_file_ends_early(
            us in 0..1_000_u64, left_us in 1_000..1_000_000_000_u64, takes_us in 0..1_000_u64,
        ) {
            let saved = Clock { now: Moment(5_000), unix_us: CLOCK.unix_us + us };
            let end_unix_us = saved.unix_us + left_us;
            // As version 3 put it: the moment of saving rounded down, and what was left rounded up.
            let mut bytes = encode(&ending(saved.now.plus_us(left_us)), saved);
            bytes[0] = 3;
            bytes[1..9].copy_from_slice(&saved.unix_ms().to_le_bytes());
            bytes[37..45].copy_from_slice(&left_us.div_ceil(1000).to_le_bytes());
            let clock = Clock { now: Moment(9), unix_us: saved.unix_us + takes_us };
            let lock = decode(&bytes, Source::File, clock).unwrap().0;
            let end = clock.unix_us + lock.holds()[0].deadline.us_after(clock.now);
            prop_assert!((end_unix_us..end_unix_us + 2_000).contains(&end), "{end} for {end_unix_us}");
        }
    }

    #[test]
    fn our_own_data_are_believed_though_the_clock_was_set_back() {
        let mut lock = Lock::free();
        let owner = Owner::new(b"o").unwrap();
        let fence = Fence::new(CLOCK.unix_us + 86_400_000_000).unwrap();
        let (lease, deadline, permits) = (Lease::NEVER, Moment::NEVER, Permits::EXCLUSIVE);
        lock.grant(Hold { owner, fence, lease, deadline, extra: None, permits, mark: Mark::NONE });
        let bytes = encode(&lock, CLOCK);
        for (source, believed) in [
            (Source::Primary, true),
            (Source::File, true),
            (Source::Payload { ahead_ms: 3_600_000 }, false),
            (Source::Client { ahead_ms: 3_600_000 }, false),
        ] {
            assert_eq!(decode(&bytes, source, CLOCK).is_some(), believed, "{source:?}");
        }
    }

    #[test]
    fn a_count_without_bytes_behind_it_takes_no_memory() {
        let mut bytes = vec![VERSION];
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(ALL.to_le_bytes());
        bytes.extend(HOLDS_MAX.to_le_bytes());
        assert!(decode(&bytes, Source::Primary, CLOCK).is_none());
        assert!(Permits::new(0, 1).is_none());
    }
}
