//! LOCK.ACQUIRE.

use super::super::blocked::{BlockingCommand, ReplySpec};
use super::super::change::change_open;
use super::super::config;
use super::super::handler::{Call, Handler};
use super::super::key::OpenKey;
use super::super::rights::check_channel;
use super::plain::{acquire as take, Went};
use super::tie::tie;
use super::waiting::{generate_owner, possible, Taking};
use super::{origin, report_acquired, say_acquired, Handled};
use crate::command::acquire::Acquire;
use crate::command::plain;
use crate::error::LockError;
use crate::primitive::Lock;

pub(in crate::host) struct AcquireHandler;

impl Handler for AcquireHandler {
    fn run(call: &Call) -> Result<(), LockError> {
        let [key, owner, option, ms] = call.strings() else { return acquire(call, None) };
        let [key, owner, option, ms] = [key, owner, option, ms].map(|word| word.as_bytes());
        match plain::acquire(key, owner, option, ms, config::max_lease_ms()) {
            None => acquire(call, None),
            Some(lease) => match take(call, key, owner, lease, true)? {
                Went::Through => Ok(()),
                Went::ToKey(key) => acquire(call, Some(key)),
            },
        }
    }
}

/// With any options; on the key, if it is open.
#[inline(never)]
fn acquire(call: &Call, key: Option<OpenKey<Lock>>) -> Result<(), LockError> {
    let words = call.words();
    let policy = config::policy();
    let mut request = Acquire::parse(&words, &policy)?;
    tie(call.ctx, &mut request.terms.span.tie)?;
    check_channel(call.ctx, request.terms.notify)?;
    let generated_owner = if request.owner.is_none() { Some(generate_owner()) } else { None };
    let owner = request.owner.or(generated_owner.as_deref()).unwrap_or_default();
    let with_info = request.terms.with_info;
    let wait = request.terms.wait.and_then(|wait| possible(call.ctx, wait));
    let taking = Taking { call, owner, wait, policy: &policy };
    let plain_lease = || request.plain_lease(&policy).filter(|_| generated_owner.is_none());
    let key = match (key, plain_lease()) {
        (Some(key), _) => key,
        (None, None) => OpenKey::open(call.ctx, call.key())?,
        (None, Some(lease)) => match take(call, request.key, owner, lease, request.terms.wait.is_none())? {
            Went::Through => return Ok(()),
            Went::ToKey(key) => key,
        },
    };
    let handled = change_open(origin(call), call.key(), key.into(), |step, blocked| {
        request.terms.adopt(step)?;
        let reply_spec = || ReplySpec {
            command: BlockingCommand::Acquire,
            generated_owner: generated_owner.clone(),
            with_info,
        };
        let Some(acquired) = taking.run(&request, step, blocked, reply_spec)? else {
            return Ok(Handled::Waits);
        };
        let report = with_info.then(|| report_acquired(acquired, step, owner, request.terms.fence));
        Ok(Handled::Done(acquired.into(), report))
    })?;
    say_acquired(call.ctx, handled, generated_owner.as_deref());
    Ok(())
}
