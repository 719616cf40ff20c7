//! The methods that all types of this module have: loading, saving, rewriting, measuring, freeing, moving.

#![expect(clippy::arithmetic_side_effects, reason = "sizes of what is in memory")]

use std::ffi::{c_int, c_void};
use std::ptr;

use redis_module::raw;

use super::api::{has_flags, log, rm, Ctx, Digest, Io, KeyOpt, RawStr, Str};
use super::panics::catch_panic;
use super::value::{Value, ENCODING, FIRST_ENCODING};
use super::{clock, config, hearing, state};
use crate::error::Quoted;
use crate::primitive::codec::Source;

/// The server's record of a value: a pointer to its type and one to the value.
const OWNER_HEADER_BYTES: usize = 16;

/// Tells the server about the type; `change` adds what only this one has.
pub(super) fn register<V: Value>(ctx: Ctx, change: impl FnOnce(&mut raw::RedisModuleTypeMethods)) -> bool {
    let mut methods = raw::RedisModuleTypeMethods {
        version: u64::from(raw::REDISMODULE_TYPE_METHOD_VERSION),
        rdb_load: Some(rdb_load::<V>),
        rdb_save: Some(rdb_save::<V>),
        aof_rewrite: Some(aof_rewrite::<V>),
        mem_usage: None,
        digest: Some(digest::<V>),
        free: Some(free::<V>),
        aux_load: None,
        aux_save: None,
        aux_save_triggers: 0,
        free_effort: Some(free_effort::<V>),
        unlink: None,
        // No type of this module can be copied: there would be two of what must be one.
        copy: None,
        copy2: None,
        defrag: Some(defrag),
        mem_usage2: Some(mem_usage::<V>),
        free_effort2: None,
        unlink2: None,
        aux_save2: None,
    };
    change(&mut methods);
    V::kind().data_type.register(ctx, ENCODING, methods)
}

/// The value behind a pointer of the server.
///
/// # Safety
///
/// `into_keyspace` made it from a `V`, and it lives, and nobody changes it, during `'a`.
pub(super) unsafe fn behind<'a, V: Value>(value: *const c_void) -> &'a V {
    // SAFETY: by the word of the caller.
    unsafe { &*value.cast::<V>() }
}

unsafe extern "C" fn rdb_load<V: Value>(io: *mut raw::RedisModuleIO, encoding: c_int) -> *mut c_void {
    // SAFETY: the server passes the file, which lives as long as this call.
    let io = unsafe { Io::new(io) };
    let load = || {
        // Now and not when the load is over: one that fails is flushed before the server says so.
        state::with(hearing::wake_up);
        if !(FIRST_ENCODING..=ENCODING).contains(&encoding) {
            return None;
        }
        let decoded = with_text(io, |bytes| V::decode(bytes, source(io), clock::read()))?;
        let Some((mut value, left_out)) = decoded else {
            log_unsound(
                io,
                "cannot be read, or has a fence that lies further ahead than lock.max-fence-ahead-ms",
            );
            return None;
        };
        if left_out > 0 {
            log_unsound(
                io,
                &format!("was loaded without {left_out} of its holds, which cannot stand beside the others"),
            );
        }
        value.loaded(io);
        if is_load(io) && state::with(|host| host.manager.is_aside()) {
            V::kind().note_aside();
        }
        Some(value.into_keyspace().as_ptr().cast())
    };
    catch_panic("rdb_load", || load().map(Some)).flatten().unwrap_or(ptr::null_mut())
}

/// Reads the next text of a file; `None` if the file ends.
pub(super) fn with_text<R>(io: Io, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
    let mut len = 0;
    let buffer = rm!(RedisModule_LoadStringBuffer(io.as_ptr(), &raw mut len));
    if buffer.is_null() || rm!(RedisModule_IsIOError(io.as_ptr())) != 0 {
        return None;
    }
    // SAFETY: the server gave a buffer of this length, which is ours until it is freed below.
    let result = read(unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), len) });
    rm!(RedisModule_Free(buffer.cast()));
    Some(result)
}

/// Tells the operator which value broke a rule.
#[cold]
fn log_unsound(io: Io, what: &str) {
    let name = io.key_name().map_or(&[][..], Str::as_bytes);
    log(c"warning", &format!("lock: the value of key {} {what}", Quoted(name)));
}

