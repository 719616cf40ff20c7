//! Both, side by side: each step is done by the core and by the model, and then everything is compared.

mod accidents;
mod agree;
mod changes;
mod waits;

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Hold, Model, Rollback, Waiter};
use super::ops::{By, Op};
use super::watch;
use super::world::World;
use super::{db_of, CLAIM_MS, DATABASES, ENTRIES, KEYS, OWNERS};
use crate::command::acquire::{Acquire, Acquired};
use crate::command::convert::{Convert, Converted};
use crate::command::group::HeldAll;
use crate::command::holder::Holder;
use crate::command::operate::{cancel, Break, Steal};
use crate::command::policy::Wait;
use crate::command::release::{Release, Released, What};
use crate::command::renew::Renew;
use crate::command::revoke;
use crate::command::set_limit::SetLimit;
use crate::command::terms::Terms;
use crate::command::transfer::Transfer;
use crate::command::Policy;
use crate::error::LockError;
use crate::primitive::bounds::{Bounds, Span, Tie};
use crate::primitive::ledger::Named;
use crate::primitive::permits::ALL;
use crate::primitive::time::left_to_wire;
use crate::primitive::waiter::WaiterKind;
use crate::primitive::{manager, Fence, HoldEnd, Lease, Lock, Moment, Permits};

pub(super) struct Pair {
    world: World,
    model: Model,
    /// Which fence a grant of the model has got.
    fences: BTreeMap<usize, Fence>,
}

/// The outcome of a request that may wait.
#[derive(Debug, PartialEq)]
enum Answered<T> {
    AtOnce(T),
    Waits,
    Refused(LockError),
}

fn holder(key: usize, owner: usize, fence: Option<Fence>) -> Holder<'static> {
    Holder { key: KEYS[key], owner: OWNERS[owner], fence, with_info: false }
}

fn plain_terms(permits: Permits) -> Terms<'static> {
    let span = Span::default();
    Terms {
        permits,
        adopts: false,
        nx: false,
        lease: None,
        wait: None,
        notify: None,
        fence: None,
        note: None,
        entry: b"",
        span,
        with_info: false,
    }
}

fn span(most: Option<u64>, least: Option<u64>, tie: Option<Tie>) -> Span {
    let longest = most.map_or(Lease::NEVER, Lease::ms);
    Span { longest, shortest: least.map_or(Lease::NONE, Lease::ms), tie }
}

/// How somebody stands in line who waits like this.
fn place(wait: Option<Wait>, now: Moment) -> (WaiterKind, Moment, Option<(Moment, u64)>) {
    let wait = wait.unwrap_or(Wait::block(0));
    match wait.until(now).zip(wait.keep_ms) {
        Some((until, keep_ms)) => (WaiterKind::Ticket, until.plus_ms(keep_ms), Some((until, keep_ms))),
        None => (wait.kind(), wait.deadline(now), None),
    }
}

fn names(keys: &BTreeSet<usize>) -> Vec<&'static [u8]> {
    keys.iter().map(|key| KEYS[*key]).collect()
}

/// Whether the request goes by MACQUIRE; one owner asks for single locks that way, too.
fn is_for_group(waiter: &Waiter) -> bool {
    waiter.keys.len() > 1 || (waiter.owner == 3 && waiter.entry == 0)
}

impl Pair {
    pub(super) fn new(delay_ms: u64) -> Self {
        let mut world = World::default();
        world.manager.lock_delay_ms = delay_ms;
        world.manager.claim_ms = CLAIM_MS;
        world.manager.ledger.set_capacity(1_000);
        Self { world, model: Model::new(KEYS.len(), delay_ms), fences: BTreeMap::new() }
    }

    /// The same, on the [plain way](crate::primitive::plain) where it can be gone.
    pub(crate) fn going_plainly(delay_ms: u64) -> Self {
        let mut pair = Self::new(delay_ms);
        pair.world.goes_plainly = true;
        pair
    }

    /// How often it was gone.
    pub(crate) fn went_plainly(&self) -> usize {
        self.world.went_plainly
    }

