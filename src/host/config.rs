//! The settings `lock.*`: registered with the server, readable and writable with CONFIG at run time.

use std::ffi::{c_char, c_int, c_longlong, c_void, CStr};
use std::ptr;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use redis_module::raw;

use super::api::{call, has_flags, rm, Ctx, Part, ServerInfo, OK};
use crate::command::Policy;
use crate::limits;
use crate::primitive::manager::Budget;
use crate::primitive::recovery::Length;
use crate::primitive::wait_queue::Caps;
use crate::primitive::{Lease, LockManager};

/// A number with its range. A switch is one, so that one pair of callbacks serves all of a kind.
struct IntSetting {
    name: &'static CStr,
    value: AtomicI64,
    default: i64,
    min: i64,
    max: i64,
}

impl IntSetting {
    fn get(&self) -> i64 {
        self.value.load(Relaxed)
    }
}

/// Makes a list of settings, and each of them under a name of its own. docs/settings.md and redis.conf.example explain each, and
/// tests see to it.
macro_rules! settings {
    ($list:ident: $($setting:ident = $name:literal, $default:expr, $min:expr, $max:expr;)*) => {
        $(static $setting: IntSetting = IntSetting {
            name: $name,
            value: AtomicI64::new($default),
            default: $default,
            min: $min,
            max: $max,
        };)*
        static $list: &[&IntSetting] = &[$(&$setting),*];
    };
}

settings! { NUMBERS:
    DEFAULT_LEASE = c"default-lease-ms", limits::DEFAULT_LEASE_MS, 1, LEASE_CEILING;
    MAX_LEASE = c"max-lease-ms", limits::MAX_LEASE_MS, 1, LEASE_CEILING;
    MAX_WAIT = c"max-wait-ms", limits::MAX_WAIT_MS, 1, limits::WAIT_MS_CEILING;
    CLAIM = c"claim-ms", limits::CLAIM_MS, 1, limits::CLAIM_MS_CEILING;
    MAX_WAITERS = c"max-waiters", limits::MAX_WAITERS, 0, limits::WAITERS_CEILING;
    MAX_WAITERS_PER_KEY = c"max-waiters-per-key", limits::MAX_WAITERS_PER_KEY, 0, limits::WAITERS_CEILING;
    RESERVED_CLIENTS = c"reserved-clients-percent", limits::RESERVED_CLIENTS_PERCENT, 0, 100;
    MAX_TICKETS = c"max-tickets", limits::MAX_TICKETS, 0, limits::WAITERS_CEILING;
    MAX_MEMORY = c"max-memory-bytes", limits::MAX_MEMORY_BYTES, 0, limits::MEMORY_BYTES_CEILING;
    LOSS_LEDGER_SIZE = c"loss-ledger-size", limits::LOSS_LEDGER_SIZE, 0, limits::LOSS_LEDGER_CEILING;
    LOCK_DELAY = c"lock-delay-ms", limits::LOCK_DELAY_MS, 0, limits::LOCK_DELAY_MS_CEILING;
    MAX_FENCE_AHEAD = c"max-fence-ahead-ms", limits::MAX_FENCE_AHEAD_MS, 0, limits::FENCE_AHEAD_MS_CEILING;
    RECOVERY_WINDOW = c"recovery-window-ms", limits::RECOVERY_WINDOW_MS, limits::RECOVERY_WINDOW_AUTO, LEASE_CEILING;
    RECOVERY_WINDOW_MAX = c"recovery-window-max-ms", limits::RECOVERY_WINDOW_MAX_MS, 1, LEASE_CEILING;
}

settings! { SWITCHES:
    EVENTS = c"events", 1, 0, 1;
    DEADLOCK_DETECTION = c"deadlock-detection", 1, 0, 1;
}

const LEASE_CEILING: i64 = limits::LEASE_MS_MAX as i64;

/// How many clients the server takes, by its own setting `maxclients`.
static MAX_CLIENTS: AtomicI64 = AtomicI64::new(0);

/// Asks the server how many clients it takes; it tells when that changes.
pub(super) fn ask_max_clients(ctx: Ctx) {
    let Some(info) = ServerInfo::ask(ctx, c"clients") else { return };
    let max = info.number(c"maxclients").and_then(|max| i64::try_from(max).ok());
    MAX_CLIENTS.store(max.unwrap_or(i64::MAX), Relaxed);
}

/// Whether the server has each write on its disk before it replies, so that what it loads is all there was. Redis 8.2 with several
/// `io-threads` has not: it replies before, now and then.
pub(super) fn keeps_each_write(ctx: Ctx) -> bool {
    let has = |name, value: &[u8]| server_setting(ctx, name, |text| text == value).unwrap_or(false);
    has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_AOF)
        && has(c"appendfsync", b"always")
        && has(c"no-appendfsync-on-rewrite", b"no")
        && has(c"io-threads", b"1")
}

