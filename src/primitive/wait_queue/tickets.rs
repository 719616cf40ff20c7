//! Tickets: waiters that nobody is kept waiting for, and that stay only as long as somebody asks for them.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

use super::{QueueNode, Waiters};
use crate::primitive::broken::broken;
use crate::primitive::deadlines::Slot;
use crate::primitive::users::UserId;
use crate::primitive::waiter::{AcquireRequest, Attached, WaiterId, WaiterKind};
use crate::primitive::{Fence, Moment};

impl Waiters {
    /// The ticket of this owner for just these locks, for as much of them, and to upgrade the same hold, or none.
    pub(crate) fn ticket_for(
        &self,
        db: i32,
        keys: &[&[u8]],
        request: &AcquireRequest,
        upgrades: Option<Fence>,
    ) -> Option<WaiterId> {
        let waiter_of = |key: &&[u8]| self.waiter_of(db, key, request.owner.as_bytes());
        let id = keys.first().and_then(waiter_of)?;
        let QueueNode { waiter, keys: known, .. } = self.get(id)?;
        let is_same = known.len() == keys.len() && keys.iter().all(|key| waiter_of(key) == Some(id));
        let is_asked = waiter.request.permits == request.permits && waiter.upgrades == upgrades;
        (is_same && waiter.kind == WaiterKind::Ticket && is_asked).then_some(id)
    }

    /// Lets a ticket that is asked for again stay where it is, on these terms and until `deadline`. Returns the client
    /// that was kept waiting for its turn and is not any more, if there was one.
    pub(crate) fn keep_ticket(
        &mut self,
        id: WaiterId,
        request: AcquireRequest,
        deadline: Moment,
    ) -> Option<WaiterId> {
        let Some(entry) = self.entries.get_mut(&id) else {
            broken("a ticket to be kept is unknown");
            return None;
        };
        let before = entry.bytes();
        (entry.waiter.request, entry.waiter.deadline) = (request, deadline);
        self.bytes = self.bytes + entry.bytes() - before;
        let told = entry.waiter.told.as_mut();
        let earlier = told.and_then(|told| told.attached.take()).map(|attached| attached.client);
        if let Some(client) = earlier {
            self.attached.remove(&client);
        }
        self.reschedule(id, deadline);
        earlier
    }

    /// Lets a channel be told when the turn of this ticket comes, or none.
    pub(crate) fn set_channel(&mut self, id: WaiterId, channel: Option<&[u8]>) {
        // One that took the place of a wait can have had its turn at once.
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let known = entry.waiter.told.as_ref().and_then(|told| told.channel.as_deref());
        if known != channel {
            let before = entry.bytes();
            entry.waiter.told.get_or_insert_default().channel = channel.map(Box::from);
            self.bytes = self.bytes + entry.bytes() - before;
        }
    }

