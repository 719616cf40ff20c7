//! What is run in which order, and what came out of it.

use crate::crowd::Crowd;
use crate::fast::{measure, Names, Work};
use crate::growth::{self, Growth};
use crate::log::Sample;
use crate::peers::child::{Language, Languages};
use crate::peers::Peer;
use crate::right::{self, Seen, Trouble, TROUBLES};
use crate::servers::{Programs, Servers};
use crate::store::Store;
use anyhow::{anyhow, Result};
use std::time::Duration;
use tokio::time::timeout;

/// In the batches of those who can send many requests at once; each is two of them.
pub(crate) const BATCH: usize = 16;
/// More clients than some programs have patience for.
const CROWD: usize = 1000;

pub(crate) struct Plan {
    /// How long to wait for a quiet machine.
    pub quiet: Duration,
    /// A peer that hangs must not take the whole run with it.
    pub patience: Duration,
    pub right: right::Plan,
    pub rounds: usize,
    pub length: Duration,
    pub growth: growth::Plan,
}

impl Plan {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            return Self {
                quiet: Duration::from_secs(20),
                patience: Duration::from_secs(30),
                right: right::Plan { acquisitions: 500, longest: Duration::from_secs(3), rounds: 1 },
                rounds: 1,
                length: Duration::from_millis(300),
                growth: growth::Plan {
                    length: Duration::from_millis(200),
                    patience: Duration::from_secs(1),
                    clients: 50,
                },
            };
        }
        Self {
            quiet: Duration::from_secs(180),
            patience: Duration::from_secs(120),
            right: right::Plan { acquisitions: 20_000, longest: Duration::from_secs(10), rounds: 3 },
            rounds: 5,
            length: Duration::from_secs(1),
            growth: growth::Plan {
                length: Duration::from_millis(500),
                patience: Duration::from_secs(15),
                clients: 200,
            },
        }
    }
}

/// What one peer showed, or why it showed nothing.
pub(crate) type Outcome<T> = Result<T, String>;

pub(crate) struct Right {
    pub rows: Vec<(Peer, [Outcome<Seen>; 3])>,
}

pub(crate) async fn right(
    peers: &[Peer],
    plan: &Plan,
    servers: &Servers,
    languages: &Languages,
) -> Result<Right> {
    let store = Store::connect(servers).await?;
    let mut rows = Vec::new();
    for &peer in peers.iter().filter(|peer| !peer.only_faster()) {
        eprintln!("right: {peer}");
        let one = |trouble: Trouble| {
            let run = right::run(peer, trouble, plan.right, servers, languages, &store);
            async move { short(timeout(plan.patience, run).await.unwrap_or_else(|_| Err(anyhow!("did not end")))) }
        };
        let [none, kill, pause] = TROUBLES;
        rows.push((peer, [one(none).await, one(kill).await, one(pause).await]));
    }
    Ok(Right { rows })
}

/// One kind of work, and the rounds of each peer.
pub(crate) struct Series {
    pub title: String,
    pub work: Work,
    pub rows: Vec<(Peer, Outcome<Vec<Sample>>)>,
}

pub(crate) struct Fast {
    pub series: Vec<Series>,
    pub growth: Vec<(Peer, Outcome<Growth>)>,
}

/// Titles of the work that is measured.
pub(crate) mod title {
    pub(crate) const ONE: &str = "free locks, 1 client";
    pub(crate) const FREE: &str = "free locks, 50 clients";
    pub(crate) const BATCHES: &str = "free locks, 50 clients, 32 requests in one go";
    pub(crate) const HELD: &str = "held for 5 ms, 16 clients";
    pub(crate) const CROWDS: [&str; 3] =
        ["one lock, 2 clients", "one lock, 16 clients", "one lock, 64 clients"];
    pub(crate) const THOUSAND: &str = "one lock, 1,000 clients";
}

