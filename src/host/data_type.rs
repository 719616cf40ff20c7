//! The lock as a data type of the server: loading, saving, rewriting, freeing, and noticing when somebody else
//! takes a lock out of the keyspace.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use redis_module::raw;

use super::api::{bytes, has_flags, rm, Ctx, Io, RString, ERR, OK};
use super::entry::guard;
use super::{clock, events, replicate, state};
use crate::command::effect::HoldEffect;
use crate::primitive::codec::{self, Source};
use crate::primitive::{End, Fence, Hold, Lock};

/// Nine characters, as the server asks; it stands in RDB files and in TYPE.
const NAME: &std::ffi::CStr = c"redislock";
/// Version of the outer encoding; the bytes inside carry their own.
const ENCODING: c_int = 1;
/// What the server spends on a key apart from the value, roughly: entry, name, object and type pointer.
const OWNER_HEADER_BYTES: usize = 16;

static TYPE: AtomicPtr<raw::RedisModuleType> = AtomicPtr::new(ptr::null_mut());
/// Values alive, counted here because they may be freed on another thread.
static VALUES: AtomicUsize = AtomicUsize::new(0);

/// The type, as the server knows it.
#[inline]
pub(super) fn lock_type() -> *mut raw::RedisModuleType {
    TYPE.load(Relaxed)
}

/// How many locks there are in the keyspace.
pub(super) fn count() -> usize {
    VALUES.load(Relaxed)
}

/// The lock as a value that the keyspace can own.
pub(super) fn into_value(lock: Lock) -> *mut Lock {
    VALUES.fetch_add(1, Relaxed);
    Box::into_raw(Box::new(lock))
}

/// Tells the server about the type.
pub(super) fn register(ctx: *mut Ctx) -> bool {
    let mut methods = raw::RedisModuleTypeMethods {
        version: u64::from(raw::REDISMODULE_TYPE_METHOD_VERSION),
        rdb_load: Some(rdb_load),
        rdb_save: Some(rdb_save),
        aof_rewrite: Some(aof_rewrite),
        mem_usage: Some(mem_usage),
        digest: Some(digest),
        free: Some(free),
        aux_load: Some(aux_load),
        aux_save: Some(aux_save),
        aux_save_triggers: raw::REDISMODULE_AUX_BEFORE_RDB as c_int,
        // A value is small, so the server may free it at once.
        free_effort: None,
        // `unlink2` also says which key it was.
        unlink: None,
        // A lock must not be copied: there would be two holders.
        copy: None,
        copy2: None,
        defrag: Some(defrag),
        mem_usage2: None,
        free_effort2: None,
        unlink2: Some(unlink),
        aux_save2: Some(aux_save),
    };
    let made = rm!(RedisModule_CreateDataType(ctx, NAME.as_ptr(), ENCODING, &mut methods));
    TYPE.store(made, Relaxed);
    !made.is_null()
}

/// The value behind a pointer of the server.
fn lock<'a>(value: *const c_void) -> &'a Lock {
    // SAFETY: the server only passes values that `into_value` made, while they live.
    unsafe { &*value.cast::<Lock>() }
}

unsafe extern "C" fn rdb_load(io: *mut Io, encoding: c_int) -> *mut c_void {
    let load = || {
        if encoding != ENCODING {
            return None;
        }
        let mut len = 0;
        let buffer = rm!(RedisModule_LoadStringBuffer(io, &mut len));
        if buffer.is_null() || rm!(RedisModule_IsIOError(io)) != 0 {
            return None;
        }
        // SAFETY: the server gave a buffer of this length, which is ours until it is freed below.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), len) };
        let decoded = codec::decode(bytes, source(io), clock::read());
        rm!(RedisModule_Free(buffer.cast()));
        let mut lock = decoded?;
        remember(io, &mut lock);
        Some(into_value(lock).cast())
    };
    guard("rdb_load", || load().map(Some)).flatten().unwrap_or(ptr::null_mut())
}

/// Who speaks: a load from this server's disk or from its primary, or a client with a RESTORE.
fn source(io: *mut Io) -> Source {
    let loading = raw::REDISMODULE_CTX_FLAGS_LOADING | raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING;
    if !has_flags(rm!(RedisModule_GetContextFromIO(io)), loading) {
        Source::Payload
    } else if state::with(|host| host.loads_stream) {
        Source::Primary
    } else {
        Source::File
    }
}

/// Notes fences and leases of a lock that comes from a file or a full sync. A single RESTORE may still be refused
/// after this, so its lock is noted when the server tells that the key is there.
fn remember(io: *mut Io, lock: &mut Lock) {
    let is_loading = source(io) != Source::Payload;
    let name = rm!(RedisModule_GetKeyNameFromIO(io));
    let db = rm!(RedisModule_GetDbIdFromIO(io));
    state::with(|host| {
        if !is_loading || name.is_null() {
            events::watch_moves(host);
            return;
        }
        for hold in lock.holds_mut() {
            host.memory.fences.fold(hold.fence);
            host.memory.index(db, bytes(name), hold);
        }
        if let Some(deadline) = host.memory.take_soonest() {
            host.alarm.by(deadline);
        }
    });
}

