//! The owners that can go on: those that wait for nothing, and those that wait only for what such owners leave.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use std::collections::VecDeque;

use super::{cost, there, Node, Search, Wait, REQUESTER};
use crate::primitive::occupancy::Occupancy;
use crate::primitive::wait_queue::{Position, QueueNode};

impl Search<'_> {
    /// Whether the wait that is asked about could be granted some day: if the one who asks lets go of all that it has,
    /// or if it does not. Returns `None` if there is no time to tell.
    pub(in super::super) fn could_be_granted(&mut self, i_let_go: bool) -> Option<bool> {
        self.owners.iter_mut().for_each(|owner_node| owner_node.stuck_waits = 0);
        for wait in &mut self.waits {
            let is_mine = wait.owner_node == REQUESTER;
            wait.blocked =
                if is_mine && i_let_go { 0 } else { u64::MAX >> (64 - wait.entry.keys.len().min(64)) };
            if let Some(owner_node) = there(self.owners.get_mut(wait.owner_node)) {
                owner_node.stuck_waits += usize::from(wait.blocked != 0);
            }
        }
        if let Some(me) = there(self.owners.get_mut(REQUESTER)) {
            // The wait that is asked about.
            me.stuck_waits += usize::from(!i_let_go);
        }
        // The lock that was met last comes first, as others wait for it.
        self.todo = (0..self.nodes.len()).rev().collect();
        let mut holders = 0;
        for node in &mut self.nodes {
            node.is_queued = true;
            node.taken = Occupancy::default();
            holders += node.holders.len();
            for (owner_node, permits) in &node.holders {
                if there(self.owners.get(*owner_node)).is_some_and(|owner_node| owner_node.stuck_waits > 0) {
                    node.taken.add(*permits);
                }
            }
        }
        if !self.afford(holders * cost::KNOWN) {
            return None;
        }
        while let Some(node) = self.todo.pop_front() {
            there(self.nodes.get_mut(node))?.is_queued = false;
            self.walk(node, i_let_go)?;
        }
        Some(self.nodes.iter().all(|node| node.want.is_none_or(|(_, is_free)| is_free)))
    }

    pub(super) fn is_stuck(&self, owner_node: usize) -> bool {
        there(self.owners.get(owner_node)).is_some_and(|owner_node| owner_node.stuck_waits > 0)
    }

    /// Goes along the queue of a lock, by what is known now, as far as waits can be granted. Returns `None` if there is
    /// no time.
    fn walk(&mut self, node: usize, i_let_go: bool) -> Option<()> {
        let here = there(self.nodes.get(node))?;
        let mut taken = here.taken;
        let mut want = here.want;
        let (mut from, mut at, mut free) = (Position::HEAD, 0, true);
        while self.afford(cost::WAITER) {
            let next = there(self.nodes.get(node))?.waits.get(at).copied();
            // The one who asks stands between the others, and nobody goes by.
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
                let own = if i_let_go { 0 } else { self.held_by(node, REQUESTER) };
                let is_free = taken.fits_beside_own(self.want.permits, own);
                if let Some(want) = &mut there(self.nodes.get_mut(node))?.want {
                    want.1 = is_free;
                }
                free = i_let_go;
                continue;
            }
            let (_, wait, bit) = next?;
            at += 1;
            let Wait { owner_node, entry, .. } = *there(self.waits.get(wait))?;
            if owner_node == REQUESTER && i_let_go {
                continue;
            }
            // An upgrade does not wait for the hold that it upgrades.
            let upgrades = entry.waiter.upgrades.is_some() && self.is_stuck(owner_node);
            let own = if upgrades { self.held_by(node, owner_node) } else { 0 };
            let permits = entry.waiter.request.permits;
            if !taken.fits_beside_own(permits, own) {
                return Some(());
            }
            self.unblock(wait, bit);
            free = there(self.waits.get(wait))?.blocked == 0;
            if self.is_stuck(owner_node) {
                // It will have its permits, and keep them.
                taken.give_back(own);
                taken.add(permits);
            }
        }
        None
    }

    /// Whether those of whom nothing is known but this one wait can be granted beside what is taken, from one
    /// place to another.
    fn passes(&mut self, node: usize, taken: Occupancy, from: Position, to: Position) -> Option<bool> {
        if taken.is_free() || to <= from {
            return Some(true);
        }
        let (waiters, key) = (self.waiters, there(self.nodes.get(node))?.key.clone());
        for (id, waiter) in waiters.between(self.want.db, &key, from, to) {
            if !self.afford(cost::WAITER) {
                return None;
            }
            let is_other = !self.known.has(&id) && !self.given_up.contains(&id);
            if is_other && !taken.fits_beside_own(waiter.request.permits, 0) {
                return Some(false);
            }
        }
        Some(true)
    }

    fn held_by(&self, node: usize, owner_node: usize) -> u64 {
        let holders = there(self.nodes.get(node)).into_iter().flat_map(|node| &node.holders);
        holders.filter(|(holder, _)| *holder == owner_node).map(|(_, permits)| u64::from(permits.count)).sum()
    }

    /// Notes that a wait can have one of its locks. If it can have all of them by now, others may go on behind it; and
    /// if that was the last wait of its owner, wherever that has something or will have.
    fn unblock(&mut self, wait: usize, bit: u32) {
        let Some(wait) = there(self.waits.get_mut(wait)).filter(|wait| wait.blocked & (1 << bit) != 0) else {
            return;
        };
        wait.blocked &= !(1 << bit);
        if wait.blocked != 0 {
            return;
        }
        let (entry, owner_node) = (wait.entry, wait.owner_node);
        let Some(owner_node) = there(self.owners.get_mut(owner_node)) else { return };
        owner_node.stuck_waits -= 1;
        if owner_node.stuck_waits > 0 {
            self.look_again(entry);
            return;
        }
        let waits = owner_node.waits.clone();
        for (node, permits) in &owner_node.holds {
            if let Some(node) = there(self.nodes.get_mut(*node)) {
                node.taken.give_back(u64::from(permits.count));
            }
            Self::put_in_line(&mut self.nodes, &mut self.todo, *node);
        }
        for at in waits {
            if let Some(entry) = there(self.waits.get(at)).map(|wait| wait.entry) {
                self.look_again(entry);
            }
        }
    }

    /// Puts the locks of a wait in line to be gone along once more.
    fn look_again(&mut self, entry: &QueueNode) {
        for node in entry.keys.iter().filter_map(|key| self.by_key.get(key.as_ref())) {
            Self::put_in_line(&mut self.nodes, &mut self.todo, *node);
        }
    }

    fn put_in_line(nodes: &mut [Node], todo: &mut VecDeque<usize>, node: usize) {
        if let Some(other) = there(nodes.get_mut(node)).filter(|other| !other.is_queued) {
            other.is_queued = true;
            todo.push_back(node);
        }
    }
}
