//! The load: many owners of several kinds, each in a thread of its own, until it is told to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::history::{History, Span};
use crate::hold::{How, Owner};
use crate::locks::{mutexes, pairs, semaphores, shared, Mode, Want};
use crate::route::{Client, Route};
use crate::store::Store;

/// What all owners share.
pub(crate) struct World {
    pub(crate) epoch: Instant,
    pub(crate) lease: Duration,
    pub(crate) store: Store,
    pub(crate) requests: AtomicU64,
    /// Holds that have begun and are wanted for longer than a lease.
    pub(crate) long_holds: AtomicU64,
    is_over: AtomicBool,
    refusals: Mutex<BTreeMap<String, u64>>,
}

impl World {
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Codes of errors; of those that no fault explains the whole line.
    pub(crate) fn count_refusal(&self, code: &str, text: &str) {
        const EXPECTED: [&str; 11] = [
            "READONLY",
            "UNBLOCKED",
            "RECOVERING",
            "NOREPLICAS",
            "LOADING",
            "MASTERDOWN",
            "TRYAGAIN",
            "CLUSTERDOWN",
            "MOVED",
            "REDIRECT",
            "ASK",
        ];
        let name = if EXPECTED.contains(&code) { code.to_owned() } else { format!("{code} {text}") };
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }

    pub(crate) fn refusals(&self) -> BTreeMap<String, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn micros(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }
}

/// How a run is loaded.
#[derive(Clone)]
pub(crate) struct Mix {
    pub(crate) lease: Duration,
    pub(crate) seed: u64,
    /// Owners of each kind of hold; and those that take a lock and give it back at once, again and again.
    pub(crate) each: u16,
    pub(crate) quick: u16,
}

#[derive(Clone, Copy)]
enum Kind {
    Quick,
    Mutex(How),
    Shared,
    Semaphore,
    Several,
}

pub(crate) struct Load {
    pub(crate) world: Arc<World>,
    threads: Vec<JoinHandle<Vec<Span>>>,
    start: Instant,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) history: History,
    pub(crate) requests_per_second: u64,
    pub(crate) stuck: usize,
}

impl Load {
    /// Starts it. Each owner goes one of these ways, in turn.
    pub(crate) fn start(mix: &Mix, routes: &[Arc<Route>]) -> Load {
        let world = Arc::new(World {
            epoch: Instant::now(),
            lease: mix.lease,
            store: Store::new(),
            requests: AtomicU64::new(0),
            long_holds: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            refusals: Mutex::default(),
        });
        let kinds = [
            Kind::Mutex(How::Try),
            Kind::Mutex(How::Wait),
            Kind::Mutex(How::Ticket),
            Kind::Mutex(How::Tied),
            Kind::Shared,
            Kind::Semaphore,
            Kind::Several,
        ];
        let holding = (0..mix.each).flat_map(|_| kinds);
        let all = holding.chain((0..mix.quick).map(|_| Kind::Quick));
        let threads = (0..).zip(all).map(|(id, kind)| {
            let (world, route) = (Arc::clone(&world), Arc::clone(&routes[usize::from(id) % routes.len()]));
            let rng = StdRng::seed_from_u64(mix.seed.wrapping_mul(1000) + u64::from(id));
            std::thread::spawn(move || run(id, kind, &world, &route, rng))
        });
        let threads = threads.collect();
        Load { threads, start: world.epoch, world }
    }

    /// Tells all to stop, and waits for them.
    pub(crate) fn stop(self) -> Result<Outcome> {
        let requests = self.world.requests.load(Ordering::Relaxed);
        let requests_per_second = (requests as f64 / self.start.elapsed().as_secs_f64()) as u64;
        self.world.is_over.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline && !self.threads.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (mut spans, mut stuck) = (Vec::new(), 0);
        for thread in self.threads {
            if !thread.is_finished() {
                stuck += 1;
                continue;
            }
            match thread.join() {
                Ok(of_one) => spans.extend(of_one),
                Err(_) => bail!("an owner's thread has panicked"),
            }
        }
        Ok(Outcome { history: History::new(spans), requests_per_second, stuck })
    }
}

fn run(id: u16, kind: Kind, world: &World, route: &Route, rng: StdRng) -> Vec<Span> {
    let client = Client::new(route);
    let mut owner = Owner { id, name: format!("owner-{id}"), client, world, rng, spans: Vec::new() };
    let one_of = |range: std::ops::Range<u16>, rng: &mut StdRng| rng.random_range(range);
    while !world.is_over() {
        let lock = one_of(mutexes(), &mut owner.rng);
        match kind {
            Kind::Quick => {
                // Locks that nobody holds for long.
                let lock = lock % 4;
                owner.hold_once(&Want::one(lock, Mode::Exclusive), How::Try, Duration::ZERO);
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Kind::Mutex(how) => {
                let lock = lock.max(4);
                let keep = keep(&mut owner.rng, world.lease);
                owner.hold_once(&Want::one(lock, Mode::Exclusive), how, keep);
            }
            Kind::Shared => {
                let lock = one_of(shared(), &mut owner.rng);
                let mode = if owner.rng.random_bool(0.7) { Mode::Shared } else { Mode::Exclusive };
                let keep = keep(&mut owner.rng, world.lease);
                owner.hold_once(&Want::one(lock, mode), How::Wait, keep);
            }
            Kind::Semaphore => {
                let lock = one_of(semaphores(), &mut owner.rng);
                let mode = Mode::Permits(owner.rng.random_range(1..=2));
                let keep = keep(&mut owner.rng, world.lease);
                owner.hold_once(&Want::one(lock, mode), How::Wait, keep);
            }
            Kind::Several => {
                let all: Vec<u16> = pairs().collect();
                let first = all.choose(&mut owner.rng).copied().unwrap_or(lock);
                let keep = keep(&mut owner.rng, world.lease);
                owner.hold_once(&Want::pair(first), How::Wait, keep);
            }
        }
        std::thread::sleep(Duration::from_millis(owner.rng.random_range(1..20)));
    }
    owner.spans
}

/// How long a hold is wanted for: often a moment, often longer than a lease.
fn keep(rng: &mut StdRng, lease: Duration) -> Duration {
    if rng.random_bool(0.4) {
        Duration::from_millis(rng.random_range(5..150))
    } else {
        lease.mul_f64(rng.random_range(0.5..2.0))
    }
}
