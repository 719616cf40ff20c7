//! Cluster mode: a lock may move to another node while clients wait for it here.

use std::ffi::CStr;
use std::rc::Rc;

use redis_module::raw;

use super::api::{has_flags, rm, Ctx, OwnString, RString};
use super::deferred::{fail_waits, fail_watches};
use super::state;

/// Most locks checked in one run of the cron.
const CHECKED_PER_RUN: usize = 500;

const MOVED: &CStr = c"TRYAGAIN the key has moved to another node; ask again";

/// Whether this node owns the key's slot; always true outside a cluster. The server refuses a call for a key that
/// is not its own, which is the one test that every version has.
pub(super) fn owns(ctx: *mut Ctx, name: *mut RString) -> bool {
    if !has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER) {
        return true;
    }
    let reply = rm!(RedisModule_Call(ctx, c"EXISTS".as_ptr(), c"s".as_ptr(), name));
    if reply.is_null() {
        return false;
    }
    rm!(RedisModule_FreeCallReply(reply));
    true
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
pub(super) fn check_queues(ctx: *mut Ctx) {
    if !has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER) {
        return;
    }
    let locks = state::with(|host| {
        let rest = host.memory.waiters.locks(None).skip(host.queues_checked);
        let chosen: Vec<_> = rest.take(CHECKED_PER_RUN).map(|(db, key)| (db, Rc::clone(key))).collect();
        // Where there are no more the next run begins anew.
        let is_last = chosen.len() < CHECKED_PER_RUN;
        host.queues_checked = if is_last { 0 } else { host.queues_checked + CHECKED_PER_RUN };
        chosen
    });
    for (db, key) in &locks {
        let name = OwnString::new(key);
        if !owns(ctx, name.as_ptr()) {
            state::with(|host| host.suspect(*db, key));
        }
    }
}
