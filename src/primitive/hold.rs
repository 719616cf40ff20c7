//! One owner's grant.

use super::bounds::{Bounds, Tie};
use super::deadlines::Slot;
use super::ledger::HoldEnd;
use super::permits::Permits;
use super::reentry::{Exit, ReentryIds};
use super::{Fence, Lease, Moment, Owner};

/// The part that few holds have, kept apart so that it costs the others no more than a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extra {
    /// Text for operators.
    pub note: Box<[u8]>,
    /// How many locks were granted together under the hold's fence, this one among them.
    pub keys: u32,
    /// Under which ids the owner is in.
    pub entries: ReentryIds,
    /// The bounds of the hold's life beside its lease.
    pub bounds: Option<Box<Bounds>>,
    /// Whether the owner was asked to give it up. Known to this server alone, and not to its files.
    pub is_wanted: bool,
    /// Whether it was given to a ticket, and its owner has not been heard of since. Known to this server alone, too.
    pub is_unclaimed: bool,
}

impl Default for Extra {
    fn default() -> Self {
        Self {
            note: Box::default(),
            keys: 1,
            entries: ReentryIds::default(),
            bounds: None,
            is_wanted: false,
            is_unclaimed: false,
        }
    }
}

impl Extra {
    /// The same in a box. Returns `None` if there is nothing in it.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// Whether it was granted with other locks, or its owner is in under ids: what the stream tells behind the note.
    pub(crate) fn tells_of_ids(&self) -> bool {
        self.keys > 1 || !self.entries.is_plain()
    }
}

/// Where the lease index keeps a hold, a hint, and whether its owner has been heard of since it was given to a client that
/// waited. Both lie in 32 bits: one byte more would make every lock 16 larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u32);

impl Mark {
    const UNTOUCHED: u32 = 1 << 31;

    /// In no index, and its owner is known to know of it.
    pub(crate) const NONE: Self = Self(Slot::NONE.bits());

    /// The same, and its owner may not know of it.
    pub(crate) const UNHEARD: Self = Self(Slot::NONE.bits() | Self::UNTOUCHED);

    /// Where the lease index keeps the hold.
    pub(crate) const fn slot(self) -> Slot {
        Slot::from_bits(self.0)
    }

    /// The same mark with another place in the index.
    pub(crate) const fn at(self, slot: Slot) -> Self {
        Self(self.0 & Self::UNTOUCHED | slot.bits())
    }
}

/// One owner's grant on one lock.
#[derive(Debug)]
pub(crate) struct Hold {
    pub owner: Owner,
    /// Made for this grant alone: it names the hold, whatever happens to the key meanwhile.
    pub fence: Fence,
    /// How long the hold was asked to last, counted from the grant or from the last renewal.
    pub lease: Lease,
    /// Where the hold is over, whether anyone has noticed or not.
    pub deadline: Moment,
    pub extra: Option<Box<Extra>>,
    /// How much of the lock this hold takes.
    pub permits: Permits,
    pub mark: Mark,
}

impl Hold {
    /// Whether the hold still stands at `now`. At its deadline a hold is over.
    pub(crate) fn is_live(&self, now: Moment) -> bool {
        now < self.deadline
    }

    /// The time left at `now` on the wire: ms rounded up, -1 without expiry, 0 when over.
    pub(crate) fn remaining_ms(&self, now: Moment) -> i64 {
        super::time::left_to_wire(self.deadline, now)
    }

    /// The note's bytes; empty when there is none.
    pub(crate) fn note(&self) -> &[u8] {
        self.extra.as_ref().map_or(&[], |extra| &extra.note)
    }

    /// How many locks were granted together under this hold's fence.
    pub(crate) fn keys(&self) -> u32 {
        self.extra.as_ref().map_or(1, |extra| extra.keys)
    }

    /// Under which ids the owner is in.
    pub(crate) fn entries(&self) -> &ReentryIds {
        const PLAIN: &ReentryIds = &ReentryIds::PLAIN;
        self.extra.as_ref().map_or(PLAIN, |extra| &extra.entries)
    }