/// How many replicas there must be for the server to take writes; `None` if it does not tell, since CONFIG has another name.
pub(super) fn min_replicas(ctx: Ctx) -> Option<u64> {
    server_setting(ctx, c"min-replicas-to-write", |text| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// Reads a setting of the server's own; `None` if it has none of this name.
fn server_setting<R>(ctx: Ctx, name: &CStr, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
    let reply = call!(ctx, c"CONFIG", c"cc", c"GET".as_ptr(), name.as_ptr())?;
    reply.root().item(1).and_then(Part::bytes).map(read)
}

/// How many clients may wait, so that those who do not still get in.
fn connections() -> usize {
    let max = MAX_CLIENTS.load(Relaxed).unsigned_abs();
    let left = 100_u64.saturating_sub(RESERVED_CLIENTS.get().unsigned_abs());
    usize::try_from(max.saturating_mul(left) / 100).unwrap_or(0)
}

/// The longest lease that a client may ask for, in ms.
pub(super) fn max_lease_ms() -> i64 {
    MAX_LEASE.get()
}

/// The settings that commands need.
pub(super) fn policy() -> Policy {
    let max_lease_ms = max_lease_ms();
    Policy {
        // A longest lease below the default is the operator's word, too.
        default_lease_ms: DEFAULT_LEASE.get().min(max_lease_ms),
        max_lease_ms,
        max_wait_ms: MAX_WAIT.get(),
        caps: Caps {
            all: usize::try_from(MAX_WAITERS.get()).unwrap_or(0),
            connections: connections(),
            per_key: usize::try_from(MAX_WAITERS_PER_KEY.get()).unwrap_or(0),
            tickets: usize::try_from(MAX_TICKETS.get()).unwrap_or(0),
        },
        finds_deadlocks: DEADLOCK_DETECTION.get() != 0,
    }
}

/// Tells the manager what it needs of it.
pub(super) fn apply_to(manager: &mut LockManager) {
    manager.budget = Budget(usize::try_from(MAX_MEMORY.get()).unwrap_or(0));
    manager.ledger.set_capacity(usize::try_from(LOSS_LEDGER_SIZE.get()).unwrap_or(0));
    manager.fit_ledger();
    manager.lock_delay_ms = LOCK_DELAY.get().unsigned_abs();
    manager.claim_ms = CLAIM.get().unsigned_abs();
}

/// How far ahead of the clock a fence that a client brings may lie, in ms.
pub(super) fn fence_ahead_ms() -> u64 {
    MAX_FENCE_AHEAD.get().unsigned_abs()
}

/// For how long nothing is granted after a failover.
pub(super) fn recovery_window() -> Length {
    match RECOVERY_WINDOW.get() {
        0 => Length::Off,
        limits::RECOVERY_WINDOW_AUTO => Length::Auto {
            least: Lease::ms(DEFAULT_LEASE.get().unsigned_abs()),
            most: Lease::ms(RECOVERY_WINDOW_MAX.get().unsigned_abs()),
        },
        ms => Length::Fixed(Lease::ms(ms.unsigned_abs())),
    }
}

/// Whether to publish keyspace events.
pub(super) fn events() -> bool {
    EVENTS.get() != 0
}

/// Tells the server about the settings and takes the values of its configuration file. It calls `apply` when numbers have changed.
pub(super) fn register(ctx: Ctx, apply: raw::RedisModuleConfigApplyFunc) -> bool {
    let flags = raw::REDISMODULE_CONFIG_DEFAULT;
    let numbers = NUMBERS.iter().all(|number| {
        let data = ptr::from_ref(*number).cast_mut().cast();
        let name = number.name.as_ptr();
        let (get, set) = (Some(get_number as _), Some(set_number as _));
        let IntSetting { default, min, max, .. } = **number;
        rm!(RedisModule_RegisterNumericConfig(
            ctx.as_ptr(),
            name,
            default,
            flags,
            min,
            max,
            get,
            set,
            apply,
            data
        )) == OK
    });
    let switches = SWITCHES.iter().all(|switch| {
        let data = ptr::from_ref(*switch).cast_mut().cast();
        let (name, default) = (switch.name.as_ptr(), switch.default as c_int);
        let (get, set) = (Some(get_switch as _), Some(set_switch as _));
        rm!(RedisModule_RegisterBoolConfig(ctx.as_ptr(), name, default, flags, get, set, None, data)) == OK
    });
    numbers && switches && rm!(RedisModule_LoadConfigs(ctx.as_ptr())) == OK
}

/// The setting behind a pointer of the server.
///
/// # Safety
///
/// It is one that [`register`] gave to the server.
unsafe fn number(data: *mut c_void) -> &'static IntSetting {
    // SAFETY: such a pointer is to a static.
    unsafe { &*data.cast::<IntSetting>() }
}

unsafe extern "C" fn get_number(_name: *const c_char, data: *mut c_void) -> c_longlong {
    // SAFETY: the server passes what it was given.
    unsafe { number(data) }.get()
}

unsafe extern "C" fn set_number(
    _name: *const c_char,
    value: c_longlong,
    data: *mut c_void,
    _error: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: the server passes what it was given.
    unsafe { number(data) }.value.store(value, Relaxed);
    OK
}

unsafe extern "C" fn get_switch(_name: *const c_char, data: *mut c_void) -> c_int {
    // SAFETY: the server passes what it was given.
    c_int::from(unsafe { number(data) }.get() != 0)
}

unsafe extern "C" fn set_switch(
    _name: *const c_char,
    value: c_int,
    data: *mut c_void,
    _error: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: the server passes what it was given.
    unsafe { number(data) }.value.store(i64::from(value), Relaxed);
    OK
}
