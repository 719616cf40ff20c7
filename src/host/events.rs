//! Events that the server tells us of: role, loads, flushes, swaps, forks, the cron. Nothing is written here; what
//! follows is left for [`deferred`]. Which of it is heard at a time, [`hearing`] decides.

use std::ffi::{c_char, c_int, c_void, CStr};

use redis_module::raw;

use super::api::{has, has_flags, rm, Ctx, Listener, OwnString, RawCtx, RawStr, Str, OK};
use super::panics::catch_panic;
use super::role::{ask_role, succeed, take_over, take_role};
use super::state::{self, Host};
use super::subscriptions::Listeners;
use super::value::{TypeHandle, Value};
use super::{clock, cluster, config, deferred, hearing, journal, key};
use crate::primitive::latch::Latch;
use crate::primitive::{Lock, LockManager};

/// All that is heard at some time.
pub(super) const LISTENERS: Listeners = Listeners { at_rest: &AT_REST, in_use: &IN_USE, clients: CLIENTS };

/// The events that are heard also while locks are at rest: nobody could tell later that data were emptied or swapped.
const AT_REST: [Listener; 3] = [
    (raw::REDISMODULE_EVENT_CRON_LOOP, on_cron),
    (raw::REDISMODULE_EVENT_FLUSHDB, on_flush),
    (raw::REDISMODULE_EVENT_SWAPDB, on_swap),
];

/// The events that are heard besides while the module is in use.
const IN_USE: [Listener; 6] = [
    (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, on_role),
    (raw::REDISMODULE_EVENT_LOADING, on_loading),
    (raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD, on_load_aside),
    (raw::REDISMODULE_EVENT_FORK_CHILD, on_fork),
    (raw::REDISMODULE_EVENT_REPLICA_CHANGE, on_new_listener),
    (raw::REDISMODULE_EVENT_CONFIG, on_config),
];

/// The event that is heard while something is tied to a connection.
const CLIENTS: Listener = (raw::REDISMODULE_EVENT_CLIENT_CHANGE, on_client);

unsafe extern "C" fn on_role(ctx: *mut RawCtx, _event: raw::RedisModuleEvent, what: u64, _data: *mut c_void) {
    // SAFETY: the server passes a context, which lives as long as this call.
    let ctx = unsafe { Ctx::new(ctx) };
    catch_panic("role", || {
        let is_primary = what == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_MASTER;
        state::with(|host| take_role(host, ctx, is_primary));
        deferred::step_down(ctx);
    });
}

unsafe extern "C" fn on_flush(
    _ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    what: u64,
    data: *mut c_void,
) {
    if what != raw::REDISMODULE_SUBEVENT_FLUSHDB_END || data.is_null() {
        return;
    }
    catch_panic("flush", || {
        // SAFETY: for this event the server passes this structure.
        let flushed = unsafe { &*data.cast::<raw::RedisModuleFlushInfo>() }.dbnum;
        state::with(|host| {
            let db = (flushed >= 0).then_some(flushed);
            host.tell(|manager| manager.flushed(db, clock::now()));
        });
    });
}

unsafe extern "C" fn on_loading(
    ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    what: u64,
    _data: *mut c_void,
) {
    // SAFETY: the server passes a context, which lives as long as this call.
    let ctx = unsafe { Ctx::new(ctx) };
    catch_panic("loading", || {
        clock::set_by_wall();
        state::with(|host| {
            host.listeners.forget();
            host.loads_stream = what == raw::REDISMODULE_SUBEVENT_LOADING_REPL_START;
            // If the primary has one, the data that it sends say so. Data that are loaded aside may be thrown away.
            if host.loads_stream && !has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING) {
                host.manager.recovery.hear(None);
            }
            if matches!(
                what,
                raw::REDISMODULE_SUBEVENT_LOADING_ENDED | raw::REDISMODULE_SUBEVENT_LOADING_FAILED
            ) {
                host.tell(LockManager::loaded);
                if host.is_primary && !host.has_run && host.manager.fences.last() > 0 {
                    if config::keeps_each_write(ctx) {
                        succeed(host);
                    } else {
                        take_over(host, "start");
                    }
                }
            }
        });
    });
}

/// A replica loads beside the data that it serves: before the first key, and when what was loaded has taken the place of
/// the rest or is about to be thrown away. Values that go then tell nobody but by being freed.
unsafe extern "C" fn on_load_aside(
    ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    what: u64,
    _data: *mut c_void,
) {
    // SAFETY: the server passes a context, which lives as long as this call.
    let ctx = unsafe { Ctx::new(ctx) };
    catch_panic("load aside", || {
        state::with(|host| match what {
            raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_STARTED => host.manager.begin_aside(),
            raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_COMPLETED => host.manager.serve_aside(),
            _ => host.manager.drop_aside(),
        });
        [Lock::kind(), Latch::kind()].into_iter().for_each(TypeHandle::end_aside);
        if what == raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_COMPLETED && !has!(RedisModule_AddACLCategory) {
            index_by_database(ctx);
        }
    });
}

/// Notes all leases and ties again: before 7.4 Redis says of every key that is loaded aside that it is in database 0.
fn index_by_database(ctx: Ctx) {
    let exists = |db: &i32| rm!(RedisModule_SelectDb(ctx.as_ptr(), *db)) == OK;
    let in_use = (0..).take_while(exists).filter(|_| rm!(RedisModule_DbSize(ctx.as_ptr())) > 0);
    let in_use: Vec<i32> = in_use.collect();
    if in_use.iter().all(|db| *db == 0) {
        return;
    }
    let names = state::with(|host| host.manager.take_indexed());
    for db in in_use {
        rm!(RedisModule_SelectDb(ctx.as_ptr(), db));
        for name in &names {
            key::touch(ctx, OwnString::new(name).as_str(), |lock| {
                state::with(|host| lock.each_mut(|hold| host.manager.index(db, name, hold)));
            });
        }
    }
}

