//! LOCK.GUARD: another command, run only under a lock.

use std::ffi::{c_int, CStr, CString};
use std::ops::BitOr;
use std::ptr;

use redis_module::raw;

use super::super::api::{call, rm, Ctx, Part, ServerReply, Str};
use super::super::change::change;
use super::super::handler::{Call, Handler};
use super::super::key::read;
use super::super::rights::Rights;
use super::super::{clock, cluster, state};
use super::needed::needed;
use super::origin;
use crate::command::guard::{is_guard, Guard, WORDS_BEFORE_COMMAND};
use crate::command::report::Location;
use crate::command::spec::Spec;
use crate::error::LockError;
use crate::primitive::{Fence, Moment};

pub(in crate::host) struct GuardHandler;

impl Handler for GuardHandler {
    const SPEC: &'static Spec = &crate::command::guard::SPEC;

    const TELLS_KEYS: bool = true;

    fn declare_keys(call: &Call) {
        declare_keys(call.ctx, inner(call));
    }

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = Guard::parse(&words)?;
        if blocks(call.ctx, request.command)? {
            return Err(LockError::NotGuardable { why: "a command that can block" });
        }
        let now = clock::now();
        let checked = read(call.ctx, call.key(), |lock| {
            request.check(lock, now).map(|hold| (hold.fence, hold.is_unclaimed()))
        })?;
        let (fence, is_unclaimed) = match checked {
            Ok(held) => held,
            Err(error) => {
                refuse_if_lost(call, &request, now)?;
                return Err(error);
            }
        };
        // The owner knows that it holds the lock.
        state::with(|host| host.manager.confirm(fence));
        if is_unclaimed && Rights::of_caller(call.ctx).may_change(call.key()) {
            claim(call, fence)?;
        }
        run(call.ctx, request.command, inner(call).get(1..).unwrap_or_default())
    }
}

/// Says that a hold that a failover may have lost has to be renewed first.
#[cold]
fn refuse_if_lost(call: &Call, request: &Guard, now: Moment) -> Result<(), LockError> {
    if !state::with(|host| host.manager.recovery.is_open()) {
        return Ok(());
    }
    read(call.ctx, call.key(), |lock| {
        state::with(|host| {
            let place = Location { manager: &host.manager, db: call.db(), key: request.key, now };
            place.refuse_if_lost(lock, request.owner, request.fence)
        })
    })?
}

/// Claims the turn of a ticket: its lease begins. Otherwise the command only reads the lock, and asks for no other right.
fn claim(call: &Call, fence: Fence) -> Result<(), LockError> {
    change(origin(call), call.key(), |step, _| {
        step.expire_and_grant();
        step.confirm(fence);
        Ok(())
    })
}

/// The inner command: its name and its words.
fn inner<'a>(call: &Call<'a>) -> &'a [Str<'a>] {
    call.strings().get(WORDS_BEFORE_COMMAND - 1..).unwrap_or_default()
}

/// Runs the command as the caller's user, by the rules for scripts, and passes its reply on.
fn run(ctx: Ctx, command: &[u8], args: &[Str]) -> Result<(), LockError> {
    let unknown = || LockError::UnknownCommand(command.to_vec());
    let name = CString::new(command).map_err(|_| unknown())?;
    // Effects replicated; errors as replies; the caller's rights; memory limit; rules of scripts; its protocol.
    let reply = call!(ctx, name, c"!ECMS0v", Str::argv(args), args.len()).ok_or_else(unknown)?;
    if reply.root().is_error() && cluster::is_blind(ctx) {
        return Err(LockError::CallsRefused);
    }
    // Redis 7.0 has another code word for it here than for a client.
    if reply.root().is_error()
        && reply.root().bytes().is_some_and(|text| text.starts_with(NOT_PERMITTED_ON_7_0))
    {
        return Err(LockError::NotPermitted);
    }
    reply.pass_on(ctx);
    Ok(())
}

const NOT_PERMITTED_ON_7_0: &[u8] = b"ERR acl verification failed";

