//! One file for each verb: what it takes, and what it does.

pub mod acquire;
pub mod break_;
pub mod cancel;
pub mod completions;
pub mod doctor;
pub mod export;
pub mod graph;
pub mod hold;
pub mod info;
pub mod ls;
pub mod man;
pub mod release;
pub mod renew;
pub mod run;
pub mod steal;
pub mod top;
pub mod watch;
pub mod why;

use crate::args::{Cli, Verb};
use crate::exit::{Exit, OrSystem, Outcome};

/// Does what the command line says.
pub fn run(cli: Cli) -> Outcome<Exit> {
    let address = cli.address;
    // One thread: the kernel ends the command of `run` with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().or_system("start")?;
    runtime.block_on(async {
        match cli.verb {
            Verb::Run(verb) => verb.run(&address.server()?).await,
            Verb::Acquire(verb) => verb.run(&address.server()?).await,
            Verb::Release(verb) => verb.run(&address.server()?).await,
            Verb::Renew(verb) => verb.run(&address.server()?).await,
            Verb::Hold(verb) => verb.run(&address.server()?).await,
            Verb::Ls(verb) => verb.run(&address.server()?).await,
            Verb::Info(verb) => verb.run(&address.server()?).await,
            Verb::Why(verb) => verb.run(&address.server()?).await,
            Verb::Graph(verb) => verb.run(&address.server()?).await,
            Verb::Top(verb) => verb.run(&address.server()?).await,
            Verb::Watch(verb) => verb.run(&address.server()?).await,
            Verb::Break(verb) => verb.run(&address.server()?).await,
            Verb::Steal(verb) => verb.run(&address.server()?).await,
            Verb::Cancel(verb) => verb.run(&address.server()?).await,
            Verb::Doctor(verb) => verb.run(&address.server()?).await,
            Verb::Export(verb) => verb.run(&address.server()?).await,
            Verb::Completions(verb) => verb.run(),
            Verb::Man(verb) => verb.run(),
        }
    })
}
