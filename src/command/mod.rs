//! The commands as values: each is read from words (`parse`) and does its work on a
//! [`Step`](crate::primitive::Step) (`apply`). No server is needed to run them.

pub mod acquire;
pub mod args;
pub mod check;
pub mod convert;
pub mod effect;
pub mod fence;
pub mod glob;
pub mod group;
pub mod guard;
pub mod help;
pub mod holder;
pub mod info;
pub mod latch;
pub mod latch_effect;
pub mod observe;
pub mod operate;
pub mod plain;
pub mod policy;
pub mod recovery;
pub mod release;
pub mod renew;
pub mod report;
pub mod revoke;
pub mod scan;
pub mod set_limit;
pub mod spec;
pub mod stats;
pub mod terms;
pub mod transfer;
pub mod waiters;

pub use policy::Policy;

use spec::Spec;

/// The commands for users, in the order of LOCK.HELP.
pub const PUBLIC: &[Spec] = &[
    acquire::SPEC,
    release::SPEC,
    renew::SPEC,
    check::SPEC,
    convert::SPEC,
    set_limit::SPEC,
    group::ACQUIRE,
    group::RELEASE,
    group::RENEW,
    guard::SPEC,
    fence::SPEC,
    transfer::SPEC,
    operate::CANCEL,
    operate::BREAK,
    operate::STEAL,
    observe::SPEC,
    revoke::SPEC,
    info::SPEC,
    waiters::SPEC,
    scan::SPEC,
    stats::SPEC,
    recovery::SPEC,
    latch::SET,
    latch::DOWN,
    latch::AWAIT,
    latch::INFO,
    help::SPEC,
];
