//! All that can happen.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{CLIENTS, ENTRIES, KEYS, KEYS_IN_EACH, OWNERS};
use crate::command::policy::Wait;
use crate::primitive::Permits;

/// How an owner names its hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum By {
    /// Without a fence.
    Name,
    /// By the fence that it has, if it has any.
    Fence,
    /// By the fence of the newest hold that it had before.
    PastFence,
    /// By one that never was.
    WrongFence,
}

fn by() -> impl Strategy<Value = By> {
    prop_oneof![3 => Just(By::Name), 6 => Just(By::Fence), 4 => Just(By::PastFence), 1 => Just(By::WrongFence)]
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Acquire {
        /// More than one only by MACQUIRE.
        keys: BTreeSet<usize>,
        owner: usize,
        permits: Permits,
        lease: Option<u64>,
        wait: Option<Wait>,
        entry: usize,
        /// MAXHOLD and MINHOLD.
        most: Option<u64>,
        least: Option<u64>,
        tie: Option<(usize, u64)>,
    },
    Release {
        key: usize,
        owner: usize,
        by: By,
        /// `None` for ALL.
        entry: Option<usize>,
        cancels: bool,
        after: Option<u64>,
    },
    /// So many permits, of a semaphore.
    GiveBack {
        key: usize,
        owner: usize,
        permits: u32,
    },
    ReleaseAll {
        keys: BTreeSet<usize>,
        owner: usize,
        /// Of the first key.
        by: By,
        cancels: bool,
    },
    Renew {
        key: usize,
        owner: usize,
        lease: Option<u64>,
        tie: Option<(usize, u64)>,
    },
    /// A connection closes; the next one takes its place.
    Disconnect {
        client: usize,
    },
    RenewAll {
        keys: BTreeSet<usize>,
        owner: usize,
        lease: u64,
    },
    Convert {
        key: usize,
        owner: usize,
        permits: Permits,
        wait: Option<Wait>,
        by: By,
    },
    SetLimit {
        key: usize,
        limit: u32,
    },
    Break {
        key: usize,
        /// `None` for all.
        owner: Option<usize>,
    },
    Steal {
        key: usize,
        owner: usize,
        permits: Permits,
        lease: Option<u64>,
        most: Option<u64>,
        least: Option<u64>,
    },
    Revoke {
        key: usize,
    },
    Cancel {
        key: usize,
        owner: usize,
    },
    Transfer {
        key: usize,
        from: usize,
        to: usize,
        lease: Option<u64>,
        by: By,
    },
    /// The client of the n-th waiter goes away.
    Vanish {
        nth: usize,
    },
    /// The n-th provisional grant was never read.
    Rollback {
        nth: usize,
    },
    /// The key is deleted from outside.
    Delete {
        key: usize,
    },
    /// All data go at once.
    Flush,
    /// The two databases change places.
    SwapDatabases,
    /// The slot of a lock is another server's for a moment, in which somebody looks at the lock.
    MoveAway {
        key: usize,
    },
    /// The server becomes a replica, and a primary again.
    ChangeRoles,
    /// The server has loaded what it had: all is looked at.
    Load,
    Pass {
        us: u64,
    },
}

fn permits() -> impl Strategy<Value = Permits> {
    prop_oneof![
        4 => Just(Permits::EXCLUSIVE),
        3 => Just(Permits::SHARED),
        3 => (1..=3_u32).prop_map(|count| Permits { limit: 3, count }),
        1 => Just(Permits { limit: 2, count: 1 }),
    ]
}

/// BLOCK, QUEUE, both or neither.
fn wait() -> impl Strategy<Value = Option<Wait>> {
    let ms = || 1..20_u64;
    let wait = prop_oneof![
        3 => ms().prop_map(Wait::block),
        2 => ms().prop_map(Wait::ticket),
        2 => (ms(), ms()).prop_map(|(block, keep)| Wait { block_ms: Some(block), keep_ms: Some(keep) }),
    ];
    prop::option::weighted(0.8, wait)
}

fn tie() -> impl Strategy<Value = Option<(usize, u64)>> {
    prop::option::weighted(0.2, (0..CLIENTS, 0..10_u64))
}

/// MAXHOLD, MINHOLD and TIED.
fn span() -> impl Strategy<Value = (Option<u64>, Option<u64>, Option<(usize, u64)>)> {
    (prop::option::weighted(0.1, 1..20_u64), prop::option::weighted(0.1, 1..10_u64), tie())
}

