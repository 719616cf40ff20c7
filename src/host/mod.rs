//! The server's side: the only part that knows the module API, clocks and `unsafe`.

mod after_sleep;
mod api;
mod blocked;
mod blocking;
mod change;
mod clock;
mod cluster;
mod commit;
mod config;
mod deferred;
mod elsewhere;
mod events;
mod failed_waits;
mod handler;
mod handover;
mod hearing;
mod info;
mod internal_commands;
mod journal;
mod key;
mod keyspace;
mod latch_type;
mod lock_type;
mod notify;
mod observe;
mod panics;
mod register;
mod replicate;
mod reply;
mod rights;
mod role;
mod slot_scope;
mod state;
mod subscriptions;
mod ticks;
mod type_methods;
mod value;
pub(crate) mod verbs;
mod wake_timer;

use redis_module::raw;
use redis_module::{Context, RedisString, Status};

use api::{has_flags, log, rm, rm_if_there, Ctx, OK};

/// Called by the server when the module is loaded.
pub(crate) fn load(context: &Context, args: &[RedisString]) -> Status {
    let result =
        match args {
            // SAFETY: the server's context, which lives until the module is loaded.
            [] => set_up(unsafe { Ctx::new(context.ctx) }),
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

fn set_up(ctx: Ctx) -> Result<(), String> {
    if let Some(name) = api::missing() {
        return Err(format!(
            "this server has no {name}; Redis 7.0.15, Redis 8.2.3 and Valkey 9.1.2 have what is needed"
        ));
    }
    panics::log_panics();
    clock::set_by_wall();
    let step = |done: bool, what: &str| if done { Ok(()) } else { Err(format!("the server refused {what}")) };
    step(lock_type::register(ctx) && latch_type::register(ctx), "a data type")?;
    step(add_category(ctx), "the ACL category")?;
    step(verbs::add_public(ctx) && internal_commands::add_internal(ctx), "a command")?;
    step(config::register(ctx, Some(events::on_own_config)), "the settings")?;
    config::ask_max_clients(ctx);
    step(info::register(ctx), "the INFO section")?;
    set_options(ctx);
    log(c"notice", concat!("lock: version ", env!("CARGO_PKG_VERSION")));
    state::with(|host| {
        host.timer.set_up(ctx.of_our_own(), ticks::TIMER);
        host.subscriptions.set_up(events::LISTENERS);
        host.is_primary = has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_MASTER);
        host.manager.node = rand::random();
        config::apply_to(&mut host.manager);
        if !host.is_primary {
            hearing::wake_up(host);
        }
    });
    warn_of_eviction(ctx);
    Ok(())
}

/// Makes the category of the commands. One that is there already is taken as it is: a load that failed leaves it behind on
/// Redis 8.
fn add_category(ctx: Ctx) -> bool {
    let done = rm_if_there!(RedisModule_AddACLCategory(ctx.as_ptr(), register::CATEGORY.as_ptr()));
    done.is_none_or(|done| done == OK)
        || std::io::Error::last_os_error().kind() == std::io::ErrorKind::ResourceBusy
}

/// Options of the whole module; the call replaces what was set before.
fn set_options(ctx: Ctx) {
    /// Loading checks for errors, so a replica may load from the socket.
    const HANDLE_IO_ERRORS: i32 = 1 << 0;
    /// WATCH and client caches are told by us, when the holder changes and not at each renewal.
    const NO_IMPLICIT_SIGNAL_MODIFIED: i32 = 1 << 1;
    /// Locks that are loaded beside those that are served have an index of their own until they are served.
    const HANDLE_REPL_ASYNC_LOAD: i32 = 1 << 2;
    /// Locks may move with their slot in Valkey's atomic migration.
    const HANDLE_ATOMIC_SLOT_MIGRATION: i32 = 1 << 5;
    let offered = rm_if_there!(RedisModule_GetModuleOptionsAll()).unwrap_or(0);
    let always = HANDLE_IO_ERRORS | NO_IMPLICIT_SIGNAL_MODIFIED | HANDLE_REPL_ASYNC_LOAD;
    let options = always | (offered & HANDLE_ATOMIC_SLOT_MIGRATION);
    rm!(RedisModule_SetModuleOptions(ctx.as_ptr(), options));
}

fn warn_of_eviction(ctx: Ctx) {
    if has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_EVICT) {
        log(c"warning", "lock: maxmemory-policy may evict locks; use noeviction, or a server of their own");
    }
}
