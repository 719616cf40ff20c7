//! The core against a model that is slow and obvious. Few keys, few owners and short times, so that they collide. A
//! replica is fed with the effects alone and must agree as well.

mod model;
mod ops;
mod pair;
mod watch;
mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::Permits;
use crate::command::policy::Wait;

/// The same three in each of two databases.
const KEYS: [&[u8]; 6] = [b"k", b"l", b"m", b"k", b"l", b"m"];
const DATABASES: i32 = 2;
const KEYS_IN_EACH: usize = 3;
const OWNERS: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
/// Ids of re-entry; the empty one is none.
const ENTRIES: [&[u8]; 3] = [b"", b"x", b"y"];

/// Connections at any one time.
const CLIENTS: usize = 3;

/// How long what a ticket was given may stay unclaimed.
const CLAIM_MS: u64 = 6;

/// The database that a key is in.
const fn db_of(key: usize) -> i32 {
    (key / KEYS_IN_EACH) as i32
}

/// How many random runs: `LOCK_MODEL_RUNS`, or enough for every day.
fn runs() -> u32 {
    std::env::var("LOCK_MODEL_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: runs(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn core_model_and_replica_agree(
        ops in prop::collection::vec(ops::op(), 1..100),
        delay_ms in prop_oneof![3 => Just(0), 1 => 1..8_u64],
    ) {
        let mut pair = pair::Pair::new(delay_ms);
        for op in ops {
            pair.step(op);
        }
    }

    #[test]
    fn the_plain_way_leaves_behind_what_a_step_does(
        ops in prop::collection::vec(ops::op(), 1..100),
        delay_ms in prop_oneof![3 => Just(0), 1 => 1..8_u64],
    ) {
        let (mut stepping, mut plain) = (pair::Pair::new(delay_ms), pair::Pair::going_plainly(delay_ms));
        for op in ops {
            let told = format!("{op:?}");
            stepping.step(op.clone());
            plain.step(op);
            prop_assert_eq!(stepping.left_behind(), plain.left_behind(), "after {}", told);
        }
    }
}

#[test]
fn the_plain_way_is_gone_by_a_plain_request() {
    let mut pair = pair::Pair::going_plainly(0);
    let (keys, owner, permits) = (BTreeSet::from([0]), 0, Permits::EXCLUSIVE);
    let (lease, wait, entry, most, least, tie) = (Some(7), None, 0, None, None, None);
    for owner in [owner, 1] {
        let keys = keys.clone();
        pair.step(ops::Op::Acquire { keys, owner, permits, lease, wait, entry, most, least, tie });
    }
    pair.step(ops::Op::Release {
        key: 0,
        owner,
        by: ops::By::Fence,
        entry: Some(0),
        cancels: false,
        after: None,
    });
    assert_eq!(pair.went_plainly(), 3);
}

/// A request for some locks, without anything few ask for.
fn acquire(keys: &[usize], owner: usize, permits: Permits, wait: Option<Wait>) -> ops::Op {
    let keys = keys.iter().copied().collect();
    let (lease, entry, most, least, tie) = (None, 0, None, None, None);
    ops::Op::Acquire { keys, owner, permits, lease, wait, entry, most, least, tie }
}

/// Once in tens of thousands of runs: a lock is handed to one who waits for it together with another, behind whom somebody
/// waits for that other. That wait ends with the transfer, and is no part of a circle.
#[test]
fn a_wait_that_ends_with_a_transfer_closes_no_circle() {
    let acquire = |keys: &[usize], owner, permits, wait: Option<u64>| {
        acquire(keys, owner, permits, wait.map(Wait::block))
    };
    let (exclusive, shared) = (Permits::EXCLUSIVE, Permits::SHARED);
    let mut pair = pair::Pair::new(0);
    for op in [
        acquire(&[0], 0, exclusive, None),
        acquire(&[0], 2, exclusive, Some(1)),
        acquire(&[2], 3, exclusive, None),
        acquire(&[1, 2], 2, shared, Some(1)),
        acquire(&[1], 0, shared, Some(1)),
        ops::Op::Transfer { key: 2, from: 3, to: 2, lease: None, by: ops::By::Name },
    ] {
        pair.step(op);
    }
}

