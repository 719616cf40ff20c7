//! To which connection a hold is tied.

use redis_module::raw;

use super::super::api::{has_flags, rm, Ctx, OK};
use super::super::state;
use crate::error::LockError;
use crate::primitive::bounds::Tie;

/// Ties to the connection of this call, if a tie was asked for. A script has a client of its own, which is not the
/// caller, and another module's call has a stand-in that nobody will ever miss.
#[inline]
pub(super) fn tie(ctx: *mut Ctx, asked: &mut Option<Tie>) -> Result<(), LockError> {
    let Some(tie) = asked else { return Ok(()) };
    let client = rm!(RedisModule_GetClientId(ctx));
    let is_known = rm!(RedisModule_GetClientInfoById(std::ptr::null_mut(), client)) == OK;
    if has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_LUA) || !is_known {
        return Err(LockError::NoTie);
    }
    (tie.node, tie.client) = (state::with(|host| host.memory.node), client);
    Ok(())
}
