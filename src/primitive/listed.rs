//! All locks there are, in an order that does not change: those that are held, that cool, or that somebody waits for.

use super::leases::Leases;
use super::roll;
use super::wait_queue::Waiters;
use super::LockManager;

/// How many queues one stretch has at most, but for those at one place.
const QUEUES_AT_ONCE: usize = if cfg!(test) { 2 } else { 100 };

/// Some locks that come one after the other, each once.
pub(crate) struct Stretch<'m> {
    pub names: Vec<&'m [u8]>,
    /// The place where the next stretch begins; `None` after the last.
    pub next: Option<u32>,
}

impl LockManager {
    /// The locks of a database from a place on, for a small stretch. A lock that is there from the first stretch to the last
    /// is in one of them, and in no two.
    pub(crate) fn stretch(&self, db: i32, from: u32) -> Stretch<'_> {
        stretch(&self.leases, &self.waiters, db, from)
    }
}

fn stretch<'m>(leases: &'m Leases, waiters: &'m Waiters, db: i32, from: u32) -> Stretch<'m> {
    let mut found: Vec<(u32, &[u8])> = Vec::new();
    let mut next = leases.pass(db, from.into(), |place, name| found.push((place, name)));
    let mut last = None;
    for (n, (place, name)) in waiters.names_from(db, from).enumerate() {
        if u64::from(place) >= next {
            break;
        }
        if n >= QUEUES_AT_ONCE && last != Some(place) {
            next = place.into();
            break;
        }
        last = Some(place);
        found.push((place, name));
    }
    found.retain(|(place, _)| u64::from(*place) < next);
    found.sort_unstable();
    found.dedup();
    let next = if next < roll::END { u32::try_from(next).ok() } else { None };
    Stretch { names: found.into_iter().map(|(_, name)| name).collect(), next }
}
