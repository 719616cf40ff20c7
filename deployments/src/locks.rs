//! The locks that the load uses, and the words that ask for them.

/// A lock of the load, by its place among all of them.
pub(crate) type LockId = u16;

/// How many of each there are. Few enough that each has somebody who wants it while another has it.
const MUTEXES: u16 = 36;
const SHARED: u16 = 8;
const SEMAPHORES: u16 = 4;
const PAIRS: u16 = 6;
pub(crate) const LOCKS: u16 = MUTEXES + SHARED + SEMAPHORES + 2 * PAIRS;

/// Permits that each semaphore has.
pub(crate) const LIMIT: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Exclusive,
    Shared,
    Permits(u16),
}

pub(crate) const fn mutexes() -> std::ops::Range<LockId> {
    0..MUTEXES
}

pub(crate) const fn shared() -> std::ops::Range<LockId> {
    MUTEXES..MUTEXES + SHARED
}

pub(crate) const fn semaphores() -> std::ops::Range<LockId> {
    MUTEXES + SHARED..MUTEXES + SHARED + SEMAPHORES
}

/// The first of two locks that are taken together.
pub(crate) fn pairs() -> impl Iterator<Item = LockId> {
    (semaphores().end..LOCKS).step_by(2)
}

/// Its name on the server. Those that are taken together are in one slot.
pub(crate) fn name(lock: LockId) -> String {
    if lock < semaphores().end {
        format!("lock:{lock}")
    } else {
        format!("lock:{{{}}}:{}", lock - (lock - semaphores().end) % 2, lock)
    }
}

/// What one client wants.
#[derive(Clone)]
pub(crate) struct Want {
    pub(crate) locks: Vec<LockId>,
    pub(crate) mode: Mode,
}

impl Want {
    pub(crate) fn one(lock: LockId, mode: Mode) -> Want {
        Want { locks: vec![lock], mode }
    }

    pub(crate) fn pair(first: LockId) -> Want {
        Want { locks: vec![first, first + 1], mode: Mode::Exclusive }
    }

    /// What sends the request to its node.
    pub(crate) fn key(&self) -> String {
        name(self.locks[0])
    }

    fn keys(&self) -> String {
        self.locks.iter().map(|lock| name(*lock)).collect::<Vec<_>>().join(" ")
    }

    fn mode_words(&self) -> String {
        match self.mode {
            Mode::Exclusive => String::new(),
            Mode::Shared => " SHARED".to_owned(),
            Mode::Permits(count) => format!(" LIMIT {LIMIT} PERMITS {count}"),
        }
    }

    pub(crate) fn acquire(&self, owner: &str, lease: u64, more: &str) -> String {
        let (keys, mode) = (self.keys(), self.mode_words());
        match self.locks.len() {
            1 => format!("LOCK.ACQUIRE {keys} {owner} PX {lease}{mode}{more}"),
            count => format!("LOCK.MACQUIRE {owner} {count} {keys} PX {lease}{mode}{more}"),
        }
    }

    pub(crate) fn renew(&self, owner: &str, lease: u64, fence: i64) -> String {
        let (keys, mode) = (self.keys(), self.mode_words());
        match self.locks.len() {
            1 => format!("LOCK.RENEW {keys} {owner} PX {lease} FENCE {fence}{mode}"),
            count => format!("LOCK.MRENEW {owner} {lease} {count} {keys} FENCE {fence}{mode}"),
        }
    }

    pub(crate) fn release(&self, owner: &str, fence: Option<i64>) -> String {
        let keys = self.keys();
        let fence = fence.map(|fence| format!(" FENCE {fence}")).unwrap_or_default();
        match self.locks.len() {
            1 => format!("LOCK.RELEASE {keys} {owner}{fence} CANCEL"),
            count => format!("LOCK.MRELEASE {owner} {count} {keys}{fence} CANCEL"),
        }
    }
}
