//! Readers with writers on one lock, and a semaphore, against the same made of scripts and PUBLISH.
//! The scripts run in two layouts: each client a process of its own with its own subscription, as locks between
//! machines are used; and all clients in one process that shares subscriptions. The read-write lock comes in two
//! kinds: readers first, which is the usual one and lets writers starve, and in turn, which does not.

use super::crowd::Crowd;
use super::inside::Role;
use super::lua::{channel, Commands, Lua, Writers};
use super::sleepers::Sleepers;
use crate::driver::Driver;
use crate::gauge::Gauge;
use crate::peers::{owner, Pair, Peer, LEASE_MS};
use crate::report::{align_right, new_table, percent, print_series, Aim, Report, Spread};
use crate::rounds::{self, Sample, Series};
use crate::server::{calls, Launch, Server};
use crate::setting::Setting;
use anyhow::{Context, Result};
use redis::Connection;
use std::fmt;
use testbed::resp::encode;
use testbed::stats::{self, number};

const CLIENTS: usize = 18;

struct Case {
    title: &'static str,
    role: fn(usize) -> Role,
    peers: &'static [Side],
    /// The clients that must not starve: those whose mode is the rarer one, or everybody.
    watched: fn(usize) -> bool,
    watched_name: &'static str,
}

const READERS_WRITERS: Case = Case {
    title: "16 readers and 2 writers, 1 lock",
    // Far from each other in the line; side by side they would leave the readers in one piece.
    role: |client| if writes(client) { Role::Writer } else { Role::Reader },
    peers: &[EACH.last(), ONE.last(), EACH, ONE],
    watched: writes,
    watched_name: "writer",
};

const SEMAPHORE: Case = Case {
    title: "18 clients, semaphore of 4",
    role: |_| Role::Permit(4),
    peers: &[EACH, ONE],
    watched: |_| true,
    watched_name: "client",
};

fn writes(client: usize) -> bool {
    client.is_multiple_of(CLIENTS / 2)
}

/// Pairs per second and server CPU against the scripts, in either layout.
const RATE: Aim = Aim::AtLeast(2.0);
const CPU: Aim = Aim::AtMost(0.5);
/// Nearly an equal share for everybody, and nobody waits longer than with the scripts.
const SHARE: Aim = Aim::AtLeast(0.8);
const JAIN: Aim = Aim::AtLeast(0.999);
const LONGEST_WAIT: Aim = Aim::AtMost(1.0);

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Ours,
    Lua { processes: usize, writers: Writers },
}

const EACH: Side = Side::Lua { processes: CLIENTS, writers: Writers::InTurn };
const ONE: Side = Side::Lua { processes: 1, writers: Writers::InTurn };

impl Side {
    /// The same with readers first.
    const fn last(self) -> Self {
        match self {
            Self::Lua { processes, .. } => Self::Lua { processes, writers: Writers::Last },
            Self::Ours => self,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Lua { processes, writers } = self else {
            return Peer::Lock.fmt(f);
        };
        let first = if *writers == Writers::Last { ", readers first" } else { "" };
        write!(f, "Lua{first}, {processes} process{}", if *processes == 1 { "" } else { "es" })
    }
}

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    println!("\n## Modes: what is compared\n");
    println!("- {}: one command each, PX {LEASE_MS} BLOCK 0, {CLIENTS} connections", Side::Ours);
    println!("- Lua: EVALSHA, lease {LEASE_MS} ms, on a server without the module; whoever was refused tries again");
    println!("  when a message comes or the lease of the holder is over; all subscribe once, before the first round");
    println!("- {EACH}: {CLIENTS} connections and {CLIENTS} subscriptions; a message wakes whoever sleeps");
    println!("- {ONE}: {CLIENTS} connections, one subscription for readers and one for writers, or one for permits;");
    println!("  a message wakes one of them, and all readers when a writer leaves");
    println!("- readers first: a reader joins readers even while a writer waits; otherwise they take turns");
    for case in [READERS_WRITERS, SEMAPHORE] {
        Contest::run(setting, &case)?.finish(&case, report);
    }
    Ok(())
}

