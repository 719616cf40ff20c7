//! The holds of one lock, and the permits that cool after some. Nearly every lock has one hold and nothing that cools; it
//! then lies where the lock lies.

use super::cooling::Cooling;
use super::Hold;

/// Some holds, oldest first.
#[derive(Debug)]
pub enum Holds {
    One(Hold),
    /// None, or several.
    Many(Vec<Hold>),
    /// Any number, and others that cool.
    Resting(Box<Resting>),
}

/// Holds beside such as cool, of which there is one at least.
#[derive(Debug)]
pub struct Resting {
    holds: Vec<Hold>,
    cooling: Vec<Cooling>,
}

impl From<Vec<Hold>> for Holds {
    fn from(mut holds: Vec<Hold>) -> Self {
        match holds.pop() {
            Some(only) if holds.is_empty() => Self::One(only),
            last => {
                holds.extend(last);
                Self::Many(holds)
            }
        }
    }
}

impl Holds {
    /// No holds.
    pub const NONE: Self = Self::Many(Vec::new());

    /// All of them.
    pub fn as_slice(&self) -> &[Hold] {
        match self {
            Self::One(hold) => std::slice::from_ref(hold),
            Self::Many(holds) => holds,
            Self::Resting(all) => &all.holds,
        }
    }

    /// All of them, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [Hold] {
        match self {
            Self::One(hold) => std::slice::from_mut(hold),
            Self::Many(holds) => holds,
            Self::Resting(all) => &mut all.holds,
        }
    }

    /// Adds one at the end.
    pub fn push(&mut self, hold: Hold) {
        match self {
            Self::Many(holds) if holds.is_empty() => *self = Self::One(hold),
            Self::Many(holds) => holds.push(hold),
            Self::Resting(all) => all.holds.push(hold),
            Self::One(_) => {
                if let Self::One(first) = std::mem::replace(self, Self::NONE) {
                    *self = Self::Many(vec![first, hold]);
                }
            }
        }
    }

    /// Takes out the first that is wanted.
    pub fn take(&mut self, wanted: impl FnMut(&Hold) -> bool) -> Option<Hold> {
        let at = self.as_slice().iter().position(wanted)?;
        match std::mem::replace(self, Self::NONE) {
            Self::One(hold) => Some(hold),
            Self::Many(mut holds) => {
                let hold = holds.remove(at);
                *self = Self::Many(holds);
                Some(hold)
            }
            Self::Resting(mut all) => {
                let hold = all.holds.remove(at);
                *self = Self::Resting(all);
                Some(hold)
            }
        }
    }

    /// Takes out all.
    pub fn take_all(&mut self) -> Vec<Hold> {
        match self {
            Self::Resting(all) => std::mem::take(&mut all.holds),
            Self::Many(holds) => std::mem::take(holds),
            Self::One(_) => self.take(|_| true).into_iter().collect(),
        }
    }

    /// Those that cool, oldest first.
    pub fn cooling(&self) -> &[Cooling] {
        match self {
            Self::Resting(all) => &all.cooling,
            _ => &[],
        }
    }

    /// The same, to be changed in place.
    pub fn cooling_mut(&mut self) -> &mut [Cooling] {
        match self {
            Self::Resting(all) => &mut all.cooling,
            _ => &mut [],
        }
    }

    /// Adds one that cools.
    pub fn cool(&mut self, cooling: Cooling) {
        match self {
            Self::Resting(all) => all.cooling.push(cooling),
            _ => {
                let holds = self.take_all();
                *self = Self::Resting(Box::new(Resting { holds, cooling: vec![cooling] }));
            }
        }
    }

    /// Takes out the first of those that cool that is wanted.
    pub fn take_cooling(&mut self, wanted: impl FnMut(&Cooling) -> bool) -> Option<Cooling> {
        let Self::Resting(all) = self else { return None };
        let at = all.cooling.iter().position(wanted)?;
        let taken = all.cooling.remove(at);
        if all.cooling.is_empty() {
            *self = Self::from(std::mem::take(&mut all.holds));
        }
        Some(taken)
    }
}
