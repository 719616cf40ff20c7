//! The user who asks, and the keys that the server's ACL lets them see.

use std::io;

use redis_module::raw;

use super::api::{call, has_flags, rm, Ctx, OwnString, Str, User, OK};
use crate::error::LockError;

/// The name of the user who asks. Returns `None` for another module's call on its own account.
pub(super) fn user_name(ctx: Ctx) -> Option<OwnString> {
    if is_connection(ctx) {
        return ctx.user_name();
    }
    // Redis 7.0 follows a null pointer when there is no user. So it is first asked to run something as the user: a
    // command without its key, which it refuses whoever that is, but in other words when there is none. Nor does it
    // matter if the command was renamed away: whose it would be is asked first.
    let ran = call!(ctx, c"GET", c"C");
    let there_is_one = ran.is_some()
        || matches!(io::Error::last_os_error().kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound);
    there_is_one.then(|| ctx.user_name()).flatten()
}

/// Whether this is a plain call of a client, which has a user in any case.
fn is_connection(ctx: Ctx) -> bool {
    let client = rm!(RedisModule_GetClientId(ctx.as_ptr()));
    !has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_LUA | raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING)
        && rm!(RedisModule_GetClientInfoById(std::ptr::null_mut(), client)) == OK
}

/// Whether the user of this name may take the locks of these keys by now: it is there, and has the right to read and
/// write them. Which command it asked with does not matter here.
pub(super) fn may_take(user: &[u8], keys: &[&[u8]]) -> bool {
    let access = raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE;
    let rights = Rights::of(OwnString::new(user).as_str());
    keys.iter().all(|key| rights.may(OwnString::new(key).as_str(), access))
}

/// The rights of a caller.
pub(super) enum Rights {
    /// A caller without a user is another module, which may do what the server can.
    Unbounded,
    /// Those of this user; `None` for one who is gone by now or switched off.
    Of(Option<User>),
}

impl Rights {
    /// Those of whoever asks.
    pub(super) fn of_caller(ctx: Ctx) -> Self {
        user_name(ctx).map_or(Self::Unbounded, |name| Self::of(name.as_str()))
    }

    /// Those of the user of this name.
    pub(super) fn of(name: Str) -> Self {
        Self::Of(User::named(name))
    }

    /// Whether this key may be read.
    pub(super) fn may_read(&self, key: Str) -> bool {
        self.may(key, raw::REDISMODULE_CMD_KEY_ACCESS)
    }

    /// Whether this key may be changed.
    pub(super) fn may_change(&self, key: Str) -> bool {
        self.may(key, raw::REDISMODULE_CMD_KEY_UPDATE)
    }

    fn may(&self, key: Str, access: u32) -> bool {
        match self {
            Self::Unbounded => true,
            Self::Of(user) => user.as_ref().is_some_and(|user| user.may_use_key(key, access)),
        }
    }
}

/// Refuses a channel that the caller may not publish to.
#[inline]
pub(super) fn check_channel(ctx: Ctx, channel: Option<&[u8]>) -> Result<(), LockError> {
    channel.map_or(Ok(()), |channel| check_named(ctx, channel))
}

fn check_named(ctx: Ctx, channel: &[u8]) -> Result<(), LockError> {
    let channel = OwnString::new(channel);
    let may = |user: &User| user.may_use_channel(channel.as_str(), raw::REDISMODULE_CMD_CHANNEL_PUBLISH);
    match Rights::of_caller(ctx) {
        Rights::Of(user) if !user.as_ref().is_some_and(may) => Err(LockError::ChannelDenied),
        _ => Ok(()),
    }
}
