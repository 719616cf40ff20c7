//! An open window as bytes, for a file or a full sync. All numbers are little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 8, 8 | the fences `known` and `newest` |
//! | 8 | µs left when it was saved |
//! | 8 | when it ends, wall clock, µs since 1970 |
//! | for each hold that has ended: 4 | database |
//! | 2, then as many | the lock's name |
//! | 8 | fence |
//! | 4, 4 | limit and permits; two zeros where they are not known |

use super::{Outline, Recovery};
use crate::primitive::bytes::{put_text, Input};
use crate::primitive::codec::{moment_here, Source};
use crate::primitive::{Clock, Fence, Permits};

/// The window's bytes; none if it is not open.
pub(crate) fn encode(recovery: &Recovery, clock: Clock) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(window) = recovery.outline() else { return out };
    // No command makes a lock with such a name, but RENAME does.
    let is_sayable = recovery.marks().all(|(_, key, ..)| u16::try_from(key.len()).is_ok());
    let left_us = window.until.us_after(clock.now);
    // A hold whose end is not marked must not come back.
    let newest = if is_sayable { window.newest } else { window.known };
    for n in [window.known, newest, left_us, clock.unix_us.saturating_add(left_us)] {
        out.extend(n.to_le_bytes());
    }
    for (db, key, fence, permits) in recovery.marks().filter(|_| is_sayable) {
        out.extend(db.to_le_bytes());
        put_text(&mut out, key);
        out.extend(fence.get().to_le_bytes());
        let (limit, count) = permits.map_or((0, 0), |permits| (permits.limit, permits.count));
        out.extend(limit.to_le_bytes());
        out.extend(count.to_le_bytes());
    }
    out
}

/// Opens the window that these bytes stand for, or none. Returns `None` if they break a rule.
pub(crate) fn decode(bytes: &[u8], recovery: &mut Recovery, source: Source, clock: Clock) -> Option<()> {
    recovery.hear(None);
    let mut input = Input::new(bytes);
    if input.is_empty() {
        return Some(());
    }
    let (known, newest) = (input.u64()?, input.u64()?);
    let (left_us, end_us) = (input.u64()?, input.u64()?);
    // A clock that was set back makes no window longer.
    let until = moment_here(left_us, end_us, source, clock).min(clock.now.plus_us(left_us));
    recovery.hear(Some(Outline { known, newest, until }));
    while !input.is_empty() {
        let db = i32::from_le_bytes(input.u32()?.to_le_bytes());
        let key = input.text(usize::from(u16::MAX))?;
        let fence = Fence::new(input.u64()?)?;
        let permits = match (input.u32()?, input.u32()?) {
            (0, 0) => None,
            (limit, count) => Some(Permits::held(limit, count)?),
        };
        recovery.record_end(db, key, fence, permits);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::primitive::Moment;

    const CLOCK: Clock = Clock { now: Moment(5_000_000), unix_us: 1_700_000_000_000_000 };

    type Mark = (i32, Vec<u8>, Fence, Option<Permits>);

    fn told(recovery: &Recovery) -> (Option<Outline>, Vec<Mark>) {
        let marks = recovery.marks().map(|(db, key, fence, permits)| (db, key.to_vec(), fence, permits));
        let mut marks: Vec<_> = marks.collect();
        marks.sort_by_key(|(db, key, fence, _)| (*db, key.clone(), *fence));
        (recovery.outline(), marks)
    }

    proptest! {
        #[test]
        fn what_is_saved_is_what_is_loaded(
            window in prop::option::of((any::<u64>(), any::<u64>(), 0..1_000_000_000_u64)),
            marks in prop::collection::vec(
                (0..20_i32, prop::collection::vec(any::<u8>(), 0..9), 1..1_000_000_u64, 0..3_usize),
                0..20,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut recovery = Recovery::default();
            let window = window.map(|(known, newest, left)| Outline { known, newest, until: CLOCK.now.plus_us(left) });
            recovery.hear(window);
            for (db, key, fence, permits) in &marks {
                let permits = [None, Some(Permits::SHARED), Some(Permits { limit: 3, count: 2 })][*permits];
                recovery.record_end(*db, key, Fence::new(*fence).unwrap(), permits);
            }
            let bytes = encode(&recovery, CLOCK);
            for source in [Source::Primary, Source::File] {
                let mut there = Recovery::default();
                prop_assert_eq!(decode(&bytes, &mut there, source, CLOCK), Some(()));
                prop_assert_eq!(told(&there), told(&recovery));
            }
            // Bytes that end too early are refused, or say no more than there is.
            let mut there = Recovery::default();
            if decode(&bytes[..cut.index(bytes.len() + 1)], &mut there, Source::File, CLOCK).is_some() {
                prop_assert!(there.marks().count() <= recovery.marks().count());
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_window_longer() {
        let mut recovery = Recovery::default();
        let window = Outline { known: 5, newest: 9, until: CLOCK.now.plus_ms(7) };
        recovery.hear(Some(window));
        let earlier = Clock { unix_us: CLOCK.unix_us - 1_000_000_000, ..CLOCK };
        let mut there = Recovery::default();
        assert_eq!(decode(&encode(&recovery, CLOCK), &mut there, Source::File, earlier), Some(()));
        assert_eq!(there.outline(), Some(window));
    }

    #[test]
    fn where_a_mark_cannot_be_said_nothing_comes_back() {
        let mut recovery = Recovery::default();
        recovery.hear(Some(Outline { known: 5, newest: 9, until: CLOCK.now }));
        recovery.record_end(0, &vec![b'k'; 70_000], Fence::new(7).unwrap(), None);
        let mut there = Recovery::default();
        assert_eq!(decode(&encode(&recovery, CLOCK), &mut there, Source::File, CLOCK), Some(()));
        assert_eq!(told(&there), (Some(Outline { known: 5, newest: 5, until: CLOCK.now }), vec![]));
    }
}
