//! The commands as values: each is read from words (`parse`) and does its work on a
//! [`Turn`](crate::primitive::Turn) (`apply`). No server is needed to run them.

pub mod acquire;
pub mod args;
pub mod check;
pub mod effect;
pub mod help;
pub mod info;
pub mod policy;
pub mod release;
pub mod renew;
pub mod report;
pub mod spec;
pub mod waiters;

pub use policy::Policy;

use spec::Spec;

/// The commands for users, in the order of LOCK.HELP.
pub const PUBLIC: &[Spec] =
    &[acquire::SPEC, release::SPEC, renew::SPEC, check::SPEC, info::SPEC, waiters::SPEC, help::SPEC];
