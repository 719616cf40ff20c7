//! Bars for what the tables say, on no background, in colours that can be read on white and on black.

use crate::document::{median, number};
use crate::log::Sample;
use crate::peers::Peer;
use crate::series::{title, Fast, Series};
use anyhow::{Context, Result};
use plotters::prelude::*;
use std::fs;
use std::path::Path;

const WIDTH: u32 = 760;
const BAR: i32 = 22;
const TOP: i32 = 40;
const LEFT: i32 = 290;
const RIGHT: i32 = 80;
const INK: RGBColor = RGBColor(128, 128, 128);
const OURS: RGBColor = RGBColor(217, 95, 2);
const THEIRS: RGBColor = RGBColor(91, 141, 184);

/// A bar chart: its file, its caption, the work, and what of it.
type Chart = (&'static str, &'static str, &'static str, fn(&Sample) -> f64);

pub const CHARTS: [Chart; 4] = [
    ("hand-offs", "Hand-offs/s of one lock, 16 clients", title::CROWDS[1], |s| s.handed),
    ("cpu", "Server CPU, ms per 1,000 acquisitions, one lock, 16 clients", title::CROWDS[1], |s| s.cpu_ms),
    ("crowd", "Hand-offs/s of one lock, 1,000 clients", title::THOUSAND, |s| s.handed),
    ("pairs", "Acquire and release of free locks, pairs/s, 50 clients", title::FREE, |s| s.acquired),
];

pub fn write(folder: &Path, fast: &Fast) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (file, caption, work, value) in CHARTS {
        let series = fast.series.iter().find(|series| series.title == work).context("no such work")?;
        bars(&folder.join(format!("{file}.svg")), caption, series, value)?;
    }
    Ok(())
}

fn bars(path: &Path, caption: &str, series: &Series, value: fn(&Sample) -> f64) -> Result<()> {
    let measured = series.rows.iter().filter_map(|(peer, row)| Some((*peer, row.as_ref().ok()?)));
    let values: Vec<_> = measured
        .map(|(peer, row)| (peer, median(row.iter().map(value).collect())))
        .filter(|(_, v)| v.is_finite())
        .collect();
    let most = values.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let height = (TOP + BAR * values.len() as i32 + 10) as u32;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
    area.draw(&Text::new(caption.to_string(), (8, 10), text(16)))?;
    let room = f64::from(WIDTH as i32 - LEFT - RIGHT);
    for (row, (peer, value)) in values.iter().enumerate() {
        let top = TOP + BAR * row as i32;
        let end = LEFT + ((value / most * room) as i32).max(1);
        let colour = if *peer == Peer::Module { OURS } else { THEIRS };
        area.draw(&Rectangle::new([(LEFT, top), (end, top + BAR - 6)], colour.filled()))?;
        area.draw(&Text::new(peer.to_string(), (8, top + 1), text(14)))?;
        area.draw(&Text::new(number(*value), (end + 6, top + 1), text(14)))?;
    }
    Ok(area.present()?)
}
