//! Clients that wait, and users with their rights.

use std::ffi::c_int;
use std::ptr::NonNull;

use redis_module::raw;

use super::{rm, Str, OK};

/// A client that the server has blocked for us, until the server says that it is done with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::host) struct BlockedHandle(NonNull<raw::RedisModuleBlockedClient>);

impl BlockedHandle {
    /// Returns `None` for a null pointer.
    ///
    /// # Safety
    ///
    /// If it is not null, it is a blocked client with which the server is not done.
    pub(in crate::host) unsafe fn new(handle: *mut raw::RedisModuleBlockedClient) -> Option<Self> {
        NonNull::new(handle).map(Self)
    }

    /// For [`rm!`].
    pub(in crate::host) const fn as_ptr(self) -> *mut raw::RedisModuleBlockedClient {
        self.0.as_ptr()
    }
}

/// A user of the server's ACL, freed at the end.
pub(in crate::host) struct User(NonNull<raw::RedisModuleUser>);

impl User {
    /// `None` for one who is gone by now or switched off.
    pub(in crate::host) fn named(name: Str) -> Option<Self> {
        NonNull::new(rm!(RedisModule_GetModuleUserFromUserName(name.as_ptr()))).map(Self)
    }

    pub(in crate::host) fn may_run(&self, words: &[Str]) -> bool {
        let (argv, argc) = (Str::argv(words), words.len() as c_int);
        rm!(RedisModule_ACLCheckCommandPermissions(self.0.as_ptr(), argv, argc)) == OK
    }

    pub(in crate::host) fn may_use_key(&self, key: Str, access: u32) -> bool {
        rm!(RedisModule_ACLCheckKeyPermissions(self.0.as_ptr(), key.as_ptr(), access as c_int)) == OK
    }

    pub(in crate::host) fn may_use_channel(&self, channel: Str, access: u32) -> bool {
        let (user, channel) = (self.0.as_ptr(), channel.as_ptr());
        rm!(RedisModule_ACLCheckChannelPermissions(user, channel, access as c_int)) == OK
    }
}

impl Drop for User {
    fn drop(&mut self) {
        rm!(RedisModule_FreeModuleUser(self.0.as_ptr()));
    }
}
