//! Every refusal of the module: one variant each, with its code word and its text. The first word is for
//! programs, the rest for people: what was wrong and what to do. A refused request has changed nothing.

use std::fmt;

use crate::limits::{
    CHANNEL_BYTES_MAX, CYCLE_SHOWN_MAX, ENTRIES_MAX, HOLDS_MAX, ID_BYTES_MAX, KEY_BYTES_MAX, LATCH_IDS_MAX,
    LOCK_ENTRIES_MAX, NOTE_BYTES_MAX, OWNER_BYTES_MAX, QUOTE_BYTES_MAX, SCAN_PATTERN_BYTES_MAX,
};
use crate::primitive::wait_queue::Full;
use crate::primitive::waiter::WaitEdge;
use crate::primitive::{Fence, Permits};

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LockError {
    /// The key holds something that is not a lock.
    WrongType,
    /// The key holds something that is not a latch.
    WrongTypeForLatch,
    /// There is no latch to count down.
    NoLatch,
    /// The server's own text, where it cannot know that a request takes memory.
    OutOfMemory,
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
    /// A lease in seconds where leases may not last one.
    NoSecond {
        max_ms: i64,
    },
    PermitsWithoutLimit,
    /// A semaphore for more holders than a lock can have.
    TooManyHolders {
        limit: u32,
    },
    AdoptWithoutLimit,
    /// A change, but not of what.
    ChangedSinceWhen,
    /// A ticket for an owner that its client cannot know.
    TicketWithoutOwner,
    /// A channel, but nothing to tell it of.
    NotifyWithoutTicket,
    ChannelLength,
    /// The user may not publish to the channel.
    ChannelDenied,
    KeyLength,
    PatternLength,
    OwnerLength,
    NoteLength,
    IdLength,
    /// A key that stands twice in one request.
    SameKeyTwice(Vec<u8>),
    /// The owner is in too often.
    TooManyEntries,
    /// The holds of the lock have as many ids together as they may.
    TooManyEntriesOfLock,
    /// The latch remembers as many ids as one may.
    TooManyIds,
    /// More leases have run out than one step ends.
    TooMuchAtOnce,
    /// The hold is to be left under an id.
    Reentrant,
    /// The owner holds some of the keys from other requests.
    OtherGroup,
    /// Until the recovery window closes nobody knows who has which lock.
    Recovering {
        left_ms: u64,
    },
    /// The new owner of a hold has one already.
    HoldsAlready,
    /// Only a lock that is shared or exclusive can be converted.
    NotConvertible,
    /// Only a semaphore has a limit.
    NoLimit {
        is: &'static str,
    },
    /// The wait would never end: who would wait for what, beginning with the one who asks.
    Deadlock(Vec<WaitEdge>),
    /// The lock is of another kind than the request.
    Mode {
        is: &'static str,
    },
    /// The owner itself holds the lock, and not as it asks for it now.
    OwnMode {
        is: &'static str,
    },
    /// Part of a hold that is not of a semaphore.
    NoPart {
        is: &'static str,
    },
    /// The semaphore has another limit than the request says.
    Limit {
        is: u32,
    },
    /// A command that LOCK.GUARD does not run.
    NotGuardable {
        why: &'static str,
    },
    /// A guarded command whose caller may not run it.
    NotPermitted,
    /// A command that the server does not have.
    UnknownCommand(Vec<u8>),
    /// The owner does not hold the lock that guards the command.
    NotHeld,
    /// A tie was asked for where there is no connection to tie to.
    NoTie,
    /// The owner holds the lock, but not under the fence it named.
    StaleFence {
        is: Fence,
    },
    /// The key of a register holds something that is not a string.
    NoRegister,
    /// The string that should be a register holds no fence.
    NoFence,
    /// No room for another waiter.
    ServerQueueFull(usize),
    ConnectionsFull(usize),
    KeyQueueFull(usize),
    TicketsFull(usize),
    KeyTicketsFull(usize),
    MemoryFull(usize),
    /// An internal command from a client that is not this server's primary.
    EffectRefused,
    /// An effect with numbers that cannot be true.
    BadEffect,
    /// This node is a replica; only its primary changes locks.
    ReadOnly,
    /// A replica in a cluster is not asked whose a slot is, so what has moved looks free there.
    CannotWatch,
    /// The server would not run a command of its own that this module needs: it has none of that name, or refused.
    NotRun {
        command: &'static str,
        is_missing: bool,
    },
    /// The server runs no command for any module or script, until it is restarted.
    CallsRefused,
    /// A fault of this module; the server goes on.
    Internal,
}

