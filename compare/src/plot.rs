//! Bars and lines for what the tables say, on no background, in colours that can be read on white and on black.

use crate::document::{median, number};
use crate::growth::SIZES;
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

/// The file and the caption of the lines.
pub const GROWTH: (&str, &str) =
    ("growth", "Pairs/s of 16 clients on free locks, while so many others are held");

pub fn write(folder: &Path, fast: &Fast) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (file, caption, work, value) in CHARTS {
        let series = fast.series.iter().find(|series| series.title == work).context("no such work")?;
        bars(&folder.join(format!("{file}.svg")), caption, series, value)?;
    }
    lines(&folder.join(format!("{}.svg", GROWTH.0)), GROWTH.1, fast)
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
        let colour = if peer.is_ours() { OURS } else { THEIRS };
        area.draw(&Rectangle::new([(LEFT, top), (end, top + BAR - 6)], colour.filled()))?;
        area.draw(&Text::new(peer.to_string(), (8, top + 1), text(14)))?;
        area.draw(&Text::new(number(*value), (end + 6, top + 1), text(14)))?;
    }
    Ok(area.present()?)
}

/// Both axes by powers of ten, each line with its name at its end.
fn lines(path: &Path, caption: &str, fast: &Fast) -> Result<()> {
    const HEIGHT: i32 = 420;
    const BOTTOM: i32 = 380;
    const AXIS: i32 = 60;
    const END: i32 = 450;
    const LINE: i32 = 17;
    let grown = fast.growth.iter().filter_map(|(peer, growth)| Some((*peer, growth.as_ref().ok()?)));
    let all: Vec<(Peer, Vec<(f64, f64)>)> = grown
        .map(|(peer, growth)| {
            (peer, growth.steps.iter().map(|(size, sample)| (*size as f64, sample.acquired)).collect())
        })
        .filter(|(_, points): &(Peer, Vec<_>)| !points.is_empty())
        .collect();
    let rates = || all.iter().flat_map(|(_, points)| points.iter().map(|(_, rate)| *rate));
    let low = rates().fold(f64::INFINITY, f64::min).log10().floor();
    let high = rates().fold(1.0, f64::max).log10().ceil().max(low + 1.0);
    let (first, last) = (SIZES[0] as f64, SIZES[SIZES.len() - 1] as f64);
    let x = |size: f64| {
        AXIS + ((size / first).log10() / (last / first).log10() * f64::from(END - AXIS)).round() as i32
    };
    let y =
        |rate: f64| BOTTOM - ((rate.log10() - low) / (high - low) * f64::from(BOTTOM - TOP)).round() as i32;
    let area = SVGBackend::new(path, (WIDTH, HEIGHT as u32)).into_drawing_area();
    let text = |size: i32, colour: &RGBColor| ("sans-serif", size).into_font().color(colour);
    area.draw(&Text::new(caption.to_string(), (8, 10), text(16, &INK)))?;
    for power in low as i32..=high as i32 {
        let at = y(10f64.powi(power));
        area.draw(&PathElement::new([(AXIS, at), (END, at)], INK.mix(0.3)))?;
        area.draw(&Text::new(number(10f64.powi(power)), (8, at - 7), text(13, &INK)))?;
    }
    for size in SIZES {
        area.draw(&Text::new(number(size as f64), (x(size as f64) - 14, BOTTOM + 8), text(13, &INK)))?;
    }
    // From the top down, and none on top of another.
    let end = |points: &[(f64, f64)]| points.last().map_or(BOTTOM, |(_, rate)| y(*rate));
    let mut ordered: Vec<_> = all.iter().collect();
    ordered.sort_by_key(|(_, points)| end(points));
    let mut free = TOP - LINE / 2;
    for (peer, points) in ordered {
        let colour = if peer.is_ours() { OURS } else { THEIRS };
        let path: Vec<_> = points.iter().map(|(size, rate)| (x(*size), y(*rate))).collect();
        area.draw(&PathElement::new(path.clone(), colour.stroke_width(2)))?;
        for &point in &path {
            area.draw(&Circle::new(point, 3, colour.filled()))?;
        }
        let at = (end(points) - 7).max(free);
        free = at + LINE;
        let tip = path.last().map_or((END, at), |(x, y)| (*x + 5, *y));
        area.draw(&PathElement::new([tip, (END + 12, at + 7)], colour.mix(0.4)))?;
        area.draw(&Text::new(peer.to_string(), (END + 16, at), text(13, &colour)))?;
    }
    Ok(area.present()?)
}
