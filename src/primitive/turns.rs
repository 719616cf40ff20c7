//! Several locks' turn at once: what a request for all of them together is made of. It takes all or none, all
//! holds of one grant have one fence, and who waits holds nothing meanwhile.

use super::deadlock::{find_cycle, Holds, Link, Near, Want};
use super::memory::Undo;
use super::turn::{Effect, Left, To, Turn};
use super::unsettled::Item;
use super::wait_queue::{Caps, Full};
use super::waiter::{Ask, Kind, Waiter, WaiterId};
use super::{Claim, Clock, Fence, Lock, Memory, Moment};
use crate::limits::HOLDS_MAX;

/// One of the locks, and what follows for it.
pub struct Part<'a> {
    pub key: &'a [u8],
    pub lock: &'a mut Lock,
    pub effects: Vec<Effect>,
}

/// Some locks of one database at one moment, each there once.
pub struct Turns<'a> {
    pub clock: Clock,
    pub db: i32,
    pub parts: Vec<Part<'a>>,
    pub memory: &'a mut Memory,
}

impl AsMut<Memory> for Turns<'_> {
    fn as_mut(&mut self) -> &mut Memory {
        self.memory
    }
}

impl Turns<'_> {
    /// The turn of one of the locks.
    pub fn each(&mut self, mut work: impl FnMut(&mut Turn)) {
        let Self { clock, db, parts, memory } = self;
        for part in parts {
            work(&mut Turn {
                clock: *clock,
                db: *db,
                key: part.key,
                lock: part.lock,
                memory,
                effects: &mut part.effects,
            });
        }
    }

    /// What every request begins with, for all of the locks; whether it is done. Of locks that together have more holds
    /// which are over than one lock can have, some are left to other steps.
    pub fn settle(&mut self) -> bool {
        let (now, mut ended, mut is_done) = (self.clock.now, 0, true);
        self.each(|turn| {
            let cooling = turn.lock.cooling().iter().map(|cooling| &cooling.hold);
            let over = turn.lock.holds().iter().chain(cooling).filter(|hold| !hold.is_live(now)).count();
            if ended > 0 && ended + over > HOLDS_MAX as usize {
                is_done = false;
                return turn.leave_unfinished();
            }
            ended += over;
            turn.settle();
        });
        is_done
    }

    /// Gives a waiter for these locks what it waits for, if it comes first everywhere and all admit it. All must
    /// be settled.
    pub fn serve(&mut self, id: WaiterId) {
        let is_settled = self.settle();
        self.memory.allowance.spend(self.parts.len());
        // Settling has called it up once more, and this is the answer.
        self.memory.unsettled.strike(&Item::Group(id));
        let waiters = &self.memory.waiters;
        // Locks that are not settled are looked at again, and call it up.
        let Some(entry) = waiters.get(id).filter(|_| is_settled) else { return };
        let is_first = |key| waiters.front(self.db, key).is_some_and(|(first, _)| first == id);
        let claim = entry.waiter.ask.claim;
        if !self.parts.iter().all(|part| is_first(part.key) && part.lock.admits(claim)) {
            return;
        }
        let keys: Vec<&[u8]> = self.parts.iter().map(|part| part.key).collect();
        if !self.memory.may_have(&entry.waiter, &keys) {
            let client = self.memory.waiters.client_of(id);
            self.memory.dismiss_in_step(id, Left::Barred);
            if let (Some(client), Some(first)) = (client, self.parts.first_mut()) {
                first.effects.push(Effect::Left { client, why: Left::Barred });
            }
            self.settle();
            return;
        }
        if let Some(entry) = self.memory.waiters.remove(id) {
            self.memory.history.waits.note(self.clock.now.us_after(entry.waiter.since));
            let fence = self.grant(&entry.waiter.ask, To::waiter(id, &entry.waiter));
            let channel = entry.waiter.told.and_then(|told| told.channel);
            let told = channel.map(|channel| Effect::Announced { fence, channel });
            self.parts.first_mut().into_iter().zip(told).for_each(|(part, told)| part.effects.push(told));
            self.each(|turn| turn.serve());
        }
    }

    /// Makes a hold on each of the locks, which must all admit it; the fence that they share.
    pub fn grant(&mut self, ask: &Ask, mut to: To) -> Fence {
        let fence = self.memory.fences.next(self.clock.unix_us);
        self.memory.hand_over(fence, Undo::End { left: ask.keys() }, to);
        self.each(|turn| {
            turn.grant_as(fence, ask.clone(), to);
            // The client is told once, with the first.
            to = match to {
                To::Client(_) | To::Caller => To::Caller,
                To::Ticket(_) => To::Ticket(None),
            };
        });
        fence
    }

    /// The owner of the holds under this fence has been heard of.
    pub fn confirm(&mut self, fence: Fence) {
        self.each(|turn| turn.confirm(fence));
    }

    /// Whether there is room in all queues for this owner.
    pub fn check_room(&mut self, owner: &[u8], kind: Kind, caps: Caps) -> Result<(), Full> {
        let mut room = Ok(());
        self.each(|turn| room = room.and_then(|()| turn.check_room(owner, kind, caps)));
        room
    }

    /// The cycle that a wait for all of the locks would close.
    pub fn find_cycle(&mut self, owner: &[u8], claim: Claim, others: &mut dyn Holds) -> Option<Vec<Link>> {
        let keys: Vec<&[u8]> = self.parts.iter().map(|part| part.key).collect();
        let at_hand: Vec<(&[u8], &Lock)> = self.parts.iter().map(|part| (part.key, &*part.lock)).collect();
        let place = self.memory.waiters.place_for(self.db, &keys, owner);
        let want = Want { db: self.db, owner, keys: &keys, claim, place, without: None };
        find_cycle(self.memory, &want, &mut Near { now: self.clock.now, at_hand: &at_hand, others, spent: 0 })
    }

    /// Keeps the place of the owner's ticket for these locks, which is asked for again, until `deadline`. `None` if there is no
    /// such ticket.
    pub fn keep_ticket(&mut self, ask: &Ask, deadline: Moment) -> Option<WaiterId> {
        let keys: Vec<&[u8]> = self.parts.iter().map(|part| part.key).collect();
        let (id, earlier) = self.memory.keep_ticket(self.db, &keys, ask, deadline)?;
        self.supersede(earlier);
        Some(id)
    }

    /// Tells clients that their owner waits elsewhere.
    fn supersede(&mut self, clients: impl IntoIterator<Item = WaiterId>) {
        let left = clients.into_iter().map(|client| Effect::Left { client, why: Left::Superseded });
        self.parts.first_mut().into_iter().zip([left]).for_each(|(part, left)| part.effects.extend(left));
    }

    /// Puts a waiter into all of the queues at once.
    pub fn enqueue(&mut self, ask: Ask, kind: Kind, deadline: Moment) -> WaiterId {
        let keys: Vec<&[u8]> = self.parts.iter().map(|part| part.key).collect();
        let owner = ask.owner.as_bytes();
        let place = self.memory.waiters.place_for(self.db, &keys, owner);
        let earlier = self.memory.waiters.earlier_waits(self.db, &keys, owner);
        let told: Vec<_> = earlier.iter().filter_map(|id| self.memory.waiters.client_of(*id)).collect();
        earlier.iter().for_each(|id| {
            self.memory.dismiss_in_step(*id, Left::Superseded);
        });
        let waiter =
            Waiter { kind, ask, since: self.clock.now, deadline, told: None, user: None, upgrades: None };
        let id = self.memory.waiters.insert(self.db, &keys, place, waiter);
        self.memory.note_wait(deadline);
        keys.iter().for_each(|key| self.memory.history.contended.note(self.db, key));
        self.supersede(told);
        self.parts.iter_mut().for_each(|part| part.effects.push(Effect::Queued));
        if !earlier.is_empty() {
            // The new wait may want less than those whose place it took.
            self.each(|turn| turn.serve());
        }
        id
    }
}
