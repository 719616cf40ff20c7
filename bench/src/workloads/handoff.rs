//! How fast a lock goes from one waiting client to the next: many clients on one lock, and 64 clients on 32.

use super::contend::Contend;
use crate::driver::Driver;
use crate::gauge::Gauge;
use crate::peers::Peer;
use crate::report::{align_right, new_table, print_series, Aim, Report};
use crate::rounds::{self, Series};
use crate::server::calls;
use crate::setting::Setting;
use anyhow::Result;
use redis::Connection;
use testbed::stats::number;

/// Clients on one lock.
const CROWDS: [usize; 4] = [2, 16, 64, 1000];
/// More connections than the largest crowd, and the control connections.
const MAX_CLIENTS: [&str; 2] = ["--maxclients", "4000"];

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    for clients in CROWDS {
        let title = format!("hand-off, {clients} clients, 1 lock");
        let contest = contest(setting, &title, clients, 1)?;
        let ratio = |value: fn(&rounds::Sample) -> f64| contest.series.ratios(Peer::Lock, Peer::Blpop, value);
        report.check(&title, "hand-offs/s / BLPOP", Aim::AtLeast(0.97), &ratio(|s| s.rate()));
        report.check(&title, "send->grant p50 / BLPOP", Aim::None, &ratio(|s| s.latency_us(0.5)));
        report.check(&title, "send->grant p99 / BLPOP", Aim::AtMost(1.1), &ratio(|s| s.latency_us(0.99)));
        let aim = if clients == 16 { Aim::AtMost(0.95) } else { Aim::None };
        report.check(&title, "server CPU per acquisition / BLPOP", aim, &ratio(|s| s.server_us()));
        contest.check_books(report, &title);
    }
    Ok(())
}

pub(crate) fn run_many_locks(setting: &Setting, report: &mut Report) -> Result<()> {
    let title = "hand-off, 64 clients, 32 locks";
    let contest = contest(setting, title, 64, 32)?;
    let rates = contest.series.ratios(Peer::Lock, Peer::Blpop, |s| s.rate());
    report.check(title, "hand-offs/s / BLPOP", Aim::AtLeast(1.2), &rates);
    let waited = contest.series.ratios(Peer::Lock, Peer::Blpop, |s| s.latency.len() as f64);
    report.check(title, "hand-offs to one already waiting / BLPOP", Aim::None, &waited);
    let cpu = contest.series.ratios(Peer::Lock, Peer::Blpop, |s| s.server_us());
    report.check(title, "server CPU per acquisition / BLPOP", Aim::None, &cpu);
    contest.check_books(report, title);
    Ok(())
}

struct Contest {
    series: Series<Peer>,
    scripts: Vec<(Peer, Contend)>,
    /// Lock commands that the server itself counted.
    served: u64,
}

fn contest(setting: &Setting, title: &str, clients: usize, locks: usize) -> Result<Contest> {
    let mut launch = setting.server().with(&MAX_CLIENTS);
    launch.modules.extend(setting.floor.clone());
    let server = launch.start()?;
    let mut control = server.control()?;
    put_tokens(&mut control, locks)?;
    let mut peers = setting.present(&[Peer::Lock, Peer::Blpop]);
    peers.extend(setting.floor.is_some().then_some(Peer::Floor));
    let mut driver = Driver::connect(server.addr(), clients)?;
    let gauge = Gauge::new(server.pid())?;
    let mut scripts: Vec<_> = peers.iter().map(|&peer| (peer, Contend::new(peer, clients, locks))).collect();
    let series = rounds::run(setting.plan, &peers, |peer| {
        let (_, script) = scripts.iter_mut().find(|(of, _)| *of == peer).expect("every peer has its script");
        script.sample(&mut driver, &gauge, setting.plan.interval)
    })?;
    let served = calls(&mut control, "lock.acquire")? + calls(&mut control, "lock.release")?;
    let contest = Contest { series, scripts, served };
    contest.print(title);
    Ok(contest)
}

/// A BLPOP lock is free while its list holds one token.
fn put_tokens(control: &mut Connection, locks: usize) -> Result<()> {
    for lock in 0..locks {
        redis::cmd("RPUSH").arg(Peer::Blpop.contended_key(lock)).arg("token").exec(control)?;
    }
    Ok(())
}

impl Contest {
    /// The counts of the driver over all rounds, warm-up and drain included.
    fn print(&self, title: &str) {
        print_series(title, "hand-off", &self.series);
        let header = ["peer", "Jain", "max - min", "longest wait ms", "commands per acquisition", "pushes"];
        let mut table = new_table(header);
        for column in 1..header.len() {
            align_right(&mut table, column);
        }
        for (peer, script) in &self.scripts {
            let books = &script.books;
            table.add_row([
                peer.to_string(),
                number(script.jain()),
                script.widest_gap().to_string(),
                number(books.longest_wait.as_secs_f64() * 1e3),
                number(books.sent as f64 / books.acquired as f64),
                books.pushes.to_string(),
            ]);
        }
        println!("\n{table}");
    }

    fn check_books(&self, report: &mut Report, title: &str) {
        let ours = self.scripts.iter().find(|(peer, _)| *peer == Peer::Lock).map(|(_, script)| script);
        let one = |value: fn(&Contend) -> f64| ours.map(value).into_iter().collect::<Vec<_>>();
        let sent = one(|script| script.books.sent as f64 / script.books.acquired as f64);
        let pushes = one(|script| (script.books.pushes + script.books.replies - script.books.sent) as f64);
        let served: Vec<_> =
            ours.map(|script| self.served as f64 / script.books.acquired as f64).into_iter().collect();
        report.check(title, "commands sent per acquisition", Aim::Exactly(2.0), &sent);
        report.check(title, "commands served per acquisition", Aim::Exactly(2.0), &served);
        report.check(title, "pushes", Aim::Exactly(0.0), &pushes);
        report.check(title, "Jain index", Aim::AtLeast(0.999), &one(Contend::jain));
    }
}
