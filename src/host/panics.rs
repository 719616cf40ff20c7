//! No panic goes out to the server: where a callback ends that has nobody to reply to, and where the reason is written down.

use std::panic::{catch_unwind, AssertUnwindSafe};

use super::api::log;

/// Runs a callback that has nobody to reply to.
pub(super) fn catch_panic<R: Default>(what: &str, work: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        log(c"warning", &format!("lock: the {what} callback failed; the line above has the reason"));
        R::default()
    })
}

/// Sends the reason of a panic to the server's log instead of a terminal that nobody sees.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(|info| log(c"warning", &format!("lock: {info}"))));
}
