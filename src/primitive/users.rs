//! Users of the server for whom tickets are kept. Each name is kept once, for as long as the process lives: there are no
//! more than an administrator has made, and a ticket has room for a number only.

use std::num::NonZeroU32;
use std::rc::Rc;

use crate::primitive::table::Table;

/// Stands for the name of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserId(NonZeroU32);

/// The names and their numbers.
#[derive(Default)]
pub(crate) struct Users {
    names: Vec<Rc<[u8]>>,
    numbers: Table<Rc<[u8]>, UserId>,
}

impl Users {
    /// The number of this name. Returns `None` if there are too many.
    pub(crate) fn number(&mut self, name: &[u8]) -> Option<UserId> {
        if let Some(known) = self.numbers.get(name) {
            return Some(*known);
        }
        let name: Rc<[u8]> = name.into();
        self.names.push(Rc::clone(&name));
        let number = UserId(NonZeroU32::new(u32::try_from(self.names.len()).ok()?)?);
        self.numbers.insert(name, number);
        Some(number)
    }

    /// The name that has this number.
    pub(crate) fn name(&self, number: UserId) -> Option<&[u8]> {
        let place = usize::try_from(number.0.get() - 1).ok()?;
        self.names.get(place).map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_number() {
        let mut users = Users::default();
        let numbers = [&b"a"[..], b"b", b"", b"a"].map(|name| users.number(name).unwrap());
        assert_eq!(numbers[0], numbers[3]);
        assert_eq!(numbers.map(|number| users.name(number).unwrap()), [&b"a"[..], b"b", b"", b"a"]);
    }

    #[test]
    fn a_ticket_has_room_for_it() {
        assert_eq!(size_of::<Option<UserId>>(), 4);
    }
}
