//! `LOCK.SCAN cursor [MATCH pattern] [COUNT count] [OWNER owner] [CONTENDED]`: which locks there are, some with each call. Reads
//! only.

use super::args::Args;
use super::glob;
use super::spec::{Arg, Spec};
use super::token::Token;
use crate::error::LockError;
use crate::limits::{SCAN_COUNT_DEFAULT, SCAN_COUNT_MAX, SCAN_PATTERN_BYTES_MAX};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.scan",
    summary: "Lists the locks of this database, some with each call.",
    flags: "readonly",
    arity: -2,
    acl: "read slow",
    complexity: "O(N) with N locks looked at, for each call",
    args: &[
        Arg::int("cursor"),
        Arg::string("pattern").after(Token::Match).optional(),
        Arg::int("count").after(Token::Count).optional(),
        Arg::string("owner").after(Token::Owner).optional(),
        Arg::word("contended", Token::Contended).optional(),
    ],
    ..Spec::KEYLESS
}
.with_grammar();

/// The request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan<'a> {
    /// Where to begin.
    pub from: u32,
    pattern: Option<&'a [u8]>,
    /// How many locks to look at.
    pub count: usize,
    /// An owner that must hold the lock or wait for it.
    pub owner: Option<&'a [u8]>,
    /// Whether somebody must wait for it.
    pub contended: bool,
}

impl<'a> Scan<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&SPEC, words);
        let from = args.number("the cursor", 0, i64::from(u32::MAX))?;
        let from = from.unsigned_abs() as u32;
        let mut scan = Self { from, pattern: None, count: SCAN_COUNT_DEFAULT, owner: None, contended: false };
        while let Some(option) = args.next_option()? {
            match option {
                Token::Match => {
                    let pattern = args.value("MATCH")?;
                    if pattern.len() > SCAN_PATTERN_BYTES_MAX {
                        return Err(LockError::PatternLength);
                    }
                    scan.pattern = Some(pattern);
                }
                Token::Count => {
                    scan.count = args.number("COUNT", 1, SCAN_COUNT_MAX as i64)?.unsigned_abs() as usize;
                }
                Token::Owner => scan.owner = Some(args.value("OWNER")?),
                Token::Contended => scan.contended = true,
                other => return Err(Args::unread(other)),
            }
        }
        Ok(scan)
    }

    /// Whether a lock of this name is wanted. `steps` counts what that took.
    pub(crate) fn fits(&self, name: &[u8], steps: &mut usize) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name, steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_any_order_and_case() {
        let all = Scan::parse(&[b"7", b"contended", b"COUNT", b"5", b"owner", b"o", b"Match", b"k*"]);
        let (pattern, owner) = (Some(&b"k*"[..]), Some(&b"o"[..]));
        assert_eq!(all, Ok(Scan { from: 7, pattern, count: 5, owner, contended: true }));
        let plain = Scan { from: 0, pattern: None, count: SCAN_COUNT_DEFAULT, owner: None, contended: false };
        assert_eq!(Scan::parse(&[b"0"]), Ok(plain));
    }

    #[test]
    fn bad_words_are_refused() {
        for words in [
            &[&b"-1"[..]][..],
            &[b"x"],
            &[b"4294967296"],
            &[b"0", b"COUNT", b"0"],
            &[b"0", b"COUNT", b"1001"],
        ] {
            assert!(matches!(Scan::parse(words), Err(LockError::Number { .. })), "{words:?}");
        }
        let long = [b'*'; SCAN_PATTERN_BYTES_MAX + 1];
        assert_eq!(Scan::parse(&[b"0", b"MATCH", &long]), Err(LockError::PatternLength));
        assert!(matches!(Scan::parse(&[b"0", b"TYPE", b"x"]), Err(LockError::UnknownOption(_))));
        assert!(matches!(Scan::parse(&[b"0", b"CONTENDED", b"contended"]), Err(LockError::Repeated(_))));
        assert!(Scan::parse(&[b"0", b"MATCH"]).is_err());
    }
}
