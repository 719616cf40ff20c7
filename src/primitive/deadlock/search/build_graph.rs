//! The owners that can be reached: everyone whom the one who asks would wait for, directly or not.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use super::super::LocalFirst;
use super::{cost, there, Node, OwnerNode, Search, Wait, REQUESTER};
use crate::primitive::occupancy::Occupancy;
use crate::primitive::wait_queue::Position;
use crate::primitive::Owner;

impl Search<'_> {
    /// Meets everyone whom the one who asks would wait for, directly or not. Returns whether there was time for it.
    pub(in super::super) fn build_graph(&mut self, holds: &mut LocalFirst) -> bool {
        let mut met = 0;
        self.list_waits(REQUESTER);
        self.requester_waits = self.waits.len();
        for key in self.want.keys {
            let place = self.want.place;
            let Some(node) = self.visit(key, place, holds) else { return false };
            if let Some(node) = there(self.nodes.get_mut(node)) {
                node.want = Some((place, false));
            }
        }
        while met < self.owners.len() {
            if met > REQUESTER && !self.list_waits(met) {
                return false;
            }
            let waits = there(self.owners.get(met)).map_or(0..0, |owner_node| owner_node.waits.clone());
            for at in waits {
                let Some(entry) = there(self.waits.get(at)).map(|wait| wait.entry) else { continue };
                for (bit, key) in (0..).zip(&entry.keys) {
                    let Some(node) = self.visit(key, entry.place, holds) else { return false };
                    let Some(node) = there(self.nodes.get_mut(node)) else { continue };
                    let wants_before = node.want.is_some_and(|(place, _)| place < entry.place);
                    // The waits of the one who asks were noted first.
                    let mut mine = node.waits.iter().take_while(|(_, at, _)| *at < self.requester_waits);
                    let is_before = wants_before || mine.any(|(place, ..)| *place < entry.place);
                    self.reaches_requester |= met != REQUESTER && is_before;
                    node.waits.push((entry.place, at, bit));
                }
            }
            met += 1;
        }
        self.nodes.iter_mut().for_each(|node| node.waits.sort_unstable());
        true
    }

    /// Lists the waits of somebody who was met.
    fn list_waits(&mut self, owner_node: usize) -> bool {
        let Some(owner) = there(self.owners.get(owner_node)).map(|owner_node| owner_node.owner.clone())
        else {
            return false;
        };
        let (waiters, start) = (self.waiters, self.waits.len());
        for id in waiters.waits_of(self.want.db, owner.as_bytes()) {
            if self.given_up.contains(&id) {
                continue;
            }
            let Some(entry) = there(waiters.get(id)).filter(|_| self.afford(cost::WAIT)) else {
                return false;
            };
            self.known.insert(id);
            self.waits.push(Wait { owner_node, entry, blocked: 0 });
        }
        if let Some(owner_node) = there(self.owners.get_mut(owner_node)) {
            owner_node.waits = start..self.waits.len();
        }
        true
    }

    /// Notes who has a lock, and who stands before this place and waits elsewhere too; the lock's number.
    fn visit(&mut self, key: &[u8], place: Position, holds: &mut LocalFirst) -> Option<usize> {
        let node = match self.by_key.get(key) {
            Some(node) => *node,
            None => self.open(key, holds)?,
        };
        let searched = there(self.nodes.get(node))?.searched;
        if !self.afford(cost::WAITER) {
            return None;
        }
        if searched < place {
            let waiters = self.waiters;
            for id in waiters.links_between(self.want.db, key, searched, place) {
                if !self.afford(cost::KNOWN) {
                    return None;
                }
                if self.met.insert(id) && !self.given_up.contains(&id) {
                    self.meet(&there(waiters.get(id))?.waiter.request.owner)?;
                }
            }
            there(self.nodes.get_mut(node))?.searched = place;
        }
        Some(node)
    }

    fn open(&mut self, key: &[u8], holds: &mut LocalFirst) -> Option<usize> {
        let mut holders = Vec::new();
        let mut in_time = self.afford(cost::LOCK);
        let waiters = self.waiters;
        holds.each(key, &mut |hold| {
            let owner = hold.owner.as_bytes();
            // An owner that waits for nothing lets go some day, and need not be known.
            if owner != self.want.owner && !waiters.does_wait(self.want.db, owner) {
                in_time = in_time && self.afford(cost::WAITER);
            } else if let Some(owner_node) = self.meet(&hold.owner).filter(|_| in_time) {
                holders.push((owner_node, hold.permits));
            } else {
                in_time = false;
            }
        });
        let node = self.nodes.len();
        for (owner_node, permits) in &holders {
            if let Some(owner_node) = there(self.owners.get_mut(*owner_node)) {
                owner_node.holds.push((node, *permits));
            }
        }
        self.by_key.insert(key.into(), node);
        let key = key.into();
        self.nodes.push(Node {
            key,
            holders,
            taken: Occupancy::default(),
            searched: Position::HEAD,
            waits: Vec::new(),
            want: None,
            is_queued: false,
        });
        in_time.then_some(node)
    }

    /// The number of an owner. Returns `None` if there is no time for another one.
    fn meet(&mut self, owner: &Owner) -> Option<usize> {
        if let Some(owner_node) = self.by_name.get(owner).copied() {
            self.reaches_requester |= owner_node == REQUESTER;
            return self.afford(cost::WAITER).then_some(owner_node);
        }
        if !self.afford(cost::OWNER) {
            return None;
        }
        let owner_node = self.owners.len();
        self.owners.push(OwnerNode { owner: owner.clone(), waits: 0..0, holds: Vec::new(), stuck_waits: 0 });
        self.by_name.insert(owner.clone(), owner_node);
        Some(owner_node)
    }
}
