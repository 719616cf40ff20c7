//! The module's part of INFO.

#![expect(clippy::arithmetic_side_effects, reason = "sizes of what is in memory")]

use std::ffi::{c_int, CStr, CString};

use redis_module::raw;

use super::api::{rm, Ctx, InfoCtx};
use super::panics::catch_panic;
use super::{clock, config, latch_type, lock_type, state};
use crate::command::recovery;

/// Tells the server about the section.
pub(super) fn register(ctx: Ctx) -> bool {
    rm!(RedisModule_RegisterInfoFunc(ctx.as_ptr(), Some(on_info))) == super::api::OK
}

unsafe extern "C" fn on_info(ctx: *mut raw::RedisModuleInfoCtx, for_crash_report: c_int) {
    // SAFETY: the server passes the answer, which lives as long as this call.
    let answer = unsafe { InfoCtx::new(ctx) };
    catch_panic("info", || {
        state::with_unless_ours(|host| {
            // A module that does not hear of settings asks.
            if let Some(ctx) =
                host.timer.ctx().filter(|_| !host.subscriptions.are_all() && for_crash_report == 0)
            {
                config::ask_max_clients(ctx);
            }
            let (queues, longest) = host.manager.waiters.queue_lengths();
            let waiting = host.manager.waiters.len();
            let stats = host.manager.stats;
            section(
                answer,
                c"state",
                [
                    ("held", lock_type::count() as u64),
                    ("latches", latch_type::count() as u64),
                    ("waiting", waiting as u64),
                    ("tickets", host.manager.waiters.tickets() as u64),
                    ("observing", host.manager.observers.len() as u64),
                    ("max_waiters", config::policy().caps.clients() as u64),
                    ("queues", queues as u64),
                    ("longest_queue", longest as u64),
                    ("waiter_bytes", host.manager.waiters.bytes() as u64),
                    ("observer_bytes", host.manager.observers.bytes() as u64),
                    ("loss_ledger_bytes", host.manager.ledger.bytes() as u64),
                    ("memory_bytes", (host.manager.waiting_bytes() + host.manager.ledger.bytes()) as u64),
                    ("max_memory_bytes", host.manager.budget.0 as u64),
                    ("index_bytes", (host.manager.leases.bytes() + host.manager.ties.bytes()) as u64),
                    ("lease_index_entries", host.manager.leases.ending() as u64),
                    ("tied", host.manager.ties.len() as u64),
                    ("provisional", host.manager.provisional.len() as u64),
                    ("server_events", host.subscriptions.count() as u64),
                    ("last_fence", host.manager.fences.last()),
                    ("recovering_ms", recovery::left_ms(&host.manager, clock::now())),
                ],
            );
            section(answer, c"stats", stats.rows());
        });
    });
}

fn section(answer: InfoCtx, name: &CStr, fields: impl IntoIterator<Item = (&'static str, u64)>) {
    // The server says no when this section was not asked for.
    if rm!(RedisModule_InfoAddSection(answer.as_ptr(), name.as_ptr())) != super::api::OK {
        return;
    }
    for (field, value) in fields {
        let field = CString::new(field).unwrap_or_default();
        rm!(RedisModule_InfoAddFieldULongLong(answer.as_ptr(), field.as_ptr(), value));
    }
}
