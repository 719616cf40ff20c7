//! LOCK.SCAN: which locks there are.

use super::super::api::{rm, Ctx, OwnString};
use super::super::handler::{Call, Handler};
use super::super::key::read;
use super::super::rights::Rights;
use super::super::{clock, cluster, reply, state};
use crate::command::scan::Scan;
use crate::command::spec::Spec;
use crate::error::LockError;
use crate::limits::SCAN_STEPS_MAX;
use crate::primitive::Lock;

/// How many stretches without locks one call passes for each that it was asked to look at: an index that was large has room
/// for more than are left.
const STRETCHES_PER_LOCK: usize = 10;

/// A hold takes as long as so many bytes of patterns and names.
const STEPS_PER_HOLD: usize = 16;

pub(in crate::host) struct ScanHandler;

impl Handler for ScanHandler {
    const SPEC: &'static Spec = &crate::command::scan::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = Scan::parse(&words)?;
        let (ctx, db) = (call.ctx, call.db());
        let rights = Rights::of_caller(ctx);
        let (mut looked_at, mut steps, mut stretches) = (0_usize, 0, 0_usize);
        let mut found: Vec<OwnString> = Vec::new();
        let mut next = Some(request.from);
        while let Some(from) = next {
            let is_enough =
                looked_at >= request.count || stretches >= request.count.saturating_mul(STRETCHES_PER_LOCK);
            if is_enough || steps >= SCAN_STEPS_MAX {
                break;
            }
            stretches = stretches.saturating_add(1);
            // The names are copied: a key that is opened may be gone, and that comes back to the index.
            let names: Vec<OwnString> = state::with(|host| {
                let stretch = host.manager.stretch(db, from);
                next = stretch.next;
                looked_at = looked_at.saturating_add(stretch.names.len());
                let fitting = stretch.names.into_iter().filter(|name| request.fits(name, &mut steps));
                fitting.map(OwnString::new).collect()
            });
            found.extend(names.into_iter().filter(|name| {
                cluster::owns(ctx, name.as_str())
                    && rights.may_read(name.as_str())
                    && is_wanted(ctx, db, &request, name, &mut steps)
            }));
        }
        reply::array(ctx, 2);
        reply::text(ctx, next.unwrap_or(0).to_string().as_bytes());
        reply::array(ctx, found.len());
        for name in found {
            rm!(RedisModule_ReplyWithString(ctx.as_ptr(), name.as_str().as_ptr()));
        }
        Ok(())
    }
}

/// Whether this is a lock by now, and one that was asked for. `steps` counts the holds that were looked at for their owner.
fn is_wanted(ctx: Ctx, db: i32, request: &Scan, name: &OwnString, steps: &mut usize) -> bool {
    let key = name.as_str().as_bytes();
    let (waiting, is_waiting) = state::with(|host| {
        let waiters = &host.manager.waiters;
        let is_waiting = request.owner.is_some_and(|owner| waiters.waiter_of(db, key, owner).is_some());
        (waiters.waiting_for(db, key), is_waiting)
    });
    let now = clock::now();
    let fits = |lock: Option<&Lock>| {
        if request.owner.is_some() {
            let holds = lock.map_or(0, |lock| lock.holds().len());
            *steps = steps.saturating_add(holds.saturating_mul(STEPS_PER_HOLD));
        }
        let holds = lock.map(Lock::holds).unwrap_or_default().iter().filter(|hold| hold.is_live(now));
        let is_in_cooldown =
            lock.is_some_and(|lock| lock.cooldowns().iter().any(|cooldown| cooldown.hold.is_live(now)));
        let mut owners = holds.map(|hold| hold.owner.as_bytes());
        let is_lock = waiting > 0 || is_in_cooldown || owners.clone().next().is_some();
        let by_owner = request.owner.is_none_or(|owner| is_waiting || owners.any(|holder| holder == owner));
        is_lock && by_owner && (waiting > 0 || !request.contended)
    };
    read(ctx, name.as_str(), fits).unwrap_or(false)
}
