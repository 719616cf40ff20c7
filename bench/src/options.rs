//! The options of a run, from the command line and from the environment that `make bench` sets.

use crate::rounds::Plan;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Measures the lock module against its peers on real servers, each started here and stopped again.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the command line")]
pub(crate) struct Options {
    /// The work to measure
    #[arg(value_enum, default_value = "all")]
    pub work: Vec<Work>,
    /// Rounds per workload; each peer runs once in each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Seconds per peer and round
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// A first look: 3 rounds of half a second
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// Ten minutes for the memory-flat run
    #[arg(long)]
    pub full: bool,
    /// Exit with an error if an aim is missed
    #[arg(long)]
    pub gate: bool,
    /// Count instructions only, where a workload looks at the clock too
    #[arg(long)]
    pub counts_only: bool,
    /// Run the peers without the module, to check the benchmark itself
    #[arg(long)]
    pub peers_only: bool,
    /// The lock module
    #[arg(long, env = "MODULE_PATH", required_unless_present = "peers_only")]
    pub module: Option<PathBuf>,
    /// The least module that locks [default: floor.so beside this program]
    #[arg(long, env = "FLOOR_PATH")]
    pub floor: Option<PathBuf>,
    /// The server for everything but DELIFEQ
    #[arg(long, env = "SERVER_BIN", default_value = "redis-server")]
    pub server: PathBuf,
    /// A Valkey server with DELIFEQ (9.0 or later)
    #[arg(long, env = "VALKEY_BIN")]
    pub valkey: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Work {
    /// Instructions of each command, counted by callgrind
    Instructions,
    /// A pair and a hand-off in all of the server, beside the least module and the server's own commands
    Floor,
    /// The cost of the module to those who have nothing to do with it, counted in the same way
    Bystanders,
    /// The longest that each command can keep the others waiting
    Worst,
    /// Acquire and release of free locks
    Pairs,
    /// Writes under a lock that is held
    Guarded,
    /// Hand-offs of one lock among 2 to 1,000 clients
    Handoff,
    /// Hand-offs of 32 locks among 64 clients
    Locks32,
    /// Readers with writers, and a semaphore
    Modes,
    /// Pairs with an append-only file
    Aof,
    /// 10,000 waiters on one lock
    Waiters,
    /// Bytes per held lock
    Memory,
    /// 100,000 leases that end within one second
    Expiry,
    /// Memory after many acquire and release
    Flat,
    /// All of these
    All,
}

impl Options {
    pub(crate) fn wants(&self, work: Work) -> bool {
        self.work.contains(&work) || self.work.contains(&Work::All)
    }

    pub(crate) fn plan(&self) -> Plan {
        if self.quick {
            return Plan { rounds: 3, interval: Duration::from_millis(500) };
        }
        Plan {
            rounds: self.rounds as usize,
            interval: Duration::from_secs_f64(self.seconds.clamp(0.05, 600.0)),
        }
    }

    /// How long the memory-flat run takes.
    pub(crate) fn flat(&self) -> Duration {
        Duration::from_secs(match (self.quick, self.full) {
            (true, _) => 20,
            (_, true) => 600,
            _ => 60,
        })
    }

    /// The least module, if it is there.
    pub(crate) fn floor(&self) -> Option<PathBuf> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join("floor.so"));
        self.floor.clone().or_else(beside).filter(|path| path.exists())
    }
}
