//! The model: plain lists, searched from the front, with no index and no wheel. Slow and obvious.

use std::collections::{BTreeMap, BTreeSet};

use super::{db_of, CLAIM_MS, DATABASES, KEYS_IN_EACH};
use crate::primitive::bounds::{Bounds, Span, Tie};
use crate::primitive::cooldown::CooldownReason;
use crate::primitive::waiter::WaiterKind;
use crate::primitive::{HoldEnd, Lease, Moment, Permits};

/// How a grant is taken back that its waiter has not heard of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rollback {
    EndHold,
    Downgrade { grant: usize },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hold {
    pub owner: usize,
    /// Stands for the fence: holds of one grant share it, and no others.
    pub grant: usize,
    pub permits: Permits,
    pub lease: Lease,
    pub deadline: Moment,
    /// How many keys were granted together.
    pub keys: usize,
    /// The ids of re-entry; 0 is none.
    pub entries: BTreeSet<usize>,
    pub bounds: Bounds,
    /// Whether its owner was asked to give it up.
    pub is_wanted: bool,
    /// Whether it was given to a ticket, and its owner has not been heard of since.
    pub is_unclaimed: bool,
    pub provisional: Option<Rollback>,
}

impl Hold {
    fn end_max(&self) -> Moment {
        self.bounds.cap.min(self.bounds.tie.map_or(Moment::NEVER, |tie| tie.end))
    }

    /// Lets it last for `lease` from now.
    pub(super) fn renew(&mut self, lease: Lease, from_now: Lease, now: Moment) {
        (self.lease, self.deadline) = (lease, from_now.deadline(now).min(self.end_max()));
    }

    /// The same, if it lasts longer so.
    pub(super) fn raise(&mut self, lease: Lease, now: Moment) {
        if lease.deadline(now).min(self.end_max()) > self.deadline {
            self.renew(self.lease.max(lease), lease, now);
        }
    }

    /// Its owner has been heard of.
    pub(super) fn claim(&mut self, now: Moment) {
        if std::mem::take(&mut self.is_unclaimed) {
            self.renew(self.lease, self.lease, now);
        }
    }

    pub(super) fn tie(&mut self, tie: Tie) {
        self.bounds.tie = Some(tie);
        self.deadline = self.deadline.min(self.end_max());
    }
}

/// Permits that nobody has and nobody gets before `until`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cooldown {
    pub owner: usize,
    pub grant: usize,
    pub permits: Permits,
    pub until: Moment,
    pub why: CooldownReason,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiter {
    pub kind: WaiterKind,
    pub owner: usize,
    pub keys: BTreeSet<usize>,
    pub permits: Permits,
    pub lease: Lease,
    pub deadline: Moment,
    /// For a ticket that a client waits for: until when, and how long the ticket is kept then, in ms.
    pub attached: Option<(Moment, u64)>,
    pub entry: usize,
    pub span: Span,
    /// The grant of the shared hold that is to become exclusive.
    pub upgrades: Option<usize>,
}

impl Waiter {
    /// The database of all its keys.
    pub(super) fn db(&self) -> i32 {
        db_of(*self.keys.first().unwrap())
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// By key.
    pub holds: Vec<Vec<Hold>>,
    /// By key.
    pub cooldown: Vec<Vec<Cooldown>>,
    /// The delay after abnormal ends.
    pub delay_ms: u64,
    /// Everyone who waits for anything, first come first; upgrades before all others.
    pub waiters: Vec<Waiter>,
    pub grants: usize,
    /// By key, owner and grant: how it ended, as long as that is worth knowing; with what was asked for by the fence.
    pub ended: BTreeMap<(usize, usize, usize), HoldEnd>,
    /// By key and owner: the newest end, if one was a loss.
    pub newest: BTreeMap<(usize, usize), (usize, HoldEnd)>,
    /// By key and owner: when the newest end was.
    pub newest_at: BTreeMap<(usize, usize), Moment>,
    /// By database: when all its data went together last, or others came in their place.
    pub flushed: [Option<Moment>; DATABASES as usize],
    pub now_us: u64,
    /// By key and owner, the newest hold that has ended.
    pub past: BTreeMap<(usize, usize), usize>,
    /// Ids under which an owner has left a hold that stays, by its fence: key, owner, grant, id.
    pub left: BTreeSet<(usize, usize, usize, usize)>,
    /// Holds that were handed over by their fence: key, owner, grant and new owner, and the new grant.
    pub handed: BTreeMap<(usize, usize, usize, usize), usize>,
    /// Holds that were upgraded by their fence, or after a wait: key, owner and grant, and the new grant.
    pub upgraded: BTreeMap<(usize, usize, usize), usize>,
}

impl Model {
    pub(super) fn new(keys: usize, delay_ms: u64) -> Self {
        Self { holds: vec![Vec::new(); keys], cooldown: vec![Vec::new(); keys], delay_ms, ..Self::default() }
    }

