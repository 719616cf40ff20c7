//! `LOCK.GUARD key owner fence|* command [arg…]`
//!
//! Runs the command if the owner holds the lock under that fence at this moment, and not otherwise: whoever has
//! lost its lock without noticing writes nothing. The command's own reply comes back, and its own effects go to the
//! AOF and to replicas. `*` takes any fence of the owner.

use super::args::Args;
use super::spec::{Arg, Key, Spec};
use crate::error::LockError;
use crate::primitive::{Fence, Hold, Lock, Moment};

pub(crate) const SPEC: Spec = Spec {
    name: "lock.guard",
    summary: "Runs a command if the owner holds the lock at this moment; replies what the command replies.",
    flags: "write getkeys-api",
    arity: -5,
    key: Key::ReadAndMore,
    acl: "write slow",
    complexity: "O(1), and the cost of the command",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        Arg::string("fence"),
        Arg::string("command"),
        Arg::string("arg").optional().many(),
    ],
    ..Spec::READS_KEY
}
.with_grammar();

/// How many words come before the command that is guarded, the name among them.
pub(crate) const WORDS_BEFORE_COMMAND: usize = 4;

/// Commands that a script may run, and that change nothing but the connection they run on. A guarded command has one of
/// its own, which ends with it.
const CONNECTION_ONLY: [&[u8]; 4] = [b"select", b"readonly", b"readwrite", b"asking"];

/// The request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Guard<'a> {
    pub key: &'a [u8],
    pub owner: &'a [u8],
    /// `None` for any.
    pub fence: Option<Fence>,
    /// The name of the command to be run.
    pub command: &'a [u8],
}

impl<'a> Guard<'a> {
    /// Reads the words after the command's name.
    pub(crate) fn parse(words: &'a [&'a [u8]]) -> Result<Self, LockError> {
        let mut args = Args::new(&SPEC, words);
        let key = args.key()?;
        let owner = args.owner()?;
        let fence = match words.get(2) {
            Some(&b"*") => args.next_word().and(None),
            _ => Some(args.fence()?),
        };
        let command = args.required()?;
        if is_guard(command) {
            return Err(LockError::NotGuardable { why: "a guard inside a guard" });
        }
        if CONNECTION_ONLY.iter().any(|name| command.eq_ignore_ascii_case(name)) {
            return Err(LockError::NotGuardable { why: "a command that changes only its own connection" });
        }
        Ok(Self { key, owner, fence, command })
    }

    /// The hold that guards the command; an error if there is none.
    pub(crate) fn check<'l>(&self, lock: Option<&'l Lock>, now: Moment) -> Result<&'l Hold, LockError> {
        let hold = lock.and_then(|lock| lock.hold_of(self.owner)).filter(|hold| hold.is_live(now));
        let Some(hold) = hold else { return Err(LockError::NotHeld) };
        if self.fence.is_some_and(|expected| expected != hold.fence) {
            return Err(LockError::StaleFence { is: hold.fence });
        }
        Ok(hold)
    }
}

/// Whether this is the name of the guard itself, which guards no other.
pub(crate) fn is_guard(command: &[u8]) -> bool {
    command.eq_ignore_ascii_case(SPEC.name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let request = Guard::parse(&[b"k", b"o", b"7", b"SET", b"x", b"1"]).unwrap();
        assert_eq!((request.fence, request.command), (Fence::new(7), &b"SET"[..]));
        assert_eq!(Guard::parse(&[b"k", b"o", b"*", b"GET", b"x"]).unwrap().fence, None);
        assert!(matches!(Guard::parse(&[b"k", b"o", b"x", b"GET", b"x"]), Err(LockError::Number { .. })));
        assert_eq!(Guard::parse(&[b"k", b"o", b"7"]), Err(LockError::Arity("lock.guard")));
        let nested = Guard::parse(&[b"k", b"o", b"7", b"Lock.Guard", b"k"]);
        assert!(matches!(nested, Err(LockError::NotGuardable { .. })));
        let select = Guard::parse(&[b"k", b"o", b"7", b"Select", b"1"]);
        assert!(matches!(select, Err(LockError::NotGuardable { .. })));
    }
}
