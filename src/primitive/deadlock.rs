//! Deadlocks, found before they begin: would this wait ever end, if everybody who does not wait lets go in time?
//!
//! An owner waits for the holds that leave it no room and for everyone before it in the queue, and it does not let
//! go of anything while it waits. So the search supposes that the one who asks waits for ever, and looks who can
//! still go on: whoever waits for nothing, and whoever waits only for what those leave. If the wait itself is not
//! among what can be granted then, but would be if the one who asks let go, it closes a cycle and is refused. Where
//! permits of others can still come free nobody is stuck, and whoever only comes upon a deadlock of others is not
//! blamed for it: there are no false alarms.
//!
//! Only what can be reached from the new wait is looked at, and nearly always nobody there waits for anything
//! else. The work is bounded; a wait that cannot be judged within the bound is let in, and leases end it.

use std::collections::{hash_map, HashMap, HashSet, VecDeque};
use std::ops::Range;

use super::wait_queue::{Entry, Place, Waiters};
use super::waiter::WaiterId;
use super::{Claim, Hold, Lock, Moment, Owner};
use crate::limits::SEARCH_COST_MAX;

/// The wait that is asked about.
#[derive(Clone, Copy)]
pub struct Want<'a> {
    pub db: i32,
    pub owner: &'a [u8],
    pub keys: &'a [&'a [u8]],
    pub claim: Claim,
    pub place: Place,
    /// Another wait that ends in the same step.
    pub without: Option<WaiterId>,
}

/// Tells of the holds of a lock; some may be over.
pub trait Holds {
    /// Passes each hold of the lock to `each`.
    fn each(&mut self, key: &[u8], each: &mut dyn FnMut(&Hold));
}

/// The locks at hand first, and the others after them; only what is not over.
pub struct Near<'a> {
    pub now: Moment,
    pub at_hand: &'a [(&'a [u8], &'a Lock)],
    pub others: &'a mut dyn Holds,
}

impl Near<'_> {
    fn each(&mut self, key: &[u8], each: &mut dyn FnMut(&Hold)) {
        let now = self.now;
        let mut live = |hold: &Hold| {
            if hold.is_live(now) {
                each(hold);
            }
        };
        match self.at_hand.iter().find(|(name, _)| *name == key) {
            Some((_, lock)) => lock.holds().iter().for_each(live),
            None => self.others.each(key, &mut live),
        }
    }
}

/// One link of a cycle: an owner and the lock that it waits for. The next one has it, or comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub owner: Owner,
    pub key: Box<[u8]>,
}

/// The cycle that the wait would close, beginning with the one who asks; nothing if there is none.
pub fn find_cycle(waiters: &Waiters, want: &Want, holds: &mut Near) -> Option<Vec<Link>> {
    if waiters.len() == 0 || !somebody_waits_elsewhere(waiters, want, holds) {
        return None;
    }
    let mut search = Search::new(waiters, *want)?;
    if !search.gather(holds) || !search.comes_back || search.could_be_granted(false)? {
        return None;
    }
    let cycle = search.way_back()?;
    search.could_be_granted(true)?.then_some(cycle)
}

/// Whether anyone before this wait waits for anything but this: if not, there is nothing to search. With too many
/// holders to look at it is not worth while either.
fn somebody_waits_elsewhere(waiters: &Waiters, want: &Want, holds: &mut Near) -> bool {
    let mut spent = 0;
    let found = want.keys.iter().any(|key| {
        let mut found = waiters.links_between(want.db, key, Place::HEAD, want.place).next().is_some();
        holds.each(key, &mut |hold| {
            let owner = hold.owner.as_bytes();
            if !found && spent <= SEARCH_COST_MAX {
                spent += cost::WAITER;
                found = owner != want.owner && !waiters.waits_of(want.db, owner).is_empty();
            }
        });
        found
    });
    found && spent <= SEARCH_COST_MAX
}

/// Whoever asks has the first number.
const ME: usize = 0;

/// What a step costs, in units of [`SEARCH_COST_MAX`].
mod cost {
    /// Passing by somebody who is known.
    pub const KNOWN: usize = 1;
    /// Looking at a waiter or a holder.
    pub const WAITER: usize = 2;
    /// Meeting an owner for the first time.
    pub const OWNER: usize = 20;
    /// Looking at one of its waits.
    pub const WAIT: usize = 8;
    /// Opening a lock.
    pub const LOCK: usize = 20;
}

