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
use crate::primitive::{Fence, Hold, Lock, Locks, Permits, WaiterId};

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
}
.with_grammar();

/// A request for a lock, or for several together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Acquire<'a> {
    pub keys: &'a [&'a [u8]],
    /// `None` if the server shall make one up (`*`).
    pub owner: Option<&'a [u8]>,
    pub terms: Terms<'a>,
}

/// The outcome of the request at once.
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

impl<'a> Acquire<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let mut args = Args::new(&SPEC, words);
        args.new_key()?;
        let keys = words.get(..1).unwrap_or_default();
        let owner = args.owner()?;
        let terms = Terms::parse(&mut args, policy)?;
        Ok(Self { keys, owner: terms.owner(owner)?, terms })
    }

    /// Takes all of the locks for `owner`, or confirms that it has them, if that is possible now.
    pub(crate) fn apply<'k>(
        &self,
        owner: &[u8],
        locks: &mut impl Locks<'k>,
        policy: &Policy,
    ) -> Result<Acquired, LockError> {
        let Terms { permits, fence: expected, .. } = self.terms;
        if !locks.begin() {
            return Err(LockError::TooMuchAtOnce);
        }
        if locks.manager().recovery.is_open() {
            self.reinstate(owner, locks, policy)?;
        }
        let held = hold_of(owner, locks);
        if let Some((fence, is_claim)) = held {
            if expected.is_some_and(|expected| expected != fence) {
                return Ok(Acquired::NotHeld);
            }
            self.check_held(owner, fence, locks)?;
            if self.terms.nx && !is_claim {
                return Ok(Acquired::Already);
            }
            self.check_entry(owner, locks)?;
            self.confirm(owner, fence, locks, policy);
            return Ok(if is_claim { Acquired::Granted(fence) } else { Acquired::Held(fence) });
        }
        if expected.is_some() {
            return Ok(Acquired::NotHeld);
        }
        if let Some(other) = of_another_kind(permits, locks) {
            return Err(LockError::other_permits(other, permits));
        }
        if !locks.admits_newcomer(permits) {
            return Ok(Acquired::Busy);
        }
        let request = self.terms.ask(owner, self.keys.len(), policy)?;
        Ok(Acquired::Granted(locks.grant(request, Recipient::Caller)))
    }

    /// Brings the holds back if a failover has lost them. An owner that does not name them may have let them go behind
    /// what is known here.
    #[cold]
    fn reinstate<'k>(
        &self,
        owner: &[u8],
        locks: &mut impl Locks<'k>,
        policy: &Policy,
    ) -> Result<(), LockError> {
        if let Some(fence) = self.terms.fence {
            locks.reinstate_all(&self.terms.ask(owner, self.keys.len(), policy)?, fence);
            return Ok(());
        }
        let (is_held, now) = (hold_of(owner, locks).is_some(), locks.clock().now);
        if is_held {
            recovery::refuse(locks.manager(), now)?;
        }
        Ok(())
    }

    /// Whether what the owner holds of the locks is what it asks for: of several, just these together.
    fn check_held<'k>(&self, owner: &[u8], fence: Fence, locks: &impl Locks<'k>) -> Result<(), LockError> {
        let (count, permits) = (self.keys.len(), self.terms.permits);
        let is_same = |hold: &Hold| count == 1 || (hold.fence == fence && hold.keys() as usize == count);
        let is_of_another = |lock: &Lock| !lock.hold_of(owner).is_some_and(is_same);
        if locks.find(|lock| is_of_another(lock).then_some(())).is_some() {
            return Err(LockError::OtherGroup);
        }
        // An owner that has it alone may also enter as one of those who share it.
        let enters_shared = permits == Permits::SHARED && !self.terms.entry.is_empty();
        let other = locks.find(|lock| {
            let held = lock.hold_of(owner)?.permits;
            let fits = held == permits || (held == Permits::EXCLUSIVE && enters_shared);
            (!fits).then_some(held)
        });
        other.map_or(Ok(()), |other| Err(LockError::own_permits(other, permits)))
    }

    /// Whether there is room for one more id where the owner is not in under this one.
    fn check_entry<'k>(&self, owner: &[u8], locks: &impl Locks<'k>) -> Result<(), LockError> {
        let full = locks.find(|lock| {
            let entries = lock.hold_of(owner)?.entries();
            if entries.has(self.terms.entry) {
                None
            } else if entries.is_full() {
                Some(LockError::TooManyEntries)
            } else {
                (lock.entries() >= LOCK_ENTRIES_MAX).then_some(LockError::TooManyEntriesOfLock)
            }
        });
        full.map_or(Ok(()), Err)
    }

    /// The owner has been heard of, and goes on holding the locks for at least the lease that it asks for.
    fn confirm<'k>(&self, owner: &[u8], fence: Fence, locks: &mut impl Locks<'k>, policy: &Policy) {
        let (lease, tie) = (self.terms.lease(policy), self.terms.span.tie);
        locks.each(|step| {
            step.enter(owner, self.terms.entry);
            step.confirm(fence);
            if let Some(tie) = tie {
                step.tie(owner, tie);
            }
            step.raise(owner, lease);
        });
    }

    /// Whether `owner` may wait, after [`Acquire::apply`] found something busy: there is room in line, and the wait can end.
    pub(crate) fn check_wait<'k>(
        &self,
        owner: &[u8],
        wait: Wait,
        locks: &mut impl Locks<'k>,
        policy: &Policy,
        others: &mut dyn HoldSource,
    ) -> Result<(), LockError> {
        locks.check_room(owner, wait.kind(), policy.caps)?;
        policy.refuse_cycle(|| {
            let place = locks.place_for(owner);
            locks.find_cycle(owner, self.terms.permits, place, others)
        })
    }

    /// Puts `owner` in line, when [`Acquire::check_wait`] has let it.
    pub(crate) fn enqueue<'k>(
        &self,
        owner: &[u8],
        wait: Wait,
        locks: &mut impl Locks<'k>,
        policy: &Policy,
    ) -> Result<WaiterId, LockError> {
        let request = self.terms.ask(owner, self.keys.len(), policy)?;
        let deadline = wait.deadline(locks.clock().now);
        Ok(locks.enqueue(request, None, wait.kind(), deadline))
    }

    /// Gives `owner` a ticket, or keeps the one that it has, after [`Acquire::apply`] found something busy.
    pub(crate) fn queue<'k>(
        &self,
        owner: &[u8],
        wait: Wait,
        locks: &mut impl Locks<'k>,
        policy: &Policy,
        others: &mut dyn HoldSource,
    ) -> Result<Acquired, LockError> {
        if wait.block_ms.is_some() {
            locks.check_room(owner, WaiterKind::Client, policy.caps)?;
        }
        let request = self.terms.ticket(owner, self.keys.len(), policy)?;
        let (db, channel, deadline) = (locks.db(), self.terms.notify, wait.deadline(locks.clock().now));
        locks.manager().room_for_terms(db, self.keys, &request, channel)?;
        if let Some(id) = locks.keep_ticket(&request, None, deadline) {
            locks.manager().waiters.set_channel(id, channel);
            return Ok(Acquired::Queued);
        }
        self.check_wait(owner, wait, locks, policy, others)?;
        let id = locks.enqueue(request, None, wait.kind(), deadline);
        locks.manager().waiters.set_channel(id, channel);
        // In the place of an earlier wait for more, it may have its turn at once.
        locks.grant_waiter(id);
        if hold_of(owner, locks).is_some() {
            return self.apply(owner, locks, policy);
        }
        Ok(Acquired::Queued)
    }
}

/// The fence of the first hold that the owner has of these locks, and whether it is not claimed yet.
fn hold_of<'k>(owner: &[u8], locks: &impl Locks<'k>) -> Option<(Fence, bool)> {
    locks.find(|lock| lock.hold_of(owner).map(|hold| (hold.fence, hold.is_unclaimed())))
}

/// The permits that somebody holds of one of these locks, if they have another limit than these.
fn of_another_kind<'k>(permits: Permits, locks: &impl Locks<'k>) -> Option<Permits> {
    let other = |held: &Permits| held.limit != permits.limit;
    locks.find(|lock| lock.holds().first().map(|hold| hold.permits).filter(other))
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
            (request.keys, request.owner, terms.lease, terms.wait),
            (&[&b"k"[..]][..], Some(&b"o"[..]), None, None)
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
