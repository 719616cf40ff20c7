//! The search itself: the part of the waits that can be reached from the one that is asked about, as lists of owners,
//! waits and locks with numbers.

#![expect(clippy::arithmetic_side_effects, reason = "counts of what is in memory, and totals of 64 bits")]

mod build_graph;
mod reduce;
mod shortest_cycle;

use std::collections::VecDeque;
use std::ops::Range;

use super::super::broken::broken;
use super::super::occupancy::Occupancy;
use super::super::table::{Set, Table};
use super::super::wait_queue::{Position, QueueNode, Waiters};
use super::super::{Owner, Permits, WaiterId};
use super::{LocalFirst, WaitEdge, WaitRequest};
use crate::limits::SEARCH_COST_MAX;

/// The cost of a look at a holder from outside.
pub(super) const LOOK_COST: usize = cost::WAITER;

/// The cost of opening a lock only to look whether there is anything to search.
pub(super) const OPEN_COST: usize = cost::LOCK;

/// The number of the one who asks: the first.
const REQUESTER: usize = 0;

/// The costs of a search, in units of [`SEARCH_COST_MAX`].
mod cost {
    /// Passing by somebody who is known.
    pub(super) const KNOWN: usize = 1;
    /// Looking at a waiter or a holder.
    pub(super) const WAITER: usize = 2;
    /// Meeting an owner for the first time.
    pub(super) const OWNER: usize = 20;
    /// Looking at one of its waits.
    pub(super) const WAIT: usize = 8;
    /// Opening a lock.
    pub(super) const LOCK: usize = 20;
}

struct OwnerNode {
    owner: Owner,
    /// Where its waits stand in the list of all waits.
    waits: Range<usize>,
    /// The locks that it has, of those that were opened, and how much of each.
    holds: Vec<(usize, Permits)>,
    /// How many of its waits may never end; found anew by each [`Search::could_be_granted`].
    stuck_waits: usize,
}

struct Wait<'a> {
    owner_node: usize,
    entry: &'a QueueNode,
    /// A bit for each of its locks that it may never have.
    blocked: u64,
}

/// A lock that somebody who was met waits for.
struct Node {
    key: Box<[u8]>,
    /// Its holders, and how much of it each has; only those who wait for something.
    holders: Vec<(usize, Permits)>,
    /// The permits that stuck owners have of it, or will have before they let go.
    taken: Occupancy,
    /// Up to which place its queue was searched for owners that wait elsewhere too.
    searched: Position,
    /// The waits that are known here, with the number of the lock among the locks of each, first come first.
    waits: Vec<(Position, usize, u32)>,
    /// Whether the one who asks could have this lock, and where it would stand.
    want: Option<(Position, bool)>,
    /// Whether it is to be looked at once more.
    is_queued: bool,
}

/// The thing that a number of this search stands for. It is there, as each number was given to something.
fn there<T>(found: Option<T>) -> Option<T> {
    if found.is_none() {
        broken("the search has a number that stands for nothing");
    }
    found
}

/// One search.
pub(super) struct Search<'a> {
    waiters: &'a Waiters,
    want: WaitRequest<'a>,
    /// Waits that end when the one who asks waits anew.
    given_up: Vec<WaiterId>,
    owners: Vec<OwnerNode>,
    by_name: Table<Owner, usize>,
    nodes: Vec<Node>,
    by_key: Table<Box<[u8]>, usize>,
    waits: Vec<Wait<'a>>,
    /// How many of them are of the one who asks; they come first.
    requester_waits: usize,
    known: Set<WaiterId>,
    /// Waiters whose owners were met.
    met: Set<WaiterId>,
    /// Whether anyone found so far waits for the one who asks.
    reaches_requester: bool,
    /// Locks to go along.
    todo: VecDeque<usize>,
    pub(super) spent: usize,
}

impl<'a> Search<'a> {
    /// A search that knows nothing yet and has spent so much. Returns `None` if the asker's name is no name of an
    /// owner.
    pub(super) fn new(waiters: &'a Waiters, want: WaitRequest<'a>, spent: usize) -> Option<Self> {
        let me = Owner::new(want.owner)?;
        let mut by_name = Table::default();
        by_name.insert(me.clone(), REQUESTER);
        let given_up = waiters
            .earlier_waits(want.db, want.keys, want.owner)
            .into_iter()
            .chain(want.without.iter().copied());
        Some(Self {
            waiters,
            given_up: given_up.collect(),
            owners: vec![OwnerNode { owner: me, waits: 0..0, holds: Vec::new(), stuck_waits: 0 }],
            by_name,
            nodes: Vec::new(),
            by_key: Table::default(),
            waits: Vec::new(),
            requester_waits: 0,
            known: Set::default(),
            met: Set::default(),
            reaches_requester: false,
            todo: VecDeque::new(),
            spent,
            want,
        })
    }

    /// The cycle that the wait would close, if there is one and there is time to find it.
    pub(super) fn run(&mut self, holds: &mut LocalFirst) -> Option<Vec<WaitEdge>> {
        if !self.build_graph(holds) || !self.reaches_requester || self.could_be_granted(false)? {
            return None;
        }
        let cycle = self.shortest_cycle()?;
        self.could_be_granted(true)?.then_some(cycle)
    }

    /// Whether there is still time for a step of this cost.
    fn afford(&mut self, cost: usize) -> bool {
        self.spent += cost;
        self.spent <= SEARCH_COST_MAX
    }
}
