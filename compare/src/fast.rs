//! Is it fast? Clients in this one process, each with a connection of its own, on free locks and on one lock.
//! Every peer runs once in each round, and a ratio is taken inside a round: the machine drifts and takes all along.

use crate::peers::{Lock, Peer, Terms};
use crate::servers::Group;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What a user takes: the default of this module, of Redisson, and of the lesson with GET and SET EX.
const LEASE: Duration = Duration::from_secs(30);
/// The default of redis-py.
const POLL: Duration = Duration::from_millis(100);
const WARM_UP: Duration = Duration::from_millis(200);
/// Servers that fork for each connection need a while for a thousand.
const CONNECT: Duration = Duration::from_secs(60);
// For the numbers in names: no two measurements share a lock.
thread_local!(static RUNS: Cell<u64> = const { Cell::new(0) });

#[derive(Clone, Copy, PartialEq)]
pub struct Work {
    pub clients: usize,
    /// One lock for all, or one for each.
    pub shared: bool,
    pub hold: Duration,
}

/// What one peer did in one round.
#[derive(Clone)]
pub struct Sample {
    pub acquired: f64,
    /// Acquisitions whose holder is another one than before.
    pub handed: f64,
    /// Free locks: acquire and release. One lock: from sending the release to the grant of one who was waiting.
    pub p50: f64,
    pub p99: f64,
    pub longest_ms: f64,
    pub jain: f64,
    pub cpu_ms: f64,
    pub commands: f64,
}

struct Books {
    counting: bool,
    acquired: Vec<u64>,
    handed: u64,
    sent: u64,
    waiting: Vec<Option<Instant>>,
    longest: Duration,
    last: Option<(usize, Instant)>,
    latency: Histogram<u64>,
}

pub async fn measure(peer: Peer, group: &Group, work: Work, length: Duration) -> Result<Sample> {
    let locks = connect(peer, group, work).await?;
    let books = Rc::new(RefCell::new(Books::new(work.clients)?));
    let mut tasks = JoinSet::new();
    for (index, lock) in locks.into_iter().enumerate() {
        tasks.spawn_local(client(index, lock, work, books.clone()));
    }
    sleep(WARM_UP).await;
    let before = (group.cpu(), Instant::now());
    books.borrow_mut().counting = true;
    sleep(length).await;
    books.borrow_mut().counting = false;
    let (cpu, wall) = (group.cpu() - before.0, before.1.elapsed());
    // A client that failed has ended; the others wait for ever or work.
    if let Some(ended) = tasks.try_join_next() {
        ended.context("a client")??;
    }
    tasks.shutdown().await;
    let books = books.borrow();
    Ok(books.sample(cpu, wall))
}

async fn connect(peer: Peer, group: &Group, work: Work) -> Result<Vec<Box<dyn Lock>>> {
    let run = RUNS.replace(RUNS.get() + 1);
    let mut locks = Vec::new();
    for index in 0..work.clients {
        let name = if work.shared { format!("fast{run}") } else { format!("fast{run}n{index}") };
        let terms =
            Terms { ports: group.ports(), name, owner: format!("{index:032x}"), lease: LEASE, poll: POLL };
        locks.push(timeout(CONNECT, peer.client(terms)).await.context("connecting")??);
    }
    Ok(locks)
}

async fn client(index: usize, mut lock: Box<dyn Lock>, work: Work, books: Rc<RefCell<Books>>) -> Result<()> {
    loop {
        let (asked, sent) = (Instant::now(), lock.sent());
        books.borrow_mut().waiting[index] = Some(asked);
        lock.acquire().await?;
        books.borrow_mut().granted(index, asked, work.shared);
        if !work.hold.is_zero() {
            sleep(work.hold).await;
        }
        books.borrow_mut().last = Some((index, Instant::now()));
        lock.release().await?;
        books.borrow_mut().released(asked, lock.sent() - sent, work.shared);
        if !work.hold.is_zero() {
            // Nobody may take at once what it has just given back.
            sleep(work.hold).await;
        }
    }
}

impl Books {
    fn new(clients: usize) -> Result<Self> {
        Ok(Self {
            counting: false,
            acquired: vec![0; clients],
            handed: 0,
            sent: 0,
            waiting: vec![None; clients],
            longest: Duration::ZERO,
            last: None,
            latency: Histogram::new_with_bounds(1, 600_000_000, 3)?,
        })
    }

