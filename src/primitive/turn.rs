//! One lock's turn: everything that one request, or one wake-up, may read and change, and the steps that all of
//! them are made of. Whatever ends a hold serves the queue in the same step, so that no lock is ever free while
//! somebody who could have it waits.

use super::deadlock::{find_cycle, Holds, Link, Near, Want};
use super::entries::Exit;
use super::hold::Mark;
use super::ledger::{End, Ended, Named};
use super::memory::Undo;
use super::unsettled::Item;
use super::wait_queue::{Caps, Changed, Entry, Full, Place};
use super::waiter::{Ask, Kind, Told, Waiter, WaiterId};
use super::{Claim, Clock, Fence, Hold, Lease, Lock, Memory, Moment};

/// What must happen outside, in this order: replicate, notify, wake.
#[derive(Debug)]
pub enum Effect {
    /// A hold began; `to` is a client that was waiting for it.
    Granted { fence: Fence, to: Option<WaiterId> },
    /// The owner of a hold was heard of and goes on holding.
    Kept,
    /// A hold has another lease, deadline, note or bounds, or fewer permits.
    Renewed { fence: Fence },
    /// The owner of a hold went in under another id.
    Entered { fence: Fence, id: Box<[u8]> },
    /// The owner of a hold went out under this id, and is in under others.
    Exited { fence: Fence, id: Box<[u8]> },
    /// An exclusive hold became a shared one, under this fence.
    Downgraded { fence: Fence },
    /// The semaphore has another limit.
    Limited { limit: u32 },
    /// A hold ended, or what cooled after it.
    Ended { fence: Fence, how: End },
    /// Somebody has got in line.
    Queued,
    /// The turn of a ticket has come, and this channel is to be told.
    Announced { fence: Fence, channel: Box<[u8]> },
    /// The holders were asked to give the lock up.
    Wanted,
    /// A client's wait ended without a grant.
    Left { client: WaiterId, why: Left },
}

/// Why a wait ended without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It took as long as it may.
    TimedOut,
    /// Its owner asked again from elsewhere and waits there.
    Superseded,
    /// The hold that was to be upgraded has ended.
    HoldEnded,
    /// Somebody ended it from elsewhere.
    Cancelled,
    /// Its client is gone, or was sent away.
    Gone,
    /// What it waits for is not to be had here any more: another type, another server.
    Failed,
    /// The user who asked for it has no right to the lock any more.
    Barred,
    /// It has waited long enough, and its place in line is kept.
    PlaceKept,
    /// It asks for more permits than there are, since the limit was lowered to this; or it asked for several
    /// locks with one limit, and they no longer agree.
    OverLimit(u32),
}

/// Who is given a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Whoever asks for it, and is told at once.
    Caller,
    /// A client that waits.
    Client(WaiterId),
    /// A ticket, and the client that is kept waiting for its turn.
    Ticket(Option<WaiterId>),
}

impl To {
    /// One who waited.
    pub fn waiter(id: WaiterId, waiter: &Waiter) -> Self {
        match waiter.kind {
            Kind::Client => Self::Client(id),
            Kind::Ticket => Self::Ticket(waiter.client(id)),
        }
    }

    /// The client that is to be told.
    pub const fn client(self) -> Option<WaiterId> {
        match self {
            Self::Client(id) | Self::Ticket(Some(id)) => Some(id),
            Self::Caller | Self::Ticket(None) => None,
        }
    }
}

/// What is next for the first in line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Granted,
    Leaves(Left),
    /// It is called up, to be given all of its locks or none.
    Group,
}

/// One lock at one moment.
pub struct Turn<'a> {
    pub clock: Clock,
    pub db: i32,
    pub key: &'a [u8],
    pub lock: &'a mut Lock,
    pub memory: &'a mut Memory,
    pub effects: &'a mut Vec<Effect>,
}

impl AsMut<Memory> for Turn<'_> {
    fn as_mut(&mut self) -> &mut Memory {
        self.memory
    }
}

