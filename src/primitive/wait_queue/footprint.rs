//! The server's memory that the queues take. Each name and each owner counts once, however many share it.

#![expect(clippy::arithmetic_side_effects, reason = "sizes of what is in memory")]

use std::rc::Rc;

use super::{Position, Queue, QueueNode, Waiters};
use crate::primitive::deadlines::Deadlines;
use crate::primitive::footprint::{allocated, first_node, in_tree, shared_name, CLIENT};
use crate::primitive::waiter::WaiterId;

type Placed = (Position, WaiterId);

/// One wait, beside its terms and its places.
const WAIT: usize = allocated(size_of::<QueueNode>())
    + Deadlines::<WaiterId>::ENTRY_BYTES
    + in_tree::<WaiterId>()
    + in_tree::<(WaiterId, Box<QueueNode>)>();

impl Waiters {
    /// The bytes that all of it takes, with the clients that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.table_bytes + self.clients() * CLIENT
    }

    /// Notes what the tables take, after each change: an owner that gives a lock back asks for them, and should not pay
    /// for queues that are none of its business.
    pub(super) fn measure_tables(&mut self) {
        self.table_bytes = self.queues.bytes() + self.databases.bytes();
    }
}

impl Queue {
    /// The bytes that the queue takes beside its place: 0 if nobody is in it.
    pub(super) fn bytes(&self) -> usize {
        if self.order.is_empty() {
            return 0;
        }
        let links = match self.links.len() {
            0 => 0,
            links => first_node::<Placed>() + links * in_tree::<Placed>(),
        };
        let order = first_node::<Placed>() + self.order.len() * in_tree::<Placed>();
        let name = shared_name(self.key.len()) + in_tree::<(u32, Rc<[u8]>)>();
        allocated(size_of::<Self>()) + name + order + links + self.by_owner.bytes()
    }
}

impl QueueNode {
    /// The bytes that this wait takes beside its places.
    pub(super) fn bytes(&self) -> usize {
        let several = match self.keys.len() {
            0 | 1 => 0,
            keys => allocated(keys.next_power_of_two() * size_of::<Rc<[u8]>>()) + in_tree::<WaiterId>(),
        };
        WAIT + self.waiter.heap_bytes() + several
    }
}

/// The bytes that a waiting owner takes beside its place.
pub(super) const fn owner_bytes(owner: &[u8]) -> usize {
    shared_name(owner.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{enqueue_as, request};
    use super::*;
    use crate::primitive::waiter::{AcquireRequest, WaiterKind};
    use crate::primitive::{Lease, Moment};

    impl Waiters {
        fn count_bytes(&self) -> usize {
            let queues: usize = self.queues.iter().map(|queue| queue.bytes()).sum();
            let entries: usize = self.entries.values().map(|entry| entry.bytes()).sum();
            let owners: usize = self.databases.owners().map(|(owner, _)| owner_bytes(owner)).sum();
            let tables = self.queues.bytes() + self.databases.bytes();
            queues + entries + owners + tables + self.clients() * CLIENT
        }
    }

    const KEYS: [&[u8]; 3] = [b"k", b"another key", b"l"];
    const OWNERS: [&[u8]; 3] = [b"a", b"an owner whose name takes memory of its own", b"c"];

    proptest! {
        #[test]
        fn what_is_summed_up_is_what_is_there(
            waits in prop::collection::vec((0..2_i32, 0..3_usize, 1..8_usize, any::<bool>(), any::<bool>()), 1..30),
        ) {
            let mut waiters = Waiters::default();
            let mut ids = Vec::new();
            for (db, owner, keys, is_ticket, is_removed) in waits {
                let keys: Vec<&[u8]> =
                    (0..3).filter(|at| keys & (1 << at) != 0).map(|at| KEYS[at]).collect();
                let kind = if is_ticket { WaiterKind::Ticket } else { WaiterKind::Client };
                let id = enqueue_as(kind, &mut waiters, db, &keys, OWNERS[owner], Moment(1));
                prop_assert_eq!(waiters.bytes(), waiters.count_bytes());
                if is_ticket {
                    let noted = AcquireRequest { lease: Lease::ms(1), span: Some(Box::default()), ..request(OWNERS[owner]) };
                    waiters.keep_ticket(id, noted, Moment(2));
                    waiters.set_channel(id, Some(KEYS[owner]));
                    let client = waiters.attach(id, Moment(3), 1);
                    prop_assert_eq!(waiters.bytes(), waiters.count_bytes());
                    if is_removed {
                        waiters.detach(client, Moment(2));
                    }
                    prop_assert_eq!(waiters.bytes(), waiters.count_bytes());
                }
                ids.push(id);
                if is_removed {
                    waiters.remove(ids.remove(ids.len() / 2));
                    prop_assert_eq!(waiters.bytes(), waiters.count_bytes());
                }
            }
            for id in ids {
                waiters.remove(id);
            }
            let empty = waiters.count_bytes();
            prop_assert_eq!(waiters.bytes(), empty);
            prop_assert!(empty < 5_000, "no more than small tables");
        }
    }

    #[test]
    fn a_name_counts_once_however_many_wait_for_it() {
        let name = [b'k'; 1024];
        let with = |owners: &[&[u8]]| {
            let mut waiters = Waiters::default();
            for owner in owners {
                enqueue_as(WaiterKind::Ticket, &mut waiters, 0, &[&name], owner, Moment(1));
            }
            waiters.bytes()
        };
        assert!(with(&[b"a"]) > 1024);
        assert!(with(&[b"a", b"b"]) - with(&[b"a"]) < 600);
    }
}
