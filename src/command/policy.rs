//! The limits that the operator sets, as one value for each command.

use crate::limits;
use crate::primitive::bounds::Tie;
use crate::primitive::wait_queue::Caps;
use crate::primitive::waiter::WaitEdge;
use crate::primitive::waiter::WaiterKind;
use crate::primitive::{Lease, Moment};

use super::args::Args;
use super::token::Token;
use crate::error::LockError;

/// The settings that a command needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Lease when ACQUIRE names none, in ms.
    pub default_lease_ms: i64,
    /// Longest lease that a client may ask for, in ms.
    pub max_lease_ms: i64,
    /// Longest wait that a client may ask for, in ms; BLOCK 0 is always allowed.
    pub max_wait_ms: i64,
    pub caps: Caps,
    /// Whether a wait that would close a cycle is refused.
    pub finds_deadlocks: bool,
}

impl Default for Policy {
    fn default() -> Self {
        let caps = Caps {
            all: limits::MAX_WAITERS as usize,
            connections: usize::MAX,
            per_key: limits::MAX_WAITERS_PER_KEY as usize,
            tickets: limits::MAX_TICKETS as usize,
        };
        Self {
            default_lease_ms: limits::DEFAULT_LEASE_MS,
            max_lease_ms: limits::MAX_LEASE_MS,
            max_wait_ms: limits::MAX_WAIT_MS,
            caps,
            finds_deadlocks: true,
        }
    }
}

impl Policy {
    /// Refuses a wait that would close a cycle, if the operator has not switched that off.
    pub(crate) fn refuse_cycle(&self, find: impl FnOnce() -> Option<Vec<WaitEdge>>) -> Result<(), LockError> {
        match self.finds_deadlocks.then(find).flatten() {
            Some(cycle) => Err(LockError::Deadlock(cycle)),
            None => Ok(()),
        }
    }

    /// The lease that PX, EX or NOEXPIRE asks for.
    #[inline]
    pub(crate) fn lease(&self, option: Token, args: &mut Args) -> Result<Lease, LockError> {
        match option {
            Token::Px => self.lease_ms(args),
            Token::Ex => self.lease_s(args),
            Token::NoExpire => Ok(Lease::NEVER),
            other => Err(Args::unread(other)),
        }
    }

    /// The value of PX.
    pub(crate) fn lease_ms(&self, args: &mut Args) -> Result<Lease, LockError> {
        self.lease_in_ms("PX", args)
    }

    /// A lease under another name.
    pub(crate) fn lease_in_ms(&self, name: &'static str, args: &mut Args) -> Result<Lease, LockError> {
        args.number(name, 1, self.max_lease_ms).map(|ms| Lease::ms(ms.unsigned_abs()))
    }

    /// The lease that a hold has, once more: no longer than a client may ask for by now. Without expiry is always allowed.
    pub(crate) fn again(&self, lease: Lease) -> Lease {
        match lease {
            Lease::NEVER => lease,
            _ => lease.min(Lease::ms(self.max_lease_ms.unsigned_abs())),
        }
    }

    /// The value of EX.
    pub(crate) fn lease_s(&self, args: &mut Args) -> Result<Lease, LockError> {
        if self.max_lease_ms < 1000 {
            return Err(LockError::NoSecond { max_ms: self.max_lease_ms });
        }
        args.number("EX", 1, self.max_lease_ms / 1000)
            .map(|s| Lease::ms(s.unsigned_abs().saturating_mul(1000)))
    }

    /// The value of TIED: a tie to nobody yet.
    pub(crate) fn tie(&self, args: &mut Args) -> Result<Tie, LockError> {
        let grace = args.number("TIED", 0, self.max_lease_ms)?;
        Ok(Tie::new(0, 0, Lease::ms(grace.unsigned_abs())))
    }

    /// The value of BLOCK.
    pub(crate) fn block_ms(&self, args: &mut Args) -> Result<u64, LockError> {
        args.number("BLOCK", 0, self.max_wait_ms).map(i64::unsigned_abs)
    }

    /// The value of QUEUE. A ticket that nobody asks for must end some day.
    pub(crate) fn keep_ms(&self, args: &mut Args) -> Result<u64, LockError> {
        args.number("QUEUE", 1, self.max_wait_ms).map(i64::unsigned_abs)
    }
}

/// How long somebody is ready to wait, and how. At least one of the two is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// BLOCK: how long the client is kept waiting for its reply, in ms; 0 is for ever.
    pub block_ms: Option<u64>,
    /// QUEUE: how long the place in line is kept while no client waits for it, in ms.
    pub keep_ms: Option<u64>,
}

impl Wait {
    /// BLOCK alone.
    pub(crate) const fn block(ms: u64) -> Self {
        Self { block_ms: Some(ms), keep_ms: None }
    }

    /// QUEUE alone.
    pub(crate) const fn ticket(ms: u64) -> Self {
        Self { block_ms: None, keep_ms: Some(ms) }
    }

    /// The kind of waiter that stands in line.
    pub(crate) const fn kind(self) -> WaiterKind {
        if self.keep_ms.is_some() {
            WaiterKind::Ticket
        } else {
            WaiterKind::Client
        }
    }

    /// The same without keeping the client waiting. `None` if there is nothing left of it then.
    pub(crate) fn unblocked(self) -> Option<Self> {
        self.keep_ms.map(Self::ticket)
    }

    /// Where the client has waited long enough, counted from `now`; `None` without BLOCK.
    pub(crate) fn until(self, now: Moment) -> Option<Moment> {
        self.block_ms.map(|ms| if ms == 0 { Moment::NEVER } else { now.plus_ms(ms) })
    }

    /// Where a place without a client ends, counted from `now`; where the wait ends, without QUEUE.
    pub(crate) fn deadline(self, now: Moment) -> Moment {
        match self.keep_ms {
            Some(ms) => now.plus_ms(ms),
            None => self.until(now).unwrap_or(Moment::NEVER),
        }
    }
}
