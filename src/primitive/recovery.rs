//! The recovery window: for a while after a failover nothing is granted. The old primary may have granted what its replica
//! never heard of; those holders come back meanwhile, each with its fence, and have their hold again.
//!
//! Fences tell what was lost. A stream is heard in its order, so a hold that has a fence up to the newest one known
//! when the window opens is known, or has ended; one with a newer fence was granted behind it, and nobody here can know
//! of it.
//!
//! Replicas and files are told of a window, since a server after this one has to wait for those holders as well.

pub(crate) mod encoding;

use super::table::Table;
use super::{Clock, Fence, Hold, Lease, Moment, Permits};
use crate::limits::RECOVERY_MARKS_MAX;

/// How long a window is to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is none.
    Off,
    /// As long as the longest lease seen lately, at least `least`, since one may have been lost that nobody here has seen;
    /// and at most `most`.
    Auto {
        least: Lease,
        most: Lease,
    },
    Fixed(Lease),
}

/// Whether a window is open, and what is known for the next.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    window: Option<Box<Window>>,
    /// Whether it has opened or closed, and those who come after this server have not been told.
    is_untold: bool,
    pub leases: LongestLease,
}

/// A window that is open, as others are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The newest fence that was known when it opened; 0 if none was.
    pub known: u64,
    /// No fence of before can be newer than this.
    pub newest: u64,
    pub until: Moment,
}

/// A hold that an owner says it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LostHold<'a> {
    pub db: i32,
    pub key: &'a [u8],
    pub owner: &'a [u8],
    pub fence: Fence,
}

/// A hold that is over, and its permits where they are known.
type Mark = (Fence, Option<Permits>);

#[derive(Debug)]
struct Window {
    outline: Outline,
    /// Holds that were lost, or came back, and have ended: by lock.
    ended: Table<(i32, Box<[u8]>), Vec<Mark>>,
    /// How many there are.
    marks: usize,
}

impl From<Outline> for Box<Window> {
    fn from(outline: Outline) -> Self {
        Self::new(Window { outline, ended: Table::default(), marks: 0 })
    }
}

impl Recovery {
    /// Opens a window. Returns whether there is one now. A window that is open already goes on at least as long as it
    /// would have, and holds that could come back in it still can.
    pub(crate) fn open(&mut self, length: Length, known: u64, clock: Clock, ahead_ms: u64) -> bool {
        let lasting = match length {
            Length::Off => Lease::NONE,
            Length::Auto { least, most } => self.leases.longest().max(least).min(most),
            Length::Fixed(lease) => lease,
        };
        let newest = clock.unix_us.saturating_add(ahead_ms.saturating_mul(1000));
        let until = lasting.deadline(clock.now);
        if self.is_due(clock.now) || lasting == Lease::NONE {
            self.close();
        }
        if lasting > Lease::NONE {
            let window = self.window.get_or_insert_with(|| Outline { known, newest, until }.into());
            window.set(window.outline.and(Outline { known, newest, until }));
            self.is_untold = true;
        }
        self.is_open()
    }

    /// Whether nothing may be granted now, and no lease ends: its last renewal may have been lost.
    #[inline]
    pub(crate) const fn is_open(&self) -> bool {
        self.window.is_some()
    }

    /// When it closes; `None` if it is not open.
    pub(crate) fn until(&self) -> Option<Moment> {
        self.outline().map(|window| window.until)
    }

    /// The facts that servers after this one have to know of it. Returns `None` if it is not open.
    pub(crate) fn outline(&self) -> Option<Outline> {
        self.window.as_ref().map(|window| window.outline)
    }

