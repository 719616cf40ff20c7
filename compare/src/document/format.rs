//! Numbers and rows as the tables show them.

use crate::peers::Peer;
use anyhow::Result;
use std::fmt::Write;

pub fn bold(peer: Peer) -> String {
    if peer == Peer::Module {
        format!("**{peer}**")
    } else {
        peer.to_string()
    }
}

pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (values[half - 1] + values[half]) / 2.0,
        _ => values[half],
    }
}

pub fn whole(value: f64) -> String {
    format!("{value:.0}")
}

/// Three digits that matter.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v.is_nan() => "–".into(),
        v if v >= 1e6 => format!("{:.2}M", value / 1e6),
        v if v >= 1e4 => format!("{:.1}k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub fn not_measured<'a>(
    out: &mut String,
    rows: impl Iterator<Item = (&'a Peer, Option<&'a String>)>,
) -> Result<()> {
    for (peer, reason) in rows {
        if let Some(reason) = reason {
            writeln!(out, "- Not measured: {peer}: {reason}.")?;
        }
    }
    Ok(writeln!(out)?)
}