/// Nearly always in the first database.
fn key() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![7 => 0..KEYS_IN_EACH, 1 => KEYS_IN_EACH..KEYS.len()]
}

/// All in one database.
fn some_keys() -> impl Strategy<Value = BTreeSet<usize>> {
    let some_of = |keys| prop::collection::btree_set(keys, 1..=KEYS_IN_EACH);
    prop_oneof![7 => some_of(0..KEYS_IN_EACH), 1 => some_of(KEYS_IN_EACH..KEYS.len())]
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let (key, owner) = (key(), 0..OWNERS.len());
    let time = || prop::option::weighted(0.8, 1..20_u64);
    let entry = || prop_oneof![4 => Just(0), 1 => 0..ENTRIES.len()];
    let cancels = || prop::bool::weighted(0.3);
    let one_key = key.clone().prop_map(|key| BTreeSet::from([key]));
    let either = prop_oneof![1 => Just(Permits::SHARED), 3 => Just(Permits::EXCLUSIVE)];
    prop_oneof![
        8 => (one_key, owner.clone(), permits(), time(), wait(), entry(), span()).prop_map(
            |(keys, owner, permits, lease, wait, entry, (most, least, tie))| {
                Op::Acquire { keys, owner, permits, lease, wait, entry, most, least, tie }
            },
        ),
        4 => (some_keys(), owner.clone(), permits(), time(), wait(), span()).prop_map(
            |(keys, owner, permits, lease, wait, (most, least, tie))| {
                Op::Acquire { keys, owner, permits, lease, wait, entry: 0, most, least, tie }
            },
        ),
        2 => (0..CLIENTS).prop_map(|client| Op::Disconnect { client }),
        5 => (key.clone(), owner.clone(), by(), prop::option::weighted(0.8, entry()), cancels(), prop::option::weighted(0.1, 1..10_u64))
            .prop_map(|(key, owner, by, entry, cancels, after)| Op::Release { key, owner, by, entry, cancels, after }),
        1 => (key.clone(), owner.clone(), 1..4_u32)
            .prop_map(|(key, owner, permits)| Op::GiveBack { key, owner, permits }),
        3 => (some_keys(), owner.clone(), by(), cancels())
            .prop_map(|(keys, owner, by, cancels)| Op::ReleaseAll { keys, owner, by, cancels }),
        2 => (key.clone(), owner.clone(), time(), tie())
            .prop_map(|(key, owner, lease, tie)| Op::Renew { key, owner, lease, tie }),
        1 => (some_keys(), owner.clone(), 1..20_u64)
            .prop_map(|(keys, owner, lease)| Op::RenewAll { keys, owner, lease }),
        1 => (key.clone(), prop::option::of(owner.clone())).prop_map(|(key, owner)| Op::Break { key, owner }),
        1 => key.clone().prop_map(|key| Op::Revoke { key }),
        1 => (key.clone(), owner.clone(), permits(), time(), span()).prop_map(
            |(key, owner, permits, lease, (most, least, _))| Op::Steal { key, owner, permits, lease, most, least },
        ),
        1 => (key.clone(), owner.clone()).prop_map(|(key, owner)| Op::Cancel { key, owner }),
        2 => (key.clone(), owner.clone(), owner.clone(), time(), by())
            .prop_map(|(key, from, to, lease, by)| Op::Transfer { key, from, to, lease, by }),
        3 => (key.clone(), owner, either, wait(), by())
            .prop_map(|(key, owner, permits, wait, by)| Op::Convert { key, owner, permits, wait, by }),
        1 => (key.clone(), 1..5_u32).prop_map(|(key, limit)| Op::SetLimit { key, limit }),
        1 => any::<usize>().prop_map(|nth| Op::Vanish { nth }),
        1 => any::<usize>().prop_map(|nth| Op::Rollback { nth }),
        1 => key.clone().prop_map(|key| Op::Delete { key }),
        1 => key.prop_map(|key| Op::MoveAway { key }),
        1 => Just(Op::Flush),
        1 => Just(Op::SwapDatabases),
        1 => Just(Op::ChangeRoles),
        1 => Just(Op::Load),
        4 => (0..12_000_u64).prop_map(|us| Op::Pass { us }),
    ]
}
