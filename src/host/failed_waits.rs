//! Waits and watches that cannot go on: the key holds something else by now, or is on another server.

use std::ffi::CStr;

use super::blocked::Answer;
use super::state;
use crate::primitive::effect::WaitEnd;
use crate::primitive::table::Set;
use crate::primitive::WaiterId;

/// Ends the waits for a lock that is no more, for as long as the budget allows, and sees that the rest follows. Those who
/// only watch the key are told when it is looked at.
pub(super) fn fail_waits(db: i32, key: &[u8], text: &'static CStr, in_budget: impl Fn() -> bool) {
    state::with(|host| {
        // Other locks that they waited for, each once, however many of them stood in its queue.
        let mut left = Set::default();
        while let Some((id, _)) = host.manager.waiters.front(db, key) {
            if !in_budget() {
                host.recheck(db, key);
                break;
            }
            let client = host.manager.waiters.client_of(id);
            left.extend(host.manager.take_out(id, WaitEnd::Failed).into_iter().flat_map(|(_, keys)| keys));
            client.into_iter().for_each(|client| host.blocked.answer(client, Answer::Failed(text)));
        }
        left.remove(key);
        left.iter().for_each(|key| host.recheck(db, key));
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