/// One way to lock with its connections, its clients, and its server.
struct Stand {
    side: Side,
    driver: Driver,
    gauge: Gauge,
    crowd: Crowd,
}

impl Stand {
    fn new(side: Side, case: &Case, server: &Server) -> Result<Self> {
        let mut driver = Driver::connect(server.addr(), CLIENTS)?;
        let mut lua = None;
        let (key, sleepers) = match side {
            Side::Ours => ("lock:modes".to_string(), None),
            Side::Lua { processes, writers } => {
                let key = format!("lua:{processes}:{}", writers == Writers::Last);
                let groups = Groups::new(case, processes);
                for role in groups.roles {
                    driver.listen(server.addr(), &encode(&["SUBSCRIBE", &channel(&key, role)]))?;
                }
                lua = Some(Lua::load(&mut server.control()?, writers)?);
                (key, Some(Sleepers::new(groups.members)))
            }
        };
        let clients = (0..CLIENTS).map(|client| {
            let (role, owner) = ((case.role)(client), owner(client));
            let commands = match &lua {
                Some(lua) => lua.commands(role, &key, &owner),
                None => ours(role, &key, &owner),
            };
            (role, commands)
        });
        let crowd = Crowd::new(clients, sleepers);
        Ok(Self { side, driver, gauge: Gauge::new(server.pid())?, crowd })
    }
}

/// The groups that share a subscription: clients in one process and in one role.
#[derive(Default)]
struct Groups {
    roles: Vec<Role>,
    /// The group of each client.
    members: Vec<usize>,
}

impl Groups {
    fn new(case: &Case, processes: usize) -> Self {
        let mut groups = Self::default();
        let mut known: Vec<(usize, Role)> = Vec::new();
        for client in 0..CLIENTS {
            let group = (client % processes, (case.role)(client));
            let number = known.iter().position(|other| *other == group).unwrap_or(known.len());
            if number == known.len() {
                known.push(group);
            }
            groups.members.push(number);
        }
        groups.roles = known.into_iter().map(|(_, role)| role).collect();
        groups
    }
}

fn ours(role: Role, key: &str, owner: &str) -> Commands {
    let limit;
    let mode: &[&str] = match role {
        Role::Reader => &["SHARED"],
        Role::Writer => &[],
        Role::Permit(permits) => {
            limit = permits.to_string();
            &["LIMIT", &limit]
        }
    };
    let acquire = [&["LOCK.ACQUIRE", key, owner, "PX", LEASE_MS, "BLOCK", "0"], mode].concat();
    let pair = Pair { acquire: encode(&acquire), release: encode(&["LOCK.RELEASE", key, owner]) };
    Commands { pair, again: None, clock: None }
}

struct Contest {
    series: Series<Side>,
    stands: Vec<Stand>,
    /// Commands of the module that its server counted.
    served: u64,
}

impl Contest {
    fn run(setting: &Setting, case: &Case) -> Result<Self> {
        // The scripts must not pay for what the module looks at when keys change.
        let plain = Launch { modules: Vec::new(), ..setting.server().clone() }.start()?;
        let server = setting.server().start()?;
        let mut stands = Vec::new();
        if setting.has_module() {
            stands.push(Stand::new(Side::Ours, case, &server)?);
        }
        for &side in case.peers {
            stands.push(Stand::new(side, case, &plain)?);
        }
        let sides: Vec<_> = stands.iter().map(|stand| stand.side).collect();
        let series = rounds::run(setting.plan, &sides, |side| {
            let stand = stands.iter_mut().find(|stand| stand.side == side).expect("every side has its stand");
            let sample = stand.crowd.sample(&mut stand.driver, &stand.gauge, setting.plan.interval);
            sample.with_context(|| format!("{}, {side}", case.title))
        })?;
        let served = served(&mut server.control()?)?;
        Ok(Self { series, stands, served })
    }

