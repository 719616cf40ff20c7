//! `LOCK.WAITERS key [COUNT n] [AFTER owner]`: who waits for a lock, the next one first. Reads only. A long line is read in
//! several replies: each begins after the last owner of the one before.

use super::args::Args;
use super::spec::{Arg, Spec};
use super::token::Token;
use crate::error::LockError;
use crate::limits::{WAITERS_ROWS_DEFAULT, WAITERS_ROWS_MAX};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.waiters",
    summary: "Lists who waits for a lock, the next one first.",
    flags: "readonly",
    arity: -2,
    acl: "read slow",
    complexity: "O(N * H) with N rows of the reply and H holds of the lock",
    args: &[
        Arg::KEY,
        Arg::int("count").after(Token::Count).optional(),
        Arg::string("owner").after(Token::After).optional(),
    ],
    ..Spec::READS_KEY
}
.with_grammar();

/// The request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListWaiters<'a> {
    pub key: &'a [u8],
    /// The most rows to reply.
    pub count: usize,
    /// Whose place the rows come after.
    pub after: Option<&'a [u8]>,
}

impl<'a> ListWaiters<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&SPEC, words);
        let key = args.key()?;
        let (mut count, mut after) = (WAITERS_ROWS_DEFAULT, None);
        while let Some(option) = args.next_option()? {
            match option {
                Token::After => after = Some(args.value("AFTER")?),
                Token::Count => {
                    count = args.number("COUNT", 1, WAITERS_ROWS_MAX as i64)?.unsigned_abs() as usize;
                }
                other => return Err(Args::unread(other)),
            }
        }
        Ok(Self { key, count, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_is_capped() {
        assert_eq!(ListWaiters::parse(&[b"k"]).map(|request| request.count), Ok(WAITERS_ROWS_DEFAULT));
        assert!(ListWaiters::parse(&[b"k", b"COUNT", b"10000"]).is_ok());
        let after = ListWaiters::parse(&[b"k", b"after", b"bob"]).map(|request| request.after);
        assert_eq!(after, Ok(Some(&b"bob"[..])));
        for n in [&b"0"[..], b"-1", b"10001", b"9223372036854775807", b"x"] {
            assert!(matches!(ListWaiters::parse(&[b"k", b"COUNT", n]), Err(LockError::Number { .. })));
        }
    }
}