/// Tells the server which keys the command would touch: the lock's, and the inner command's own.
fn declare_keys(ctx: Ctx, inner: &[Str]) {
    let lock = (raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS) as c_int;
    rm!(RedisModule_KeyAtPosWithFlags(ctx.as_ptr(), 1, lock));
    // It will be refused. Before that the server would ask it in its turn, and thousands in one another use up the stack.
    if inner.first().is_none_or(|name| is_guard(name.as_bytes())) {
        return;
    }
    let (mut count, mut flags) = (0, ptr::null_mut());
    let (argv, argc) = (Str::argv(inner), inner.len() as c_int);
    let places =
        rm!(RedisModule_GetCommandKeysWithFlags(ctx.as_ptr(), argv, argc, &raw mut count, &raw mut flags));
    if places.is_null() {
        return;
    }
    let mut uses = None;
    for at in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the server gave as many places and flags as it says.
        let (place, mut flags) = unsafe { (*places.add(at), *flags.add(at)) };
        if flags == 0 {
            let key = usize::try_from(place).ok().and_then(|place| inner.get(place));
            let uses = uses.get_or_insert_with(|| ask_for_uses(inner));
            flags = key.map_or(ANY_USE, |key| use_of(uses.as_ref(), key.as_bytes())) as c_int;
        }
        rm!(RedisModule_KeyAtPosWithFlags(
            ctx.as_ptr(),
            place.saturating_add(WORDS_BEFORE_COMMAND as c_int),
            flags
        ));
    }
    rm!(RedisModule_Free(places.cast()));
    rm!(RedisModule_Free(flags.cast()));
}

/// All that a command may do with a key if nothing is known: read it and write it.
const ANY_USE: u32 =
    raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE;

/// The server's answer about the keys of this command, which clients always get, and modules only for some commands.
/// Returns `None` if it says nothing.
fn ask_for_uses(inner: &[Str]) -> Option<ServerReply> {
    // The context of this call has no client, and the server runs nothing for it.
    let ctx = state::with_unless_ours(|host| host.timer.ctx()).flatten()?;
    call!(ctx, c"COMMAND", c"cv", c"GETKEYSANDFLAGS".as_ptr(), Str::argv(inner), inner.len())
}

/// The uses of a key, in all the places where it stands.
fn use_of(uses: Option<&ServerReply>, key: &[u8]) -> u32 {
    let told = uses.into_iter().flat_map(|uses| uses.root().items());
    let told = told.filter(|told| told.item(0).is_some_and(|name| name.bytes() == Some(key)));
    let words = told.filter_map(|told| told.item(1)).flat_map(Part::items);
    match words.map(|word| word.bytes().map_or(ANY_USE, flag)).fold(0, BitOr::bitor) {
        0 => ANY_USE,
        flags => flags,
    }
}

/// The flag that the server calls by this word.
fn flag(word: &[u8]) -> u32 {
    match word {
        b"RO" => raw::REDISMODULE_CMD_KEY_RO,
        b"RW" => raw::REDISMODULE_CMD_KEY_RW,
        b"OW" => raw::REDISMODULE_CMD_KEY_OW,
        b"RM" => raw::REDISMODULE_CMD_KEY_RM,
        b"access" => raw::REDISMODULE_CMD_KEY_ACCESS,
        b"insert" => raw::REDISMODULE_CMD_KEY_INSERT,
        b"update" => raw::REDISMODULE_CMD_KEY_UPDATE,
        b"delete" => raw::REDISMODULE_CMD_KEY_DELETE,
        // Of the others none takes a right.
        _ => 0,
    }
}

/// Whether the server says of a command that it can block; asked once for each.
fn blocks(ctx: Ctx, command: &[u8]) -> Result<bool, LockError> {
    let name = command.to_ascii_lowercase();
    if let Some(blocks) = state::with(|host| host.blocking_commands.get(name.as_slice()).copied()) {
        return Ok(blocks);
    }
    let Some(blocks) = ask_whether_it_blocks(ctx, &name)? else { return Ok(false) };
    state::with(|host| host.blocking_commands.insert(name.into(), blocks));
    Ok(blocks)
}

/// Returns `Ok(None)` if there is no such command.
fn ask_whether_it_blocks(ctx: Ctx, name: &[u8]) -> Result<Option<bool>, LockError> {
    const COMMAND: &CStr = c"COMMAND";
    let reply = call!(ctx, COMMAND, c"cb", c"INFO".as_ptr(), name.as_ptr(), name.len());
    let reply = needed(ctx, COMMAND, reply)?;
    let flags = reply.root().item(0).and_then(|told| told.item(2));
    Ok(flags.map(|flags| flags.items().any(|flag| flag.bytes() == Some(b"blocking"))))
}
