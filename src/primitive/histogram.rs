//! How long things take: counts in buckets that are an eighth of their power of two wide. Adding is a few instructions, the
//! memory is fixed, and no quantile is told more than an eighth too high.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "the arithmetic of its own places, within bounds that the tests hold"
)]

/// Buckets of each power of two.
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 3;
/// The last power of two that is told apart, in µs: 12 days.
const LAST_POWER: u32 = 40;
/// Below this each value has a bucket of its own.
const EXACT: u64 = 2 * PARTS as u64;
const BUCKETS: usize = EXACT as usize + (LAST_POWER - PART_BITS - 1) as usize * PARTS + PARTS;

/// Times in µs.
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), count: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one more.
    pub(crate) fn record(&mut self, us: u64) {
        if let Some(count) = self.counts.get_mut(bucket_of(us)) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(us);
        self.max = self.max.max(us);
    }

    /// How many were counted.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// All together.
    pub(crate) const fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest; 0 if there was none.
    pub(crate) const fn max(&self) -> u64 {
        self.max
    }

    /// The value that so many of a thousand do not exceed: never too low, and at most an eighth too high. Returns 0 if
    /// nothing was counted.
    pub(crate) fn quantile(&self, per_mille: u64) -> u64 {
        let wanted = self.count.saturating_mul(per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return last_of(bucket).min(self.max);
            }
        }
        self.max
    }

    /// Powers of two, each with how many are below it and not below the one before. A power that is left out has a
    /// count of 0; a value too long for the last bucket but one has no power.
    pub(crate) fn powers(&self) -> Vec<(u64, u64)> {
        let mut powers: Vec<(u64, u64)> = Vec::new();
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let Some(power) = last_of(bucket).checked_add(1).map(u64::next_power_of_two) else { break };
            match powers.last_mut() {
                Some((last, so_far)) if *last == power => *so_far += count,
                _ => powers.push((power, *count)),
            }
        }
        powers
    }
}

/// The bucket of a time.
fn bucket_of(us: u64) -> usize {
    if us < EXACT {
        return us as usize;
    }
    let power = us.ilog2();
    let part = (us >> (power - PART_BITS)) as usize % PARTS;
    (EXACT as usize + (power - PART_BITS - 1) as usize * PARTS + part).min(BUCKETS - 1)
}

/// The largest time of a bucket.
fn last_of(bucket: usize) -> u64 {
    let Some(beyond) = bucket.checked_sub(EXACT as usize) else { return bucket as u64 };
    if bucket == BUCKETS - 1 {
        return u64::MAX;
    }
    let (power, part) = ((beyond / PARTS) as u32 + PART_BITS + 1, (beyond % PARTS) as u64);
    (1 << power) + (part + 1) * (1 << (power - PART_BITS)) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_that_ends_next() {
        for us in (0..5_000).chain([1 << 20, (1 << 20) - 1, 1 << 39, (1 << 40) - 1]) {
            let bucket = bucket_of(us);
            assert!(last_of(bucket) >= us, "{us}");
            assert!(bucket == 0 || last_of(bucket - 1) < us, "{us}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn powers_have_what_a_log_has_below_them(
            times in prop::collection::vec(prop_oneof![0..100_u64, 0..1_000_000_u64, 0..(1_u64 << 40)], 0..300),
        ) {
            let mut histogram = Histogram::default();
            times.iter().for_each(|us| histogram.record(*us));
            let told = histogram.powers();
            for power in (0..=40).map(|power| 1_u64 << power) {
                let below = told.iter().filter(|(of, _)| *of <= power).map(|(_, count)| *count).sum::<u64>();
                prop_assert_eq!(below, times.iter().filter(|us| **us < power).count() as u64, "{}", power);
            }
            prop_assert!(told.iter().all(|(_, count)| *count > 0) && told.is_sorted());
            prop_assert_eq!(histogram.sum(), times.iter().sum::<u64>());
        }

        #[test]
        fn quantiles_are_those_of_a_log_but_for_an_eighth(
            times in prop::collection::vec(prop_oneof![0..100_u64, 0..1_000_000_u64, 0..(1_u64 << 40)], 1..300),
            per_mille in prop::sample::select(vec![500_u64, 900, 990, 999, 1000]),
        ) {
            let mut histogram = Histogram::default();
            times.iter().for_each(|us| histogram.record(*us));
            let mut sorted = times;
            sorted.sort_unstable();
            let exact = sorted[(sorted.len() * per_mille as usize).div_ceil(1000).max(1) - 1];
            let told = histogram.quantile(per_mille);
            prop_assert!(exact <= told && told <= exact + exact / 8, "{told} for {exact}");
            prop_assert_eq!(Some(histogram.max()), sorted.last().copied());
        }
    }

    #[test]
    fn nothing_is_told_of_nothing() {
        assert_eq!((Histogram::default().quantile(500), Histogram::default().max()), (0, 0));
        assert_eq!(Histogram::default().powers(), []);
        let mut endless = Histogram::default();
        endless.record(u64::MAX);
        endless.record(u64::MAX);
        assert_eq!((endless.powers(), endless.sum()), (Vec::new(), u64::MAX));
    }
}
