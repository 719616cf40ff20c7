//! What the server tells us: role, loads, flushes, swaps, forks, the cron. Nothing is written here; what follows
//! is left for [`deferred`]. Which of it is heard at a time, [`hearing`] decides.

use std::ffi::{c_char, c_int, c_void, CStr};

use redis_module::raw;

use super::api::{bytes, has, has_flags, rm, Ctx, OwnString, RString, OK};
use super::entry::guard;
use super::state::{self, Host};
use super::value::{Kind, Value};
use super::{clock, cluster, config, deferred, hearing, key};
use crate::primitive::latch::Latch;
use crate::primitive::Lock;

type Handler = unsafe extern "C" fn(*mut Ctx, raw::RedisModuleEvent, u64, *mut c_void);

/// An event, and who hears of it.
pub(super) type Listener = (u64, Handler);

/// What is heard also while locks are at rest: nobody could tell later that data were emptied or swapped.
pub(super) const AT_REST: [Listener; 3] = [
    (raw::REDISMODULE_EVENT_CRON_LOOP, on_cron),
    (raw::REDISMODULE_EVENT_FLUSHDB, on_flush),
    (raw::REDISMODULE_EVENT_SWAPDB, on_swap),
];

/// What is heard besides while the module is in use.
pub(super) const IN_USE: [Listener; 6] = [
    (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, on_role),
    (raw::REDISMODULE_EVENT_LOADING, on_loading),
    (raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD, on_load_aside),
    (raw::REDISMODULE_EVENT_FORK_CHILD, on_new_listener),
    (raw::REDISMODULE_EVENT_REPLICA_CHANGE, on_new_listener),
    (raw::REDISMODULE_EVENT_CONFIG, on_config),
];

/// What is heard while something is tied to a connection.
pub(super) const CLIENTS: Listener = (raw::REDISMODULE_EVENT_CLIENT_CHANGE, on_client);

unsafe extern "C" fn on_role(ctx: *mut Ctx, _event: raw::RedisModuleEvent, what: u64, _data: *mut c_void) {
    guard("role", || {
        let is_primary = what == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_MASTER;
        state::with(|host| take_role(host, is_primary));
        deferred::step_down(ctx);
    });
}

fn take_role(host: &mut Host, is_primary: bool) {
    host.listeners.forget();
    host.is_primary = is_primary;
    host.memory.ledger.clear();
    if is_primary {
        if std::mem::take(&mut host.steps_down) {
            host.suspect_all();
        }
        host.suspect_all_ties();
    } else {
        host.steps_down = true;
    }
    host.alarm.soon();
}

/// Asks the server for its role, which may have changed unheard.
pub(super) fn ask_role(host: &mut Host, ctx: *mut Ctx) {
    let is_primary = has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_MASTER);
    if is_primary != host.is_primary {
        let steps_down = host.steps_down && !is_primary;
        take_role(host, is_primary);
        // Nobody waited when it changed, or it would have been heard: who waits now came to a replica.
        host.steps_down = steps_down;
    }
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

/// Asks whether something is being loaded whose beginning was not heard. A replica always hears of it; so who has become one
/// in the meantime loads what its primary sends.
pub(super) fn ask_load(host: &mut Host, ctx: *mut Ctx) {
    const ASIDE: u32 = raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING;
    if has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_LOADING | ASIDE) {
        host.loads_stream = !host.is_primary;
    }
    if has_flags(ctx, ASIDE) && !host.memory.is_aside() {
        host.memory.begin_aside();
    }
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
        let is_awake = state::with(|host| {
            host.listeners.forget();
            host.alarm.forget_if_late();
            ask_role(host, ctx);
            hearing::look(host);
            host.hearing.is_awake()
        });
        if !is_awake {
            return;
        }
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
