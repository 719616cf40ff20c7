//! Acquire and release of free locks: pipelined (what the software costs), one client (a round trip) and fifty.

use super::uncontended::{Bed, Shape};
use crate::peers::Peer;
use crate::report::{print_series, Aim, Report};
use crate::rounds::{self, Series};
use crate::server::Launch;
use crate::setting::Setting;
use anyhow::Result;

/// The peer that is compared, how many pairs per second we make for one of theirs, and how much CPU of the server
/// theirs takes for one of ours.
struct Wanted {
    peer: Peer,
    rate: Aim,
    cpu: Aim,
}

const fn shown(peer: Peer) -> Wanted {
    Wanted { peer, rate: Aim::None, cpu: Aim::None }
}

struct Case {
    title: &'static str,
    shape: Shape,
    wanted: &'static [Wanted],
}

const CASES: [Case; 3] = [
    Case {
        title: "pairs, 50 clients, pipeline 32",
        shape: Shape { clients: 50, pipeline: 32 },
        wanted: &[
            Wanted { peer: Peer::SetEval, rate: Aim::None, cpu: Aim::AtLeast(2.1) },
            Wanted { peer: Peer::SetDel, rate: Aim::None, cpu: Aim::AtLeast(0.95) },
            shown(Peer::Ping),
            shown(Peer::Floor),
        ],
    },
    Case {
        title: "pairs, 1 client",
        shape: Shape { clients: 1, pipeline: 1 },
        wanted: &[
            shown(Peer::SetEval),
            shown(Peer::SetDel),
            Wanted { peer: Peer::Ping, rate: Aim::AtLeast(0.97), cpu: Aim::None },
            shown(Peer::Floor),
        ],
    },
    Case {
        title: "pairs, 50 clients",
        shape: Shape { clients: 50, pipeline: 1 },
        wanted: &[
            Wanted { peer: Peer::SetEval, rate: Aim::AtLeast(1.12), cpu: Aim::None },
            shown(Peer::SetDel),
            Wanted { peer: Peer::Ping, rate: Aim::AtLeast(0.92), cpu: Aim::None },
            shown(Peer::Floor),
        ],
    },
];

const ON_VALKEY: Case = Case {
    title: "pairs on Valkey, 50 clients, pipeline 32",
    shape: Shape { clients: 50, pipeline: 32 },
    wanted: &[
        Wanted { peer: Peer::SetDelifeq, rate: Aim::None, cpu: Aim::AtLeast(1.1) },
        shown(Peer::SetEval),
        shown(Peer::Ping),
    ],
};

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let mut launch = setting.server().clone();
    launch.modules.extend(setting.floor.clone());
    for case in &CASES {
        run_case(setting, report, &launch, case)?;
    }
    match &setting.valkey {
        Some(valkey) => run_case(setting, report, valkey, &ON_VALKEY)?,
        None => {
            for Wanted { peer, cpu, .. } in ON_VALKEY.wanted {
                report.skip(ON_VALKEY.title, &cpu_of(*peer), *cpu, "VALKEY_BIN is not set");
            }
        }
    }
    Ok(())
}

fn run_case(setting: &Setting, report: &mut Report, launch: &Launch, case: &Case) -> Result<()> {
    let mut peers = setting.present(&[Peer::Lock]);
    peers.extend(case.wanted.iter().map(|wanted| wanted.peer));
    peers.retain(|peer| *peer != Peer::Floor || launch.modules.len() > 1);

    let server = launch.start()?;
    let mut bed = Bed::new(&server, case.shape)?;
    let series = rounds::run(setting.plan, &peers, |peer| bed.sample(peer, setting.plan.interval))?;
    print_series(case.title, "pair", &series);
    check(report, case, &series);
    Ok(())
}

fn check(report: &mut Report, case: &Case, series: &Series<Peer>) {
    for Wanted { peer, rate, cpu } in case.wanted {
        report.check(case.title, &against(*peer), *rate, &series.ratios(Peer::Lock, *peer, |s| s.rate()));
        report.check(case.title, &cpu_of(*peer), *cpu, &series.ratios(*peer, Peer::Lock, |s| s.server_us()));
    }
}

fn cpu_of(peer: Peer) -> String {
    format!("server CPU per pair of {peer} / ours")
}

fn against(peer: Peer) -> String {
    format!("pairs/s / {peer}")
}
