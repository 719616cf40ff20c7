//! Who can go on: whoever waits for nothing, and whoever waits only for what those leave.

use std::collections::VecDeque;

use super::{cost, Node, Search, Wait, ME};
use crate::primitive::wait_queue::{Entry, Place};
use crate::primitive::Claim;

/// What stuck people have of one lock, or will have before they let go.
#[derive(Clone, Copy, Default)]
pub(super) struct Taken {
    permits: u64,
    limit: Option<u32>,
    /// Whether claims of two kinds meet, which never go together.
    is_mixed: bool,
}

impl Taken {
    fn add(&mut self, claim: Claim) {
        self.is_mixed |= self.limit.is_some_and(|limit| limit != claim.limit);
        self.limit = Some(claim.limit);
        self.permits += u64::from(claim.permits);
    }

    /// Somebody has let go. When all have, the lock is of no kind any more.
    fn give_back(&mut self, claim: Claim) {
        self.permits = self.permits.saturating_sub(u64::from(claim.permits));
        if self.permits == 0 {
            *self = Self::default();
        }
    }

    /// Whether this claim fits beside what is taken, but for so many permits that are its own.
    fn leaves_room(&self, claim: Claim, own: u64) -> bool {
        let others = self.permits.saturating_sub(own);
        let same_kind = !self.is_mixed && self.limit.is_none_or(|limit| limit == claim.limit);
        others == 0 || (same_kind && others + u64::from(claim.permits) <= u64::from(claim.limit))
    }
}

