//! A server with a keyspace of plain maps. Commands come in as words and effects go out as words, as on a real server; what
//! lies between is the code that servers run.

use std::collections::BTreeMap;

use crate::command::acquire::{Acquire, Acquired};
use crate::command::convert::{Convert, Converted};
use crate::command::effect::stream::{self, command_of, effects_of, EffectKind, LockEffects, Word};
use crate::command::effect::window::WindowEffect;
use crate::command::group::HeldAll;
use crate::command::operate::Break;
use crate::command::policy::Policy;
use crate::command::release::{Release, Released};
use crate::command::renew::Renew;
use crate::error::LockError;
use crate::primitive::allowance::Allowance;
use crate::primitive::codec::{self, Source};
use crate::primitive::deadlock::HoldSource;
use crate::primitive::driver::{self, Keyspace, NotALock};
use crate::primitive::recovery::{encoding, Length};
use crate::primitive::step::group::Part;
use crate::primitive::wait_queue::Keys;
use crate::primitive::{
    Clock, Effect, GroupStep, Hold, Lock, LockManager, Locks, Moment, Step, WaitEnd, WaiterId,
};

use super::world::KEYS;

/// How long what a ticket was given may stay unclaimed, in ms.
const CLAIM_MS: u64 = 40;

/// How far ahead of the clock a fence may be that a client brings, in ms.
const AHEAD_MS: u64 = 1_000;

/// A command's words, its name first.
pub(super) type Line = Vec<Vec<u8>>;

/// The work of one step: lines that arrive together or not at all.
pub(super) type Lines = Vec<Line>;

/// The reply to a client: a fence, a time, a count; `None` for nil.
pub(super) type Reply = Result<Option<i64>, LockError>;

/// One server.
pub(super) struct Server {
    pub name: char,
    keyspace: BTreeMap<Vec<u8>, Lock>,
    pub manager: LockManager,
    /// How far its wall clock is off, in µs.
    skew_us: i64,
    now_us: u64,
    /// The lines that it has told its replicas since somebody took them.
    pub told: Vec<Lines>,
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

/// The disk of a server: how it was once, and the lines that it has told since.
#[derive(Debug)]
pub(super) struct File {
    pub base: Saved,
    pub lines: Vec<Lines>,
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

    /// A server to which the slot of all these locks was moved. It has just granted another, so that its fences are as new as its
    /// clock, and its replicas know.
    pub(super) fn moved_to(name: char, skew_us: i64, from: &Self) -> Self {
        let mut server = Self::new(name, skew_us, from.now_us);
        server.load_locks(&from.save(), Source::Client { ahead_ms: AHEAD_MS });
        server.manager.fences.advance_to(server.clock().unix_us);
        server
    }

    /// Some lock was taken and given back, long ago.
    pub(super) fn know_of_a_lock(&mut self) {
        self.manager.fences.advance_to(1);
    }

    /// The same server, started again at `now_us` with what its file has.
    pub(super) fn restarted(&self, now_us: u64, file: &File) -> Self {
        let mut server = Self::new(self.name, self.skew_us, now_us);
        server.load(&file.base, Source::File);
        file.lines.iter().for_each(|lines| server.apply(lines, Source::File));
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
        self.load_locks(saved, source);
        self.manager.fences.advance_to(saved.fence);
        let clock = self.clock();
        encoding::decode(&saved.window, &mut self.manager.recovery, source, clock).unwrap();
    }

