//! Those who only watch a key: looked after when a step is over, or when something has happened behind our back, and
//! told one by one. Nothing is changed here, so it is done on replicas and during pauses too.

use std::rc::Rc;

use super::api::{rm, Ctx, OwnString};
use super::blocked::{self, Answer};
use super::key::{read, read_value};
use super::slot_scope::SlotScope;
use super::state::{self, Host};
use super::{clock, cluster};
use crate::limits::OBSERVED_PER_STEP;
use crate::primitive::condition::{Seen, Verdict, View};
use crate::primitive::latch::Latch;
use crate::primitive::observers::Told;

/// A key was changed by a step that is not about locks.
pub(super) fn changed(ctx: Ctx, db: i32, key: &[u8]) {
    if state::with(|host| host.manager.observers.mark(db, key)) {
        after_step(ctx, SlotScope::of_command(ctx, key));
    }
}

/// Looks at the keys that a step has noted, and tells those whom it concerns. Where there are too many, the rest is
/// left for later, the newest keys and the longest waits not; and so are keys that cannot be opened now.
pub(super) fn after_step(ctx: Ctx, scope: SlotScope) {
    let home = rm!(RedisModule_GetSelectedDb(ctx.as_ptr()));
    let mut beyond = Vec::new();
    for _ in 0..OBSERVED_PER_STEP {
        match state::with(|host| host.manager.observers.next_noted()) {
            // The server has found the slot of a client's command to be ours.
            Some((db, key)) if scope.has(&key) => look_at(ctx, db, &key, scope != SlotScope::All),
            Some(later) => beyond.push(later),
            None => break,
        }
    }
    rm!(RedisModule_SelectDb(ctx.as_ptr(), home));
    if !beyond.is_empty() {
        state::with(|host| {
            for (db, key) in beyond.iter().rev() {
                host.manager.observers.mark(*db, key);
            }
            host.timer.wake_now();
        });
    }
    for _ in 0..OBSERVED_PER_STEP {
        if !answer_next() {
            return;
        }
    }
    state::with(|host| host.timer.wake_now());
}

/// Looks at one key that was noted, or at the next of all of them. Returns whether there was one. Selects that key's
/// database.
pub(super) fn look_at_next(ctx: Ctx) -> bool {
    let noted = state::with(|host| host.manager.observers.next());
    noted.inspect(|(db, key)| look_at(ctx, *db, key, false)).is_some()
}

/// Selects the key's database.
fn look_at(ctx: Ctx, db: i32, key: &Rc<[u8]>, is_ours: bool) {
    rm!(RedisModule_SelectDb(ctx.as_ptr(), db));
    let name = OwnString::new(key);
    if !is_ours && !cluster::owns(ctx, name.as_str()) {
        cluster::turn_away_watchers(db, key);
        state::with(|host| host.tell(|manager| manager.recheck_if_awaited(db, key)));
        return;
    }
    let now = clock::now();
    let lock = read(ctx, name.as_str(), |lock| {
        state::with(|Host { manager, .. }| {
            let first = manager.waiters.front(db, key).map(|(_, first)| first);
            View::of(lock, first, now)
        })
    });
    let latch = read_value(ctx, name.as_str(), |latch| latch.is_some_and(Latch::is_open));
    let seen = Seen { lock: lock.ok(), latch: latch.ok() };
    state::with(|host| host.manager.observers.judge(db, key, |condition| seen.judge(condition)));
}

/// Tells one client the outcome of its watch. Returns whether there was one.
pub(super) fn answer_next() -> bool {
    state::with(|host| {
        let Some(Told { id, key, verdict }) = host.manager.observers.next_told() else { return false };
        let answer = match verdict {
            Verdict::Met if host.blocked.is_permitted(id, &[OwnString::new(&key).as_str()]) => {
                host.manager.stats.observed.up();
                Answer::Met
            }
            Verdict::Met => Answer::Failed(blocked::NOT_PERMITTED),
            Verdict::HoldEnded => Answer::Failed(c"NOTHELD the hold has ended; acquire the lock again"),
            Verdict::NotALock => Answer::Failed(blocked::NOT_A_LOCK),
            Verdict::NotALatch => {
                Answer::Failed(c"WRONGTYPE the key was overwritten with a value that is not a latch")
            }
        };
        host.blocked.answer(id, answer);
        true
    })
}
