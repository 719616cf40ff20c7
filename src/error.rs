//! Every refusal of the module: one variant each, with its code word and its text. The first word is for
//! programs, the rest for people: what was wrong and what to do. A refused request has changed nothing.

use std::fmt;

use crate::limits::{KEY_BYTES_MAX, NOTE_BYTES_MAX, OWNER_BYTES_MAX, QUOTE_BYTES_MAX};

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockError {
    /// The key holds something that is not a lock.
    WrongType,
    /// Too few or too many words; the server's own text, with the command's name.
    Arity(&'static str),
    /// A word that is no option here.
    UnknownOption(Vec<u8>),
    /// An option without its value.
    MissingValue(&'static str),
    /// An option, or one that excludes it, was given before.
    Repeated(&'static str),
    /// Not a whole decimal number, or out of range.
    Number {
        what: &'static str,
        min: i64,
        max: i64,
    },
    PermitsWithoutLimit,
    KeyLength,
    OwnerLength,
    NoteLength,
    /// The lock is of another kind than the request.
    Mode {
        is: &'static str,
    },
    /// The semaphore has another limit than the request says.
    Limit {
        is: u32,
    },
    /// No room for another waiter.
    ServerQueueFull(usize),
    KeyQueueFull(usize),
    /// An internal command from a client that is not this server's primary.
    EffectRefused,
    /// An effect with numbers that cannot be true.
    BadEffect,
    /// This node is a replica; only its primary changes locks.
    ReadOnly,
    /// A fault of this module; the server goes on.
    Internal,
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType => {
                write!(f, "WRONGTYPE the key holds a value that is not a lock; use another key")
            }
            Self::Arity(name) => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Self::UnknownOption(word) => {
                write!(f, "BADARG unknown option {}; see LOCK.HELP", Quoted(word))
            }
            Self::MissingValue(option) => write!(f, "BADARG {option} needs a value"),
            Self::Repeated(option) => {
                write!(f, "BADARG {option} is given twice, or beside an option that excludes it")
            }
            Self::Number { what, min, max } => {
                write!(f, "BADARG {what} must be a whole number from {min} to {max}")
            }
            Self::PermitsWithoutLimit => {
                write!(f, "BADARG PERMITS goes with LIMIT; say how many permits there are in all")
            }
            Self::KeyLength => write!(f, "BADARG the key must have at most {KEY_BYTES_MAX} bytes"),
            Self::OwnerLength => write!(f, "BADARG the owner must have 1 to {OWNER_BYTES_MAX} bytes"),
            Self::NoteLength => write!(f, "BADARG the note must have at most {NOTE_BYTES_MAX} bytes"),
            Self::Mode { is } => {
                write!(f, "LOCKMODE the lock is in {is} use; ask for the same, or wait until it is free")
            }
            Self::Limit { is } => write!(f, "LOCKLIMIT the semaphore has a limit of {is}; ask with the same"),
            Self::ServerQueueFull(max) => {
                write!(f, "QUEUEFULL {max} clients wait in this server; raise lock.max-waiters or try later")
            }
            Self::KeyQueueFull(max) => {
                write!(
                    f,
                    "QUEUEFULL {max} clients wait for this lock; raise lock.max-waiters-per-key or try later"
                )
            }
            Self::EffectRefused => {
                write!(f, "NOPERM internal commands are for the replication stream and the AOF; use LOCK.ACQUIRE and LOCK.RELEASE")
            }
            Self::BadEffect => {
                write!(f, "BADARG the effect has a field that cannot be true; nothing was changed")
            }
            Self::ReadOnly => write!(f, "READONLY this server is a replica; locks change on its primary"),
            Self::Internal => write!(f, "INTERNAL the lock module failed; the server log has the reason"),
        }
    }
}

/// A client's bytes, fit to stand in a reply: printable ASCII as it is, the rest as `\xHH`, and not too much.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'")?;
        for byte in self.0.iter().take(QUOTE_BYTES_MAX) {
            match byte {
                b'\'' | b'\\' => write!(f, "\\x{byte:02x}")?,
                b' '..=b'~' => write!(f, "{}", char::from(*byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_str(if self.0.len() > QUOTE_BYTES_MAX { "...'" } else { "'" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_bytes_cannot_end_the_line() {
        let text = LockError::UnknownOption(b"a\r\n+OK'\\\xff".to_vec()).to_string();
        assert_eq!(text, r"BADARG unknown option 'a\x0d\x0a+OK\x27\x5c\xff'; see LOCK.HELP");
    }

    #[test]
    fn a_long_word_is_cut() {
        let text = LockError::UnknownOption(vec![b'x'; 10_000]).to_string();
        assert!(text.contains(&format!("'{}...'", "x".repeat(QUOTE_BYTES_MAX))));
        assert!(text.len() < 200);
    }
}