    fn load_locks(&mut self, saved: &Saved, source: Source) {
        let clock = self.clock();
        for (key, bytes) in &saved.locks {
            let (mut lock, _) = codec::decode(bytes, source, clock).unwrap();
            lock.each_mut(|hold| self.manager.index_loaded(0, key, hold));
            self.keyspace.insert(key.clone(), lock);
        }
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
        let fence_of = |got| match got {
            Acquired::Granted(fence) | Acquired::Held(fence) => Some(fence.to_wire()),
            _ => None,
        };
        let reply = match words[0] {
            b"LOCK.ACQUIRE" => {
                let request = Acquire::parse(rest, &policy)?;
                self.change(&key, |step, others| take(&request, step, others).map(fence_of))
            }
            b"LOCK.MACQUIRE" => {
                let request = Acquire::parse_all(rest, &policy)?;
                self.change_all(request.keys, |group, others| take(&request, group, others).map(fence_of))
            }
            b"LOCK.MRENEW" => {
                let (request, lease) = HeldAll::parse_renew(rest, &policy)?;
                self.change_all(request.keys, |group, _| {
                    // All or none, as the request names the fence.
                    request.renew(lease, group).map(|left| left.into_iter().min())
                })
            }
            b"LOCK.MRELEASE" => {
                let request = HeldAll::parse_release(rest)?;
                self.change_all(request.keys, |group, _| request.release(group).map(Some))
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

    /// Applies what a replica hears from its primary, or what a start reads in its file.
    pub(super) fn apply(&mut self, lines: &Lines, source: Source) {
        lines.iter().for_each(|line| self.apply_line(line, source));
    }

    fn apply_line(&mut self, line: &Line, source: Source) {
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
            None => stream::parse(words).unwrap(),
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

    /// Lets time pass: leases and waits that are due end where something may be written.
    pub(super) fn wait_until(&mut self, now_us: u64, may_write: bool) {
        self.now_us = now_us;
        if !may_write {
            return;
        }
        let now = Moment(now_us);
        self.manager.end_recovery_if_due(now);
        self.tell_of_recovery();
        self.run_rechecks();
        while self.manager.next_deadline().is_some_and(|due| due <= now) {
            driver::end_due_waits(self, now, || true);
            driver::look_at_due(self, now, || true, |_| true);
        }
    }

    /// The replica is a primary from now on, and grants nothing for so long. One that has heard of no lock listens for nothing.
    pub(super) fn promote(&mut self, window: Length) {
        let window = if self.manager.fences.last() == 0 { Length::Off } else { window };
        self.manager.took_over(window, self.clock(), AHEAD_MS);
        self.begin();
    }

    /// The replica is a primary from now on, and the one before it had told it all.
    pub(super) fn succeed(&mut self) {
        self.manager.succeeded(Moment(self.now_us));
        self.begin();
    }

    fn begin(&mut self) {
        self.manager.promoted();
    }

    fn tell_of_recovery(&mut self) {
        if self.manager.recovery.take_untold() {
            let effect = WindowEffect::of(self.manager.recovery.outline(), self.clock());
            let (command, words) = effect.command();
            let name = [command.to_bytes().to_vec()];
            self.told.push(vec![name.into_iter().chain(words.iter().map(Word::bytes)).collect()]);
        }
    }

    /// A lock that somebody waits for and could have.
    pub(super) fn stuck(&self) -> Option<&'static str> {
        let free = |key: &str| self.keyspace.get(key.as_bytes()).is_none_or(Lock::is_free);
        let waits = |key: &str| self.manager.waiters.front(0, key.as_bytes()).is_some();
        KEYS.into_iter().find(|key| free(key) && waits(key))
    }

    fn run_rechecks(&mut self) {
        driver::look_at_due(self, Moment::MIN, || true, |_| true);
    }

    fn change<R>(&mut self, key: &[u8], work: impl FnOnce(&mut Step, &mut Others) -> R) -> R {
        let clock = self.clock();
        let mut lock = self.keyspace.remove(key).unwrap_or_else(Lock::free);
        let mut effects = Vec::new();
        let Self { manager, keyspace, .. } = self;
        let mut step = Step { clock, db: 0, key, lock: &mut lock, manager, effects: &mut effects };
        let result = work(&mut step, &mut Others(keyspace));
        step.check();
        let told = self.commit(key, lock, &effects);
        self.told.extend(told.map(|line| vec![line]));
        result
    }

    fn change_all<R>(&mut self, keys: &[&[u8]], work: impl FnOnce(&mut GroupStep, &mut Others) -> R) -> R {
        let clock = self.clock();
        let mut locks: Vec<Lock> =
            keys.iter().map(|key| self.keyspace.remove(*key).unwrap_or_else(Lock::free)).collect();
        let Self { manager, keyspace, .. } = self;
        let parts = keys.iter().zip(&mut locks);
        let parts = parts.map(|(key, lock)| Part { key, lock, effects: Vec::new() }).collect();
        let mut group = GroupStep { clock, db: 0, parts, manager };
        let result = work(&mut group, &mut Others(keyspace));
        group.each(|step| step.check());
        let effects: Vec<Vec<Effect>> = group.parts.into_iter().map(|part| part.effects).collect();
        let all = keys.iter().zip(locks).zip(effects);
        // The server puts them in a MULTI.
        let told: Lines = all.filter_map(|((key, lock), effects)| self.commit(key, lock, &effects)).collect();
        self.told.extend(Some(told).filter(|told| !told.is_empty()));
        result
    }

    /// Puts a lock back after a step, with its effects; what others are told of them.
    fn commit(&mut self, key: &[u8], lock: Lock, effects: &[Effect]) -> Option<Line> {
        self.granted.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Granted { fence, .. } => Some((key.to_vec(), fence.get())),
            _ => None,
        }));
        let line = command_of(&effects_of(effects, &lock, self.clock())).map(|(command, words)| {
            let head = [command.to_bytes().to_vec(), key.to_vec()];
            head.into_iter().chain(words.iter().map(Word::bytes)).collect()
        });
        self.store(key, lock);
        line
    }

    fn store(&mut self, key: &[u8], lock: Lock) {
        if !lock.is_free() {
            self.keyspace.insert(key.to_vec(), lock);
        }
    }
}

/// Takes a lock, or several together, or stands in line for them.
fn take<'k>(
    request: &Acquire,
    locks: &mut impl Locks<'k>,
    others: &mut Others,
) -> Result<Acquired, LockError> {
    let (owner, policy) = (request.owner.unwrap(), Policy::default());
    match (request.apply(owner, locks, &policy)?, request.terms.wait) {
        (Acquired::Busy, Some(wait)) => request.queue(owner, wait, locks, &policy, others),
        (got, _) => Ok(got),
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
        let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        self.change_all(&keys, |group, _| work(group));
        Ok(())
    }

    fn may_open(&self, _key: &[u8]) -> bool {
        true
    }

    fn select(&mut self, _db: i32) {}

    fn is_away(&mut self, _db: i32, _key: &[u8]) -> bool {
        false
    }

    fn wait_ended(&mut self, _id: WaiterId, _why: WaitEnd) {}

    fn looked(&mut self) {}

    fn turn_away(&mut self, _db: i32, _key: &[u8]) {
        unreachable!("no lock is away");
    }

    fn refuse_waits(&mut self, _db: i32, _key: &[u8]) {
        unreachable!("all keys hold locks");
    }
}
