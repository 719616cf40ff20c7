//! `LOCK.CHECK key owner [FENCE n] [WITHINFO]`
//!
//! Replies the ms left of the owner's hold, -1 without expiry, 0 when it does not hold the lock. It reads and
//! changes nothing, so it may stand in MULTI and in scripts beside the writes that it protects.

use super::release::Release;
use super::spec::{Arg, Spec};
use crate::error::LockError;
use crate::primitive::{Lock, Moment};

pub const SPEC: Spec = Spec {
    name: "lock.check",
    summary: "Tells whether an owner holds a lock, and for how long.",
    flags: "readonly fast",
    arity: -3,
    acl: "read fast",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        Arg::int("fence").after("FENCE").optional(),
        Arg::word("with-info", "WITHINFO").optional(),
    ],
    ..Spec::READS_KEY
};

/// Reads the words after the command's name.
pub fn parse<'a>(words: &'a [&'a [u8]]) -> Result<Release<'a>, LockError> {
    Release::parse_as(SPEC.name, words)
}

/// What is left of the owner's hold, 0 when there is none.
pub fn apply(request: &Release, lock: Option<&Lock>, now: Moment) -> i64 {
    let hold = lock.and_then(|lock| lock.hold_of(request.owner));
    hold.filter(|hold| request.fence.is_none_or(|expected| expected == hold.fence))
        .map_or(0, |hold| hold.left(now))
}