    fn now(&self) -> Moment {
        Moment(self.world.now_us)
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of operation")]
    pub(super) fn step(&mut self, op: Op) {
        let now = self.now();
        self.model.now_us = now.0;
        self.model.expire_and_grant(now);
        match op {
            Op::Acquire { keys, owner, permits, lease, wait, entry, most, least, tie } => {
                let lease = lease.map_or(Lease::NEVER, Lease::ms);
                let (kind, deadline, attached) = place(wait, now);
                let tie = tie.map(|(client, grace)| self.world.tie(client, Lease::ms(grace)));
                let span = span(most, least, tie);
                let upgrades = None;
                let waiter =
                    Waiter { kind, owner, keys, permits, lease, deadline, attached, entry, span, upgrades };
                self.acquire(waiter, wait);
            }
            Op::Release { key, owner, by, entry, cancels, after } => {
                self.release(key, owner, by, entry, cancels, after.map(Lease::ms));
            }
            Op::GiveBack { key, owner, permits } => self.give_back(key, owner, permits),
            Op::ReleaseAll { keys, owner, by, cancels } => self.release_all(&keys, owner, by, cancels),
            Op::Renew { key, owner, lease, tie } => {
                let lease = lease.map(Lease::ms);
                let tie = tie.map(|(client, grace)| self.world.tie(client, Lease::ms(grace)));
                let mut left = 0;
                if let Some(hold) = self.model.hold_of_mut(key, owner) {
                    hold.claim(now);
                    tie.into_iter().for_each(|tie| hold.tie(tie));
                    let lease = lease.unwrap_or(hold.lease);
                    hold.renew(lease, lease, now);
                    left = left_to_wire(hold.deadline, now);
                    let grant = hold.grant;
                    self.confirm(grant);
                }
                let request = Renew {
                    holder: holder(key, owner, None),
                    lease,
                    permits: Permits::EXCLUSIVE,
                    tie,
                    note: None,
                };
                let policy = Policy::default();
                assert_eq!(self.world.step(key, |step, _| request.apply(step, &policy)), left, "renew");
            }
            Op::RenewAll { keys, owner, lease } => {
                let lease = Lease::ms(lease);
                let mut left = Vec::new();
                for key in &keys {
                    let Some(hold) = self.model.hold_of_mut(*key, owner) else {
                        left.push(0);
                        continue;
                    };
                    hold.claim(now);
                    hold.renew(lease, lease, now);
                    left.push(left_to_wire(hold.deadline, now));
                    let grant = hold.grant;
                    self.confirm(grant);
                }
                let keys: Vec<usize> = keys.into_iter().collect();
                let names: Vec<&[u8]> = keys.iter().map(|key| KEYS[*key]).collect();
                let request = HeldAll {
                    owner: OWNERS[owner],
                    keys: &names,
                    fence: None,
                    permits: Permits::EXCLUSIVE,
                    cancels: false,
                };
                assert_eq!(self.world.group(&keys, |group, _| request.renew(lease, group)), Ok(left));
            }
            Op::Convert { key, owner, permits, wait, by } => self.convert(key, owner, permits, wait, by),
            Op::SetLimit { key, limit } => self.set_limit(key, limit),
            Op::Break { key, owner } => {
                let request = Break { key: KEYS[key], owner: owner.map(|owner| OWNERS[owner]), reason: b"" };
                let got = self.world.step(key, |step, _| request.apply(step));
                let chosen = |of: usize| owner.is_none_or(|owner| owner == of);
                let before = self.model.cooldown[key].len();
                self.model.cooldown[key].retain(|cooldown| !chosen(cooldown.owner));
                let cooled = before - self.model.cooldown[key].len();
                let ended = self.model.end(key, HoldEnd::Broken, now, |hold| chosen(hold.owner));
                assert_eq!(got.count, (ended + cooled) as i64, "broken");
            }
            Op::Steal { key, owner, permits, lease, most, least } => {
                let lease = lease.map_or(Lease::NEVER, Lease::ms);
                let span = span(most, least, None);
                let terms = Terms { lease: Some(lease), span, ..plain_terms(permits) };
                let request = Steal { key: KEYS[key], owner: OWNERS[owner], terms };
                let policy = Policy::default();
                let (fence, losers) =
                    self.world.step(key, |step, _| request.apply(step, &policy, &mut |_| true)).unwrap();
                let ended = self.model.end(key, HoldEnd::Stolen, now, |_| true);
                assert_eq!(losers.count, ended as i64, "stolen");
                self.model.cooldown[key].clear();
                self.grant_ahead_of_queue(key, owner, permits, lease, fence);
                self.bound(key, owner, span.from(now));
            }
            Op::Revoke { key } => {
                let asked = self.world.step(key, |step, _| revoke::apply(step));
                let holds = &mut self.model.holds[key];
                holds.iter_mut().for_each(|hold| hold.is_wanted = true);
                assert_eq!(asked, holds.len() as i64);
            }
            Op::Cancel { key, owner } => {
                let got = self.world.step(key, |step, _| cancel(OWNERS[owner], step));
                assert_eq!(got, self.model.cancel(key, owner));
            }
            Op::Transfer { key, from, to, lease, by } => {
                self.transfer(key, from, to, lease.map(Lease::ms), by);
            }
            Op::Disconnect { client } => self.disconnect(client),
            Op::Vanish { nth } => self.vanish(nth),
            Op::Rollback { nth } => self.roll_back(nth),
            Op::Delete { key } => self.delete(key),
            Op::Flush => self.flush(),
            Op::SwapDatabases => self.swap_databases(),
            Op::MoveAway { key } => self.move_away(key),
            Op::ChangeRoles => self.change_roles(),
            Op::Load => self.world.load(),
            Op::Pass { us } => {
                self.world.now_us += us;
                self.world.run_due();
                let now = self.now();
                self.model.now_us = now.0;
                self.model.end_slices(now);
                // The timer may look up to a millisecond late; a step on the lock ends what is over in any case.
                self.model.waiters.retain(|waiter| waiter.deadline.0.div_ceil(1000) > now.0 / 1000);
                (0..KEYS.len()).for_each(|key| self.world.expire_and_grant(key));
            }
        }
        let now = self.now();
        self.model.expire_and_grant(now);
        self.check();
    }

    /// The fence by which an owner names its hold.
    fn named(&self, key: usize, owner: usize, by: By) -> Option<Fence> {
        match by {
            By::Name => None,
            By::Fence => self.world.fence_of(key, owner),
            By::PastFence => self.model.past.get(&(key, owner)).map(|grant| self.fences[grant]),
            By::WrongFence => Fence::new(1),
        }
    }

    /// The grant that this fence was made for.
    fn grant_of(&self, fence: Fence) -> Option<usize> {
        self.fences.iter().find(|(_, other)| **other == fence).map(|(grant, _)| *grant)
    }

    /// Whether the hold that was granted so is known to have been released by its owner.
    fn was_released(&self, key: usize, owner: usize, grant: usize) -> bool {
        self.model.end_of(key, owner, Some(grant)) == Some((grant, HoldEnd::Released))
    }

    /// The owner has been heard of: nothing of this grant is provisional any more.
    fn confirm(&mut self, grant: usize) {
        let holds = self.model.holds.iter_mut().flatten();
        holds.filter(|hold| hold.grant == grant).for_each(|hold| hold.provisional = None);
    }
}
