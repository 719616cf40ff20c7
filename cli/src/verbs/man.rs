//! `man`: writes the man pages, for packages.

use std::path::PathBuf;

use clap::Args;

use crate::args;
use crate::exit::{Exit, OrSystem, Outcome};

#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Where to put them
    directory: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> Outcome<Exit> {
        std::fs::create_dir_all(&self.directory).or_system("make the directory")?;
        clap_mangen::generate_to(args::command(), &self.directory).or_system("write the man pages")?;
        Ok(Exit::OK)
    }
}
