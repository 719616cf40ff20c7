//! Placeholders for values that differ from run to run, shared by the transcripts and the stream assertions. The table in
//! CONTRIBUTING.md explains them to authors. Pure text: no server, no file.
//!
//! `<ms>` and `<n>` stand for a whole number, each time another; `<left-30000>` for what is left of so many; `<text>` for
//! anything on one line. `<fence>` and `<client>` stand for a number above zero and `<owner>` for 32 hexadecimal digits; these
//! keep the value they first met, so that the same name means the same value. A suffix makes another name of the same kind:
//! `<fence-2>`. Two names of one kind never stand for the same value, and of two fences the one that is met later is larger.
//! Anything else in angle brackets is plain text.

use std::collections::BTreeMap;

use super::wait::DEADLINE;

/// What the remembered placeholders stood for so far.
pub(crate) type Bindings = BTreeMap<String, String>;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Number,
    /// What is left of a time that began at most as long ago as a slow test may take.
    Left(u64),
    Text,
    Fence,
    Client,
    Owner,
}

impl Kind {
    fn of(name: &str) -> Option<Kind> {
        let (kind, suffix) = name.split_once('-').unwrap_or((name, ""));
        match kind {
            "ms" | "n" => Some(Kind::Number),
            "left" => suffix.parse().ok().map(Kind::Left),
            "text" => Some(Kind::Text),
            "fence" => Some(Kind::Fence),
            "client" => Some(Kind::Client),
            "owner" => Some(Kind::Owner),
            _ => None,
        }
    }

    fn remembers(self) -> bool {
        matches!(self, Kind::Fence | Kind::Client | Kind::Owner)
    }

    fn accepts(self, text: &str) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Kind::Number => digits(text),
            Kind::Left(all) => number(text).is_some_and(|left| {
                (1..=all).contains(&left) && u128::from(all - left) < DEADLINE.as_millis()
            }),
            Kind::Text => true,
            Kind::Fence | Kind::Client => digits(text) && !text.starts_with('0'),
            Kind::Owner => {
                text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            }
        }
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// The next placeholder of `pattern`: the text before it, its name, the text after it.
fn split_placeholder(pattern: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(open) = pattern[from..].find('<').map(|at| from + at) {
        if let Some(close) = pattern[open..].find('>').map(|at| open + at) {
            let name = &pattern[open + 1..close];
            if Kind::of(name).is_some() {
                return Some((&pattern[..open], name, &pattern[close + 1..]));
            }
        }
        from = open + 1;
    }
    None
}

/// Whether `text` is what `pattern` describes. Bindings made on the way are kept only when it is.
pub(crate) fn matches(pattern: &str, text: &str, bindings: &mut Bindings) -> bool {
    let Some((before, name, after)) = split_placeholder(pattern) else { return pattern == text };
    let (Some(rest), Some(kind)) = (text.strip_prefix(before), Kind::of(name)) else { return false };
    // The longest candidate first: digits that follow a number belong to it.
    let ends = (0..=rest.len()).rev().filter(|&end| rest.is_char_boundary(end));
    for end in ends {
        let (value, tail) = rest.split_at(end);
        if !kind.accepts(value) || !may_bind(kind, name, value, bindings) {
            continue;
        }
        let mut attempt = bindings.clone();
        if kind.remembers() {
            attempt.insert(name.to_owned(), value.to_owned());
        }
        if matches(after, tail, &mut attempt) {
            *bindings = attempt;
            return true;
        }
    }
    false
}

fn may_bind(kind: Kind, name: &str, value: &str, bindings: &Bindings) -> bool {
    if !kind.remembers() {
        return true;
    }
    if let Some(bound) = bindings.get(name) {
        bound == value
    } else {
        let mut others = bindings.iter().filter(|(other, _)| Kind::of(other) == Some(kind));
        others.all(
            |(_, bound)| if kind == Kind::Fence { number(bound) < number(value) } else { bound != value },
        )
    }
}

/// `text` with every remembered placeholder replaced by its value. `Err` is the name of one that has none yet. `<fence + 1>` and
/// `<fence - 1>` are the numbers beside it.
pub(crate) fn substitute(text: &str, bindings: &Bindings) -> Result<String, String> {
    let mut text = text.to_owned();
    for (name, value) in bindings {
        for (beside, number) in number(value).into_iter().flat_map(|n| [(" + 1", n + 1), (" - 1", n - 1)]) {
            text = text.replace(&format!("<{name}{beside}>"), &number.to_string());
        }
    }
    let Some((before, name, after)) = split_placeholder(&text) else { return Ok(text) };
    let value = bindings.get(name).ok_or_else(|| name.to_owned())?;
    Ok(format!("{before}{value}{}", substitute(after, bindings)?))
}

#[cfg(test)]
mod tests {
    use super::{matches, substitute, Bindings};

