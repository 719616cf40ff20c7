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

/// A figure as tables show it, with three digits that matter: with k and M above ten thousand, and a dash for none. Close
/// below 1, where an index such as Jain's says how little is missing, it has more.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v.is_nan() => "–".into(),
        v if v >= 1e6 => format!("{:.2}M", value / 1e6),
        v if v >= 1e4 => format!("{:.1}k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        v if v >= 0.9995 => format!("{value:.6}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_three_digits_that_matter() {
        let figures = [1_234_567.0, 12_345.0, 1_234.5, 99.94, -1.234, 0.999_87, 0.0567, f64::NAN];
        let shown = ["1.23M", "12.3k", "1234", "99.9", "-1.23", "0.999870", "0.057", "–"];
        assert_eq!(figures.map(number), shown);
    }

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
