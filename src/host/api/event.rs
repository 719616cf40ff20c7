//! Events of the server: which are told to whom.

use std::ffi::c_void;

use redis_module::raw;

use super::{rm, Ctx, RawCtx, OK};

/// The function that the server calls with an event.
pub(in crate::host) type EventHandler =
    unsafe extern "C" fn(*mut RawCtx, raw::RedisModuleEvent, u64, *mut c_void);

/// An event, and who hears of it.
pub(in crate::host) type Listener = (u64, EventHandler);

/// Asks the server for an event. Safe at any time, also inside an event.
pub(in crate::host) fn listen(ctx: Ctx, (id, handler): Listener) -> bool {
    subscribe(ctx, id, Some(handler))
}

/// Gives an event up. Not inside an event, our own or another module's: the server would free what its loop over listeners
/// stands on. Only a timer runs outside of all events.
pub(in crate::host) fn stop(ctx: Ctx, (id, _): Listener) -> bool {
    subscribe(ctx, id, None)
}

fn subscribe(ctx: Ctx, id: u64, callback: raw::RedisModuleEventCallback) -> bool {
    let event = raw::RedisModuleEvent { id, dataver: 1 };
    rm!(RedisModule_SubscribeToServerEvent(ctx.as_ptr(), event, callback)) == OK
}
