//! Cluster mode: a lock may move to another node while clients wait for it here.

use std::ffi::CStr;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use redis_module::raw;

use super::api::{call, has_flags, log, Ctx, OwnString, Str};
use super::failed_waits::{fail_waits, fail_watches};
use super::state;
use crate::error::LockError;

/// How many locks one run of the cron asks the server about.
const LOCKS_PER_RUN: usize = 500;

/// Whether the log says already that the server refuses calls.
static TOLD: AtomicBool = AtomicBool::new(false);

const MOVED: &CStr = c"TRYAGAIN the key has moved to another node; ask again";

/// Whether this node owns the key's slot; always true outside a cluster. The server refuses a call for a key that
/// is not its own, which is the one test that every version has.
pub(super) fn owns(ctx: Ctx, name: Str) -> bool {
    if !has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER) {
        return true;
    }
    call!(ctx, c"EXISTS", c"s", name.as_ptr()).is_some()
}

/// Whether the server refuses every call from here, so that whose a slot is cannot be asked. Valkey 9.1 does so until it is
/// restarted, once a script has run a command with keys of two slots: it goes on refusing for the stand-in of a client that
/// had this command, and it takes the same ones again and again, one for each call inside another.
pub(super) fn is_blind(ctx: Ctx) -> bool {
    if !has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER) {
        return false;
    }
    // A command without a key is refused for no other reason.
    let refused = || io::Error::last_os_error().kind() == io::ErrorKind::PermissionDenied;
    let is_blind = call!(ctx, c"PING", c"").is_none() && refused();
    if is_blind && !TOLD.swap(true, Relaxed) {
        log(c"warning", &format!("lock: {}", LockError::CallsRefused));
    }
    is_blind
}

/// Sends those away who wait for a key that has moved or watch it; a cluster client then asks again and is sent to the new
/// node.
pub(super) fn turn_away(db: i32, key: &[u8], in_budget: impl Fn() -> bool) {
    fail_waits(db, key, MOVED, in_budget);
    turn_away_watchers(db, key);
}

/// The same for those who only watch it.
pub(super) fn turn_away_watchers(db: i32, key: &[u8]) {
    fail_watches(db, key, MOVED);
}

/// Looks for queues whose lock has moved, a few at a time, going round all of them.
pub(super) fn check_queues(ctx: Ctx) {
    if !has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER)
        || state::with(|host| host.manager.waiters.len()) == 0
    {
        return;
    }
    if is_blind(ctx) {
        return;
    }
    let locks = state::with(|host| {
        let (locks, last) = host.manager.waiters.queues_after(host.queue_checked.as_ref(), LOCKS_PER_RUN);
        // Where there are no more the next run begins anew.
        host.queue_checked = last;
        locks
    });
    for (db, key) in &locks {
        let name = OwnString::new(key);
        if !owns(ctx, name.as_str()) {
            state::with(|host| host.tell(|manager| manager.recheck_if_awaited(*db, key)));
        }
    }
}
