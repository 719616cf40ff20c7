//! Signals to processes that a test has started.

use std::process::Command;

/// Sends a process a signal by name, such as `STOP` or `CONT`. By the shell, as a small Debian has no program for it.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(status.expect("run kill").success(), "kill -{name} {pid} failed");
}
