//! `hold`: a lock, and nothing but the lock, until a signal.

use std::time::Duration;

use clap::Args;
use nix::unistd::Pid;
use serde_json::json;

use crate::connect::Server;
use crate::exit::{Exit, Failure, Outcome};
use crate::owner;
use crate::print::line;
use crate::signals::{Signals, ENDING};
use crate::time::some_span;
use crate::wait::{acquire, Wanted};

/// It prints a line of JSON when it has the lock, and gives it back at SIGHUP, SIGINT, SIGQUIT or SIGTERM.
#[derive(Args, Debug)]
pub(crate) struct Hold {
    #[command(flatten)]
    wanted: Wanted,
    /// The hold ends so long after the connection of this program does
    #[arg(long, value_name = "TIME", value_parser = some_span)]
    tied: Option<Duration>,
}

impl Hold {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let mut signals = Signals::listen(&ENDING)?;
        let owner = owner::name_for(Pid::this()).into();
        let held = acquire(server, &self.wanted, self.tied, owner, &mut signals).await?;
        let mut held = held.tell(true).await?;
        let lost = loop {
            tokio::select! {
                _ = signals.ending() => break held.release().await?,
                lost = held.news(server) => if lost.is_some() {
                    held.give_up().await;
                    break lost;
                },
            }
        };
        let Some(reason) = lost else { return Ok(Exit::OK) };
        line(&json!({"keys": [self.wanted.key.json()], "lost": reason}).to_string())?;
        Err(Failure::new(Exit::LOST, format!("lost the lock {}: {reason}", self.wanted.key)))
    }
}
