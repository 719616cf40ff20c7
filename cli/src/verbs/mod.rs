//! One file for each verb: what it takes, and what it does.

pub(crate) mod acquire;
pub(crate) mod break_;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod graph;
pub(crate) mod hold;
pub(crate) mod info;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod release;
pub(crate) mod renew;
pub(crate) mod run;
pub(crate) mod steal;
pub(crate) mod top;
pub(crate) mod watch;
pub(crate) mod why;

use crate::args::{Cli, Verb};
use crate::exit::{Exit, OrSystem, Outcome};

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Outcome<Exit> {
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
