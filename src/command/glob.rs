//! Patterns as the server's own KEYS and SCAN have them: `*`, `?`, `[abc]`, `[^a-z]` and `\x`, over bytes.

#![expect(clippy::arithmetic_side_effects, reason = "places in a slice, and steps that are bounded")]

/// Whether the pattern fits the whole text. `steps` counts the bytes that were looked at, for whoever matches many.
pub(crate) fn matches(pattern: &[u8], text: &[u8], steps: &mut usize) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the rest does not fit: behind the last star, and one byte of the text further each time.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        *steps += 1;
        match one(pattern, p, *byte) {
            One::Star => {
                retry = Some((p + 1, t));
                p += 1;
            }
            One::Fits(next) => (p, t) = (next, t + 1),
            One::Differs => match retry {
                Some((star, at)) => {
                    retry = Some((star, at + 1));
                    (p, t) = (star, at + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

enum One {
    Star,
    /// The part of the pattern fits the byte; the next part begins here.
    Fits(usize),
    Differs,
}

/// Looks at the part of a pattern that begins at `p`.
fn one(pattern: &[u8], p: usize, byte: u8) -> One {
    let fits = |is_it, next| if is_it { One::Fits(next) } else { One::Differs };
    match pattern.get(p..).unwrap_or_default() {
        [] => One::Differs,
        [b'*', ..] => One::Star,
        [b'?', ..] => One::Fits(p + 1),
        [b'\\', escaped, ..] => fits(*escaped == byte, p + 2),
        [b'[', rest @ ..] => {
            let (is_it, length) = set(rest, byte);
            fits(is_it, p + 1 + length)
        }
        [plain, ..] => fits(*plain == byte, p + 1),
    }
}

/// Whether a byte is in the set that begins here, behind its bracket, and how long the set is. A set that does not end goes
/// to the end of the pattern.
fn set(pattern: &[u8], byte: u8) -> (bool, usize) {
    let is_negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut has = false;
    loop {
        match pattern.get(at..).unwrap_or_default() {
            [] => return (has != is_negated, at),
            [b']', ..] => return (has != is_negated, at + 1),
            [b'\\', escaped, ..] => {
                has |= *escaped == byte;
                at += 2;
            }
            [first, b'-', last, ..] => {
                let (low, high) = (first.min(last), first.max(last));
                has |= (low..=high).contains(&&byte);
                at += 3;
            }
            [plain, ..] => {
                has |= *plain == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), &mut 0)
    }

    #[test]
    fn patterns_of_the_server() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("job:*:lock", "job:17:lock", true),
            ("j?b", "job", true),
            ("j?b", "jb", false),
            ("[a-c]x", "bx", true),
            ("[c-a]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[abc", "c", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("**a**", "bab", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    /// The same by trying everything.
    fn slowly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => slowly(rest, text) || !text.is_empty() && slowly(pattern, &text[1..]),
            ([b'?', rest @ ..], [_, more @ ..]) => slowly(rest, more),
            ([plain, rest @ ..], [byte, more @ ..]) => plain == byte && slowly(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_fit_as_if_everything_was_tried(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(fits(&pattern, &text), slowly(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn no_pattern_takes_more_than_the_product(pattern in prop::collection::vec(any::<u8>(), 0..60), text in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut steps = 0;
            matches(&pattern, &text, &mut steps);
            prop_assert!(steps <= (pattern.len() + 1) * (text.len() + 1) + 1, "{steps}");
        }
    }
}
