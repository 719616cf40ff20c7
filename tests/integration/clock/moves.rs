//! Locks that are moved with MIGRATE between two servers whose clocks disagree, or did when the fence was made. A fence may
//! lie as far ahead of the clock of the server that takes it as `lock.max-fence-ahead-ms` says, a day; beyond that the lock
//! stays where it is.

use super::assert_stepped;
use crate::clock_shim::{WallClock, HOUR};
use crate::steps::{acquire, in_line, unix_us};
use crate::support::{Server, Stop, Value};
use crate::traffic::left;

/// A server on a clock of its own.
struct Place {
    clock: WallClock,
    server: Server,
}

impl Place {
    /// A server that starts on a clock that is wrong by so much.
    fn new(case: &str, hours: i64) -> Option<Place> {
        let clock = WallClock::new(case)?;
        clock.set(hours * HOUR);
        let server = clock.setup().start();
        assert_stepped(&server, hours * HOUR);
        Some(Place { clock, server })
    }

    /// Takes the lock `k`; its fence, which shows how wrong the module's clock is.
    fn take(&self, hours: i64) -> i64 {
        let fence = acquire(&self.server, "k o NOEXPIRE");
        let ahead = fence - unix_us() - hours * HOUR * 1_000_000;
        assert!(ahead.abs() < 60_000_000, "the module goes by another clock: {ahead} µs");
        fence
    }

    /// Sets its clock right.
    fn set_right(&self) {
        self.clock.set(0);
        assert_stepped(&self.server, 0);
    }

    /// Allows fences to lie so far ahead.
    fn allow(&self, hours: i64) {
        let ms = (hours * HOUR * 1000).to_string();
        assert_eq!(self.server.cmd(&["CONFIG", "SET", "lock.max-fence-ahead-ms", &ms]), "OK");
    }
}

/// Moves `k`.
fn migrate(from: &Place, to: &Place) -> Value {
    from.server.cmd(&["MIGRATE", "127.0.0.1", &to.server.port().to_string(), "k", "0", "5000"])
}

/// The lock has arrived whole: owner, fence and lease, and every later fence is newer.
fn assert_moved(from: &Place, to: &Place, fence: i64) {
    assert_eq!(from.server.cmd(&["EXISTS", "k"]), 0);
    assert_eq!(to.server.cmd(&["LOCK.CHECK", "k", "o", "FENCE", &fence.to_string()]), -1);
    assert_eq!(acquire(&to.server, "k o"), fence, "the same owner has the same fence");
    let mut next = in_line(&to.server, "LOCK.ACQUIRE k p BLOCK 60000 NOEXPIRE");
    assert_eq!(to.server.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    assert!(next.read().int() > fence);
}

/// Nothing has happened: the lock is where it was, and the log of the server that refused it says why.
fn assert_refused(from: &Place, to: &Place) {
    let reply = migrate(from, to);
    assert!(reply.error().contains("Bad data format"), "{reply:?}");
    assert_eq!(left(&from.server, "k", "o"), -1);
    assert_eq!(to.server.cmd(&["EXISTS", "k"]), 0);
    let log = to.server.log();
    assert!(log.contains("'k'") && log.contains("lock.max-fence-ahead-ms"), "{log}");
    assert!(acquire(&to.server, "other o") < unix_us() + 60_000_000, "no fence was pushed ahead");
}

/// A lock whose fence was made on a clock that was ahead, and is set right before it is moved, there and back.
fn moves_from_a_clock_that_was_ahead(hours: i64, is_within: bool) {
    let case = "moves of a lock from a clock that was ahead";
    let (Some(mut from), Some(to)) = (Place::new(case, hours), Place::new(case, 0)) else { return };
    let fence = from.take(hours);
    from.set_right();
    if !is_within {
        assert_refused(&from, &to);
        to.allow(hours + 1);
    }
    assert_eq!(migrate(&from, &to), "OK");
    assert_eq!(from.server.cmd(&["EXISTS", "k"]), 0);
    // Back to the server that has made it. Its module looks at the clock from time to time, and at the start.
    from.server.restart(Stop::Kill);
    if !is_within {
        assert_refused(&to, &from);
        from.allow(hours + 1);
    }
    assert_eq!(migrate(&to, &from), "OK");
    assert_eq!(migrate(&from, &to), "OK");
    assert_moved(&from, &to, fence);
}

#[test]
fn a_lock_of_a_clock_that_was_ahead_is_moved_within_a_day() {
    moves_from_a_clock_that_was_ahead(2, true);
    moves_from_a_clock_that_was_ahead(23, true);
}

#[test]
fn a_lock_of_a_clock_that_was_ahead_by_more_is_moved_when_it_is_allowed() {
    moves_from_a_clock_that_was_ahead(25, false);
}

/// A lock that is moved to a server whose clock is behind, and back.
fn moves_to_a_clock_that_is_behind(hours: i64, is_within: bool) {
    let case = "moves of a lock to a clock that is behind";
    let (Some(from), Some(to)) = (Place::new(case, 0), Place::new(case, -hours)) else { return };
    let fence = from.take(0);
    if !is_within {
        assert_refused(&from, &to);
        to.allow(hours + 1);
    }
    assert_eq!(migrate(&from, &to), "OK");
    // Nobody refuses what is older than its clock.
    assert_eq!(migrate(&to, &from), "OK");
    assert_eq!(migrate(&from, &to), "OK");
    assert_moved(&from, &to, fence);
}

#[test]
fn a_lock_is_moved_to_a_clock_that_is_behind_within_a_day() {
    moves_to_a_clock_that_is_behind(2, true);
    moves_to_a_clock_that_is_behind(23, true);
}

#[test]
fn a_lock_is_moved_to_a_clock_that_is_behind_by_more_when_it_is_allowed() {
    moves_to_a_clock_that_is_behind(25, false);
}
