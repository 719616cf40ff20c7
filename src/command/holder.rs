//! Who says that it holds which lock: what RELEASE, RENEW, CHECK and CONVERT begin with.

use super::args::{set_once, Args};
use crate::error::LockError;
use crate::primitive::{Fence, Hold, Lock};

/// A lock, the owner that says it has it, and perhaps the fence of the hold that it means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Holder<'a> {
    pub key: &'a [u8],
    pub owner: &'a [u8],
    pub fence: Option<Fence>,
    pub with_info: bool,
}

impl<'a> Holder<'a> {
    /// Reads the words after the command's name. Options that not all of these commands have go to `option`, which
    /// says whether it knows them.
    pub(crate) fn parse(
        command: &'static str,
        words: &'a [&'a [u8]],
        mut option: impl FnMut(&'a [u8], &mut Args<'a>) -> Result<bool, LockError>,
    ) -> Result<Self, LockError> {
        let mut args = Args::new(command, words);
        let key = args.key()?;
        let owner = args.owner()?;
        let (mut fence, mut info) = (None, None);
        while let Some(word) = args.next_word() {
            if word.eq_ignore_ascii_case(b"FENCE") {
                set_once(&mut fence, "FENCE", args.fence()?)?;
            } else if word.eq_ignore_ascii_case(b"WITHINFO") {
                set_once(&mut info, "WITHINFO", ())?;
            } else if !option(word, &mut args)? {
                return Err(LockError::UnknownOption(word.to_vec()));
            }
        }
        Ok(Self { key, owner, fence, with_info: info.is_some() })
    }

    /// The hold that is meant.
    pub(crate) fn find<'l>(&self, lock: &'l Lock) -> Option<&'l Hold> {
        let hold = lock.hold_of(self.owner)?;
        self.fence.is_none_or(|expected| expected == hold.fence).then_some(hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(words: &'a [&'a [u8]]) -> Result<Holder<'a>, LockError> {
        Holder::parse("lock.check", words, |_, _| Ok(false))
    }

    #[test]
    fn words() {
        let holder = parse(&[b"k", b"o", b"withinfo", b"Fence", b"7"]).unwrap();
        assert_eq!((holder.fence, holder.with_info), (Fence::new(7), true));
        assert_eq!(parse(&[b"k"]), Err(LockError::Arity("lock.check")));
        assert_eq!(parse(&[b"k", b"o", b"FENCE"]), Err(LockError::MissingValue("FENCE")));
        assert_eq!(parse(&[b"k", b"o", b"PX", b"7"]), Err(LockError::UnknownOption(b"PX".to_vec())));
        for n in [&b"0"[..], b"-1", b"9007199254740992", b"x"] {
            assert!(matches!(parse(&[b"k", b"o", b"FENCE", n]), Err(LockError::Number { .. })));
        }
        assert!(parse(&[b"k", b"o", b"FENCE", b"9007199254740991"]).is_ok());
    }
}
