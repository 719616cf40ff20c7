//! Commands that only look: LOCK.INFO, LOCK.WAITERS, LOCK.HELP.

use std::collections::VecDeque;

use super::super::api::Ctx;
use super::super::handler::{Call, Handler};
use super::super::key::read;
use super::super::{clock, reply, state};
use super::tie::address_of;
use crate::command::spec::Spec;
use crate::command::waiters::ListWaiters;
use crate::command::{help, info};
use crate::error::LockError;
use crate::limits::{BLOCKERS_SHOWN_MAX, WAITERS_BYTES_MAX};
use crate::primitive::bounds::Bounds;
use crate::primitive::occupancy::Occupancy;
use crate::primitive::time::left_to_wire;
use crate::primitive::wait_queue::Position;
use crate::primitive::waiter::Waiter;
use crate::primitive::{Cooldown, Hold, Lock, Moment, Owner, Permits};

pub(in crate::host) struct InfoHandler;

impl Handler for InfoHandler {
    const SPEC: &'static Spec = &info::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let key = info::parse(&words)?;
        let waiting = state::with(|host| host.manager.waiters.waiting_for(call.db(), key));
        read(call.ctx, call.key(), |lock| describe(call.ctx, lock, waiting))
    }
}

/// The map of LOCK.INFO. Holds that are over are not shown, swept or not.
fn describe(ctx: Ctx, lock: Option<&Lock>, waiting: usize) {
    let now = clock::now();
    let holds: Vec<_> =
        lock.map(|lock| lock.holds().iter().filter(|hold| hold.is_live(now)).collect()).unwrap_or_default();
    let cooldown = lock.map(Lock::cooldowns).unwrap_or_default();
    let cooldown: Vec<_> = cooldown.iter().filter(|cooldown| cooldown.hold.is_live(now)).collect();
    reply::map(ctx, 5);
    let permits = holds.first().map(|hold| hold.permits);
    let idle = if cooldown.is_empty() { "free" } else { "cooling" };
    reply::text_field(ctx, "mode", permits.map_or(idle, Permits::mode).as_bytes());
    reply::int_field(ctx, "limit", permits.map_or(0, |permits| permits.shown().0));
    reply::text(ctx, b"holds");
    reply::array(ctx, holds.len());
    for hold in holds {
        reply::map(ctx, 14);
        reply::text_field(ctx, "owner", hold.owner.as_bytes());
        reply::int_field(ctx, "fence", hold.fence.to_wire());
        reply::int_field(ctx, "permits", hold.permits.shown().1);
        reply::int_field(ctx, "entries", hold.entries().count() as i64);
        reply::int_field(ctx, "keys", i64::from(hold.keys()));
        reply::int_field(ctx, "lease-ms", hold.lease.to_wire());
        reply::int_field(ctx, "left-ms", hold.remaining_ms(now));
        // A fence is the time of its grant, but where the clock was set back.
        let held_us = clock::read().unix_us.saturating_sub(hold.fence.get());
        reply::int_field(ctx, "held-ms", (held_us / 1000).cast_signed());
        reply::text_field(ctx, "note", hold.note());
        describe_bounds(ctx, hold.bounds().copied().unwrap_or_default(), now);
    }
    reply::int_field(ctx, "waiting", waiting as i64);
    reply::text(ctx, b"cooling");
    reply::array(ctx, cooldown.len());
    for Cooldown { hold, why } in cooldown {
        reply::map(ctx, 4);
        reply::text_field(ctx, "owner", hold.owner.as_bytes());
        reply::int_field(ctx, "permits", hold.permits.shown().1);
        reply::text_field(ctx, "reason", why.word().as_bytes());
        reply::int_field(ctx, "left-ms", hold.remaining_ms(now));
    }
}

/// Five fields of a hold: what is left until it must end, what is left until its lock can be granted again, the grace of
/// its tie, or -1, the client that it is tied to, or 0, and where that one is.
fn describe_bounds(ctx: Ctx, bounds: Bounds, now: Moment) {
    reply::int_field(ctx, "max-left-ms", left_to_wire(bounds.cap, now));
    reply::int_field(ctx, "min-left-ms", left_to_wire(bounds.min_end, now));
    reply::int_field(ctx, "grace-ms", bounds.tie.map_or(-1, |tie| tie.grace.to_wire()));
    let client = bounds.tie.filter(|tie| !tie.is_orphaned()).map_or(0, |tie| tie.client);
    reply::int_field(ctx, "client-id", client.cast_signed());
    let tie =
        bounds.tie.filter(|tie| !tie.is_orphaned() && tie.node == state::with(|host| host.manager.node));
    let address = tie.and_then(|tie| address_of(tie.client)).unwrap_or_default();
    reply::text_field(ctx, "client-addr", address.as_bytes());
}

