//! Several locks at once: `LOCK.MACQUIRE`, `LOCK.MRELEASE` and `LOCK.MRENEW`.
//!
//! - `LOCK.MACQUIRE owner|* numkeys key… [options]` takes all of the locks or none, under one fence. Who waits
//!   stands in all queues at once, holds nothing meanwhile, and has all in the step in which the last comes free.
//!   The same owner with the same keys gets the same fence again.
//! - `LOCK.MRELEASE owner numkeys key… [FENCE n] [CANCEL]` gives back those that the owner holds; replies how many. With a
//!   fence all must be held under it, or nothing is changed.
//! - `LOCK.MRENEW owner milliseconds numkeys key… [FENCE n]` gives those that the owner holds a new lease; replies
//!   what is left of each, 0 for one that it does not hold.

use super::acquire::Acquired;
use super::args::{set_once, Args};
use super::operate::cancel_wait;
use super::policy::{Policy, Wait};
use super::spec::{Arg, Key, Spec};
use super::terms::{self, Terms};
use crate::error::LockError;
use crate::primitive::deadlock::Holds;
use crate::primitive::entries::Exit;
use crate::primitive::turn::To;
use crate::primitive::waiter::Kind;
use crate::primitive::{Fence, Hold, Lease, Lock, Turns, WaiterId};

const KEYS: [Arg; 2] = [Arg::int("numkeys"), Arg::KEY.many()];

pub const ACQUIRE: Spec = Spec {
    name: "lock.macquire",
    summary: "Takes several locks together, all or none, or waits for them in line; replies the one fence.",
    flags: "write deny-oom getkeys-api",
    arity: -4,
    key: Key::Numbered { at: 2 },
    acl: "write slow blocking",
    complexity: "O(N) with N keys",
    args: &[
        Arg::string("owner"),
        KEYS[0],
        KEYS[1],
        terms::NX,
        terms::LEASE,
        terms::BLOCK,
        terms::QUEUE,
        terms::MODE,
        terms::FENCE,
        terms::BOUNDS[0],
        terms::BOUNDS[1],
        terms::BOUNDS[2],
        terms::NOTE,
        terms::WITHINFO,
    ],
};

pub const RELEASE: Spec = Spec {
    name: "lock.mrelease",
    summary: "Gives several locks back; replies how many the owner held.",
    flags: "write getkeys-api",
    arity: -4,
    key: Key::Numbered { at: 2 },
    acl: "write slow",
    complexity: "O(N) with N keys",
    args: &[Arg::string("owner"), KEYS[0], KEYS[1], terms::FENCE, terms::CANCEL],
};

pub const RENEW: Spec = Spec {
    name: "lock.mrenew",
    summary: "Gives several held locks a new lease, counted from now; replies what is left of each.",
    flags: "write getkeys-api",
    arity: -5,
    key: Key::Numbered { at: 3 },
    acl: "write slow",
    complexity: "O(N) with N keys",
    args: &[Arg::string("owner"), Arg::int("milliseconds"), KEYS[0], KEYS[1], terms::FENCE],
};

/// A request for several locks together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AcquireAll<'a> {
    /// Nothing when the server shall make one up (`*`).
    pub owner: Option<&'a [u8]>,
    pub keys: &'a [&'a [u8]],
    pub terms: Terms<'a>,
}

