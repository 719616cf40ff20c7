//! The index of locks that a replica loads beside those that it serves. It takes the place of the other one when the load
//! is over, or is thrown away with what was loaded; until then nobody looks at it.

use std::collections::BTreeSet;

use crate::primitive::leases::Leases;
use crate::primitive::recovery::Recovery;
use crate::primitive::ties::Ties;
use crate::primitive::{Fence, Hold, LockManager};

/// Leases and ties of what was loaded so far, its newest fence, and the recovery window that goes along with it.
#[derive(Default)]
pub(crate) struct Aside {
    leases: Leases,
    ties: Ties,
    newest: Option<Fence>,
    recovery: Recovery,
}

impl Aside {
    fn add(&mut self, db: i32, key: &[u8], hold: &mut Hold) {
        if let Some(tie) = hold.tie() {
            self.ties.add(db, key, hold.fence, tie);
        }
        self.leases.insert(db, key, hold);
    }
}

impl LockManager {
    /// All that is loaded from here on is noted aside.
    pub(crate) fn begin_aside(&mut self) {
        self.aside = Some(Box::default());
    }

    /// Whether what is being loaded is not served yet.
    pub(crate) fn is_aside(&self) -> bool {
        self.aside.is_some()
    }

    /// Notes a hold that was loaded.
    pub(crate) fn index_loaded(&mut self, db: i32, key: &[u8], hold: &mut Hold) {
        self.note_loaded(hold.fence);
        match &mut self.aside {
            Some(aside) => aside.add(db, key, hold),
            None => self.index(db, key, hold),
        }
    }

    /// Notes a fence that was loaded. Before what it belongs to is served, it says nothing of older ones.
    pub(crate) fn note_loaded(&mut self, fence: Fence) {
        match &mut self.aside {
            Some(aside) => aside.newest = aside.newest.max(Some(fence)),
            None => self.fences.advance_past(fence),
        }
    }

    /// All that was loaded aside is served from here on in place of all that was there.
    pub(crate) fn serve_aside(&mut self) {
        if let Some(aside) = self.aside.take() {
            (self.leases, self.ties) = (aside.leases, aside.ties);
            aside.newest.into_iter().for_each(|fence| self.fences.advance_past(fence));
            self.recovery.go_on_with(aside.recovery);
        }
    }

    /// The place in which a loaded window is noted.
    pub(crate) fn recovery_loaded(&mut self) -> &mut Recovery {
        match &mut self.aside {
            Some(aside) => &mut aside.recovery,
            None => &mut self.recovery,
        }
    }

    /// Empties the index. Returns the names of all locks that stood in it, for a caller that knows better in which
    /// databases they are.
    pub(crate) fn take_indexed(&mut self) -> BTreeSet<Box<[u8]>> {
        let tied = self.ties.keys().map(|key| (**key).into());
        let names = tied.chain(self.leases.names().map(Box::from)).collect();
        (self.leases, self.ties) = (Leases::default(), Ties::default());
        names
    }

    /// All that was loaded aside is thrown away. Its newest fence is remembered: numbers that were given out do not
    /// come again.
    pub(crate) fn drop_aside(&mut self) {
        let newest = self.aside.take().and_then(|aside| aside.newest);
        self.thrown_away = self.thrown_away.max(newest);
    }