    /// The limit of those who have it.
    pub(super) fn limit_of(&self, key: usize) -> Option<u32> {
        self.holds[key].first().map(|hold| hold.permits.limit)
    }

    pub(super) fn fits(&self, key: usize, permits: Permits) -> bool {
        let held = self.holds[key].iter().map(|hold| hold.permits);
        let claims: Vec<Permits> =
            held.chain(self.cooldown[key].iter().map(|cooldown| cooldown.permits)).collect();
        let taken: u64 = claims.iter().map(|permits| u64::from(permits.count)).sum();
        let same_kind = claims.iter().all(|other| other.limit == permits.limit);
        same_kind && taken + u64::from(permits.count) <= u64::from(permits.limit)
    }

    /// A hold has ended. Ways that nobody need tell apart here are taken as one.
    pub(super) fn record_end(&mut self, key: usize, owner: usize, grant: usize, how: HoldEnd) {
        self.past.insert((key, owner), grant);
        match class(how) {
            HoldEnd::Undone => {}
            HoldEnd::Released => {
                if let Some(newest) = self.newest.get_mut(&(key, owner)) {
                    *newest = (grant, HoldEnd::Released);
                    self.newest_at.insert((key, owner), Moment(self.now_us));
                }
            }
            how => {
                self.newest.insert((key, owner), (grant, how));
                self.newest_at.insert((key, owner), Moment(self.now_us));
                self.ended.insert((key, owner, grant), how);
            }
        }
    }

    /// How the newest hold of this owner ended, or this one, as far as it is remembered.
    pub(super) fn end_of(&self, key: usize, owner: usize, grant: Option<usize>) -> Option<(usize, HoldEnd)> {
        let newest = self.newest.get(&(key, owner)).copied();
        let is_of_now = self.newest_at.get(&(key, owner)).copied() > self.flushed[db_of(key) as usize];
        let Some(grant) = grant else { return newest.filter(|_| is_of_now) };
        let how = self.ended.get(&(key, owner, grant)).copied();
        how.map(|how| (grant, how)).or(newest.filter(|(newest, _)| *newest == grant))
    }

    /// Ends the holds that are chosen. Returns how many.
    pub(super) fn end(
        &mut self,
        key: usize,
        how: HoldEnd,
        now: Moment,
        chosen: impl Fn(&Hold) -> bool,
    ) -> usize {
        let all = std::mem::take(&mut self.holds[key]);
        let (gone, stay): (Vec<Hold>, Vec<Hold>) = all.into_iter().partition(chosen);
        self.holds[key] = stay;
        for hold in &gone {
            self.record_end(key, hold.owner, hold.grant, how);
        }
        let delay = match how {
            HoldEnd::Expired | HoldEnd::Broken => Some(now.plus_ms(self.delay_ms)),
            HoldEnd::Released => None,
            _ => return gone.len(),
        };
        for hold in &gone {
            let min_end = hold.bounds.min_end;
            let (until, why) = match delay {
                Some(delay) if delay > min_end => (delay, CooldownReason::LockDelay),
                _ => (min_end, CooldownReason::MinHold),
            };
            if until > now {
                let Hold { owner, grant, permits, .. } = *hold;
                self.cooldown[key].push(Cooldown { owner, grant, permits, until, why });
            }
        }
        gone.len()
    }

