//! The bounds of a hold's life beside its lease: an end that no renewal moves, a cooldown of its lock after it, and the
//! connection that it is tied to.

use super::{Lease, Moment};

/// The bounds that a request asks for, counted from the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The hold ends no later than this.
    pub longest: Lease,
    /// The lock is not granted again sooner than this, however the hold ends.
    pub shortest: Lease,
    pub tie: Option<Tie>,
}

impl Default for Span {
    fn default() -> Self {
        Self { longest: Lease::NEVER, shortest: Lease::NONE, tie: None }
    }
}

impl Span {
    /// The bounds that both ask for together, with the tie of the second.
    pub(crate) fn and(self, other: Self) -> Self {
        let (longest, shortest) = (self.longest.min(other.longest), self.shortest.max(other.shortest));
        Self { longest, shortest, tie: other.tie }
    }

    /// The bounds of a hold that is granted at `now`.
    pub(crate) fn from(self, now: Moment) -> Bounds {
        let min_end = if self.shortest == Lease::NONE { Moment::MIN } else { self.shortest.deadline(now) };
        Bounds { cap: self.longest.deadline(now), min_end, tie: self.tie }
    }
}

/// The bounds of one hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The hold is over here, whatever is renewed.
    pub cap: Moment,
    /// The lock is not granted again before this.
    pub min_end: Moment,
    pub tie: Option<Tie>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { cap: Moment::NEVER, min_end: Moment::MIN, tie: None }
    }
}

impl Bounds {
    /// The same in a box. Returns `None` if they bound nothing.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// Both bounds together, with the tie of the second.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { cap: self.cap.min(other.cap), min_end: self.min_end.max(other.min_end), tie: other.tie }
    }

    /// Where the hold is over at the latest.
    pub(crate) fn end(&self) -> Moment {
        self.tie.map_or(Moment::NEVER, |tie| tie.end).min(self.cap)
    }
}

/// The connection with which a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tie {
    /// The process that the connection belongs to: client ids begin anew with each.
    pub node: u64,
    /// The connection's client id there.
    pub client: u64,
    /// How long the hold outlasts the connection.
    pub grace: Lease,
    /// Where that time is over; never while the connection is there.
    pub end: Moment,
}

impl Tie {
    /// A tie to a connection that is there.
    pub(crate) const fn new(node: u64, client: u64, grace: Lease) -> Self {
        Self { node, client, grace, end: Moment::NEVER }
    }

    /// Whether the connection was found to be gone.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.end != Moment::NEVER
    }
}
