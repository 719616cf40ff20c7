//! Writes that are done only while the writer holds its lock: by LOCK.GUARD, and by a script that compares the owner.

use super::uncontended::{Bed, Shape};
use crate::peers::{owner, Peer};
use crate::report::{print_series, Aim, Report};
use crate::rounds;
use crate::setting::Setting;
use anyhow::Result;

const PEERS: [Peer; 2] = [Peer::Guard, Peer::EvalGuard];
const SHAPE: Shape = Shape { clients: 50, pipeline: 32 };
const TITLE: &str = "guarded writes, 50 clients, pipeline 32";
const METRIC: &str = "writes/s / EVALSHA (check owner, then SET)";
const AIM: Aim = Aim::AtLeast(2.3);

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    if !setting.has_module() {
        report.skip(TITLE, METRIC, AIM, "no module");
        return Ok(());
    }
    let server = setting.server().start()?;
    let mut control = server.control()?;
    for client in 0..SHAPE.clients {
        let owner = owner(client);
        redis::cmd("LOCK.ACQUIRE")
            .arg(Peer::Guard.held_by(&owner))
            .arg(&owner)
            .arg("NOEXPIRE")
            .exec(&mut control)?;
        redis::cmd("SET").arg(Peer::EvalGuard.held_by(&owner)).arg(&owner).exec(&mut control)?;
    }
    let mut bed = Bed::new(&server, SHAPE)?;
    let series = rounds::run(setting.plan, &PEERS, |peer| bed.sample(peer, setting.plan.interval))?;
    print_series(TITLE, "pair", &series);
    report.check(TITLE, METRIC, AIM, &series.ratios(Peer::Guard, Peer::EvalGuard, |s| s.rate()));
    let cpu = series.ratios(Peer::Guard, Peer::EvalGuard, |s| s.server_us());
    report.check(TITLE, "server CPU per write / the same", Aim::None, &cpu);
    Ok(())
}