impl fmt::Display for LockError {
    #[expect(clippy::too_many_lines, reason = "one arm for each error, and all texts in one place")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType => {
                write!(f, "WRONGTYPE the key holds a value that is not a lock; use another key")
            }
            Self::WrongTypeForLatch => {
                write!(f, "WRONGTYPE the key holds a value that is not a latch; use another key")
            }
            Self::NoLatch => {
                write!(f, "NOLATCH there is no latch, or its time is over; set it with LATCH.SET, then count again")
            }
            Self::OutOfMemory => write!(f, "OOM command not allowed when used memory > 'maxmemory'."),
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
            Self::NoSecond { max_ms } => {
                write!(f, "BADARG EX counts seconds, but lock.max-lease-ms is {max_ms} here; use PX")
            }
            Self::PermitsWithoutLimit => {
                write!(f, "BADARG PERMITS goes with LIMIT; say how many permits there are in all")
            }
            Self::TooManyHolders { limit } => {
                write!(
                    f,
                    "BADARG LIMIT {limit} alone lets in {limit} holders, and a lock has at most {HOLDS_MAX}; \
                     lower it, or say PERMITS too if most of them take several"
                )
            }
            Self::AdoptWithoutLimit => {
                write!(f, "BADARG ADOPT goes with LIMIT; name the limit for a semaphore that nobody has")
            }
            Self::ChangedSinceWhen => {
                write!(f, "BADARG CHANGED needs FENCE, to compare with a hold, or BLOCK, to wait for the next change")
            }
            Self::IdLength => write!(f, "BADARG an id must have 1 to {ID_BYTES_MAX} bytes"),
            Self::TicketWithoutOwner => {
                write!(f, "BADARG QUEUE needs an owner to ask again with; choose a name of your own instead of *")
            }
            Self::NotifyWithoutTicket => {
                write!(f, "BADARG NOTIFY goes with QUEUE; a client that waits by BLOCK alone is told by its reply")
            }
            Self::ChannelLength => {
                write!(f, "BADARG the channel of NOTIFY must have 1 to {CHANNEL_BYTES_MAX} bytes")
            }
            Self::ChannelDenied => {
                write!(f, "NOPERM this user may not publish to the channel of NOTIFY; choose another, or ask an administrator")
            }
            Self::SameKeyTwice(key) => write!(f, "BADARG the key {} is named twice; name it once", Quoted(key)),
            Self::TooManyEntries => {
                write!(f, "LOCKLIMIT the owner is in under {ENTRIES_MAX} ids already; release some of them first")
            }
            Self::TooManyEntriesOfLock => {
                write!(f, "LOCKLIMIT the owners of the lock are in under {LOCK_ENTRIES_MAX} ids already; release some of them first")
            }
            Self::TooManyIds => {
                write!(f, "LOCKLIMIT the latch knows {LATCH_IDS_MAX} ids already; count without one, or use a latch for each part")
            }
            Self::Reentrant => {
                write!(f, "LOCKMODE the lock was taken with REENTRANT; release it with REENTRANT and the id, or ALL")
            }
            Self::OtherGroup => write!(
                f,
                "LOCKMODE the owner holds some of the keys already, and not just these together; release them first"
            ),
            Self::Recovering { left_ms } => write!(
                f,
                "RECOVERING a failover may have lost grants, and nobody knows yet who has the lock; \
                 renew the hold with its FENCE, or try again in {left_ms} ms"
            ),
            Self::HoldsAlready => {
                write!(f, "LOCKMODE the new owner holds the lock already; release one of the two holds first")
            }
            Self::NotConvertible => {
                write!(f, "LOCKMODE the lock is in semaphore use; only shared and exclusive holds can be converted")
            }
            Self::NoLimit { is } => {
                write!(f, "LOCKMODE the lock is in {is} use and has no limit; SETLIMIT is for semaphores")
            }
            Self::Deadlock(cycle) => write_cycle(f, cycle),
            Self::KeyLength => write!(f, "BADARG the key must have at most {KEY_BYTES_MAX} bytes"),
            Self::PatternLength => {
                write!(f, "BADARG the pattern must have at most {SCAN_PATTERN_BYTES_MAX} bytes")
            }
            Self::OwnerLength => write!(f, "BADARG the owner must have 1 to {OWNER_BYTES_MAX} bytes"),
            Self::NoteLength => write!(f, "BADARG the note must have at most {NOTE_BYTES_MAX} bytes"),
            Self::Mode { is } => {
                write!(f, "LOCKMODE the lock is in {is} use; ask for the same, or wait until it is free")
            }
            Self::OwnMode { is } => {
                write!(
                    f,
                    "LOCKMODE the owner holds the lock in {is} use, and not as asked; ask for the same, LOCK.CONVERT it, or release it"
                )
            }
            Self::NoPart { is } => {
                write!(f, "LOCKMODE the lock is in {is} use; only permits of a semaphore can be released in part")
            }
            Self::Limit { is } => write!(f, "LOCKLIMIT the semaphore has a limit of {is}; ask with the same"),
            Self::NotGuardable { why } => write!(f, "BADARG {why} cannot be guarded; nothing was done"),
            Self::NotPermitted => {
                write!(f, "NOPERM the user has no right to this command or to its keys; nothing was done")
            }
            Self::UnknownCommand(name) => {
                write!(f, "ERR unknown command {} under LOCK.GUARD; nothing was done", Quoted(name))
            }
            Self::NoTie => {
                write!(f, "NOTIE a script, LOCK.GUARD or a module has no connection to tie a hold to; send the command by itself")
            }
            Self::NotHeld => {
                write!(f, "NOTHELD the owner does not hold the lock; nothing was done, so acquire it again")
            }
            Self::StaleFence { is } => {
                write!(f, "STALEFENCE the owner holds the lock under fence {} by now; nothing was done", is.get())
            }
            Self::NoRegister => {
                write!(f, "WRONGTYPE the key holds a value that is not a string; a register of fences needs another key")
            }
            Self::NoFence => {
                write!(f, "BADVALUE the key holds a text that is not a fence; delete it, or use another key")
            }
            Self::TooMuchAtOnce => {
                write!(f, "TRYAGAIN more leases of these locks have run out at once than one command ends; ask again")
            }
            Self::ServerQueueFull(max) => {
                write!(f, "QUEUEFULL {max} clients wait in this server; raise lock.max-waiters or try later")
            }
            Self::ConnectionsFull(max) => {
                write!(
                    f,
                    "QUEUEFULL {max} clients wait in this server, and its other connections are kept free; raise maxclients or try later"
                )
            }
            Self::KeyQueueFull(max) => {
                write!(
                    f,
                    "QUEUEFULL {max} clients wait for this key; raise lock.max-waiters-per-key or try later"
                )
            }
            Self::TicketsFull(max) => {
                write!(f, "QUEUEFULL {max} tickets wait in this server; raise lock.max-tickets or try later")
            }
            Self::KeyTicketsFull(max) => {
                write!(
                    f,
                    "QUEUEFULL {max} tickets wait for this key; raise lock.max-waiters-per-key or try later"
                )
            }
            Self::MemoryFull(max) => {
                write!(
                    f,
                    "QUEUEFULL those who wait in this server take the {max} bytes that they may; raise lock.max-memory-bytes or try later"
                )
            }
            Self::EffectRefused => {
                write!(f, "NOPERM internal commands are for the replication stream and the AOF; LOCK.HELP lists those for clients")
            }
            Self::BadEffect => {
                write!(f, "BADARG the effect has a field that cannot be true; nothing was changed")
            }
            Self::ReadOnly => write!(f, "READONLY this server is a replica; locks change on its primary"),
            Self::CannotWatch => write!(
                f,
                "READONLY this server is a replica in a cluster and cannot tell what has moved away; wait on the primary"
            ),
            Self::NotRun { command, is_missing: true } => {
                write!(f, "INTERNAL the lock module needs {command}, which this server does not have; undo its rename-command")
            }
            Self::NotRun { command, .. } => {
                write!(f, "INTERNAL the server would not run {command} for the lock module; nothing was done, so try again")
            }
            Self::CallsRefused => write!(
                f,
                "INTERNAL this server refuses what modules and scripts ask of it, since a script ran a command with keys of two slots; restart the server"
            ),
            Self::Internal => write!(f, "INTERNAL the lock module failed; the server log has the reason"),
        }
    }
}