    /// Whether it has opened or closed since somebody asked.
    pub(crate) fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.is_untold)
    }

    /// Has those who come after this server told again of a window that is open. Returns whether there is one.
    pub(crate) fn tell_again(&mut self) -> bool {
        self.is_untold |= self.is_open();
        self.is_open()
    }

    /// The primary of this server, or the file that it loads, says that this window is open, or that none is.
    pub(crate) fn hear(&mut self, told: Option<Outline>) {
        match (&mut self.window, told) {
            (Some(window), Some(told)) => window.set(told),
            (window, told) => *window = told.map(Into::into),
        }
    }

    /// Goes on with the window of another, or with none.
    pub(crate) fn go_on_with(&mut self, other: Self) {
        self.window = other.window;
    }

    /// The marks of an open window: a database, a lock in it, the fence of a hold that is over, and its permits where they
    /// are known.
    pub(crate) fn marks(&self) -> impl Iterator<Item = (i32, &[u8], Fence, Option<Permits>)> {
        let all = self.window.iter().flat_map(|window| window.ended.iter());
        all.flat_map(|((db, key), ended)| ended.iter().map(|(fence, of)| (*db, &**key, *fence, *of)))
    }

    /// Closes the window. Returns whether it was open.
    pub(crate) fn close(&mut self) -> bool {
        let was_open = self.window.take().is_some();
        self.is_untold |= was_open;
        was_open
    }

    /// Whether it is open and its time is over.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.until().is_some_and(|until| until <= now)
    }

    /// Whether such a hold may have been granted behind what is known here, with these permits, and not be over: nothing
    /// that came after it and cannot have stood beside it has been heard of, be it among the lock's `holds` or ended.
    pub(crate) fn may_be_lost(&self, hold: LostHold, permits: Permits, holds: &[Hold]) -> bool {
        let Some(window) = &self.window else { return false };
        let LostHold { db, key, owner, fence } = hold;
        let is_known = |hold: &Hold| {
            let came_after =
                || hold.fence > fence && (hold.owner.as_bytes() == owner || !hold.permits.can_share(permits));
            hold.fence == fence || came_after()
        };
        let ends_it = |(ended, of): &Mark| {
            // Only an exclusive hold is sure to have ended before another of which the permits are not known.
            let could_share = of.map_or(permits != Permits::EXCLUSIVE, |of| of.can_share(permits));
            *ended == fence || (*ended > fence && !could_share)
        };
        let is_over = || {
            let ended = window.ended.get(&(db, key.into()));
            ended.is_some_and(|ended| ended.iter().any(ends_it))
        };
        window.outline.known < fence.get()
            && fence.get() <= window.outline.newest
            && !holds.iter().any(is_known)
            && !is_over()
    }

    /// The same, whatever permits it had.
    pub(crate) fn may_be_lost_in_any_mode(&self, hold: LostHold, holds: &[Hold]) -> bool {
        let one = Permits { limit: 1, count: 1 };
        let mut modes = [Permits::EXCLUSIVE, Permits::SHARED, one].into_iter();
        modes.any(|permits| self.may_be_lost(hold, permits, holds))
    }

    /// No hold of any lock comes back: somebody has emptied a database.
    pub(crate) fn let_nothing_back(&mut self) {
        if let Some(window) = &mut self.window {
            window.let_nothing_back();
        }
    }

    /// The fence under which no hold of a lock comes back, as it is newer than all; `None` if there is no window.
    pub(crate) fn newest(&self) -> Option<Fence> {
        self.outline().and_then(|window| Fence::new(window.newest))
    }

    /// A hold that is not known here is over, and with the newest fence all holds of the lock. Returns whether there is a window.
    pub(crate) fn keep_away(&mut self, db: i32, key: &[u8], fence: Fence) -> bool {
        let all = (self.newest() == Some(fence)).then_some(Permits::EXCLUSIVE);
        self.record_end(db, key, fence, all);
        self.is_open()
    }

    /// Two databases have changed places.
    pub(crate) fn swap(&mut self, first: i32, second: i32) {
        let Some(window) = &mut self.window else { return };
        for ((mut db, key), marks) in std::mem::take(&mut window.ended) {
            if db == first {
                db = second;
            } else if db == second {
                db = first;
            }
            window.ended.insert((db, key), marks);
        }
    }

    /// A hold has ended while the window is open. `permits` is `None` if they are not known.
    #[inline]
    pub(crate) fn record_end(&mut self, db: i32, key: &[u8], fence: Fence, permits: Option<Permits>) {
        if let Some(window) = &mut self.window {
            window.record_end(db, key, fence, permits);
        }
    }
}

impl Outline {
    /// One that covers both.
    fn and(self, other: Self) -> Self {
        Self {
            known: self.known.min(other.known),
            newest: self.newest.max(other.newest),
            until: self.until.max(other.until),
        }
    }
}

impl Window {
    fn set(&mut self, outline: Outline) {
        self.outline = outline;
        if self.marks >= RECOVERY_MARKS_MAX {
            self.let_nothing_back();
        }
    }

    /// A hold whose end is not marked could come back, so none may.
    const fn let_nothing_back(&mut self) {
        self.outline.newest = self.outline.known;
    }