struct Person {
    owner: Owner,
    /// Where its waits stand in the list of all waits.
    waits: Range<usize>,
    /// The locks that it has, of those that were opened, and how much of each.
    holds: Vec<(usize, Claim)>,
    /// How many of its waits may never end; found anew by each [`Search::could_be_granted`].
    stuck_waits: usize,
}

struct Wait<'a> {
    person: usize,
    entry: &'a Entry,
    /// A bit for each of its locks that it may never have.
    blocked: u64,
}

/// A lock that somebody who was met waits for.
struct Node {
    key: Box<[u8]>,
    /// Who has it, and how much of it; only those who wait for something.
    holders: Vec<(usize, Claim)>,
    /// What of that is in the hands of stuck people.
    taken: Taken,
    /// Up to which place its queue was searched for people that wait elsewhere too.
    searched: Place,
    /// The waits that are known here, with the number of the lock among the locks of each, first come first.
    waits: Vec<(Place, usize, u32)>,
    /// Whether the one who asks could have this lock, and where it would stand.
    want: Option<(Place, bool)>,
    /// Whether it is to be looked at once more.
    is_in_line: bool,
}

/// What stuck people have of one lock, or will have before they let go.
#[derive(Clone, Copy, Default)]
struct Taken {
    permits: u64,
    limit: Option<u32>,
    /// Whether claims of two kinds meet, which never go together.
    is_mixed: bool,
}

impl Taken {
    fn add(&mut self, claim: Claim) {
        self.is_mixed |= self.limit.is_some_and(|limit| limit != claim.limit);
        self.limit = Some(claim.limit);
        self.permits += u64::from(claim.permits);
    }

    /// Somebody has let go.
    fn give_back(&mut self, claim: Claim) {
        self.permits = self.permits.saturating_sub(u64::from(claim.permits));
    }

    /// Whether this claim fits beside what is taken, but for so many permits that are its own.
    fn leaves_room(&self, claim: Claim, own: u64) -> bool {
        let others = self.permits.saturating_sub(own);
        let same_kind = !self.is_mixed && self.limit.is_none_or(|limit| limit == claim.limit);
        others == 0 || (same_kind && others + u64::from(claim.permits) <= u64::from(claim.limit))
    }
}

struct Search<'a> {
    waiters: &'a Waiters,
    want: Want<'a>,
    /// Waits that end when the one who asks waits anew.
    given_up: Vec<WaiterId>,
    people: Vec<Person>,
    by_name: HashMap<Owner, usize>,
    nodes: Vec<Node>,
    by_key: HashMap<Box<[u8]>, usize>,
    waits: Vec<Wait<'a>>,
    /// How many of them are of the one who asks; they come first.
    my_waits: usize,
    known: HashSet<WaiterId>,
    /// Waiters whose owners were met.
    met: HashSet<WaiterId>,
    /// Whether anyone found so far waits for the one who asks.
    comes_back: bool,
    /// Locks to go along.
    todo: VecDeque<usize>,
    spent: usize,
}

impl<'a> Search<'a> {
    fn new(waiters: &'a Waiters, want: Want<'a>) -> Option<Self> {
        let me = Owner::new(want.owner)?;
        let given_up = waiters.earlier_waits(want.db, want.keys, want.owner).into_iter().chain(want.without);
        Some(Self {
            waiters,
            given_up: given_up.collect(),
            people: vec![Person { owner: me.clone(), waits: 0..0, holds: Vec::new(), stuck_waits: 0 }],
            by_name: HashMap::from([(me, ME)]),
            nodes: Vec::new(),
            by_key: HashMap::new(),
            waits: Vec::new(),
            my_waits: 0,
            known: HashSet::new(),
            met: HashSet::new(),
            comes_back: false,
            todo: VecDeque::new(),
            spent: 0,
            want,
        })
    }

    /// Whether there is still time for a step of this cost.
    fn afford(&mut self, cost: usize) -> bool {
        self.spent += cost;
        self.spent <= SEARCH_COST_MAX
    }

    // ---- Who can be reached ----

