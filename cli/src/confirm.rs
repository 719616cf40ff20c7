//! The question before something is done to others.

use std::io::{BufRead, IsTerminal, Write};

use crate::exit::{Failure, OrSystem, Outcome};
use crate::print::safe;

/// Asks on the terminal. Where there is none, the user must have said yes beforehand.
pub(crate) fn confirmed(question: &str, yes: bool) -> Outcome<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on; say --yes to do it"));
    }
    let mut out = std::io::stderr();
    write!(out, "{} [y/N] ", safe(question.as_bytes())).and_then(|()| out.flush()).or_system("ask")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).or_system("read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
