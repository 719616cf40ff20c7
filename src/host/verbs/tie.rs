//! To which connection a hold is tied.

use redis_module::raw;

use super::super::api::{call, has_flags, log, rm, Ctx, OK};
use super::super::state;
use crate::command::args::parse_i64;
use crate::error::LockError;
use crate::primitive::bounds::Tie;

/// Ties to the connection of this call, if a tie was asked for. A script has a client of its own, which is not the
/// caller, and another module's call has a stand-in that nobody will ever miss.
#[inline]
pub(super) fn tie(ctx: Ctx, asked: &mut Option<Tie>) -> Result<(), LockError> {
    asked.as_mut().map_or(Ok(()), |asked| tie_to_client(ctx, asked))
}

fn tie_to_client(ctx: Ctx, tie: &mut Tie) -> Result<(), LockError> {
    let client = rm!(RedisModule_GetClientId(ctx.as_ptr()));
    if has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_LUA) || !is_connection(ctx, client) {
        return Err(LockError::NoTie);
    }
    (tie.node, tie.client) = (state::with(|host| host.manager.node), client);
    warn_of_timeout(ctx);
    Ok(())
}

/// Says in the log that the server closes idle connections, and with them ends what is tied to them; once for each time in
/// which it does so after as long.
fn warn_of_timeout(ctx: Ctx) {
    let is_known = state::with(|host| std::mem::replace(&mut host.idle_timeout.is_known, true));
    if is_known {
        return;
    }
    let reply = call!(ctx, c"CONFIG", c"cc", c"GET".as_ptr(), c"timeout".as_ptr());
    let seconds = reply.and_then(|reply| parse_i64(reply.root().item(1)?.bytes()?)).unwrap_or(0);
    let told = state::with(|host| std::mem::replace(&mut host.idle_timeout.told, seconds));
    if seconds > 0 && seconds != told {
        let what = "a hold was tied to its connection, but the server closes connections that are idle";
        log(c"warning", &format!("lock: {what} for {seconds} s (timeout), which ends such a hold"));
    }
}

fn is_connection(ctx: Ctx, client: u64) -> bool {
    rm!(RedisModule_GetClientInfoById(std::ptr::null_mut(), client)) == OK
        && (!has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING) || is_listed(ctx, client))
}

/// Whether the server lists this client. Valkey knows a stand-in by its id for as long as it is at work, and would crash
/// when asked for more about it; but it lists connections alone. A stand-in is never let wait, so nobody else pays.
fn is_listed(ctx: Ctx, client: u64) -> bool {
    let reply = call!(ctx, c"CLIENT", c"ccl", c"LIST".as_ptr(), c"ID".as_ptr(), client.cast_signed());
    reply.is_some_and(|reply| reply.root().bytes().is_some_and(|line| !line.is_empty()))
}

/// Where a connection comes from, as in CLIENT LIST. Returns `None` if it is gone.
pub(super) fn address_of(client: u64) -> Option<String> {
    let mut info = raw::RedisModuleClientInfo { version: 1, flags: 0, id: 0, addr: [0; 46], port: 0, db: 0 };
    let there = rm!(RedisModule_GetClientInfoById((&raw mut info).cast(), client)) == OK;
    let addr: Vec<u8> =
        info.addr.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0).collect();
    there.then(|| format!("{}:{}", String::from_utf8_lossy(&addr), info.port))
}