    /// Meets everyone whom the one who asks would wait for, directly or not; whether there was time for it.
    fn gather(&mut self, holds: &mut Near) -> bool {
        let mut met = 0;
        self.note_waits(ME);
        self.my_waits = self.waits.len();
        for key in self.want.keys {
            let place = self.want.place;
            let Some(node) = self.visit(key, place, holds) else { return false };
            if let Some(node) = self.nodes.get_mut(node) {
                node.want = Some((place, false));
            }
        }
        while met < self.people.len() {
            if met > ME && !self.note_waits(met) {
                return false;
            }
            let waits = self.people.get(met).map_or(0..0, |person| person.waits.clone());
            for at in waits {
                let Some(entry) = self.waits.get(at).map(|wait| wait.entry) else { continue };
                for (bit, key) in (0..).zip(&entry.keys) {
                    let Some(node) = self.visit(key, entry.place, holds) else { return false };
                    let Some(node) = self.nodes.get_mut(node) else { continue };
                    let wants_before = node.want.is_some_and(|(place, _)| place < entry.place);
                    // The waits of the one who asks were noted first.
                    let mut mine = node.waits.iter().take_while(|(_, at, _)| *at < self.my_waits);
                    let is_before = wants_before || mine.any(|(place, ..)| *place < entry.place);
                    self.comes_back |= met != ME && is_before;
                    node.waits.push((entry.place, at, bit));
                }
            }
            met += 1;
        }
        self.nodes.iter_mut().for_each(|node| node.waits.sort_unstable());
        true
    }

    /// Lists the waits of somebody who was met.
    fn note_waits(&mut self, person: usize) -> bool {
        let Some(owner) = self.people.get(person).map(|person| person.owner.clone()) else { return false };
        let (waiters, start) = (self.waiters, self.waits.len());
        for id in waiters.waits_of(self.want.db, owner.as_bytes()) {
            if self.given_up.contains(id) {
                continue;
            }
            let Some(entry) = waiters.get(*id).filter(|_| self.afford(cost::WAIT)) else { return false };
            self.known.insert(*id);
            self.waits.push(Wait { person, entry, blocked: 0 });
        }
        if let Some(person) = self.people.get_mut(person) {
            person.waits = start..self.waits.len();
        }
        true
    }

    /// Notes who has a lock, and who stands before this place and waits elsewhere too; the lock's number.
    fn visit(&mut self, key: &[u8], place: Place, holds: &mut Near) -> Option<usize> {
        let node = match self.by_key.get(key) {
            Some(node) => *node,
            None => self.open(key, holds)?,
        };
        let searched = self.nodes.get(node)?.searched;
        if !self.afford(cost::WAITER) {
            return None;
        }
        if searched < place {
            let waiters = self.waiters;
            for id in waiters.links_between(self.want.db, key, searched, place) {
                if !self.afford(cost::KNOWN) {
                    return None;
                }
                if self.met.insert(id) && !self.given_up.contains(&id) {
                    self.meet(&waiters.get(id)?.waiter.ask.owner)?;
                }
            }
            self.nodes.get_mut(node)?.searched = place;
        }
        Some(node)
    }

    fn open(&mut self, key: &[u8], holds: &mut Near) -> Option<usize> {
        let mut holders = Vec::new();
        let mut in_time = self.afford(cost::LOCK);
        holds.each(key, &mut |hold| match self.meet(&hold.owner).filter(|_| in_time) {
            Some(person) => holders.push((person, hold.claim)),
            None => in_time = false,
        });
        let node = self.nodes.len();
        for (person, claim) in &holders {
            if let Some(person) = self.people.get_mut(*person) {
                person.holds.push((node, *claim));
            }
        }
        self.by_key.insert(key.into(), node);
        let key = key.into();
        self.nodes.push(Node {
            key,
            holders,
            taken: Taken::default(),
            searched: Place::HEAD,
            waits: Vec::new(),
            want: None,
            is_in_line: false,
        });
        in_time.then_some(node)
    }

    /// The number of an owner; nothing if there is no time for another one.
    fn meet(&mut self, owner: &Owner) -> Option<usize> {
        if let Some(person) = self.by_name.get(owner).copied() {
            self.comes_back |= person == ME;
            return self.afford(cost::WAITER).then_some(person);
        }
        if !self.afford(cost::OWNER) {
            return None;
        }
        let person = self.people.len();
        self.people.push(Person { owner: owner.clone(), waits: 0..0, holds: Vec::new(), stuck_waits: 0 });
        self.by_name.insert(owner.clone(), person);
        Some(person)
    }

    // ---- Who can go on ----