    /// All data have gone. Of what went nothing is known; what is known of an owner is of an earlier hold.
    pub(super) fn flush(&mut self) {
        self.flushed = [Some(Moment(self.now_us)); DATABASES as usize];
        for key in 0..self.holds.len() {
            for hold in std::mem::take(&mut self.holds[key]) {
                self.past.insert((key, hold.owner), hold.grant);
            }
            self.cooldown[key].clear();
        }
    }

    /// The two databases have changed places. In a database of which others come nothing is known of the holds that went.
    pub(super) fn swap_databases(&mut self) {
        self.flushed = [Some(Moment(self.now_us)); DATABASES as usize];
        for (key, holds) in self.holds.iter().enumerate() {
            self.past.extend(holds.iter().map(|hold| ((key, hold.owner), hold.grant)));
        }
        self.holds.rotate_left(KEYS_IN_EACH);
        self.cooldown.rotate_left(KEYS_IN_EACH);
    }

    /// The server was a replica for a moment.
    pub(super) fn change_roles(&mut self) {
        self.waiters.clear();
        self.holds.iter_mut().flatten().for_each(|hold| hold.provisional = None);
        self.ended.clear();
        self.newest.clear();
        self.left.clear();
        self.handed.clear();
        self.upgraded.clear();
        self.flushed = Default::default();
    }

    pub(super) fn hold_of(&self, key: usize, owner: usize) -> Option<&Hold> {
        self.holds[key].iter().find(|hold| hold.owner == owner)
    }

    pub(super) fn hold_of_mut(&mut self, key: usize, owner: usize) -> Option<&mut Hold> {
        self.holds[key].iter_mut().find(|hold| hold.owner == owner)
    }

    pub(super) fn queue(&self, key: usize) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter().filter(move |waiter| waiter.keys.contains(&key))
    }

    fn comes_first(&self, at: usize, key: usize) -> bool {
        !self.waiters[..at].iter().any(|earlier| earlier.keys.contains(&key))
    }

    fn is_grantable(&self, at: usize) -> bool {
        let waiter = &self.waiters[at];
        let ready = |key: &usize| match waiter.upgrades {
            Some(_) => self.holds[*key].len() == 1 && self.cooldown[*key].is_empty(),
            None => self.fits(*key, waiter.permits),
        };
        waiter.keys.iter().all(|key| self.comes_first(at, *key) && ready(key))
    }

    /// One grant for all of these keys, to one who waited or to one who asks just now.
    pub(super) fn grant(&mut self, waiter: &Waiter, now: Moment, has_waited: bool) -> usize {
        self.grants += 1;
        let provisional = has_waited && waiter.kind == WaiterKind::Client;
        let is_unclaimed = has_waited && waiter.kind == WaiterKind::Ticket;
        let lasting = if is_unclaimed { waiter.lease.min(Lease::ms(CLAIM_MS)) } else { waiter.lease };
        for key in &waiter.keys {
            if let Some(grant) = waiter.upgrades {
                let new = self.grants;
                let hold = self.hold_of_mut(*key, waiter.owner).unwrap();
                assert_eq!(hold.grant, grant);
                (hold.grant, hold.permits) = (new, waiter.permits);
                hold.provisional = provisional.then_some(Rollback::Downgrade { grant });
                self.past.insert((*key, waiter.owner), grant);
                if has_waited {
                    self.upgraded.insert((*key, waiter.owner, grant), new);
                }
                continue;
            }
            let bounds = Bounds {
                cap: waiter.span.longest.deadline(now),
                min_end: match waiter.span.shortest {
                    Lease::NONE => Moment::MIN,
                    shortest => shortest.deadline(now),
                },
                tie: waiter.span.tie,
            };
            self.holds[*key].push(Hold {
                owner: waiter.owner,
                grant: self.grants,
                permits: waiter.permits,
                lease: waiter.lease,
                deadline: lasting.deadline(now).min(bounds.cap),
                keys: waiter.keys.len(),
                entries: BTreeSet::from([waiter.entry]),
                bounds,
                is_wanted: false,
                is_unclaimed,
                provisional: provisional.then_some(Rollback::EndHold),
            });
        }
        self.grants
    }

