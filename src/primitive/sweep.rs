//! A way over all of something, of which only a few are looked up at once: to name 200,000 locks in one event would keep
//! every client waiting.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

/// How far a way has come, and how often it is still to be gone.
#[derive(Default)]
pub(crate) struct Sweep<T> {
    last: T,
    /// How often to go on to the end: twice when it was asked for on the way.
    rounds: u8,
}

impl<T: Default> Sweep<T> {
    /// Asks for all of them.
    pub(crate) fn ask(&mut self) {
        self.rounds = (self.rounds + 1).min(2);
    }

    /// Whether there is a way to go.
    #[inline]
    pub(crate) const fn is_on(&self) -> bool {
        self.rounds > 0
    }

    /// After which one to go on.
    pub(crate) const fn last(&self) -> &T {
        &self.last
    }

    /// Goes on after this one next time, or has come to the end.
    pub(crate) fn go_on(&mut self, last: Option<T>) {
        self.rounds = self.rounds.saturating_sub(u8::from(last.is_none()));
        self.last = last.unwrap_or_default();
    }
}
