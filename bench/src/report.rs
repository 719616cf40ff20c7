//! The measurements, as tables; and each aim with its verdict. A row that could not be measured is shown with its
//! reason, never dropped.

use crate::rounds::{Contestant, Sample, Series};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use testbed::stats::{number, percentile};

/// The value that a row wants of the median.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
    Exactly(f64),
    /// Shown for comparison only.
    None,
}

/// Counts are floating point only because everything in a row is.
const EXACT: f64 = 1e-9;

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<[String; 7]>,
    missed: usize,
    broken: usize,
}

impl Report {
    /// One aim: the median over the rounds decides.
    pub(crate) fn check(&mut self, work: &str, metric: &str, aim: Aim, values: &[f64]) {
        if values.is_empty() {
            return self.skip(work, metric, aim, "a side of it did not run");
        }
        let spread = Spread::of(values);
        let verdict = match aim.met(spread.median) {
            Some(true) => "PASS",
            Some(false) => "MISS",
            None => "",
        };
        self.missed += usize::from(verdict == "MISS");
        self.push(work, metric, aim, [number(spread.median), number(spread.q1), number(spread.q3)], verdict);
    }

    pub(crate) fn skip(&mut self, work: &str, metric: &str, aim: Aim, reason: &str) {
        self.push(work, metric, aim, Default::default(), &format!("skipped: {reason}"));
    }

    /// A whole workload failed.
    pub(crate) fn broken(&mut self, work: &str, error: &anyhow::Error) {
        self.broken += 1;
        eprintln!("{work} FAILED: {error:#}");
        self.push(work, "", Aim::None, Default::default(), &format!("FAILED: {error:#}"));
    }

    fn push(&mut self, work: &str, metric: &str, aim: Aim, values: [String; 3], verdict: &str) {
        let [median, q1, q3] = values;
        self.rows.push([work.into(), metric.into(), aim.text(), median, q1, q3, verdict.into()]);
    }

    pub(crate) fn print(&self) {
        let mut table =
            new_table(["work", "measure", "aim", "median", "quartile 1", "quartile 3", "verdict"]);
        for column in 3..6 {
            align_right(&mut table, column);
        }
        for row in &self.rows {
            table.add_row(row);
        }
        println!("\n## Aims\n\n{table}\n\n{} missed, {} failed", self.missed, self.broken);
    }

    pub(crate) fn all_met(&self) -> bool {
        self.missed == 0 && self.broken == 0
    }

    pub(crate) fn any_broken(&self) -> bool {
        self.broken > 0
    }
}

impl Aim {
    fn met(self, median: f64) -> Option<bool> {
        match self {
            Self::AtLeast(bound) => Some(median >= bound),
            Self::AtMost(bound) => Some(median <= bound),
            Self::Exactly(value) => Some((median - value).abs() < EXACT),
            Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
            Self::Exactly(value) => format!("= {value}"),
            Self::None => "-".into(),
        }
    }
}

/// Median and quartiles; not a number where there are no values.
pub(crate) struct Spread {
    pub q1: f64,
    pub median: f64,
    pub q3: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let at = |share| percentile(values, share);
        Self { q1: at(0.25), median: at(0.5), q3: at(0.75) }
    }
}

/// The absolute numbers behind the ratios: medians over the rounds, the rate with its quartiles.
pub(crate) fn print_series<C: Contestant>(title: &str, unit: &str, series: &Series<C>) {
    let rate = format!("{unit}/s");
    let per = format!("server us/{unit}");
    let header = [
        "peer",
        &rate,
        "quartiles",
        "p50 us",
        "p99 us",
        per.as_str(),
        "server CPU",
        "driver CPU",
        "foreign CPU",
    ];
    let mut table = new_table(header);
    for column in 1..header.len() {
        align_right(&mut table, column);
    }
    for &contestant in series.contestants() {
        let rates = Spread::of(&series.values(contestant, |s| s.rate()));
        let median = |value: &dyn Fn(&Sample) -> f64| Spread::of(&series.values(contestant, value)).median;
        table.add_row([
            contestant.to_string(),
            number(rates.median),
            format!("{} .. {}", number(rates.q1), number(rates.q3)),
            number(median(&|s| s.latency_us(0.5))),
            number(median(&|s| s.latency_us(0.99))),
            number(median(&|s| s.server_us())),
            percent(median(&|s| s.used.share(s.used.server))),
            percent(median(&|s| s.used.share(s.used.driver))),
            percent(median(&|s| s.used.share(s.used.foreign))),
        ]);
    }
    println!("\n## {title}\n\n{table}");
    println!(
        "\nrounds run again: {}; worst foreign CPU kept: {}",
        series.repeated,
        percent(series.worst_foreign())
    );
}

pub(crate) fn new_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    table
}

pub(crate) fn align_right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_on_the_bound_meets_the_aim() {
        assert_eq!(Aim::AtLeast(1.1).met(1.1), Some(true));
        assert_eq!(Aim::AtMost(1.1).met(1.2), Some(false));
        assert_eq!(Aim::Exactly(2.0).met(2.0), Some(true));
        assert_eq!(Aim::None.met(2.0), None);
    }

    #[test]
    fn only_missed_and_broken_rows_fail_the_gate() {
        let mut report = Report::default();
        report.check("w", "m", Aim::AtLeast(1.0), &[1.0, 2.0]);
        report.check("w", "info", Aim::None, &[0.0]);
        report.check("w", "not run", Aim::AtLeast(1.0), &[]);
        assert!(report.all_met());
        report.check("w", "m", Aim::AtLeast(3.0), &[1.0, 2.0]);
        assert!(!report.all_met() && !report.any_broken());
    }
}
