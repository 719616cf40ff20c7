//! A server with a keyspace of plain maps. Commands come in as words and effects go out as words, as on a real server; what
//! lies between is the code that servers run.

use std::collections::BTreeMap;

use crate::command::acquire::{Acquire, Acquired, Take};
use crate::command::convert::{Convert, Converted};
use crate::command::effect::step::{self, command_of, effects_of, EffectKind, LockEffects, Word};
use crate::command::effect::window::WindowEffect;
use crate::command::operate::Break;
use crate::command::release::{Release, Released};
use crate::command::renew::Renew;
use crate::command::Policy;
use crate::error::LockError;
use crate::primitive::allowance::Allowance;
use crate::primitive::codec::{self, Source};
use crate::primitive::deadlock::HoldSource;
use crate::primitive::driver::{self, Keyspace, NotALock};
use crate::primitive::recovery::{encoding, Length};
use crate::primitive::wait_queue::Keys;
use crate::primitive::{Clock, GroupStep, Hold, Lock, LockManager, Moment, Step};

/// How long what a ticket was given may stay unclaimed, in ms.
const CLAIM_MS: u64 = 40;

/// How far ahead of the clock a fence may be that a client brings, in ms.
const AHEAD_MS: u64 = 1_000;

/// A command's words, its name first.
pub(super) type Line = Vec<Vec<u8>>;

/// What a client is told: a fence, a time, a count; nothing for nil.
pub(super) type Reply = Result<Option<i64>, LockError>;

/// One server.
pub(super) struct Server {
    pub name: char,
    keyspace: BTreeMap<Vec<u8>, Lock>,
    pub manager: LockManager,
    /// How far its wall clock is off, in µs.
    skew_us: i64,
    now_us: u64,
    /// What it has told its replicas since somebody took it.
    pub told: Vec<Line>,
    /// Fences that it has granted since somebody took them, and of which lock.
    pub granted: Vec<(Vec<u8>, u64)>,
}

/// A server as it was saved.
#[derive(Debug)]
pub(super) struct Saved {
    locks: Vec<(Vec<u8>, Vec<u8>)>,
    fence: u64,
    window: Vec<u8>,
}

/// What a server has on its disk: how it was once, and what it has told since.
#[derive(Debug)]
pub(super) struct File {
    pub base: Saved,
    pub lines: Vec<Line>,
}

/// The locks that a step has not taken out of the keyspace.
struct Others<'a>(&'a BTreeMap<Vec<u8>, Lock>);

impl HoldSource for Others<'_> {
    fn each(&mut self, key: &[u8], each: &mut dyn FnMut(&Hold)) {
        self.0.get(key).into_iter().flat_map(|lock| lock.holds()).for_each(each);
    }
}

impl Server {
    /// A server without data.
    pub(super) fn new(name: char, skew_us: i64, now_us: u64) -> Self {
        let mut manager = LockManager::default();
        manager.claim_ms = CLAIM_MS;
        let (keyspace, told, granted) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { name, keyspace, manager, skew_us, now_us, told, granted }
    }

    /// A replica that has just had a full sync from `primary`.
    pub(super) fn synced(name: char, skew_us: i64, primary: &Self) -> Self {
        let mut replica = Self::new(name, skew_us, primary.now_us);
        replica.load(&primary.save(), Source::Primary);
        replica
    }

    /// The same server, started again at `now_us` with what its file has.
    pub(super) fn restarted(&self, now_us: u64, file: &File) -> Self {
        let mut server = Self::new(self.name, self.skew_us, now_us);
        server.load(&file.base, Source::File);
        file.lines.iter().for_each(|line| server.apply(line, Source::File));
        server
    }

    /// All that a file or a full sync has of this server.
    pub(super) fn save(&self) -> Saved {
        let clock = self.clock();
        let locks =
            self.keyspace.iter().map(|(key, lock)| (key.clone(), codec::encode(lock, clock))).collect();
        let window = encoding::encode(&self.manager.recovery, clock);
        Saved { locks, fence: self.manager.fences.last(), window }
    }

