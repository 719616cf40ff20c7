//! The words by which options are named.

macro_rules! tokens {
    ($($token:ident $text:literal)*) => {
        /// The word of an option. Only its command knows the words behind it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Token {
            $($token,)*
        }

        impl Token {
            const ALL: &[Self] = &[$(Self::$token,)*];

            /// As the word stands in manuals; clients may write it in any case.
            pub(crate) const fn text(self) -> &'static str {
                match self {
                    $(Self::$token => $text,)*
                }
            }
        }
    };
}

tokens! {
    Adopt "ADOPT"
    After "AFTER"
    All "ALL"
    Block "BLOCK"
    Cancel "CANCEL"
    Changed "CHANGED"
    Contended "CONTENDED"
    Count "COUNT"
    EndRecovery "END"
    Ex "EX"
    Exclusive "EXCLUSIVE"
    Fence "FENCE"
    Free "FREE"
    Limit "LIMIT"
    Match "MATCH"
    MaxHold "MAXHOLD"
    MinHold "MINHOLD"
    NoExpire "NOEXPIRE"
    Note "NOTE"
    Notify "NOTIFY"
    Nx "NX"
    Owner "OWNER"
    Permits "PERMITS"
    Px "PX"
    Queue "QUEUE"
    Reason "REASON"
    Reentrant "REENTRANT"
    Reset "RESET"
    Shared "SHARED"
    Tied "TIED"
    Wanted "WANTED"
    WithInfo "WITHINFO"
}

/// Some of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tokens(u64);

/// Those that begin with A, with B, and so on.
const BY_LETTER: [Tokens; 26] = by_letter();

#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "the compiler runs it, once")]
const fn by_letter() -> [Tokens; 26] {
    let mut table = [Tokens::NONE; 26];
    let mut rest = Token::ALL;
    while let [token, others @ ..] = rest {
        if let [letter, ..] = token.text().as_bytes() {
            let at = (*letter - b'A') as usize;
            table[at] = table[at].and(Tokens::of(*token));
        }
        rest = others;
    }
    table
}

impl Tokens {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn of(token: Token) -> Self {
        Self(1 << token as u8)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether they have any token in common.
    pub(crate) const fn overlap(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The one of these that a client's word stands for, if any does.
    pub(crate) fn find(self, word: &[u8]) -> Option<Token> {
        let letter = word.first()?.to_ascii_uppercase().wrapping_sub(b'A');
        let mut left = self.0 & BY_LETTER.get(usize::from(letter))?.0;
        while let Some(token) = Token::ALL.get(left.trailing_zeros() as usize) {
            if is_token(word, token.text().as_bytes()) {
                return Some(*token);
            }
            left &= left.wrapping_sub(1);
        }
        None
    }
}

/// Whether they are the same in any case. Tokens have capital letters alone, whose only other form differs in this bit.
fn is_token(word: &[u8], token: &[u8]) -> bool {
    const CASE: u8 = b'a' ^ b'A';
    word.len() == token.len() && word.iter().zip(token).all(|(byte, letter)| byte & !CASE == *letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_in_any_case_among_those_that_count() {
        let some = Tokens::of(Token::Px).and(Tokens::of(Token::Permits));
        assert_eq!((some.find(b"pX"), some.find(b"PERMITS")), (Some(Token::Px), Some(Token::Permits)));
        assert_eq!(
            (some.find(b"QUEUE"), some.find(b"P"), some.find(b""), some.find(b"PXX")),
            (None, None, None, None)
        );
        for byte in 0..=u8::MAX {
            assert_eq!(some.find(&[b'P', byte]).is_some(), [b'x', b'X'].contains(&byte), "{byte}");
            assert_eq!(some.find(&[byte, b'x']).is_some(), [b'p', b'P'].contains(&byte), "{byte}");
        }
    }

    #[test]
    fn tokens_are_few_and_of_capital_letters() {
        assert!(Token::ALL.len() <= 64);
        for token in Token::ALL {
            assert!(token.text().bytes().all(|byte| byte.is_ascii_uppercase()));
            assert_eq!(Tokens::of(*token).find(token.text().as_bytes()), Some(*token));
        }
    }
}
