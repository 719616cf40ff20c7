//! What every integration test stands on. It starts servers, speaks RESP and waits for conditions; it holds no test and
//! knows nothing of what the module promises.
#![allow(dead_code, unused_imports, reason = "a toolbox: not every tool is in use at all times")]

use std::io::Write;

pub(crate) mod aof;
pub(crate) mod cli;
pub(crate) mod compile;
pub(crate) mod pattern;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod resp;
pub(crate) mod sentinel;
pub(crate) mod server;
pub(crate) mod stream;
pub(crate) mod transcript;
pub(crate) mod wait;

pub(crate) use proxy::Proxy;
pub(crate) use resp::{Connection, Value};
pub(crate) use sentinel::Sentinel;
pub(crate) use server::{Server, Stop};
pub(crate) use stream::{assert_stream, ReplicaStream};
pub(crate) use wait::wait_until;

/// Says that a case was left out and why, past the test runner, which shows nothing of a test that passes.
pub(crate) fn skip(case: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {case}: {reason}");
}
