//! Commands of the server without which a command of ours can do nothing.

use std::ffi::CStr;
use std::io;

use super::super::api::{Ctx, ServerReply};
use super::super::cluster;
use crate::error::LockError;

/// The server's reply, or the reason why it ran nothing. Ask at once: its reason is the last error of the system.
pub(super) fn needed(
    ctx: Ctx,
    command: &'static CStr,
    reply: Option<ServerReply>,
) -> Result<ServerReply, LockError> {
    reply.ok_or_else(|| {
        let is_missing = io::Error::last_os_error().kind() == io::ErrorKind::NotFound;
        if cluster::is_blind(ctx) {
            return LockError::CallsRefused;
        }
        LockError::NotRun { command: command.to_str().unwrap_or_default(), is_missing }
    })
}
