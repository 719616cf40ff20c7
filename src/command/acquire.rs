//! `LOCK.ACQUIRE key owner|* [NX] [PX ms | EX s | NOEXPIRE] [BLOCK ms] [QUEUE ms [NOTIFY channel]]
//! [SHARED | LIMIT n [ADOPT] [PERMITS k]] [FENCE n] [REENTRANT id] [TIED ms] [MAXHOLD ms] [MINHOLD ms] [NOTE text]
//! [WITHINFO]`
//!
//! Replies the fence, or nil when somebody else has the lock. The same owner again gets the same fence, and its
//! lease is raised, never cut, so that a request whose reply was lost can be sent again. With FENCE the request
//! only ever confirms the hold of that fence. With REENTRANT the owner is in once for each id, and the hold lasts
//! until it has left under all of them. With QUEUE a ticket waits in line, and the same request again asks what
//! has become of it; with BLOCK and QUEUE the client waits for the ticket's turn, and the ticket outlives it.

use super::args::Args;
use super::policy::{Policy, Wait};
use super::recovery;
use super::spec::{Arg, Spec};
use super::terms::{self, Terms};
use crate::error::LockError;
use crate::limits::LOCK_ENTRIES_MAX;
use crate::primitive::deadlock::HoldSource;
use crate::primitive::effect::Recipient;
use crate::primitive::waiter::WaiterKind;
use crate::primitive::{Fence, Permits, Step, WaiterId};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.acquire",
    summary: "Takes a lock, or waits for it in line; replies its fence. Owner * lets the server make one up.",
    flags: "write deny-oom",
    arity: -3,
    acl: "write slow blocking",
    complexity: "O(N) with N holds of the lock, nearly always one",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        terms::NX,
        terms::LEASE,
        terms::BLOCK,
        terms::QUEUE,
        terms::MODE_OR_ADOPTED,
        terms::FENCE,
        terms::REENTRANT,
        terms::BOUNDS[0],
        terms::BOUNDS[1],
        terms::BOUNDS[2],
        terms::NOTE,
        terms::WITHINFO,
    ],
    ..Spec::WRITES_KEY
};

/// The request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Acquire<'a> {
    pub key: &'a [u8],
    /// Nothing when the server shall make one up (`*`).
    pub owner: Option<&'a [u8]>,
    pub terms: Terms<'a>,
}

/// What came of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// A new hold, or one that was given to the owner's ticket and is claimed with this.
    Granted(Fence),
    /// The hold that the owner had already.
    Held(Fence),
    /// The owner has the lock already, and asked for it only if it had not (NX).
    Already,
    /// Somebody else has it, or comes first.
    Busy,
    /// The same, and the owner has a ticket.
    Queued,
    /// The owner does not hold the lock with the fence it named.
    NotHeld,
}

/// A request for locks, as it meets a step: on one lock for LOCK.ACQUIRE, on several for LOCK.MACQUIRE.
pub(crate) trait Take<S> {
    /// Takes all for `owner` if that is possible now.
    fn apply(&self, owner: &[u8], step: &mut S, policy: &Policy) -> Result<Acquired, LockError>;

    /// Whether `owner` may wait, after [`Take::apply`] found something busy: there is room in line, and the wait can end.
    fn check_wait(
        &self,
        owner: &[u8],
        wait: Wait,
        step: &mut S,
        policy: &Policy,
        others: &mut dyn HoldSource,
    ) -> Result<(), LockError>;

    /// Puts `owner` in line, when [`Take::check_wait`] has let it.
    fn enqueue(&self, owner: &[u8], wait: Wait, step: &mut S, policy: &Policy)
        -> Result<WaiterId, LockError>;

    /// Gives `owner` a ticket, or keeps the one that it has, after [`Take::apply`] found something busy.
    fn queue(
        &self,
        owner: &[u8],
        wait: Wait,
        step: &mut S,
        policy: &Policy,
        others: &mut dyn HoldSource,
    ) -> Result<Acquired, LockError>;
}

impl<'a> Acquire<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let mut args = Args::new(SPEC.name, words);
        let key = args.new_key()?;
        let owner = args.owner()?;
        let terms = Terms::parse(&mut args, policy)?;
        Ok(Self { key, owner: terms.owner(owner)?, terms })
    }
}

impl Acquire<'_> {
    /// Brings the hold back if a failover has lost it. Who does not name the hold may have let it go behind what is known here.
    #[cold]
    fn reinstate(&self, owner: &[u8], step: &mut Step<'_>, policy: &Policy) -> Result<(), LockError> {
        match self.terms.fence {
            Some(fence) => {
                step.reinstate(self.terms.ask(owner, 1, policy)?, fence);
            }
            None if step.lock.hold_of(owner).is_some() => recovery::refuse(step.manager, step.clock.now)?,
            None => {}
        }
        Ok(())
    }
}

