//! What the locks guard: for each lock a register that remembers the newest fence of whoever wrote to it.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::locks::{LockId, LOCKS};

pub(crate) struct Store(Mutex<Registers>);

#[derive(Default)]
struct Registers {
    newest: Vec<i64>,
    writes: u64,
    stale: u64,
}

impl Store {
    pub(crate) fn new() -> Store {
        Store(Mutex::new(Registers { newest: vec![0; usize::from(LOCKS)], ..Registers::default() }))
    }

    /// A write by somebody who believes to hold the lock until then. Whether that time has come is looked at where nobody
    /// else can write in between.
    pub(crate) fn write(&self, lock: LockId, fence: i64, until: Instant) {
        let mut registers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() >= until {
            return;
        }
        registers.writes += 1;
        if fence < registers.newest[usize::from(lock)] {
            registers.stale += 1;
        }
        registers.newest[usize::from(lock)] = fence.max(registers.newest[usize::from(lock)]);
    }

    /// How many writes there were, and how many of them with a fence below that of an earlier one.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let registers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (registers.writes, registers.stale)
    }
}
