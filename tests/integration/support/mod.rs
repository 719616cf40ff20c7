//! What the integration tests stand on beside the testbed: it reads streams, files and transcripts. It holds no test and knows
//! of the module only how a lock is shown.
#![allow(dead_code, unused_imports, reason = "a toolbox: not every tool is in use at all times")]

pub(crate) mod aof;
pub(crate) mod cli;
pub(crate) mod compile;
pub(crate) mod events;
pub(crate) mod onlooker;
pub(crate) mod pattern;
pub(crate) mod proxy;
pub(crate) mod stream;
pub(crate) mod transcript;

pub(crate) use events::Events;
pub(crate) use proxy::Proxy;
pub(crate) use stream::{assert_stream, ReplicaStream};
pub(crate) use testbed::{
    free_port, process, resp, skip, wait, wait_until, Connection, Server, Setup, Stop, Value,
};
