//! Time as values. Nothing in the pure layers reads a clock: a [`Clock`] comes in as an argument, and the next
//! deadline goes out as a [`Moment`].

use crate::limits::LEASE_MS_MAX;

/// A point on the process's monotonic clock, in microseconds. It means nothing on another node or after a
/// restart, so it never leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than every real point: the deadline of a hold without expiry and of a wait for ever.
    pub const NEVER: Self = Self(u64::MAX);

    /// Earlier than every real point.
    pub const MIN: Self = Self(0);

    /// This point moved `ms` milliseconds into the future, never wrapping.
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// This point moved `us` microseconds into the future, never wrapping.
    pub const fn plus_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds from `now` until this point.
    pub const fn us_after(self, now: Self) -> u64 {
        self.0.saturating_sub(now.0)
    }

    /// Milliseconds from `now` until this point, rounded up so that a live hold never reads 0.
    pub const fn ms_after(self, now: Self) -> u64 {
        self.0.saturating_sub(now.0).div_ceil(1000)
    }

    /// Whole milliseconds that have passed at `now` since this point.
    pub const fn ms_until(self, now: Self) -> u64 {
        now.0.saturating_sub(self.0) / 1000
    }
}

/// Both clocks, read together once for each command or timer run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The monotonic clock: every lease and wait inside the process runs on it.
    pub now: Moment,
    /// The wall clock in microseconds since 1970: for fences, and for deadlines that leave the process.
    pub unix_us: u64,
}

impl Clock {
    /// Where a point that is not over lies by the wall clock, in milliseconds since 1970: rounded up, as what is left of it
    /// is, so that nothing ends early for having been told. A point that was read from this is told the same again.
    pub(crate) const fn unix_ms_of(self, moment: Moment) -> u64 {
        self.unix_us.saturating_add(moment.us_after(self.now)).div_ceil(1000)
    }

    /// The wall clock in milliseconds since 1970.
    pub(crate) const fn unix_ms(self) -> u64 {
        self.unix_us / 1000
    }
}

/// How long a hold may last: up to [`LEASE_MS_MAX`] milliseconds, or without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lease(u32);

impl Lease {
    /// A hold that only its release ends.
    pub(crate) const NEVER: Self = Self(u32::MAX);

    /// No time at all.
    pub(crate) const NONE: Self = Self(0);

    /// A lease of `ms` milliseconds, or the longest there is.
    pub(crate) fn ms(ms: u64) -> Self {
        Self(u32::try_from(ms).unwrap_or(LEASE_MS_MAX).min(LEASE_MS_MAX))
    }

    /// Where a hold with this lease ends when it starts at `now`.
    pub(crate) const fn deadline(self, now: Moment) -> Moment {
        if self.0 == Self::NEVER.0 {
            Moment::NEVER
        } else {
            now.plus_ms(self.0 as u64)
        }
    }

    /// The number on the wire: milliseconds, or -1 without expiry.
    pub(crate) fn to_wire(self) -> i64 {
        if self == Self::NEVER {
            -1
        } else {
            i64::from(self.0)
        }
    }

    /// The inverse of [`Lease::to_wire`]. Returns `None` for numbers that are no lease.
    pub(crate) fn from_wire(n: i64) -> Option<Self> {
        match n {
            -1 => Some(Self::NEVER),
            _ => u32::try_from(n).ok().filter(|ms| *ms <= LEASE_MS_MAX).map(Self),
        }
    }
}

/// The time left until `deadline` on the wire: whole milliseconds rounded up, or -1 for never.
pub(crate) fn left_to_wire(deadline: Moment, now: Moment) -> i64 {
    if deadline == Moment::NEVER {
        -1
    } else {
        i64::try_from(deadline.ms_after(now)).unwrap_or(i64::MAX)
    }
}
