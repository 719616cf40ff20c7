//! What the server tells us: role, loads, flushes, swaps, forks, the cron. Nothing is written here; what follows
//! is left for [`deferred`].
//!
//! The server looks through all listeners twice in each turn of its loop, whatever they listen for, and all its clients
//! pay for that. So the most are asked for only when the module has something to hear of. To ask is safe at any time, also
//! inside an event; to give up is not (see [`after_sleep`](super::after_sleep)).

use std::ffi::{c_char, c_int, c_void, CStr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use redis_module::raw;

use super::api::{bytes, has, has_flags, log, rm, Ctx, OwnString, RString, OK};
use super::entry::guard;
use super::state::{self, Host};
use super::value::{Kind, Value};
use super::{clock, cluster, config, deferred, key};
use crate::primitive::latch::Latch;
use crate::primitive::Lock;

type Handler = unsafe extern "C" fn(*mut Ctx, raw::RedisModuleEvent, u64, *mut c_void);

/// Asks for the events that are needed from the start.
pub(super) fn subscribe(ctx: *mut Ctx) -> bool {
    let wanted: [(u64, Handler); 3] = [
        (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, on_role),
        (raw::REDISMODULE_EVENT_LOADING, on_loading),
        (raw::REDISMODULE_EVENT_CRON_LOOP, on_cron),
    ];
    wanted.into_iter().all(|(id, handler)| listen(ctx, id, Some(handler)))
}

/// Hears of loads beside the data that is served, from when this server is a replica; no other loads so.
pub(super) fn hear_of_loads_aside(host: &mut Host, ctx: *mut Ctx) {
    if !host.is_primary && !host.hears_of_loads_aside {
        host.hears_of_loads_aside = listen(ctx, raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD, Some(on_load_aside));
    }
}

/// Whether the module has been used, and hears of what concerns those who use it.
static IS_IN_USE: AtomicBool = AtomicBool::new(false);

/// Somebody uses the module: a command of ours runs, or a lock has come that is to be remembered outside its key. Before
/// that there is nothing that a flush, a swap or a new reader of the stream could change.
#[inline]
pub(super) fn use_begins(ctx: *mut Ctx) {
    if !IS_IN_USE.load(Relaxed) {
        hear_of_the_rest(ctx);
    }
}

#[cold]
fn hear_of_the_rest(ctx: *mut Ctx) {
    let wanted: [(u64, Handler); 5] = [
        (raw::REDISMODULE_EVENT_FLUSHDB, on_flush),
        (raw::REDISMODULE_EVENT_SWAPDB, on_swap),
        (raw::REDISMODULE_EVENT_FORK_CHILD, on_new_listener),
        (raw::REDISMODULE_EVENT_REPLICA_CHANGE, on_new_listener),
        (raw::REDISMODULE_EVENT_CONFIG, on_config),
    ];
    let all = wanted.into_iter().all(|(id, handler)| listen(ctx, id, Some(handler)));
    if !all {
        log(c"warning", "lock: the server refused an event; asked again with the next command");
    }
    IS_IN_USE.store(all, Relaxed);
    config::ask_max_clients(ctx);
}

fn listen(ctx: *mut Ctx, id: u64, callback: Option<Handler>) -> bool {
    let event = raw::RedisModuleEvent { id, dataver: 1 };
    rm!(RedisModule_SubscribeToServerEvent(ctx, event, callback)) == OK
}

/// Hears of clients that go, if something is tied to one. To be called when a step is over, and before deferred work, which
/// looks at all ties that came in another way.
#[inline]
pub(super) fn hear_of_clients(host: &mut Host, ctx: *mut Ctx) {
    if !host.hears_of_clients && host.memory.ties.len() > 0 {
        host.hears_of_clients = listen(ctx, raw::REDISMODULE_EVENT_CLIENT_CHANGE, Some(on_client));
    }
}

/// Hears no more of them when nothing is tied. Only from a timer.
pub(super) fn stop_hearing_of_clients(host: &mut Host, ctx: *mut Ctx) {
    if host.hears_of_clients && host.memory.ties.len() == 0 {
        host.hears_of_clients = !listen(ctx, raw::REDISMODULE_EVENT_CLIENT_CHANGE, None);
    }
}

unsafe extern "C" fn on_role(ctx: *mut Ctx, _event: raw::RedisModuleEvent, what: u64, _data: *mut c_void) {
    guard("role", || {
        state::with(|host| {
            host.listeners.forget();
            host.is_primary = what == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_MASTER;
            host.memory.ledger.clear();
            if host.is_primary {
                if std::mem::take(&mut host.steps_down) {
                    host.suspect_all();
                }
                host.suspect_all_ties();
                host.alarm.soon();
            } else {
                host.steps_down = true;
                hear_of_loads_aside(host, ctx);
            }
        });
        deferred::step_down(ctx);
    });
}

unsafe extern "C" fn on_flush(_ctx: *mut Ctx, _event: raw::RedisModuleEvent, what: u64, data: *mut c_void) {
    if what != raw::REDISMODULE_SUBEVENT_FLUSHDB_END || data.is_null() {
        return;
    }
    guard("flush", || {
        // SAFETY: for this event the server passes this structure.
        let flushed = unsafe { &*data.cast::<raw::RedisModuleFlushInfo>() }.dbnum;
        state::with(|host| {
            let db = (flushed >= 0).then_some(flushed);
            let (leases, ties) = (host.memory.leases.clear(db), host.memory.ties.clear(db));
            host.memory.ledger.flush(db, clock::now());
            host.leave_behind(leases.chain(ties));
            host.suspect_all();
        });
    });
}

unsafe extern "C" fn on_loading(
    _ctx: *mut Ctx,
    _event: raw::RedisModuleEvent,
    what: u64,
    _data: *mut c_void,
) {
    guard("loading", || {
        clock::set_by_wall();
        state::with(|host| {
            host.listeners.forget();
            host.loads_stream = what == raw::REDISMODULE_SUBEVENT_LOADING_REPL_START;
            if matches!(
                what,
                raw::REDISMODULE_SUBEVENT_LOADING_ENDED | raw::REDISMODULE_SUBEVENT_LOADING_FAILED
            ) {
                host.suspect_all();
                host.suspect_all_ties();
            }
        });
    });
}

/// A replica loads beside the data that it serves: before the first key, and when what was loaded has taken the place of
/// the rest or is about to be thrown away. Values that go then tell nobody but by being freed.
unsafe extern "C" fn on_load_aside(
    ctx: *mut Ctx,
    _event: raw::RedisModuleEvent,
    what: u64,
    _data: *mut c_void,
) {
    guard("load aside", || {
        state::with(|host| match what {
            raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_STARTED => host.memory.begin_aside(),
            raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_COMPLETED => host.memory.serve_aside(),
            _ => host.memory.drop_aside(),
        });
        [Lock::kind(), Latch::kind()].into_iter().for_each(Kind::end_aside);
        if what == raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_COMPLETED && !has!(RedisModule_AddACLCategory) {
            index_by_database(ctx);
        }
    });
}

/// Notes all leases and ties again: before 7.4 Redis says of every key that is loaded aside that it is in database 0.
fn index_by_database(ctx: *mut Ctx) {
    let exists = |db: &i32| rm!(RedisModule_SelectDb(ctx, *db)) == OK;
    let in_use = (0..).take_while(exists).filter(|_| rm!(RedisModule_DbSize(ctx)) > 0);
    let in_use: Vec<i32> = in_use.collect();
    if in_use.iter().all(|db| *db == 0) {
        return;
    }
    let names = state::with(|host| host.memory.take_indexed());
    for db in in_use {
        rm!(RedisModule_SelectDb(ctx, db));
        for name in &names {
            key::touch(ctx, OwnString::new(name).as_ptr(), |lock| {
                state::with(|host| lock.each_mut(|hold| host.memory.index(db, name, hold)));
            });
        }
    }
}

/// A connection is gone: what was tied to it is looked at soon.
unsafe extern "C" fn on_client(_ctx: *mut Ctx, _event: raw::RedisModuleEvent, what: u64, data: *mut c_void) {
    if what != raw::REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED || data.is_null() {
        return;
    }
    guard("client", || {
        // SAFETY: for this event the server passes this structure.
        let client = unsafe { &*data.cast::<raw::RedisModuleClientInfo>() }.id;
        state::with(|host| host.suspect_ties(client));
    });
}

unsafe extern "C" fn on_swap(_ctx: *mut Ctx, _event: raw::RedisModuleEvent, _what: u64, data: *mut c_void) {
    if data.is_null() {
        return;
    }
    guard("swapdb", || {
        // SAFETY: for this event the server passes this structure.
        let swapped = unsafe { &*data.cast::<raw::RedisModuleSwapDbInfo>() };
        let (first, second) = (swapped.dbnum_first, swapped.dbnum_second);
        state::with(|host| {
            host.memory.leases.swap(first, second);
            host.memory.ties.swap(first, second);
            [first, second].iter().for_each(|db| host.memory.ledger.flush(Some(*db), clock::now()));
            host.swap_grants(first, second);
            host.suspect_all();
            // Whoever was found to be gone is looked for in the other database by now.
            host.suspect_all_ties();
        });
    });
}

unsafe extern "C" fn on_cron(ctx: *mut Ctx, _event: raw::RedisModuleEvent, _what: u64, _data: *mut c_void) {
    guard("cron", || {
        clock::set_by_wall();
        let is_primary = has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_MASTER);
        state::with(|host| {
            host.listeners.forget();
            host.is_primary = is_primary;
            hear_of_loads_aside(host, ctx);
            host.alarm.forget_if_late();
            if host.hears_of_clients && host.memory.ties.len() == 0 {
                host.alarm.soon();
            }
        });
        cluster::check_queues(ctx);
        deferred::check_groups(ctx);
        deferred::check_watched();
        deferred::count_changes(ctx);
        deferred::run(ctx);
    });
}