    fn fits(pattern: &str, text: &str) -> bool {
        matches(pattern, text, &mut Bindings::new())
    }

    #[test]
    fn plain_text_must_be_equal() {
        assert!(fits("(integer) 1", "(integer) 1"));
        assert!(!fits("(integer) 1", "(integer) 10"));
        assert!(!fits("(nil)", ""));
    }

    #[test]
    fn a_number_is_digits_and_at_least_one() {
        assert!(fits("(integer) <ms>", "(integer) 29999"));
        assert!(fits("(integer) <ms>", "(integer) 0"));
        assert!(!fits("(integer) <ms>", "(integer) -1"));
        assert!(!fits("(integer) <ms>", "(integer) "));
        assert!(!fits("(integer) <ms>", "(nil)"));
    }

    #[test]
    fn a_placeholder_ends_where_the_text_after_it_begins() {
        assert!(fits("lock_held:<n> of <n>!", "lock_held:12 of 3!"));
        assert!(!fits("lock_held:<n>!", "lock_held:12"));
        assert!(fits("(error) ERR <text> now", "(error) ERR now or now"));
    }

    #[test]
    fn a_fence_is_above_zero() {
        assert!(fits("(integer) <fence>", "(integer) 1700000000000000"));
        assert!(!fits("(integer) <fence>", "(integer) 0"));
        assert!(!fits("(integer) <fence>", "(integer) 07"));
    }

    #[test]
    fn an_owner_is_32_lower_case_hex_digits() {
        assert!(fits("1) \"<owner>\"", "1) \"0123456789abcdef0123456789abcdef\""));
        assert!(!fits("1) \"<owner>\"", "1) \"0123456789ABCDEF0123456789abcdef\""));
        assert!(!fits("1) \"<owner>\"", "1) \"0123456789abcdef0123456789abcde\""));
    }

    #[test]
    fn the_same_name_stands_for_the_same_value() {
        let mut bindings = Bindings::new();
        assert!(matches("(integer) <fence>", "(integer) 7", &mut bindings));
        assert!(matches("(integer) <fence>", "(integer) 7", &mut bindings));
        assert!(!matches("(integer) <fence>", "(integer) 8", &mut bindings));
    }

    #[test]
    fn another_name_stands_for_another_value() {
        let mut bindings = Bindings::new();
        assert!(matches("<fence>", "7", &mut bindings));
        assert!(!matches("<fence-2>", "7", &mut bindings));
        assert!(matches("<fence-2>", "8", &mut bindings));
        // Numbers that only vary are free.
        assert!(matches("<n> <n> <ms>", "7 7 8", &mut bindings));
    }

    #[test]
    fn a_later_fence_is_larger() {
        let mut bindings = Bindings::new();
        assert!(matches("<fence>", "10", &mut bindings));
        assert!(!matches("<fence-2>", "9", &mut bindings));
        assert!(matches("<fence-2>", "11", &mut bindings));
        // Clients may come back in any order.
        assert!(matches("<client-1> <client-2> <client-1>", "8 7 8", &mut bindings));
    }

    #[test]
    fn what_is_left_is_more_than_nothing_and_no_more_than_there_was() {
        for left in ["1", "29999", "30000"] {
            assert!(fits("(integer) <left-30000>", &format!("(integer) {left}")), "{left}");
        }
        for left in ["0", "-1", "30001", "(nil)", ""] {
            assert!(!fits("(integer) <left-30000>", &format!("(integer) {left}")), "{left}");
        }
        assert!(fits("<left-90000>", "60001"));
        assert!(!fits("<left-90000>", "60000"), "no test takes so long");
        assert!(fits("<left>", "<left>"), "without a number it is plain text");
    }

    #[test]
    fn a_failed_match_remembers_nothing() {
        let mut bindings = Bindings::new();
        assert!(!matches("<fence> and more", "7", &mut bindings));
        assert!(bindings.is_empty());
    }

    #[test]
    fn unknown_names_are_plain_text() {
        assert!(fits("LOCK.INFO <key>", "LOCK.INFO <key>"));
        assert!(!fits("<fense>", "7"));
        assert!(fits("a < b <n>", "a < b 3"));
    }

    #[test]
    fn values_go_back_into_commands() {
        let bindings = Bindings::from([("fence".to_owned(), "7".to_owned())]);
        assert_eq!(
            substitute("LOCK.CHECK k o FENCE <fence>", &bindings),
            Ok("LOCK.CHECK k o FENCE 7".to_owned())
        );
        assert_eq!(substitute("<fence - 1> <fence> <fence + 1>", &bindings), Ok("6 7 8".to_owned()));
        assert_eq!(substitute("LOCK.CHECK k <owner>", &bindings), Err("owner".to_owned()));
        assert_eq!(substitute("GET <key>", &bindings), Ok("GET <key>".to_owned()));
    }
}
