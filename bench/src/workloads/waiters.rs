//! A very long queue: all clients wait for one lock, then it is drained from hand to hand.
//! The cost of one hand-off must not depend on how many wait, and the order must be the order of arrival.

use crate::driver::{At, Driver, Next, Script};
use crate::gauge::Gauge;
use crate::peers::{owner, Pair, Peer};
use crate::report::{align_right, new_table, Aim, Report, Spread};
use crate::server::{info_number, Server};
use crate::setting::Setting;
use anyhow::{ensure, Context, Result};
use redis::Connection;
use std::time::{Duration, Instant};
use testbed::scan::Reply;
use testbed::stats::number;

const TITLE: &str = "10,000 waiters on 1 lock, drained";
const MANY: usize = 10_000;
const FEW: usize = 100;
/// A drain of the short queue is over in milliseconds, so it is done often.
const FEW_DRAINS: usize = 20;
const SPARE_CLIENTS: usize = 32;
/// The files that the driver and a server keep open besides the waiters' connections.
const SPARE_FILES: usize = 256;
const COST_AIM: Aim = Aim::AtMost(1.5);
/// For one waiter to be seen waiting, and for one drain.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cost of one hand-off of a drain.
#[derive(Clone, Copy)]
struct Cost {
    server_us: f64,
    wall_us: f64,
}

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    if setting.open_files < (MANY + SPARE_FILES) as u64 {
        let reason = format!("only {} open files are allowed (ulimit -n)", setting.open_files);
        report.skip(TITLE, "cost per hand-off / 100 waiters", COST_AIM, &reason);
        return Ok(());
    }
    let header = ["peer", "waiters", "server us/hand-off", "wall us/hand-off", "bytes/waiter", "inversions"];
    let mut table = new_table(header);
    for column in 1..header.len() {
        align_right(&mut table, column);
    }
    for peer in setting.present(&[Peer::Lock, Peer::Blpop]) {
        // A server each: the connections of the long queue would burden the short one's server too.
        let mut many = Queue::new(setting, peer, MANY)?;
        let mut few = Queue::new(setting, peer, FEW)?;
        let (mut many_costs, mut few_costs) = (Vec::new(), Vec::new());
        for _ in 0..setting.plan.rounds {
            many_costs.push(many.drain(1)?);
            few_costs.push(few.drain(FEW_DRAINS)?);
        }
        for (queue, costs) in [(&many, &many_costs), (&few, &few_costs)] {
            let median = |value: fn(&Cost) -> f64| {
                number(Spread::of(&costs.iter().map(value).collect::<Vec<_>>()).median)
            };
            table.add_row([
                peer.to_string(),
                queue.driver.len().to_string(),
                median(|cost| cost.server_us),
                median(|cost| cost.wall_us),
                number(queue.bytes_per_waiter),
                queue.inversions.to_string(),
            ]);
        }
        let ratios = |value: fn(&Cost) -> f64| -> Vec<f64> {
            many_costs.iter().zip(&few_costs).map(|(many, few)| value(many) / value(few)).collect()
        };
        let aim = |aim| if peer == Peer::Lock { aim } else { Aim::None };
        let metric = |name: &str| format!("{name}, {peer}");
        report.check(
            TITLE,
            &metric("server CPU per hand-off / 100 waiters"),
            aim(COST_AIM),
            &ratios(|c| c.server_us),
        );
        report.check(
            TITLE,
            &metric("time per hand-off / 100 waiters"),
            aim(COST_AIM),
            &ratios(|c| c.wall_us),
        );
        let inversions = (many.inversions + few.inversions) as f64;
        report.check(TITLE, &metric("FIFO inversions"), aim(Aim::Exactly(0.0)), &[inversions]);
    }
    println!("\n## {TITLE}\n\n{table}");
    Ok(())
}

/// One server with its waiting clients. The lock is held by nobody of them until the drain.
struct Queue {
    // Before the server: connections close first.
    driver: Driver,
    control: Connection,
    gauge: Gauge,
    line: Line,
    peer: Peer,
    inversions: usize,
    bytes_per_waiter: f64,
    _server: Server,
}

