//! The clients behind the waiters: blocked by the server, unblocked by us one by one, each with its own answer.
//!
//! Life of an entry: [`Blocked::block`] makes it; [`Blocked::answer`] unblocks the client, once; the server then
//! runs the reply callback, unless the client is gone, and in any case the free callback, which ends the entry.
//! A grant counts only when its reply was given to a client that was still there.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use super::api::{has, rm, BlockedHandle, Ctx, RString, OK};
use super::entry::guard;
use super::state::{self, Delivered, Suspect};
use super::{clock, key, reply};
use crate::command::report::Report;
use crate::primitive::{Fence, WaiterId};

/// How the client wants its reply.
pub(super) struct Form {
    /// The owner that the server made up, to be named in the reply.
    pub(super) made_up: Option<Box<[u8]>>,
    pub(super) with_info: bool,
}

/// What a waiting client is told.
pub(super) enum Answer {
    /// It has the lock: where to undo that, and the fence.
    Granted(Suspect, Fence),
    TimedOut,
    /// The same owner asked again from another connection.
    Superseded,
    /// The wait cannot go on: an error with its code word.
    Failed(&'static std::ffi::CStr),
    /// There is no client left to tell.
    Gone,
}

struct Client {
    handle: *mut BlockedHandle,
    id: u64,
    form: Form,
    /// Nothing while it waits.
    answer: Option<Answer>,
    replied: bool,
}

/// All blocked clients.
#[derive(Default)]
pub(super) struct Blocked {
    clients: HashMap<WaiterId, Client>,
    by_handle: HashMap<*mut BlockedHandle, WaiterId>,
}

/// What the server itself spends on a client blocked by a module, in bytes: two spare clients with their buffers.
pub(super) const SERVER_BYTES_PER_CLIENT: usize = 35_000;

impl Blocked {
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Blocks the client of this call as the waiter `id`; false if the server will not have it blocked.
    pub(super) fn block(&mut self, ctx: *mut Ctx, id: WaiterId, form: Form) -> bool {
        // Where the server can lose a grant that meets a timeout, it must not end waits on its own.
        let timeout_is_safe = has!(RedisModule_AddACLCategory);
        let timeout = if timeout_is_safe { Some(on_timeout as _) } else { None };
        let handle = rm!(RedisModule_BlockClient(ctx, Some(on_reply), timeout, Some(on_free), 0));
        if handle.is_null() {
            return false;
        }
        rm!(RedisModule_SetDisconnectCallback(handle, Some(on_disconnect)));
        let client =
            Client { handle, id: rm!(RedisModule_GetClientId(ctx)), form, answer: None, replied: false };
        self.clients.insert(id, client);
        self.by_handle.insert(handle, id);
        true
    }

    /// Ends a wait. Only the first answer counts: a handle must be unblocked once.
    pub(super) fn answer(&mut self, id: WaiterId, answer: Answer) {
        if let Some(client) = self.clients.get_mut(&id).filter(|client| client.answer.is_none()) {
            client.answer = Some(answer);
            rm!(RedisModule_UnblockClient(client.handle, id.0 as *mut c_void));
        }
    }
}

/// Writes the reply of a wait that has ended.
unsafe extern "C" fn on_reply(ctx: *mut Ctx, argv: *mut *mut RString, argc: c_int) -> c_int {
    guard("reply", || {
        let id = WaiterId(rm!(RedisModule_GetBlockedClientPrivateData(ctx)) as u64);
        state::with(|host| {
            let Some(client) = host.blocked.clients.get_mut(&id) else { return };
            client.replied = true;
            reply_to(ctx, client, argv, argc);
        });
    });
    OK
}

fn reply_to(ctx: *mut Ctx, client: &Client, argv: *mut *mut RString, argc: c_int) {
    if client.form.with_info {
        match &client.answer {
            Some(Answer::Granted(_, fence)) => return reply_granted(ctx, client, *fence, argv, argc),
            Some(Answer::TimedOut) => return reply::report(ctx, reply::Outcome::Nil, &Report::timed_out()),
            Some(Answer::Superseded) => {
                return reply::report(ctx, reply::Outcome::Nil, &Report::superseded())
            }
            _ => {}
        }
    }
    match &client.answer {
        Some(Answer::Granted(_, fence)) => {
            if let Some(owner) = &client.form.made_up {
                reply::array(ctx, 2);
                reply::text(ctx, owner);
            }
            reply::int(ctx, fence.to_wire());
        }
        Some(Answer::Failed(text)) => {
            rm!(RedisModule_ReplyWithError(ctx, text.as_ptr()));
        }
        _ => reply::nil(ctx),
    }
}

/// The map for a grant. The lease is read from the lock, as some of it may be gone already.
fn reply_granted(ctx: *mut Ctx, client: &Client, fence: Fence, argv: *mut *mut RString, argc: c_int) {
    if let Some(owner) = &client.form.made_up {
        reply::array(ctx, 2);
        reply::text(ctx, owner);
    }
    let mut report = Report { fence: Some(fence), reason: "granted", ..Report::default() };
    if argc > 1 {
        // SAFETY: the server passes the words of the blocked command again, as many as it says.
        let name = unsafe { *argv.add(1) };
        let now = clock::now();
        let left = key::read(ctx, name, |lock| Some(lock?.hold_with(fence)?.left(now)));
        report.lease_ms = left.ok().flatten();
    }
    reply::report(ctx, fence.into(), &report);
}

/// `CLIENT UNBLOCK id TIMEOUT`: the wait ends with nil, at once.
unsafe extern "C" fn on_timeout(ctx: *mut Ctx, _argv: *mut *mut RString, _argc: c_int) -> c_int {
    guard("timeout", || {
        reply::nil(ctx);
        leave(rm!(RedisModule_GetBlockedClientHandle(ctx)));
    });
    OK
}

/// The client is gone, or was unblocked with an error. Nothing may be written here: whatever lock this frees is
/// looked at later.
unsafe extern "C" fn on_disconnect(_ctx: *mut Ctx, handle: *mut BlockedHandle) {
    guard("disconnect", || leave(handle));
}

fn leave(handle: *mut BlockedHandle) {
    state::with(|host| {
        let Some(id) = host.blocked.by_handle.get(&handle).copied() else { return };
        if let Some((db, key)) = host.memory.waiters.lock_of(id) {
            host.memory.waiters.remove(id);
            host.suspect(db, &key);
        }
        host.blocked.answer(id, Answer::Gone);
    });
}

/// The server is done with the entry.
unsafe extern "C" fn on_free(_ctx: *mut Ctx, data: *mut c_void) {
    guard("free", || {
        state::with(|host| {
            let Some(client) = host.blocked.clients.remove(&WaiterId(data as u64)) else { return };
            host.blocked.by_handle.remove(&client.handle);
            if let Some(Answer::Granted(grant, _)) = client.answer {
                if client.replied {
                    host.deferred.delivered.push(Delivered { client: client.id, grant });
                } else {
                    host.deferred.suspects.push(grant);
                    host.alarm.soon();
                }
            }
        });
    });
}
