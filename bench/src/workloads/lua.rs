//! Read-write locks and a semaphore that are written as scripts, in the layout that client libraries use:
//! a hash with the mode and a count for each holder, and a sorted set of holders by the end of their lease.
//! Leaner than the libraries: no re-entry for writers, one lease for all readers of a lock, no key beside the lock's,
//! and a channel for readers and one for writers, so that nobody hears what is not for him.
//! The read-write lock comes in two kinds, as there is no usual one that lets neither readers nor writers starve.
//! Knows the scripts in `lua/` and the commands; who sends them when is not its business.

use super::inside::Role;
use crate::peers::{Pair, LEASE_MS};
use anyhow::Result;
use redis::Connection;
use testbed::resp::encode;

/// Published to the readers by a writer who leaves. Everybody else who leaves makes room for one.
pub(super) const WAKE_ALL: &[u8] = b"all";

/// Where the client's clock goes; as many digits as it has until the year 2286.
const CLOCK: &str = "#############";

/// The chance of a writer while readers come and go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writers {
    Last,
    InTurn,
}

/// The hashes under which the server knows the scripts.
pub(super) struct Lua {
    read: String,
    write: String,
    unlock: String,
    take: String,
    give: String,
}

/// The commands of one client.
pub(super) struct Commands {
    pub pair: Pair,
    /// The acquire of a client that was refused before, if it is another one.
    pub again: Option<Vec<u8>>,
    /// Where in an acquire the client's clock goes, if anywhere.
    pub clock: Option<usize>,
}

impl Lua {
    pub(super) fn load(control: &mut Connection, writers: Writers) -> Result<Self> {
        let mut load = |script: &str| redis::cmd("SCRIPT").arg("LOAD").arg(script).query(control);
        let [read, write, unlock] = match writers {
            Writers::Last => {
                [include_str!("lua/read.lua"), include_str!("lua/write.lua"), include_str!("lua/unlock.lua")]
            }
            Writers::InTurn => [
                include_str!("lua/read_in_turn.lua"),
                include_str!("lua/write_in_turn.lua"),
                include_str!("lua/unlock_in_turn.lua"),
            ],
        };
        Ok(Self {
            read: load(read)?,
            write: load(write)?,
            unlock: load(unlock)?,
            take: load(include_str!("lua/take.lua"))?,
            give: load(include_str!("lua/give.lua"))?,
        })
    }

    pub(super) fn commands(&self, role: Role, key: &str, owner: &str) -> Commands {
        let evalsha = |sha: &str, args: &[&str]| encode(&[&["EVALSHA", sha, "1", key], args].concat());
        let (lease, channel) = (LEASE_MS, |role| channel(key, role));
        let channels = || (channel(Role::Reader), channel(Role::Writer));
        let unlock = || evalsha(&self.unlock, &[owner, &channels().0, &channels().1]);
        match role {
            Role::Reader => Commands {
                pair: Pair { acquire: evalsha(&self.read, &[lease, owner, "0"]), release: unlock() },
                again: Some(evalsha(&self.read, &[lease, owner, "1"])),
                clock: None,
            },
            Role::Writer => Commands {
                pair: Pair { acquire: evalsha(&self.write, &[lease, owner]), release: unlock() },
                again: None,
                clock: None,
            },
            Role::Permit(limit) => {
                let acquire = evalsha(&self.take, &[CLOCK, &limit.to_string(), lease, owner]);
                let clock = acquire.windows(CLOCK.len()).position(|bytes| bytes == CLOCK.as_bytes());
                let release = evalsha(&self.give, &[owner, &channel(role)]);
                Commands { pair: Pair { acquire, release }, again: None, clock }
            }
        }
    }
}

/// Where it is published that there may be room for somebody in this role.
pub(super) fn channel(key: &str, role: Role) -> String {
    let whom = match role {
        Role::Reader => "readers",
        Role::Writer => "writers",
        Role::Permit(_) => "permits",
    };
    format!("{key}:{whom}")
}

/// Writes the client's clock, in ms, into a command.
pub(super) fn set_clock(command: &mut [u8], at: usize, unix_ms: u64) {
    command[at..at + CLOCK.len()]
        .copy_from_slice(format!("{unix_ms:0width$}", width = CLOCK.len()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_keeps_the_length_of_a_command() {
        let mut command = encode(&["EVALSHA", CLOCK, "4"]);
        let (at, len) =
            (command.windows(CLOCK.len()).position(|w| w == CLOCK.as_bytes()).unwrap(), command.len());
        set_clock(&mut command, at, 1_763_835_000_123);
        assert_eq!(command, encode(&["EVALSHA", "1763835000123", "4"]));
        assert_eq!(command.len(), len);
    }
}
