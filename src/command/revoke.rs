//! `LOCK.REVOKE key`
//!
//! Asks the holders of a lock to give it up, and replies how many there are. Nothing is taken from them: those who wait
//! in `LOCK.AWAIT key owner WANTED` are told at once, and those who ask later find it so. The request is kept with the
//! hold, is not replicated, and ends with the process.

use super::args::Args;
use super::spec::{Arg, Spec};
use crate::error::LockError;
use crate::primitive::Step;

pub(crate) const SPEC: Spec = Spec {
    name: "lock.revoke",
    summary: "Asks the holders of a lock to give it up; replies how many there are.",
    flags: "write fast",
    arity: 2,
    acl: "write fast",
    complexity: "O(N) with N holds of the lock, nearly always one",
    args: &[Arg::KEY],
    ..Spec::WRITES_KEY
}
.with_grammar();

/// Reads the words after the command's name: the key.
pub(crate) fn parse<'a>(words: &'a [&'a [u8]]) -> Result<&'a [u8], LockError> {
    let mut args = Args::new(&SPEC, words);
    let key = args.key()?;
    args.finish()?;
    Ok(key)
}

/// Asks the holders. Returns how many there are.
pub(crate) fn apply(step: &mut Step) -> i64 {
    step.expire_and_grant();
    step.revoke() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(parse(&[b"k"]), Ok(&b"k"[..]));
        assert_eq!(parse(&[]), Err(LockError::Arity("lock.revoke")));
        assert_eq!(parse(&[b"k", b"o"]), Err(LockError::Arity("lock.revoke")));
    }
}
