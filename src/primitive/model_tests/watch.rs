//! The view of those who only watch, between two steps.

use std::collections::BTreeMap;

use super::model::{Hold, Model, Waiter};
use super::world::World;
use super::{db_of, KEYS};
use crate::primitive::condition::{Condition, Seen, Verdict, View};
use crate::primitive::{Fence, Moment};

/// Each condition is judged as the model would.
pub(super) fn check(world: &World, model: &Model, fences: &BTreeMap<usize, Fence>) {
    for (key, holds) in model.holds.iter().enumerate() {
        let first = world.manager.waiters.front(db_of(key), KEYS[key]).map(|(_, first)| first);
        let view = View::of(world.keyspace.get(&key), first, Moment(world.now_us));
        let newest = view.newest();
        let seen = Seen { lock: Some(view), ..Seen::default() };
        let is_met = |condition| seen.judge(condition).is_some_and(|verdict| verdict == Verdict::Met);
        let is_free = holds.is_empty() && model.cooldown[key].is_empty();
        assert_eq!(is_met(Condition::Free), is_free, "free {key}");
        assert_eq!(newest, holds.iter().map(|hold| fences[&hold.grant]).max());
        for fence in fences.values().map(|fence| Some(*fence)).chain([None]) {
            assert_eq!(is_met(Condition::Changed(fence)), fence != newest, "changed {key}");
        }
        for (grant, fence) in fences {
            let hold = holds.iter().find(|hold| hold.grant == *grant);
            let expected = match hold {
                None => Some(Verdict::HoldEnded),
                Some(hold) => is_wanted(model, key, hold).then_some(Verdict::Met),
            };
            assert_eq!(seen.judge(Condition::Wanted(*fence)), expected, "wanted {key}");
        }
    }
}

/// Its owner was asked, or somebody else comes first and does not fit beside the holds.
fn is_wanted(model: &Model, key: usize, hold: &Hold) -> bool {
    let is_kept_out = |first: &Waiter| match first.upgrades {
        Some(grant) => grant != hold.grant,
        None => !model.fits(key, first.permits),
    };
    hold.is_wanted || model.queue(key).next().is_some_and(is_kept_out)
}
