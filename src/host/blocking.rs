//! Waiting clients, as the server sees them: how one is blocked, and what the server calls when its wait is over, when it is
//! gone, and when its entry is done with.

use std::ffi::{c_int, c_void};

use super::api::{has, rm, BlockedHandle, Ctx, RawBlocked, RawCtx, RawStr, Str, OK};
use super::blocked::{Answer, Blocked, BlockingCommand, Client, ReplySpec, NOT_PERMITTED};
use super::panics::catch_panic;
use super::reply::{self, Outcome};
use super::rights::Rights;
use super::state::{self, Delivered};
use super::{clock, key, ticks};
use crate::command::report::Report;
use crate::error::LockError;
use crate::primitive::effect::WaitEnd;
use crate::primitive::WaiterId;

/// Blocks the client of this call as the waiter `id`; false if the server will not have it blocked.
pub(super) fn block(blocked: &mut Blocked, ctx: Ctx, id: WaiterId, reply_spec: ReplySpec) -> bool {
    let number = rm!(RedisModule_GetClientId(ctx.as_ptr()));
    // Another module's call has a stand-in for a client, which nobody can find again to tell or to miss.
    if rm!(RedisModule_GetClientInfoById(std::ptr::null_mut(), number)) != OK {
        return false;
    }
    let Some(user) = ctx.user_name() else { return false };
    // Where the server can lose a grant that meets a timeout, it must not end waits on its own.
    let timeout_is_safe = has!(RedisModule_AddACLCategory);
    let timeout = if timeout_is_safe { Some(on_timeout as _) } else { None };
    let handle = rm!(RedisModule_BlockClient(ctx.as_ptr(), Some(on_reply), timeout, Some(on_free), 0));
    // SAFETY: the server gives the client that it has just blocked, if it has.
    let Some(handle) = (unsafe { BlockedHandle::new(handle) }) else { return false };
    rm!(RedisModule_SetDisconnectCallback(handle.as_ptr(), Some(on_disconnect)));
    blocked.insert(id, Client { handle, id: number, user, reply_spec, answer: None, replied: false });
    true
}

/// Writes the reply of a wait that has ended.
unsafe extern "C" fn on_reply(ctx: *mut RawCtx, argv: *mut *mut RawStr, argc: c_int) -> c_int {
    // SAFETY: the server passes a context, which lives as long as this call.
    let ctx = unsafe { Ctx::new(ctx) };
    catch_panic("reply", || {
        let id = WaiterId(rm!(RedisModule_GetBlockedClientPrivateData(ctx.as_ptr())) as u64);
        // SAFETY: the server passes as many words as it says, and they live until the reply is written.
        write_reply(ctx, id, Words(unsafe { Str::words(argv, argc) }));
    });
    OK
}

/// Gives a client its reply.
fn write_reply(ctx: Ctx, id: WaiterId, words: Words) {
    let is_written = state::with(|host| {
        host.blocked.get_mut(id).is_none_or(|client| {
            client.replied = true;
            if !client.reply_spec.with_info {
                reply_to(ctx, client, words);
            }
            !client.reply_spec.with_info
        })
    });
    if is_written {
        return;
    }
    // A report needs a look at the lock, which can run callbacks. So the entry is out of the table meanwhile.
    let Some(client) = state::with(|host| host.blocked.take(id)) else { return };
    reply_to(ctx, &client, words);
    state::with(|host| host.blocked.put_back(id, client));
}

fn reply_to(ctx: Ctx, client: &Client, words: Words) {
    let outcome = match &client.answer {
        Some(Answer::Failed(text)) => {
            rm!(RedisModule_ReplyWithError(ctx.as_ptr(), text.as_ptr()));
            return;
        }
        Some(Answer::Sent(elsewhere)) => {
            let text = elsewhere.error(words.key(client.reply_spec.command).map_or(&[], Str::as_bytes));
            rm!(RedisModule_ReplyWithError(ctx.as_ptr(), text.as_ptr()));
            return;
        }
        Some(Answer::WaitEnded(WaitEnd::Barred)) => {
            rm!(RedisModule_ReplyWithError(ctx.as_ptr(), NOT_PERMITTED.as_ptr()));
            return;
        }
        Some(Answer::WaitEnded(WaitEnd::OverLimit(limit))) => {
            reply::error(ctx, &LockError::Limit { is: *limit });
            return;
        }
        Some(Answer::Granted(fence)) => {
            if let Some(owner) = &client.reply_spec.generated_owner {
                reply::array(ctx, 2);
                reply::text(ctx, owner);
            }
            Outcome::from(*fence)
        }
        Some(Answer::Met) => Outcome::Int(1),
        _ => Outcome::Nil,
    };
    let report = match &client.answer {
        Some(answer) if client.reply_spec.with_info => {
            let report = words.report(ctx, client.reply_spec.command, answer);
            report.map(|report| words.redact(client, report))
        }
        _ => None,
    };
    match report {
        Some(report) => reply::report(ctx, outcome, &report),
        None => reply::outcome(ctx, outcome),
    }
}

