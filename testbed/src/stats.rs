//! Figures of many values.

/// The value below which this share of all values lies, with linear interpolation between neighbours; not a number when
/// there are none.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// The middle of all values; not a number when there are none.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// Jain's index: 1 when all got the same, 1/n when one got everything, not a number when there was nothing.
pub fn jain(shares: impl IntoIterator<Item = u64>) -> f64 {
    let (n, sum, squares) = shares.into_iter().fold((0.0, 0.0, 0.0), |(n, sum, squares), share| {
        let share = share as f64;
        (n + 1.0, sum + share, squares + share * share)
    });
    sum * sum / (n * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp, reason = "all are exact")]
    fn between_two_neighbours_lies_what_no_value_marks() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(
            [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| percentile(&values, share)),
            [1.0, 1.75, 2.5, 3.25, 4.0]
        );
        assert_eq!((median(&[7.0]), median(&[2.0, 9.0, 4.0])), (7.0, 4.0));
        assert!(median(&[]).is_nan());
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "all are exact")]
    fn jains_index_says_how_even_shares_are() {
        assert_eq!((jain([5, 5, 5]), jain([0, 0, 0, 9])), (1.0, 0.25));
        assert!(jain([]).is_nan() && jain([0, 0]).is_nan());
    }
}
