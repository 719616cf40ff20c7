//! The ways to lock that are compared, as the commands each one sends.

use crate::resp::pack;
use anyhow::Result;
use redis::Connection;
use std::fmt;

/// The lease that every uncontended peer asks for, written out on both sides of a ratio.
pub const LEASE_MS: &str = "30000";

/// Deletes the key only if it still holds our token.
const COMPARE_AND_DELETE: &str =
    "if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) end return 0";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    Lock,
    SetEval,
    SetDel,
    SetDelifeq,
    Ping,
    Noop,
    Blpop,
}

/// The two commands of one client on one key.
pub struct Pair {
    pub acquire: Vec<u8>,
    pub release: Vec<u8>,
}

/// What the server must know before a peer's commands work.
pub struct Scripts {
    compare_and_delete: String,
}

impl Scripts {
    pub fn load(control: &mut Connection) -> Result<Self> {
        let compare_and_delete = redis::cmd("SCRIPT").arg("LOAD").arg(COMPARE_AND_DELETE).query(control)?;
        Ok(Self { compare_and_delete })
    }
}

impl Peer {
    /// Takes a free lock and lets it go.
    pub fn pair(self, key: &str, owner: &str, scripts: &Scripts) -> Pair {
        let set = ["SET", key, owner, "NX", "PX", LEASE_MS];
        let (acquire, release) = match self {
            Self::Lock => {
                (pack(&["LOCK.ACQUIRE", key, owner, "PX", LEASE_MS]), pack(&["LOCK.RELEASE", key, owner]))
            }
            Self::SetEval => (pack(&set), pack(&["EVALSHA", &scripts.compare_and_delete, "1", key, owner])),
            Self::SetDel => (pack(&set), pack(&["DEL", key])),
            Self::SetDelifeq => (pack(&set), pack(&["DELIFEQ", key, owner])),
            Self::Ping => (pack(&["PING"]), pack(&["PING"])),
            Self::Noop => (pack(&["BENCH.NOOP"]), pack(&["BENCH.NOOP"])),
            Self::Blpop => return self.waiting_pair(key, owner),
        };
        Pair { acquire, release }
    }

    /// The key of a lock that clients wait for. Peers run side by side on one server, so each has its own keys.
    pub fn contended_key(self, lock: usize) -> String {
        match self {
            Self::Blpop => format!("token:{lock}"),
            _ => format!("lock:{lock}"),
        }
    }

    /// Waits for the lock as long as it takes, and lets it go.
    pub fn waiting_pair(self, key: &str, owner: &str) -> Pair {
        if self == Self::Blpop {
            return Pair { acquire: pack(&["BLPOP", key, "0"]), release: pack(&["LPUSH", key, "token"]) };
        }
        let acquire = pack(&["LOCK.ACQUIRE", key, owner, "BLOCK", "0"]);
        Pair { acquire, release: pack(&["LOCK.RELEASE", key, owner]) }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lock => "LOCK.ACQUIRE + LOCK.RELEASE",
            Self::SetEval => "SET NX PX + EVALSHA",
            Self::SetDel => "SET NX PX + DEL",
            Self::SetDelifeq => "SET NX PX + DELIFEQ",
            Self::Ping => "PING + PING",
            Self::Noop => "no-op module command x2",
            Self::Blpop => "BLPOP + LPUSH token",
        })
    }
}

/// A 32-byte owner, as long as the random one that the server itself would make.
pub fn owner(number: usize) -> String {
    format!("{number:032x}")
}
