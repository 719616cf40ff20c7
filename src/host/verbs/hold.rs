//! Commands of holders: LOCK.RELEASE, LOCK.RENEW, LOCK.CHECK.

use super::super::change::{change, change_open};
use super::super::handler::{Call, Handler};
use super::super::key::{read, OpenKey};
use super::super::reply::Outcome;
use super::super::{clock, config, state};
use super::plain::{release as give_back, Went};
use super::tie::tie;
use super::{origin, report_held, report_not_held, say};
use crate::command::holder::Holder;
use crate::command::release::{Release, Released};
use crate::command::renew::Renew;
use crate::command::report::{Location, Report};
use crate::command::spec::Spec;
use crate::command::{check, plain};
use crate::error::LockError;
use crate::primitive::{Lock, Step};

pub(in crate::host) struct ReleaseHandler;

impl Handler for ReleaseHandler {
    const SPEC: &'static Spec = &crate::command::release::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let (key, owner, named) = match *call.strings() {
            [key, owner] => (key.as_bytes(), owner.as_bytes(), None),
            [key, owner, option, n] => match plain::fence(option.as_bytes(), n.as_bytes()) {
                Some(fence) => (key.as_bytes(), owner.as_bytes(), Some(fence)),
                None => return release(call, &call.words(), None),
            },
            _ => return release(call, &call.words(), None),
        };
        if !plain::names(key, owner) {
            return release(call, &call.words(), None);
        }
        match give_back(call, key, owner, named)? {
            Went::Through => Ok(()),
            Went::ToKey(open) if named.is_none() => release(call, &[key, owner], Some(open)),
            Went::ToKey(open) => release(call, &call.words(), Some(open)),
        }
    }
}

/// With any options; on the key, if it is open.
#[inline(never)]
fn release(call: &Call, words: &[&[u8]], key: Option<OpenKey<Lock>>) -> Result<(), LockError> {
    let request = Release::parse(words)?;
    let key = match key {
        Some(key) => key,
        None => OpenKey::open(call.ctx, call.key())?,
    };
    let (done, report) = change_open(origin(call), call.key(), key.into(), |step, _| {
        let released = request.apply(step)?;
        let holder = request.holder;
        let report = holder.with_info.then(|| report_released(released, step, &holder));
        Ok((released != Released::NotHeld, report))
    })?;
    say(call.ctx, Outcome::Int(i64::from(done)), report);
    Ok(())
}

#[cold]
fn report_released(released: Released, step: &Step, holder: &Holder) -> Box<Report> {
    Box::new(match released {
        Released::Ended(fence) => Report::released(fence),
        Released::Cancelled => Report::cancelled(),
        Released::StillHeld(_) => report_held(step, holder.owner, "still-held"),
        Released::Before(ended) => Report::ended(ended, step.clock.now),
        Released::NotHeld => report_not_held(step, holder.owner, holder.fence),
    })
}

pub(in crate::host) struct RenewHandler;

impl Handler for RenewHandler {
    const SPEC: &'static Spec = &crate::command::renew::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let policy = config::policy();
        let mut request = Renew::parse(&words, &policy)?;
        tie(call.ctx, &mut request.tie)?;
        let (left, report) = change(origin(call), call.key(), |step, _| {
            let left = request.apply(step, &policy);
            let holder = request.holder;
            let report = holder.with_info.then(|| {
                Box::new(match left {
                    0 => report_not_held(step, holder.owner, holder.fence),
                    _ => report_held(step, holder.owner, "renewed"),
                })
            });
            Ok((left, report))
        })?;
        say(call.ctx, Outcome::Int(left), report);
        Ok(())
    }
}

pub(in crate::host) struct CheckHandler;

impl Handler for CheckHandler {
    const SPEC: &'static Spec = &check::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let holder = check::parse(&words)?;
        let now = clock::now();
        let (left, report) = read(call.ctx, call.key(), |lock| {
            let left = check::apply(&holder, lock, now);
            let report = holder.with_info.then(|| {
                Box::new(match lock.and_then(|lock| lock.hold_of(holder.owner)) {
                    Some(hold) if left != 0 => Report::held(hold, "held", now),
                    _ => state::with(|host| {
                        let place = Location { manager: &host.manager, db: call.db(), key: holder.key, now };
                        Report::not_held(place, lock, holder.owner, holder.fence)
                    }),
                })
            });
            (left, report)
        })?;
        say(call.ctx, Outcome::Int(left), report);
        Ok(())
    }
}
