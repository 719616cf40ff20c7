//! Cluster mode: a lock may move to another node while clients wait for it here.

use std::rc::Rc;

use redis_module::raw;

use super::api::{has_flags, rm, Ctx, OwnString, RString};
use super::deferred::fail;
use super::state;

/// Most locks checked in one run of the cron.
const CHECKED_PER_RUN: usize = 200;

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
pub(super) fn turn_away(db: i32, key: &Rc<[u8]>) {
    state::with(|host| {
        let waiting = host.memory.waiters.iter(db, key).map(|(id, _)| id);
        let ids = waiting.chain(host.memory.observers.of(db, key)).collect();
        fail(host, ids, c"TRYAGAIN the key has moved to another node; ask again");
    });
}

/// Looks for queues whose lock has moved, a few at a time, going round all of them.
pub(super) fn check_queues(ctx: *mut Ctx) {
    if !has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER) {
        return;
    }
    let locks = state::with(|host| {
        let all = host.memory.waiters.locks(None);
        let start = if host.queues_checked < all.len() { host.queues_checked } else { 0 };
        host.queues_checked = start + CHECKED_PER_RUN;
        all.into_iter().skip(start).take(CHECKED_PER_RUN).collect::<Vec<_>>()
    });
    for (db, key) in &locks {
        let name = OwnString::new(key);
        if !owns(ctx, name.as_ptr()) {
            turn_away(*db, key);
        }
    }
}