    #[cold]
    fn record_end(&mut self, db: i32, key: &[u8], fence: Fence, permits: Option<Permits>) {
        if fence.get() <= self.outline.known {
            return;
        }
        if self.marks >= RECOVERY_MARKS_MAX {
            self.let_nothing_back();
            return;
        }
        self.marks = self.marks.saturating_add(1);
        let name = (db, Box::from(key));
        match self.ended.get_mut(&name) {
            Some(ended) => ended.push((fence, permits)),
            None => {
                self.ended.insert(name, vec![(fence, permits)]);
            }
        }
    }
}

/// The longest finite lease of late. It rises at once, and falls when no such lease can be alive any more.
#[derive(Debug)]
pub(crate) struct LongestLease {
    /// Of those noted since then.
    newer: Lease,
    since: Moment,
    /// Of those noted before, for as long as any of them lasts.
    older: Lease,
}

impl Default for LongestLease {
    fn default() -> Self {
        Self { newer: Lease::NONE, since: Moment::MIN, older: Lease::NONE }
    }
}

impl LongestLease {
    /// Notes a lease that was granted, renewed or heard of.
    #[inline]
    pub(crate) fn note(&mut self, lease: Lease) {
        if lease > self.newer && lease != Lease::NEVER {
            self.newer = lease;
        }
    }

    /// Forgets what is over. To be called now and then.
    pub(crate) fn age(&mut self, now: Moment) {
        if self.newer.max(self.older).deadline(self.since) <= now {
            (self.older, self.newer, self.since) = (self.newer, Lease::NONE, now);
        }
    }

