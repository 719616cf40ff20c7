//! Reading a command's words: a cursor that hands them out one by one and turns them into values, strictly.

use smallvec::SmallVec;

use super::spec::Spec;
use super::token::{Token, Tokens};
use crate::error::LockError;
use crate::limits::{CHANNEL_BYTES_MAX, FENCE_MAX, ID_BYTES_MAX, KEYS_MAX, KEY_BYTES_MAX, NOTE_BYTES_MAX};
use crate::primitive::{Fence, Owner};

/// The words of a command that have not been read yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Args<'a> {
    rest: &'a [&'a [u8]],
    spec: &'static Spec,
    /// The options that were read.
    given: Tokens,
}

impl<'a> Args<'a> {
    /// The words that follow the name of a command.
    pub(crate) const fn new(spec: &'static Spec, words: &'a [&'a [u8]]) -> Self {
        Self { rest: words, spec, given: Tokens::NONE }
    }

    /// How many words have not been read yet.
    pub(crate) const fn count_left(&self) -> usize {
        self.rest.len()
    }

    /// The next word, if there is one.
    pub(crate) fn next_word(&mut self) -> Option<&'a [u8]> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// The option that comes next. Returns `None` at the end; refuses a word that the spec does not list, and an option that stands
    /// twice or beside one that it excludes.
    #[inline]
    pub(crate) fn next_option(&mut self) -> Result<Option<Token>, LockError> {
        let Some(word) = self.next_word() else { return Ok(None) };
        match self.spec.option(word) {
            Some((token, excludes)) if !self.given.overlap(excludes) => {
                self.given = self.given.and(Tokens::of(token));
                Ok(Some(token))
            }
            Some((token, _)) => Err(repeated(token)),
            None => Err(unknown(word)),
        }
    }

    /// Whether this option comes next, of a command that has no other; otherwise as [`Args::next_option`].
    pub(crate) fn is_next(&mut self, only: Token) -> Result<bool, LockError> {
        match self.next_option()? {
            None => Ok(false),
            Some(option) if option == only => Ok(true),
            Some(other) => Err(Self::unread(other)),
        }
    }

    /// The error for an option that the spec lists and that has no place where it stands, such as FENCE beside FREE.
    pub(crate) fn unread(option: Token) -> LockError {
        unknown(option.text().as_bytes())
    }

    /// The next word, which the command cannot do without.
    pub(crate) fn required(&mut self) -> Result<&'a [u8], LockError> {
        self.next_word().ok_or_else(|| LockError::Arity(self.spec.name))
    }

