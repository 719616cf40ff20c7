//! A storm of leases that all end within one second: does anybody else notice?
//! One client sends PING after PING meanwhile; plain keys that expire in the same second, and an idle server, compare.

use super::holding::{Kind, Names};
use crate::driver::{At, Driver, Next, Script};
use crate::gauge::{Gauge, Used};
use crate::report::{align_right, new_table, percent, Aim, Report, Spread};
use crate::rounds::{interval, latencies, micros, record};
use crate::server::{wait_for, Server};
use crate::setting::Setting;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use redis::Connection;
use std::time::{Duration, Instant};
use testbed::resp::encode;
use testbed::scan::Reply;
use testbed::stats::number;

const TITLE: &str = "100,000 leases end within 1 s";
const LEASES: usize = 100_000;
const STORM: Duration = Duration::from_secs(1);
/// From the first acquire to the first end of a lease: all must be taken by then. A busy machine gets more of it.
const HEAD_STARTS: [Duration; 3] = [Duration::from_secs(3), Duration::from_secs(9), Duration::from_secs(27)];
/// The probe sees the storm from its beginning to beyond its end.
const PROBE: Duration = Duration::from_millis(1_500);
const LEAD: Duration = Duration::from_millis(200);
const GONE: Duration = Duration::from_secs(30);
/// Each round takes some seconds and has 15,000 and more PINGs.
const MOST_ROUNDS: usize = 5;

const LOAD: [(&str, Option<Kind>); 3] =
    [("no leases", None), ("plain keys", Some(Kind::PlainKey)), ("locks", Some(Kind::Lock))];

struct Probed {
    latency: Histogram<u64>,
    used: Used,
}

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let server = setting.server().start()?;
    let mut probe = Probe::new(&server)?;
    let mut control = server.control()?;
    let loads = LOAD.into_iter().filter(|(_, kind)| *kind != Some(Kind::Lock) || setting.has_module());
    let loads: Vec<_> = loads.collect();
    let mut seen: Vec<Vec<Probed>> = loads.iter().map(|_| Vec::new()).collect();
    for _ in 0..setting.plan.rounds.min(MOST_ROUNDS) {
        for ((_, kind), seen) in loads.iter().zip(&mut seen) {
            let probed = HEAD_STARTS
                .into_iter()
                .find_map(|head| storm(&mut control, &mut probe, *kind, head).transpose());
            seen.push(probed.with_context(|| format!("taking {LEASES} leases took too long"))??);
        }
    }

    let header = ["what expires", "PINGs", "p50 us", "p99 us", "p99.9 us", "max us", "server CPU"];
    let mut table = new_table(header);
    (1..header.len()).for_each(|column| align_right(&mut table, column));
    for ((name, kind), seen) in loads.iter().zip(&seen) {
        let values = |value: &dyn Fn(&Probed) -> f64| seen.iter().map(value).collect::<Vec<_>>();
        let median = |value: &dyn Fn(&Probed) -> f64| number(Spread::of(&values(value)).median);
        table.add_row([
            (*name).to_string(),
            median(&|p| p.latency.len() as f64),
            median(&|p| micros(&p.latency, 0.5)),
            median(&|p| micros(&p.latency, 0.99)),
            median(&|p| micros(&p.latency, 0.999)),
            median(&|p| micros(&p.latency, 1.0)),
            percent(Spread::of(&values(&|p| p.used.share(p.used.server))).median),
        ]);
        let aim = if *kind == Some(Kind::Lock) { Aim::AtMost(2.0) } else { Aim::None };
        let milliseconds = values(&|p| micros(&p.latency, 0.999) / 1e3);
        report.check(TITLE, &format!("PING p99.9 ms while {name} expire"), aim, &milliseconds);
    }
    println!("\n## {TITLE}, PING meanwhile\n\n{table}");
    Ok(())
}

/// Takes everything, waits for the storm, probes through it, and sees that nothing is left. Nothing, if the storm began
/// before all was taken.
fn storm(
    control: &mut Connection,
    probe: &mut Probe,
    kind: Option<Kind>,
    head_start: Duration,
) -> Result<Option<Probed>> {
    let begins = Instant::now() + head_start;
    if let Some(kind) = kind {
        kind.take(control, Names::USUAL, 0..LEASES, |number| {
            let ends = begins + STORM * number as u32 / LEASES as u32;
            // One that is late ends at once; a lease of no length would be refused.
            ends.saturating_duration_since(Instant::now()).as_millis().max(1) as u64
        })?;
        if Instant::now() + LEAD >= begins {
            redis::cmd("FLUSHALL").exec(control)?;
            return Ok(None);
        }
        probe.run((begins - LEAD).saturating_duration_since(Instant::now()))?;
    }
    let probed = probe.run(LEAD + PROBE)?;
    wait_for("the last lease to end", GONE, || {
        let left: usize = redis::cmd("DBSIZE").query(control)?;
        Ok(left == 0)
    })?;
    Ok(Some(probed))
}

/// One client, one PING at a time.
struct Probe {
    driver: Driver,
    gauge: Gauge,
    pings: Pings,
}

impl Probe {
    fn new(server: &Server) -> Result<Self> {
        let pings = Pings {
            ping: encode(&["PING"]),
            sent: Instant::now(),
            open: true,
            counting: false,
            latency: latencies(),
        };
        Ok(Self { driver: Driver::connect(server.addr(), 1)?, gauge: Gauge::new(server.pid())?, pings })
    }

    fn run(&mut self, length: Duration) -> Result<Probed> {
        self.pings.open = true;
        let used = interval(&mut self.driver, &mut self.pings, 0, &self.gauge, length)?;
        Ok(Probed { latency: std::mem::replace(&mut self.pings.latency, latencies()), used })
    }
}

struct Pings {
    ping: Vec<u8>,
    sent: Instant,
    open: bool,
    counting: bool,
    latency: Histogram<u64>,
}

impl Script for Pings {
    fn begin(&mut self, _client: usize, now: Instant) -> &[u8] {
        self.sent = now;
        &self.ping
    }

    fn reply(&mut self, client: usize, _reply: &Reply<'_>, at: At) -> Result<Next<'_>> {
        if self.counting {
            record(&mut self.latency, at.now - self.sent);
        }
        if !self.open {
            return Ok(Next::Rest);
        }
        Ok(Next::Send(self.begin(client, at.now)))
    }

    fn count(&mut self, on: bool) {
        self.counting = on;
    }

    fn finish(&mut self) {
        self.open = false;
    }
}
