//! The one place where the module reads clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use super::api::rm;
use crate::primitive::{Clock, Moment};

/// Both clocks now.
pub(super) fn read() -> Clock {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Clock { now: now(), unix_us: u64::try_from(unix.as_micros()).unwrap_or(u64::MAX) }
}

/// The monotonic clock now.
pub(super) fn now() -> Moment {
    Moment(rm!(RedisModule_MonotonicMicroseconds()))
}