    /// Notes for whom a ticket is kept: the user who has asked for it last, by name.
    pub(crate) fn set_user(&mut self, id: WaiterId, name: Option<&[u8]>) {
        let user = name.and_then(|name| self.users.number(name));
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.waiter.user = user;
        } else {
            broken("a ticket that somebody asks for is unknown");
        }
    }

    /// The name of a user for whom a ticket is kept.
    pub(crate) fn user(&self, user: UserId) -> Option<&[u8]> {
        self.users.name(user)
    }

    /// Keeps a client waiting for the turn of a ticket, and the ticket for as long as it was to be kept after that. Returns
    /// the client's number, which is the next one.
    pub(crate) fn attach(&mut self, id: WaiterId, until: Moment, keep_ms: u64) -> WaiterId {
        let client = self.take_id();
        if let Some(entry) = self.entries.get_mut(&id) {
            let before = entry.bytes();
            entry.waiter.deadline = until.plus_ms(keep_ms);
            entry.waiter.told.get_or_insert_default().attached = Some(Attached { client, until, keep_ms });
            self.bytes = self.bytes + entry.bytes() - before;
            self.attached.insert(client, id);
            self.reschedule(id, until);
        } else {
            broken("a client waits for the turn of no ticket");
        }
        client
    }

    /// Lets the client of a ticket go; the ticket stays, for as long as it was to be kept. Returns where the ticket ends now;
    /// `None` if this is not the client of a ticket.
    pub(crate) fn detach(&mut self, client: WaiterId, now: Moment) -> Option<Moment> {
        let id = self.attached.remove(&client)?;
        let entry = self.entries.get_mut(&id);
        let told =
            entry.and_then(|entry| Some((entry.waiter.told.as_mut()?.attached.take()?, &mut entry.waiter)));
        let Some((attached, waiter)) = told else {
            broken("a client waits for the turn of no ticket");
            return None;
        };
        // However late this is noticed, it has not waited for longer than it wanted.
        let deadline = now.min(attached.until).plus_ms(attached.keep_ms);
        waiter.deadline = deadline;
        self.reschedule(id, deadline);
        Some(deadline)
    }

    /// Lets the client of this ticket go if there is one, as [`Waiters::pop_due`] found its time to be up. Returns its number.
    pub(crate) fn end_slice(&mut self, id: WaiterId) -> Option<WaiterId> {
        let client = self.get(id)?.waiter.attached()?.client;
        self.detach(client, Moment::NEVER).map(|_| client)
    }

    /// The client that is to be told of this wait: itself, or who waits for its turn. `None` for a ticket alone.
    pub(crate) fn client_of(&self, id: WaiterId) -> Option<WaiterId> {
        self.get(id)?.waiter.client(id)
    }

    fn reschedule(&mut self, id: WaiterId, deadline: Moment) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return broken("a ticket to be put off is unknown");
        };
        match (entry.timer, deadline) {
            (Slot::NONE, Moment::NEVER) => {}
            (Slot::NONE, _) => entry.timer = self.deadlines.insert(deadline, id),
            (timer, Moment::NEVER) => {
                self.deadlines.remove(timer);
                entry.timer = Slot::NONE;
            }
            (timer, _) => self.deadlines.reschedule(timer, deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{enqueue, enqueue_as, owners, request};
    use super::*;
    use crate::primitive::{Lease, Permits};

    #[test]
    fn a_ticket_that_is_asked_for_again_keeps_its_place_and_gets_new_terms() {
        let mut waiters = Waiters::default();
        let ticket = enqueue_as(WaiterKind::Ticket, &mut waiters, 0, &[b"k"], b"a", Moment(10_000));
        enqueue(&mut waiters, 0, &[b"k"], b"b", Moment::NEVER);
        let again = AcquireRequest { lease: Lease::ms(7), ..request(b"a") };
        assert_eq!(waiters.ticket_for(0, &[b"k"], &again, None), Some(ticket));
        waiters.keep_ticket(ticket, again, Moment(20_000));
        assert_eq!(waiters.pop_due(Moment(19_000)), None, "the earlier deadline does not count any more");
        assert_eq!(owners(&waiters, b"k"), [b"a", b"b"]);
        assert_eq!(waiters.get(ticket).map(|entry| entry.waiter.request.lease), Some(Lease::ms(7)));
        assert_eq!(waiters.pop_due(Moment(20_000)), Some(ticket));
    }

    #[test]
    fn only_the_same_locks_and_as_much_of_them_are_the_same_ticket() {
        let mut waiters = Waiters::default();
        let both = enqueue_as(WaiterKind::Ticket, &mut waiters, 0, &[b"k", b"l"], b"a", Moment(1));
        assert_eq!(waiters.ticket_for(0, &[b"l", b"k"], &request(b"a"), None), Some(both), "in any order");
        assert_eq!(waiters.ticket_for(0, &[b"k"], &request(b"a"), None), None);
        assert_eq!(waiters.ticket_for(0, &[b"k", b"l", b"m"], &request(b"a"), None), None);
        assert_eq!(waiters.ticket_for(0, &[b"k", b"m"], &request(b"a"), None), None);
        assert_eq!(waiters.ticket_for(5, &[b"k", b"l"], &request(b"a"), None), None);
        assert_eq!(waiters.ticket_for(0, &[b"k", b"l"], &request(b"b"), None), None);
        let shared = AcquireRequest { permits: Permits::SHARED, ..request(b"a") };
        assert_eq!(waiters.ticket_for(0, &[b"k", b"l"], &shared, None), None);
        assert_eq!(
            waiters.ticket_for(0, &[b"k", b"l"], &request(b"a"), Fence::new(7)),
            None,
            "none that upgrades"
        );
        enqueue(&mut waiters, 0, &[b"m"], b"a", Moment::NEVER);
        assert_eq!(waiters.ticket_for(0, &[b"m"], &request(b"a"), None), None, "a client is no ticket");
    }
}
