//! Tickets: waiters that nobody is kept waiting for, and that stay only as long as somebody asks for them.

use super::{Entry, Waiters};
use crate::primitive::waiter::{Ask, Kind, WaiterId};
use crate::primitive::Moment;

impl Waiters {
    /// The ticket of this owner for just these locks, and for as much of them.
    pub fn ticket_for(&self, db: i32, keys: &[&[u8]], ask: &Ask) -> Option<WaiterId> {
        let waiter_of = |key: &&[u8]| self.waiter_of(db, key, ask.owner.as_bytes());
        let id = keys.first().and_then(waiter_of)?;
        let Entry { waiter, keys: known, .. } = self.get(id)?;
        let is_same = known.len() == keys.len() && keys.iter().all(|key| waiter_of(key) == Some(id));
        (is_same && waiter.kind == Kind::Ticket && waiter.ask.claim == ask.claim).then_some(id)
    }

    /// Lets a ticket that is asked for again stay where it is, on these terms and until `deadline`.
    pub fn keep_ticket(&mut self, id: WaiterId, ask: Ask, deadline: Moment) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.deadlines.reschedule(entry.timer, deadline);
            (entry.waiter.ask, entry.waiter.deadline) = (ask, deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ask, enqueue, enqueue_as, owners};
    use super::*;
    use crate::primitive::{Claim, Lease};

    #[test]
    fn a_ticket_that_is_asked_for_again_keeps_its_place_and_gets_new_terms() {
        let mut waiters = Waiters::default();
        let ticket = enqueue_as(Kind::Ticket, &mut waiters, 0, &[b"k"], b"a", Moment(10_000));
        enqueue(&mut waiters, 0, &[b"k"], b"b", Moment::NEVER);
        let again = Ask { lease: Lease::ms(7), ..ask(b"a") };
        assert_eq!(waiters.ticket_for(0, &[b"k"], &again), Some(ticket));
        waiters.keep_ticket(ticket, again, Moment(20_000));
        assert_eq!(waiters.pop_due(Moment(19_000)), None, "the earlier deadline does not count any more");
        assert_eq!(owners(&waiters, b"k"), [b"a", b"b"]);
        assert_eq!(waiters.get(ticket).map(|entry| entry.waiter.ask.lease), Some(Lease::ms(7)));
        assert_eq!(waiters.pop_due(Moment(20_000)), Some(ticket));
    }

    #[test]
    fn only_the_same_locks_and_as_much_of_them_are_the_same_ticket() {
        let mut waiters = Waiters::default();
        let both = enqueue_as(Kind::Ticket, &mut waiters, 0, &[b"k", b"l"], b"a", Moment(1));
        assert_eq!(waiters.ticket_for(0, &[b"l", b"k"], &ask(b"a")), Some(both), "in any order");
        assert_eq!(waiters.ticket_for(0, &[b"k"], &ask(b"a")), None);
        assert_eq!(waiters.ticket_for(0, &[b"k", b"l", b"m"], &ask(b"a")), None);
        assert_eq!(waiters.ticket_for(0, &[b"k", b"m"], &ask(b"a")), None);
        assert_eq!(waiters.ticket_for(5, &[b"k", b"l"], &ask(b"a")), None);
        assert_eq!(waiters.ticket_for(0, &[b"k", b"l"], &ask(b"b")), None);
        let shared = Ask { claim: Claim::SHARED, ..ask(b"a") };
        assert_eq!(waiters.ticket_for(0, &[b"k", b"l"], &shared), None);
        enqueue(&mut waiters, 0, &[b"m"], b"a", Moment::NEVER);
        assert_eq!(waiters.ticket_for(0, &[b"m"], &ask(b"a")), None, "a client is no ticket");
    }
}