unsafe extern "C" fn rdb_save(io: *mut Io, value: *mut c_void) {
    guard("rdb_save", || {
        let bytes = codec::encode(lock(value), clock::read());
        rm!(RedisModule_SaveStringBuffer(io, bytes.as_ptr().cast(), bytes.len()));
    });
}

unsafe extern "C" fn aof_rewrite(io: *mut Io, key: *mut RString, value: *mut c_void) {
    guard("aof_rewrite", || {
        let (lock, clock) = (lock(value), clock::read());
        for hold in lock.holds() {
            replicate::rewrite_hold(io, key, HoldEffect::of(hold, clock));
        }
    });
}

unsafe extern "C" fn mem_usage(value: *const c_void) -> usize {
    let holds = lock(value).holds();
    let inline = size_of::<Lock>();
    let beyond = holds.len().saturating_sub(1) * size_of_val(holds) / holds.len().max(1);
    let texts: usize = holds.iter().map(|hold| hold.owner.as_bytes().len() + extra_bytes(hold)).sum();
    inline + beyond + texts + OWNER_HEADER_BYTES
}

fn extra_bytes(hold: &Hold) -> usize {
    let Some(extra) = &hold.extra else { return 0 };
    let ids = extra.entries.ids();
    size_of_val(&**extra) + extra.note.len() + size_of_val(ids) + ids.iter().map(|id| id.len()).sum::<usize>()
}

/// What two servers with the same data agree on: no deadlines, as clocks differ.
unsafe extern "C" fn digest(digest: *mut raw::RedisModuleDigest, value: *mut c_void) {
    guard("digest", || {
        let lock = lock(value);
        rm!(RedisModule_DigestAddLongLong(digest, i64::from(lock.limit())));
        for hold in lock.holds() {
            for text in [hold.owner.as_bytes(), hold.note()] {
                rm!(RedisModule_DigestAddStringBuffer(digest, text.as_ptr().cast(), text.len()));
            }
            let numbers = [
                i64::from(hold.claim.permits),
                hold.fence.to_wire(),
                hold.lease.to_wire(),
                i64::from(hold.keys()),
            ];
            for n in numbers {
                rm!(RedisModule_DigestAddLongLong(digest, n));
            }
            for id in hold.entries().ids() {
                rm!(RedisModule_DigestAddStringBuffer(digest, id.as_ptr().cast(), id.len()));
            }
        }
        rm!(RedisModule_DigestEndSequence(digest));
    });
}

/// May run on another thread: touches nothing but the value and the counter.
unsafe extern "C" fn free(value: *mut c_void) {
    VALUES.fetch_sub(1, Relaxed);
    // SAFETY: the server gives a value back once, and `into_value` made it from a box.
    drop(unsafe { Box::from_raw(value.cast::<Lock>()) });
}

/// The value leaves its key: deleted, overwritten, evicted, renamed or moved. What we delete ourselves comes by
/// here as well, while our own step has the state.
unsafe extern "C" fn unlink(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) {
    guard("unlink", || {
        let name = rm!(RedisModule_GetKeyNameFromOptCtx(ctx));
        let db = rm!(RedisModule_GetDbIdFromOptCtx(ctx));
        state::with_unless_ours(|host| {
            let now = clock::now();
            let key = if name.is_null() { &[][..] } else { bytes(name) };
            for hold in lock(value).holds() {
                host.memory.leases.remove(db, hold);
                host.memory.forget(hold.fence);
                if hold.is_live(now) {
                    host.memory.stats.vanished += 1;
                    host.memory.ledger.record(db, key, &hold.owner, hold.fence, End::Vanished, now);
                }
            }
            host.suspect(db, key);
            events::watch_moves(host);
        });
    });
}

/// Moves the value to a better place in memory.
unsafe extern "C" fn defrag(
    ctx: *mut raw::RedisModuleDefragCtx,
    _key: *mut RString,
    value: *mut *mut c_void,
) -> c_int {
    // SAFETY: the server passes the place where it keeps the pointer to the value.
    let old = unsafe { *value };
    let new = rm!(RedisModule_DefragAlloc(ctx, old));
    if !new.is_null() {
        // SAFETY: as above; the server has moved the allocation, and nobody else keeps a pointer to it.
        unsafe { *value = new };
    }
    0
}

/// The newest fence goes along with the data, so that a restart cannot repeat one of a lock that was free.
unsafe extern "C" fn aux_save(io: *mut Io, _when: c_int) {
    guard("aux_save", || {
        let last = state::with(|host| host.memory.fences.last());
        if last > 0 || !super::api::has!(RedisModule_AddPostNotificationJob) {
            rm!(RedisModule_SaveUnsigned(io, last));
        }
    });
}

unsafe extern "C" fn aux_load(io: *mut Io, encoding: c_int, _when: c_int) -> c_int {
    let done = guard("aux_load", || {
        let last = rm!(RedisModule_LoadUnsigned(io));
        if encoding != ENCODING || rm!(RedisModule_IsIOError(io)) != 0 {
            return false;
        }
        if let Some(fence) = Fence::new(last) {
            state::with(|host| host.memory.fences.fold(fence));
        }
        true
    });
    if done {
        OK
    } else {
        ERR
    }
}
