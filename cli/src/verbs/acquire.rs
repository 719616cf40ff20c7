//! `acquire`: a lock for a script, which renews and gives it back itself.

use clap::Args;
use nix::unistd::getppid;

use crate::connect::Server;
use crate::exit::{Exit, Outcome};
use crate::owner;
use crate::signals::{Signals, ENDING};
use crate::wait::{self, Wanted};

/// It prints the fence and the owner, which `renew` and `release` want. Nobody renews the lock meanwhile.
#[derive(Args, Debug)]
pub(crate) struct Acquire {
    #[command(flatten)]
    wanted: Wanted,
    /// JSON instead of "FENCE OWNER"
    #[arg(short = 'J', long)]
    json: bool,
}

impl Acquire {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let mut signals = Signals::listen(&ENDING)?;
        // The process that people look for is the script.
        let owner = owner::name_for(getppid()).into();
        let held = wait::acquire(server, &self.wanted, None, owner, &mut signals).await?;
        held.tell(self.json).await?.leave();
        Ok(Exit::OK)
    }
}
