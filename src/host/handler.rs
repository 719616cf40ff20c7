//! The edge between the server and Rust: every call comes in through here, and no panic goes out.

use std::ffi::c_int;
use std::panic::{catch_unwind, AssertUnwindSafe};

use smallvec::SmallVec;

use super::api::{rm, Ctx, RawCtx, RawStr, Str, OK};
use super::panics::catch_panic;
use super::{clock, hearing, journal, reply, state};
use crate::command::spec::Spec;
use crate::error::LockError;

/// One call of a command.
pub(super) struct Call<'a> {
    pub(super) ctx: Ctx<'a>,
    argv: &'a [Str<'a>],
}

/// The words of a command after its name. Few commands have more than fit inline.
pub(super) type Words<'a> = SmallVec<[&'a [u8]; 8]>;

impl<'a> Call<'a> {
    /// The words after the command's name.
    pub(super) fn words(&self) -> Words<'a> {
        self.strings().iter().map(|word| word.as_bytes()).collect()
    }

    /// The same as the server's own strings.
    pub(super) fn strings(&self) -> &'a [Str<'a>] {
        self.argv.get(1..).unwrap_or_default()
    }

    /// The first word after the name, as the server's own string: the key, in all commands that have one.
    #[expect(
        clippy::indexing_slicing,
        reason = "the server checks the arity of what clients send, and what a file has is parsed first"
    )]
    pub(super) fn key(&self) -> Str<'a> {
        self.argv[1]
    }

    /// The database that the client has selected.
    pub(super) fn db(&self) -> i32 {
        rm!(RedisModule_GetSelectedDb(self.ctx.as_ptr()))
    }
}

/// A command as the server sees it: it replies itself, or fails with nothing changed.
pub(super) trait Handler {
    /// Its name, grammar and description.
    const SPEC: &'static Spec;

    /// Whether the server asks the command itself where its keys are.
    const TELLS_KEYS: bool = false;

    fn run(call: &Call) -> Result<(), LockError>;

    /// Tells the server where the keys of this call are.
    fn declare_keys(_call: &Call) {}
}

/// The function that the server calls for the command `V`.
pub(super) unsafe extern "C" fn command<V: Handler>(
    ctx: *mut RawCtx,
    argv: *mut *mut RawStr,
    argc: c_int,
) -> c_int {
    // SAFETY: the server passes a context, which lives as long as this call.
    let ctx = unsafe { Ctx::new(ctx) };
    // SAFETY: the server passes as many words as it says, and they live until the command is over.
    let argv = unsafe { Str::words(argv, argc) };
    let call = Call { ctx, argv };
    if V::TELLS_KEYS && rm!(RedisModule_IsKeysPositionRequest(ctx.as_ptr())) != 0 {
        catch_panic("keys", || V::declare_keys(&call));
        return OK;
    }
    hearing::note_use();
    let run = || V::run(&call).unwrap_or_else(|error| refuse(ctx, &error));
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        refuse(ctx, &LockError::Internal);
    }
    OK
}

#[cold]
fn refuse(ctx: Ctx, error: &LockError) {
    let refusal = state::with_unless_ours(|host| {
        host.manager.stats.refused.up();
        host.refusals.admit(error, clock::now())
    });
    if let Some(refusal) = refusal.flatten() {
        journal::note_refusal(ctx, &refusal);
    }
    reply::error(ctx, error);
}
