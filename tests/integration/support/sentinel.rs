//! One Sentinel process for one test, made of the server's own program: its own directory, its own port, ended by its
//! process id.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::resp::Connection;
use super::server::{binary, free_port};
use super::wait::wait_for;

const CONF: &str = "sentinel.conf";

pub(crate) struct Sentinel {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Sentinel {
    /// Starts it with these lines of configuration, which say whom it watches.
    pub(crate) fn start(lines: &[&str]) -> Sentinel {
        let dir = tempfile::Builder::new().prefix("lock-sentinel-").tempdir().expect("a directory");
        let conf = format!("bind 127.0.0.1\ndir {}\n{}\n", dir.path().display(), lines.join("\n"));
        std::fs::write(dir.path().join(CONF), conf).expect("write the configuration");
        let port = free_port();
        let log = File::create(dir.path().join("sentinel.log")).expect("open the log");
        let child = Command::new(binary())
            .args([CONF, "--sentinel", "--port", &port.to_string()])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("run the Sentinel");
        let sentinel = Sentinel { dir, port, child };
        wait_for("the Sentinel to answer", || Connection::open(port).ok());
        sentinel
    }

    /// What it says of the primary that it knows as `locks`: one field of `SENTINEL MASTER`.
    pub(crate) fn primary(&self, field: &str) -> String {
        let mut conn = Connection::open(self.port).expect("connect to the Sentinel");
        conn.cmd(&["SENTINEL", "MASTER", "locks"]).field(field).text()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("sentinel.log")).unwrap_or_default();
            eprintln!("--- log of the Sentinel on port {} ---\n{log}--- end of log ---", self.port);
        }
    }
}