    /// This server makes fences from now on: above those that it has seen and does not know.
    pub(super) fn pass_thrown_away(&mut self) {
        self.thrown_away.take().into_iter().for_each(|fence| self.fences.advance_past(fence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::bounds::{Bounds, Tie};
    use crate::primitive::hold::Extra;
    use crate::primitive::hold::Mark;
    use crate::primitive::recovery::{Length, LostHold, Outline};
    use crate::primitive::time::Clock;
    use crate::primitive::{Lease, Moment, Owner, Permits};

    const DUE: Moment = Moment(1_000);

    /// A hold that is due, and tied to a client.
    fn hold(fence: u64) -> Hold {
        let tie = Tie::new(1, 7, Lease::ms(1));
        let bounds = Bounds { tie: Some(tie), ..Bounds::default() }.boxed();
        Hold {
            owner: Owner::new(b"o").unwrap(),
            fence: Fence::new(fence).unwrap(),
            lease: Lease::ms(1),
            deadline: DUE,
            extra: Extra { bounds, ..Extra::default() }.boxed(),
            permits: Permits::EXCLUSIVE,
            mark: Mark::NONE,
        }
    }

    /// Where locks are, and which holds are due where.
    type Looked = (Vec<(i32, Vec<u8>)>, Vec<(i32, u64)>);

    /// The holds that are found for client 7, and by the leases that are due.
    fn looked_at(manager: &mut LockManager) -> Looked {
        let tied = manager.ties.after(None, Some(7), 100).into_iter();
        let tied = tied.map(|(db, (_, key, _))| (db, key.to_vec())).collect();
        let due = std::iter::from_fn(|| manager.leases.pop_due(DUE));
        (tied, due.map(|(db, lease)| (db, lease.fence.get())).collect())
    }

    /// One hold that is served, and one of the same key in another database that is loaded aside.
    fn loading() -> (LockManager, Hold, Hold) {
        let mut manager = LockManager::default();
        let (mut old, mut new) = (hold(1), hold(2));
        manager.index_loaded(0, b"k", &mut old);
        manager.begin_aside();
        manager.index_loaded(3, b"k", &mut new);
        (manager, old, new)
    }

    #[test]
    fn what_is_loaded_aside_is_not_looked_at_and_hides_nothing() {
        let (mut manager, old, new) = loading();
        assert!(manager.is_aside());
        assert_eq!(manager.fences.last(), 1);
        assert!(manager.leases.has(0, &old) && !manager.leases.has(3, &new));
        assert_eq!(looked_at(&mut manager), (vec![(0, b"k".to_vec())], vec![(0, 1)]));
    }

    #[test]
    fn what_is_thrown_away_leaves_all_as_it_was() {
        let (mut manager, _, _) = loading();
        manager.drop_aside();
        assert!(!manager.is_aside());
        assert_eq!(looked_at(&mut manager), (vec![(0, b"k".to_vec())], vec![(0, 1)]));
    }

    /// Holds between the two fences may be lost: only the clock of a window says what is too new.
    #[test]
    fn fences_that_were_thrown_away_are_not_known_and_are_not_given_out_again() {
        let clock = Clock { now: Moment(0), unix_us: 0 };
        for window in [Length::Fixed(Lease::ms(7)), Length::Off] {
            let (mut manager, _, _) = loading();
            manager.drop_aside();
            assert_eq!(manager.fences.last(), 1);
            manager.took_over(window, clock, 1_000);
            let lost = LostHold { db: 0, key: b"k", owner: b"o", fence: Fence::new(2).unwrap() };
            let may_come_back = manager.recovery.may_be_lost(lost, Permits::EXCLUSIVE, &[]);
            assert_eq!(may_come_back, manager.recovery.is_open());
            assert_eq!(manager.fences.next(0).get(), 3);
        }
        let (mut manager, _, _) = loading();
        manager.drop_aside();
        manager.succeeded(Moment(0));
        assert_eq!(manager.fences.next(0).get(), 3);
    }

    #[test]
    fn a_window_that_is_loaded_aside_opens_with_what_is_served() {
        let of = |known| Outline { known, newest: 9, until: DUE };
        for (loaded, is_served) in [(None, true), (Some(of(2)), true), (Some(of(2)), false)] {
            let mut manager = LockManager::default();
            manager.recovery_loaded().hear(Some(of(1)));
            manager.begin_aside();
            manager.recovery_loaded().hear(loaded);
            assert_eq!(manager.recovery.outline(), Some(of(1)));
            if is_served {
                manager.serve_aside();
            } else {
                manager.drop_aside();
            }
            assert_eq!(manager.recovery.outline(), if is_served { loaded } else { Some(of(1)) });
        }
    }

    #[test]
    fn what_is_served_takes_the_place_of_all() {
        let (mut manager, old, new) = loading();
        manager.serve_aside();
        assert!(!manager.is_aside() && manager.leases.has(3, &new) && !manager.leases.has(0, &old));
        assert_eq!(manager.fences.last(), 2);
        assert_eq!(looked_at(&mut manager), (vec![(3, b"k".to_vec())], vec![(3, 2)]));
        manager.serve_aside();
        assert_eq!(looked_at(&mut manager).0, vec![(3, b"k".to_vec())], "nothing was aside");
    }

    #[test]
    fn an_index_that_is_taken_names_each_lock_once_and_is_empty_then() {
        let mut manager = LockManager::default();
        let later = |mut hold: Hold, ms| {
            hold.deadline = DUE.plus_ms(ms);
            hold
        };
        manager.index(0, b"k", &mut hold(1));
        manager.index(3, b"k", &mut later(hold(2), 86_400_000));
        manager.index(3, b"never", &mut Hold { deadline: Moment::NEVER, ..hold(3) });
        manager.index(0, b"no tie", &mut Hold { extra: None, ..later(hold(4), 4_233_600_000) });
        let names: Vec<_> = manager.take_indexed().into_iter().map(Vec::from).collect();
        assert_eq!(names, [&b"k"[..], b"never", b"no tie"]);
        assert_eq!((manager.leases.len(), manager.ties.len()), (0, 0));
        manager.index(1, b"k", &mut hold(5));
        assert_eq!(looked_at(&mut manager), (vec![(1, b"k".to_vec())], vec![(1, 5)]));
    }
}