    fn load(&mut self, saved: &Saved, source: Source) {
        let clock = self.clock();
        for (key, bytes) in &saved.locks {
            let (mut lock, _) = codec::decode(bytes, source, clock).unwrap();
            lock.each_mut(|hold| self.manager.index_loaded(0, key, hold));
            self.keyspace.insert(key.clone(), lock);
        }
        if let Some(fence) = crate::primitive::Fence::new(saved.fence) {
            self.manager.fences.advance_past(fence);
        }
        encoding::decode(&saved.window, &mut self.manager.recovery, source, clock).unwrap();
    }

    fn clock(&self) -> Clock {
        let unix_us = 1_700_000_000_000_000_u64.saturating_add_signed(self.skew_us) + self.now_us;
        Clock { now: Moment(self.now_us), unix_us }
    }

    /// Runs a client's command.
    pub(super) fn execute(&mut self, line: &Line) -> Reply {
        let words: Vec<&[u8]> = line.iter().map(Vec::as_slice).collect();
        let (policy, key, rest) = (Policy::default(), line[1].clone(), &words[1..]);
        self.manager.allowance = Allowance::default();
        let reply = match words[0] {
            b"LOCK.ACQUIRE" => {
                let request = Acquire::parse(rest, &policy)?;
                let owner = request.owner.unwrap();
                self.change(&key, |step, others| {
                    let mut got = request.apply(owner, step, &policy)?;
                    if let (Acquired::Busy, Some(wait)) = (got, request.terms.wait) {
                        got = request.queue(owner, wait, step, &policy, others)?;
                    }
                    Ok(match got {
                        Acquired::Granted(fence) | Acquired::Held(fence) => Some(fence.to_wire()),
                        _ => None,
                    })
                })
            }
            b"LOCK.RENEW" => {
                let request = Renew::parse(rest, &policy)?;
                self.change(&key, |step, _| Ok(Some(request.apply(step, &policy))))
            }
            b"LOCK.RELEASE" => {
                let request = Release::parse(rest)?;
                self.change(&key, |step, _| Ok(Some(i64::from(request.apply(step)? != Released::NotHeld))))
            }
            b"LOCK.CONVERT" => {
                let request = Convert::parse(rest, &policy)?;
                self.change(&key, |step, _| {
                    Ok(match request.apply(step)? {
                        Converted::Held(fence) | Converted::Done(fence) => Some(fence.to_wire()),
                        _ => None,
                    })
                })
            }
            b"LOCK.BREAK" => {
                let request = Break::parse(rest)?;
                self.change(&key, |step, _| Ok(Some(request.apply(step).count)))
            }
            other => unreachable!("{other:?}"),
        };
        driver::finish_step(self);
        self.run_rechecks();
        reply
    }

    /// What a replica does with what its primary tells, and a start with what its file says.
    pub(super) fn apply(&mut self, line: &Line, source: Source) {
        let words: Vec<&[u8]> = line.iter().map(Vec::as_slice).collect();
        let (command, words) = words.split_first().unwrap();
        if *command == b"LOCK._RECOVERY" {
            let window = WindowEffect::parse(words).unwrap().here(source, self.clock());
            self.manager.recovery.hear(window);
            return;
        }
        let kind = EffectKind::ALL.into_iter().find(|kind| kind.command().to_bytes() == *command);
        let effects: LockEffects = match kind {
            Some(kind) => LockEffects::from_iter([kind.parse(words).unwrap()]),
            None => step::parse(words).unwrap(),
        };
        let clock = self.clock();
        let mut lock = self.keyspace.remove(words[0]).unwrap_or_else(Lock::free);
        let (manager, effects_out) = (&mut self.manager, &mut Vec::new());
        let mut step = Step { clock, db: 0, key: words[0], lock: &mut lock, manager, effects: effects_out };
        for effect in effects {
            step.apply_change(effect.here(source, clock).unwrap());
        }
        self.store(words[0], lock);
    }