impl Take<Step<'_>> for Acquire<'_> {
    fn apply(&self, owner: &[u8], step: &mut Step<'_>, policy: &Policy) -> Result<Acquired, LockError> {
        let Terms { permits, fence: expected, entry, .. } = self.terms;
        step.expire_and_grant();
        if step.manager.recovery.is_open() {
            self.reinstate(owner, step, policy)?;
        }
        if let Some(hold) = step.lock.hold_of(owner) {
            let fence = hold.fence;
            if expected.is_some_and(|expected| expected != fence) {
                return Ok(Acquired::NotHeld);
            }
            // Whoever has it alone may also enter as one of those who share it.
            let includes =
                hold.permits == Permits::EXCLUSIVE && permits == Permits::SHARED && !entry.is_empty();
            if hold.permits != permits && !includes {
                return Err(LockError::own_permits(hold.permits, permits));
            }
            if self.terms.nx && !hold.is_unclaimed() {
                return Ok(Acquired::Already);
            }
            let is_new = !hold.entries().has(entry);
            if is_new && hold.entries().is_full() {
                return Err(LockError::TooManyEntries);
            }
            if is_new && step.lock.entries() >= LOCK_ENTRIES_MAX {
                return Err(LockError::TooManyEntriesOfLock);
            }
            let is_claim = hold.is_unclaimed();
            if is_new {
                step.enter(owner, entry);
            }
            step.confirm(fence);
            if let Some(tie) = self.terms.span.tie {
                step.tie(owner, tie);
            }
            step.raise(owner, self.terms.lease(policy));
            return Ok(if is_claim { Acquired::Granted(fence) } else { Acquired::Held(fence) });
        }
        if expected.is_some() {
            return Ok(Acquired::NotHeld);
        }
        if let Some(hold) = step.lock.holds().first().filter(|hold| hold.permits.limit != permits.limit) {
            return Err(LockError::other_permits(hold.permits, permits));
        }
        if !step.admits_newcomer(permits) {
            return Ok(Acquired::Busy);
        }
        let request = self.terms.ask(owner, 1, policy)?;
        Ok(Acquired::Granted(step.grant(request, Recipient::Caller)))
    }

    fn check_wait(
        &self,
        owner: &[u8],
        wait: Wait,
        step: &mut Step<'_>,
        policy: &Policy,
        others: &mut dyn HoldSource,
    ) -> Result<(), LockError> {
        step.check_room(owner, wait.kind(), policy.caps)?;
        policy.refuse_cycle(|| {
            let place = step.manager.waiters.place_for(step.db, &[step.key], owner);
            step.find_cycle(owner, self.terms.permits, place, others)
        })
    }

    fn enqueue(
        &self,
        owner: &[u8],
        wait: Wait,
        step: &mut Step<'_>,
        policy: &Policy,
    ) -> Result<WaiterId, LockError> {
        let request = self.terms.ask(owner, 1, policy)?;
        Ok(step.enqueue(request, wait.kind(), wait.deadline(step.clock.now)))
    }

    fn queue(
        &self,
        owner: &[u8],
        wait: Wait,
        step: &mut Step<'_>,
        policy: &Policy,
        others: &mut dyn HoldSource,
    ) -> Result<Acquired, LockError> {
        if wait.block_ms.is_some() {
            step.check_room(owner, WaiterKind::Client, policy.caps)?;
        }
        let request = self.terms.ticket(owner, 1, policy)?;
        step.manager.room_for_terms(step.db, &[step.key], &request, self.terms.notify)?;
        if let Some(id) = step.keep_ticket(&request, None, wait.deadline(step.clock.now)) {
            step.manager.waiters.set_channel(id, self.terms.notify);
            return Ok(Acquired::Queued);
        }
        self.check_wait(owner, wait, step, policy, others)?;
        let id = step.enqueue(request, wait.kind(), wait.deadline(step.clock.now));
        step.manager.waiters.set_channel(id, self.terms.notify);
        match step.lock.hold_of(owner) {
            // In the place of an earlier wait for more, it has had its turn at once.
            Some(_) => self.apply(owner, step, policy),
            None => Ok(Acquired::Queued),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(words: &'a [&'a [u8]]) -> Result<Acquire<'a>, LockError> {
        Acquire::parse(words, &Policy::default())
    }

    #[test]
    fn the_plain_form() {
        let request = parse(&[b"k", b"o"]).unwrap();
        let terms = request.terms;
        assert_eq!(
            (request.key, request.owner, terms.lease, terms.wait),
            (&b"k"[..], Some(&b"o"[..]), None, None)
        );
    }

    #[test]
    fn a_star_asks_for_an_owner() {
        assert_eq!(parse(&[b"k", b"*"]).unwrap().owner, None);
        assert_eq!(parse(&[b"k", b"**"]).unwrap().owner, Some(&b"**"[..]));
        assert_eq!(parse(&[b"k", b"*", b"QUEUE", b"5"]), Err(LockError::TicketWithoutOwner));
    }

    #[test]
    fn names_at_the_limit_and_one_beyond() {
        let longest = vec![b'x'; 1025];
        assert!(parse(&[&longest[..1024], b"o"]).is_ok());
        assert_eq!(parse(&[&longest, b"o"]), Err(LockError::KeyLength));
        assert!(parse(&[b"k", &longest[..256]]).is_ok());
        assert_eq!(parse(&[b"k", &longest[..257]]), Err(LockError::OwnerLength));
        assert_eq!(parse(&[b"k", b""]), Err(LockError::OwnerLength));
        assert_eq!(parse(&[b"k"]), Err(LockError::Arity("lock.acquire")));
    }
}
