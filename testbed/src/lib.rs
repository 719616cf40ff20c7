//! What the tests and the measurements of this repository stand on: real servers on loopback, each with its own port and
//! directory and ended by its process id; the wire format; waiting for a condition; a few figures. Knows nothing of what the
//! module promises.

use std::io::Write;

pub mod process;
pub mod resp;
pub mod server;
mod setup;
pub mod stats;
pub mod wait;

pub use resp::{Connection, Value};
pub use server::{Server, Stop};
pub use setup::{binary, free_port, module, Setup};
pub use wait::wait_until;

/// Says that a case was left out and why, past the test runner, which shows nothing of a test that passes.
pub fn skip(case: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {case}: {reason}");
}
