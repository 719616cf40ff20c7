//! The commands as values: each is read from words (`parse`) and does its work on a
//! [`Step`](crate::primitive::Step) (`apply`). No server is needed to run them.

pub(crate) mod acquire;
pub(crate) mod args;
pub(crate) mod check;
pub(crate) mod convert;
pub(crate) mod effect;
pub(crate) mod fence;
pub(crate) mod glob;
pub(crate) mod group;
pub(crate) mod guard;
#[cfg(test)]
mod head_tests;
pub(crate) mod help;
pub(crate) mod holder;
pub(crate) mod info;
pub(crate) mod latch;
pub(crate) mod latch_effect;
pub(crate) mod observe;
pub(crate) mod operate;
pub(crate) mod plain;
pub(crate) mod policy;
pub(crate) mod recovery;
pub(crate) mod release;
pub(crate) mod renew;
pub(crate) mod report;
pub(crate) mod revoke;
pub(crate) mod scan;
pub(crate) mod set_limit;
pub(crate) mod spec;
pub(crate) mod stats;
pub(crate) mod terms;
pub(crate) mod token;
pub(crate) mod transfer;
pub(crate) mod waiters;

pub(crate) use policy::Policy;

use spec::Spec;

/// The commands for users, in the order of LOCK.HELP.
pub(crate) const PUBLIC: &[Spec] = &[
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
