//! A lock as bytes: what an RDB file and a DUMP carry. Written by whoever saved, read from whoever gave it, so
//! decoding trusts nothing: every count and length is checked against what is really there before memory is
//! taken for it.
//!
//! Version 2, all numbers little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version, 2 |
//! | 8 | when it was saved, wall clock, ms since 1970 |
//! | 4 | limit |
//! | 4 | number of holds, 1 or more |
//! | for each hold: 8 | fence |
//! | 4 | permits |
//! | 8 | lease in ms; all ones: never ends |
//! | 8 | ms left when it was saved; all ones: never ends |
//! | 2, then as many | owner |
//! | 2, then as many | note |
//! | 4 | locks granted together with it, 1 or more; not in version 1 |
//! | 2 | number of ids that it was entered under, none for the plain entry; not in version 1 |
//! | for each id: 2, then as many | id |

use super::bytes::{put_text, Input};
use super::deadlines::Slot;
use super::entries::Entries;
use super::fence::is_plausible;
use super::hold::Extra;
use super::{Claim, Clock, Fence, Hold, Lease, Lock, Moment, Owner};
use crate::limits::{ENTRIES_MAX, HOLDS_MAX, ID_BYTES_MAX, KEYS_MAX, NOTE_BYTES_MAX, OWNER_BYTES_MAX};

/// What is written.
const VERSION: u8 = 2;
/// What is read as well: holds without extras but for a note.
const OLD_VERSION: u8 = 1;
const NEVER: u64 = u64::MAX;

/// Where a lock comes from, and so what to believe of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The primary, by its stream or a full sync.
    Primary,
    /// A file of this server.
    File,
    /// A payload that a client restores.
    Payload,
    /// An effect that a client sends, as when a slot moves in.
    Client,
}

impl Source {
    /// Whether a hold ends by the time that was left when it was written, as that was moments ago. A file or a
    /// payload may be days old, and goes by the wall clock.
    const fn goes_by_time_left(self) -> bool {
        matches!(self, Self::Primary | Self::Client)
    }

    /// Whether a fence can be true. Our own data are believed even if the clock was set back since they were
    /// written; what a client sends must lie near the clock.
    pub fn believes(self, fence: Fence, clock: Clock) -> bool {
        matches!(self, Self::Primary | Self::File) || is_plausible(fence, clock.unix_us)
    }
}

/// The deadline here of a hold that had `left_ms` left and was to end at `deadline_unix_ms`. However far the
/// clocks are apart, a hold gets neither more than its lease nor a time that has passed.
pub fn deadline_here(
    lease: Lease,
    left_ms: u64,
    deadline_unix_ms: u64,
    source: Source,
    clock: Clock,
) -> Moment {
    if lease == Lease::NEVER {
        return Moment::NEVER;
    }
    let left =
        if source.goes_by_time_left() { left_ms } else { deadline_unix_ms.saturating_sub(clock.unix_ms()) };
    Lease::ms(left).min(lease).deadline(clock.now)
}

/// The bytes of a lock that somebody holds.
pub fn encode(lock: &Lock, clock: Clock) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + 96 * lock.holds().len());
    out.push(VERSION);
    out.extend(clock.unix_ms().to_le_bytes());
    out.extend(lock.limit().to_le_bytes());
    out.extend((lock.holds().len() as u32).to_le_bytes());
    for hold in lock.holds() {
        let never = hold.deadline == Moment::NEVER;
        out.extend(hold.fence.get().to_le_bytes());
        out.extend(hold.claim.permits.to_le_bytes());
        out.extend(u64::try_from(hold.lease.to_wire()).unwrap_or(NEVER).to_le_bytes());
        out.extend(if never { NEVER } else { hold.deadline.ms_after(clock.now) }.to_le_bytes());
        put_text(&mut out, hold.owner.as_bytes());
        put_text(&mut out, hold.note());
        out.extend(hold.keys().to_le_bytes());
        let ids = hold.entries().ids();
        out.extend((ids.len() as u16).to_le_bytes());
        ids.iter().for_each(|id| put_text(&mut out, id));
    }
    out
}

/// The lock that these bytes stand for; nothing if they break any rule.
pub fn decode(bytes: &[u8], source: Source, clock: Clock) -> Option<Lock> {
    let mut input = Input::new(bytes);
    let version = input.u8()?;
    if ![OLD_VERSION, VERSION].contains(&version) {
        return None;
    }
    let saved_unix_ms = input.u64()?;
    let limit = input.u32()?;
    let count = input.u32()?;
    if !(1..=HOLDS_MAX).contains(&count) {
        return None;
    }
    // One hold at a time, so that a false count runs out of bytes before it runs out of memory.
    let mut holds = Vec::new();
    for _ in 0..count {
        let mut hold = input.hold(limit, saved_unix_ms, source, clock)?;
        let note = input.text(NOTE_BYTES_MAX)?.into();
        let (keys, entries) = if version == VERSION { input.group()? } else { (1, Entries::PLAIN) };
        hold.extra = Extra { note, keys, entries }.boxed();
        holds.push(hold);
    }
    input.is_empty().then(|| Lock::from_holds(holds))?
}

