//! What people read and what programs read.

use std::io::{IsTerminal, Write};

use nix::sys::signal::Signal;
use terminal_size::terminal_size_of;

use crate::exit::{Exit, Failure, OrSystem, Outcome};

/// One line on standard error. Nobody is there to be told of a failure to write it.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "redis-lock: {}", safe(text.as_bytes()));
}

/// Prints a line.
pub(crate) fn line(text: &str) -> Outcome<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes as they are. Who has closed the pipe wants no more: that ends us without a word, as it ends others.
pub(crate) fn bytes(bytes: &[u8]) -> Outcome<()> {
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::by_signal(Signal::SIGPIPE as i32), ""))
        }
        written => written.or_system("write the output"),
    }
}

/// Whether somebody looks at standard error.
pub(crate) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Puts this text in place of the last one, on one line of standard error, cut off at the edge of the screen.
pub(crate) fn live(text: &str) {
    let columns = terminal_size_of(std::io::stderr()).map_or(usize::MAX, |(columns, _)| columns.0.into());
    // The terminal shows ^C behind it, which must not begin another line.
    let text: String = safe(text.as_bytes()).chars().take(columns.saturating_sub(3)).collect();
    let _ = write!(std::io::stderr(), "\r{text}\x1b[K");
}

/// A name, a note or another text of users for the eyes, such that it can be typed back between `$'` and `'` in a shell: what
/// could steer a terminal and what is no UTF-8 is escaped, and so is a backslash.
pub(crate) fn shown(bytes: &[u8]) -> String {
    escaped(bytes, true)
}

/// A line that names may stand in, which are escaped already: what could steer a terminal is escaped.
pub(crate) fn safe(line: &[u8]) -> String {
    escaped(line, false)
}

fn escaped(bytes: &[u8], backslash: bool) -> String {
    let mut text = String::new();
    let hex = |text: &mut String, bytes: &[u8]| {
        bytes.iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\\' if backslash => text.push_str("\\\\"),
                c if c.is_control() => hex(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => text.push(c),
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

/// Rows with names for their columns. An empty cell is a dash.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(names: &[&str]) -> Self {
        Self { rows: vec![names.iter().map(|name| name.to_uppercase()).collect()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let dash = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
        self.rows.push(cells.into_iter().map(dash).collect());
    }

    /// The lines, with no end of line behind the last.
    pub(crate) fn text(&self) -> String {
        let width =
            |at: usize| self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> =
            (0..self.rows.first().map_or(0, Vec::len)).map(|at| width(at).unwrap_or(0)).collect();
        let lines = self.rows.iter().map(|row| {
            let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed_back() {
        for (bytes, text) in [
            (&b"door"[..], "door"),
            (b"bad\xff", r"bad\xff"),
            (br"bad\xff", r"bad\\xff"),
            (b"\x1b[2J\r\n\t", r"\x1b[2J\r\n\t"),
            ("\u{9b}ü".as_bytes(), r"\xc2\x9bü"),
        ] {
            assert_eq!(shown(bytes), text);
            assert_eq!(safe(text.as_bytes()), text, "nothing is escaped twice");
            let shell =
                std::process::Command::new("bash").args(["-c", &format!("printf %s $'{text}'")]).output();
            assert_eq!(shell.map(|output| output.stdout).unwrap_or_default(), bytes, "{text}");
        }
    }
}
