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