    /// Whether the wait that is asked about could be granted some day: if the one who asks lets go of all that it
    /// has, or if it does not. Nothing if there is no time to tell.
    fn could_be_granted(&mut self, i_let_go: bool) -> Option<bool> {
        self.people.iter_mut().for_each(|person| person.stuck_waits = 0);
        for wait in &mut self.waits {
            let is_mine = wait.person == ME;
            wait.blocked =
                if is_mine && i_let_go { 0 } else { u64::MAX >> (64 - wait.entry.keys.len().min(64)) };
            if let Some(person) = self.people.get_mut(wait.person) {
                person.stuck_waits += usize::from(wait.blocked != 0);
            }
        }
        if let Some(me) = self.people.get_mut(ME) {
            // The wait that is asked about.
            me.stuck_waits += usize::from(!i_let_go);
        }
        // Whoever was met last is asked first, as others wait for it.
        self.todo = (0..self.nodes.len()).rev().collect();
        let mut holders = 0;
        for node in &mut self.nodes {
            node.is_in_line = true;
            node.taken = Taken::default();
            holders += node.holders.len();
            for (person, claim) in &node.holders {
                if self.people.get(*person).is_some_and(|person| person.stuck_waits > 0) {
                    node.taken.add(*claim);
                }
            }
        }
        if !self.afford(holders * cost::KNOWN) {
            return None;
        }
        while let Some(node) = self.todo.pop_front() {
            self.nodes.get_mut(node)?.is_in_line = false;
            self.walk(node, i_let_go)?;
        }
        Some(self.nodes.iter().all(|node| node.want.is_none_or(|(_, is_free)| is_free)))
    }

    fn is_stuck(&self, person: usize) -> bool {
        self.people.get(person).is_some_and(|person| person.stuck_waits > 0)
    }

    /// Goes along the queue of a lock, by what is known now, as far as waits can be granted. Nothing if there is no
    /// time.
    fn walk(&mut self, node: usize, i_let_go: bool) -> Option<()> {
        let here = self.nodes.get(node)?;
        let mut taken = here.taken;
        let mut want = here.want;
        let (mut from, mut at, mut free) = (Place::HEAD, 0, true);
        while self.afford(cost::WAITER) {
            let next = self.nodes.get(node)?.waits.get(at).copied();
            // Who asks stands between the others, and nobody goes by.
            let my_place =
                want.map(|(place, _)| place).filter(|mine| next.is_none_or(|(place, ..)| *mine <= place));
            let place = my_place.or(next.map(|(place, ..)| place));
            let Some(place) = place.filter(|_| free) else { return Some(()) };
            if !self.passes(node, taken, from, place)? {
                return Some(());
            }
            from = place;
            if my_place.is_some() {
                want = None;
                let own = if i_let_go { 0 } else { self.held_by(node, ME) };
                let is_free = taken.leaves_room(self.want.claim, own);
                if let Some(want) = &mut self.nodes.get_mut(node)?.want {
                    want.1 = is_free;
                }
                free = i_let_go;
                continue;
            }
            let (_, wait, bit) = next?;
            at += 1;
            let Wait { person, entry, .. } = *self.waits.get(wait)?;
            if person == ME && i_let_go {
                continue;
            }
            // An upgrade does not wait for the hold that it upgrades.
            let upgrades = entry.waiter.upgrades.is_some() && self.is_stuck(person);
            let own = if upgrades { self.held_by(node, person) } else { 0 };
            let claim = entry.waiter.ask.claim;
            if !taken.leaves_room(claim, own) {
                return Some(());
            }
            self.unblock(wait, bit);
            free = self.waits.get(wait)?.blocked == 0;
            if self.is_stuck(person) {
                // It will have its permits, and keep them.
                taken.permits = taken.permits.saturating_sub(own);
                taken.add(claim);
            }
        }
        None
    }

    /// Whether those of whom nothing is known but this one wait can be granted beside what is taken, from one
    /// place to another.
    fn passes(&mut self, node: usize, taken: Taken, from: Place, to: Place) -> Option<bool> {
        if taken.permits == 0 || to <= from {
            return Some(true);
        }
        let (waiters, key) = (self.waiters, self.nodes.get(node)?.key.clone());
        for (id, waiter) in waiters.between(self.want.db, &key, from, to) {
            if !self.afford(cost::WAITER) {
                return None;
            }
            let is_other = !self.known.contains(&id) && !self.given_up.contains(&id);
            if is_other && !taken.leaves_room(waiter.ask.claim, 0) {
                return Some(false);
            }
        }
        Some(true)
    }

    fn held_by(&self, node: usize, person: usize) -> u64 {
        let holders = self.nodes.get(node).into_iter().flat_map(|node| &node.holders);
        holders.filter(|(holder, _)| *holder == person).map(|(_, claim)| u64::from(claim.permits)).sum()
    }