impl<'a> AcquireAll<'a> {
    /// Reads the words after the command's name.
    pub fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let mut args = Args::new(ACQUIRE.name, words);
        let owner = args.owner()?;
        let keys = args.new_keys()?;
        let terms = Terms::parse(&mut args, policy)?;
        if !terms.entry.is_empty() {
            return Err(LockError::UnknownOption(b"REENTRANT".to_vec()));
        }
        if terms.adopts {
            return Err(LockError::UnknownOption(b"ADOPT".to_vec()));
        }
        Ok(Self { owner: terms.owner(owner)?, keys, terms })
    }

    /// Takes the locks for `owner` if that is possible now.
    pub fn apply(&self, owner: &[u8], turns: &mut Turns, policy: &Policy) -> Result<Acquired, LockError> {
        let Terms { claim, fence: expected, .. } = self.terms;
        settle(turns)?;
        let held: Vec<&Hold> = turns.parts.iter().filter_map(|part| part.lock.hold_of(owner)).collect();
        if let Some(first) = held.first() {
            let (fence, count) = (first.fence, self.keys.len());
            if expected.is_some_and(|expected| expected != fence) {
                return Ok(Acquired::NotHeld);
            }
            let is_same = held.len() == count && held.iter().all(|hold| hold.fence == fence);
            if !is_same || first.keys() as usize != count {
                return Err(LockError::OtherGroup);
            }
            if let Some(other) = held.iter().find(|hold| hold.claim != claim) {
                return Err(LockError::own_claim(other.claim, claim));
            }
            if self.terms.nx && !first.is_unclaimed() {
                return Ok(Acquired::Already);
            }
            if held.iter().any(|hold| !hold.entries().has(b"") && hold.entries().is_full()) {
                return Err(LockError::TooManyEntries);
            }
            let is_claim = first.is_unclaimed();
            turns.each(|turn| turn.enter(owner, b""));
            turns.confirm(fence);
            let (lease, tie) = (self.terms.lease(policy), self.terms.span.tie);
            turns.each(|turn| {
                if let Some(tie) = tie {
                    turn.tie(owner, tie);
                }
                turn.raise(owner, lease);
            });
            return Ok(if is_claim { Acquired::Granted(fence) } else { Acquired::Held(fence) });
        }
        if expected.is_some() {
            return Ok(Acquired::NotHeld);
        }
        let mut others = turns.parts.iter().filter_map(|part| part.lock.holds().first());
        if let Some(hold) = others.find(|hold| hold.claim.limit != claim.limit) {
            return Err(LockError::other_claim(hold.claim, claim));
        }
        let is_free = |key: &[u8], lock: &Lock| {
            turns.memory.waiters.waiting_for(turns.db, key) == 0 && lock.admits(claim)
        };
        if !turns.parts.iter().all(|part| is_free(part.key, part.lock)) {
            return Ok(Acquired::Busy);
        }
        let ask = self.terms.ask(owner, self.keys.len(), policy)?;
        Ok(Acquired::Granted(turns.grant(&ask, To::Caller)))
    }

    /// Whether `owner` may wait, after [`AcquireAll::apply`] found some of the locks busy.
    pub fn check_wait(
        &self,
        owner: &[u8],
        wait: Wait,
        turns: &mut Turns,
        policy: &Policy,
        others: &mut dyn Holds,
    ) -> Result<(), LockError> {
        turns.check_room(owner, wait.kind(), policy.caps)?;
        policy.refuse_cycle(|| turns.find_cycle(owner, self.terms.claim, others))
    }

    /// Puts `owner` into all of the queues, when [`AcquireAll::check_wait`] has let it.
    pub fn enqueue(
        &self,
        owner: &[u8],
        wait: Wait,
        turns: &mut Turns,
        policy: &Policy,
    ) -> Result<WaiterId, LockError> {
        let ask = self.terms.ask(owner, self.keys.len(), policy)?;
        Ok(turns.enqueue(ask, wait.kind(), wait.deadline(turns.clock.now)))
    }

    /// Gives `owner` a ticket, or keeps the one that it has, after [`AcquireAll::apply`] found some of the locks busy.
    pub fn queue(
        &self,
        owner: &[u8],
        wait: Wait,
        turns: &mut Turns,
        policy: &Policy,
        others: &mut dyn Holds,
    ) -> Result<Acquired, LockError> {
        if wait.block_ms.is_some() {
            turns.check_room(owner, Kind::Client, policy.caps)?;
        }
        let ask = self.terms.ticket(owner, self.keys.len(), policy)?;
        turns.memory.room_for_terms(turns.db, self.keys, &ask, self.terms.notify)?;
        if let Some(id) = turns.keep_ticket(&ask, wait.deadline(turns.clock.now)) {
            turns.memory.waiters.set_channel(id, self.terms.notify);
            return Ok(Acquired::Queued);
        }
        self.check_wait(owner, wait, turns, policy, others)?;
        let id = turns.enqueue(ask, wait.kind(), wait.deadline(turns.clock.now));
        turns.memory.waiters.set_channel(id, self.terms.notify);
        // In the place of an earlier wait for more, it may have its turn at once.
        turns.serve(id);
        match turns.parts.first().and_then(|part| part.lock.hold_of(owner)) {
            Some(_) => self.apply(owner, turns, policy),
            None => Ok(Acquired::Queued),
        }
    }
}