impl<'a> Turn<'a> {
    /// This owner on this lock, for the ledger.
    pub fn named<'n>(&self, owner: &'n [u8]) -> Named<'n>
    where
        'a: 'n,
    {
        Named { db: self.db, key: self.key, owner }
    }

    /// Ends the holds that are over, grants what can be granted, and sees that the lease index knows what is
    /// left. Every turn begins with it.
    pub fn settle(&mut self) {
        let now = self.clock.now;
        let over = self.lock.end_each(|hold| !hold.is_live(now));
        self.memory.allowance.spend_on_look(self.lock.holds().len());
        self.memory.allowance.spend(over.len());
        let mut free_since = now;
        for hold in over {
            free_since = free_since.min(hold.deadline);
            let how = hold.how_over();
            self.note_end(hold, how);
        }
        self.end_cooling(|hold| {
            let is_over = !hold.is_live(now);
            if is_over {
                free_since = free_since.min(hold.deadline);
            }
            is_over
        });
        self.memory.free_since = Some(free_since);
        self.serve();
        self.memory.free_since = None;
        let (db, key, memory) = (self.db, self.key, &mut *self.memory);
        self.lock.each_mut(|hold| memory.keep_indexed(db, key, hold));
    }

    /// Grants to waiters in their order, up to the first that does not fit. A wait is over at its deadline,
    /// whether the timer has come round or not.
    pub fn serve(&mut self) {
        if self.memory.waiters.has_new_limits() {
            self.change_some_limits();
        }
        while let Some((id, next)) = self.next_in_line() {
            if next == Next::Group {
                return self.memory.unsettled.push(Item::Group(id));
            }
            if self.memory.allowance.is_spent() {
                // They are in line, so nobody passes them meanwhile.
                return self.leave_unfinished();
            }
            self.memory.allowance.spend(1);
            self.memory.allowance.spend_on_look(self.lock.holds().len());
            if let Next::Leaves(why) = next {
                self.leave(id, why);
            } else if let Some(Entry { waiter, .. }) = self.memory.waiters.remove(id) {
                let to = To::waiter(id, &waiter);
                self.note_wait_over(waiter.since);
                let Some(old) = waiter.upgrades else {
                    let fence = self.grant(waiter.ask, to);
                    self.announce(fence, waiter.told);
                    continue;
                };
                if let Some(new) = self.upgrade(old, to) {
                    // Whether it was named by its fence is not known any more.
                    self.remember_upgrade(waiter.ask.owner.as_bytes(), old, new);
                    self.announce(new, waiter.told);
                }
            }
        }
    }

    /// Somebody who waited since then has the lock now.
    fn note_wait_over(&mut self, since: Moment) {
        let now = self.clock.now;
        let free_since = self.memory.free_since.unwrap_or(now);
        self.memory.history.waits.note(now.us_after(since));
        self.memory.history.delays.note(now.us_after(free_since));
    }

    /// The first in line, and what is next for it; `None` while it has to wait.
    fn next_in_line(&self) -> Option<(WaiterId, Next)> {
        let (id, waiter) = self.memory.waiters.front(self.db, self.key)?;
        let may_have = || self.memory.may_have(waiter, &[self.key]);
        let next = if waiter.deadline <= self.clock.now {
            Next::Leaves(Left::TimedOut)
        } else if let Some(fence) = waiter.upgrades {
            match self.lock.hold_with(fence) {
                None => Next::Leaves(Left::HoldEnded),
                Some(_) if !self.lock.is_alone(fence) => return None,
                Some(_) if !may_have() => Next::Leaves(Left::Barred),
                Some(_) => Next::Granted,
            }
        } else if !self.lock.admits(waiter.ask.claim) {
            return None;
        } else if self.lock.hold_of(waiter.ask.owner.as_bytes()).is_some() {
            // It came by the lock otherwise, as by RESTORE; nobody holds a lock twice.
            Next::Leaves(Left::Superseded)
        } else if waiter.ask.keys() > 1 {
            Next::Group
        } else if !may_have() {
            Next::Leaves(Left::Barred)
        } else {
            Next::Granted
        };
        Some((id, next))
    }

    fn announce(&mut self, fence: Fence, told: Option<Box<Told>>) {
        let channel = told.and_then(|told| told.channel);
        self.effects.extend(channel.map(|channel| Effect::Announced { fence, channel }));
    }

    fn change_some_limits(&mut self) {
        let Memory { waiters, allowance, .. } = &mut *self.memory;
        // The other half is for those whose turn has come.
        let changed = waiters.change_some_limits(self.db, self.key, allowance.left().div_ceil(2));
        let Some(Changed { limit, looked_at, misfits, is_unfinished }) = changed else { return };
        allowance.spend(looked_at);
        misfits.into_iter().for_each(|id| self.leave(id, Left::OverLimit(limit)));
        if is_unfinished {
            self.leave_unfinished();
        }
    }

    /// Leaves the rest of what is to be done at this lock to another step.
    pub(super) fn leave_unfinished(&mut self) {
        if self.memory.unfinished.last().is_none_or(|(db, key)| (*db, &**key) != (self.db, self.key)) {
            self.memory.unfinished.push((self.db, self.key.into()));
        }
    }

    /// Ends a wait without a grant. Whoever stood behind may have its turn now, so serve after it.
    pub fn leave(&mut self, waiter: WaiterId, why: Left) {
        let client = self.memory.waiters.client_of(waiter);
        if self.memory.dismiss_in_step(waiter, why) {
            self.effects.extend(client.map(|client| Effect::Left { client, why }));
        }
    }

    /// Whether a newcomer would have to wait behind somebody.
    pub fn has_queue(&self) -> bool {
        self.memory.waiters.front(self.db, self.key).is_some()
    }

    /// Whether somebody else comes before this owner.
    pub fn is_behind(&self, owner: &[u8]) -> bool {
        let front = self.memory.waiters.front(self.db, self.key);
        front.is_some_and(|(_, first)| first.ask.owner.as_bytes() != owner)
    }

    /// Makes a hold that the lock admits, for a newcomer or for one who waited.
    pub fn grant(&mut self, ask: Ask, to: To) -> Fence {
        let fence = self.memory.fences.next(self.clock.unix_us);
        self.memory.hand_over(fence, Undo::End { left: 1 }, to);
        self.grant_as(fence, ask, to);
        fence
    }

    /// The same under a fence that was made for several locks together.
    pub fn grant_as(&mut self, fence: Fence, ask: Ask, to: To) {
        let mut hold = Hold {
            owner: ask.owner,
            fence,
            lease: ask.lease,
            deadline: ask.lease.deadline(self.clock.now),
            extra: ask.extra,
            claim: ask.claim,
            mark: if matches!(to, To::Client(_)) { Mark::UNHEARD } else { Mark::NONE },
        };
        if hold.bounds().is_some() || ask.span.is_some() {
            let asked = ask.span.map(|span| span.from(self.clock.now)).unwrap_or_default();
            hold.set_bounds(hold.bounds().copied().unwrap_or_default().and(asked));
        }
        if matches!(to, To::Ticket(_)) {
            hold.await_claim(Lease::ms(self.memory.claim_ms), self.clock.now);
        }
        self.memory.index(self.db, self.key, &mut hold);
        self.lock.grant(hold);
        self.memory.stats.granted += 1;
        self.effects.push(Effect::Granted { fence, to: to.client() });
    }

    /// The owner of this hold has been heard of, and knows of it. If it was given to a ticket it is claimed by this, and
    /// lasts from now for as long as the ticket asked.
    pub fn confirm(&mut self, fence: Fence) {
        self.memory.confirm(fence);
        let Some(hold) = self.lock.hold_with_mut(fence) else { return };
        hold.touch();
        self.effects.push(Effect::Kept);
        if let Some(lease) = hold.claim() {
            let owner = hold.owner.clone();
            self.renew(owner.as_bytes(), lease);
        }
    }

    /// Makes the only hold of a lock exclusive; its new fence.
    pub fn upgrade(&mut self, old: Fence, to: To) -> Option<Fence> {
        let fence = self.memory.fences.next(self.clock.unix_us);
        self.convert(old, fence, Claim::EXCLUSIVE)?;
        self.memory.confirm(old);
        self.memory.hand_over(fence, Undo::Downgrade(old), to);
        self.memory.stats.granted += 1;
        self.effects.push(Effect::Granted { fence, to: to.client() });
        Some(fence)
    }

    /// Lets others share what this hold had alone, and serves the queue. The fence may be an earlier one of the
    /// same owner, when an upgrade is taken back.
    pub fn downgrade(&mut self, from: Fence, fence: Fence) {
        if self.convert(from, fence, Claim::SHARED).is_some() {
            self.effects.push(Effect::Downgraded { fence });
            self.serve();
        }
    }

    fn convert(&mut self, from: Fence, fence: Fence, claim: Claim) -> Option<()> {
        let hold = self.lock.hold_with_mut(from)?;
        self.memory.unindex(self.db, self.key, hold);
        (hold.fence, hold.claim) = (fence, claim);
        self.memory.index(self.db, self.key, hold);
        Some(())
    }

    /// Gives a held semaphore another limit, and all who wait for it with it, but for those who want more than
    /// that. Whoever holds permits keeps them. Who wants several locks with one limit cannot have them any more.
    pub fn set_limit(&mut self, limit: u32) {
        let old = self.lock.limit();
        self.lock.set_limit(limit);
        self.effects.push(Effect::Limited { limit });
        self.memory.waiters.change_limits(self.db, self.key, old, limit);
        self.serve();
    }

    /// Whether there is room in the queue for this owner. Who waits there already as the same kind takes no more of it.
    pub fn check_room(&self, owner: &[u8], kind: Kind, caps: Caps) -> Result<(), Full> {
        let waiters = &self.memory.waiters;
        let takes_over = waiters.waiter_of(self.db, self.key, owner).is_some_and(|id| match kind {
            Kind::Client => waiters.client_of(id).is_some(),
            Kind::Ticket => waiters.get(id).is_some_and(|earlier| earlier.waiter.kind == kind),
        });
        if takes_over {
            return Ok(());
        }
        self.memory.room(self.db, self.key, kind, caps)
    }

    /// The cycle that a wait at this place would close.
    pub fn find_cycle(
        &mut self,
        owner: &[u8],
        claim: Claim,
        place: Place,
        others: &mut dyn Holds,
    ) -> Option<Vec<Link>> {
        let want = Want { db: self.db, owner, keys: &[self.key], claim, place, without: None };
        let at_hand = &[(self.key, &*self.lock)];
        find_cycle(self.memory, &want, &mut Near { now: self.clock.now, at_hand, others, spent: 0 })
    }

    /// Puts a waiter into the queue; it gets the number that [`Waiters::next_id`](super::wait_queue::Waiters::next_id)
    /// told.
    pub fn enqueue(&mut self, ask: Ask, kind: Kind, deadline: Moment) -> WaiterId {
        let place = self.memory.waiters.place_for(self.db, &[self.key], ask.owner.as_bytes());
        let since = self.clock.now;
        self.enqueue_at(place, Waiter { kind, ask, since, deadline, told: None, user: None, upgrades: None })
    }

    /// Puts a waiter before all others: it has a shared hold that they have to wait for in any case.
    pub fn enqueue_upgrade(&mut self, ask: Ask, kind: Kind, fence: Fence, deadline: Moment) -> WaiterId {
        let (since, upgrades) = (self.clock.now, Some(fence));
        self.enqueue_at(Place::HEAD, Waiter { kind, ask, since, deadline, told: None, user: None, upgrades })
    }

    /// Keeps the place of the owner's ticket for this lock, which is asked for again, until `deadline`. `None` if there is no
    /// such ticket.
    pub fn keep_ticket(&mut self, ask: &Ask, deadline: Moment) -> Option<WaiterId> {
        let (id, earlier) = self.memory.keep_ticket(self.db, &[self.key], ask, deadline)?;
        self.effects.extend(earlier.map(|client| Effect::Left { client, why: Left::Superseded }));
        Some(id)
    }

    fn enqueue_at(&mut self, place: Place, waiter: Waiter) -> WaiterId {
        let earlier = self.memory.waiters.earlier_waits(self.db, &[self.key], waiter.ask.owner.as_bytes());
        for id in &earlier {
            self.leave(*id, Left::Superseded);
        }
        let deadline = waiter.deadline;
        let id = self.memory.waiters.insert(self.db, &[self.key], place, waiter);
        self.memory.note_wait(deadline);
        self.memory.history.contended.note(self.db, self.key);
        self.effects.push(Effect::Queued);
        if !earlier.is_empty() {
            // The new wait may want less than the one whose place it took.
            self.serve();
        }
        id
    }

    /// Ends the hold that this fence names, and serves the queue.
    pub fn end(&mut self, fence: Fence, how: End) -> bool {
        let Some(hold) = self.lock.end(fence) else { return false };
        self.note_end(hold, how);
        self.serve();
        true
    }

    /// Takes back a grant whose waiter was gone before it could know.
    pub fn undo(&mut self, fence: Fence, how: Undo) {
        match how {
            Undo::End { .. } => {
                self.end(fence, End::Undone);
            }
            Undo::Downgrade(old) => {
                self.memory.stats.undone += 1;
                self.downgrade(fence, old);
            }
        }
    }

    /// Gives the owner's hold another note; a renewal tells of it.
    pub fn set_note(&mut self, owner: &[u8], note: &[u8]) {
        if let Some(hold) = self.lock.hold_of_mut(owner) {
            hold.set_note(note);
        }
    }

    /// Gives the lock a cooldown of so long from now, if the owner's hold ends when it leaves under this id, or under all.
    pub fn cool_down(&mut self, fence: Fence, id: Option<&[u8]>, cooldown: Lease) {
        let until = cooldown.deadline(self.clock.now);
        let Some(hold) = self.lock.hold_with_mut(fence) else { return };
        if id.is_none_or(|id| hold.entries().count() == 1 && hold.entries().has(id)) {
            hold.set_floor(until);
        }
    }

    /// Takes so many permits from a hold, which has more than that, and serves the queue.
    pub fn give_back(&mut self, fence: Fence, permits: u32) {
        let Some(hold) = self.lock.hold_with_mut(fence) else { return };
        hold.claim.permits = hold.claim.permits.saturating_sub(permits).max(1);
        self.tell_again(fence);
        self.serve();
    }

    /// Gives the owner's hold a new lease, counted from now; what is left of it on the wire.
    pub fn renew(&mut self, owner: &[u8], lease: Lease) -> i64 {
        self.set_end(owner, lease, lease)
    }

    /// Lets the owner in under this id too, if it is not in already.
    pub fn enter(&mut self, owner: &[u8], id: &[u8]) {
        let Some(hold) = self.lock.hold_of_mut(owner).filter(|hold| !hold.entries().has(id)) else { return };
        hold.enter(id);
        self.effects.push(Effect::Entered { fence: hold.fence, id: id.into() });
    }

    /// Lets the owner out of this hold under this id; the hold ends with the last one.
    pub fn exit(&mut self, fence: Fence, id: &[u8]) -> Exit {
        let Some(hold) = self.lock.hold_with_mut(fence) else { return Exit::Unknown };
        let exit = hold.leave(id);
        match exit {
            Exit::Unknown => {}
            Exit::StillHeld => {
                self.effects.extend([Effect::Kept, Effect::Exited { fence, id: id.into() }]);
            }
            Exit::Last => {
                self.end(fence, End::Released);
            }
        }
        exit
    }

    /// Lets the owner's hold last for `lease` from now, if that is longer than it would. Later renewals go by the
    /// longest lease it has had.
    pub fn raise(&mut self, owner: &[u8], lease: Lease) {
        let Some(hold) = self.lock.hold_of(owner) else { return };
        if lease.deadline(self.clock.now).min(hold.end_max()) > hold.deadline {
            let longest = hold.lease.max(lease);
            self.set_end(owner, longest, lease);
        }
    }

    /// Gives a hold another lease and another end; what is left of it on the wire.
    fn set_end(&mut self, owner: &[u8], lease: Lease, from_now: Lease) -> i64 {
        let Some(hold) = self.lock.hold_of_mut(owner) else { return 0 };
        hold.lease = lease;
        hold.last(from_now, self.clock.now);
        self.memory.keep_indexed(self.db, self.key, hold);
        let (fence, left) = (hold.fence, hold.left(self.clock.now));
        self.tell_again(fence);
        left
    }

    /// A hold is told of as it stands when the step is over, so once is enough.
    pub(super) fn tell_again(&mut self, fence: Fence) {
        if !matches!(self.effects.last(), Some(Effect::Renewed { fence: told }) if *told == fence) {
            self.effects.push(Effect::Renewed { fence });
        }
    }

    pub(super) fn note_end(&mut self, hold: Hold, how: End) {
        self.memory.unindex(self.db, self.key, &hold);
        self.memory.forget(hold.fence);
        if how != End::Undone {
            // A fence is the time of its grant, but where the clock was set back.
            self.memory.history.holds.note(self.clock.unix_us.saturating_sub(hold.fence.get()));
        }
        let stats = &mut self.memory.stats;
        match how {
            End::Released => stats.released += 1,
            End::Expired | End::Capped => {
                stats.expired += 1;
                stats.untouched += u64::from(hold.is_untouched());
            }
            End::Unclaimed => stats.unclaimed += 1,
            End::Closed => stats.closed += 1,
            End::Undone => stats.undone += 1,
            End::Vanished => stats.vanished += 1,
            End::Broken | End::Stolen => stats.broken += 1,
            End::Transferred => stats.transferred += 1,
            End::Cooled => {}
        }
        let (of, fence, at) = (self.named(hold.owner.as_bytes()), hold.fence, self.clock.now);
        match how {
            End::Released => self.memory.ledger.overrule(of, fence, at),
            // Nobody knew of it.
            End::Undone => {}
            _ => self.memory.note_loss(of, Ended { fence, how, at }),
        }
        self.effects.push(Effect::Ended { fence: hold.fence, how });
        self.cool_after(hold, how);
    }
}