/// Once in hundreds of thousands of runs: a lock is stolen for another use than those who wait for it want it for, by one
/// whose own wait ends by itself.
#[test]
fn a_stolen_lock_that_will_be_let_go_is_of_no_kind() {
    let acquire = |keys: &[usize], owner: usize, permits: Permits, wait: Option<u64>| {
        let (keys, lease) = (keys.iter().copied().collect(), wait.is_none().then_some(1));
        let (entry, most, least, tie) = (0, None, None, None);
        ops::Op::Acquire { keys, owner, permits, lease, wait: wait.map(Wait::block), entry, most, least, tie }
    };
    let (exclusive, shared) = (Permits::EXCLUSIVE, Permits::SHARED);
    let mut pair = pair::Pair::new(1);
    for op in [
        acquire(&[0], 0, exclusive, None),
        ops::Op::Pass { us: 1_000 },
        acquire(&[1], 0, exclusive, None),
        acquire(&[1, 2], 3, shared, Some(1)),
        acquire(&[0], 0, exclusive, Some(1)),
        acquire(&[0, 2], 1, shared, Some(1)),
        ops::Op::Steal {
            key: 2,
            owner: 0,
            permits: Permits { limit: 3, count: 1 },
            lease: None,
            most: None,
            least: None,
        },
        acquire(&[0], 3, exclusive, Some(1)),
    ] {
        pair.step(op);
    }
}

/// Once in a hundred thousand runs: one who waits for two locks, in line behind so many that the rest is left to another step,
/// comes by one of them as two databases change places.
#[test]
fn a_lock_that_came_with_another_database_is_not_given_to_its_owner_twice() {
    let acquire = |keys: &[usize], owner, permits, wait: Option<u64>| {
        acquire(keys, owner, permits, wait.map(Wait::block))
    };
    let (exclusive, shared) = (Permits::EXCLUSIVE, Permits::SHARED);
    let mut pair = pair::Pair::new(0);
    for op in [
        acquire(&[4], 1, exclusive, None),
        acquire(&[4], 2, shared, Some(1)),
        acquire(&[3, 4], 0, shared, Some(1)),
        acquire(&[0], 0, shared, None),
        ops::Op::SwapDatabases,
    ] {
        pair.step(op);
    }
}

/// Once in tens of thousands of runs: more waits are due at a turn of the wheel's next level than it moves in one call.
#[test]
fn waits_that_move_down_the_wheel_together_end_together() {
    let acquire = |key, owner, wait| acquire(&[key], owner, Permits::EXCLUSIVE, wait);
    let slice = Wait { block_ms: Some(4), keep_ms: Some(1) };
    let mut pair = pair::Pair::new(0);
    for op in [
        ops::Op::Pass { us: 59_063 },
        acquire(0, 1, None),
        acquire(2, 1, None),
        acquire(2, 0, Some(slice)),
        ops::Op::Pass { us: 1_760 },
        acquire(2, 2, Some(slice)),
        acquire(0, 0, Some(Wait::block(4))),
        acquire(0, 2, Some(Wait::ticket(4))),
        ops::Op::Pass { us: 3_177 },
    ] {
        pair.step(op);
    }
}

/// Once in tens of thousands of runs: an owner with a ticket comes by the lock as two databases change places, and
/// converts that hold. It asks for another ticket then.
#[test]
fn a_ticket_for_a_lock_is_none_to_convert_a_hold_of_it() {
    let (exclusive, shared, ticket) = (Permits::EXCLUSIVE, Permits::SHARED, Some(Wait::ticket(1)));
    let mut pair = pair::Pair::new(0);
    for op in [
        acquire(&[2], 0, exclusive, None),
        acquire(&[2], 2, shared, Some(Wait::block(1))),
        ops::Op::SwapDatabases,
        acquire(&[2], 0, shared, None),
        ops::Op::SwapDatabases,
        acquire(&[2], 2, exclusive, ticket),
        ops::Op::SwapDatabases,
        ops::Op::Convert { key: 2, owner: 2, permits: exclusive, wait: ticket, by: ops::By::Name },
    ] {
        pair.step(op);
    }
}

#[test]
fn what_is_due_while_its_slot_is_away_is_looked_at_when_the_slot_is_back() {
    let lease_or_least = [(Some(4), None), (Some(4), Some(8))];
    for (lease, least) in lease_or_least {
        let (permits, wait, entry, most, tie) = (Permits::EXCLUSIVE, None, 0, None, None);
        let mut pair = pair::Pair::new(0);
        pair.step(ops::Op::Acquire {
            keys: BTreeSet::from([0]),
            owner: 0,
            permits,
            lease,
            wait,
            entry,
            most,
            least,
            tie,
        });
        if least.is_some() {
            let (by, entry) = (ops::By::Name, Some(0));
            pair.step(ops::Op::Release { key: 0, owner: 0, by, entry, cancels: false, after: None });
        }
        pair.pass_away(0, 10_000);
        assert!(pair.is_settled(), "{least:?}");
    }
}
