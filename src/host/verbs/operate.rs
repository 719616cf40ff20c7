//! Locks that change hands otherwise than by release and lease: LOCK.TRANSFER, LOCK.CANCEL, LOCK.BREAK, LOCK.STEAL.

use std::fmt::Display;

use super::super::blocked::{Answer, Blocked, NOT_PERMITTED};
use super::super::change::change;
use super::super::config;
use super::super::handler::{Call, Handler};
use super::super::journal::note_deed;
use super::super::reply::{self, Outcome};
use super::origin;
use super::waiting::with_deadlock_check;
use crate::command::operate::{cancel, parse_cancel, Break, Steal};
use crate::command::spec::Spec;
use crate::command::transfer::Transfer;
use crate::error::{LockError, Quoted};
use crate::primitive::WaiterId;

pub(in crate::host) struct TransferHandler;

impl Handler for TransferHandler {
    const SPEC: &'static Spec = &crate::command::transfer::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let request = Transfer::parse(&words, &policy)?;
        let fence = change(origin(call), call.key(), |step, blocked| {
            with_deadlock_check(call, step, |step, others| {
                request.apply(step, &policy, others, &mut |id| may_have(call, blocked, id))
            })
        })?;
        reply::outcome(call.ctx, fence.map_or(Outcome::Nil, Outcome::from));
        Ok(())
    }
}

pub(in crate::host) struct CancelHandler;

impl Handler for CancelHandler {
    const SPEC: &'static Spec = &crate::command::operate::CANCEL;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let (_, owner) = parse_cancel(&words)?;
        let done = change(origin(call), call.key(), |step, _| Ok(cancel(owner, step)))?;
        reply::int(call.ctx, i64::from(done));
        Ok(())
    }
}

pub(in crate::host) struct BreakHandler;

impl Handler for BreakHandler {
    const SPEC: &'static Spec = &crate::command::operate::BREAK;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = Break::parse(&words)?;
        let losers = change(origin(call), call.key(), |step, _| Ok(request.apply(step)))?;
        if losers.count > 0 {
            let (key, reason) = (Quoted(request.key), Quoted(request.reason));
            let fields: [(_, &dyn Display); 4] =
                [("key", &key), ("reason", &reason), ("holds", &losers.count), ("from", &losers)];
            note_deed(call.ctx, "break", &fields);
        }
        reply::int(call.ctx, losers.count);
        Ok(())
    }
}

pub(in crate::host) struct StealHandler;

impl Handler for StealHandler {
    const SPEC: &'static Spec = &crate::command::operate::STEAL;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let request = Steal::parse(&words, &policy)?;
        let (fence, losers) = change(origin(call), call.key(), |step, blocked| {
            request.apply(step, &policy, &mut |id| may_have(call, blocked, id))
        })?;
        let (key, owner) = (Quoted(request.key), Quoted(request.owner));
        let note = Quoted(request.terms.note.unwrap_or_default());
        let fields: [(_, &dyn Display); 6] = [
            ("key", &key),
            ("owner", &owner),
            ("fence", &fence.get()),
            ("note", &note),
            ("holds", &losers.count),
            ("from", &losers),
        ];
        note_deed(call.ctx, "steal", &fields);
        reply::int(call.ctx, fence.to_wire());
        Ok(())
    }
}

/// Whether a client that waits may have the lock which its owner is given. One that has lost the right to it is told so, and
/// the owner has the lock all the same.
fn may_have(call: &Call, blocked: &mut Blocked, id: WaiterId) -> bool {
    let may = blocked.is_permitted(id, &[call.key()]);
    if !may {
        blocked.answer(id, Answer::Failed(NOT_PERMITTED));
    }
    may
}
