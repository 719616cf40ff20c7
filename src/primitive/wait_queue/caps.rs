//! How many may wait. A client that is kept waiting costs the server about a hundred times as much as a ticket, so that
//! each kind has bounds of its own.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use super::Waiters;

/// How many may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    /// Clients in the whole server.
    pub all: usize,
    /// The same, by its connections: the others are kept for those who do not wait.
    pub connections: usize,
    /// Clients for one lock, and as many tickets.
    pub per_key: usize,
    /// Tickets in the whole server.
    pub tickets: usize,
}

impl Caps {
    /// How many clients may wait in the whole server.
    pub(crate) fn clients(&self) -> usize {
        self.all.min(self.connections)
    }

    /// Whether there is room for one more client in the server where `clients` wait.
    pub(crate) fn room_in_server(&self, clients: usize) -> Result<(), Full> {
        match () {
            () if clients < self.clients() => Ok(()),
            () if self.all <= self.connections => Err(Full::Server(self.all)),
            () => Err(Full::Connections(self.connections)),
        }
    }
}

/// Which of the [`Caps`] is reached, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Server(usize),
    Connections(usize),
    Key(usize),
    Tickets(usize),
    TicketsOfKey(usize),
    /// All of it takes as much memory as it may, in bytes.
    Budget(usize),
}

impl Waiters {
    /// Whether there is room for one more ticket.
    pub(crate) fn room_for_ticket(&self, db: i32, key: &[u8], caps: Caps) -> Result<(), Full> {
        if self.tickets >= caps.tickets {
            return Err(Full::Tickets(caps.tickets));
        }
        if self.queue(db, key).is_some_and(|queue| queue.tickets >= caps.per_key) {
            return Err(Full::TicketsOfKey(caps.per_key));
        }
        Ok(())
    }

    /// Whether there is room for one more client.
    pub(crate) fn room_for_client(&self, db: i32, key: &[u8], caps: Caps) -> Result<(), Full> {
        let clients = self.queue(db, key).map_or(0, |queue| queue.order.len() - queue.tickets);
        caps.room_in_server(self.clients())?;
        if clients >= caps.per_key {
            return Err(Full::Key(caps.per_key));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{enqueue, enqueue_as};
    use super::*;
    use crate::primitive::waiter::WaiterKind;
    use crate::primitive::Moment;

    const CAPS: Caps = Caps { all: 3, connections: 5, per_key: 2, tickets: 3 };

    #[test]
    fn caps_hold_at_the_limit() {
        let mut waiters = Waiters::default();
        enqueue(&mut waiters, 0, &[b"k"], b"a", Moment::NEVER);
        assert_eq!(waiters.room_for_client(0, b"k", CAPS), Ok(()));
        enqueue(&mut waiters, 0, &[b"k"], b"b", Moment::NEVER);
        assert_eq!(waiters.room_for_client(0, b"k", CAPS), Err(Full::Key(2)));
        enqueue(&mut waiters, 0, &[b"l"], b"b", Moment::NEVER);
        assert_eq!(waiters.room_for_client(0, b"m", CAPS), Err(Full::Server(3)));
    }

    #[test]
    fn the_lower_of_two_caps_counts_for_the_server() {
        let caps = |all, connections| Caps { all, connections, ..CAPS };
        assert_eq!((caps(3, 2).clients(), caps(2, 3).clients()), (2, 2));
        assert_eq!(caps(3, 2).room_in_server(1), Ok(()));
        assert_eq!(caps(3, 2).room_in_server(2), Err(Full::Connections(2)));
        assert_eq!(caps(2, 3).room_in_server(2), Err(Full::Server(2)));
        assert_eq!(caps(2, 2).room_in_server(2), Err(Full::Server(2)));
        assert_eq!(caps(2, 0).room_in_server(2), Err(Full::Connections(0)));
    }

    #[test]
    fn clients_and_tickets_take_no_room_of_each_other() {
        let mut waiters = Waiters::default();
        enqueue(&mut waiters, 0, &[b"k"], b"a", Moment::NEVER);
        let ticket = enqueue_as(WaiterKind::Ticket, &mut waiters, 0, &[b"k"], b"b", Moment(1));
        assert_eq!(waiters.room_for_ticket(0, b"k", CAPS), Ok(()));
        let group = enqueue_as(WaiterKind::Ticket, &mut waiters, 0, &[b"k", b"l"], b"c", Moment(1));
        assert_eq!(waiters.room_for_ticket(0, b"k", CAPS), Err(Full::TicketsOfKey(2)));
        assert_eq!(waiters.room_for_ticket(0, b"l", CAPS), Ok(()));
        enqueue_as(WaiterKind::Ticket, &mut waiters, 0, &[b"m"], b"c", Moment(1));
        assert_eq!(waiters.room_for_ticket(0, b"l", CAPS), Err(Full::Tickets(3)));
        assert_eq!(waiters.room_for_client(0, b"k", CAPS), Ok(()), "one client waits here, and one in all");
        enqueue(&mut waiters, 0, &[b"k"], b"d", Moment::NEVER);
        assert_eq!(waiters.room_for_client(0, b"k", CAPS), Err(Full::Key(2)));
        waiters.remove(ticket);
        assert_eq!(waiters.room_for_ticket(0, b"k", CAPS), Ok(()));
        waiters.remove(group);
        assert_eq!((waiters.len(), waiters.tickets()), (3, 1));
    }
}
