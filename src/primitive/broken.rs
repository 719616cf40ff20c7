//! States that cannot be. A branch that only a fault of this module could reach goes on without harm in a server, which
//! tells its log once, and fails in tests.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::OnceLock;

static FIRST: OnceLock<&str> = OnceLock::new();
static WAS_TOLD: AtomicBool = AtomicBool::new(false);

/// Says what cannot be, and yet is.
#[cold]
#[inline(never)]
pub(crate) fn broken(what: &'static str) {
    debug_assert!(false, "{what}");
    FIRST.get_or_init(|| what);
}

/// Returns the first thing that was said, once; `None` if nothing was.
pub(crate) fn first_broken() -> Option<&'static str> {
    FIRST.get().copied().filter(|_| !WAS_TOLD.swap(true, Relaxed))
}
