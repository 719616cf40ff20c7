//! The module's part of INFO.

use std::ffi::{c_int, CStr};

use redis_module::raw;

use super::api::{rm, Ctx};
use super::entry::guard;
use super::{config, latch_type, lock_type, state};

/// Tells the server about the section.
pub(super) fn register(ctx: *mut Ctx) -> bool {
    rm!(RedisModule_RegisterInfoFunc(ctx, Some(on_info))) == super::api::OK
}

unsafe extern "C" fn on_info(ctx: *mut raw::RedisModuleInfoCtx, for_crash_report: c_int) {
    guard("info", || {
        state::with_unless_ours(|host| {
            // Who does not hear of settings asks.
            if let Some(ctx) = host.alarm.ctx().filter(|_| !host.hearing.is_awake() && for_crash_report == 0)
            {
                config::ask_max_clients(ctx);
            }
            let (queues, longest) = host.memory.waiters.queue_lengths();
            let waiting = host.memory.waiters.len();
            let stats = host.memory.stats;
            section(
                ctx,
                c"state",
                &[
                    (c"held", lock_type::count() as u64),
                    (c"latches", latch_type::count() as u64),
                    (c"waiting", waiting as u64),
                    (c"tickets", host.memory.waiters.tickets() as u64),
                    (c"observing", host.memory.observers.len() as u64),
                    (c"max_waiters", config::policy().caps.clients() as u64),
                    (c"queues", queues as u64),
                    (c"longest_queue", longest as u64),
                    (c"waiter_bytes", host.memory.waiters.bytes() as u64),
                    (c"observer_bytes", host.memory.observers.bytes() as u64),
                    (c"loss_ledger_bytes", host.memory.ledger.bytes() as u64),
                    (c"memory_bytes", (host.memory.waiting_bytes() + host.memory.ledger.bytes()) as u64),
                    (c"max_memory_bytes", host.memory.budget.0 as u64),
                    (c"index_bytes", (host.memory.leases.bytes() + host.memory.ties.bytes()) as u64),
                    (c"lease_index_entries", host.memory.leases.ending() as u64),
                    (c"tied", host.memory.ties.len() as u64),
                    (c"provisional", host.memory.provisional.len() as u64),
                    (c"server_events", host.hearing.events() as u64),
                    (c"last_fence", host.memory.fences.last()),
                ],
            );
            section(
                ctx,
                c"stats",
                &[
                    (c"granted", stats.granted),
                    (c"handed_off", stats.handed_off),
                    (c"released", stats.released),
                    (c"renewed", stats.renewed),
                    (c"expired", stats.expired),
                    (c"closed", stats.closed),
                    (c"vanished", stats.vanished),
                    (c"undone", stats.undone),
                    (c"queued", stats.queued),
                    (c"timed_out", stats.timed_out),
                    (c"superseded", stats.superseded),
                    (c"refused", stats.refused),
                    (c"deadlocks", stats.deadlocks),
                    (c"broken", stats.broken),
                    (c"transferred", stats.transferred),
                    (c"cancelled", stats.cancelled),
                    (c"abandoned", stats.abandoned),
                    (c"failed", stats.failed),
                    (c"observed", stats.observed),
                    (c"unobserved", stats.unobserved),
                    (c"unclaimed", stats.unclaimed),
                    (c"untouched", stats.untouched),
                ],
            );
        });
    });
}

fn section(ctx: *mut raw::RedisModuleInfoCtx, name: &CStr, fields: &[(&CStr, u64)]) {
    // The server says no when this section was not asked for.
    if rm!(RedisModule_InfoAddSection(ctx, name.as_ptr())) != super::api::OK {
        return;
    }
    for (field, value) in fields {
        rm!(RedisModule_InfoAddFieldULongLong(ctx, field.as_ptr(), *value));
    }
}
