//! `LOCK.RENEW key owner [PX ms | EX s | NOEXPIRE] [FENCE n] [WITHINFO]`
//!
//! Gives the hold a new lease counted from now; without a time, the lease it has. It sets and never adds, so it
//! can shorten. Replies the ms left, -1 without expiry, 0 when the owner does not hold the lock.

use super::args::{set_once, Args};
use super::policy::Policy;
use super::spec::{Arg, Spec};
use crate::error::LockError;
use crate::primitive::{Fence, Lease, Turn};

pub const SPEC: Spec = Spec {
    name: "lock.renew",
    summary: "Gives a held lock a new lease, counted from now.",
    flags: "write fast",
    arity: -3,
    acl: "write fast",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        Arg::one_of(
            "lease",
            &[
                Arg::int("milliseconds").after("PX"),
                Arg::int("seconds").after("EX"),
                Arg::word("no-expiry", "NOEXPIRE"),
            ],
        )
        .optional(),
        Arg::int("fence").after("FENCE").optional(),
        Arg::word("with-info", "WITHINFO").optional(),
    ],
    ..Spec::WRITES_KEY
};

/// The request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Renew<'a> {
    pub key: &'a [u8],
    pub owner: &'a [u8],
    /// Nothing for the lease that the hold has.
    pub lease: Option<Lease>,
    pub fence: Option<Fence>,
    pub with_info: bool,
}

impl<'a> Renew<'a> {
    /// Reads the words after the command's name.
    pub fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let mut args = Args::new(SPEC.name, words);
        let key = args.key()?;
        let owner = args.owner()?;
        let (mut lease, mut fence, mut info) = (None, None, None);
        while let Some(word) = args.next_word() {
            if word.eq_ignore_ascii_case(b"PX") {
                set_once(&mut lease, "PX", policy.lease_ms(&mut args)?)?;
            } else if word.eq_ignore_ascii_case(b"EX") {
                set_once(&mut lease, "EX", policy.lease_s(&mut args)?)?;
            } else if word.eq_ignore_ascii_case(b"NOEXPIRE") {
                set_once(&mut lease, "NOEXPIRE", Lease::NEVER)?;
            } else if word.eq_ignore_ascii_case(b"FENCE") {
                set_once(&mut fence, "FENCE", args.fence()?)?;
            } else if word.eq_ignore_ascii_case(b"WITHINFO") {
                set_once(&mut info, "WITHINFO", ())?;
            } else {
                return Err(LockError::UnknownOption(word.to_vec()));
            }
        }
        Ok(Self { key, owner, lease, fence, with_info: info.is_some() })
    }

    /// Renews the owner's hold; what is left of it, 0 when there is none.
    pub fn apply(&self, turn: &mut Turn) -> i64 {
        turn.settle();
        let held = turn.lock.hold_of(self.owner);
        let Some(hold) = held.filter(|hold| self.fence.is_none_or(|expected| expected == hold.fence)) else {
            return 0;
        };
        let (fence, lease) = (hold.fence, self.lease.unwrap_or(hold.lease));
        turn.memory.confirm(fence);
        turn.memory.stats.renewed += 1;
        turn.renew(self.owner, lease);
        lease.to_wire()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let policy = Policy::default();
        let request = Renew::parse(&[b"k", b"o", b"NOEXPIRE", b"FENCE", b"7"], &policy).unwrap();
        assert_eq!((request.lease, request.fence), (Some(Lease::NEVER), Fence::new(7)));
        let twice = Renew::parse(&[b"k", b"o", b"PX", b"7", b"NOEXPIRE"], &policy);
        assert_eq!(twice, Err(LockError::Repeated("NOEXPIRE")));
        let blocking = Renew::parse(&[b"k", b"o", b"BLOCK", b"7"], &policy);
        assert_eq!(blocking, Err(LockError::UnknownOption(b"BLOCK".to_vec())));
    }
}
