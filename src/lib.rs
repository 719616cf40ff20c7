//! Distributed locks inside the Redis or Valkey server: owner, lease, queue and fence are checked in one step.
//!
//! The layers, each knowing only those after it:
//!
//! - `host`: the server's module API, clocks, timers, blocked clients, replication, persistence;
//! - `command`: each command as a value, read from words and applied to a lock;
//! - `primitive`: locks, queues, leases, fences and their encoding, as plain values.
//!
//! `limits` has every maximum, `error` every refusal.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "tests trap an overflow by themselves"))]

#[cfg(test)]
mod boundary_tests;
mod command;
mod error;
#[cfg(test)]
mod head_tests;
mod host;
mod limits;
mod primitive;
#[cfg(test)]
mod simulator;

#[cfg(not(test))]
use redis_module::alloc::RedisAlloc as ModuleAlloc;
#[cfg(test)]
use std::alloc::System as ModuleAlloc;

/// The version as the server shows it: 10000 for each major, 100 for each minor.
const VERSION: i32 = 100;

redis_module::redis_module! {
    name: "lock",
    version: VERSION,
    allocator: (ModuleAlloc, ModuleAlloc),
    data_types: [],
    init: load,
    commands: [],
}

use host::load;
