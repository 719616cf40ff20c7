//! That the tables of the queues agree with each other. Looked at after each step of the model, and of a server with a debug build.

use super::{place_of, Waiters};
use crate::primitive::table::Set;
use crate::primitive::waiter::{WaiterId, WaiterKind};

impl Waiters {
    /// Panics if two tables do not agree. Takes time in proportion to all who wait.
    pub(crate) fn check(&self) {
        for (id, node) in &self.entries {
            let owner = node.waiter.request.owner.as_bytes();
            assert!(!node.keys.is_empty() && node.keys.is_sorted(), "{id:?} waits for locks, each once");
            let waits = self.waits.get(&node.db).and_then(|owners| owners.get(owner));
            let waits: Vec<WaiterId> = waits.into_iter().flat_map(super::Waits::iter).collect();
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
        for (db, queues) in &self.queues {
            for (key, queue) in queues.iter() {
                assert!(!queue.order.is_empty(), "a queue goes with its last waiter");
                assert_eq!(queue.by_owner.len(), queue.order.len(), "an owner stands in a queue once");
                assert_eq!(queue.tickets, queue.order.values().filter(|id| is_ticket(id)).count());
                let names = self.names.get(db);
                assert!(names.is_some_and(|names| names.contains(&(place_of(key), key.clone()))));
                assert!(self.sieve.may_have(key), "the sieve lets every queue through");
                longest = longest.max(queue.order.len());
                new_limits += usize::from(queue.new_limit.is_some());
            }
        }
        let mut tickets = Set::default();
        assert!(self.attached.iter().all(|(_, ticket)| tickets.insert(*ticket)), "a ticket has one client");
        assert_eq!(self.tickets, self.entries.keys().filter(|id| is_ticket(id)).count(), "tickets");
        assert_eq!(self.lengths.longest(), longest, "the longest queue");
        assert_eq!(self.new_limits, new_limits, "queues that get another limit");
        let waits: usize =
            self.waits.values().flat_map(|owners| owners.iter()).map(|(_, waits)| waits.len()).sum();
        assert_eq!(waits, self.entries.len(), "each wait is of one owner");
    }
}
