//! The ground of the tests and the measurements of this repository: real servers on loopback, each with its own port
//! and directory and ended by its process id; the wire format; waiting for a condition; a few figures. Knows nothing of
//! what the module promises.

use std::fs::File;
use std::io::Write;

mod ports;
pub mod process;
pub mod resp;
pub mod scan;
pub mod server;
mod setup;
pub mod stats;
pub mod wait;

pub use ports::free_port;
pub use resp::{Connection, Value};
pub use server::{Server, Stop};
pub use setup::{binary, module, Setup};
pub use wait::wait_until;

/// Says that a case was left out and why, past the test runner, which shows nothing of a test that passes: in the file that
/// `SKIPPED` names, or else on the screen.
pub fn skip(case: &str, reason: &str) {
    let line = format!("skipped: {case}: {reason}\n");
    let _ = match std::env::var_os("SKIPPED") {
        Some(file) => {
            File::options().append(true).open(file).and_then(|mut file| file.write_all(line.as_bytes()))
        }
        None => std::io::stderr().write_all(line.as_bytes()),
    };
}