    /// Notes that a wait can have one of its locks. If it can have all of them by now, others may go on behind it; and
    /// if that was the last wait of its owner, wherever that has something or will have.
    fn unblock(&mut self, wait: usize, bit: u32) {
        let Some(wait) = self.waits.get_mut(wait).filter(|wait| wait.blocked & (1 << bit) != 0) else {
            return;
        };
        wait.blocked &= !(1 << bit);
        if wait.blocked != 0 {
            return;
        }
        let (entry, person) = (wait.entry, wait.person);
        let Some(person) = self.people.get_mut(person) else { return };
        person.stuck_waits -= 1;
        if person.stuck_waits > 0 {
            self.look_again(entry);
            return;
        }
        let waits = person.waits.clone();
        for (node, claim) in &person.holds {
            if let Some(node) = self.nodes.get_mut(*node) {
                node.taken.give_back(*claim);
            }
            Self::put_in_line(&mut self.nodes, &mut self.todo, *node);
        }
        for at in waits {
            if let Some(entry) = self.waits.get(at).map(|wait| wait.entry) {
                self.look_again(entry);
            }
        }
    }

    /// Puts the locks of a wait in line to be gone along once more.
    fn look_again(&mut self, entry: &Entry) {
        for node in entry.keys.iter().filter_map(|key| self.by_key.get(key.as_ref())) {
            Self::put_in_line(&mut self.nodes, &mut self.todo, *node);
        }
    }

    fn put_in_line(nodes: &mut [Node], todo: &mut VecDeque<usize>, node: usize) {
        if let Some(other) = nodes.get_mut(node).filter(|other| !other.is_in_line) {
            other.is_in_line = true;
            todo.push_back(node);
        }
    }

    // ---- The way back ----

    /// The shortest way from the one who asks over those who are stuck back to it.
    fn way_back(&mut self) -> Option<Vec<Link>> {
        let mut came_from: HashMap<usize, (usize, usize)> = HashMap::new();
        let mut next = VecDeque::from([ME]);
        while let Some(person) = next.pop_front() {
            for (node, behind) in self.stuck_before(person)? {
                if behind == ME {
                    return self.links(person, node, &came_from);
                }
                if let hash_map::Entry::Vacant(place) = came_from.entry(behind) {
                    place.insert((person, node));
                    next.push_back(behind);
                }
            }
        }
        None
    }

    fn links(
        &self,
        last: usize,
        node: usize,
        came_from: &HashMap<usize, (usize, usize)>,
    ) -> Option<Vec<Link>> {
        let link = |person: usize, node: usize| {
            let owner = self.people.get(person)?.owner.clone();
            Some(Link { owner, key: self.nodes.get(node)?.key.clone() })
        };
        let mut links = vec![link(last, node)?];
        let mut person = last;
        while person != ME {
            let (before, node) = *came_from.get(&person)?;
            links.push(link(before, node)?);
            person = before;
        }
        links.reverse();
        Some(links)
    }

    /// Behind which stuck people somebody waits, and for which locks.
    fn stuck_before(&mut self, person: usize) -> Option<Vec<(usize, usize)>> {
        let mut found = Vec::new();
        if person == ME {
            for node in 0..self.nodes.len() {
                if let Some((place, _)) = self.nodes.get(node)?.want {
                    self.stuck_here(node, person, place, &mut found)?;
                }
            }
            return Some(found);
        }
        for at in self.people.get(person)?.waits.clone() {
            let Wait { entry, blocked, .. } = *self.waits.get(at)?;
            for (bit, key) in (0..).zip(&entry.keys) {
                if blocked & (1_u64 << bit) != 0 {
                    let node = *self.by_key.get(key.as_ref())?;
                    self.stuck_here(node, person, entry.place, &mut found)?;
                }
            }
        }
        Some(found)
    }

    fn stuck_here(
        &mut self,
        node: usize,
        person: usize,
        place: Place,
        found: &mut Vec<(usize, usize)>,
    ) -> Option<()> {
        let here = self.nodes.get(node)?;
        let mine = here.want.filter(|(mine, _)| *mine < place).map(|_| ME);
        let holders = here.holders.iter().map(|(holder, _)| *holder);
        let ahead = here.waits.iter().take_while(|(other, ..)| *other < place);
        let ahead = ahead.filter_map(|(_, wait, _)| Some(self.waits.get(*wait)?.person));
        let before = found.len();
        let people = mine.into_iter().chain(holders).chain(ahead);
        found.extend(
            people.filter(|other| *other != person && self.is_stuck(*other)).map(|other| (node, other)),
        );
        let cost = (found.len() - before + 1) * cost::WAITER;
        self.afford(cost).then_some(())
    }
}
