//! The holds of one lock, and those in cooldown. Nearly every lock has one hold and no cooldown;
//! it then lies where the lock lies.

use super::cooling::Cooling;
use super::Hold;

/// Some holds, oldest first, and those in cooldown.
#[derive(Debug)]
pub enum Holds {
    One(Hold),
    /// Any number of holds, and of such as cool. Both lie here, as there is room for them where one hold has it.
    Many {
        holds: Vec<Hold>,
        cooling: Vec<Cooling>,
    },
}

impl From<Vec<Hold>> for Holds {
    fn from(mut holds: Vec<Hold>) -> Self {
        match holds.pop() {
            Some(only) if holds.is_empty() => Self::One(only),
            last => {
                holds.extend(last);
                Self::Many { holds, cooling: Vec::new() }
            }
        }
    }
}

impl Holds {
    /// No holds.
    pub const NONE: Self = Self::Many { holds: Vec::new(), cooling: Vec::new() };

    /// All of them.
    pub fn as_slice(&self) -> &[Hold] {
        match self {
            Self::One(hold) => std::slice::from_ref(hold),
            Self::Many { holds, .. } => holds,
        }
    }

    /// All of them, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [Hold] {
        match self {
            Self::One(hold) => std::slice::from_mut(hold),
            Self::Many { holds, .. } => holds,
        }
    }

    /// Adds one at the end.
    pub fn push(&mut self, hold: Hold) {
        match self {
            Self::Many { holds, cooling } if holds.is_empty() && cooling.is_empty() => {
                *self = Self::One(hold)
            }
            Self::Many { holds, .. } => holds.push(hold),
            Self::One(_) => {
                let holds = self.take(|_| true).into_iter().chain([hold]).collect();
                *self = Self::Many { holds, cooling: Vec::new() };
            }
        }
    }

    /// Takes out the first that is wanted.
    pub fn take(&mut self, wanted: impl FnMut(&Hold) -> bool) -> Option<Hold> {
        let at = self.as_slice().iter().position(wanted)?;
        if let Self::Many { holds, .. } = self {
            return Some(holds.remove(at));
        }
        match std::mem::replace(self, Self::NONE) {
            Self::One(hold) => Some(hold),
            Self::Many { .. } => None,
        }
    }

    /// Takes out all that are wanted.
    pub fn take_each(&mut self, mut wanted: impl FnMut(&Hold) -> bool) -> Vec<Hold> {
        match self {
            Self::One(hold) if wanted(hold) => self.take(|_| true).into_iter().collect(),
            Self::One(_) => Vec::new(),
            Self::Many { holds, .. } => holds.extract_if(.., |hold| wanted(hold)).collect(),
        }
    }

    /// Takes out all.
    pub fn take_all(&mut self) -> Vec<Hold> {
        match self {
            Self::Many { holds, .. } => std::mem::take(holds),
            Self::One(_) => self.take(|_| true).into_iter().collect(),
        }
    }

    /// Those that cool, oldest first.
    pub fn cooling(&self) -> &[Cooling] {
        match self {
            Self::One(_) => &[],
            Self::Many { cooling, .. } => cooling,
        }
    }

    /// The same, to be changed in place.
    pub fn cooling_mut(&mut self) -> &mut [Cooling] {
        match self {
            Self::One(_) => &mut [],
            Self::Many { cooling, .. } => cooling,
        }
    }

    /// Adds one in cooldown.
    pub fn cool(&mut self, cooling: Cooling) {
        match self {
            Self::Many { cooling: all, .. } => all.push(cooling),
            Self::One(_) => {
                let holds = self.take(|_| true).into_iter().collect();
                *self = Self::Many { holds, cooling: vec![cooling] };
            }
        }
    }

    /// Takes out those that cool that are wanted.
    pub fn take_cooling(&mut self, mut wanted: impl FnMut(&Cooling) -> bool) -> Vec<Cooling> {
        let Self::Many { holds, cooling } = self else { return Vec::new() };
        let taken: Vec<Cooling> = cooling.extract_if(.., |cooling| wanted(cooling)).collect();
        if cooling.is_empty() && !taken.is_empty() {
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
        assert!(size_of::<Holds>() == size_of::<Hold>() && size_of::<Hold>() <= 80);
    }
}
