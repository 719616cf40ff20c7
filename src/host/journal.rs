//! Lines in the server's log, of one form for those who search it: `lock: event=NAME field=value …`. Names are quoted, as clients
//! choose them.

use std::fmt::Write;

use super::api::{log, rm, Ctx};
use super::rights::user_name;
use crate::error::{LockError, Quoted};
use crate::primitive::broken::first_broken;
use crate::primitive::stats::Stats;
use crate::primitive::Moment;

/// How long the log is spared refusals of the same kind after one, in ms: a client can cause thousands in a second.
const SPARED_MS: u64 = 1_000;

/// Refusals of one kind.
#[derive(Default)]
pub(super) struct Spared {
    until: Option<Moment>,
    left_out: u64,
}

impl Spared {
    /// Admits one more to the log. Returns how many before it were left out, or `None` if it is left out too.
    fn admit(&mut self, now: Moment) -> Option<u64> {
        if self.until.is_some_and(|until| now < until) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.until = Some(now.plus_ms(SPARED_MS));
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Refusals that an operator wants to hear of.
#[derive(Default)]
pub(super) struct Refusals {
    deadlocks: Spared,
    caps: Spared,
}

/// One that is written down.
pub(super) struct Refusal {
    event: &'static str,
    /// How many of its kind were not, before it.
    left_out: u64,
    why: String,
}

impl Refusals {
    /// The refusal, if it is one that tells of trouble: a deadlock, or a cap that is reached. At most one of a kind in a second.
    pub(super) fn admit(&mut self, error: &LockError, now: Moment) -> Option<Refusal> {
        let text = error.to_string();
        let (code, why) = text.split_once(' ')?;
        let (event, spared) = match code {
            "DEADLOCK" => ("deadlock", &mut self.deadlocks),
            "QUEUEFULL" => ("cap", &mut self.caps),
            _ => return None,
        };
        Some(Refusal { event, left_out: spared.admit(now)?, why: why.to_owned() })
    }
}

/// Writes down, once, that something was found which cannot be: a fault of this module.
pub(super) fn tell_broken() {
    if let Some(what) = first_broken() {
        log(c"warning", &format!("lock: event=broken what={} report=please", Quoted(what.as_bytes())));
    }
}

/// Writes down that locks are granted again after a failover, and what has come back.
pub(super) fn note_recovery_end(stats: &Stats) {
    let (reinstated, displaced) = (stats.reinstated.get(), stats.displaced.get());
    log(c"notice", &format!("lock: event=recovery-ended reinstated={reinstated} displaced={displaced}"));
}

/// Writes down what somebody did to locks of others, and who it was.
pub(super) fn note_deed(ctx: Ctx, event: &str, fields: &[(&str, &dyn std::fmt::Display)]) {
    let user = user_name(ctx);
    let user = user.as_ref().map_or(&b"?"[..], |name| name.as_str().as_bytes());
    let mut line = format!("lock: event={event} user={}", Quoted(user));
    for (name, value) in fields {
        // A string takes all that is written to it.
        let _ = write!(line, " {name}={value}");
    }
    log(c"notice", &line);
}

/// Writes down a refusal that was admitted.
pub(super) fn note_refusal(ctx: Ctx, refusal: &Refusal) {
    let client = rm!(RedisModule_GetClientId(ctx.as_ptr()));
    let Refusal { event, left_out, why } = refusal;
    log(c"warning", &format!("lock: event={event} client={client} left-out={left_out} why=\"{why}\""));
}
