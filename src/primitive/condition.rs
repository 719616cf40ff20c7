//! The conditions that one can watch a lock or a latch for, and whether they are met.

use smallvec::SmallVec;

use super::waiter::Waiter;
use super::{Fence, Lock, Moment};

/// A condition that somebody watches a key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The lock is free: nobody holds it, and it has no cooldown.
    Free,
    /// The newest hold has another fence than this, or has ended; `None` stands for no hold. Every grant has a larger
    /// fence than those before, so no grant goes unseen, however late one looks.
    Changed(Option<Fence>),
    /// Somebody wants what the hold of this fence has.
    Wanted(Fence),
    /// The latch is there, and all have counted.
    Open,
}

/// The outcome of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is so.
    Met,
    /// It can no longer be: the hold that it is about has ended.
    HoldEnded,
    /// It can no longer be: the key holds something that is no lock.
    NotALock,
    /// The same for a latch.
    NotALatch,
}

/// A key at one moment, as those see it who only watch. Of a key that is not there both is seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// `None` if the key holds something else.
    pub lock: Option<View>,
    /// Whether the latch is open; `None` if the key holds something else.
    pub latch: Option<bool>,
}

impl Seen {
    /// The verdict on a condition. Returns `None` as long as there is none.
    pub(crate) fn judge(&self, condition: Condition) -> Option<Verdict> {
        let lock = self.lock.as_ref().ok_or(Verdict::NotALock);
        let is_met = match condition {
            Condition::Free => lock.map(|lock| lock.is_free),
            Condition::Changed(from) => lock.map(|lock| lock.newest() != from),
            Condition::Wanted(fence) => lock.and_then(|lock| lock.is_wanted(fence).ok_or(Verdict::HoldEnded)),
            Condition::Open => self.latch.ok_or(Verdict::NotALatch),
        };
        is_met.map_or_else(Some, |is_met| is_met.then_some(Verdict::Met))
    }
}

/// A lock at one moment. A hold is over at its deadline, swept or not.
#[derive(Debug)]
pub(crate) struct View {
    /// The holds, and whether somebody has asked for each of them.
    holds: SmallVec<[(Fence, bool); 2]>,
    is_free: bool,
    first: Option<First>,
}

/// The waiter that comes first in the queue, and has to wait.
#[derive(Debug)]
struct First {
    upgrades: Option<Fence>,
}

impl View {
    /// The view of a lock at `now`. `first` is the waiter that comes next for it.
    pub(crate) fn of(lock: Option<&Lock>, first: Option<&Waiter>, now: Moment) -> Self {
        let all = lock.map_or(&[][..], Lock::holds);
        let live = all.iter().filter(|hold| hold.is_live(now));
        let holds: SmallVec<_> = live.map(|hold| (hold.fence, hold.revoke_requested())).collect();
        // A hand-off may be due that has not come round yet. Only a waiter for several locks can leave one of them free
        // for long. And what is over may have to cool, so that it is free only when it has been swept.
        let is_due = first.is_some_and(|first| first.request.keys() == 1);
        let is_free = lock.is_none_or(Lock::is_free) && !is_due;
        // The next move of the queue is only known when the holds that are over have been swept.
        let is_swept = holds.len() == all.len();
        let first = first.filter(|first| is_swept && now < first.deadline);
        let waits = |first: &Waiter| match (lock, first.upgrades) {
            (Some(lock), Some(fence)) => !lock.is_alone(fence),
            (Some(lock), None) => !lock.admits(first.request.permits),
            (None, _) => false,
        };
        let first = first.filter(|first| waits(first)).map(|first| First { upgrades: first.upgrades });
        Self { holds, is_free, first }
    }

    /// The fence of the newest hold.
    pub(crate) fn newest(&self) -> Option<Fence> {
        self.holds.iter().map(|(fence, _)| *fence).max()
    }

    /// Whether somebody wants what the hold of this fence has. Returns `None` if the hold is over.
    fn is_wanted(&self, fence: Fence) -> Option<bool> {
        let (_, was_asked) = self.holds.iter().find(|hold| hold.0 == fence)?;
        Some(*was_asked || self.is_in_the_way(fence))
    }

    /// The first waiter does not fit beside the holds, so each of them is in its way, but for one that is its own.
    fn is_in_the_way(&self, fence: Fence) -> bool {
        self.first.as_ref().is_some_and(|first| first.upgrades != Some(fence))
    }
}