/// A child was born or died, a replica came or went: somebody may read the stream from here on.
unsafe extern "C" fn on_new_listener(
    _ctx: *mut Ctx,
    _event: raw::RedisModuleEvent,
    _what: u64,
    _data: *mut c_void,
) {
    guard("listener", || {
        state::with(|host| host.listeners.forget());
    });
}

/// Settings of the server were changed; which ones we ask for is asked anew.
unsafe extern "C" fn on_config(ctx: *mut Ctx, _event: raw::RedisModuleEvent, _what: u64, _data: *mut c_void) {
    guard("config", || {
        config::ask_max_clients(ctx);
        // Our own settings are set while a step has the state, perhaps; the next change will do.
        state::with_unless_ours(|host| host.idle_timeout.is_known = false);
    });
}

/// Begins to listen for RENAME, MOVE and RESTORE, which give a lock another name or a new life.
///
/// Listening costs every DEL and EXPIRE of the server a call, so it begins only when somebody first takes a lock
/// out of the keyspace or restores one; the server does that before it tells of the name.
pub(super) fn watch_moves(host: &mut Host) {
    if host.watches_moves {
        return;
    }
    if let Some(ctx) = host.alarm.ctx() {
        use_begins(ctx);
        let class = raw::REDISMODULE_NOTIFY_GENERIC;
        host.watches_moves = rm!(RedisModule_SubscribeToKeyspaceEvents(ctx, class, Some(on_generic))) == OK;
    }
}

unsafe extern "C" fn on_generic(
    ctx: *mut Ctx,
    _class: c_int,
    event: *const c_char,
    name: *mut RString,
) -> c_int {
    // SAFETY: the server passes the event's name, which ends with a NUL.
    let event = unsafe { CStr::from_ptr(event) };
    if event == c"rename_to" || event == c"move_to" || event == c"restore" {
        guard("keyspace", || index_again(ctx, name));
    }
    OK
}

/// Notes fences and leases of a lock under its new name.
fn index_again(ctx: *mut Ctx, name: *mut RString) {
    let db = rm!(RedisModule_GetSelectedDb(ctx));
    key::touch(ctx, name, |lock| {
        state::with_unless_ours(|host| {
            lock.each_mut(|hold| {
                host.memory.fences.fold(hold.fence);
                host.memory.keep_indexed(db, bytes(name), hold);
            });
            host.suspect_newcomer(db, bytes(name), lock);
            if let Some(deadline) = host.memory.take_soonest() {
                host.alarm.by(deadline);
            }
        });
    });
}
