//! `LOCK.CHECK key owner [FENCE n] [WITHINFO]`
//!
//! Replies the ms left of the owner's hold, -1 without expiry, 0 when it does not hold the lock. It reads and
//! changes nothing, so it may stand in MULTI and in scripts beside the writes that it protects.

use super::args::Args;
use super::holder::Holder;
use super::spec::{Arg, Spec};
use super::terms;
use crate::error::LockError;
use crate::primitive::{Lock, Moment};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.check",
    summary: "Tells whether an owner holds a lock, and for how long.",
    flags: "readonly fast",
    arity: -3,
    acl: "read fast",
    complexity: "O(N) with N holds of the lock, nearly always one",
    args: &[Arg::KEY, Arg::string("owner"), terms::FENCE, terms::WITHINFO],
    ..Spec::READS_KEY
}
.with_grammar();

/// Reads the words after the command's name.
pub(crate) fn parse<'a>(words: &'a [&'a [u8]]) -> Result<Holder<'a>, LockError> {
    Holder::parse(&SPEC, words, |other, _| Err(Args::unread(other)))
}

/// The time left of the owner's hold; 0 if there is none.
pub(crate) fn apply(holder: &Holder, lock: Option<&Lock>, now: Moment) -> i64 {
    lock.and_then(|lock| holder.find(lock)).map_or(0, |hold| hold.remaining_ms(now))
}
