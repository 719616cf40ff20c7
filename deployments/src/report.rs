//! The table of figures, and whether each aim is met.

use std::fmt::Display;

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    figure: String,
    aim: String,
    is_met: bool,
}

impl Report {
    /// A figure with an aim.
    pub(crate) fn aim(&mut self, what: &str, figure: impl Display, aim: &str, is_met: bool) {
        self.rows.push(Row {
            what: what.to_owned(),
            figure: figure.to_string(),
            aim: aim.to_owned(),
            is_met,
        });
    }

    /// A figure that says under what conditions the others were found.
    pub(crate) fn say(&mut self, what: &str, figure: impl Display) {
        self.aim(what, figure, "", true);
    }

    /// Prints all; whether all aims are met.
    pub(crate) fn print(&self, title: &str) -> bool {
        println!("\n## {title}\n\n| Figure | Measured | Aim | |\n|---|---|---|---|");
        for Row { what, figure, aim, is_met } in &self.rows {
            let verdict = match (aim.is_empty(), is_met) {
                (true, _) => "",
                (_, true) => "met",
                _ => "**missed**",
            };
            println!("| {what} | {figure} | {aim} | {verdict} |");
        }
        self.rows.iter().all(|row| row.is_met)
    }
}