impl LockError {
    /// The owner itself has the lock in another mode than the one it asks for.
    pub(crate) fn own_permits(has: Permits, asked: Permits) -> Self {
        match Self::other_permits(has, asked) {
            Self::Mode { is } => Self::OwnMode { is },
            limit => limit,
        }
    }

    /// Somebody has the lock in another mode than the one asked for.
    pub(crate) fn other_permits(has: Permits, asked: Permits) -> Self {
        if has.limit != asked.limit && has.mode() == asked.mode() {
            Self::Limit { is: has.limit }
        } else {
            Self::Mode { is: has.mode() }
        }
    }
}

impl From<Full> for LockError {
    fn from(full: Full) -> Self {
        match full {
            Full::Server(max) => Self::ServerQueueFull(max),
            Full::Connections(max) => Self::ConnectionsFull(max),
            Full::Key(max) => Self::KeyQueueFull(max),
            Full::Tickets(max) => Self::TicketsFull(max),
            Full::TicketsOfKey(max) => Self::KeyTicketsFull(max),
            Full::Budget(max) => Self::MemoryFull(max),
        }
    }
}

fn write_cycle(f: &mut fmt::Formatter<'_>, cycle: &[WaitEdge]) -> fmt::Result {
    f.write_str("DEADLOCK this wait would never end: ")?;
    let next = cycle.iter().cycle().skip(1);
    for (at, (link, next)) in cycle.iter().zip(next).take(CYCLE_SHOWN_MAX).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let (owner, key, next) =
            (Quoted(link.owner.as_bytes()), Quoted(&link.key), Quoted(next.owner.as_bytes()));
        write!(f, "{comma}{owner} waits for {key} behind {next}")?;
    }
    if cycle.len() > CYCLE_SHOWN_MAX {
        write!(f, ", and so on, {} owners in all", cycle.len())?;
    }
    f.write_str("; release what you hold and begin again")
}

