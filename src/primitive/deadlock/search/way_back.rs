//! The way back: how the circle goes, to be told.

use std::collections::VecDeque;

use super::super::Link;
use super::{cost, Search, Wait, ME};
use crate::primitive::table::Table;
use crate::primitive::wait_queue::Place;

impl Search<'_> {
    /// The shortest way from the one who asks over those who are stuck back to it.
    pub(in super::super) fn way_back(&mut self) -> Option<Vec<Link>> {
        let mut came_from: Table<usize, (usize, usize)> = Table::default();
        let mut next = VecDeque::from([ME]);
        while let Some(person) = next.pop_front() {
            for (node, behind) in self.stuck_before(person)? {
                if behind == ME {
                    return self.links(person, node, &came_from);
                }
                if !came_from.has(&behind) {
                    came_from.insert(behind, (person, node));
                    next.push_back(behind);
                }
            }
        }
        None
    }

    fn links(&self, last: usize, node: usize, came_from: &Table<usize, (usize, usize)>) -> Option<Vec<Link>> {
        let link = |person: usize, node: usize| {
            let owner = self.people.get(person)?.owner.clone();
            Some(Link { owner, key: self.nodes.get(node)?.key.clone() })
        };
        let mut links = vec![link(last, node)?];
        let mut person = last;
        while person != ME {
            let (before, node) = *came_from.get(&person)?;
            links.push(link(before, node)?);
            person = before;
        }
        links.reverse();
        Some(links)
    }

    /// Behind which stuck people somebody waits, and for which locks.
    fn stuck_before(&mut self, person: usize) -> Option<Vec<(usize, usize)>> {
        let mut found = Vec::new();
        if person == ME {
            for node in 0..self.nodes.len() {
                if let Some((place, _)) = self.nodes.get(node)?.want {
                    self.stuck_here(node, person, place, &mut found)?;
                }
            }
            return Some(found);
        }
        for at in self.people.get(person)?.waits.clone() {
            let Wait { entry, blocked, .. } = *self.waits.get(at)?;
            for (bit, key) in (0..).zip(&entry.keys) {
                if blocked & (1_u64 << bit) != 0 {
                    let node = *self.by_key.get(key.as_ref())?;
                    self.stuck_here(node, person, entry.place, &mut found)?;
                }
            }
        }
        Some(found)
    }

    fn stuck_here(
        &mut self,
        node: usize,
        person: usize,
        place: Place,
        found: &mut Vec<(usize, usize)>,
    ) -> Option<()> {
        let here = self.nodes.get(node)?;
        let mine = here.want.filter(|(mine, _)| *mine < place).map(|_| ME);
        let holders = here.holders.iter().map(|(holder, _)| *holder);
        let ahead = here.waits.iter().take_while(|(other, ..)| *other < place);
        let ahead = ahead.filter_map(|(_, wait, _)| Some(self.waits.get(*wait)?.person));
        let before = found.len();
        let people = mine.into_iter().chain(holders).chain(ahead);
        found.extend(
            people.filter(|other| *other != person && self.is_stuck(*other)).map(|other| (node, other)),
        );
        let cost = (found.len() - before + 1) * cost::WAITER;
        self.afford(cost).then_some(())
    }
}