/// A connection is gone: what was tied to it is looked at soon. A hold without a tie is not concerned.
unsafe extern "C" fn on_client(
    _ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    what: u64,
    data: *mut c_void,
) {
    if what != raw::REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED || data.is_null() {
        return;
    }
    catch_panic("client", || {
        // SAFETY: for this event the server passes this structure.
        let client = unsafe { &*data.cast::<raw::RedisModuleClientInfo>() }.id;
        state::with(|host| host.tell(|manager| manager.connection_closed(client)));
    });
}

unsafe extern "C" fn on_swap(
    _ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    _what: u64,
    data: *mut c_void,
) {
    if data.is_null() {
        return;
    }
    catch_panic("swapdb", || {
        // SAFETY: for this event the server passes this structure.
        let swapped = unsafe { &*data.cast::<raw::RedisModuleSwapDbInfo>() };
        let (first, second) = (swapped.dbnum_first, swapped.dbnum_second);
        state::with(|host| host.tell(|manager| manager.swapped(first, second, clock::now())));
    });
}

unsafe extern "C" fn on_cron(
    ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    _what: u64,
    _data: *mut c_void,
) {
    // SAFETY: the server passes a context, which lives as long as this call.
    let ctx = unsafe { Ctx::new(ctx) };
    catch_panic("cron", || {
        clock::set_by_wall();
        let is_awake = state::with(|host| {
            host.has_run = true;
            host.manager.recovery.leases.age(clock::now());
            host.listeners.forget();
            host.timer.forget_if_late();
            ask_role(host, ctx);
            hearing::look(host);
            host.subscriptions.are_all()
        });
        if !is_awake {
            return;
        }
        journal::tell_broken();
        cluster::check_queues(ctx);
        deferred::check_groups(ctx);
        deferred::check_watched();
        deferred::count_changes(ctx);
        deferred::run(ctx);
    });
}

/// A child was born or died. It may write the AOF anew, as commands for the keys alone; so whatever is no key's is told behind
/// that.
unsafe extern "C" fn on_fork(
    _ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    _what: u64,
    _data: *mut c_void,
) {
    catch_panic("fork", || {
        state::with(|host| {
            host.listeners.forget();
            if host.manager.recovery.tell_again() {
                host.timer.wake_now();
            }
        });
    });
}

/// A replica came or went: somebody may read the stream from here on.
unsafe extern "C" fn on_new_listener(
    _ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    _what: u64,
    _data: *mut c_void,
) {
    catch_panic("listener", || {
        state::with(|host| host.listeners.forget());
    });
}

/// Settings of the server were changed; which ones we ask for is asked anew.
unsafe extern "C" fn on_config(
    ctx: *mut RawCtx,
    _event: raw::RedisModuleEvent,
    _what: u64,
    _data: *mut c_void,
) {
    // SAFETY: the server passes a context, which lives as long as this call.
    let ctx = unsafe { Ctx::new(ctx) };
    catch_panic("config", || {
        config::ask_max_clients(ctx);
        // Our own settings are set while a step has the state, perhaps; the next change will do.
        state::with_unless_ours(|host| {
            host.idle_timeout.is_known = false;
            host.listeners.forget();
        });
    });
}

/// Settings of ours were changed.
pub(super) unsafe extern "C" fn on_own_config(
    _ctx: *mut RawCtx,
    _data: *mut c_void,
    _error: *mut *mut RawStr,
) -> c_int {
    state::with(|host| config::apply_to(&mut host.manager));
    OK
}

/// Begins to listen for RENAME, MOVE and RESTORE, which give a lock another name or a new life.
///
/// Listening costs every DEL and EXPIRE of the server a call, so it begins only when somebody first takes a lock
/// out of the keyspace or restores one; the server does that before it tells of the name.
pub(super) fn watch_moves(host: &mut Host) {
    if host.watches_moves {
        return;
    }
    if let Some(ctx) = host.timer.ctx() {
        let class = raw::REDISMODULE_NOTIFY_GENERIC;
        host.watches_moves =
            rm!(RedisModule_SubscribeToKeyspaceEvents(ctx.as_ptr(), class, Some(on_generic))) == OK;
    }
}

unsafe extern "C" fn on_generic(
    ctx: *mut RawCtx,
    _class: c_int,
    event: *const c_char,
    name: *mut RawStr,
) -> c_int {
    // SAFETY: the server passes a context, which lives as long as this call.
    let ctx = unsafe { Ctx::new(ctx) };
    // SAFETY: the server passes the event's name, which ends with a NUL.
    let event = unsafe { CStr::from_ptr(event) };
    if event == c"rename_to" || event == c"move_to" || event == c"restore" {
        // SAFETY: the server passes the key's name, which lives as long as this call.
        catch_panic("keyspace", || index_again(ctx, unsafe { Str::new(name) }));
    }
    OK
}

/// Notes fences and leases of a lock under its new name.
fn index_again(ctx: Ctx, name: Str) {
    let db = rm!(RedisModule_GetSelectedDb(ctx.as_ptr()));
    key::touch(ctx, name, |lock| {
        state::with_unless_ours(|host| {
            host.tell(|manager| {
                lock.each_mut(|hold| {
                    manager.fences.advance_past(hold.fence);
                    manager.keep_indexed(db, name.as_bytes(), hold);
                });
                manager.recheck_newcomer(db, name.as_bytes(), lock);
            });
        });
    });
}
