//! How many may wait. A client that is kept waiting costs the server about a hundred times as much as a ticket, so that
//! each kind has bounds of its own.

use super::Waiters;

/// How many may wait.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Clients in the whole server.
    pub all: usize,
    /// Clients for one lock.
    pub per_key: usize,
    /// Tickets in the whole server.
    pub tickets: usize,
}

/// Which of the [`Caps`] is reached, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Server(usize),
    Key(usize),
    Tickets(usize),
}

impl Waiters {
    /// Whether there is room for one more ticket.
    pub const fn room_for_ticket(&self, caps: Caps) -> Result<(), Full> {
        if self.tickets < caps.tickets {
            Ok(())
        } else {
            Err(Full::Tickets(caps.tickets))
        }
    }

    /// Whether there is room for one more client.
    pub fn room_for_client(&self, db: i32, key: &[u8], caps: Caps) -> Result<(), Full> {
        let clients = self.queue(db, key).map_or(0, |queue| queue.order.len() - queue.tickets);
        if self.clients() >= caps.all {
            Err(Full::Server(caps.all))
        } else if clients >= caps.per_key {
            Err(Full::Key(caps.per_key))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{enqueue, enqueue_as};
    use super::*;
    use crate::primitive::waiter::Kind;
    use crate::primitive::Moment;

    const CAPS: Caps = Caps { all: 3, per_key: 2, tickets: 2 };

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
    fn clients_and_tickets_take_no_room_of_each_other() {
        let mut waiters = Waiters::default();
        enqueue(&mut waiters, 0, &[b"k"], b"a", Moment::NEVER);
        let ticket = enqueue_as(Kind::Ticket, &mut waiters, 0, &[b"k"], b"b", Moment(1));
        assert_eq!(waiters.room_for_ticket(CAPS), Ok(()));
        let group = enqueue_as(Kind::Ticket, &mut waiters, 0, &[b"k", b"l"], b"c", Moment(1));
        assert_eq!(waiters.room_for_ticket(CAPS), Err(Full::Tickets(2)));
        assert_eq!(waiters.room_for_client(0, b"k", CAPS), Ok(()), "one client waits here, and one in all");
        enqueue(&mut waiters, 0, &[b"k"], b"d", Moment::NEVER);
        assert_eq!(waiters.room_for_client(0, b"k", CAPS), Err(Full::Key(2)));
        waiters.remove(ticket);
        assert_eq!(waiters.room_for_ticket(CAPS), Ok(()));
        waiters.remove(group);
        assert_eq!((waiters.len(), waiters.tickets()), (2, 0));
    }
}
