//! The one place where the module reads clocks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use super::api::rm;
use crate::primitive::{Clock, Moment};

/// How far the wall clock is ahead of the monotonic one, in µs.
static WALL_AHEAD_US: AtomicU64 = AtomicU64::new(0);

/// Both clocks now.
///
/// Only the monotonic one is read. The wall clock follows from it by a distance that [`set_by_wall`] measures ten
/// times a second: it dates fences, which grow in any case, and deadlines that leave the process.
#[inline]
pub(super) fn read() -> Clock {
    let now = now();
    Clock { now, unix_us: now.0.wrapping_add(WALL_AHEAD_US.load(Relaxed)) }
}

/// The monotonic clock now.
#[inline]
pub(super) fn now() -> Moment {
    Moment(rm!(RedisModule_MonotonicMicroseconds()))
}

/// Looks at the wall clock, which may have been set.
pub(super) fn set_by_wall() {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_us = u64::try_from(unix.as_micros()).unwrap_or(u64::MAX);
    WALL_AHEAD_US.store(unix_us.wrapping_sub(now().0), Relaxed);
}