impl Queue {
    fn new(setting: &Setting, peer: Peer, clients: usize) -> Result<Self> {
        // A tenth of the connections is kept for clients that do not wait.
        let limit = (clients + clients / 8 + SPARE_CLIENTS).to_string();
        let server = setting.server().with(&["--maxclients", &limit]).start()?;
        let key = peer.contended_key(0);
        let pairs = (0..clients).map(|index| peer.waiting_pair(&key, &owner(index))).collect();
        Ok(Self {
            driver: Driver::connect(server.addr(), clients).context("are enough open files allowed?")?,
            control: server.control()?,
            gauge: Gauge::new(server.pid())?,
            line: Line { pairs, order: Vec::new(), releasing: vec![false; clients], last: Instant::now() },
            peer,
            inversions: 0,
            bytes_per_waiter: 0.0,
            _server: server,
        })
    }

    fn drain(&mut self, times: usize) -> Result<Cost> {
        let (mut server, mut wall) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..times {
            self.line_up()?;
            let from = self.gauge.read()?;
            let start = Instant::now();
            self.open()?;
            self.driver.drain(&mut self.line)?;
            server += self.gauge.since(from)?.server;
            wall += self.line.last - start;
            self.check_order()?;
        }
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / (times * self.driver.len()) as f64;
        Ok(Cost { server_us: each(server), wall_us: each(wall) })
    }

    /// Every client is seen waiting before the next one comes, so the order of arrival is certain.
    fn line_up(&mut self) -> Result<()> {
        self.close()?;
        let before = info_number(&mut self.control, "memory", "used_memory")?;
        for client in 0..self.driver.len() {
            self.driver.begin_one(&mut self.line, client)?;
            let deadline = Instant::now() + PATIENCE;
            while info_number(&mut self.control, "clients", "blocked_clients")? <= client as u64 {
                ensure!(Instant::now() < deadline, "client {client} does not wait");
            }
        }
        let after = info_number(&mut self.control, "memory", "used_memory")?;
        // The first time counts: the server keeps some of it for the next queue.
        let grown = (after as f64 - before as f64) / self.driver.len() as f64;
        self.bytes_per_waiter = self.bytes_per_waiter.max(grown);
        Ok(())
    }

    /// A BLPOP lock whose list is empty is held; ours needs a holder.
    fn close(&mut self) -> Result<()> {
        let key = self.peer.contended_key(0);
        let close = match self.peer {
            Peer::Blpop => redis::cmd("DEL").arg(key).take(),
            _ => redis::cmd("LOCK.ACQUIRE").arg(key).arg("gatekeeper").arg("NOEXPIRE").take(),
        };
        Ok(close.exec(&mut self.control)?)
    }

    /// The first hand-off; each holder makes the next one.
    fn open(&mut self) -> Result<()> {
        let key = self.peer.contended_key(0);
        let open = match self.peer {
            Peer::Blpop => redis::cmd("LPUSH").arg(key).arg("token").take(),
            _ => redis::cmd("LOCK.RELEASE").arg(key).arg("gatekeeper").take(),
        };
        Ok(open.exec(&mut self.control)?)
    }

    fn check_order(&mut self) -> Result<()> {
        let order = std::mem::take(&mut self.line.order);
        ensure!(
            order.len() == self.driver.len(),
            "{} of {} waiters were served",
            order.len(),
            self.driver.len()
        );
        self.inversions += order.windows(2).filter(|two| two[0] > two[1]).count();
        Ok(())
    }
}

/// Waits once, releases at once, rests.
struct Line {
    pairs: Vec<Pair>,
    order: Vec<usize>,
    releasing: Vec<bool>,
    last: Instant,
}

impl Script for Line {
    fn begin(&mut self, client: usize, _now: Instant) -> &[u8] {
        self.releasing[client] = false;
        &self.pairs[client].acquire
    }

    fn reply(&mut self, client: usize, reply: &Reply<'_>, at: At) -> Result<Next<'_>> {
        ensure!(reply.is_yes(), "waiter {client} got {reply:?}");
        self.last = at.now;
        if self.releasing[client] {
            return Ok(Next::Rest);
        }
        self.releasing[client] = true;
        self.order.push(client);
        Ok(Next::Send(&self.pairs[client].release))
    }

    fn count(&mut self, _on: bool) {}

    fn finish(&mut self) {}
}
