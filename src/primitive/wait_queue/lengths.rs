//! How long the queues are: kept with every change, so that whoever asks need not walk all of them.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

/// How many queues there are of each length.
#[derive(Default)]
pub(super) struct Lengths {
    of: Vec<u32>,
    longest: usize,
}

impl Lengths {
    /// A queue has got longer or shorter by one. It is there from its first waiter to its last.
    pub(super) fn change(&mut self, before: usize, now: usize) {
        if let Some(queues) = self.of.get_mut(before) {
            *queues = queues.saturating_sub(1);
        }
        if self.of.len() <= now {
            self.of.resize(now + 1, 0);
        }
        if let Some(queues) = self.of.get_mut(now) {
            *queues += 1;
        }
        // The longest is still the longest when it is shorter by one, unless there was another.
        let was_longest = before == self.longest && self.of.get(before).is_none_or(|queues| *queues == 0);
        if now > self.longest || was_longest {
            self.longest = now;
        }
    }

    pub(super) const fn longest(&self) -> usize {
        self.longest
    }
}
