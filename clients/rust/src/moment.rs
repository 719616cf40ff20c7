//! The clock by which a lease is over. It goes on while the machine sleeps, as that of the server does.

use std::time::Duration;

use crate::names::ms;

/// A moment in milliseconds since the start of the machine, time asleep included. On Linux all processes have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// This moment.
    #[cfg(target_os = "linux")]
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(ms(Duration::try_from(now).unwrap_or_default()))
    }

    /// This moment, counted from the first one.
    #[cfg(not(target_os = "linux"))]
    pub fn now() -> Self {
        static START: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        Self(ms(START.elapsed()))
    }

    /// So long after this one.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(ms(span)))
    }

    /// So long before this one.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(ms(span)))
    }

    /// How long until then; zero when it has passed.
    pub fn left(self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(Self::now().0))
    }
}