impl Input<'_> {
    /// How many locks were granted together, and the ids of re-entry.
    fn group(&mut self) -> Option<(u32, Entries)> {
        let keys = self.u32().filter(|keys| (1..=KEYS_MAX as u32).contains(keys))?;
        let count = usize::from(self.u16()?);
        if count > ENTRIES_MAX {
            return None;
        }
        let ids: Option<Vec<Box<[u8]>>> =
            (0..count).map(|_| self.text(ID_BYTES_MAX).map(Box::from)).collect();
        Some((keys, Entries::from_ids(ids?)?))
    }

    fn hold(&mut self, limit: u32, saved_unix_ms: u64, source: Source, clock: Clock) -> Option<Hold> {
        let fence = Fence::new(self.u64()?).filter(|fence| source.believes(*fence, clock))?;
        let claim = Claim::held(limit, self.u32()?)?;
        let lease = match self.u64()? {
            NEVER => Lease::NEVER,
            ms => Lease::from_wire(i64::try_from(ms).ok()?)?,
        };
        let left_ms = self.u64()?;
        if (left_ms == NEVER) != (lease == Lease::NEVER) {
            return None;
        }
        let owner = Owner::new(self.text(OWNER_BYTES_MAX)?)?;
        let deadline = deadline_here(lease, left_ms, saved_unix_ms.saturating_add(left_ms), source, clock);
        Some(Hold { owner, fence, lease, deadline, extra: None, claim, slot: Slot::NONE })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::primitive::claim::ALL;

    const CLOCK: Clock = Clock { now: Moment(5_000_000), unix_us: 1_700_000_000_000_000 };

    fn extra() -> impl Strategy<Value = Extra> {
        let note = prop::collection::vec(any::<u8>(), 0..=NOTE_BYTES_MAX);
        let ids = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=ID_BYTES_MAX), 1..5);
        (note, 1..=KEYS_MAX as u32, ids).prop_map(|(note, keys, ids)| {
            let mut entries = Entries::of(&ids[0]);
            ids.iter().for_each(|id| entries.enter(id));
            Extra { note: note.into(), keys, entries }
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
                claim: Claim { limit: ALL, permits },
                slot: Slot::NONE,
            },
        )
    }

    fn lock() -> impl Strategy<Value = Lock> {
        // A limit below what is held is one that was lowered.
        let shapes = prop_oneof![Just(ALL), 1..10_u32];
        (shapes, prop::collection::vec(hold(), 1..4)).prop_filter_map("must fit", |(limit, mut holds)| {
            holds.iter_mut().for_each(|hold| hold.claim.limit = limit);
            if holds.len() == 1 && limit == ALL {
                holds[0].claim = Claim::EXCLUSIVE;
            }
            Lock::from_holds(holds)
        })
    }

    fn text(lock: &Lock) -> String {
        format!("{lock:?}")
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(lock in lock()) {
            for source in [Source::Primary, Source::File, Source::Payload, Source::Client] {
                let again = decode(&encode(&lock, CLOCK), source, CLOCK).unwrap();
                prop_assert_eq!(text(&again), text(&lock));
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
            if let Some(lock) = decode(&bytes, Source::File, CLOCK) {
                prop_assert!(!lock.is_free());
                prop_assert!(lock.limit() < ALL || lock.used() <= u64::from(ALL));
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
        let (lease, slot) = (Lease::ms(10_000), Slot::NONE);
        let deadline = CLOCK.now.plus_ms(8_000);
        lock.grant(Hold { owner, fence, lease, deadline, extra: None, claim: Claim::EXCLUSIVE, slot });
        let bytes = encode(&lock, CLOCK);
        let left = |source, unix_us| {
            let clock = Clock { now: Moment(1), unix_us };
            decode(&bytes, source, clock).unwrap().holds()[0].deadline.ms_after(clock.now)
        };
        let three_seconds_on = CLOCK.unix_us + 3_000_000;
        assert_eq!(left(Source::Primary, three_seconds_on), 8_000);
        assert_eq!(left(Source::File, three_seconds_on), 5_000);
        assert_eq!(left(Source::File, CLOCK.unix_us + 60_000_000), 0, "over, and never negative");
        assert_eq!(left(Source::File, CLOCK.unix_us - 60_000_000), 10_000, "never more than the lease");
    }

    #[test]
    fn our_own_data_are_believed_though_the_clock_was_set_back() {
        let mut lock = Lock::free();
        let owner = Owner::new(b"o").unwrap();
        let fence = Fence::new(CLOCK.unix_us + 86_400_000_000).unwrap();
        let (lease, deadline, claim) = (Lease::NEVER, Moment::NEVER, Claim::EXCLUSIVE);
        lock.grant(Hold { owner, fence, lease, deadline, extra: None, claim, slot: Slot::NONE });
        let bytes = encode(&lock, CLOCK);
        for (source, believed) in
            [(Source::Primary, true), (Source::File, true), (Source::Payload, false), (Source::Client, false)]
        {
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
        assert!(Claim::new(0, 1).is_none());
    }
}
