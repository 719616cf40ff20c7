//! The effects of a step outside of it, and the ends that it can have for those concerned.

use super::ledger::HoldEnd;
use super::waiter::{Waiter, WaiterId, WaiterKind};
use super::Fence;

/// An effect that must follow outside, in this order: replicate, wake, notify.
#[derive(Debug)]
pub(crate) enum Effect {
    /// A hold began; `to` is a client that was waiting for it.
    Granted { fence: Fence, to: Option<WaiterId> },
    /// A hold that an earlier primary had granted stands again.
    Reinstated { fence: Fence },
    /// The owner of a hold was heard of and goes on holding.
    Kept,
    /// A hold has another lease, deadline, note or bounds, or fewer permits.
    Renewed { fence: Fence },
    /// The owner of a hold went in under another id.
    Entered { fence: Fence, id: Box<[u8]> },
    /// The owner of a hold went out under this id, and is in under others.
    Exited { fence: Fence, id: Box<[u8]> },
    /// An exclusive hold became a shared one, under this fence.
    Downgraded { fence: Fence },
    /// The semaphore has another limit.
    Limited { limit: u32 },
    /// A hold ended, or what cooled after it.
    Ended { fence: Fence, how: HoldEnd },
    /// A hold that was lost does not come back; or, with a fence that none can have, no hold of this lock does.
    KeptAway { fence: Fence },
    /// Somebody has got in line.
    Queued,
    /// The turn of a ticket has come, and this channel is to be told.
    Announced { fence: Fence, channel: Box<[u8]> },
    /// The holders were asked to give the lock up.
    Wanted,
    /// A client's wait ended without a grant.
    WaitEnded { client: WaiterId, why: WaitEnd },
}

/// Why a wait ended without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// It took as long as it may.
    TimedOut,
    /// Its owner asked again from elsewhere and waits there.
    Superseded,
    /// The hold that was to be upgraded has ended.
    HoldEnded,
    /// Somebody ended it from elsewhere.
    Cancelled,
    /// Its client is gone, or was sent away.
    Gone,
    /// The lock that it waits for is not to be had here any more: another type, another server.
    Failed,
    /// The user who asked for it has no right to the lock any more.
    Barred,
    /// It has waited long enough, and its place in line is kept.
    PlaceKept,
    /// It asks for more permits than there are, since the limit was lowered to this; or it asked for several
    /// locks with one limit, and they no longer agree.
    OverLimit(u32),
}

/// The one who is given a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// The caller, who is told at once.
    Caller,
    /// A client that waits.
    Client(WaiterId),
    /// A ticket, and the client that is kept waiting for its turn.
    Ticket(Option<WaiterId>),
}

impl Recipient {
    /// One who waited.
    pub(crate) fn waiter(id: WaiterId, waiter: &Waiter) -> Self {
        match waiter.kind {
            WaiterKind::Client => Self::Client(id),
            WaiterKind::Ticket => Self::Ticket(waiter.client(id)),
        }
    }

    /// The recipient of what is granted together with its first lock: a client is told once.
    pub(crate) const fn of_the_rest(self) -> Self {
        match self {
            Self::Client(_) | Self::Caller => Self::Caller,
            Self::Ticket(_) => Self::Ticket(None),
        }
    }

    /// The client that is to be told.
    pub(crate) const fn client(self) -> Option<WaiterId> {
        match self {
            Self::Client(id) | Self::Ticket(Some(id)) => Some(id),
            Self::Caller | Self::Ticket(None) => None,
        }
    }
}
