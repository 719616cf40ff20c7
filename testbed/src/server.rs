//! One server process: its own directory, its own port, ended by its process id. When a test panics, or the module has, the
//! server's log is printed with it. Knows nothing of replicas or clusters; whoever wants those wires them up by commands.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::process::signal;
use crate::resp::{Connection, Value};
use crate::setup::{Launched, Setup, LOG};
use crate::wait::wait_for;

/// How a server is stopped before it is started again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stop {
    /// SIGKILL: nothing is saved that is not on disk.
    Kill,
    /// SHUTDOWN SAVE: an RDB file is written and the AOF is flushed.
    Save,
}

/// A running server.
pub struct Server {
    setup: Setup,
    dir: TempDir,
    port: u16,
    child: Child,
    default: Mutex<Connection>,
}

impl Server {
    pub(crate) fn new(setup: Setup, dir: TempDir, launched: Launched) -> Server {
        let Launched { child, port, conn } = launched;
        Server { setup, dir, port, child, default: Mutex::new(conn) }
    }

    /// The server under test, with the module and nothing else.
    pub fn start() -> Server {
        Setup::new().start()
    }

    /// The same with more configuration lines.
    pub fn with<S: AsRef<str>>(conf: &[S]) -> Server {
        Setup::new().conf(conf).start()
    }

    /// Runs a command on the server's default connection.
    pub fn cmd<A: AsRef<[u8]>>(&self, args: &[A]) -> Value {
        // A test that panicked while it held the connection has failed already; its neighbours need not.
        self.default.lock().unwrap_or_else(PoisonError::into_inner).cmd(args)
    }

    /// A new connection of its own.
    pub fn connect(&self) -> Connection {
        Connection::open(self.port).unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that the server has logged so far, over all its lives.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.path(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A section of INFO as name and value.
    pub fn info(&self, section: &str) -> HashMap<String, String> {
        parse_info(&self.cmd(&["INFO", section]).text())
    }

    /// One numeric field of INFO.
    pub fn info_int(&self, section: &str, field: &str) -> i64 {
        let info = self.info(section);
        let value = info.get(field).unwrap_or_else(|| panic!("INFO {section} has no {field}"));
        value.parse().unwrap_or_else(|_| panic!("{field} is no number: {value}"))
    }

    /// The value of a configuration key.
    pub fn config(&self, name: &str) -> String {
        let reply = self.cmd(&["CONFIG", "GET", name]);
        reply.field(name).text()
    }

    pub fn is_valkey(&self) -> bool {
        self.info("server").contains_key("valkey_version")
    }

    /// The server's own version. Valkey also reports a Redis version for old clients; that one is not meant.
    pub fn version(&self) -> (u32, u32, u32) {
        let info = self.info("server");
        let text =
            info.get("valkey_version").or_else(|| info.get("redis_version")).expect("a version in INFO");
        let mut parts = text.split('.').map(|part| part.parse().expect("a number in the version"));
        let mut next = || parts.next().expect("three parts in the version");
        (next(), next(), next())
    }

    /// Sends the process a signal by name, such as `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Stops the process and leaves its directory as it is.
    pub fn stop(&mut self, how: Stop) {
        match how {
            Stop::Kill => self.child.kill().expect("kill the server"),
            Stop::Save => self.connect().send(&["SHUTDOWN", "SAVE"]),
        }
        wait_for("the server to end", || self.child.try_wait().expect("wait for the server"));
    }

    /// Stops it and starts it again on the same directory and, if it is still free, the same port.
    pub fn restart(&mut self, how: Stop) {
        self.stop(how);
        self.start_again();
    }

    /// Starts a stopped server again on the same directory; panics with the log when it does not come up.
    pub fn start_again(&mut self) {
        let launched = self.setup.launch(self.dir.path(), self.port);
        let Launched { child, port, conn } = launched.unwrap_or_else(|log| panic!("no restart:\n{log}"));
        self.child = child;
        self.port = port;
        self.default = Mutex::new(conn);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        let has_panicked = log.contains("lock: panicked at");
        if std::thread::panicking() || has_panicked {
            eprintln!("--- log of the server on port {} ---\n{log}--- end of log ---", self.port);
        }
        assert!(std::thread::panicking() || !has_panicked, "the module panicked: see the log of its server");
    }
}

/// A section of INFO as name and value.
pub(crate) fn parse_info(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect()
}
