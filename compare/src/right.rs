//! Is it right? Clients in processes of their own change a number that lies elsewhere: read, add one, write.
//! Undisturbed, with a holder that is killed, and with a holder that is stopped until its lease is over.

use crate::peers::child::{Languages, Process};
use crate::peers::{Life, Lock, Peer, Terms};
use crate::servers::{Group, Servers};
use crate::store::Store;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const CLIENTS: usize = 5;
/// Short, so that a run sees many of them end. etcd gives two seconds at least.
const LEASE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);
/// Longer than every lease and every session.
const PAUSE: Duration = Duration::from_millis(3500);
/// A lock that nobody gets for so long is stuck.
const STUCK: Duration = Duration::from_secs(8);
/// So near the end of its lease a holder may have lost the lock rightly.
const MARGIN: Duration = Duration::from_millis(100);
/// What happens in a round happens at this acquisition, and so many must follow.
const BEFORE: u64 = 30;
const AFTER: u64 = 30;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Trouble {
    #[default]
    None,
    Kill,
    Pause,
}

pub(crate) const TROUBLES: [Trouble; 3] = [Trouble::None, Trouble::Kill, Trouble::Pause];

/// What was seen of one lock in one kind of trouble.
#[derive(Default, Clone)]
pub(crate) struct Seen {
    pub acquired: u64,
    /// Two inside at once, and no lease was over.
    pub violations: u64,
    /// Two inside at once, because the lease or session of one was over.
    pub outlived: u64,
    /// Writes that were acknowledged and are not in the number.
    pub lost: u64,
    /// Late writes that the store refused because of the fence.
    pub refused: u64,
    pub rounds: u64,
    pub stuck: u64,
    /// From the kill to the next grant, the longest.
    pub recovery: Duration,
}

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// The undisturbed round ends with so many acquisitions, or after so long.
    pub acquisitions: u64,
    pub longest: Duration,
    /// Rounds of each kind of trouble.
    pub rounds: u64,
}

pub(crate) async fn run(
    peer: Peer,
    trouble: Trouble,
    plan: Plan,
    servers: &Servers,
    languages: &Languages,
    store: &Store,
) -> Result<Seen> {
    let group = servers.group(peer.kind()).map_err(anyhow::Error::msg)?;
    let mut seen = Seen::default();
    let rounds = if trouble == Trouble::None { 1 } else { plan.rounds };
    for round in 0..rounds {
        let (wanted, ends) = match trouble {
            Trouble::None => (plan.acquisitions, Some(Instant::now() + plan.longest)),
            _ => (BEFORE + AFTER, None),
        };
        let name = format!("right{}{trouble:?}{round}", peer.word());
        let round = Round { wanted, ends, trouble, ..Round::default() };
        one_round(peer, round, group, languages, store, &name, &mut seen).await?;
    }
    Ok(seen)
}

/// What the clients of a round share.
#[derive(Default)]
struct Round {
    inside: Vec<(usize, Instant)>,
    seen: Seen,
    acknowledged: i64,
    wanted: u64,
    ends: Option<Instant>,
    trouble: Trouble,
    killed: Option<Instant>,
}

async fn one_round(
    peer: Peer,
    round: Round,
    group: &Group,
    languages: &Languages,
    store: &Store,
    name: &str,
    seen: &mut Seen,
) -> Result<()> {
    let round = Rc::new(RefCell::new(round));
    let mut clients = JoinSet::new();
    for index in 0..CLIENTS {
        let terms = Terms {
            ports: group.ports(),
            name: name.into(),
            owner: format!("owner{index}"),
            lease: LEASE,
            poll: POLL,
        };
        let process = Process::start(peer, &terms, languages).await?;
        let client = Client { index, process, peer, terms, languages: languages.clone() };
        clients.spawn_local(client.work(round.clone(), store.clone()));
    }
    while let Some(ended) = clients.join_next().await {
        ended.context("a client")??;
    }
    let round = Rc::into_inner(round).context("a client goes on")?.into_inner();
    let number = store.number(name).await?;
    seen.acquired += round.seen.acquired;
    seen.violations += round.seen.violations;
    seen.outlived += round.seen.outlived;
    seen.refused += round.seen.refused;
    seen.recovery = seen.recovery.max(round.seen.recovery);
    seen.stuck += round.seen.stuck.min(1);
    seen.lost += u64::try_from(round.acknowledged - number).unwrap_or(0);
    seen.rounds += 1;
    Ok(())
}

struct Client {
    index: usize,
    process: Process,
    peer: Peer,
    terms: Terms,
    languages: Languages,
}

impl Client {
    async fn work(mut self, round: Rc<RefCell<Round>>, store: Store) -> Result<()> {
        let name = self.terms.name.clone();
        while !round.borrow().is_over() {
            let fence = match timeout(STUCK, self.process.acquire()).await {
                Err(_) => {
                    let mut round = round.borrow_mut();
                    // At the end of a round the others may have gone while this one waited for a dead one.
                    round.seen.stuck += u64::from(!round.is_over());
                    return Ok(());
                }
                Ok(Ok(fence)) => fence,
                // A session that ended while its client was stopped: the client begins anew.
                Ok(Err(_)) => {
                    self.restart().await?;
                    continue;
                }
            };
            let trouble = round.borrow_mut().enter(self.index, self.peer);
            let number = store.read(&name, fence).await?;
            match trouble {
                Trouble::None => {}
                Trouble::Kill => {
                    self.process.signal(Signal::SIGKILL)?;
                    round.borrow_mut().leave(self.index);
                    round.borrow_mut().killed = Some(Instant::now());
                    self.restart().await?;
                    continue;
                }
                Trouble::Pause => {
                    self.process.signal(Signal::SIGSTOP)?;
                    sleep(PAUSE).await;
                    self.process.signal(Signal::SIGCONT)?;
                }
            }
            let written = store.write(&name, number + 1, fence).await?;
            {
                let mut round = round.borrow_mut();
                round.acknowledged += i64::from(written);
                round.seen.refused += u64::from(!written);
                round.leave(self.index);
            }
            if !matches!(timeout(STUCK, self.process.release()).await, Ok(Ok(_))) {
                self.restart().await?;
            }
        }
        Ok(())
    }

    /// Another process under another name, as a restarted program would be.
    async fn restart(&mut self) -> Result<()> {
        self.terms.owner.push('x');
        self.process = Process::start(self.peer, &self.terms, &self.languages).await?;
        Ok(())
    }
}

impl Round {
    /// A paused holder must have come back before a round is over.
    fn is_over(&self) -> bool {
        let late = self.ends.is_some_and(|ends| Instant::now() > ends);
        self.seen.stuck > 0 || self.seen.acquired >= self.wanted || late
    }

    /// Somebody has the lock; what is to happen to it.
    fn enter(&mut self, index: usize, peer: Peer) -> Trouble {
        let now = Instant::now();
        for (_, since) in &self.inside {
            let expires = matches!(peer.life(), Life::Lease | Life::Session);
            if expires && now - *since + MARGIN > LEASE {
                self.seen.outlived += 1;
            } else {
                self.seen.violations += 1;
            }
        }
        if let Some(killed) = self.killed.take() {
            self.seen.recovery = self.seen.recovery.max(now - killed);
        }
        self.inside.push((index, now));
        self.seen.acquired += 1;
        if self.seen.acquired == BEFORE {
            return self.trouble;
        }
        Trouble::None
    }

    fn leave(&mut self, index: usize) {
        self.inside.retain(|(inside, _)| *inside != index);
    }
}
