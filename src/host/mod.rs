//! The server's side: the only part that knows the module API, clocks and `unsafe`.

mod after_sleep;
mod api;
mod blocked;
mod clock;
mod cluster;
mod config;
mod deferred;
mod elsewhere;
mod entry;
mod events;
mod hearing;
mod info;
mod journal;
mod key;
mod latch_type;
mod lock_type;
mod notify;
mod obey;
mod observe;
mod reach;
mod register;
mod replicate;
mod reply;
mod rights;
mod server_reply;
mod state;
mod step;
mod value;
mod verbs;
mod wake;

use redis_module::raw;
use redis_module::{Context, RedisString, Status};

use crate::command::{
    acquire, check, convert, effect, fence, group, guard, help, info as lock_info, latch, latch_effect,
    observe as lock_await, operate, release, renew, revoke, scan, set_limit, stats, transfer, waiters,
};
use api::{has, has_flags, log, rm, Ctx, OK};

/// Called by the server when the module is loaded.
pub(crate) fn load(context: &Context, args: &[RedisString]) -> Status {
    let result =
        match args {
            [] => set_up(context.ctx),
            _ => Err("it takes no arguments; settings are lock.* in the configuration file or CONFIG SET"
                .to_owned()),
        };
    match result {
        Ok(()) => Status::Ok,
        Err(why) => {
            log(c"warning", &format!("lock: not loaded: {why}"));
            Status::Err
        }
    }
}

fn set_up(ctx: *mut Ctx) -> Result<(), String> {
    if let Some(name) = api::missing() {
        return Err(format!("this server has no {name}; Redis 7.0.12 or Valkey 8.0 is needed"));
    }
    entry::log_panics();
    clock::set_by_wall();
    let step = |done: bool, what: &str| if done { Ok(()) } else { Err(format!("the server refused {what}")) };
    step(lock_type::register(ctx) && latch_type::register(ctx), "a data type")?;
    step(add_category(ctx), "the ACL category")?;
    step(add_commands(ctx), "a command")?;
    step(config::register(ctx), "the settings")?;
    config::ask_max_clients(ctx);
    step(info::register(ctx), "the INFO section")?;
    set_options(ctx);
    log(c"notice", concat!("lock: version ", env!("CARGO_PKG_VERSION")));
    state::with(|host| {
        host.alarm.set_ctx(rm!(RedisModule_GetDetachedThreadSafeContext(ctx)));
        host.is_primary = has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_MASTER);
        host.memory.node = rand::random();
        config::apply_to(&mut host.memory);
        if !host.is_primary {
            hearing::wake_up(host);
        }
    });
    warn_of_eviction(ctx);
    Ok(())
}

/// Makes the category of the commands. One that is there already is taken as it is: a load that failed leaves it behind on
/// Redis 8.
fn add_category(ctx: *mut Ctx) -> bool {
    !has!(RedisModule_AddACLCategory)
        || rm!(RedisModule_AddACLCategory(ctx, register::CATEGORY.as_ptr())) == OK
        || std::io::Error::last_os_error().kind() == std::io::ErrorKind::ResourceBusy
}