pub(in crate::host) struct WaitersHandler;

impl Handler for WaitersHandler {
    const SPEC: &'static Spec = &crate::command::waiters::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let request = ListWaiters::parse(&words)?;
        let (ctx, db, now) = (call.ctx, call.db(), clock::now());
        read(ctx, call.key(), |lock| {
            let holds = lock.into_iter().flat_map(Lock::holds).filter(|hold| hold.is_live(now));
            let holds: Vec<&Hold> = holds.collect();
            let taken = Occupancy::of(holds.iter().map(|hold| hold.permits));
            state::with(|host| {
                let waiters = &host.manager.waiters;
                let from = request.after.and_then(|owner| waiters.place_after(db, request.key, owner));
                let from = from.unwrap_or(Position::HEAD);
                let mut ahead: VecDeque<&Owner> = VecDeque::new();
                for (_, waiter) in waiters.before(db, request.key, from).take(BLOCKERS_SHOWN_MAX) {
                    ahead.push_front(&waiter.request.owner);
                }
                let (mut count, mut bytes) = (0_usize, 0_usize);
                reply::open_array(ctx);
                for (_, waiter) in waiters.between(db, request.key, from, Position::END) {
                    if count == request.count || bytes > WAITERS_BYTES_MAX {
                        break;
                    }
                    bytes =
                        bytes.saturating_add(row(ctx, waiter, waiter.blockers(&holds, taken), &ahead, now));
                    count = count.saturating_add(1);
                    if ahead.len() == BLOCKERS_SHOWN_MAX {
                        ahead.pop_front();
                    }
                    ahead.push_back(&waiter.request.owner);
                }
                reply::close_array(ctx, count);
            });
        })
    }
}

/// The size of a row beside names, in bytes.
const ROW_BYTES: usize = 250;

/// One waiter: what it wants, and whom it waits for. Returns about how many bytes that is.
fn row<'l>(
    ctx: Ctx,
    waiter: &Waiter,
    blockers: impl Iterator<Item = &'l Owner>,
    ahead: &VecDeque<&Owner>,
    now: Moment,
) -> usize {
    let holders: Vec<&Owner> = blockers.take(BLOCKERS_SHOWN_MAX).collect();
    reply::map(ctx, 10);
    reply::text_field(ctx, "owner", waiter.request.owner.as_bytes());
    reply::text_field(ctx, "kind", waiter.kind.word().as_bytes());
    reply::text_field(ctx, "mode", waiter.request.permits.mode().as_bytes());
    reply::int_field(ctx, "permits", waiter.request.permits.shown().1);
    reply::int_field(ctx, "keys", i64::from(waiter.request.keys()));
    reply::int_field(ctx, "waited-ms", waiter.since.ms_until(now) as i64);
    reply::int_field(ctx, "left-ms", left_to_wire(waiter.deadline, now));
    reply::text(ctx, b"blocked-by");
    reply::array(ctx, holders.len());
    holders.iter().for_each(|owner| reply::text(ctx, owner.as_bytes()));
    reply::text(ctx, b"behind");
    reply::array(ctx, ahead.len());
    ahead.iter().for_each(|owner| reply::text(ctx, owner.as_bytes()));
    reply::text_field(ctx, "note", waiter.request.note());
    // Each name has its length before it.
    let names = holders.iter().chain(ahead).map(|owner| owner.as_bytes().len().saturating_add(8));
    let own = [ROW_BYTES, waiter.request.owner.as_bytes().len(), waiter.request.note().len()];
    own.into_iter().chain(names).fold(0, usize::saturating_add)
}

pub(in crate::host) struct HelpHandler;

impl Handler for HelpHandler {
    const SPEC: &'static Spec = &help::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let lines: Vec<String> = help::lines(super::PUBLIC).collect();
        reply::array(call.ctx, lines.len());
        for line in lines {
            reply::text(call.ctx, line.as_bytes());
        }
        Ok(())
    }
}
