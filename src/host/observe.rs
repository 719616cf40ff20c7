//! Those who only watch a key: looked after when a step is over, or when something has happened behind our back, and
//! told one by one. Nothing is changed here, so it is done on replicas and during pauses too.

use super::api::{rm, Ctx, OwnString};
use super::blocked::{self, Answer};
use super::key::read;
use super::state::{self, Host};
use super::{clock, cluster};
use crate::error::LockError;
use crate::limits::OBSERVED_PER_STEP;
use crate::primitive::condition::{Verdict, View};
use crate::primitive::observers::Told;

/// Looks at the keys that a step has noted, and tells those whom it concerns. Where there are too many, the rest is
/// left for later, the newest keys and the longest waits not.
pub(super) fn after_step(ctx: *mut Ctx) {
    let home = rm!(RedisModule_GetSelectedDb(ctx));
    for _ in 0..OBSERVED_PER_STEP {
        if !look_at_next(ctx) {
            break;
        }
    }
    rm!(RedisModule_SelectDb(ctx, home));
    for _ in 0..OBSERVED_PER_STEP {
        if !tell_next() {
            return;
        }
    }
    state::with(|host| host.alarm.soon());
}

/// Looks at one key that was noted; whether there was one. Selects that key's database.
pub(super) fn look_at_next(ctx: *mut Ctx) -> bool {
    let Some((db, key)) = state::with(|host| host.memory.observers.next_noted()) else { return false };
    rm!(RedisModule_SelectDb(ctx, db));
    let name = OwnString::new(&key);
    if !cluster::owns(ctx, name.as_ptr()) {
        cluster::turn_away(db, &key);
        return true;
    }
    let now = clock::now();
    let seen = read(ctx, name.as_ptr(), |lock| {
        state::with(|Host { memory, .. }| {
            let first = memory.waiters.front(db, &key).map(|(_, first)| first);
            let view = View::of(lock, first, now);
            memory.observers.judge(db, &key, |condition| view.judge(condition));
        });
    });
    if seen == Err(LockError::WrongType) {
        state::with(|host| host.memory.observers.judge(db, &key, |_| Some(Verdict::WrongType)));
    }
    true
}

/// Tells one client what became of what it watched for; whether there was one.
pub(super) fn tell_next() -> bool {
    state::with(|host| {
        let Some(Told { id, key, verdict }) = host.memory.observers.next_told() else { return false };
        let answer = match verdict {
            Verdict::Met if host.blocked.is_permitted(id, &[OwnString::new(&key).as_ptr()]) => {
                host.memory.stats.observed += 1;
                Answer::Met
            }
            Verdict::Met => Answer::Failed(blocked::NOT_PERMITTED),
            Verdict::HoldEnded => Answer::Failed(c"NOTHELD the hold has ended; acquire the lock again"),
            Verdict::WrongType => Answer::Failed(blocked::OVERWRITTEN),
        };
        host.blocked.answer(id, answer);
        true
    })
}
