//! The server's keyspace, as the loop around the steps sees it.

use super::api::{rm, Ctx, OwnString, Str};
use super::blocked::{Answer, NOT_A_LOCK};
use super::commit::{change_group, change_one, Origin};
use super::failed_waits::fail_waits;
use super::key::{touch, LockKey};
use super::slot_scope::SlotScope;
use super::{clock, cluster, observe, state};
use crate::error::LockError;
use crate::primitive::driver::{Keyspace, NotALock};
use crate::primitive::wait_queue::Keys;
use crate::primitive::{GroupStep, LockManager, Step, WaitEnd, WaiterId};

/// How long to wait, in ms, before looking again at a lock whose slot is not ours.
const AWAY_MS: u64 = 1_000;

pub(super) struct ServerKeyspace<'a> {
    pub(super) origin: Origin<'a>,
    /// The slots that may be opened now.
    pub(super) scope: SlotScope,
    /// Whether there is time to end one more wait.
    pub(super) in_budget: &'a dyn Fn() -> bool,
}

impl<'a> ServerKeyspace<'a> {
    /// For work of our own, which no client has asked for.
    pub(super) fn of_work(ctx: Ctx<'a>, in_budget: &'a dyn Fn() -> bool) -> Self {
        Self { origin: Origin { ctx, db: 0, in_command: false }, scope: SlotScope::All, in_budget }
    }
}

/// A server that is a primary no more makes no steps, which is no fault of the key.
fn outcome<R>(result: &Result<R, LockError>) -> Result<(), NotALock> {
    match result {
        Err(LockError::WrongType) => Err(NotALock),
        _ => Ok(()),
    }
}

impl Keyspace for ServerKeyspace<'_> {
    fn manager<R>(&mut self, work: impl FnOnce(&mut LockManager) -> R) -> R {
        state::with(|host| work(&mut host.manager))
    }

    fn step(&mut self, db: i32, key: &[u8], work: impl FnOnce(&mut Step)) -> Result<(), NotALock> {
        let name = OwnString::new(key);
        let (origin, name) = (Origin { db, ..self.origin }, name.as_str());
        let done = LockKey::open(origin.ctx, name).and_then(|key| {
            let (done, _) = change_one(origin, name, key, |step, _| {
                work(step);
                Ok(())
            });
            done
        });
        outcome(&done)
    }

    fn group_step(
        &mut self,
        db: i32,
        keys: &Keys,
        work: impl FnOnce(&mut GroupStep),
    ) -> Result<(), NotALock> {
        let names: Vec<OwnString> = keys.iter().map(|key| OwnString::new(key)).collect();
        let names: Vec<Str> = names.iter().map(OwnString::as_str).collect();
        outcome(&change_group(Origin { db, ..self.origin }, &names, |group, _| {
            work(group);
            Ok(())
        }))
    }

    fn may_open(&self, key: &[u8]) -> bool {
        self.scope.has(key)
    }

    fn select(&mut self, db: i32) {
        rm!(RedisModule_SelectDb(self.origin.ctx.as_ptr(), db));
    }

    fn is_away(&mut self, _db: i32, key: &[u8]) -> bool {
        !cluster::owns(self.origin.ctx, OwnString::new(key).as_str())
    }

    fn wait_ended(&mut self, id: WaiterId, why: WaitEnd) {
        state::with(|host| host.blocked.answer(id, Answer::WaitEnded(why)));
    }

    fn looked(&mut self) {
        if !state::with(|host| host.manager.observers.is_quiet()) {
            observe::after_step(self.origin.ctx, SlotScope::All);
        }
    }

    fn turn_away(&mut self, db: i32, key: &[u8]) {
        cluster::turn_away(db, key, self.in_budget);
        touch(self.origin.ctx, OwnString::new(key).as_str(), |lock| {
            let later = clock::now().plus_ms(AWAY_MS);
            state::with(|host| host.manager.look_again(db, key, lock, later));
        });
    }

    fn refuse_waits(&mut self, db: i32, key: &[u8]) {
        fail_waits(db, key, NOT_A_LOCK, self.in_budget);
    }
}
