//! Locks that change hands otherwise than by release and lease: LOCK.TRANSFER, LOCK.CANCEL, LOCK.BREAK, LOCK.STEAL.

use super::super::blocked::{Answer, Blocked, NOT_PERMITTED};
use super::super::config;
use super::super::entry::{Call, Verb};
use super::super::journal::note_deed;
use super::super::reply::{self, Outcome};
use super::super::step::change;
use super::site;
use super::waiting::judge;
use crate::command::operate::{cancel, parse_cancel, Break, Steal};
use crate::command::transfer::Transfer;
use crate::error::{LockError, Quoted};
use crate::primitive::WaiterId;

pub(in crate::host) struct TransferVerb;

impl Verb for TransferVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let request = Transfer::parse(&words, &policy)?;
        let fence = change(site(call), call.key(), |turn, blocked| {
            judge(call, turn, |turn, others| {
                request.apply(turn, &policy, others, &mut |id| may_have(call, blocked, id))
            })
        })?;
        reply::outcome(call.ctx, fence.map_or(Outcome::Nil, Outcome::from));
        Ok(())
    }
}

pub(in crate::host) struct CancelVerb;

impl Verb for CancelVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let (_, owner) = parse_cancel(&words)?;
        let done = change(site(call), call.key(), |turn, _| Ok(cancel(owner, turn)))?;
        reply::int(call.ctx, i64::from(done));
        Ok(())
    }
}

pub(in crate::host) struct BreakVerb;

impl Verb for BreakVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = Break::parse(&words)?;
        let count = change(site(call), call.key(), |turn, _| Ok(request.apply(turn)))?;
        if count > 0 {
            let (key, reason) = (Quoted(request.key), Quoted(request.reason));
            note_deed(call.ctx, "break", &[("key", &key), ("holds", &count), ("reason", &reason)]);
        }
        reply::int(call.ctx, count);
        Ok(())
    }
}

pub(in crate::host) struct StealVerb;

impl Verb for StealVerb {
    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let request = Steal::parse(&words, &policy)?;
        let fence = change(site(call), call.key(), |turn, blocked| {
            request.apply(turn, &policy, &mut |id| may_have(call, blocked, id))
        })?;
        let (key, owner) = (Quoted(request.key), Quoted(request.owner));
        note_deed(call.ctx, "steal", &[("key", &key), ("owner", &owner), ("fence", &fence.get())]);
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
