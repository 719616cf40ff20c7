//! The locks that somebody waits for, in the order of the roll: see [`Roll`](crate::primitive::roll). A free lock that is kept
//! for others has no hold, and is found by its queue alone.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Waiters;

/// The names of the queues of one database, by their places.
pub(super) type Names = BTreeSet<(u32, Rc<[u8]>)>;

impl Waiters {
    /// The locks of this database that somebody waits for, from a place on.
    pub(crate) fn names_from(&self, db: i32, from: u32) -> impl Iterator<Item = (u32, &[u8])> {
        let names = self.names.get(&db);
        let names = names.into_iter().flat_map(move |names| names.range((from, Rc::default())..));
        names.map(|(place, name)| (*place, &**name))
    }
}
