//! `LOCK.SETLIMIT key limit`
//!
//! Gives a held semaphore another limit; replies 1, or 0 when nobody holds it, for then the owner that takes it next
//! says the limit. Holders keep their permits, even beyond a lower limit: nothing is granted until they fit. A waiter
//! for more permits than there are now is sent away with LOCKLIMIT.

use super::args::Args;
use super::spec::{Arg, Spec};
use crate::error::LockError;
use crate::limits::PERMITS_MAX;
use crate::primitive::permits::ALL;
use crate::primitive::Step;

pub(crate) const SPEC: Spec = Spec {
    name: "lock.setlimit",
    summary: "Gives a held semaphore another limit; whoever waits and fits has its permits at once.",
    flags: "write",
    arity: 3,
    acl: "write slow",
    complexity: "O(N) with N holds and waiters",
    args: &[Arg::KEY, Arg::int("limit")],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// The request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetLimit<'a> {
    pub key: &'a [u8],
    pub limit: u32,
}

impl<'a> SetLimit<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&SPEC, words);
        let key = args.key()?;
        let limit = args.count("limit", PERMITS_MAX)?;
        args.finish()?;
        Ok(Self { key, limit })
    }

    /// Changes the limit. Returns whether there was one.
    pub(crate) fn apply(&self, step: &mut Step) -> Result<bool, LockError> {
        step.expire_and_grant();
        let Some(hold) = step.lock.holds().first() else { return Ok(false) };
        if hold.permits.limit == ALL {
            return Err(LockError::NoLimit { is: hold.permits.mode() });
        }
        if hold.permits.limit != self.limit {
            step.set_limit(self.limit);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(SetLimit::parse(&[b"k", b"3"]), Ok(SetLimit { key: b"k", limit: 3 }));
        assert_eq!(SetLimit::parse(&[b"k", b"3", b"4"]), Err(LockError::Arity("lock.setlimit")));
        for n in [&b"0"[..], b"-1", b"1000001", b"9223372036854775808", b"x"] {
            assert!(matches!(SetLimit::parse(&[b"k", n]), Err(LockError::Number { .. })));
        }
    }
}
