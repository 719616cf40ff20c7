//! The holds of one lock. Nearly every lock has one, which then lies where the lock lies.

use super::Hold;

/// Some holds, oldest first.
#[derive(Debug)]
pub enum Holds {
    One(Hold),
    /// None, or several.
    Many(Vec<Hold>),
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
        }
    }

    /// All of them, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [Hold] {
        match self {
            Self::One(hold) => std::slice::from_mut(hold),
            Self::Many(holds) => holds,
        }
    }

    /// Adds one at the end.
    pub fn push(&mut self, hold: Hold) {
        match self {
            Self::Many(holds) if holds.is_empty() => *self = Self::One(hold),
            Self::Many(holds) => holds.push(hold),
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
        }
    }

    /// Takes out all.
    pub fn take_all(&mut self) -> Vec<Hold> {
        match std::mem::replace(self, Self::NONE) {
            Self::One(hold) => vec![hold],
            Self::Many(holds) => holds,
        }
    }
}
