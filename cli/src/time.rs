//! Spans of time as people write them.

use std::time::Duration;

/// Reads "500ms", "30s", "2m", "1h", "1d"; a number alone counts seconds, and may have a fraction, as in flock's `-w`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let second = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err("write it like 500ms, 30s, 2m, 1h or 1d".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "write it like 500ms, 30s, 2m, 1h or 1d".to_owned())?;
    Duration::try_from_secs_f64(number * second).map_err(|_| "that is too long".to_owned())
}

/// The same for what must not be zero.
pub(crate) fn some_span(text: &str) -> Result<Duration, String> {
    match span(text)? {
        span if span < Duration::from_millis(1) => Err("must be 1ms or more".to_owned()),
        span => Ok(span),
    }
}

pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// "12 s", "3 min", "2 h": short, for a line that people read.
pub(crate) fn for_people(ms: i64) -> String {
    let (count, unit) = match ms {
        ..1_000 => (ms, "ms"),
        1_000..120_000 => (ms / 1_000, "s"),
        120_000..7_200_000 => (ms / 60_000, "min"),
        7_200_000..172_800_000 => (ms / 3_600_000, "h"),
        172_800_000.. => (ms / 86_400_000, "d"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, ms) in
            [("30s", 30_000), ("1.5", 1_500), (".007", 7), ("2m", 120_000), ("250ms", 250), ("0", 0)]
        {
            assert_eq!(span(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1", "1y", "1 s", "1e400"] {
            assert!(span(text).is_err(), "{text}");
        }
        assert!(some_span("0").is_err());
    }
}
