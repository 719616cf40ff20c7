//! `LOCK.INFO key`: what a lock is now, as a map; for a free lock too. Reads only.

use super::args::Args;
use super::spec::{Arg, Spec};
use crate::error::LockError;

pub(crate) const SPEC: Spec = Spec {
    name: "lock.info",
    summary: "Shows a lock: who holds it, until when, and how many wait.",
    flags: "readonly",
    arity: 2,
    acl: "read",
    complexity: "O(N) with N holds",
    args: &[Arg::KEY],
    ..Spec::READS_KEY
}
.with_grammar();

/// Reads the words after the command's name.
pub(crate) fn parse<'a>(words: &'a [&'a [u8]]) -> Result<&'a [u8], LockError> {
    let mut args = Args::new(&SPEC, words);
    let key = args.key()?;
    args.finish()?;
    Ok(key)
}
