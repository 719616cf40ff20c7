//! Starts real deployments of the lock module on loopback, puts them under load, breaks them, and checks from outside what the
//! owners of locks saw. Ends with 1 when an aim is missed.

mod chain;
mod cluster;
mod conn;
mod history;
mod hold;
mod link;
mod load;
mod locks;
mod net;
mod node;
mod report;
mod route;
mod scenario;
mod sentinels;
mod space;
mod star;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use load::Mix;
use net::Means;
use node::Programs;
use scenario::{
    cluster_cut, cluster_failover, failovers, handover, partition, sentinel, slots, stopped, torn, Judge,
};

#[derive(Parser)]
struct Args {
    /// The server program.
    #[arg(long, env = "SERVER_BIN", global = true, default_value = "redis-server")]
    server: PathBuf,
    /// The module.
    #[arg(long, env = "MODULE_PATH", global = true, default_value = "target/release/libredis_lock.so")]
    module: PathBuf,
    /// Lease of all holds.
    #[arg(long, global = true, default_value_t = 2000)]
    lease_ms: u64,
    /// Owners of each of seven kinds.
    #[arg(long, global = true, default_value_t = 12)]
    each: u16,
    /// Owners that take a lock and give it back at once.
    #[arg(long, global = true, default_value_t = 12)]
    quick: u16,
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    /// Judges only what is so on a machine however slow: times and shares are printed, and no aims.
    #[arg(long, global = true)]
    only_promises: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Unplanned failovers, in each of which the newest grants are lost.
    Failovers {
        /// How many.
        #[arg(long, default_value_t = 100)]
        count: u32,
        /// How many more with the window off.
        #[arg(long, default_value_t = 10)]
        without: u32,
        /// For how long at most the replica hears nothing before the primary dies.
        #[arg(long, default_value_t = 300)]
        lag_ms: u64,
    },
    /// A primary that stops, is given up, and comes back, with and without min-replicas-to-write.
    Stopped {
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// Handovers by FAILOVER, with the window and with it ended at once.
    Handover {
        #[arg(long, default_value_t = 6)]
        count: usize,
    },
    /// A primary that is cut off and lives on, with and without min-replicas-to-write.
    Partition {
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// How it is cut off; namespaces need root. The best there is, if not said.
        #[arg(long)]
        by: Option<Means>,
    },
    /// One server that loses the end of its append-only file, with the window and without.
    Torn {
        #[arg(long, default_value_t = 10)]
        count: u32,
    },
    /// In a cluster: slots that move, with their locks held and waited for.
    Slots {
        #[arg(long, default_value_t = 24)]
        count: u32,
        /// How many redis-cli moves besides, on Redis.
        #[arg(long, default_value_t = 1000)]
        resharded: u32,
    },
    /// In a cluster: CLUSTER FAILOVER, and primaries that die.
    Cluster {
        #[arg(long, default_value_t = 3)]
        count: usize,
    },
    /// In a cluster: a primary that is cut off from all other nodes and lives on, with and without min-replicas-to-write; needs
    /// root.
    ClusterCut {
        #[arg(long, default_value_t = 2)]
        rounds: u32,
        /// The cluster-node-timeout of the one which is cut off; that of all others is 2000.
        #[arg(long, default_value_t = 60_000)]
        node_timeout_ms: u32,
    },
    /// A handover and a restart of each server.
    Rolling {
        #[arg(long, default_value_t = 3)]
        count: usize,
    },
    /// SENTINEL FAILOVER, and primaries that die under Sentinels.
    Sentinel {
        #[arg(long, default_value_t = 3)]
        count: usize,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let programs = Programs {
        server: args.server.clone(),
        module: args.module.canonicalize()?,
        lease_ms: args.lease_ms,
    };
    let mix = Mix {
        lease: Duration::from_millis(args.lease_ms),
        seed: args.seed,
        each: args.each,
        quick: args.quick,
    };
    let judge = if args.only_promises { Judge::Promises } else { Judge::All };
    let is_met = match args.what {
        What::Failovers { count, without, lag_ms } => {
            let plan =
                |count, window| failovers::Plan { count, window, lag: Duration::from_millis(lag_ms), judge };
            let on = count == 0
                || failovers::run(&programs, &mix, &plan(count, -1))?
                    .print("Failovers with a lost tail, with the window");
            let off = without == 0
                || failovers::run(&programs, &mix, &plan(without, 0))?.print("The same without the window");
            on && off
        }
        What::Stopped { rounds } => {
            let run = |needs_replica| stopped::run(&programs, &mix, rounds, needs_replica);
            let with = run(true)?.print("Two primaries for a while, with min-replicas-to-write");
            run(false)?.print("The same without min-replicas-to-write") && with
        }
        What::Handover { count } => {
            let run = |ends_window| {
                handover::run(&programs, &mix, &handover::Plan { count, restarts: false, ends_window, judge })
            };
            let ended = run(true)?.print("Handover by FAILOVER, the window ended");
            run(false)?.print("Handover by FAILOVER, with the window") && ended
        }
        What::Partition { rounds, by } => {
            let run = |needs_replica| {
                partition::run(&programs, &mix, &partition::Plan { rounds, means: by, needs_replica })
            };
            let with = run(true)?.print("A primary that is cut off, with min-replicas-to-write");
            run(false)?.print("The same without min-replicas-to-write") && with
        }
        What::Torn { count } => {
            let plan = |window| failovers::Plan { count, window, lag: Duration::from_secs(1), judge };
            let on = torn::run(&programs, &mix, &plan(-1))?.print("An AOF without its end, with the window");
            torn::run(&programs, &mix, &plan(0))?.print("The same without the window") && on
        }
        What::Slots { count, resharded } => {
            slots::run(&programs, &mix, count, resharded)?.print("Slots that move")
        }
        What::Cluster { count } => {
            let run = |dies| cluster_failover::run(&programs, &mix, count, dies, judge);
            let asked = run(false)?.print("CLUSTER FAILOVER");
            run(true)?.print("Death in a cluster") && asked
        }
        What::ClusterCut { rounds, node_timeout_ms } => {
            let run = |needs_replica| {
                let plan = cluster_cut::Plan { rounds, needs_replica, node_timeout_ms };
                cluster_cut::run(&programs, &mix, &plan)
            };
            match (run(true)?, run(false)?) {
                (Some(with), Some(without)) => {
                    let with =
                        with.print("A primary of a cluster that is cut off, with min-replicas-to-write");
                    without.print("The same without min-replicas-to-write") && with
                }
                _ => true,
            }
        }
        What::Rolling { count } => {
            let plan = handover::Plan { count, restarts: true, ends_window: true, judge };
            handover::run(&programs, &mix, &plan)?.print("Rolling restart")
        }
        What::Sentinel { count } => {
            let asked = sentinel::run(&programs, &mix, count, false, judge)?.print("SENTINEL FAILOVER");
            sentinel::run(&programs, &mix, count, true, judge)?.print("Death under Sentinels") && asked
        }
    };
    std::process::exit(i32::from(!is_met))
}
