//! Who asks, and what the server's ACL lets them see.

use std::io;

use redis_module::raw;

use super::api::{rm, Ctx, OwnString, RString, OK};
use super::server_reply::ServerReply;

/// The name of the user who asks; nothing for another module's call on its own account.
pub(super) fn user_name(ctx: *mut Ctx) -> Option<OwnString> {
    // Redis 7.0 follows a null pointer when there is no user. So it is first asked to run something as the user: a
    // command without its key, which it refuses whoever that is, but in other words when there is none. Nor does it
    // matter if the command was renamed away: whose it would be is asked first.
    let ran = ServerReply::adopt(rm!(RedisModule_Call(ctx, c"GET".as_ptr(), c"C".as_ptr())));
    let there_is_one = ran.is_some()
        || matches!(io::Error::last_os_error().kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound);
    let name = || OwnString::adopt(rm!(RedisModule_GetCurrentUserName(ctx)));
    there_is_one.then(name).filter(|name| !name.as_ptr().is_null())
}

/// What a caller may see.
pub(super) enum Rights {
    /// A caller without a user is another module, which may do what the server can.
    Unbounded,
    /// Those of this user; null for one who is gone by now or switched off.
    Of(*mut raw::RedisModuleUser),
}

impl Rights {
    /// Those of whoever asks.
    pub(super) fn of_caller(ctx: *mut Ctx) -> Self {
        user_name(ctx).map_or(Self::Unbounded, |name| {
            Self::Of(rm!(RedisModule_GetModuleUserFromUserName(name.as_ptr())))
        })
    }

    /// Whether this key may be read.
    pub(super) fn may_read(&self, key: *mut RString) -> bool {
        let access = raw::REDISMODULE_CMD_KEY_ACCESS as i32;
        match *self {
            Self::Unbounded => true,
            Self::Of(user) => {
                !user.is_null() && rm!(RedisModule_ACLCheckKeyPermissions(user, key, access)) == OK
            }
        }
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        if let Self::Of(user) = *self {
            if !user.is_null() {
                rm!(RedisModule_FreeModuleUser(user));
            }
        }
    }
}