    /// Whether its owner was asked to give it up.
    pub(crate) fn revoke_requested(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.is_wanted)
    }

    /// Whether it was given to a ticket, and its owner has not been heard of since.
    pub(crate) fn is_unclaimed(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.is_unclaimed)
    }

    /// The bounds of its life beside the lease, if there are any.
    pub(crate) fn bounds(&self) -> Option<&Bounds> {
        self.extra.as_ref()?.bounds.as_deref()
    }

    /// The connection that it is tied to, if it is.
    pub(crate) fn tie(&self) -> Option<&Tie> {
        self.bounds()?.tie.as_ref()
    }

    /// Where it is over at the latest, however often it is renewed.
    pub(crate) fn end_max(&self) -> Moment {
        self.bounds().map_or(Moment::NEVER, Bounds::end)
    }

    /// Lets it last for `lease` from now, as far as its bounds allow.
    pub(crate) fn set_deadline(&mut self, lease: Lease, now: Moment) {
        self.deadline = lease.deadline(now).min(self.end_max());
    }

    /// How it ended, when it is over by its deadline.
    pub(crate) fn end_reason(&self) -> HoldEnd {
        // A replica is told of the deadline and of the bounds one after the other.
        let end = self.deadline.plus_ms(1);
        match self.bounds() {
            _ if self.is_unclaimed() => HoldEnd::Unclaimed,
            Some(bounds) if bounds.tie.is_some_and(|tie| tie.end <= end) => HoldEnd::Closed,
            Some(bounds) if bounds.cap <= end => HoldEnd::Capped,
            _ => HoldEnd::Expired,
        }
    }

    /// Changes what few holds have.
    fn change_extra<R>(&mut self, work: impl FnOnce(&mut Extra) -> R) -> R {
        let mut extra = self.extra.take().map_or_else(Extra::default, |extra| *extra);
        let result = work(&mut extra);
        self.extra = extra.boxed();
        result
    }

    /// Gives it another note.
    pub(crate) fn set_note(&mut self, note: &[u8]) {
        if self.note() != note {
            self.change_extra(|extra| extra.note = note.into());
        }
    }

    /// Gives it this note, and takes its bounds away: what is stated of a hold anew.
    pub(crate) fn restate(&mut self, note: Box<[u8]>) {
        self.change_extra(|extra| (extra.note, extra.bounds) = (note, None));
    }

    /// Keeps its lock from being granted again before this.
    pub(crate) fn set_min_end(&mut self, min_end: Moment) {
        let bounds = self.bounds().copied().unwrap_or_default();
        self.set_bounds(Bounds { min_end: bounds.min_end.max(min_end), ..bounds });
    }

    /// Whether nobody has been heard of it since it was given to a client that waited.
    pub(crate) const fn is_untouched(&self) -> bool {
        self.mark.0 & Mark::UNTOUCHED != 0
    }

    /// Notes that its owner has been heard of.
    pub(crate) const fn touch(&mut self) {
        self.mark.0 &= !Mark::UNTOUCHED;
    }

    /// Notes that its owner was asked to give it up.
    pub(crate) fn ask_for(&mut self) {
        self.change_extra(|extra| extra.is_wanted = true);
    }

    /// Notes that it was given to a ticket, whose owner has so long to be heard of. It keeps the lease that was asked for, so
    /// that a replica knows how long the hold can last that comes of it.
    pub(crate) fn await_claim(&mut self, within: Lease, now: Moment) {
        self.change_extra(|extra| extra.is_unclaimed = true);
        self.set_deadline(self.lease.min(within), now);
    }

    /// Notes that its owner has been heard of; the lease that it gets by this.
    pub(crate) fn claim(&mut self) -> Option<Lease> {
        let lease = self.is_unclaimed().then_some(self.lease);
        if lease.is_some() {
            self.change_extra(|extra| extra.is_unclaimed = false);
        }
        lease
    }

    /// Bounds its life so, beside the lease that it has.
    pub(crate) fn set_bounds(&mut self, bounds: Bounds) {
        self.change_extra(|extra| extra.bounds = bounds.boxed());
        self.deadline = self.deadline.min(bounds.end());
    }

    /// Lets the owner in under this id, which is new.
    pub(crate) fn enter(&mut self, id: &[u8]) {
        self.change_extra(|extra| extra.entries.enter(id));
    }

    /// Lets the owner out under this id.
    #[inline]
    pub(crate) fn exit(&mut self, id: &[u8]) -> Exit {
        match self.extra {
            // The plain way: one id, which is empty.
            None if id.is_empty() => Exit::Last,
            None => Exit::Unknown,
            Some(_) => self.change_extra(|extra| extra.entries.exit(id)),
        }
    }
}
