//! Very many locks taken and kept, each by an owner of its own, or as many plain keys with the same names.

use anyhow::{ensure, Result};
use redis::{Connection, Value};
use std::fmt;
use std::ops::Range;

const BATCH: usize = 1_000;

/// How long the names are.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub key: usize,
    pub owner: usize,
}

impl Names {
    /// As long as those that the benchmark uses elsewhere.
    pub(super) const USUAL: Self = Self { key: 12, owner: 32 };
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Lock,
    PlainKey,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lock => "LOCK.ACQUIRE key owner PX",
            Self::PlainKey => "SET key owner PX",
        })
    }
}

impl Kind {
    /// Takes the locks of these numbers; `lease_ms` is asked when each batch is built.
    pub(super) fn take(
        self,
        control: &mut Connection,
        names: Names,
        locks: Range<usize>,
        lease_ms: impl Fn(usize) -> u64,
    ) -> Result<()> {
        let command = match self {
            Self::Lock => "LOCK.ACQUIRE",
            Self::PlainKey => "SET",
        };
        for start in locks.clone().step_by(BATCH) {
            let mut pipe = redis::pipe();
            for number in start..locks.end.min(start + BATCH) {
                let key = format!("lock:{number:0width$}", width = names.key - 5);
                let owner = format!("{number:0width$x}", width = names.owner);
                pipe.cmd(command).arg(key).arg(owner).arg("PX").arg(lease_ms(number));
            }
            let replies: Vec<Value> = pipe.query(control)?;
            ensure!(!replies.contains(&Value::Nil), "{self}: a free lock was refused");
        }
        Ok(())
    }
}
