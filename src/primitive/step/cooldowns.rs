//! Permits that stay taken for a while after a hold.

use super::Step;
use crate::primitive::cooldown::Cooldown;
use crate::primitive::effect::Effect;
use crate::primitive::{Hold, HoldEnd};

impl Step<'_> {
    /// Keeps the permits of a hold that has just ended for its cooldown, if it has one.
    pub(in crate::primitive) fn start_cooldown(&mut self, hold: Hold, how: HoldEnd) {
        let now = self.clock.now;
        if let Some(mut cooldown) = Cooldown::after(hold, how, now, self.manager.lock_delay_ms) {
            self.manager.index(self.db, self.key, &mut cooldown.hold);
            self.lock.add_cooldown(cooldown);
        }
    }

    /// Ends the cooldowns that are chosen. Returns how many. Grants to waiters have to follow.
    pub(in crate::primitive) fn end_cooldowns(&mut self, mut chosen: impl FnMut(&Hold) -> bool) -> usize {
        let over = self.lock.take_cooldowns(|cooldown| chosen(&cooldown.hold));
        for Cooldown { hold, .. } in &over {
            self.manager.unindex(self.db, self.key, hold);
            self.effects.push(Effect::Ended { fence: hold.fence, how: HoldEnd::Cooled });
        }
        over.len()
    }
}
