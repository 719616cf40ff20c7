//! Reads the tables of the document back, for what is drawn from them.

/// One lock and its figures. Where a table has a column for each size, they begin at the named one and end with the first
/// that was not measured.
#[derive(Debug, PartialEq)]
pub(crate) struct Row<'a> {
    pub lock: &'a str,
    /// Whether it is the lock in bold, or that lock in another setting.
    pub ours: bool,
    pub values: Vec<f64>,
}

/// The rows of the first table below this heading, from this column on. The heading is compared without regard to case.
pub(crate) fn rows<'a>(document: &'a str, heading: &str, column: &str) -> Option<Vec<Row<'a>>> {
    let is_heading = |line: &&str| {
        line.starts_with('#') && line.trim_start_matches(['#', ' ']).eq_ignore_ascii_case(heading)
    };
    let mut lines =
        document.lines().skip_while(|line| !is_heading(line)).skip_while(|line| !line.starts_with('|'));
    let at = cells(lines.next()?).position(|head| head == column)?;
    let body = lines.skip(1).take_while(|line| line.starts_with('|'));
    let row = |line: &'a str| {
        let lock = cells(line).next().unwrap_or_default().trim_matches('*');
        let values = cells(line).skip(at).map_while(figure).collect();
        Row { lock, ours: lock.starts_with("this module"), values }
    };
    Some(body.map(row).collect())
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.trim_matches('|').split('|').map(str::trim)
}

/// What `number` has written.
fn figure(cell: &str) -> Option<f64> {
    let (digits, unit) = match cell.strip_suffix(['k', 'M']) {
        Some(digits) => (digits, if cell.ends_with('k') { 1e3 } else { 1e6 }),
        None => (cell, 1.0),
    };
    digits.parse::<f64>().ok().map(|value| value * unit)
}

#[cfg(test)]
mod tests {
    use super::{rows, Row};

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let text = "### One\n\ntext\n\n| Lock | a | b |\n|---|--:|--:|\n| **this module** | 1.5k | 2.00M |\n| other | 7 | – |\n\n| x |";
        let row = |lock, ours, values: &[f64]| Row { lock, ours, values: values.to_vec() };
        let expected = [row("this module", true, &[1500.0, 2e6]), row("other", false, &[7.0])];
        assert_eq!(rows(text, "one", "a").unwrap(), expected);
        assert!(rows(text, "one", "b").unwrap()[1].values.is_empty());
        assert_eq!(rows(text, "one", "c"), None);
        assert_eq!(rows(text, "two", "a"), None);
    }
}
