//! Signals to processes that a test has started.

use std::process::Command;

/// Sends a process a signal by name, such as `STOP` or `CONT`.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(status.expect("run kill").success(), "kill -{name} {pid} failed");
}
