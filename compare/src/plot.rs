//! Bars and lines for what the tables of the document say, on no background, in colours that can be read on white and on
//! black. They are drawn from the document itself, so that they never tell another story, and can be drawn again without
//! another run.

use crate::document::number;
use crate::document::tables::{rows, Row};
use crate::series::title;
use anyhow::{ensure, Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

const WIDTH: u32 = 760;
const BAR: i32 = 22;
const TOP: i32 = 40;
const LEFT: i32 = 290;
const RIGHT: i32 = 80;
const FOOT: i32 = 50;
const INK: RGBColor = RGBColor(128, 128, 128);
const OURS: RGBColor = RGBColor(217, 95, 2);
const THEIRS: RGBColor = RGBColor(91, 141, 184);

/// Said of a lock that let two in when it was tried.
const NO_LOCK: &str = "lets two in";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A bar chart of one column of one table.
pub(crate) struct Chart {
    pub file: &'static str,
    pub caption: &'static str,
    /// The work, which is the heading of the table.
    pub work: &'static str,
    column: &'static str,
    axis: &'static str,
    least_first: bool,
}

pub(crate) const CHARTS: [Chart; 4] = [
    Chart {
        file: "hand-offs",
        caption: "Hand-offs of one lock, 16 clients",
        work: title::CROWDS[1],
        column: "hand-offs/s",
        axis: "hand-offs per second; more is better",
        least_first: false,
    },
    Chart {
        file: "cpu",
        caption: "Server CPU for one lock, 16 clients",
        work: title::CROWDS[1],
        column: "server CPU ms per 1,000",
        axis: "ms of CPU per 1,000 acquisitions; less is better",
        least_first: true,
    },
    Chart {
        file: "crowd",
        caption: "Hand-offs of one lock, 1,000 clients",
        work: title::THOUSAND,
        column: "hand-offs/s",
        axis: "hand-offs per second; more is better",
        least_first: false,
    },
    Chart {
        file: "pairs",
        caption: "Acquire and release of free locks, 50 clients",
        work: title::FREE,
        column: "pairs/s",
        axis: "pairs per second; more is better",
        least_first: false,
    },
];

/// The file and the caption of the lines.
pub(crate) const GROWTH: (&str, &str) = ("growth", "16 clients on free locks, while so many others are held");

pub(crate) fn write(folder: &Path, document: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    let told = rows(document, "Right?", "two inside").context("nobody says what is right")?;
    let leaky: HashSet<&str> = told
        .iter()
        .filter(|row| row.values.first().is_some_and(|grants| *grants > 0.0))
        .map(|row| row.lock)
        .collect();
    for chart in &CHARTS {
        let mut rows =
            rows(document, chart.work, chart.column).with_context(|| format!("no {}", chart.work))?;
        rows.retain(|row| !row.values.is_empty());
        rows.sort_by(|a, b| b.values[0].total_cmp(&a.values[0]));
        if chart.least_first {
            rows.reverse();
        }
        bars(&folder.join(format!("{}.svg", chart.file)), chart, &rows, &leaky)?;
    }
    lines(&folder.join(format!("{}.svg", GROWTH.0)), document, &leaky)
}

fn text(size: i32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

fn colour(row: &Row) -> RGBColor {
    if row.ours {
        OURS
    } else {
        THEIRS
    }
}

fn name(row: &Row, leaky: &HashSet<&str>) -> String {
    if leaky.contains(row.lock) {
        format!("{} ({NO_LOCK})", row.lock)
    } else {
        row.lock.to_string()
    }
}

/// A scale of round numbers that ends at or above `most`, in up to five steps.
fn scale(most: f64) -> (f64, usize) {
    let power = 10f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| most / step <= 5.0);
    let step = step.unwrap_or(power * 10.0);
    (step, (most / step).ceil() as usize)
}

/// The best on top; a lock that lets two in is drawn hollow, as its figures are no measure for a lock.
fn bars(path: &Path, chart: &Chart, rows: &[Row], leaky: &HashSet<&str>) -> Result<()> {
    ensure!(!rows.is_empty(), "nothing to draw for {}", chart.file);
    let most = rows.iter().map(|row| row.values[0]).fold(f64::MIN_POSITIVE, f64::max);
    let bottom = TOP + BAR * rows.len() as i32;
    let area = SVGBackend::new(path, (WIDTH, (bottom + FOOT) as u32)).into_drawing_area();
    area.draw(&Text::new(chart.caption, (8, 10), text(16, INK)))?;
    let (step, steps) = scale(most);
    let room = f64::from(WIDTH as i32 - LEFT - RIGHT) / (step * steps as f64);
    for tick in 0..=steps {
        let value = step * tick as f64;
        let at = LEFT + (value * room) as i32;
        area.draw(&PathElement::new([(at, TOP - 4), (at, bottom)], INK.mix(0.3)))?;
        let figure = if tick == 0 { "0".into() } else { number(value) };
        area.draw(&Text::new(figure, (at - 10, bottom + 4), text(13, INK)))?;
    }
    area.draw(&Text::new(chart.axis, (LEFT, bottom + 24), text(14, INK)))?;
    for (at, row) in rows.iter().enumerate() {
        let (top, value) = (TOP + BAR * at as i32, row.values[0]);
        let end = LEFT + ((value * room) as i32).max(1);
        let bar = [(LEFT, top), (end, top + BAR - 6)];
        let is_lock = !leaky.contains(row.lock);
        let style = if is_lock { colour(row).filled() } else { colour(row).stroke_width(1) };
        area.draw(&Rectangle::new(bar, style))?;
        area.draw(&Text::new(row.lock.to_string(), (8, top + 1), text(14, INK)))?;
        let value = if is_lock { number(value) } else { format!("{}, {NO_LOCK}", number(value)) };
        area.draw(&Text::new(value, (end + 6, top + 1), text(14, INK)))?;
    }
    Ok(area.present()?)
}

/// Both axes by powers of ten, each line with its name at its end.
fn lines(path: &Path, document: &str, leaky: &HashSet<&str>) -> Result<()> {
    const BOTTOM: i32 = 380;
    const AXIS: i32 = 60;
    const END: i32 = 450;
    const LINE: i32 = 17;
    let sizes = crate::growth::SIZES.map(|size| size as f64);
    let mut all = rows(document, "Growth", &number(sizes[0])).context("no growth")?;
    all.retain(|row| !row.values.is_empty());
    let rates = || all.iter().flat_map(|row| &row.values).copied();
    let low = rates().fold(f64::INFINITY, f64::min).log10().floor();
    let high = rates().fold(1.0, f64::max).log10().ceil().max(low + 1.0);
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    let x = |size: f64| {
        AXIS + ((size / first).log10() / (last / first).log10() * f64::from(END - AXIS)).round() as i32
    };
    let y =
        |rate: f64| BOTTOM - ((rate.log10() - low) / (high - low) * f64::from(BOTTOM - TOP)).round() as i32;
    let area: Area = SVGBackend::new(path, (WIDTH, (BOTTOM + FOOT) as u32)).into_drawing_area();
    area.draw(&Text::new(GROWTH.1, (8, 10), text(16, INK)))?;
    area.draw(&Text::new("pairs/s, logarithmic", (AXIS, TOP - 12), text(13, INK)))?;
    area.draw(&Text::new("locks held by others, logarithmic", (AXIS, BOTTOM + 26), text(14, INK)))?;
    for power in low as i32..=high as i32 {
        let at = y(10f64.powi(power));
        area.draw(&PathElement::new([(AXIS, at), (END, at)], INK.mix(0.3)))?;
        area.draw(&Text::new(number(10f64.powi(power)), (8, at - 7), text(13, INK)))?;
    }
    for size in sizes {
        area.draw(&Text::new(number(size), (x(size) - 14, BOTTOM + 8), text(13, INK)))?;
    }
    // From the top down, and none on top of another.
    let end = |row: &Row| row.values.last().map_or(BOTTOM, |rate| y(*rate));
    all.sort_by_key(|row| end(row));
    let mut free = TOP - LINE / 2;
    for row in &all {
        let colour = colour(row);
        let path: Vec<_> = sizes.iter().zip(&row.values).map(|(size, rate)| (x(*size), y(*rate))).collect();
        area.draw(&PathElement::new(path.clone(), colour.stroke_width(2)))?;
        for &point in &path {
            area.draw(&Circle::new(point, 3, colour.filled()))?;
        }
        let at = (end(row) - 7).max(free);
        free = at + LINE;
        let tip = path.last().map_or((END, at), |(x, y)| (*x + 5, *y));
        area.draw(&PathElement::new([tip, (END + 12, at + 7)], colour.mix(0.4)))?;
        area.draw(&Text::new(name(row, leaky), (END + 16, at), text(13, colour)))?;
    }
    Ok(area.present()?)
}

#[cfg(test)]
mod tests {
    use super::scale;

    #[test]
    fn a_scale_has_round_steps_and_room_for_all() {
        assert_eq!(scale(9431.0), (2000.0, 5));
        assert_eq!(scale(54_800.0), (20_000.0, 3));
        assert_eq!(scale(0.7), (0.2, 4));
    }
}
