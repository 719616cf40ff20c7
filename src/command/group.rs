//! Several locks at once: `LOCK.MACQUIRE`, `LOCK.MRELEASE` and `LOCK.MRENEW`.
//!
//! - `LOCK.MACQUIRE owner|* numkeys key… [options]` takes all of the locks or none, under one fence. A waiter
//!   stands in all queues at once, holds nothing meanwhile, and has all in the step in which the last comes free.
//!   The same owner with the same keys gets the same fence again.
//! - `LOCK.MRELEASE owner numkeys key… [FENCE n] [CANCEL]` gives back those that the owner holds; replies how many. With a
//!   fence all must be held under it, or nothing is changed.
//! - `LOCK.MRENEW owner milliseconds numkeys key… [FENCE n]` gives those that the owner holds a new lease; replies
//!   what is left of each, 0 for one that it does not hold.

use super::acquire::Acquire;
use super::args::Args;
use super::operate::cancel_wait;
use super::policy::Policy;
use super::spec::{Arg, Key, Spec};
use super::terms::{self, ModeWords, Terms};
use super::token::Token;
use crate::error::LockError;
use crate::primitive::hold::Extra;
use crate::primitive::reentry::Exit;
use crate::primitive::waiter::AcquireRequest;
use crate::primitive::{Fence, GroupStep, Lease, Lock, Locks, Owner, Permits};

const KEYS: [Arg; 2] = [Arg::int("numkeys"), Arg::KEY.many()];

pub(crate) const ACQUIRE: Spec = Spec {
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
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const RELEASE: Spec = Spec {
    name: "lock.mrelease",
    summary: "Gives several locks back; replies how many the owner held.",
    flags: "write getkeys-api",
    arity: -4,
    key: Key::Numbered { at: 2 },
    acl: "write slow",
    complexity: "O(N) with N keys",
    args: &[Arg::string("owner"), KEYS[0], KEYS[1], terms::FENCE, terms::CANCEL],
    ..Spec::WRITES_KEY
}
.with_grammar();

pub(crate) const RENEW: Spec = Spec {
    name: "lock.mrenew",
    summary: "Gives several held locks a new lease, counted from now; replies what is left of each.",
    flags: "write getkeys-api",
    arity: -5,
    key: Key::Numbered { at: 3 },
    acl: "write slow",
    complexity: "O(N) with N keys",
    args: &[Arg::string("owner"), Arg::int("milliseconds"), KEYS[0], KEYS[1], terms::FENCE, terms::MODE],
    ..Spec::WRITES_KEY
}
.with_grammar();

impl<'a> Acquire<'a> {
    /// Reads the words of MACQUIRE.
    pub(crate) fn parse_all(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let mut args = Args::new(&ACQUIRE, words);
        let owner = args.owner()?;
        let keys = args.new_keys()?;
        let terms = Terms::parse(&mut args, policy)?;
        Ok(Self { keys, owner: terms.owner(owner)?, terms })
    }
}

/// Ends what is over at all of the locks, or as much of it as one step may.
fn begin(group: &mut GroupStep) -> Result<(), LockError> {
    group.begin().then_some(()).ok_or(LockError::TooMuchAtOnce)
}

/// The words of an owner about several locks that it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HeldAll<'a> {
    pub owner: &'a [u8],
    pub keys: &'a [&'a [u8]],
    pub fence: Option<Fence>,
    /// The permits that the holds have, if this server does not know them; for MRENEW alone.
    pub permits: Permits,
    /// Whether the owner's waits for the locks end too; for MRELEASE alone.
    pub cancels: bool,
}

