//! One who waits, and what it asks for.

#![expect(clippy::arithmetic_side_effects, reason = "sizes of what is in memory")]

use super::bounds::Span;
use super::footprint::allocated;
use super::hold::Extra;
use super::occupancy::Occupancy;
use super::permits::Permits;
use super::users::UserId;
use super::{Fence, Hold, Lease, Moment, Owner};

/// A request for a lock, or for several at once.
#[derive(Clone, Debug)]
pub(crate) struct AcquireRequest {
    pub owner: Owner,
    pub permits: Permits,
    /// How long the hold shall last, counted from the grant.
    pub lease: Lease,
    pub extra: Option<Box<Extra>>,
    /// The bounds of the hold beside the lease.
    pub span: Option<Box<Span>>,
}

impl AcquireRequest {
    /// The note's bytes; empty when there is none.
    pub(crate) fn note(&self) -> &[u8] {
        self.extra.as_ref().map_or(&[], |extra| &extra.note)
    }

    /// The memory that it takes beside itself, in bytes, with the name of the channel that is told of its turn. Nobody
    /// asks for ids or bounds before there is a hold.
    pub(crate) fn heap_bytes_with(&self, channel: Option<&[u8]>) -> usize {
        let of_extra = |extra: &Extra| allocated(size_of::<Extra>()) + allocated(extra.note.len());
        let span = self.span.as_ref().map_or(0, |_| allocated(size_of::<Span>()));
        let channel = channel.map_or(0, |channel| allocated(channel.len()));
        self.owner.heap_bytes() + self.extra.as_deref().map_or(0, of_extra) + span + channel
    }

    /// How many locks are asked for together.
    pub(crate) fn keys(&self) -> u32 {
        self.extra.as_ref().map_or(1, |extra| extra.keys)
    }
}

/// The kinds of waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaiterKind {
    /// A client that is kept waiting for its reply.
    Client,
    /// A ticket: nobody is kept waiting, and its owner asks again to be told. Its hold must be claimed.
    Ticket,
}

impl WaiterKind {
    /// The word for it in replies.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Ticket => "ticket",
        }
    }
}

/// The client and the channel that are told when the turn of a ticket comes.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub attached: Option<Attached>,
    pub channel: Option<Box<[u8]>>,
}

/// The client that is kept waiting for the turn of its owner's ticket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attached {
    /// Its own number: it can leave, and another one come, while the ticket stays.
    pub client: WaiterId,
    /// Where it has waited long enough.
    pub until: Moment,
    /// How long the ticket is kept when it has left.
    pub keep_ms: u64,
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub kind: WaiterKind,
    pub request: AcquireRequest,
    pub since: Moment,
    /// Where the wait ends without a grant.
    pub deadline: Moment,
    /// For a ticket: who is told when its turn comes, kept apart as few tickets have it.
    pub told: Option<Box<Told>>,
    /// For a ticket: the user of the server who has asked for it last. Its rights are looked at when its turn comes.
    pub user: Option<UserId>,
    /// The shared hold that is to become exclusive, for one who has it already.
    pub upgrades: Option<Fence>,
}

impl Waiter {
    /// The memory that it takes beside itself, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let channel = self.told.as_ref().and_then(|told| told.channel.as_deref());
        let told = self.told.as_ref().map_or(0, |_| allocated(size_of::<Told>()));
        told + self.request.heap_bytes_with(channel)
    }

    /// The client that is to be told what becomes of the wait with this number.
    pub(crate) fn client(&self, id: WaiterId) -> Option<WaiterId> {
        match self.kind {
            WaiterKind::Client => Some(id),
            WaiterKind::Ticket => self.attached().map(|attached| attached.client),
        }
    }

    /// The client that is kept waiting for the turn of this ticket.
    pub(crate) fn attached(&self) -> Option<Attached> {
        self.told.as_ref()?.attached
    }

    /// The owners whose holds leave it no room, of these holds that are not over: where permits add up to too much,
    /// all of them; none if it only waits for its turn. `taken` is what they take together.
    pub(crate) fn blockers<'l>(
        &self,
        holds: &'l [&Hold],
        taken: Occupancy,
    ) -> impl Iterator<Item = &'l Owner> {
        let upgrades = self.upgrades;
        let own = upgrades.map_or(0, |_| 1);
        let is_full = !taken.fits_beside_own(self.request.permits, own);
        let others = holds.iter().filter(move |hold| is_full && Some(hold.fence) != upgrades);
        others.map(|hold| &hold.owner)
    }
}

/// One link of a cycle: an owner and the lock that it waits for. The next one has it, or comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitEdge {
    pub owner: Owner,
    pub key: Box<[u8]>,
}

/// Names one wait for as long as the process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WaiterId(pub u64);
