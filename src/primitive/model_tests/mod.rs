//! The core against a model that is slow and obvious. Few keys, few owners and short times, so that they collide. A
//! replica is fed with the effects alone and must agree as well.

mod model;
mod ops;
mod pair;
mod watch;
mod world;

use proptest::prelude::*;

const KEYS: [&[u8]; 3] = [b"k", b"l", b"m"];
const OWNERS: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
/// Ids of re-entry; the empty one is none.
const ENTRIES: [&[u8]; 3] = [b"", b"x", b"y"];

/// Connections at any one time.
const CLIENTS: usize = 3;

/// How long what a ticket was given may stay unclaimed.
const CLAIM_MS: u64 = 6;

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
}