    fn granted(&mut self, index: usize, asked: Instant, shared: bool) {
        let now = Instant::now();
        self.waiting[index] = None;
        if !self.counting {
            return;
        }
        self.acquired[index] += 1;
        self.longest = self.longest.max(now - asked);
        if let Some((_, released)) = self.last.filter(|(before, _)| shared && *before != index) {
            self.handed += 1;
            if asked < released {
                self.record(now - released);
            }
        }
    }

    fn released(&mut self, asked: Instant, sent: u64, shared: bool) {
        if !self.counting {
            return;
        }
        self.sent += sent;
        if !shared {
            self.record(asked.elapsed());
        }
    }

    fn record(&mut self, latency: Duration) {
        self.latency.saturating_record(latency.as_nanos() as u64 / 100);
    }

    fn sample(&self, cpu: Duration, wall: Duration) -> Sample {
        let acquired: u64 = self.acquired.iter().sum();
        let squares: f64 = self.acquired.iter().map(|&count| (count as f64).powi(2)).sum();
        let micros = |quantile| match self.latency.len() {
            0 => f64::NAN,
            _ => self.latency.value_at_quantile(quantile) as f64 / 10.0,
        };
        let still = self.waiting.iter().flatten().map(Instant::elapsed).max().unwrap_or_default();
        Sample {
            acquired: acquired as f64 / wall.as_secs_f64(),
            handed: self.handed as f64 / wall.as_secs_f64(),
            p50: micros(0.5),
            p99: micros(0.99),
            longest_ms: self.longest.max(still).as_secs_f64() * 1e3,
            jain: (acquired as f64).powi(2) / (self.acquired.len() as f64 * squares),
            cpu_ms: cpu.as_secs_f64() * 1e6 / acquired as f64,
            commands: self.sent as f64 / acquired as f64,
        }
    }
}

/// Bytes that the servers need for a lock that is held, and for a client that waits.
pub struct Memory {
    pub held: Option<f64>,
    pub waiter: Option<f64>,
}

pub async fn memory(peer: Peer, group: &Group, locks: usize, waiters: usize) -> Result<Memory> {
    Ok(Memory { held: held(peer, group, locks).await?, waiter: waiter(peer, group, waiters).await? })
}

/// Locks that need no row and no node of their own beforehand.
async fn held(peer: Peer, group: &Group, locks: usize) -> Result<Option<f64>> {
    let fits = matches!(
        peer,
        Peer::Module
            | Peer::RedisTaught
            | Peer::RedisSet
            | Peer::Redlock
            | Peer::MariaGetLock
            | Peer::PgAdvisory
            | Peer::Etcd
    );
    if !fits {
        return Ok(None);
    }
    let work = Work { clients: 1, shared: true, hold: Duration::ZERO };
    let mut clients = connect(peer, group, work).await?;
    let lock = clients.first_mut().context("no client")?;
    lock.acquire().await?;
    let before = group.memory();
    for number in 0..locks {
        lock.rename(&format!("held{number:06}"));
        lock.acquire().await?;
    }
    Ok(Some(group.memory().saturating_sub(before) as f64 / locks as f64))
}

/// A client that sleeps and asks again is not known to the server.
async fn waiter(peer: Peer, group: &Group, waiters: usize) -> Result<Option<f64>> {
    if peer.polls() || peer == Peer::MariaTaught {
        return Ok(None);
    }
    let work = Work { clients: waiters + 1, shared: true, hold: Duration::ZERO };
    let mut clients = connect(peer, group, work).await?;
    let mut holder = clients.pop().context("no client")?;
    holder.acquire().await?;
    sleep(Duration::from_millis(300)).await;
    let before = group.memory();
    let mut tasks = JoinSet::new();
    for mut lock in clients {
        tasks.spawn_local(async move { lock.acquire().await.map(|_| lock) });
    }
    sleep(Duration::from_millis(1000)).await;
    let bytes = group.memory().saturating_sub(before) as f64 / waiters as f64;
    tasks.shutdown().await;
    Ok(Some(bytes))
}
