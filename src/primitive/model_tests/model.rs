//! The model: plain lists, searched from the front, with no index and no wheel. Slow and obvious.

use std::collections::BTreeSet;

use crate::primitive::{Claim, Lease, Moment};

/// How a grant is taken back that its waiter has not heard of.
#[derive(Clone, Debug, PartialEq)]
pub enum Undo {
    End,
    Downgrade { grant: usize },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    pub owner: usize,
    /// Stands for the fence: holds of one grant share it, and no others.
    pub grant: usize,
    pub claim: Claim,
    pub lease: Lease,
    pub deadline: Moment,
    /// How many keys were granted together.
    pub keys: usize,
    /// The ids of re-entry; 0 is none.
    pub entries: BTreeSet<usize>,
    pub provisional: Option<Undo>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Waiter {
    pub owner: usize,
    pub keys: BTreeSet<usize>,
    pub claim: Claim,
    pub lease: Lease,
    pub deadline: Moment,
    pub entry: usize,
    /// The grant of the shared hold that is to become exclusive.
    pub upgrades: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    /// By key.
    pub holds: Vec<Vec<Hold>>,
    /// Everyone who waits for anything, first come first; upgrades before all others.
    pub waiters: Vec<Waiter>,
    pub grants: usize,
}

impl Model {
    pub fn new(keys: usize) -> Self {
        Self { holds: vec![Vec::new(); keys], ..Self::default() }
    }

    pub fn limit_of(&self, key: usize) -> Option<u32> {
        self.holds[key].first().map(|hold| hold.claim.limit)
    }

    pub fn fits(&self, key: usize, claim: Claim) -> bool {
        let taken: u64 = self.holds[key].iter().map(|hold| u64::from(hold.claim.permits)).sum();
        let same_kind = self.limit_of(key).is_none_or(|limit| limit == claim.limit);
        same_kind && taken + u64::from(claim.permits) <= u64::from(claim.limit)
    }

    pub fn hold_of(&self, key: usize, owner: usize) -> Option<&Hold> {
        self.holds[key].iter().find(|hold| hold.owner == owner)
    }

    pub fn hold_of_mut(&mut self, key: usize, owner: usize) -> Option<&mut Hold> {
        self.holds[key].iter_mut().find(|hold| hold.owner == owner)
    }

    pub fn queue(&self, key: usize) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter().filter(move |waiter| waiter.keys.contains(&key))
    }

    fn comes_first(&self, at: usize, key: usize) -> bool {
        !self.waiters[..at].iter().any(|earlier| earlier.keys.contains(&key))
    }

    fn is_grantable(&self, at: usize) -> bool {
        let waiter = &self.waiters[at];
        let ready = |key: &usize| match waiter.upgrades {
            Some(_) => self.holds[*key].len() == 1,
            None => self.fits(*key, waiter.claim),
        };
        waiter.keys.iter().all(|key| self.comes_first(at, *key) && ready(key))
    }

    /// One grant for all of these keys.
    pub fn grant(&mut self, waiter: &Waiter, now: Moment, provisional: bool) -> usize {
        self.grants += 1;
        for key in &waiter.keys {
            if let Some(grant) = waiter.upgrades {
                let new = self.grants;
                let hold = self.hold_of_mut(*key, waiter.owner).unwrap();
                assert_eq!(hold.grant, grant);
                (hold.grant, hold.claim) = (new, waiter.claim);
                hold.provisional = provisional.then_some(Undo::Downgrade { grant });
                continue;
            }
            self.holds[*key].push(Hold {
                owner: waiter.owner,
                grant: self.grants,
                claim: waiter.claim,
                lease: waiter.lease,
                deadline: waiter.lease.deadline(now),
                keys: waiter.keys.len(),
                entries: BTreeSet::from([waiter.entry]),
                provisional: provisional.then_some(Undo::End),
            });
        }
        self.grants
    }

    /// Ends what is over and grants what can be granted, until there is nothing more.
    pub fn settle(&mut self, now: Moment) {
        loop {
            self.holds.iter_mut().for_each(|holds| holds.retain(|hold| now < hold.deadline));
            let is_over = |at: &usize| {
                let waiter = &self.waiters[*at];
                let key = *waiter.keys.first().unwrap();
                match waiter.upgrades {
                    Some(grant) if !self.holds[key].iter().any(|hold| hold.grant == grant) => true,
                    _ => waiter.deadline <= now && waiter.keys.iter().any(|key| self.comes_first(*at, *key)),
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

    /// Puts a waiter in line; whatever its owner waited for among these keys is given up.
    pub fn enqueue(&mut self, waiter: Waiter) {
        let earlier: Vec<usize> = (0..self.waiters.len())
            .filter(|at| self.waiters[*at].owner == waiter.owner)
            .filter(|at| !self.waiters[*at].keys.is_disjoint(&waiter.keys))
            .collect();
        match earlier.as_slice() {
            [only] if waiter.keys.is_subset(&self.waiters[*only].keys) => self.waiters[*only] = waiter,
            _ => {
                for at in earlier.iter().rev() {
                    self.waiters.remove(*at);
                }
                let at = if waiter.upgrades.is_some() { 0 } else { self.waiters.len() };
                self.waiters.insert(at, waiter);
            }
        }
    }

    /// The waiters that are left when everyone who waits for nothing lets go, gets what it can and lets go again:
    /// they wait for ever.
    pub fn stuck(&self) -> Vec<Waiter> {
        let mut rest = self.clone();
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
    pub fn would_be_stuck(&self, waiter: &Waiter) -> bool {
        let mut next = self.clone();
        next.enqueue(waiter.clone());
        next.stuck().contains(waiter)
    }
}
