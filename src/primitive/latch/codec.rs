//! A latch as bytes: what an RDB file and a DUMP carry. Decoding trusts nothing, as for a lock.
//!
//! Version 1, all numbers little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version, 1 |
//! | 4 | how many it was set to, 1 or more |
//! | 4 | how many are still to count |
//! | 4 | number of ids, no more than were counted |
//! | for each id, in order: 2, then as many | id, 1 byte or more |

#![expect(clippy::arithmetic_side_effects, reason = "checked against the limits above, or a size in memory")]

use super::Latch;
use crate::limits::ID_BYTES_MAX;
use crate::primitive::bytes::{put_text, Input};

const VERSION: u8 = 1;

/// The bytes of a latch.
pub(crate) fn encode(latch: &Latch) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + 32 * latch.ids.len());
    out.push(VERSION);
    for number in [latch.size, latch.left, latch.ids.len() as u32] {
        out.extend(number.to_le_bytes());
    }
    latch.ids.iter().for_each(|id| put_text(&mut out, id));
    out
}

/// The latch that these bytes stand for. Returns `None` if they break any rule.
pub(crate) fn decode(bytes: &[u8]) -> Option<Latch> {
    let mut input = Input::new(bytes);
    if input.u8()? != VERSION {
        return None;
    }
    let mut latch = Latch::counted_to(input.u32()?, input.u32()?)?;
    let count = input.u32()?;
    if count > latch.size - latch.left {
        return None;
    }
    // One id at a time, so that a false count runs out of bytes before it runs out of memory.
    let mut ids: Vec<Box<[u8]>> = Vec::new();
    for _ in 0..count {
        let id = input.text(ID_BYTES_MAX)?;
        let last = ids.last().map_or(&[][..], |last| last);
        if id <= last {
            return None;
        }
        ids.push(id.into());
    }
    latch.ids = ids.into_iter().collect();
    input.is_empty().then_some(latch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::LATCH_SIZE_MAX;

    fn latch() -> impl Strategy<Value = Latch> {
        let ids = prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..=ID_BYTES_MAX), 0..5);
        (ids, 1..LATCH_SIZE_MAX, 0..LATCH_SIZE_MAX).prop_map(|(ids, size, left)| {
            let size = size.max(ids.len() as u32);
            let left = left.min(size - ids.len() as u32);
            Latch { size, left, ids: ids.into_iter().map(Vec::into_boxed_slice).collect() }
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(latch in latch()) {
            prop_assert_eq!(decode(&encode(&latch)), Some(latch));
        }

        #[test]
        fn every_truncation_and_every_extra_byte_is_refused(latch in latch()) {
            let bytes = encode(&latch);
            for len in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..len]), None);
            }
            prop_assert_eq!(decode(&[bytes.as_slice(), &[0]].concat()), None);
        }

        #[test]
        fn no_bytes_make_it_panic_or_break_its_rules(
            latch in latch(), at in any::<usize>(), patch in any::<[u8; 8]>(), len in 1..=8_usize,
        ) {
            let mut bytes = encode(&latch);
            let at = at % bytes.len();
            let end = bytes.len().min(at + len);
            bytes[at..end].copy_from_slice(&patch[..end - at]);
            if let Some(latch) = decode(&bytes) {
                prop_assert!((1..=LATCH_SIZE_MAX).contains(&latch.size));
                prop_assert!(latch.ids.len() as u64 + u64::from(latch.left) <= u64::from(latch.size));
                prop_assert!(latch.ids().all(|id| (1..=ID_BYTES_MAX).contains(&id.len())));
                prop_assert_eq!(encode(&latch), bytes, "there is one way to write a latch");
            }
        }
    }

    #[test]
    fn what_cannot_be_true_is_refused() {
        let bytes = |size: u32, left: u32, count: u32, ids: &[&[u8]]| {
            let mut out = vec![VERSION];
            [size, left, count].iter().for_each(|n| out.extend(n.to_le_bytes()));
            ids.iter().for_each(|id| put_text(&mut out, id));
            out
        };
        let longest = [b'x'; ID_BYTES_MAX + 1];
        assert!(decode(&bytes(3, 1, 2, &[b"a", b"b"])).is_some());
        assert!(decode(&bytes(1, 0, 1, &[&longest[..ID_BYTES_MAX]])).is_some());
        for (what, bad) in [
            ("nothing to count", bytes(0, 0, 0, &[])),
            ("too much to count", bytes(LATCH_SIZE_MAX + 1, 0, 0, &[])),
            ("more left than there was", bytes(3, 4, 0, &[])),
            ("more ids than were counted", bytes(3, 2, 2, &[b"a", b"b"])),
            ("an id twice", bytes(3, 1, 2, &[b"a", b"a"])),
            ("ids out of order", bytes(3, 1, 2, &[b"b", b"a"])),
            ("an empty id", bytes(3, 1, 1, &[b""])),
            ("a long id", bytes(3, 1, 1, &[&longest])),
            ("a million ids without bytes", bytes(LATCH_SIZE_MAX, 0, LATCH_SIZE_MAX, &[])),
            ("another version", [&[2], &bytes(3, 3, 0, &[])[1..]].concat()),
        ] {
            assert_eq!(decode(&bad), None, "{what}");
        }
    }
}
