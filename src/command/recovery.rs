//! `LOCK.RECOVERY [END]`
//!
//! Tells of the time after a failover in which nothing is granted; END ends it. Replies how many ms are left of it, 0 when
//! there is none: with END, how many were left.

use super::args::Args;
use super::spec::{Arg, Spec};
use super::token::Token;
use crate::error::LockError;
use crate::primitive::{LockManager, Moment};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.recovery",
    summary: "Tells for how long nothing is granted after a failover, or ends that. For operators.",
    flags: "admin",
    arity: -1,
    acl: "slow admin dangerous",
    args: &[Arg::word("end", Token::EndRecovery).optional()],
    ..Spec::KEYLESS
}
.with_grammar();

/// Reads the words after the command's name. Returns whether the window is to end.
pub(crate) fn parse(words: &[&[u8]]) -> Result<bool, LockError> {
    let mut args = Args::new(&SPEC, words);
    let ends = args.is_next(Token::EndRecovery)?;
    args.finish()?;
    Ok(ends)
}

/// The time left of the recovery window in ms; 0 if it is not open.
pub(crate) fn left_ms(manager: &LockManager, now: Moment) -> u64 {
    // It closes when somebody looks, which may be a moment later.
    manager.recovery.until().map_or(0, |until| until.ms_after(now).max(1))
}

/// Refuses what would give a lock to somebody, or take it away, while nobody knows who has it.
pub(crate) fn refuse(manager: &LockManager, now: Moment) -> Result<(), LockError> {
    match left_ms(manager, now) {
        0 => Ok(()),
        left_ms => Err(LockError::Recovering { left_ms }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(parse(&[]), Ok(false));
        assert_eq!(parse(&[b"end"]), Ok(true));
        assert_eq!(parse(&[b"now"]), Err(LockError::UnknownOption(b"now".to_vec())));
        assert_eq!(parse(&[b"END", b"END"]), Err(LockError::Arity("lock.recovery")));
    }
}
