//! What is run in which order, and what came out of it.

use crate::fast::{self, Memory, Sample, Work};
use crate::peers::child::Languages;
use crate::peers::Peer;
use crate::right::{self, Seen, Trouble, TROUBLES};
use crate::servers::Servers;
use crate::store::Store;
use anyhow::{anyhow, Result};
use std::time::Duration;
use tokio::time::timeout;

pub struct Plan {
    /// A peer that hangs must not take the whole run with it.
    pub patience: Duration,
    pub right: right::Plan,
    pub rounds: usize,
    pub length: Duration,
    /// Clients on one lock.
    pub crowds: Vec<usize>,
    pub held: usize,
    pub waiters: usize,
}

impl Plan {
    pub fn new(quick: bool) -> Self {
        if quick {
            return Self {
                patience: Duration::from_secs(30),
                right: right::Plan { acquisitions: 500, rounds: 1 },
                rounds: 1,
                length: Duration::from_millis(500),
                crowds: vec![2, 16, 64, 1000],
                held: 2000,
                waiters: 100,
            };
        }
        Self {
            patience: Duration::from_secs(300),
            right: right::Plan { acquisitions: 20_000, rounds: 5 },
            rounds: 5,
            length: Duration::from_secs(2),
            crowds: vec![2, 16, 64, 1000],
            held: 10_000,
            waiters: 200,
        }
    }
}

/// What one peer showed, or why it showed nothing.
pub type Outcome<T> = Result<T, String>;

pub struct Right {
    pub rows: Vec<(Peer, [Outcome<Seen>; 3])>,
}

pub async fn right(peers: &[Peer], plan: &Plan, servers: &Servers, languages: &Languages) -> Result<Right> {
    let store = Store::connect(servers).await?;
    let mut rows = Vec::new();
    for &peer in peers {
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
pub struct Series {
    pub title: String,
    pub work: Work,
    pub rows: Vec<(Peer, Outcome<Vec<Sample>>)>,
}

pub struct Fast {
    pub series: Vec<Series>,
    pub memory: Vec<(Peer, Outcome<Memory>)>,
}

pub async fn fast(peers: &[Peer], plan: &Plan, servers: &Servers) -> Result<Fast> {
    // A lock that refuses nobody is not a lock, and its speed says nothing.
    let peers: Vec<_> = peers
        .iter()
        .copied()
        .filter(|peer| peer.language().is_none() && *peer != Peer::MariaTaught)
        .collect();
    let none = Duration::ZERO;
    let mut works = vec![
        ("free locks, 1 client".to_string(), Work { clients: 1, shared: false, hold: none }),
        ("free locks, 50 clients".to_string(), Work { clients: 50, shared: false, hold: none }),
        (
            "held for 5 ms, 16 clients".to_string(),
            Work { clients: 16, shared: true, hold: Duration::from_millis(5) },
        ),
    ];
    for &clients in &plan.crowds {
        works.push((format!("one lock, {clients} clients"), Work { clients, shared: true, hold: none }));
    }
    // First, for a server that has been through a crowd fills the room that this has left.
    let mut memory = Vec::new();
    for &peer in &peers {
        eprintln!("memory: {peer}");
        let used = match servers.group(peer.kind()) {
            Ok(group) => short(fast::memory(peer, group, plan.held, plan.waiters).await),
            Err(reason) => Err(reason),
        };
        memory.push((peer, used));
    }
    let mut all = Vec::new();
    for (title, work) in works {
        all.push(series(title, work, &peers, plan, servers).await);
    }
    Ok(Fast { series: all, memory })
}

async fn series(title: String, work: Work, peers: &[Peer], plan: &Plan, servers: &Servers) -> Series {
    let mut rows: Vec<_> = peers.iter().map(|&peer| (peer, Ok(Vec::new()))).collect();
    // A thousand connections cost more than what is measured with them.
    let rounds = if work.clients >= 1000 { plan.rounds.min(2) } else { plan.rounds };
    for round in 0..rounds {
        for (peer, row) in &mut rows {
            eprintln!("fast: {title}, round {}: {peer}", round + 1);
            let sample = match servers.group(peer.kind()) {
                Ok(group) => {
                    let run = fast::measure(*peer, group, work, plan.length);
                    short(timeout(plan.patience, run).await.unwrap_or_else(|_| Err(anyhow!("did not end"))))
                }
                Err(reason) => Err(reason),
            };
            match (row.as_mut(), sample) {
                (Ok(samples), Ok(sample)) => samples.push(sample),
                (Ok(_), Err(reason)) => *row = Err(reason),
                (Err(_), _) => {}
            }
        }
    }
    Series { title, work, rows }
}

fn short<T>(result: Result<T>) -> Outcome<T> {
    result.map_err(|error| format!("{error:#}").lines().next().unwrap_or_default().to_string())
}