    /// The next `count` words, apart from the rest. Returns `None` if there are not so many.
    pub(crate) fn take(&mut self, count: usize) -> Option<Self> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(Self { rest: taken, ..*self })
    }

    /// The name of a key that may be there: whatever the keyspace has can be told of, given back and replicated.
    pub(crate) fn key(&mut self) -> Result<&'a [u8], LockError> {
        self.required()
    }

    /// The name of a key that may be made.
    pub(crate) fn new_key(&mut self) -> Result<&'a [u8], LockError> {
        self.required()
            .and_then(|key| if key.len() <= KEY_BYTES_MAX { Ok(key) } else { Err(LockError::KeyLength) })
    }

    /// An owner's name.
    pub(crate) fn owner(&mut self) -> Result<&'a [u8], LockError> {
        self.required()
            .and_then(|name| if Owner::is_valid(name) { Ok(name) } else { Err(LockError::OwnerLength) })
    }

    /// The value of `option`.
    pub(crate) fn value(&mut self, option: &'static str) -> Result<&'a [u8], LockError> {
        self.next_word().ok_or_else(|| LockError::MissingValue(option))
    }

    /// The value of `option` as a whole number in a range.
    pub(crate) fn number(&mut self, option: &'static str, min: i64, max: i64) -> Result<i64, LockError> {
        let word = self.value(option)?;
        parse_i64(word).filter(|n| (min..=max).contains(n)).ok_or_else(|| LockError::Number {
            what: option,
            min,
            max,
        })
    }

    /// The value of `option` as a number of permits or parties.
    pub(crate) fn count(&mut self, option: &'static str, max: u32) -> Result<u32, LockError> {
        let n = self.number(option, 1, i64::from(max))?;
        Ok(u32::try_from(n).unwrap_or(max))
    }

    /// The value of FENCE.
    pub(crate) fn fence(&mut self) -> Result<Fence, LockError> {
        let max = FENCE_MAX as i64;
        parse_fence(self.value("FENCE")?).ok_or_else(|| LockError::Number { what: "FENCE", min: 1, max })
    }

    /// The value of REENTRANT.
    pub(crate) fn entry(&mut self) -> Result<&'a [u8], LockError> {
        self.value("REENTRANT").and_then(id)
    }

    /// The value of NOTIFY.
    pub(crate) fn channel(&mut self) -> Result<&'a [u8], LockError> {
        let name = self.value("NOTIFY")?;
        if (1..=CHANNEL_BYTES_MAX).contains(&name.len()) {
            Ok(name)
        } else {
            Err(LockError::ChannelLength)
        }
    }

    /// An id, if there is one more word.
    pub(crate) fn optional_id(&mut self) -> Result<Option<&'a [u8]>, LockError> {
        self.next_word().map(id).transpose()
    }

    /// A number of keys and as many of them, no two the same.
    pub(crate) fn keys(&mut self) -> Result<&'a [&'a [u8]], LockError> {
        let numkeys = parse_i64(self.required()?).filter(|n| (1..=KEYS_MAX as i64).contains(n));
        let count = numkeys.ok_or(LockError::Number { what: "numkeys", min: 1, max: KEYS_MAX as i64 })?;
        let (keys, rest) =
            self.rest.split_at_checked(count as usize).ok_or(LockError::Arity(self.spec.name))?;
        self.rest = rest;
        let mut sorted: SmallVec<[&[u8]; 8]> = keys.into();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| matches!(pair, [first, second] if first == second)) {
            Some(pair) => {
                Err(LockError::SameKeyTwice(pair.first().map_or_else(Vec::new, |key| key.to_vec())))
            }
            None => Ok(keys),
        }
    }

    /// The same for keys that may be made.
    pub(crate) fn new_keys(&mut self) -> Result<&'a [&'a [u8]], LockError> {
        let keys = self.keys()?;
        if keys.iter().all(|key| key.len() <= KEY_BYTES_MAX) {
            Ok(keys)
        } else {
            Err(LockError::KeyLength)
        }
    }

    /// The value of NOTE.
    pub(crate) fn note(&mut self) -> Result<&'a [u8], LockError> {
        self.text("NOTE")
    }

    /// The value of `option` as a text for operators.
    pub(crate) fn text(&mut self, option: &'static str) -> Result<&'a [u8], LockError> {
        let text = self.value(option)?;
        if text.len() <= NOTE_BYTES_MAX {
            Ok(text)
        } else {
            Err(LockError::NoteLength)
        }
    }

    /// The value of `option` as an owner's name.
    pub(crate) fn owner_after(&mut self, option: &'static str) -> Result<&'a [u8], LockError> {
        let name = self.value(option)?;
        if Owner::is_valid(name) {
            Ok(name)
        } else {
            Err(LockError::OwnerLength)
        }
    }

    /// Refuses words that nobody asked for.
    pub(crate) fn finish(&mut self) -> Result<(), LockError> {
        self.next_word().map_or(Ok(()), |_| Err(LockError::Arity(self.spec.name)))
    }
}

/// The id that a client made up for one request, so that it can be sent again.
fn id(word: &[u8]) -> Result<&[u8], LockError> {
    if (1..=ID_BYTES_MAX).contains(&word.len()) {
        Ok(word)
    } else {
        Err(LockError::IdLength)
    }
}

#[cold]
fn unknown(word: &[u8]) -> LockError {
    LockError::UnknownOption(word.to_vec())
}

#[cold]
fn repeated(option: Token) -> LockError {
    LockError::Repeated(option.text())
}

/// A fence in decimal.
pub(crate) fn parse_fence(word: &[u8]) -> Option<Fence> {
    parse_i64(word).and_then(|n| u64::try_from(n).ok()).and_then(Fence::new)
}

/// So many decimal digits are never too many for 64 bits.
const SAFE_DIGITS: usize = 18;

/// A decimal number as the server itself writes it: no plus sign, no spaces, no leading zeros, no `-0`.
pub(crate) fn parse_i64(word: &[u8]) -> Option<i64> {
    let (negative, digits) = match word {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    if digits.len() <= SAFE_DIGITS {
        let n = digits.iter().try_fold(0_i64, |n, digit| {
            digit
                .is_ascii_digit()
                .then(|| n.wrapping_mul(10).wrapping_add(i64::from(digit.wrapping_sub(b'0'))))
        })?;
        return Some(if negative { n.wrapping_neg() } else { n });
    }
    // Counted downwards, as there is one negative number more than positive ones.
    let down = digits.iter().try_fold(0_i64, |n, digit| {
        let digit = char::from(*digit).to_digit(10).map(i64::from)?;
        n.checked_mul(10)?.checked_sub(digit)
    })?;
    if negative {
        Some(down)
    } else {
        down.checked_neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_strict() {
        let good: [(&str, i64); 8] = [
            ("0", 0),
            ("7", 7),
            ("-1", -1),
            ("999999999999999999", 999_999_999_999_999_999),
            ("-999999999999999999", -999_999_999_999_999_999),
            ("1000000000000000000", 1_000_000_000_000_000_000),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, n) in good {
            assert_eq!(parse_i64(text.as_bytes()), Some(n), "{text}");
        }
        let bad = [
            "",
            "-",
            "-0",
            "+5",
            " 5",
            "5 ",
            "05",
            "-05",
            "0x10",
            "1e3",
            "5.0",
            "NaN",
            "inf",
            "٣",
            "1_000",
            "12/4",
            "12:4",
            "9223372036854775808",
            "18446744073709551616",
            "99999999999999999999",
        ];
        for text in bad {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }
}