impl Search<'_> {
    /// Whether the wait that is asked about could be granted some day: if the one who asks lets go of all that it
    /// has, or if it does not. Nothing if there is no time to tell.
    pub(in super::super) fn could_be_granted(&mut self, i_let_go: bool) -> Option<bool> {
        self.people.iter_mut().for_each(|person| person.stuck_waits = 0);
        for wait in &mut self.waits {
            let is_mine = wait.person == ME;
            wait.blocked =
                if is_mine && i_let_go { 0 } else { u64::MAX >> (64 - wait.entry.keys.len().min(64)) };
            if let Some(person) = self.people.get_mut(wait.person) {
                person.stuck_waits += usize::from(wait.blocked != 0);
            }
        }
        if let Some(me) = self.people.get_mut(ME) {
            // The wait that is asked about.
            me.stuck_waits += usize::from(!i_let_go);
        }
        // Whoever was met last is asked first, as others wait for it.
        self.todo = (0..self.nodes.len()).rev().collect();
        let mut holders = 0;
        for node in &mut self.nodes {
            node.is_in_line = true;
            node.taken = Taken::default();
            holders += node.holders.len();
            for (person, claim) in &node.holders {
                if self.people.get(*person).is_some_and(|person| person.stuck_waits > 0) {
                    node.taken.add(*claim);
                }
            }
        }
        if !self.afford(holders * cost::KNOWN) {
            return None;
        }
        while let Some(node) = self.todo.pop_front() {
            self.nodes.get_mut(node)?.is_in_line = false;
            self.walk(node, i_let_go)?;
        }
        Some(self.nodes.iter().all(|node| node.want.is_none_or(|(_, is_free)| is_free)))
    }

    pub(super) fn is_stuck(&self, person: usize) -> bool {
        self.people.get(person).is_some_and(|person| person.stuck_waits > 0)
    }

    /// Goes along the queue of a lock, by what is known now, as far as waits can be granted. Nothing if there is no
    /// time.
    fn walk(&mut self, node: usize, i_let_go: bool) -> Option<()> {
        let here = self.nodes.get(node)?;
        let mut taken = here.taken;
        let mut want = here.want;
        let (mut from, mut at, mut free) = (Place::HEAD, 0, true);
        while self.afford(cost::WAITER) {
            let next = self.nodes.get(node)?.waits.get(at).copied();
            // Who asks stands between the others, and nobody goes by.
            let my_place =
                want.map(|(place, _)| place).filter(|mine| next.is_none_or(|(place, ..)| *mine <= place));
            let place = my_place.or(next.map(|(place, ..)| place));
            let Some(place) = place.filter(|_| free) else { return Some(()) };
            if !self.passes(node, taken, from, place)? {
                return Some(());
            }
            from = place;
            if my_place.is_some() {
                want = None;
                let own = if i_let_go { 0 } else { self.held_by(node, ME) };
                let is_free = taken.leaves_room(self.want.claim, own);
                if let Some(want) = &mut self.nodes.get_mut(node)?.want {
                    want.1 = is_free;
                }
                free = i_let_go;
                continue;
            }
            let (_, wait, bit) = next?;
            at += 1;
            let Wait { person, entry, .. } = *self.waits.get(wait)?;
            if person == ME && i_let_go {
                continue;
            }
            // An upgrade does not wait for the hold that it upgrades.
            let upgrades = entry.waiter.upgrades.is_some() && self.is_stuck(person);
            let own = if upgrades { self.held_by(node, person) } else { 0 };
            let claim = entry.waiter.ask.claim;
            if !taken.leaves_room(claim, own) {
                return Some(());
            }
            self.unblock(wait, bit);
            free = self.waits.get(wait)?.blocked == 0;
            if self.is_stuck(person) {
                // It will have its permits, and keep them.
                taken.permits = taken.permits.saturating_sub(own);
                taken.add(claim);
            }
        }
        None
    }

    /// Whether those of whom nothing is known but this one wait can be granted beside what is taken, from one
    /// place to another.
    fn passes(&mut self, node: usize, taken: Taken, from: Place, to: Place) -> Option<bool> {
        if taken.permits == 0 || to <= from {
            return Some(true);
        }
        let (waiters, key) = (self.waiters, self.nodes.get(node)?.key.clone());
        for (id, waiter) in waiters.between(self.want.db, &key, from, to) {
            if !self.afford(cost::WAITER) {
                return None;
            }
            let is_other = !self.known.has(&id) && !self.given_up.contains(&id);
            if is_other && !taken.leaves_room(waiter.ask.claim, 0) {
                return Some(false);
            }
        }
        Some(true)
    }

    fn held_by(&self, node: usize, person: usize) -> u64 {
        let holders = self.nodes.get(node).into_iter().flat_map(|node| &node.holders);
        holders.filter(|(holder, _)| *holder == person).map(|(_, claim)| u64::from(claim.permits)).sum()
    }

    /// Notes that a wait can have one of its locks. If it can have all of them by now, others may go on behind it; and
    /// if that was the last wait of its owner, wherever that has something or will have.
    fn unblock(&mut self, wait: usize, bit: u32) {
        let Some(wait) = self.waits.get_mut(wait).filter(|wait| wait.blocked & (1 << bit) != 0) else {
            return;
        };
        wait.blocked &= !(1 << bit);
        if wait.blocked != 0 {
            return;
        }
        let (entry, person) = (wait.entry, wait.person);
        let Some(person) = self.people.get_mut(person) else { return };
        person.stuck_waits -= 1;
        if person.stuck_waits > 0 {
            self.look_again(entry);
            return;
        }
        let waits = person.waits.clone();
        for (node, claim) in &person.holds {
            if let Some(node) = self.nodes.get_mut(*node) {
                node.taken.give_back(*claim);
            }
            Self::put_in_line(&mut self.nodes, &mut self.todo, *node);
        }
        for at in waits {
            if let Some(entry) = self.waits.get(at).map(|wait| wait.entry) {
                self.look_again(entry);
            }
        }
    }

    /// Puts the locks of a wait in line to be gone along once more.
    fn look_again(&mut self, entry: &Entry) {
        for node in entry.keys.iter().filter_map(|key| self.by_key.get(key.as_ref())) {
            Self::put_in_line(&mut self.nodes, &mut self.todo, *node);
        }
    }

    fn put_in_line(nodes: &mut [Node], todo: &mut VecDeque<usize>, node: usize) {
        if let Some(other) = nodes.get_mut(node).filter(|other| !other.is_in_line) {
            other.is_in_line = true;
            todo.push_back(node);
        }
    }
}
