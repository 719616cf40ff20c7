//! Acquire and release of free locks: pipelined (what the software costs), one client (a round trip) and fifty.

use super::uncontended::{Bed, Shape};
use crate::peers::Peer;
use crate::report::{print_series, Aim, Report};
use crate::rounds::{self, Series};
use crate::server::Launch;
use crate::setting::Setting;
use anyhow::Result;

/// A ratio of our pairs per second to a peer's, and its aim.
type Wanted = (Peer, Aim);

struct Case {
    title: &'static str,
    shape: Shape,
    rates: &'static [Wanted],
    /// Our server CPU per pair against SET NX + EVALSHA's.
    cpu: Aim,
}

const CASES: [Case; 3] = [
    Case {
        title: "pairs, 50 clients, pipeline 32",
        shape: Shape { clients: 50, pipeline: 32 },
        rates: &[
            (Peer::SetEval, Aim::AtLeast(2.8)),
            (Peer::SetDel, Aim::AtLeast(1.1)),
            (Peer::Ping, Aim::AtLeast(0.70)),
            (Peer::Noop, Aim::None),
        ],
        cpu: Aim::AtMost(0.36),
    },
    Case {
        title: "pairs, 1 client",
        shape: Shape { clients: 1, pipeline: 1 },
        rates: &[
            (Peer::SetEval, Aim::None),
            (Peer::SetDel, Aim::None),
            (Peer::Ping, Aim::AtLeast(0.97)),
            (Peer::Noop, Aim::None),
        ],
        cpu: Aim::None,
    },
    Case {
        title: "pairs, 50 clients",
        shape: Shape { clients: 50, pipeline: 1 },
        rates: &[
            (Peer::SetEval, Aim::AtLeast(1.12)),
            (Peer::SetDel, Aim::None),
            (Peer::Ping, Aim::AtLeast(0.92)),
            (Peer::Noop, Aim::None),
        ],
        cpu: Aim::None,
    },
];

const ON_VALKEY: Case = Case {
    title: "pairs on Valkey, 50 clients, pipeline 32",
    shape: Shape { clients: 50, pipeline: 32 },
    rates: &[(Peer::SetDelifeq, Aim::AtLeast(1.4)), (Peer::SetEval, Aim::None), (Peer::Ping, Aim::None)],
    cpu: Aim::None,
};

pub fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let mut launch = setting.server().clone();
    launch.modules.extend(setting.noop.clone());
    for case in &CASES {
        run_case(setting, report, &launch, case)?;
    }
    match &setting.valkey {
        Some(valkey) => run_case(setting, report, valkey, &ON_VALKEY)?,
        None => {
            for (peer, aim) in ON_VALKEY.rates {
                report.skip(ON_VALKEY.title, &against(*peer), *aim, "VALKEY_BIN is not set");
            }
        }
    }
    Ok(())
}

fn run_case(setting: &Setting, report: &mut Report, launch: &Launch, case: &Case) -> Result<()> {
    let mut peers = setting.present(&[Peer::Lock]);
    peers.extend(case.rates.iter().map(|(peer, _)| *peer));
    peers.retain(|peer| *peer != Peer::Noop || setting.noop.is_some());

    let server = launch.start()?;
    let mut bed = Bed::new(&server, case.shape)?;
    let series = rounds::run(setting.plan, &peers, |peer| bed.sample(peer, setting.plan.interval))?;
    print_series(case.title, "pair", &series);
    check(report, case, &series);
    Ok(())
}

fn check(report: &mut Report, case: &Case, series: &Series<Peer>) {
    for (peer, aim) in case.rates {
        report.check(case.title, &against(*peer), *aim, &series.ratios(Peer::Lock, *peer, |s| s.rate()));
    }
    let cpu = series.ratios(Peer::Lock, Peer::SetEval, |s| s.server_us());
    report.check(case.title, "server CPU per pair / SET NX PX + EVALSHA", case.cpu, &cpu);
}

fn against(peer: Peer) -> String {
    format!("pairs/s / {peer}")
}