/// The words of the command that was blocked, which the server passes again.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [Str<'a>]);

impl<'a> Words<'a> {
    /// The first key.
    fn key(&self, command: BlockingCommand) -> Option<Str<'a>> {
        self.word(command.first_key())
    }

    fn word(&self, at: usize) -> Option<Str<'a>> {
        self.0.get(at).copied()
    }

    /// The report that WITHINFO adds. The lock is looked at once more, as time has passed since the answer.
    fn report(&self, ctx: Ctx, command: BlockingCommand, answer: &Answer) -> Option<Report> {
        let name = self.key(command)?;
        let now = clock::now();
        let report = key::read(ctx, name, |lock| match answer {
            Answer::Granted(fence) => {
                let hold = lock.and_then(|lock| lock.hold_with(*fence));
                let fallback = || Report { fence: Some(*fence), reason: "granted", ..Report::default() };
                Some(hold.map_or_else(fallback, |hold| Report::held(hold, "granted", now)))
            }
            Answer::WaitEnded(why) => Some(Report::wait_ended(*why, lock, now)),
            Answer::Met | Answer::Failed(_) | Answer::Sent(_) | Answer::Gone => None,
        });
        let mut report = report.ok().flatten()?;
        if let (Answer::WaitEnded(WaitEnd::PlaceKept), Some(owner)) = (answer, self.word(command.owner())) {
            let db = rm!(RedisModule_GetSelectedDb(ctx.as_ptr()));
            let (key, owner) = (name.as_bytes(), owner.as_bytes());
            report.ahead = Some(state::with(|host| host.manager.waiters.ahead_of(db, key, owner)));
        }
        Some(report)
    }

    /// Takes out what a user may not see who has lost the right to the key while it waited.
    fn redact(&self, client: &Client, report: Report) -> Report {
        let key = self.key(client.reply_spec.command);
        if key.is_some_and(|key| Rights::of(client.user.as_str()).may_read(key)) {
            report
        } else {
            report.concealed()
        }
    }
}

/// `CLIENT UNBLOCK id TIMEOUT`: the wait ends with nil, at once.
unsafe extern "C" fn on_timeout(ctx: *mut RawCtx, argv: *mut *mut RawStr, argc: c_int) -> c_int {
    // SAFETY: the server passes a context, which lives as long as this call.
    let ctx = unsafe { Ctx::new(ctx) };
    catch_panic("timeout", || {
        let handle = rm!(RedisModule_GetBlockedClientHandle(ctx.as_ptr()));
        // SAFETY: the server gives the client whose wait it ends.
        let Some(handle) = (unsafe { BlockedHandle::new(handle) }) else { return };
        client_gone(handle, WaitEnd::TimedOut);
        if let Some(id) = state::with(|host| host.blocked.id_of(handle)) {
            // SAFETY: the server passes as many words as it says, and they live until the reply is written.
            write_reply(ctx, id, Words(unsafe { Str::words(argv, argc) }));
        }
    });
    OK
}

/// The client is gone, or was unblocked with an error. Nothing may be written here: whatever lock this frees is
/// looked at later.
unsafe extern "C" fn on_disconnect(_ctx: *mut RawCtx, handle: *mut RawBlocked) {
    // SAFETY: the server passes a client that we have blocked, and is not done with it.
    let handle = unsafe { BlockedHandle::new(handle) };
    catch_panic("disconnect", || handle.into_iter().for_each(|handle| client_gone(handle, WaitEnd::Gone)));
}

/// The client no longer waits, or is gone.
fn client_gone(handle: BlockedHandle, why: WaitEnd) {
    state::with(|host| {
        let Some(id) = host.blocked.id_of(handle) else { return };
        let end = host.tell(|manager| manager.client_gone(id, why, clock::now()));
        let answer = if why == WaitEnd::Gone { Answer::Gone } else { Answer::WaitEnded(end) };
        host.blocked.answer(id, answer);
    });
}

/// The server is done with the entry.
unsafe extern "C" fn on_free(_ctx: *mut RawCtx, data: *mut c_void) {
    catch_panic("free", || {
        state::with(|host| {
            let Some(client) = host.blocked.remove(WaiterId(data as u64)) else { return };
            if let Some(Answer::Granted(fence)) = client.answer {
                if client.replied {
                    host.delivered.push(Delivered { client: client.id, fence });
                    host.after_sleep.ask(host.timer.ctx(), ticks::on_turn);
                } else {
                    host.tell(|manager| manager.grant_unread(fence));
                }
            }
        });
    });
}
