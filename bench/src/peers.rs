//! The ways to lock that are compared, as the commands each one sends.

use anyhow::Result;
use redis::Connection;
use std::fmt;
use testbed::resp::encode;

/// The lease that every uncontended peer asks for, written out on both sides of a ratio.
pub(crate) const LEASE_MS: &str = "30000";

/// Writes only while somebody is the owner: what a guard does, written as a script.
const COMPARE_AND_SET: &str =
    "if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('set',KEYS[2],ARGV[2]) end return false";

/// Deletes the key only if it still holds our token.
const COMPARE_AND_DELETE: &str =
    "if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) end return 0";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Lock,
    SetEval,
    SetDel,
    SetDelifeq,
    Ping,
    Floor,
    Blpop,
    Guard,
    EvalGuard,
}

/// The two commands of one client on one key.
pub(crate) struct Pair {
    pub acquire: Vec<u8>,
    pub release: Vec<u8>,
}

/// The scripts that the server must know before a peer's commands work.
pub(crate) struct Scripts {
    compare_and_delete: String,
    compare_and_set: String,
}

impl Scripts {
    pub(crate) fn load(control: &mut Connection) -> Result<Self> {
        let mut load = |script: &str| redis::cmd("SCRIPT").arg("LOAD").arg(script).query(control);
        Ok(Self { compare_and_delete: load(COMPARE_AND_DELETE)?, compare_and_set: load(COMPARE_AND_SET)? })
    }
}

impl Peer {
    /// Takes a free lock and lets it go.
    pub(crate) fn pair(self, key: &str, owner: &str, scripts: &Scripts) -> Pair {
        let set = ["SET", key, owner, "NX", "PX", LEASE_MS];
        let (acquire, release) = match self {
            Self::Lock => {
                (encode(&["LOCK.ACQUIRE", key, owner, "PX", LEASE_MS]), encode(&["LOCK.RELEASE", key, owner]))
            }
            Self::SetEval => {
                (encode(&set), encode(&["EVALSHA", &scripts.compare_and_delete, "1", key, owner]))
            }
            Self::SetDel => (encode(&set), encode(&["DEL", key])),
            Self::SetDelifeq => (encode(&set), encode(&["DELIFEQ", key, owner])),
            Self::Ping => (encode(&["PING"]), encode(&["PING"])),
            Self::Floor => (
                encode(&["FLOOR.ACQUIRE", key, owner, "PX", LEASE_MS]),
                encode(&["FLOOR.RELEASE", key, owner]),
            ),
            Self::Blpop => return self.waiting_pair(key, owner),
            Self::Guard | Self::EvalGuard => return self.guarded_pair(key, owner, scripts),
        };
        Pair { acquire, release }
    }

    /// Two writes under the same lock, which the owner has already: see [`Peer::held_by`].
    fn guarded_pair(self, key: &str, owner: &str, scripts: &Scripts) -> Pair {
        let lock = self.held_by(owner);
        let write = if self == Self::Guard {
            encode(&["LOCK.GUARD", &lock, owner, "*", "SET", key, "value"])
        } else {
            encode(&["EVALSHA", &scripts.compare_and_set, "2", &lock, key, owner, "value"])
        };
        Pair { acquire: write.clone(), release: write }
    }

    /// The lock under which this owner writes, of a kind that this peer looks at.
    pub(crate) fn held_by(self, owner: &str) -> String {
        match self {
            Self::Guard => format!("held:{owner}"),
            _ => format!("token:{owner}"),
        }
    }

    /// The key of a lock that clients wait for. Peers run side by side on one server, so each has its own keys.
    pub(crate) fn contended_key(self, lock: usize) -> String {
        match self {
            Self::Blpop => format!("token:{lock}"),
            Self::Floor => format!("least:{lock}"),
            _ => format!("lock:{lock}"),
        }
    }

    /// Waits for the lock as long as it takes, and lets it go.
    pub(crate) fn waiting_pair(self, key: &str, owner: &str) -> Pair {
        if self == Self::Blpop {
            return Pair { acquire: encode(&["BLPOP", key, "0"]), release: encode(&["LPUSH", key, "token"]) };
        }
        let (acquire, release) = if self == Self::Floor {
            ("FLOOR.ACQUIRE", "FLOOR.RELEASE")
        } else {
            ("LOCK.ACQUIRE", "LOCK.RELEASE")
        };
        Pair {
            acquire: encode(&[acquire, key, owner, "BLOCK", "0"]),
            release: encode(&[release, key, owner]),
        }
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
            Self::Floor => "floor: the least C module",
            Self::Blpop => "BLPOP + LPUSH token",
            Self::Guard => "LOCK.GUARD SET x2",
            Self::EvalGuard => "EVALSHA (check owner, then SET) x2",
        })
    }
}

/// A 32-byte owner, as long as the random one that the server itself would make.
pub(crate) fn owner(number: usize) -> String {
    format!("{number:032x}")
}