    /// Lets time pass: leases and waits that are due end on a primary.
    pub(super) fn wait_until(&mut self, now_us: u64, is_primary: bool) {
        self.now_us = now_us;
        if !is_primary || self.manager.next_deadline().is_none_or(|due| due > Moment(now_us)) {
            return;
        }
        let now = Moment(now_us);
        self.manager.end_recovery_if_due(now);
        self.tell_of_recovery();
        while self.manager.end_due_wait(now).is_some() {}
        self.run_rechecks();
        while let Some(recheck) = self.manager.next_due_lease(now) {
            driver::look_at(self, recheck, |_| true);
            self.run_rechecks();
        }
    }

    /// The replica is a primary from now on, and grants nothing for so long.
    pub(super) fn promote(&mut self, window: Length) {
        self.manager.took_over(window, self.clock(), AHEAD_MS);
        self.begin();
    }

    /// The replica is a primary from now on, and the one before it had told it all.
    pub(super) fn succeed(&mut self) {
        self.manager.succeeded(Moment(self.now_us));
        self.begin();
    }

    fn begin(&mut self) {
        self.manager.ledger.clear();
        self.tell_of_recovery();
        self.manager.recheck_all();
        self.run_rechecks();
    }

    fn tell_of_recovery(&mut self) {
        if self.manager.recovery.take_untold() {
            let effect = WindowEffect::of(self.manager.recovery.outline(), self.clock());
            let (command, words) = effect.command();
            self.told.push(
                [command.to_bytes().to_vec()].into_iter().chain(words.iter().map(Word::bytes)).collect(),
            );
        }
    }

    /// How many wait at locks that they could have.
    pub(super) fn stuck(&self) -> Option<&[u8]> {
        let free = |key: &[u8]| self.keyspace.get(key).is_none_or(Lock::is_free);
        [&b"k"[..], b"s"].into_iter().find(|key| free(key) && self.manager.waiters.front(0, key).is_some())
    }

    fn run_rechecks(&mut self) {
        while let Some(recheck) = self.manager.next_recheck(|| true) {
            driver::look_at(self, recheck, |_| true);
        }
    }

    fn change<R>(&mut self, key: &[u8], work: impl FnOnce(&mut Step, &mut Others) -> R) -> R {
        let clock = self.clock();
        let mut lock = self.keyspace.remove(key).unwrap_or_else(Lock::free);
        let mut effects = Vec::new();
        let Self { manager, keyspace, .. } = self;
        let mut step = Step { clock, db: 0, key, lock: &mut lock, manager, effects: &mut effects };
        let result = work(&mut step, &mut Others(keyspace));
        step.check();
        let told = effects_of(&effects, &lock, clock);
        self.granted.extend(effects.iter().filter_map(|effect| match effect {
            crate::primitive::Effect::Granted { fence, .. } => Some((key.to_vec(), fence.get())),
            _ => None,
        }));
        if let Some((command, words)) = command_of(&told) {
            let head = [command.to_bytes().to_vec(), key.to_vec()];
            self.told.push(head.into_iter().chain(words.iter().map(Word::bytes)).collect());
        }
        drop(told);
        self.store(key, lock);
        result
    }

    fn store(&mut self, key: &[u8], lock: Lock) {
        if !lock.is_free() {
            self.keyspace.insert(key.to_vec(), lock);
        }
    }
}

impl Keyspace for Server {
    fn manager<R>(&mut self, work: impl FnOnce(&mut LockManager) -> R) -> R {
        work(&mut self.manager)
    }

    fn step(&mut self, _db: i32, key: &[u8], work: impl FnOnce(&mut Step)) -> Result<(), NotALock> {
        self.change(key, |step, _| work(step));
        Ok(())
    }

    fn group_step(
        &mut self,
        _db: i32,
        keys: &Keys,
        work: impl FnOnce(&mut GroupStep),
    ) -> Result<(), NotALock> {
        let _ = work;
        unreachable!("nobody asks for several locks: {}", keys.len());
    }

    fn may_open(&self, _key: &[u8]) -> bool {
        true
    }

    fn refuse_waits(&mut self, _db: i32, _key: &[u8]) {
        unreachable!("all keys hold locks");
    }
}
