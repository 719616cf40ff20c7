//! The way back: how the circle goes, to be told.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use std::collections::VecDeque;

use super::super::WaitEdge;
use super::{cost, there, Search, Wait, REQUESTER};
use crate::primitive::table::Table;
use crate::primitive::wait_queue::Position;

impl Search<'_> {
    /// The shortest way from the one who asks over those who are stuck back to it.
    pub(in super::super) fn shortest_cycle(&mut self) -> Option<Vec<WaitEdge>> {
        let mut came_from: Table<usize, (usize, usize)> = Table::default();
        let mut next = VecDeque::from([REQUESTER]);
        while let Some(owner_node) = next.pop_front() {
            for (node, behind) in self.stuck_before(owner_node)? {
                if behind == REQUESTER {
                    return self.links(owner_node, node, &came_from);
                }
                if !came_from.has(&behind) {
                    came_from.insert(behind, (owner_node, node));
                    next.push_back(behind);
                }
            }
        }
        None
    }

    fn links(
        &self,
        last: usize,
        node: usize,
        came_from: &Table<usize, (usize, usize)>,
    ) -> Option<Vec<WaitEdge>> {
        let link = |owner_node: usize, node: usize| {
            let owner = there(self.owners.get(owner_node))?.owner.clone();
            Some(WaitEdge { owner, key: there(self.nodes.get(node))?.key.clone() })
        };
        let mut links = vec![link(last, node)?];
        let mut owner_node = last;
        while owner_node != REQUESTER {
            let (before, node) = *there(came_from.get(&owner_node))?;
            links.push(link(before, node)?);
            owner_node = before;
        }
        links.reverse();
        Some(links)
    }

    /// Behind which stuck owners somebody waits, and for which locks.
    fn stuck_before(&mut self, owner_node: usize) -> Option<Vec<(usize, usize)>> {
        let mut found = Vec::new();
        if owner_node == REQUESTER {
            for node in 0..self.nodes.len() {
                if let Some((place, _)) = there(self.nodes.get(node))?.want {
                    self.stuck_here(node, owner_node, place, &mut found)?;
                }
            }
            return Some(found);
        }
        for at in there(self.owners.get(owner_node))?.waits.clone() {
            let Wait { entry, blocked, .. } = *there(self.waits.get(at))?;
            for (bit, key) in (0..).zip(&entry.keys) {
                if blocked & (1_u64 << bit) != 0 {
                    let node = *there(self.by_key.get(key.as_ref()))?;
                    self.stuck_here(node, owner_node, entry.place, &mut found)?;
                }
            }
        }
        Some(found)
    }

    fn stuck_here(
        &mut self,
        node: usize,
        owner_node: usize,
        place: Position,
        found: &mut Vec<(usize, usize)>,
    ) -> Option<()> {
        let here = there(self.nodes.get(node))?;
        let mine = here.want.filter(|(mine, _)| *mine < place).map(|_| REQUESTER);
        let holders = here.holders.iter().map(|(holder, _)| *holder);
        let ahead = here.waits.iter().take_while(|(other, ..)| *other < place);
        let ahead = ahead.filter_map(|(_, wait, _)| Some(there(self.waits.get(*wait))?.owner_node));
        let before = found.len();
        let owners = mine.into_iter().chain(holders).chain(ahead);
        found.extend(
            owners.filter(|other| *other != owner_node && self.is_stuck(*other)).map(|other| (node, other)),
        );
        let cost = (found.len() - before + 1) * cost::WAITER;
        self.afford(cost).then_some(())
    }
}