/// Ends what is over at all of the locks, or as much of it as one step may.
fn settle(turns: &mut Turns) -> Result<(), LockError> {
    turns.settle().then_some(()).ok_or(LockError::Unsettled)
}

/// What an owner says of several locks that it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeldAll<'a> {
    pub owner: &'a [u8],
    pub keys: &'a [&'a [u8]],
    pub fence: Option<Fence>,
    /// Whether the owner's waits for the locks end too; for MRELEASE alone.
    pub cancels: bool,
}

impl<'a> HeldAll<'a> {
    /// Reads the words of MRELEASE.
    pub fn parse_release(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(RELEASE.name, words);
        let owner = args.owner()?;
        Self::parse_rest(owner, args, true)
    }

    /// Reads the words of MRENEW.
    pub fn parse_renew(words: &'a [&'a [u8]], policy: &Policy) -> Result<(Self, Lease), LockError> {
        let mut args = Args::new(RENEW.name, words);
        let owner = args.owner()?;
        let lease = policy.lease_in_ms("milliseconds", &mut args)?;
        Ok((Self::parse_rest(owner, args, false)?, lease))
    }

    fn parse_rest(owner: &'a [u8], mut args: Args<'a>, may_cancel: bool) -> Result<Self, LockError> {
        let keys = args.keys()?;
        let (mut fence, mut cancels) = (None, None);
        while let Some(word) = args.next_word() {
            if word.eq_ignore_ascii_case(b"FENCE") {
                set_once(&mut fence, "FENCE", args.fence()?)?;
            } else if may_cancel && word.eq_ignore_ascii_case(b"CANCEL") {
                set_once(&mut cancels, "CANCEL", ())?;
            } else {
                return Err(LockError::UnknownOption(word.to_vec()));
            }
        }
        Ok(Self { owner, keys, fence, cancels: cancels.is_some() })
    }

    /// The fence of the owner's hold on a lock, unless another was named.
    fn fence_on(&self, lock: &Lock) -> Option<Fence> {
        let held = lock.hold_of(self.owner)?.fence;
        self.fence.is_none_or(|expected| expected == held).then_some(held)
    }

    /// Whether there is nothing to do: with a fence it is all or nothing.
    fn is_refused(&self, turns: &Turns) -> bool {
        self.fence.is_some() && turns.parts.iter().any(|part| self.fence_on(part.lock).is_none())
    }

    /// Ends the owner's holds, as RELEASE without an id does; how many. With a fence that is remembered, so that the same
    /// request again has the same reply.
    pub fn release(&self, turns: &mut Turns) -> Result<i64, LockError> {
        settle(turns)?;
        if self.cancels {
            turns.each(|turn| {
                cancel_wait(self.owner, turn);
            });
        }
        if let Some(fence) = self.fence.filter(|fence| self.was_released(*fence, turns)) {
            turns.memory.confirm(fence);
            return Ok(self.keys.len() as i64);
        }
        if self.is_refused(turns) {
            return Ok(0);
        }
        let mut count = 0;
        turns.each(|turn| {
            if let Some(fence) = self.fence_on(turn.lock) {
                turn.memory.confirm(fence);
                let exit = turn.exit(fence, b"");
                if self.fence.is_some() {
                    turn.remember_exit(self.owner, fence, b"", exit);
                }
                count += i64::from(exit != Exit::Unknown);
            }
        });
        Ok(count)
    }

    /// Whether the owner has let go of all the locks before, under this fence.
    fn was_released(&self, fence: Fence, turns: &mut Turns) -> bool {
        let mut all = true;
        turns.each(|turn| {
            all = all
                && match turn.lock.hold_of(self.owner).filter(|hold| hold.fence == fence) {
                    Some(hold) => !hold.entries().has(b"") && turn.has_left(self.owner, fence, b""),
                    None => turn.released_before(self.owner, fence).is_some(),
                };
        });
        all
    }

    /// Gives the owner's holds this lease; what is left of each.
    pub fn renew(&self, lease: Lease, turns: &mut Turns) -> Result<Vec<i64>, LockError> {
        settle(turns)?;
        let refused = self.is_refused(turns);
        let mut left = Vec::with_capacity(self.keys.len());
        turns.each(|turn| {
            let fence = self.fence_on(turn.lock).filter(|_| !refused);
            left.push(fence.map_or(0, |fence| {
                turn.confirm(fence);
                turn.memory.stats.renewed += 1;
                turn.renew(self.owner, lease)
            }));
        });
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KEYS_MAX;

    fn parse<'a>(words: &'a [&'a [u8]]) -> Result<AcquireAll<'a>, LockError> {
        AcquireAll::parse(words, &Policy::default())
    }

    #[test]
    fn words() {
        let request = parse(&[b"o", b"2", b"k", b"BLOCK", b"SHARED", b"BLOCK", b"0"]).unwrap();
        assert_eq!(request.keys, [&b"k"[..], b"BLOCK"], "a key may be called like an option");
        assert_eq!((request.owner, request.terms.wait), (Some(&b"o"[..]), Some(Wait::block(0))));
        assert_eq!(parse(&[b"*", b"1", b"k"]).unwrap().owner, None);
        assert_eq!(parse(&[b"*", b"1", b"k", b"QUEUE", b"5"]), Err(LockError::TicketWithoutOwner));
        assert_eq!(parse(&[b"o", b"2", b"k"]), Err(LockError::Arity("lock.macquire")));
        assert_eq!(parse(&[b"o", b"2", b"k", b"k"]), Err(LockError::SameKeyTwice(b"k".to_vec())));
        let reentrant = parse(&[b"o", b"1", b"k", b"REENTRANT", b"x"]);
        assert_eq!(reentrant, Err(LockError::UnknownOption(b"REENTRANT".to_vec())));
        for n in [&b"0"[..], b"-1", b"65", b"9223372036854775807", b"x"] {
            assert!(matches!(parse(&[b"o", n, b"k"]), Err(LockError::Number { what: "numkeys", .. })));
        }
        let names: Vec<String> = (0..=KEYS_MAX).map(|n| format!("k{n}")).collect();
        let count = KEYS_MAX.to_string();
        let mut many: Vec<&[u8]> = vec![b"o", count.as_bytes()];
        many.extend(names.iter().take(KEYS_MAX).map(|name| name.as_bytes()));
        assert!(parse(&many).is_ok());
    }

    #[test]
    fn words_of_holders() {
        let request = HeldAll::parse_release(&[b"o", b"2", b"k", b"l", b"FENCE", b"7"]).unwrap();
        assert_eq!((request.keys.len(), request.fence), (2, Fence::new(7)));
        let policy = Policy::default();
        let (request, lease) = HeldAll::parse_renew(&[b"o", b"500", b"1", b"k"], &policy).unwrap();
        assert_eq!((request.keys, lease), (&[&b"k"[..]][..], Lease::ms(500)));
        assert!(HeldAll::parse_renew(&[b"o", b"0", b"1", b"k"], &policy).is_err());
        assert!(HeldAll::parse_release(&[b"o", b"1", b"k", b"ALL"]).is_err());
    }
}
