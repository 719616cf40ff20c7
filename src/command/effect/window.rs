//! - `LOCK._RECOVERY known newest left-ms end-unix-ms`: nothing is granted until then, and holds with fences above `known`, up to
//!   `newest`, may come back. With -1 for both times: that is over.

use std::ffi::CStr;

use super::super::args::{parse_i64, Args};
use super::super::spec::{Arg, Spec};
use super::bounds::Stamp;
use super::stream::{Word, Words};
use crate::error::LockError;
use crate::primitive::codec::Source;
use crate::primitive::recovery::Outline;
use crate::primitive::Clock;

pub(crate) const RECOVERY: Spec = Spec {
    name: "lock._recovery",
    summary: "Internal: states whether a recovery window is open. For the AOF and for replicas only.",
    flags: "write admin",
    arity: 5,
    acl: "admin dangerous write",
    args: &[Arg::int("known"), Arg::int("newest"), Arg::int("left-ms"), Arg::int("end-unix-ms")],
    ..Spec::KEYLESS
}
.with_grammar();

/// Whether a window is open, as it stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowEffect {
    known: u64,
    newest: u64,
    end: Stamp,
}

impl WindowEffect {
    /// The effect that states this window, or that none is open.
    pub(crate) fn of(window: Option<Outline>, clock: Clock) -> Self {
        window.map_or(Self { known: 0, newest: 0, end: Stamp::NONE }, |window| Self {
            known: window.known,
            newest: window.newest,
            end: Stamp::of(window.until, clock),
        })
    }

    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &[&[u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&RECOVERY, words);
        let number = |args: &mut Args| {
            let n = parse_i64(args.required()?).and_then(|n| u64::try_from(n).ok());
            n.ok_or(LockError::BadEffect)
        };
        let (known, newest) = (number(&mut args)?, number(&mut args)?);
        let end = Stamp::parse(&mut args).ok_or(LockError::BadEffect)?;
        args.finish()?;
        Ok(Self { known, newest, end })
    }

    /// The command, and its words.
    pub(crate) fn command(&self) -> (&'static CStr, Words<'static>) {
        let mut words: Words = [self.known, self.newest]
            .into_iter()
            .map(|n| Word::Number(i64::try_from(n).unwrap_or(i64::MAX)))
            .collect();
        self.end.put(&mut words);
        (c"LOCK._RECOVERY", words)
    }

    /// The window as it is here; `None` if none is open.
    pub(crate) fn here(self, source: Source, clock: Clock) -> Option<Outline> {
        let left = self.end.here(Source::Primary, clock)?;
        // A clock that was set back makes no window longer.
        let until = self.end.here(source, clock)?.min(left);
        Some(Outline { known: self.known, newest: self.newest, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Moment;
    use proptest::prelude::*;

    const CLOCK: Clock = Clock { now: Moment(9_000_000), unix_us: 1_700_000_000_000_000 };

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            window in proptest::option::of((0..i64::MAX as u64, 0..i64::MAX as u64, 0..1_000_000_u64)),
        ) {
            let window = window.map(|(known, newest, left)| Outline { known, newest, until: CLOCK.now.plus_ms(left) });
            let effect = WindowEffect::of(window, CLOCK);
            let (name, words) = effect.command();
            prop_assert_eq!(name.to_str().unwrap().to_lowercase(), RECOVERY.name);
            let words: Vec<Vec<u8>> = words.iter().map(Word::bytes).collect();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(WindowEffect::parse(&words), Ok(effect));
            for source in [Source::Primary, Source::File] {
                prop_assert_eq!(effect.here(source, CLOCK), window);
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_window_longer() {
        let window = Outline { known: 1, newest: 2, until: CLOCK.now.plus_ms(7) };
        let earlier = Clock { unix_us: CLOCK.unix_us - 1_000_000_000, ..CLOCK };
        assert_eq!(WindowEffect::of(Some(window), CLOCK).here(Source::File, earlier), Some(window));
    }

    #[test]
    fn words_that_cannot_be_true_are_refused() {
        let parse = |line: &str| WindowEffect::parse(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        assert!(parse("1 2 3 4").is_ok() && parse("0 0 -1 -1").is_ok());
        for line in ["-1 2 3 4", "1 x 3 4", "1 2 -1 4", "1 2 3 -1", "1 2 -2 -2"] {
            assert_eq!(parse(line), Err(LockError::BadEffect), "{line}");
        }
        for line in ["1 2 3", "1 2 3 4 5"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
