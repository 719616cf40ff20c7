//! LOCK.RECOVERY.

use super::super::handler::{Call, Handler};
use super::super::{clock, journal, reply, state};
use crate::command::recovery;
use crate::command::spec::Spec;
use crate::error::LockError;

pub(in crate::host) struct RecoveryHandler;

impl Handler for RecoveryHandler {
    const SPEC: &'static Spec = &recovery::SPEC;

    fn run(call: &Call) -> Result<(), LockError> {
        let words = call.words();
        let ends = recovery::parse(&words)?;
        if ends && !state::with(|host| host.is_primary) {
            return Err(LockError::ReadOnly);
        }
        let (left_ms, ended) = state::with(|host| {
            let left_ms = recovery::left_ms(&host.manager, clock::now());
            let ended = (ends && host.manager.end_recovery()).then_some(host.manager.stats);
            host.wake_for_work();
            (left_ms, ended)
        });
        if let Some(stats) = ended {
            journal::note_deed(call.ctx, "recovery-cut", &[("left-ms", &left_ms)]);
            journal::note_recovery_end(&stats);
        }
        reply::int(call.ctx, i64::try_from(left_ms).unwrap_or(i64::MAX));
        Ok(())
    }
}
