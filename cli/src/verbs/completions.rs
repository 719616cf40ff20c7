//! `completions`: what a shell completes.

use clap::Args;
use clap_complete::Shell;

use crate::args;
use crate::exit::{Exit, Outcome};
use crate::print::line;

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

/// What clap_complete makes of the hyphen in our name in bash, in one half of the script.
const WRONG: &str = "redis__subcmd__lock";
/// And in the other half.
const RIGHT: &str = "redis__lock";

impl Completions {
    pub(crate) fn run(self) -> Outcome<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut args::command(), "redis-lock", &mut script);
        line(String::from_utf8_lossy(&script).replace(WRONG, RIGHT).trim_end())?;
        Ok(Exit::OK)
    }
}