/// A client's bytes, fit to stand in a reply or in the log: printable ASCII as it is, the rest as `\xHH`, and not too much.
pub(crate) struct Quoted<'a>(pub &'a [u8]);

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
    use crate::primitive::Owner;

    #[test]
    fn a_clients_bytes_cannot_end_the_line() {
        let text = LockError::UnknownOption(b"a\r\n+OK'\\\xff".to_vec()).to_string();
        assert_eq!(text, r"BADARG unknown option 'a\x0d\x0a+OK\x27\x5c\xff'; see LOCK.HELP");
    }

    #[test]
    fn a_cycle_is_spelled_out_and_cut_when_it_is_long() {
        let link = |n: usize| WaitEdge {
            owner: Owner::new(format!("o{n}\n").as_bytes()).unwrap(),
            key: format!("k{n}").into_bytes().into(),
        };
        let text = |n: usize| LockError::Deadlock((0..n).map(link).collect()).to_string();
        assert_eq!(
            text(2),
            r"DEADLOCK this wait would never end: 'o0\x0a' waits for 'k0' behind 'o1\x0a', 'o1\x0a' waits for 'k1' behind 'o0\x0a'; release what you hold and begin again"
        );
        assert!(text(100).ends_with("and so on, 100 owners in all; release what you hold and begin again"));
        assert!(text(100).len() < 2_000);
    }

    #[test]
    fn a_long_word_is_cut() {
        let text = LockError::UnknownOption(vec![b'x'; 10_000]).to_string();
        assert!(text.contains(&format!("'{}...'", "x".repeat(QUOTE_BYTES_MAX))));
        assert!(text.len() < 200);
    }
}