/// Whether a file or a full sync is being loaded, and not a single RESTORE.
pub(super) fn is_load(io: Io) -> bool {
    const LOADING: u32 = raw::REDISMODULE_CTX_FLAGS_LOADING | raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING;
    has_flags(io.ctx(), LOADING)
}

/// The source of a value: a load from this server's disk or from its primary, or a client with a RESTORE. A value that
/// a replica restores has been judged by its primary, and by that one's clock.
pub(super) fn source(io: Io) -> Source {
    if !is_load(io) {
        let is_primary = state::with_unless_ours(|host| host.is_primary).unwrap_or(true);
        return if is_primary {
            Source::Payload { ahead_ms: config::fence_ahead_ms() }
        } else {
            Source::Primary
        };
    }
    if state::with(|host| host.loads_stream) {
        Source::Primary
    } else {
        Source::File
    }
}

unsafe extern "C" fn rdb_save<V: Value>(io: *mut raw::RedisModuleIO, value: *mut c_void) {
    // SAFETY: the server passes the file, which lives as long as this call.
    let io = unsafe { Io::new(io) };
    // SAFETY: the server passes a value of this type, which lives and stays as it is as long as this call.
    let value = unsafe { behind::<V>(value) };
    catch_panic("rdb_save", || {
        let bytes = value.encode(clock::read());
        rm!(RedisModule_SaveStringBuffer(io.as_ptr(), bytes.as_ptr().cast(), bytes.len()));
    });
}

unsafe extern "C" fn aof_rewrite<V: Value>(
    io: *mut raw::RedisModuleIO,
    key: *mut RawStr,
    value: *mut c_void,
) {
    // SAFETY: the server passes the file, which lives as long as this call.
    let io = unsafe { Io::new(io) };
    // SAFETY: the server passes the key's name, which lives as long as this call.
    let key = unsafe { Str::new(key) };
    // SAFETY: the server passes a value of this type, which lives and stays as it is as long as this call.
    let value = unsafe { behind::<V>(value) };
    catch_panic("aof_rewrite", || value.rewrite(io, key));
}

unsafe extern "C" fn mem_usage<V: Value>(
    ctx: *mut raw::RedisModuleKeyOptCtx,
    value: *const c_void,
    _samples: usize,
) -> usize {
    // SAFETY: the server passes a value of this type, which lives and stays as it is as long as this call.
    let value = unsafe { behind::<V>(value) };
    // SAFETY: the server passes what it says, which lives as long as this call.
    let name = unsafe { KeyOpt::new(ctx) }.key_name();
    let name_len = name.map_or(0, |name| name.as_bytes().len());
    size_of::<V>() + value.bytes_beyond() + value.bytes_in_indexes(name_len) + OWNER_HEADER_BYTES
}

unsafe extern "C" fn free_effort<V: Value>(_key: *mut RawStr, value: *const c_void) -> usize {
    // SAFETY: the server passes a value of this type, which lives and stays as it is as long as this call.
    unsafe { behind::<V>(value) }.effort()
}

unsafe extern "C" fn digest<V: Value>(digest: *mut raw::RedisModuleDigest, value: *mut c_void) {
    // SAFETY: the server passes the digest, which lives as long as this call.
    let digest = unsafe { Digest::new(digest) };
    // SAFETY: the server passes a value of this type, which lives and stays as it is as long as this call.
    let value = unsafe { behind::<V>(value) };
    catch_panic("digest", || {
        value.digest(digest);
        rm!(RedisModule_DigestEndSequence(digest.as_ptr()));
    });
}

/// May run on another thread: touches nothing but the value and the counter.
unsafe extern "C" fn free<V: Value>(value: *mut c_void) {
    V::kind().note_freed();
    // SAFETY: the server gives a value back once, and `into_keyspace` made it from a box.
    drop(unsafe { Box::from_raw(value.cast::<V>()) });
}

/// Moves the value to a better place in memory.
unsafe extern "C" fn defrag(
    ctx: *mut raw::RedisModuleDefragCtx,
    _key: *mut RawStr,
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
