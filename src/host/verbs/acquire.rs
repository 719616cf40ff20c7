//! LOCK.ACQUIRE, and what LOCK.MACQUIRE shares with it: a request for one lock or several, from its words to its reply.

use super::super::blocked::{Blocked, BlockingCommand, ReplySpec};
use super::super::change::change_open;
use super::super::config;
use super::super::handler::{Call, Handler};
use super::super::key::OpenKey;
use super::super::reply;
use super::super::rights::check_channel;
use super::plain::{acquire as take, Went};
use super::tie::tie;
use super::waiting::{generate_owner, get_in_line, possible, wait_for_turn, with_deadlock_check};
use super::{origin, report_acquired, say, Handled};
use crate::command::acquire::{Acquire, Acquired};
use crate::command::policy::Wait;
use crate::command::report::Report;
use crate::command::spec::Spec;
use crate::command::{plain, Policy};
use crate::error::LockError;
use crate::primitive::deadlock::HoldSource;
use crate::primitive::waiter::WaiterKind;
use crate::primitive::{Lease, Lock, Locks};

pub(in crate::host) struct AcquireHandler;

impl Handler for AcquireHandler {
    const SPEC: &'static Spec = &crate::command::acquire::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let [key, owner, option, ms] = call.strings() else { return acquire(call, &call.words(), None) };
        let [key, owner, option, ms] = [key, owner, option, ms].map(|word| word.as_bytes());
        match plain::acquire(key, owner, option, ms, config::max_lease_ms()) {
            None => acquire(call, &[key, owner, option, ms], None),
            Some(lease) => match take(call, key, owner, lease, true)? {
                Went::Through => Ok(()),
                Went::ToKey(open) => acquire(call, &[key, owner, option, ms], Some(open)),
            },
        }
    }
}

/// With any options; on the key, if it is open.
#[inline(never)]
fn acquire(call: &Call, words: &[&[u8]], key: Option<OpenKey<Lock>>) -> Result<(), LockError> {
    let policy = config::policy();
    let request = Acquire::parse(words, &policy)?;
    let mut taking = Taking::new(call, request, &policy, BlockingCommand::Acquire)?;
    let key = match (key, taking.plain_lease()) {
        (Some(key), _) => key,
        (None, None) => OpenKey::open(call.ctx, call.key())?,
        (None, Some(lease)) => {
            let (key, tries) = (call.key().as_bytes(), taking.request.terms.wait.is_none());
            match take(call, key, taking.owner(), lease, tries)? {
                Went::Through => return Ok(()),
                Went::ToKey(key) => key,
            }
        }
    };
    let handled = change_open(origin(call), call.key(), key.into(), |step, blocked| {
        taking.request.terms.adopt(step)?;
        taking.run(step, blocked)
    })?;
    taking.say(handled);
    Ok(())
}

/// A request for locks, with what is known of the client that makes it.
pub(super) struct Taking<'a> {
    call: &'a Call<'a>,
    request: Acquire<'a>,
    policy: &'a Policy,
    command: BlockingCommand,
    /// How the client can wait, of how it wants to.
    wait: Option<Wait>,
    generated_owner: Option<Box<[u8]>>,
}

impl<'a> Taking<'a> {
    #[inline]
    pub(super) fn new(
        call: &'a Call<'a>,
        mut request: Acquire<'a>,
        policy: &'a Policy,
        command: BlockingCommand,
    ) -> Result<Self, LockError> {
        tie(call.ctx, &mut request.terms.span.tie)?;
        check_channel(call.ctx, request.terms.notify)?;
        let wait = request.terms.wait.and_then(|wait| possible(call.ctx, wait));
        let generated_owner = if request.owner.is_none() { Some(generate_owner()) } else { None };
        Ok(Self { call, request, policy, command, wait, generated_owner })
    }

    fn owner(&self) -> &[u8] {
        self.request.owner.or(self.generated_owner.as_deref()).unwrap_or_default()
    }

    /// The lease, if that is all that is asked for.
    fn plain_lease(&self) -> Option<Lease> {
        self.request.plain_lease(self.policy).filter(|_| self.generated_owner.is_none())
    }

    /// Takes the locks, or gets in line for them.
    pub(super) fn run<'k>(
        &self,
        locks: &mut impl Locks<'k>,
        blocked: &mut Blocked,
    ) -> Result<Handled, LockError> {
        let Self { call, request, policy, .. } = self;
        let owner = self.owner();
        let mut acquired = request.apply(owner, locks, policy)?;
        if let Some(wait) = self.wait.filter(|_| acquired == Acquired::Busy) {
            let waits = if wait.kind() == WaiterKind::Ticket {
                acquired = with_deadlock_check(call, locks, |locks, others: &mut dyn HoldSource| {
                    request.queue(owner, wait, locks, policy, others)
                })?;
                acquired == Acquired::Queued
                    && wait_for_turn(call, locks, blocked, self.reply_spec(), owner, wait)
            } else {
                let check = |locks: &mut _, others: &mut dyn HoldSource| {
                    request.check_wait(owner, wait, locks, policy, others)
                };
                let enqueue = |locks: &mut _| request.enqueue(owner, wait, locks, policy).map(drop);
                get_in_line(call, locks, blocked, self.reply_spec(), check, enqueue)?
            };
            if waits {
                return Ok(Handled::Waits);
            }
        }
        let report = request.terms.with_info.then(|| self.report(acquired, locks));
        Ok(Handled::Done(acquired.into(), report))
    }

    fn reply_spec(&self) -> ReplySpec {
        let (command, generated_owner) = (self.command, self.generated_owner.clone());
        ReplySpec { command, generated_owner, with_info: self.request.terms.with_info }
    }

    /// Tells of the first of the locks; if the request has to wait, of the first that stands in its way.
    #[cold]
    fn report<'k>(&self, acquired: Acquired, locks: &mut impl Locks<'k>) -> Box<Report> {
        let (owner, terms) = (self.owner(), &self.request.terms);
        let waits = matches!(acquired, Acquired::Busy | Acquired::Queued);
        let is_only = self.request.keys.len() == 1;
        let mut told = None;
        locks.each(|step| {
            let is_in_the_way = || step.is_behind(owner) || !step.lock.admits(terms.permits);
            let matters = is_only || !waits || step.manager.recovery.is_open() || is_in_the_way();
            if told.is_none() && matters {
                told = Some(report_acquired(acquired, step, owner, terms.fence));
            }
        });
        told.unwrap_or_default()
    }

    /// Replies, with the owner's name if the server has made it up.
    pub(super) fn say(&self, handled: Handled) {
        let Handled::Done(outcome, report) = handled else { return };
        let ctx = self.call.ctx;
        if let (Some(owner), true) = (&self.generated_owner, outcome != reply::Outcome::Nil) {
            reply::array(ctx, 2);
            reply::text(ctx, owner);
        }
        say(ctx, outcome, report);
    }
}
