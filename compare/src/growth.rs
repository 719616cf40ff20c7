//! Does it stay as it is when it grows? Locks that are held, more and more of them, and pairs on free ones meanwhile;
//! what a held lock, a connection and a wait cost in memory. Each peer on servers of its own, which nothing was done on.

use crate::crowd::Crowd;
use crate::fast::{measure, Names, Work};
use crate::log::Sample;
use crate::peers::child::Languages;
use crate::peers::{Lock, Peer};
use crate::servers::{Group, Programs};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Held at a time.
pub(crate) const SIZES: [usize; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];
/// So many locks are taken in one go, where the client can.
const BATCH: usize = 1000;
/// Growth of so many bytes is more than what comes and goes by itself.
const READABLE: u64 = 1 << 20;
const CLIENTS: usize = 16;
/// None is to end before all are held.
const LEASE: Duration = Duration::from_secs(3600);
/// Until waiting clients have arrived.
const ARRIVAL: Duration = Duration::from_secs(1);

pub(crate) struct Plan {
    /// For the pairs at each size.
    pub length: Duration,
    /// Who takes longer to hold so many locks stops there.
    pub patience: Duration,
    pub clients: usize,
}

#[derive(Default)]
pub(crate) struct Growth {
    /// Held locks, and pairs meanwhile.
    pub steps: Vec<(usize, Sample)>,
    /// Why there are no more steps.
    pub stopped: Option<String>,
    /// Bytes in the servers; each None if it is too little to read, or nothing that a server knows.
    pub held: Option<f64>,
    pub connection: Option<f64>,
    pub waiter: Option<f64>,
}

/// Who holds several locks with one client.
pub(crate) fn can_grow(peer: Peer) -> bool {
    !peer.only_faster() && peer.language().is_none() && !matches!(peer, Peer::MariaTaught | Peer::PgRow)
}

pub(crate) async fn run(peer: Peer, programs: &Programs, plan: &Plan) -> Result<Growth> {
    let group = Group::start(peer.kind(), programs)?;
    let mut growth = Growth::default();
    let (connection, waiter) = waiting(peer, &group, plan.clients).await?;
    growth.connection = connection;
    growth.waiter = waiter;
    held(peer, &group, plan, &mut growth).await?;
    Ok(growth)
}

async fn held(peer: Peer, group: &Group, plan: &Plan, growth: &mut Growth) -> Result<()> {
    let work = Work { clients: 1, names: Names::One, hold: Duration::ZERO };
    let crowd = Crowd::new(peer, group, work, &Languages::default()).with_lease(LEASE);
    let mut holders = crowd.locks().await?;
    let holder = holders.first_mut().context("no client")?;
    // What the first of all costs is not part of what each costs.
    holder.take_all(&[name(0)]).await?;
    let work = Work { clients: CLIENTS, names: Names::Own, hold: Duration::ZERO };
    let mut pairs = Crowd::new(peer, group, work, &Languages::default());
    measure(&mut pairs, group, plan.length).await?;
    let before = group.memory()?;
    let (mut count, mut taking) = (0, Duration::ZERO);
    for size in SIZES {
        while count < size {
            let next = (count + BATCH).min(size);
            let names: Vec<_> = (count..next).map(|number| name(number + 1)).collect();
            let began = Instant::now();
            if let Err(error) = holder.take_all(&names).await {
                let reason = error.to_string();
                growth.stopped =
                    Some(format!("at {count} locks: {}", reason.lines().next().unwrap_or_default()));
                return Ok(());
            }
            count = next;
            taking += began.elapsed();
            if taking > plan.patience && count < size {
                growth.stopped =
                    Some(format!("at {count} locks, which took {:.0} s to take", taking.as_secs_f64()));
                return Ok(());
            }
        }
        let grown = group.memory()?.saturating_sub(before);
        growth.held = (grown >= READABLE).then(|| grown as f64 / size as f64);
        growth.steps.push((size, measure(&mut pairs, group, plan.length).await?));
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("held{number:07}")
}

/// What a connection costs, and a wait on top of it.
async fn waiting(peer: Peer, group: &Group, clients: usize) -> Result<(Option<f64>, Option<f64>)> {
    let work = Work { clients: clients + 1, names: Names::One, hold: Duration::ZERO };
    let each = |before: u64, after: u64| {
        Some(after.saturating_sub(before) as f64 / clients as f64).filter(|bytes| *bytes > 0.0)
    };
    let alone = group.memory()?;
    let mut locks = Crowd::new(peer, group, work, &Languages::default()).locks().await?;
    let connected = group.memory()?;
    let connection = each(alone, connected);
    // A client that sleeps and asks again is not known to the server.
    if peer.polls() {
        return Ok((connection, None));
    }
    let mut holder: Box<dyn Lock> = locks.pop().context("no client")?;
    holder.acquire().await?;
    let mut tasks = JoinSet::new();
    for mut lock in locks {
        tasks.spawn_local(async move { lock.acquire().await.map(|_| lock) });
    }
    sleep(ARRIVAL).await;
    let waiter = each(connected, group.memory()?);
    tasks.shutdown().await;
    Ok((connection, waiter))
}
