//! The counters of INFO, one row for each. docs/info.md explains each, and a test sees to it.

use super::effect::WaitEnd;

/// How often something has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counter(u64);

impl Counter {
    pub(crate) fn up(&mut self) {
        self.add(1);
    }

    pub(crate) fn add(&mut self, count: usize) {
        self.0 = self.0.wrapping_add(count as u64);
    }

    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// Makes the struct and the list of its rows. INFO has each under its name.
macro_rules! counters {
    ($($name:ident)*) => {
        /// The counts since the module was loaded.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Stats {
            $(pub(crate) $name: Counter,)*
        }

        impl Stats {
            /// All counters by their names, in the order of INFO.
            pub(crate) fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

counters! {
    granted
    handed_off
    released
    renewed
    expired
    closed
    vanished
    undone
    queued
    timed_out
    superseded
    refused
    deadlocks
    broken
    transferred
    cancelled
    abandoned
    failed
    observed
    unobserved
    unclaimed
    untouched
    reinstated
    displaced
    implausible
}

impl Stats {
    /// One of these, or a hand-off, is counted for every wait that is over.
    pub(crate) fn record_wait_end(&mut self, why: WaitEnd) {
        match why {
            WaitEnd::TimedOut => self.timed_out.up(),
            WaitEnd::Superseded => self.superseded.up(),
            WaitEnd::Cancelled => self.cancelled.up(),
            WaitEnd::Gone => self.abandoned.up(),
            // It is not over.
            WaitEnd::PlaceKept => {}
            WaitEnd::HoldEnded | WaitEnd::OverLimit(_) | WaitEnd::Failed | WaitEnd::Barred => {
                self.failed.up();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_manual_explains_each_counter() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/info.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        let explained: String = docs.lines().filter(|line| line.starts_with("| `lock_")).collect();
        let rows: Vec<_> = Stats::default().rows().collect();
        assert!(rows.len() > 20, "only {rows:?}");
        for (name, _) in rows {
            assert!(explained.contains(&format!("`lock_{name}`")), "docs/info.md lacks lock_{name}");
        }
    }
}
