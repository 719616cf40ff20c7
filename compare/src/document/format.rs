//! Numbers and rows as the tables show them.

use crate::peers::Peer;
use anyhow::Result;
use std::fmt::Write;
use testbed::stats;
pub(crate) use testbed::stats::number;

pub(super) fn bold(peer: Peer) -> String {
    if peer == Peer::Module {
        format!("**{peer}**")
    } else {
        peer.to_string()
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The median of those that are figures: in a round in which nothing happened some are none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| value.is_finite());
    stats::median(&values)
}

pub(super) fn whole(value: f64) -> String {
    format!("{value:.0}")
}

pub(super) fn not_measured<'a>(
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