pub(crate) async fn fast(
    peers: &[Peer],
    plan: &Plan,
    servers: &Servers,
    languages: &Languages,
) -> Result<Vec<Series>> {
    // A lock that refuses nobody is not a lock, and its speed says nothing.
    let peers: Vec<_> = peers.iter().copied().filter(|peer| *peer != Peer::MariaTaught).collect();
    let none = Duration::ZERO;
    let one = |clients| Work { clients, names: Names::One, hold: none };
    let [two, sixteen, sixty_four] = title::CROWDS;
    let works = [
        (title::ONE, Work { clients: 1, names: Names::Own, hold: none }),
        (title::FREE, Work { clients: 50, names: Names::Own, hold: none }),
        (title::BATCHES, Work { clients: 50, names: Names::Batch(BATCH), hold: none }),
        (two, one(2)),
        (sixteen, one(16)),
        (sixty_four, one(64)),
        (title::HELD, Work { hold: Duration::from_millis(5), ..one(16) }),
        (title::THOUSAND, one(CROWD)),
    ];
    let mut all = Vec::new();
    for (title, work) in works {
        all.push(series(title, work, &peers, plan, servers, languages).await);
    }
    Ok(all)
}

async fn series(
    title: &str,
    work: Work,
    peers: &[Peer],
    plan: &Plan,
    servers: &Servers,
    languages: &Languages,
) -> Series {
    let can = |peer: &Peer| work.names.batch() == 1 || peer.pipelines();
    let mut rows: Vec<_> = peers.iter().copied().filter(can).map(|peer| (peer, Ok(Vec::new()))).collect();
    let crowd = |peer: Peer| {
        if peer.language() == Some(Language::Python) && work.clients >= CROWD {
            return Err("a thousand threads of one Python process measure Python, not the lock".into());
        }
        Ok(Crowd::new(peer, servers.group(peer.kind())?, work, languages))
    };
    let mut crowds: Vec<Outcome<Crowd>> = rows.iter().map(|(peer, _)| crowd(*peer)).collect();
    // A thousand connections cost more than what is measured with them, so they are measured for longer, and not as often.
    let (rounds, length) = if work.clients >= CROWD {
        (plan.rounds.min(2), plan.length * 3)
    } else {
        (plan.rounds, plan.length)
    };
    for round in 0..rounds {
        for ((peer, row), crowd) in rows.iter_mut().zip(&mut crowds) {
            let Ok(samples) = row else { continue };
            eprintln!("fast: {title}, round {}: {peer}", round + 1);
            let sample = match (&mut *crowd, servers.group(peer.kind())) {
                (Ok(crowd), Ok(group)) => {
                    let run = measure(crowd, group, length);
                    short(timeout(plan.patience, run).await.unwrap_or_else(|_| Err(anyhow!("did not end"))))
                }
                (Err(reason), _) => Err(reason.clone()),
                (_, Err(reason)) => Err(reason),
            };
            match sample {
                Ok(sample) => samples.push(sample),
                Err(reason) => {
                    // Its clients go, lest they disturb the others.
                    *crowd = Err(reason.clone());
                    *row = Err(reason);
                }
            }
        }
    }
    Series { title: title.into(), work, rows }
}

pub(crate) async fn growth(peers: &[Peer], plan: &Plan, programs: &Programs) -> Vec<(Peer, Outcome<Growth>)> {
    let mut all = Vec::new();
    for &peer in peers.iter().filter(|peer| growth::can_grow(**peer)) {
        eprintln!("growth: {peer}");
        // Its own bounds hold inside; this is for servers that do not answer.
        let run = growth::run(peer, programs, &plan.growth);
        let grown = timeout(plan.patience * 2, run).await.unwrap_or_else(|_| Err(anyhow!("did not end")));
        all.push((peer, short(grown)));
    }
    all
}

fn short<T>(result: Result<T>) -> Outcome<T> {
    result.map_err(|error| format!("{error:#}").lines().next().unwrap_or_default().to_string())
}
