//! The workloads, one file each: what is run, what is compared, and the aim.

pub(crate) mod aof;
pub(crate) mod bystanders;
pub(crate) mod expiry;
pub(crate) mod flat;
pub(crate) mod floor;
pub(crate) mod guarded;
pub(crate) mod handoff;
pub(crate) mod instructions;
pub(crate) mod memory;
pub(crate) mod modes;
pub(crate) mod pairs;
pub(crate) mod waiters;
pub(crate) mod worst;

mod contend;
mod crowd;
mod holding;
mod inside;
mod lua;
mod ring;
mod sleepers;
mod uncontended;