fn add_commands(ctx: *mut Ctx) -> bool {
    register::add::<verbs::AcquireVerb>(ctx, &acquire::SPEC)
        && register::add::<verbs::ReleaseVerb>(ctx, &release::SPEC)
        && register::add::<verbs::RenewVerb>(ctx, &renew::SPEC)
        && register::add::<verbs::CheckVerb>(ctx, &check::SPEC)
        && register::add::<verbs::ConvertVerb>(ctx, &convert::SPEC)
        && register::add::<verbs::SetLimitVerb>(ctx, &set_limit::SPEC)
        && register::add::<verbs::AcquireAllVerb>(ctx, &group::ACQUIRE)
        && register::add::<verbs::ReleaseAllVerb>(ctx, &group::RELEASE)
        && register::add::<verbs::RenewAllVerb>(ctx, &group::RENEW)
        && register::add::<verbs::GuardVerb>(ctx, &guard::SPEC)
        && register::add::<verbs::FenceVerb>(ctx, &fence::SPEC)
        && register::add::<verbs::TransferVerb>(ctx, &transfer::SPEC)
        && register::add::<verbs::CancelVerb>(ctx, &operate::CANCEL)
        && register::add::<verbs::BreakVerb>(ctx, &operate::BREAK)
        && register::add::<verbs::StealVerb>(ctx, &operate::STEAL)
        && register::add::<verbs::ObserveVerb>(ctx, &lock_await::SPEC)
        && register::add::<verbs::RevokeVerb>(ctx, &revoke::SPEC)
        && register::add::<verbs::InfoVerb>(ctx, &lock_info::SPEC)
        && register::add::<verbs::WaitersVerb>(ctx, &waiters::SPEC)
        && register::add::<verbs::ScanVerb>(ctx, &scan::SPEC)
        && register::add::<verbs::StatsVerb>(ctx, &stats::SPEC)
        && register::add::<verbs::SetLatchVerb>(ctx, &latch::SET)
        && register::add::<verbs::CountDownVerb>(ctx, &latch::DOWN)
        && register::add::<verbs::AwaitLatchVerb>(ctx, &latch::AWAIT)
        && register::add::<verbs::LatchInfoVerb>(ctx, &latch::INFO)
        && register::add::<verbs::HelpVerb>(ctx, &help::SPEC)
        && register::add::<obey::HoldVerb>(ctx, &effect::HOLD)
        && register::add::<obey::RenewVerb>(ctx, &effect::changes::RENEW)
        && register::add::<obey::EnterVerb>(ctx, &effect::changes::ENTER)
        && register::add::<obey::LeaveVerb>(ctx, &effect::changes::LEAVE)
        && register::add::<obey::BoundsVerb>(ctx, &effect::bounds::BOUNDS)
        && register::add::<obey::CoolVerb>(ctx, &effect::bounds::COOL)
        && register::add::<obey::FreeVerb>(ctx, &effect::FREE)
        && register::add::<obey::LimitVerb>(ctx, &effect::LIMIT)
        && register::add::<obey::StepVerb>(ctx, &effect::step::STEP)
        && register::add::<obey::SetLatchVerb>(ctx, &latch_effect::SET)
        && register::add::<obey::CountDownVerb>(ctx, &latch_effect::DOWN)
}

/// Options of the whole module; the call replaces what was set before.
fn set_options(ctx: *mut Ctx) {
    /// Loading checks for errors, so a replica may load from the socket.
    const HANDLE_IO_ERRORS: i32 = 1 << 0;
    /// WATCH and client caches are told by us, when the holder changes and not at each renewal.
    const NO_IMPLICIT_SIGNAL_MODIFIED: i32 = 1 << 1;
    /// Locks that are loaded beside those that are served have an index of their own until they are served.
    const HANDLE_REPL_ASYNC_LOAD: i32 = 1 << 2;
    /// Locks may move with their slot in Valkey's atomic migration.
    const HANDLE_ATOMIC_SLOT_MIGRATION: i32 = 1 << 5;
    let offered =
        if has!(RedisModule_GetModuleOptionsAll) { rm!(RedisModule_GetModuleOptionsAll()) } else { 0 };
    let always = HANDLE_IO_ERRORS | NO_IMPLICIT_SIGNAL_MODIFIED | HANDLE_REPL_ASYNC_LOAD;
    let options = always | (offered & HANDLE_ATOMIC_SLOT_MIGRATION);
    rm!(RedisModule_SetModuleOptions(ctx, options));
}

fn warn_of_eviction(ctx: *mut Ctx) {
    if has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_EVICT) {
        log(c"warning", "lock: maxmemory-policy may evict locks; use noeviction, or a server of their own");
    }
}