    /// The longest; `Lease::NONE` if there was none.
    pub(crate) fn longest(&self) -> Lease {
        self.newer.max(self.older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"k";
    const CLOCK: Clock = Clock { now: Moment(5_000), unix_us: 1_000_000 };

    fn fence(n: u64) -> Fence {
        Fence::new(n).unwrap()
    }

    /// The same for a lock that is free.
    fn may_be_lost(recovery: &Recovery, (db, key): (i32, &[u8]), n: u64, permits: Permits) -> bool {
        recovery.may_be_lost(LostHold { db, key, owner: b"o", fence: fence(n) }, permits, &[])
    }

    /// A window in which 100 is the newest fence known, and nothing is ahead of the clock by more than a second.
    fn open() -> Recovery {
        let mut recovery = Recovery::default();
        assert!(recovery.open(Length::Fixed(Lease::ms(7)), 100, CLOCK, 1_000));
        recovery
    }

    #[test]
    fn what_is_lost_has_a_fence_between_what_is_known_and_the_clock() {
        let recovery = open();
        let may = |n| may_be_lost(&recovery, (0, KEY), n, Permits::EXCLUSIVE);
        assert_eq!([1, 100, 101, 2_000_000, 2_000_001].map(may), [false, false, true, true, false]);
        let closed = Recovery::default();
        assert!(!may_be_lost(&closed, (0, KEY), 101, Permits::EXCLUSIVE), "there is no window");
    }

    #[test]
    fn what_has_ended_does_not_come_back_nor_what_it_came_after() {
        let (exclusive, shared) = (Permits::EXCLUSIVE, Permits::SHARED);
        let may = |recovery: &Recovery, permits| {
            [149, 150, 151].map(|n| may_be_lost(recovery, (0, KEY), n, permits))
        };
        for (ended, beside_exclusive, beside_shared) in [
            (Some(exclusive), [false, false, true], [false, false, true]),
            (Some(shared), [false, false, true], [true, false, true]),
            (None, [false, false, true], [true, false, true]),
        ] {
            let mut recovery = open();
            recovery.record_end(0, KEY, fence(150), ended);
            recovery.record_end(0, b"other", fence(90), ended);
            assert_eq!(may(&recovery, exclusive), beside_exclusive, "{ended:?}");
            assert_eq!(may(&recovery, shared), beside_shared, "{ended:?}");
            assert!(may_be_lost(&recovery, (1, KEY), 150, exclusive), "another database");
            assert!(may_be_lost(&recovery, (0, b"other"), 101, exclusive), "that one was known");
        }
    }

    #[test]
    fn where_no_more_ends_can_be_marked_nothing_comes_back() {
        let mut recovery = open();
        for n in 0..RECOVERY_MARKS_MAX {
            recovery.record_end(0, n.to_string().as_bytes(), fence(101), None);
        }
        assert!(may_be_lost(&recovery, (0, KEY), 101, Permits::EXCLUSIVE));
        recovery.record_end(0, b"one more", fence(101), None);
        assert!(!may_be_lost(&recovery, (0, KEY), 101, Permits::EXCLUSIVE) && recovery.is_open());
    }

    #[test]
    fn nothing_comes_back_after_a_flush() {
        let mut recovery = open();
        assert!(may_be_lost(&recovery, (0, KEY), 101, Permits::EXCLUSIVE));
        recovery.let_nothing_back();
        assert!(!may_be_lost(&recovery, (0, KEY), 101, Permits::EXCLUSIVE) && recovery.is_open());
    }

    #[test]
    fn is_due_at_its_end_and_not_before() {
        let mut recovery = open();
        assert!(!recovery.is_due(Moment(11_999)) && recovery.is_open());
        assert!(recovery.is_due(Moment(12_000)) && recovery.close() && !recovery.is_open());
        assert!(!recovery.is_due(Moment(12_000)) && !recovery.close(), "it was closed");
    }

    #[test]
    fn lasts_as_long_as_the_longest_lease_that_can_be_alive() {
        let until = |recovery: &mut Recovery| {
            let length = Length::Auto { least: Lease::ms(15), most: Lease::ms(60) };
            recovery.close();
            recovery.open(length, 0, Clock { now: Moment(0), ..CLOCK }, 0);
            recovery.until().unwrap().0 / 1000
        };
        let mut recovery = Recovery::default();
        assert_eq!(until(&mut recovery), 15, "none was seen");
        recovery.leases.note(Lease::ms(10));
        assert_eq!(until(&mut recovery), 15, "a longer one may have been lost");
        for lease in [Lease::ms(20), Lease::ms(50), Lease::NEVER] {
            recovery.leases.note(lease);
        }
        assert_eq!(until(&mut recovery), 50);
        recovery.leases.age(Moment(49_999));
        recovery.leases.note(Lease::ms(20));
        recovery.leases.age(Moment(50_000));
        assert_eq!(until(&mut recovery), 50, "one that was noted just now is alive");
        recovery.leases.note(Lease::ms(20));
        recovery.leases.age(Moment(100_000));
        assert_eq!(until(&mut recovery), 20);
        recovery.leases.note(Lease::ms(70));
        assert_eq!(until(&mut recovery), 60, "no longer than it may");
    }

    #[test]
    fn one_that_opens_while_one_is_open_covers_both() {
        let mut recovery = open();
        recovery.record_end(0, KEY, fence(150), Some(Permits::EXCLUSIVE));
        let later = Clock { now: Moment(6_000), unix_us: 5_000_000 };
        assert!(recovery.open(Length::Fixed(Lease::ms(2)), 4_000_000, later, 1_000));
        let of_both = Outline { known: 100, newest: 6_000_000, until: Moment(12_000) };
        assert_eq!(recovery.outline(), Some(of_both));
        let may = |n| may_be_lost(&recovery, (0, KEY), n, Permits::EXCLUSIVE);
        assert_eq!([150, 151].map(may), [false, true], "what has ended is still known");

        let over = Clock { now: Moment(12_000), unix_us: 7_000_000 };
        assert!(recovery.open(Length::Fixed(Lease::ms(2)), 4_000_000, over, 0));
        assert_eq!(recovery.outline().map(|window| window.known), Some(4_000_000), "that one was over");
    }

    #[test]
    fn who_hears_of_a_window_has_the_same_and_need_not_tell_of_it() {
        let (mut primary, mut replica) = (open(), Recovery::default());
        assert!(primary.take_untold() && !primary.take_untold());
        replica.hear(primary.outline());
        replica.record_end(0, KEY, fence(150), None);
        replica.hear(primary.outline());
        assert_eq!((replica.outline(), replica.take_untold()), (primary.outline(), false));
        assert_eq!(replica.marks().collect::<Vec<_>>(), [(0, KEY, fence(150), None)]);
        assert!(primary.close() && primary.take_untold());
        replica.hear(primary.outline());
        assert!(!replica.is_open() && !replica.take_untold());
    }

    #[test]
    fn there_is_none_where_it_is_off() {
        let mut recovery = open();
        assert!(!recovery.open(Length::Off, 100, CLOCK, 0) && !recovery.is_open() && recovery.take_untold());
        assert!(!recovery.open(Length::Fixed(Lease::NONE), 100, CLOCK, 0));
    }
}