    /// Ends what is over and grants what can be granted, until there is nothing more.
    pub(super) fn expire_and_grant(&mut self, now: Moment) {
        loop {
            for key in 0..self.holds.len() {
                self.end(key, HoldEnd::Unclaimed, now, |hold| hold.deadline <= now && hold.is_unclaimed);
                self.end(key, HoldEnd::Expired, now, |hold| hold.deadline <= now);
                self.cooldown[key].retain(|cooldown| cooldown.until > now);
            }
            let is_over = |at: &usize| {
                let waiter = &self.waiters[*at];
                let key = *waiter.keys.first().unwrap();
                // Its owner has come by the lock otherwise: by another database that is in the place of this one now.
                let has_it = |key: &usize| {
                    self.fits(*key, waiter.permits) && self.hold_of(*key, waiter.owner).is_some()
                };
                let (mut keys, is_late) = (waiter.keys.iter(), waiter.deadline <= now);
                match waiter.upgrades {
                    Some(grant) if !self.holds[key].iter().any(|hold| hold.grant == grant) => true,
                    Some(_) => is_late && self.comes_first(*at, key),
                    None => keys.any(|key| self.comes_first(*at, *key) && (is_late || has_it(key))),
                }
            };
            if let Some(at) = (0..self.waiters.len()).find(is_over) {
                self.waiters.remove(at);
            } else if let Some(at) = (0..self.waiters.len()).find(|at| self.is_grantable(*at)) {
                let waiter = self.waiters.remove(at);
                self.grant(&waiter, now, true);
            } else {
                return;
            }
        }
    }

    /// Ends the owner's wait for this key. Returns whether there was one.
    pub(super) fn cancel(&mut self, key: usize, owner: usize) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|waiter| waiter.owner != owner || !waiter.keys.contains(&key));
        self.waiters.len() < before
    }

    /// Lets the clients go that have waited long enough at a ticket.
    pub(super) fn end_slices(&mut self, now: Moment) {
        self.waiters.iter_mut().for_each(|waiter| {
            waiter.attached.take_if(|(until, _)| until.0.div_ceil(1000) <= now.0 / 1000);
        });
    }

    /// Puts a waiter in line; whatever its owner waited for among these keys is given up.
    pub(super) fn enqueue(&mut self, waiter: Waiter) {
        let earlier: Vec<usize> = (0..self.waiters.len())
            .filter(|at| self.waiters[*at].owner == waiter.owner)
            .filter(|at| !self.waiters[*at].keys.is_disjoint(&waiter.keys))
            .collect();
        match earlier.as_slice() {
            [only] if waiter.upgrades.is_none() && waiter.keys.is_subset(&self.waiters[*only].keys) => {
                self.waiters[*only] = waiter;
            }
            _ => {
                for at in earlier.iter().rev() {
                    self.waiters.remove(*at);
                }
                let at = if waiter.upgrades.is_some() { 0 } else { self.waiters.len() };
                self.waiters.insert(at, waiter);
            }
        }
    }

    /// The waiters that are left in a database when everyone who waits for nothing there lets go, gets what it can and lets
    /// go again: they wait for ever.
    pub(super) fn stuck(&self, db: i32) -> Vec<Waiter> {
        let mut rest = self.clone();
        rest.waiters.retain(|waiter| waiter.db() == db);
        rest.cooldown.iter_mut().for_each(Vec::clear);
        loop {
            let waiting: BTreeSet<usize> = rest.waiters.iter().map(|waiter| waiter.owner).collect();
            rest.holds.iter_mut().for_each(|holds| holds.retain(|hold| waiting.contains(&hold.owner)));
            let Some(at) = (0..rest.waiters.len()).find(|at| rest.is_grantable(*at)) else {
                return rest.waiters;
            };
            let waiter = rest.waiters.remove(at);
            rest.grant(&waiter, Moment(0), false);
        }
    }

    /// Whether this waiter would wait for ever.
    pub(super) fn would_be_stuck(&self, waiter: &Waiter) -> bool {
        let mut next = self.clone();
        next.enqueue(waiter.clone());
        next.stuck(waiter.db()).contains(waiter)
    }
}

/// The ways of an end that the model does not tell apart are one.
pub(super) fn class(how: HoldEnd) -> HoldEnd {
    match how {
        HoldEnd::Capped | HoldEnd::Closed | HoldEnd::Unclaimed => HoldEnd::Expired,
        how => how,
    }
}