    fn finish(&self, case: &Case, report: &mut Report) {
        print_series(case.title, "pair", &self.series);
        self.print_shares(case);
        for &side in case.peers {
            let ratios = |value: &dyn Fn(&Sample) -> f64| self.series.ratios(Side::Ours, side, value);
            let against = |metric: &str| format!("{metric} / {side}");
            report.check(case.title, &against("pairs/s"), RATE, &ratios(&|s| s.rate()));
            report.check(
                case.title,
                &against("server CPU per acquisition"),
                CPU,
                &ratios(&|s| s.server_us()),
            );
            let metric = format!("longest wait of a {}", case.watched_name);
            report.check(case.title, &against(&metric), LONGEST_WAIT, &ratios(&|s| longest_wait_ms(s, case)));
        }
        let ours = |value: fn(&Sample, &Case) -> f64| self.series.values(Side::Ours, |s| value(s, case));
        let metric = |name: &str| format!("{name} {}", case.watched_name);
        report.check(case.title, &metric("share of the last"), SHARE, &ours(smallest_share));
        report.check(
            case.title,
            &format!("Jain index of the {}s", case.watched_name),
            JAIN,
            &ours(watched_jain),
        );

        let books = self.stands.iter().find(|stand| stand.side == Side::Ours).map(|stand| &stand.crowd.books);
        let per = |count: Option<u64>| -> Vec<f64> {
            count.zip(books).map(|(count, books)| count as f64 / books.acquired as f64).into_iter().collect()
        };
        let (sent, served) = (per(books.map(|books| books.sent)), per(books.map(|_| self.served)));
        report.check(case.title, "commands sent per acquisition", Aim::Exactly(2.0), &sent);
        report.check(case.title, "commands served per acquisition", Aim::Exactly(2.0), &served);
    }

    /// The shares of the clients; medians over the rounds, and counts over the whole run.
    fn print_shares(&self, case: &Case) {
        let name = case.watched_name;
        let header = [
            "peer",
            &format!("{name}s' acquisitions/s"),
            &format!("{name}s' part"),
            &format!("share of the last {name}"),
            &format!("Jain, {name}s"),
            &format!("longest wait of a {name}, ms"),
            "inside together",
            "commands/acquisition",
            "refused/acquisition",
            "messages/acquisition",
        ];
        let mut table = new_table(header);
        (1..header.len()).for_each(|column| align_right(&mut table, column));
        for Stand { side, crowd, .. } in &self.stands {
            let median =
                |value: &dyn Fn(&Sample) -> f64| Spread::of(&self.series.values(*side, value)).median;
            let books = &crowd.books;
            let each = |count: u64| number(count as f64 / books.acquired as f64);
            table.add_row([
                side.to_string(),
                number(median(&|s| watched(s, case) as f64 / s.used.wall.as_secs_f64())),
                percent(median(&|s| watched(s, case) as f64 / s.acquired as f64)),
                number(median(&|s| smallest_share(s, case))),
                number(median(&|s| watched_jain(s, case))),
                number(median(&|s| longest_wait_ms(s, case))),
                crowd.most_inside().to_string(),
                each(books.sent),
                each(books.refused),
                each(books.messages),
            ]);
        }
        println!("\n{table}");
    }
}

fn served(control: &mut Connection) -> Result<u64> {
    Ok(calls(control, "lock.acquire")? + calls(control, "lock.release")?)
}

fn watched_counts<'a>(sample: &'a Sample, case: &'a Case) -> impl Iterator<Item = u64> + 'a {
    let shares = sample.shares.iter().enumerate();
    shares.filter(|(client, _)| (case.watched)(*client)).map(|(_, share)| share.acquired)
}

fn watched(sample: &Sample, case: &Case) -> u64 {
    watched_counts(sample, case).sum()
}

/// The share of the worst served of the watched, in parts of an equal share of everything.
fn smallest_share(sample: &Sample, case: &Case) -> f64 {
    let equal = sample.acquired as f64 / sample.shares.len() as f64;
    watched_counts(sample, case).min().unwrap_or(0) as f64 / equal
}

fn watched_jain(sample: &Sample, case: &Case) -> f64 {
    stats::jain(watched_counts(sample, case))
}

fn longest_wait_ms(sample: &Sample, case: &Case) -> f64 {
    let shares = sample.shares.iter().enumerate().filter(|(client, _)| (case.watched)(*client));
    shares.map(|(_, share)| share.longest_wait).max().unwrap_or_default().as_secs_f64() * 1e3
}
