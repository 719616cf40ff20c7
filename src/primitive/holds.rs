//! The holds of one lock, and those in cooldown. Nearly every lock has one hold and no cooldown;
//! it then lies where the lock lies.

use super::cooldown::Cooldown;
use super::Hold;

/// Some holds, oldest first, and those in cooldown.
#[derive(Debug)]
pub(crate) enum HoldSet {
    One(Hold),
    /// Any number of holds, and of such as cool. Both lie here, as there is room for them where one hold has it.
    Many {
        holds: Vec<Hold>,
        cooldown: Vec<Cooldown>,
    },
}

impl From<Vec<Hold>> for HoldSet {
    fn from(mut holds: Vec<Hold>) -> Self {
        match holds.pop() {
            Some(only) if holds.is_empty() => Self::One(only),
            last => {
                holds.extend(last);
                Self::Many { holds, cooldown: Vec::new() }
            }
        }
    }
}

impl HoldSet {
    /// No holds.
    pub(crate) const NONE: Self = Self::Many { holds: Vec::new(), cooldown: Vec::new() };

    /// All of them.
    pub(crate) fn as_slice(&self) -> &[Hold] {
        match self {
            Self::One(hold) => std::slice::from_ref(hold),
            Self::Many { holds, .. } => holds,
        }
    }

    /// All of them, to be changed in place.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [Hold] {
        match self {
            Self::One(hold) => std::slice::from_mut(hold),
            Self::Many { holds, .. } => holds,
        }
    }

    /// Adds one at the end.
    #[inline]
    pub(crate) fn push(&mut self, hold: Hold) {
        match self {
            Self::Many { holds, cooldown } if holds.is_empty() && cooldown.is_empty() => {
                *self = Self::One(hold);
            }
            Self::Many { holds, .. } => holds.push(hold),
            Self::One(_) => {
                let holds = self.take(|_| true).into_iter().chain([hold]).collect();
                *self = Self::Many { holds, cooldown: Vec::new() };
            }
        }
    }

    /// Takes out the first that is wanted.
    #[inline]
    pub(crate) fn take(&mut self, mut wanted: impl FnMut(&Hold) -> bool) -> Option<Hold> {
        match self {
            Self::Many { holds, .. } => holds.iter().position(wanted).map(|at| holds.remove(at)),
            Self::One(hold) if !wanted(hold) => None,
            Self::One(_) => match std::mem::replace(self, Self::NONE) {
                Self::One(hold) => Some(hold),
                Self::Many { .. } => None,
            },
        }
    }

    /// Takes out all that are wanted.
    pub(crate) fn take_each(&mut self, mut wanted: impl FnMut(&Hold) -> bool) -> Vec<Hold> {
        match self {
            Self::One(hold) if wanted(hold) => self.take(|_| true).into_iter().collect(),
            Self::One(_) => Vec::new(),
            Self::Many { holds, .. } => holds.extract_if(.., |hold| wanted(hold)).collect(),
        }
    }

    /// Takes out all.
    pub(crate) fn take_all(&mut self) -> Vec<Hold> {
        match self {
            Self::Many { holds, .. } => std::mem::take(holds),
            Self::One(_) => self.take(|_| true).into_iter().collect(),
        }
    }

    /// Those that cool, oldest first.
    pub(crate) fn cooldowns(&self) -> &[Cooldown] {
        match self {
            Self::One(_) => &[],
            Self::Many { cooldown, .. } => cooldown,
        }
    }

    /// The same, to be changed in place.
    pub(crate) fn cooldowns_mut(&mut self) -> &mut [Cooldown] {
        match self {
            Self::One(_) => &mut [],
            Self::Many { cooldown, .. } => cooldown,
        }
    }

    /// Adds one in cooldown.
    pub(crate) fn add_cooldown(&mut self, cooldown: Cooldown) {
        match self {
            Self::Many { cooldown: all, .. } => all.push(cooldown),
            Self::One(_) => {
                let holds = self.take(|_| true).into_iter().collect();
                *self = Self::Many { holds, cooldown: vec![cooldown] };
            }
        }
    }

    /// Takes out those that cool that are wanted.
    pub(crate) fn take_cooldowns(&mut self, mut wanted: impl FnMut(&Cooldown) -> bool) -> Vec<Cooldown> {
        let Self::Many { holds, cooldown } = self else { return Vec::new() };
        let taken: Vec<Cooldown> = cooldown.extract_if(.., |cooldown| wanted(cooldown)).collect();
        if cooldown.is_empty() && !taken.is_empty() {
            *self = Self::from(std::mem::take(holds));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_takes_no_more_memory_than_its_hold() {
        // The next size that the server's allocator has is 96.
        assert!(size_of::<HoldSet>() == size_of::<Hold>() && size_of::<Hold>() <= 80);
    }
}
