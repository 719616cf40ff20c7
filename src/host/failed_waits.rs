//! Waits and watches that cannot go on: the key holds something else by now, or is on another server.

use std::ffi::CStr;

use super::blocked::Answer;
use super::state::{self, Host};
use crate::primitive::WaiterId;

/// Ends the waits for a lock that is not here any longer, for as long as the budget allows, and sees that the rest
/// follows. Those who only watch the key are told when it is looked at.
pub(super) fn fail_waits(db: i32, key: &[u8], text: &'static CStr, in_budget: impl Fn() -> bool) {
    state::with(|host| {
        let Host { manager, blocked, .. } = host;
        manager.fail_waits(db, key, in_budget, |client| blocked.answer(client, Answer::Failed(text)));
        host.wake_for_work();
    });
}

/// Ends the watches of a key with an error.
pub(super) fn fail_watches(db: i32, key: &[u8], text: &'static CStr) {
    state::with(|host| {
        let ids: Vec<WaiterId> = host.manager.observers.of(db, key).collect();
        for id in ids {
            host.manager.observers.remove(id);
            host.blocked.answer(id, Answer::Failed(text));
        }
    });
}
