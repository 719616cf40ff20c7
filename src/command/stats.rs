//! `LOCK.STATS [RESET]`: how long was waited and held, which locks are in demand, and the newest losses and deadlocks.

use super::args::Args;
use super::spec::{Arg, Spec};
use super::token::Token;
use crate::error::LockError;

pub(crate) const SPEC: Spec = Spec {
    name: "lock.stats",
    summary: "Shows how long was waited and held, which locks are in demand, and the newest losses.",
    flags: "readonly",
    arity: -1,
    acl: "read slow",
    args: &[Arg::word("reset", Token::Reset).optional()],
    ..Spec::KEYLESS
}
.with_grammar();

/// Reads the words after the command's name. Returns whether all is to begin anew.
pub(crate) fn parse(words: &[&[u8]]) -> Result<bool, LockError> {
    let mut args = Args::new(&SPEC, words);
    let resets = args.is_next(Token::Reset)?;
    args.finish()?;
    Ok(resets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_word() {
        assert_eq!((parse(&[]), parse(&[b"reset"])), (Ok(false), Ok(true)));
        assert!(matches!(parse(&[b"k"]), Err(LockError::UnknownOption(_))));
        assert!(parse(&[b"RESET", b"RESET"]).is_err());
    }
}
