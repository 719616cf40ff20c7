//! The benchmark of the lock module: starts servers, runs the workloads, prints the aims with their verdicts.
//! Layout: `server` and `placement` start processes, `driver` loads them, `rounds`, `gauge` and `callgrind` measure,
//! `peers` names what is compared, `workloads` says what is run, `report` prints. It never links the module.

mod callgrind;
mod driver;
mod gauge;
mod options;
mod peers;
mod placement;
mod report;
mod rounds;
mod server;
mod setting;
mod workloads;

use clap::Parser;
use options::{Options, Work};
use report::Report;
use setting::Setting;
use std::process::ExitCode;

type Run = fn(&Setting, &mut Report) -> anyhow::Result<()>;

const WORKLOADS: [(Work, &str, Run); 14] = [
    (Work::Instructions, "instructions", workloads::instructions::run),
    (Work::Floor, "floor", workloads::floor::run),
    (Work::Bystanders, "bystanders", workloads::bystanders::run),
    (Work::Worst, "worst", workloads::worst::run),
    (Work::Pairs, "pairs", workloads::pairs::run),
    (Work::Guarded, "guarded", workloads::guarded::run),
    (Work::Handoff, "handoff", workloads::handoff::run),
    (Work::Locks32, "locks32", workloads::handoff::run_many_locks),
    (Work::Modes, "modes", workloads::modes::run),
    (Work::Aof, "aof", workloads::aof::run),
    (Work::Waiters, "waiters", workloads::waiters::run),
    (Work::Memory, "memory", workloads::memory::run),
    (Work::Expiry, "expiry", workloads::expiry::run),
    (Work::Flat, "flat", workloads::flat::run),
];

fn main() -> ExitCode {
    let options = Options::parse();
    let setting = match Setting::prepare(&options) {
        Ok(setting) => setting,
        Err(error) => {
            eprintln!("lock-bench: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut report = Report::default();
    for (work, name, run) in WORKLOADS {
        if options.wants(work) {
            eprintln!("running {name} ...");
            // One workload that fails must not hide the results of the others.
            if let Err(error) = run(&setting, &mut report) {
                report.broken(name, &error);
            }
        }
    }
    report.print();
    if report.any_broken() || (options.gate && !report.all_met()) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
