//! Says of most locks at once that nobody waits for them, while others are waited for: every request and every release
//! asks several times.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "the arithmetic of its own places, within bounds that the tests hold"
)]

/// Counters. With far more queues than these the tables are asked each time.
const PLACES: usize = 1_024;

/// How many queues there are, by a place that follows from a few bytes of the lock's name. A client that takes names
/// that share a place gains nothing by it: then the table is asked.
pub(super) struct Sieve([u32; PLACES]);

impl Default for Sieve {
    fn default() -> Self {
        Self([0; PLACES])
    }
}

impl Sieve {
    /// A lock of this name has a queue from now on.
    pub(super) fn add(&mut self, key: &[u8]) {
        if let Some(count) = self.0.get_mut(place(key)) {
            *count += 1;
        }
    }

    /// It has none any more.
    pub(super) fn remove(&mut self, key: &[u8]) {
        if let Some(count) = self.0.get_mut(place(key)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Whether a lock of this name may have a queue; if not, it has none.
    #[inline]
    pub(super) fn may_have(&self, key: &[u8]) -> bool {
        self.0.get(place(key)).is_some_and(|count| *count > 0)
    }
}

/// From the beginning, the middle and the end of the name, as names that are used together differ in one of them.
#[inline]
fn place(key: &[u8]) -> usize {
    let word = |from: usize| {
        let bytes = key.get(from..).and_then(|rest| rest.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let mix = match key.len() {
        len @ 8.. => word(0) ^ word(len / 2 - 4).rotate_left(21) ^ word(len - 8).rotate_left(42),
        _ => key.iter().fold(0, |mix, byte| mix << 8 | u64::from(*byte)),
    };
    // The upper bits of a product depend on all bits of the factor.
    ((mix ^ key.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_queue_is_missed_and_none_is_left(names in prop::collection::vec("[a-c]{0,20}", 1..60)) {
            let mut sieve = Sieve::default();
            names.iter().for_each(|name| sieve.add(name.as_bytes()));
            for (n, name) in names.iter().enumerate() {
                let mut left = names.iter().skip(n);
                prop_assert!(left.all(|name| sieve.may_have(name.as_bytes())));
                sieve.remove(name.as_bytes());
            }
            prop_assert!(sieve.0.iter().all(|count| *count == 0));
        }
    }

    #[test]
    fn names_that_differ_in_one_place_are_told_apart() {
        let patterns = ["lock:{n}", "{n}:lock:for:all:invoices", "lock:{user:{n}}:profile", "{n}"];
        for pattern in patterns {
            let mut sieve = Sieve::default();
            sieve.add(pattern.replace("{n}", "000000").as_bytes());
            let others = (1..1_000).map(|n| pattern.replace("{n}", &format!("{n:06}")));
            let taken_for_it = others.filter(|name| sieve.may_have(name.as_bytes())).count();
            assert!(taken_for_it < 20, "{pattern}: {taken_for_it} of 999");
        }
    }
}
