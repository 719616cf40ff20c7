//! Who believed to hold what, from when to when, in real time; and what cannot be true of it.

use crate::locks::{LockId, Mode, LIMIT};

/// How somebody's belief ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// It was given back.
    Released,
    /// The server said that it is over.
    Refused,
    /// The owner's own clock said so, with no word from a server.
    Expired,
    /// The connection that it was tied to is gone, or the server on the other end was silent for as long as that may matter.
    Cut,
}

/// One hold, as its owner saw it: from the reply that granted it until the first moment in which the owner no longer
/// believed in it. In µs of one clock for all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) lock: LockId,
    pub(crate) owner: u16,
    pub(crate) mode: Mode,
    pub(crate) fence: i64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) how: End,
}

/// Two that cannot both be right, or one too many of a semaphore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clash {
    pub(crate) before: Span,
    pub(crate) after: Span,
}

/// All spans by lock, and by the time at which they began.
pub(crate) struct History(Vec<Span>);

impl History {
    pub(crate) fn new(mut spans: Vec<Span>) -> History {
        spans.sort_by_key(|span| (span.lock, span.start));
        History(spans)
    }

    pub(crate) fn spans(&self) -> &[Span] {
        &self.0
    }

    fn by_lock(&self) -> impl Iterator<Item = &[Span]> {
        self.0.chunk_by(|a, b| a.lock == b.lock)
    }

    /// Holds that began while others stood that they cannot stand beside.
    pub(crate) fn clashes(&self) -> Vec<Clash> {
        let mut clashes = Vec::new();
        for spans in self.by_lock() {
            let mut standing: Vec<Span> = Vec::new();
            for &after in spans {
                standing.retain(|span| span.end > after.start && span.owner != after.owner);
                if let Some(&before) = standing.iter().find(|_| !can_join(&standing, after.mode)) {
                    clashes.push(Clash { before, after });
                }
                standing.push(after);
            }
        }
        clashes
    }

    /// Exclusive holds whose fence was not above that of the one before them.
    pub(crate) fn fences_that_fell(&self) -> Vec<Clash> {
        let falls = |pair: &[Span]| {
            pair.iter().all(|span| span.mode == Mode::Exclusive)
                && pair[0].owner != pair[1].owner
                && pair[1].fence <= pair[0].fence
        };
        let pairs = self.by_lock().flat_map(|spans| spans.windows(2)).filter(|pair| falls(pair));
        pairs.map(|pair| Clash { before: pair[0], after: pair[1] }).collect()
    }

    /// Of the holds that stood at `at` and that nobody gave back before `from`: how many there were, and how many of them were
    /// lost before `until`. One that was tied to a connection that is gone is not asked for.
    pub(crate) fn fate(&self, at: u64, from: u64, until: u64) -> (usize, usize) {
        let there = self.0.iter().filter(|span| span.start <= at && span.end > at && span.how != End::Cut);
        let wanted: Vec<_> = there.filter(|span| span.how != End::Released || span.end > from).collect();
        let lost = wanted.iter().filter(|span| span.how != End::Released && span.end <= until).count();
        (wanted.len(), lost)
    }

    /// The longest time between two grants that follow each other, from shortly before `from` to `to`, in µs.
    pub(crate) fn longest_gap(&self, from: u64, to: u64) -> u64 {
        let mut starts: Vec<u64> = self.0.iter().map(|span| span.start).filter(|at| *at <= to).collect();
        starts.sort_unstable();
        let first = starts.partition_point(|at| *at < from).saturating_sub(1);
        starts[first.min(starts.len())..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}

fn can_join(standing: &[Span], mode: Mode) -> bool {
    match mode {
        Mode::Exclusive => standing.is_empty(),
        Mode::Shared => standing.iter().all(|span| span.mode == Mode::Shared),
        Mode::Permits(count) => {
            let taken: u16 = standing.iter().map(|span| permits(span.mode)).sum();
            taken + count <= LIMIT
        }
    }
}

fn permits(mode: Mode) -> u16 {
    match mode {
        Mode::Permits(count) => count,
        _ => LIMIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(owner: u16, mode: Mode, start: u64, end: u64) -> Span {
        Span { lock: 0, owner, mode, fence: i64::from(owner), start, end, how: End::Released }
    }

    fn clashes(spans: &[Span]) -> usize {
        History::new(spans.to_vec()).clashes().len()
    }

    #[test]
    fn two_who_hold_one_lock_are_seen() {
        use Mode::Exclusive;
        assert_eq!(clashes(&[span(1, Exclusive, 0, 10), span(2, Exclusive, 10, 20)]), 0);
        assert_eq!(clashes(&[span(1, Exclusive, 0, 11), span(2, Exclusive, 10, 20)]), 1);
        assert_eq!(
            clashes(&[span(1, Exclusive, 0, 90), span(2, Exclusive, 10, 20), span(3, Exclusive, 30, 40)]),
            2
        );
        let elsewhere = Span { lock: 1, ..span(2, Exclusive, 5, 20) };
        assert_eq!(clashes(&[span(1, Exclusive, 0, 10), elsewhere]), 0);
    }

    #[test]
    fn readers_stand_beside_readers_alone() {
        use Mode::{Exclusive, Shared};
        assert_eq!(clashes(&[span(1, Shared, 0, 10), span(2, Shared, 5, 20)]), 0);
        assert_eq!(clashes(&[span(1, Shared, 0, 10), span(2, Exclusive, 5, 20)]), 1);
        assert_eq!(clashes(&[span(1, Exclusive, 0, 10), span(2, Shared, 5, 20)]), 1);
    }

    #[test]
    fn a_semaphore_has_so_many_permits_and_no_more() {
        let of = |owner, count, start, end| span(owner, Mode::Permits(count), start, end);
        assert_eq!(clashes(&[of(1, 1, 0, 10), of(2, 2, 5, 20)]), 0);
        assert_eq!(clashes(&[of(1, 1, 0, 10), of(2, 2, 5, 20), of(3, 1, 6, 7)]), 1);
        assert_eq!(clashes(&[of(1, 1, 0, 10), of(2, 2, 5, 20), of(3, 1, 10, 12)]), 0);
    }

    #[test]
    fn a_fence_that_falls_a_hold_that_is_lost_and_a_gap_are_seen() {
        let mut spans = vec![span(5, Mode::Exclusive, 0, 10), span(4, Mode::Exclusive, 40, 50)];
        assert_eq!(History::new(spans.clone()).fences_that_fell().len(), 1);
        assert_eq!(History::new(spans.clone()).longest_gap(10, 60), 40);
        spans[0].how = End::Refused;
        let history = History::new(spans);
        assert_eq!(
            (history.fate(5, 20, 20), history.fate(45, 48, 48), history.fate(45, 90, 90)),
            ((1, 1), (1, 0), (0, 0))
        );
    }
}
