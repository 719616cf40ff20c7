//! That the tables of the queues agree with each other. Looked at after each step of the model, and of a server with a debug build.

use super::Waiters;
use crate::primitive::table::Set;
use crate::primitive::waiter::{WaiterId, WaiterKind};

impl Waiters {
    /// Panics if two tables do not agree. Takes time in proportion to all who wait.
    pub(crate) fn check(&self) {
        for (id, node) in &self.entries {
            let owner = node.waiter.request.owner.as_bytes();
            assert!(!node.keys.is_empty() && node.keys.is_sorted(), "{id:?} waits for locks, each once");
            let waits: Vec<WaiterId> = self.waits_of(node.db, owner).collect();
            assert!(waits.contains(id), "{id:?} is among the waits of its owner");
            for key in &node.keys {
                let queue = self.queue(node.db, key);
                assert!(queue.is_some(), "{id:?} stands in the queue of each lock");
                let Some(queue) = queue else { continue };
                assert_eq!(queue.order.get(&node.place), Some(id), "at its position");
                assert_eq!(queue.by_owner.get(owner), Some(id), "and under its owner");
                let is_link = node.keys.len() > 1 || waits.len() > 1;
                assert_eq!(queue.links.contains_key(&node.place), is_link, "{id:?} links queues");
            }
            assert_eq!(self.groups.contains(id), node.keys.len() > 1, "{id:?} waits for several locks");
            if let Some(attached) = node.waiter.attached() {
                assert_eq!(self.attached.get(&attached.client), Some(id), "the client of a ticket");
            }
        }
        let is_ticket = |id: &WaiterId| {
            let node = self.entries.get(id);
            assert!(node.is_some(), "{id:?} is in a queue and unknown");
            node.is_some_and(|node| node.waiter.kind == WaiterKind::Ticket)
        };
        let (mut longest, mut new_limits) = (0, 0);
        let mut queues = 0;
        for (db, key, slot) in self.databases.queues() {
            let queue = self.queues.get(slot);
            assert!(queue.is_some_and(|queue| queue.db == db && queue.key == *key), "a queue knows its lock");
            let Some(queue) = queue else { continue };
            assert!(!queue.order.is_empty(), "a queue goes with its last waiter");
            assert_eq!(queue.by_owner.len(), queue.order.len(), "an owner stands in a queue once");
            assert_eq!(queue.tickets, queue.order.values().filter(|id| is_ticket(id)).count());
            assert!(self.sieve.may_have(key), "the sieve lets every queue through");
            queues += 1;
            longest = longest.max(queue.order.len());
            new_limits += usize::from(queue.new_limit.is_some());
        }
        assert_eq!(self.queues.len(), queues, "each queue is found by its lock");
        let mut tickets = Set::default();
        assert!(self.attached.iter().all(|(_, ticket)| tickets.insert(*ticket)), "a ticket has one client");
        assert_eq!(self.tickets, self.entries.keys().filter(|id| is_ticket(id)).count(), "tickets");
        assert_eq!(self.lengths.longest(), longest, "the longest queue");
        assert_eq!(self.new_limits, new_limits, "queues that get another limit");
        let waits: usize = self.databases.owners().map(|(_, waits)| waits.count()).sum();
        assert_eq!(waits, self.entries.len(), "each wait is of one owner");
    }
}
