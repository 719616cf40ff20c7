//! The words of the command line. What a verb takes stands beside it in `verbs/`.

use clap::{CommandFactory, Parser, Subcommand};

use crate::connect::Address;
use crate::exit::{Exit, Outcome};
use crate::verbs::{
    acquire, break_, cancel, completions, doctor, export, graph, hold, info, ls, man, release, renew, run,
    steal, top, watch, why,
};

/// Locks on a Redis or Valkey server with the redis-lock module: first come, first served, each with a fence.
#[derive(Parser, Debug)]
#[command(
    name = "redis-lock",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
#[command(after_help = EXITS)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub address: Address,
    #[command(subcommand)]
    pub verb: Verb,
}

const EXITS: &str = "\
Exit codes:
    0    done
    1    doctor has found a fault; break, steal or cancel has done nothing
   64    the command line is wrong, or the server refuses the request as it stands
   69    no server, or one without the module
   71    something of this machine failed
   75    the lock was not got (another code by -E)
   76    the lock is not held any more
   77    no permission
  126, 127, 128+n and all others of `run` are those of its command";

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Run a command while holding a lock
    Run(run::Run),
    /// Take a lock and print its fence and owner, for scripts
    Acquire(acquire::Acquire),
    /// Give a lock back
    Release(release::Release),
    /// Give a held lock a new lease
    Renew(renew::Renew),
    /// Hold a lock until a signal
    Hold(hold::Hold),
    /// List the locks
    Ls(ls::Ls),
    /// Show a lock: who has it, who waits
    Info(info::Info),
    /// Tell why an owner does not have a lock
    Why(why::Why),
    /// Draw who waits for whom
    Graph(graph::Graph),
    /// Watch the locks on the screen
    Top(top::Top),
    /// Print what happens to locks, a line of JSON each
    Watch(watch::Watch),
    /// End holds of others
    Break(break_::Break),
    /// Take a lock away from whoever has it
    Steal(steal::Steal),
    /// End an owner's wait
    Cancel(cancel::Cancel),
    /// Look for settings of the server that are bad for locks
    Doctor(doctor::Doctor),
    /// Serve metrics to Prometheus
    Export(export::Export),
    /// Print completions for a shell
    Completions(completions::Completions),
    /// Write man pages into a directory
    #[command(hide = true)]
    Man(man::Man),
}

/// Reads the command line. Help and version are printed here, and end the program.
pub(crate) fn parse() -> Outcome<Cli> {
    Cli::try_parse().map_err(|error| {
        // Its own form, with colours on a terminal.
        let exit = match (error.print(), error.use_stderr()) {
            (_, true) => Exit::USAGE,
            (Ok(()), false) => Exit::OK,
            (Err(_), false) => Exit::SYSTEM,
        };
        std::process::exit(exit.0.into());
    })
}

pub(crate) fn command() -> clap::Command {
    Cli::command()
}
