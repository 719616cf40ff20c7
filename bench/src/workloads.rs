//! The workloads, one file each: what is run, what is compared, and the aim.

pub mod aof;
pub mod bystanders;
pub mod expiry;
pub mod flat;
pub mod floor;
pub mod guarded;
pub mod handoff;
pub mod instructions;
pub mod memory;
pub mod modes;
pub mod pairs;
pub mod waiters;
pub mod worst;

mod contend;
mod crowd;
mod holding;
mod inside;
mod lua;
mod ring;
mod sleepers;
mod uncontended;