impl<'a> HeldAll<'a> {
    /// Reads the words of MRELEASE.
    pub(crate) fn parse_release(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&RELEASE, words);
        let owner = args.owner()?;
        Self::parse_rest(owner, args)
    }

    /// Reads the words of MRENEW.
    pub(crate) fn parse_renew(words: &'a [&'a [u8]], policy: &Policy) -> Result<(Self, Lease), LockError> {
        let mut args = Args::new(&RENEW, words);
        let owner = args.owner()?;
        let lease = policy.lease_in_ms("milliseconds", &mut args)?;
        Ok((Self::parse_rest(owner, args)?, lease))
    }

    fn parse_rest(owner: &'a [u8], mut args: Args<'a>) -> Result<Self, LockError> {
        let keys = args.keys()?;
        let (mut fence, mut cancels, mut mode) = (None, false, ModeWords::default());
        while let Some(option) = args.next_option()? {
            match option {
                Token::Fence => fence = Some(args.fence()?),
                Token::Cancel => cancels = true,
                other => mode.read(other, &mut args)?,
            }
        }
        Ok(Self { owner, keys, fence, permits: mode.finish()?, cancels })
    }

    /// The fence of the owner's hold on a lock, unless another was named.
    fn fence_on(&self, lock: &Lock) -> Option<Fence> {
        let held = lock.hold_of(self.owner)?.fence;
        self.fence.is_none_or(|expected| expected == held).then_some(held)
    }

    /// Whether there is nothing to do: with a fence it is all or nothing.
    fn is_refused(&self, group: &GroupStep) -> bool {
        self.fence.is_some() && group.parts.iter().any(|part| self.fence_on(part.lock).is_none())
    }

    /// Ends the owner's holds, as RELEASE without an id does. Returns how many. With a fence the release is remembered,
    /// so that the same request again has the same reply.
    pub(crate) fn release(&self, group: &mut GroupStep) -> Result<i64, LockError> {
        begin(group)?;
        if self.cancels {
            group.each(|step| {
                cancel_wait(self.owner, step);
            });
        }
        if let Some(fence) = self.fence.filter(|fence| self.was_released(*fence, group)) {
            group.manager.confirm(fence);
            return Ok(self.keys.len() as i64);
        }
        if self.is_refused(group) {
            return Ok(self.release_lost(group));
        }
        let mut count = 0_i64;
        group.each(|step| {
            if let Some(fence) = self.fence_on(step.lock) {
                step.manager.confirm(fence);
                let exit = step.exit(fence, b"");
                if self.fence.is_some() {
                    step.remember_exit(self.owner, fence, b"", exit);
                }
                count = count.saturating_add(i64::from(exit != Exit::Unknown));
            }
        });
        Ok(count)
    }

    /// Brings the holds back if a failover has lost them.
    #[cold]
    fn reinstate(&self, lease: Lease, group: &mut GroupStep) {
        let (Some(fence), Some(owner)) = (self.fence, Owner::new(self.owner)) else { return };
        let extra = Extra { keys: self.keys.len() as u32, ..Extra::default() }.boxed();
        group
            .reinstate_all(&AcquireRequest { owner, permits: self.permits, lease, extra, span: None }, fence);
    }

    /// Gives back holds that a failover may have lost, all of them or none. Returns how many.
    fn release_lost(&self, group: &mut GroupStep) -> i64 {
        let Some(fence) = self.fence.filter(|_| group.manager.recovery.is_open()) else { return 0 };
        let mut all = true;
        group.each(|step| {
            let is_known = self.fence_on(step.lock).is_some();
            all = all && (is_known || step.may_be_lost_in_any_mode(self.owner, fence));
        });
        if !all {
            return 0;
        }
        group.each(|step| {
            if !step.release_lost(self.owner, fence) {
                let exit = step.exit(fence, b"");
                step.remember_exit(self.owner, fence, b"", exit);
            }
        });
        self.keys.len() as i64
    }

    /// Whether the owner has let go of all the locks before, under this fence.
    fn was_released(&self, fence: Fence, group: &mut GroupStep) -> bool {
        let mut all = true;
        group.each(|step| {
            all = all
                && match step.lock.hold_of(self.owner).filter(|hold| hold.fence == fence) {
                    Some(hold) => !hold.entries().has(b"") && step.has_left(self.owner, fence, b""),
                    None => step.released_before(self.owner, fence).is_some(),
                };
        });
        all
    }

    /// Gives the owner's holds this lease; what is left of each.
    pub(crate) fn renew(&self, lease: Lease, group: &mut GroupStep) -> Result<Vec<i64>, LockError> {
        begin(group)?;
        if group.manager.recovery.is_open() {
            self.reinstate(lease, group);
        }
        let refused = self.is_refused(group);
        let mut left = Vec::with_capacity(self.keys.len());
        group.each(|step| {
            let fence = self.fence_on(step.lock).filter(|_| !refused);
            left.push(fence.map_or(0, |fence| {
                step.confirm(fence);
                step.manager.stats.renewed.up();
                step.renew(self.owner, lease)
            }));
        });
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::policy::Wait;
    use crate::limits::KEYS_MAX;

    fn parse<'a>(words: &'a [&'a [u8]]) -> Result<Acquire<'a>, LockError> {
        Acquire::parse_all(words, &Policy::default())
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
