//! LOCK.STATS: what happened lately.

use super::super::api::{Ctx, OwnString};
use super::super::handler::{Call, Handler};
use super::super::rights::Rights;
use super::super::{clock, reply, state};
use crate::command::spec::Spec;
use crate::command::stats;
use crate::error::LockError;
use crate::limits::NEWEST_SHOWN;
use crate::primitive::contended::Contended;
use crate::primitive::histogram::Histogram;
use crate::primitive::history::{Deadlock, History, Loss};
use crate::primitive::stats::Stats;
use crate::primitive::Moment;

pub(in crate::host) struct StatsHandler;

impl Handler for StatsHandler {
    const SPEC: &'static Spec = &stats::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        if stats::parse(&words)? {
            state::with(|host| host.manager.history = History::starting(clock::now(), host.manager.stats));
            reply::text(call.ctx, b"OK");
            return Ok(());
        }
        let viewer = Viewer { ctx: call.ctx, rights: Rights::of_caller(call.ctx), now: clock::now() };
        state::with(|host| viewer.show(&host.manager.history, host.manager.stats));
        Ok(())
    }
}

/// In which ways so many holds ended.
const fn ends_of(stats: &Stats) -> [(&'static str, u64); 9] {
    [
        ("released", stats.released.get()),
        ("expired", stats.expired.get()),
        ("unclaimed", stats.unclaimed.get()),
        ("connection-closed", stats.closed.get()),
        ("deleted", stats.vanished.get()),
        ("undone", stats.undone.get()),
        ("broken", stats.broken.get()),
        ("transferred", stats.transferred.get()),
        ("displaced", stats.displaced.get()),
    ]
}

/// The caller, its rights, and the time of the look.
struct Viewer<'c> {
    ctx: Ctx<'c>,
    rights: Rights,
    now: Moment,
}

impl Viewer<'_> {
    fn show(&self, history: &History, stats: Stats) {
        let ctx = self.ctx;
        reply::map(ctx, 8);
        reply::int_field(ctx, "since-ms", self.ms_since(history.since));
        self.times("wait-us", &history.waits);
        self.times("hold-us", &history.holds);
        self.times("handoff-delay-us", &history.delays);
        self.ends(history.stats_before, stats);
        self.rows(
            "contended",
            history.contended.sorted().into_iter().filter(|of| self.may(&of.key)),
            Self::contended,
        );
        self.rows("losses", history.losses().filter(|loss| self.may(&loss.key)), Self::loss);
        self.rows("deadlocks", history.deadlocks(), Self::deadlock);
    }

    fn may(&self, key: &[u8]) -> bool {
        self.rights.may_read(OwnString::new(key).as_str())
    }

    fn ms_since(&self, moment: Moment) -> i64 {
        i64::try_from(moment.ms_until(self.now)).unwrap_or(i64::MAX)
    }

    fn times(&self, name: &str, times: &Histogram) {
        let to_wire = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        reply::text(self.ctx, name.as_bytes());
        reply::map(self.ctx, 7);
        reply::int_field(self.ctx, "count", to_wire(times.count()));
        reply::int_field(self.ctx, "sum", to_wire(times.sum()));
        for (name, per_mille) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
            reply::int_field(self.ctx, name, to_wire(times.quantile(per_mille)));
        }
        reply::int_field(self.ctx, "max", to_wire(times.max()));
        let powers = times.powers();
        reply::text(self.ctx, b"buckets");
        reply::map(self.ctx, powers.len());
        for (power, count) in powers {
            reply::int(self.ctx, to_wire(power));
            reply::int(self.ctx, to_wire(count));
        }
    }

    /// How holds ended since the beginning.
    fn ends(&self, before: Stats, now: Stats) {
        let (before, now) = (ends_of(&before), ends_of(&now));
        reply::text(self.ctx, b"ended");
        reply::map(self.ctx, now.len());
        for ((name, now), (_, before)) in now.into_iter().zip(before) {
            reply::int_field(self.ctx, name, now.saturating_sub(before).cast_signed());
        }
    }

    fn rows<T>(&self, name: &str, rows: impl Iterator<Item = T>, row: fn(&Self, T)) {
        reply::text(self.ctx, name.as_bytes());
        reply::open_array(self.ctx);
        let mut count = 0_usize;
        for item in rows.take(NEWEST_SHOWN) {
            row(self, item);
            count = count.saturating_add(1);
        }
        reply::close_array(self.ctx, count);
    }

    fn contended(&self, of: &Contended) {
        reply::map(self.ctx, 4);
        reply::int_field(self.ctx, "db", i64::from(of.db));
        reply::text_field(self.ctx, "key", &of.key);
        reply::int_field(self.ctx, "waits", of.waits.cast_signed());
        reply::int_field(self.ctx, "error", of.error.cast_signed());
    }

    fn loss(&self, loss: &Loss) {
        reply::map(self.ctx, 6);
        reply::int_field(self.ctx, "db", i64::from(loss.db));
        reply::text_field(self.ctx, "key", &loss.key);
        reply::text_field(self.ctx, "owner", &loss.owner);
        reply::int_field(self.ctx, "fence", loss.ended.fence.to_wire());
        reply::text_field(self.ctx, "reason", loss.ended.how.word().as_bytes());
        reply::int_field(self.ctx, "ago-ms", self.ms_since(loss.ended.at));
    }

    /// Names of a lock that the caller may not read are left out.
    fn deadlock(&self, deadlock: &Deadlock) {
        reply::map(self.ctx, 3);
        reply::int_field(self.ctx, "db", i64::from(deadlock.db));
        reply::int_field(self.ctx, "ago-ms", self.ms_since(deadlock.at));
        reply::text(self.ctx, b"cycle");
        reply::array(self.ctx, deadlock.cycle.len());
        for link in &deadlock.cycle {
            let shown = self.may(&link.key);
            reply::map(self.ctx, 2);
            reply::text_field(self.ctx, "owner", if shown { link.owner.as_bytes() } else { b"?" });
            reply::text_field(self.ctx, "waits-for", if shown { &link.key } else { b"?" });
        }
    }
}
