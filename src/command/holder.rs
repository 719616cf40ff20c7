//! An owner, and the lock that it says it holds: RELEASE, RENEW, CHECK and CONVERT begin with these.

use super::args::Args;
use super::spec::Spec;
use super::token::Token;
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
    /// Reads the words after the command's name. Options that not all of these commands have go to `read`.
    pub(crate) fn parse(
        spec: &'static Spec,
        words: &'a [&'a [u8]],
        mut read: impl FnMut(Token, &mut Args<'a>) -> Result<(), LockError>,
    ) -> Result<Self, LockError> {
        let mut args = Args::new(spec, words);
        let key = args.key()?;
        let owner = args.owner()?;
        let (mut fence, mut with_info) = (None, false);
        while let Some(option) = args.next_option()? {
            match option {
                Token::Fence => fence = Some(args.fence()?),
                Token::WithInfo => with_info = true,
                other => read(other, &mut args)?,
            }
        }
        Ok(Self { key, owner, fence, with_info })
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
        Holder::parse(&super::super::check::SPEC, words, |other, _| Err(Args::unread(other)))
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
