//! One server process for one test: its own directory, its own port, ended by its process id. When the test panics, the
//! server's log is printed with it. Knows nothing of replicas or clusters; a test wires those up by commands.

use std::collections::HashMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use super::process::signal;
use super::resp::{Connection, Value};
use super::wait::{poll, wait_for, DEADLINE};

/// Ports to choose from: below the range from which the kernel serves outgoing connections, and low enough that the
/// cluster bus, 10,000 further up, stays below it too.
const PORTS: std::ops::Range<u16> = 12_000..22_000;

/// How often a start is tried again because somebody else took the port first.
const PORT_ATTEMPTS: u32 = 20;

const CONF: &str = "server.conf";

/// Grants at once after a promotion or a start, as most tests are about something else than the recovery window.
const NO_WINDOW: &str = "lock.recovery-window-ms 0";

/// What every server runs with, unless a test says otherwise in a later line.
const BASE_CONF: &[&str] = &[
    "bind 127.0.0.1",
    "daemonize no",
    "save \"\"",
    "appendonly no",
    "enable-debug-command yes",
    "enable-module-command yes",
    // A replica's full sync is to start at once, not after waiting for more replicas.
    "repl-diskless-sync-delay 0",
];

/// How a server is stopped before it is started again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stop {
    /// SIGKILL: nothing is saved that is not on disk.
    Kill,
    /// SHUTDOWN SAVE: an RDB file is written and the AOF is flushed.
    Save,
}

/// What a server is started with.
#[derive(Clone)]
pub(crate) struct Setup {
    conf: Vec<String>,
    env: Vec<(String, String)>,
    module: Option<PathBuf>,
    module_args: String,
    is_with_defaults: bool,
    files: Vec<(PathBuf, String)>,
    binary: PathBuf,
}

impl Setup {
    /// The server under test with the module under test.
    pub(crate) fn new() -> Setup {
        Setup { module: Some(from_env("MODULE_PATH")), ..Setup::plain() }
    }

    /// The server under test without the module: a peer to compare with.
    pub(crate) fn plain() -> Setup {
        Setup {
            conf: Vec::new(),
            env: Vec::new(),
            module: None,
            module_args: String::new(),
            is_with_defaults: false,
            files: Vec::new(),
            binary: binary(),
        }
    }

    /// Adds lines to the configuration file, such as `"appendonly yes"` or `"lock.max-waiters 3"`.
    pub(crate) fn conf<S: AsRef<str>>(mut self, lines: &[S]) -> Setup {
        self.conf.extend(lines.iter().map(|line| line.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable, such as `LD_PRELOAD`.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// All settings of the module as they are by default, that of the recovery window among them.
    pub(crate) fn with_defaults(mut self) -> Setup {
        self.is_with_defaults = true;
        self
    }

    /// Words after the path on the `loadmodule` line.
    pub(crate) fn module_args(mut self, args: &str) -> Setup {
        args.clone_into(&mut self.module_args);
        self
    }

    /// Copies a file or a directory into the new server's directory before the start, such as an RDB file as `dump.rdb`.
    pub(crate) fn file(mut self, source: &Path, name: &str) -> Setup {
        self.files.push((source.to_owned(), name.to_owned()));
        self
    }

    /// Starts it in a new directory; panics with the log when it does not come up.
    pub(crate) fn start(self) -> Server {
        self.try_start().unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// Starts it in a new directory; `Err` is the log of a server that did not come up.
    pub(crate) fn try_start(self) -> Result<Server, String> {
        let dir =
            tempfile::Builder::new().prefix("lock-server-").tempdir().expect("a directory for the server");
        for (source, name) in &self.files {
            copy(source, &dir.path().join(name));
        }
        std::fs::write(dir.path().join(CONF), self.conf_text(dir.path())).expect("write the configuration");
        let Launched { child, port, conn } = self.launch(dir.path(), free_port())?;
        Ok(Server { setup: self, dir, port, child, default: Mutex::new(conn) })
    }

    /// Starts the process on the configuration file that is there, which CONFIG REWRITE may have changed meanwhile.
    fn launch(&self, dir: &Path, mut port: u16) -> Result<Launched, String> {
        for _ in 0..PORT_ATTEMPTS {
            match self.launch_once(dir, port) {
                Err(log) if log.contains("Address already in use") => port = free_port(),
                outcome => return outcome,
            }
        }
        panic!("no free port in {PORT_ATTEMPTS} attempts");
    }

    fn launch_once(&self, dir: &Path, port: u16) -> Result<Launched, String> {
        let log_path = dir.join("server.log");
        let log = File::options().create(true).append(true).open(&log_path).expect("open the log");
        let log_start = log.metadata().expect("look at the log").len() as usize;
        let mut child = Command::new(&self.binary)
            .args([CONF, "--port", &port.to_string()])
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()));

        let outcome = poll(DEADLINE, || match child.try_wait() {
            Ok(None) => ready_connection(port, child.id()).map(Ok),
            _ => Some(Err(())),
        });
        if let Some(Ok(conn)) = outcome {
            Ok(Launched { child, port, conn })
        } else {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read(&log_path).unwrap_or_default();
            Err(String::from_utf8_lossy(&log[log_start..]).into_owned())
        }
    }

    fn conf_text(&self, dir: &Path) -> String {
        let mut lines: Vec<String> = BASE_CONF.iter().map(|line| (*line).to_owned()).collect();
        lines.push(format!("dir {}", dir.display()));
        if let Some(module) = &self.module {
            lines.push(format!("loadmodule {} {}", module.display(), self.module_args));
            let sets_window = |line: &String| line.starts_with("lock.recovery-window-ms ");
            if !self.is_with_defaults && !self.conf.iter().any(sets_window) {
                lines.push(NO_WINDOW.to_owned());
            }
        }
        lines.extend(self.conf.iter().cloned());
        lines.join("\n")
    }
}

struct Launched {
    child: Child,
    port: u16,
    conn: Connection,
}

/// A connection to the server with this process id, once it has loaded its data. `None` for as long as it has not, and
/// when the port belongs to another process.
fn ready_connection(port: u16, pid: u32) -> Option<Connection> {
    let mut conn = Connection::open(port).ok()?;
    // Whoever else holds the port may never answer.
    conn.set_deadline(Duration::from_millis(200));
    // A server that is about to refuse its configuration may be gone between the two.
    conn.try_send(&["INFO"]).ok()?;
    let info = conn.try_read().ok()?;
    if !matches!(info, Value::Bulk(_)) {
        return None;
    }
    let fields = parse_info(&info.text());
    let is = |name: &str, value: &str| fields.get(name).is_some_and(|found| found == value);
    if !is("process_id", &pid.to_string()) || !is("loading", "0") {
        return None;
    }
    conn.set_deadline(DEADLINE);
    Some(conn)
}

/// A port nobody listens on at this moment. Each call in this process gives another one; each process starts elsewhere.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    let start = (std::process::id().wrapping_mul(97) % u32::from(span)) as u16;
    wait_for("a free port", || {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % span;
        let port = PORTS.start + (start + step) % span;
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    })
}

/// The program of the server under test.
pub(crate) fn binary() -> PathBuf {
    from_env("SERVER_BIN")
}

fn from_env(name: &str) -> PathBuf {
    let value = std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set; use `make integration`"));
    let path = PathBuf::from(value);
    assert!(path.is_absolute(), "{name} must be an absolute path, not {}", path.display());
    path
}

fn copy(source: &Path, target: &Path) {
    if !source.is_dir() {
        std::fs::copy(source, target).unwrap_or_else(|error| panic!("copy {}: {error}", source.display()));
        return;
    }
    std::fs::create_dir(target).expect("make a directory");
    for entry in std::fs::read_dir(source).expect("read a directory") {
        let entry = entry.expect("read a directory");
        copy(&entry.path(), &target.join(entry.file_name()));
    }
}

fn parse_info(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect()
}

/// A running server.
pub(crate) struct Server {
    setup: Setup,
    dir: TempDir,
    port: u16,
    child: Child,
    default: Mutex<Connection>,
}

impl Server {
    /// The server under test, with the module and nothing else.
    pub(crate) fn start() -> Server {
        Setup::new().start()
    }

    /// The same with more configuration lines.
    pub(crate) fn with<S: AsRef<str>>(conf: &[S]) -> Server {
        Setup::new().conf(conf).start()
    }

    /// Runs a command on the server's default connection.
    pub(crate) fn cmd<A: AsRef<[u8]>>(&self, args: &[A]) -> Value {
        // A test that panicked while it held the connection has failed already; its neighbours need not.
        self.default.lock().unwrap_or_else(std::sync::PoisonError::into_inner).cmd(args)
    }

    /// A new connection of its own.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.port).unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that the server has logged so far, over all its lives.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.dir().join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A section of INFO as name and value.
    pub(crate) fn info(&self, section: &str) -> HashMap<String, String> {
        parse_info(&self.cmd(&["INFO", section]).text())
    }

    /// One numeric field of INFO.
    pub(crate) fn info_int(&self, section: &str, field: &str) -> i64 {
        let info = self.info(section);
        let value = info.get(field).unwrap_or_else(|| panic!("INFO {section} has no {field}"));
        value.parse().unwrap_or_else(|_| panic!("{field} is no number: {value}"))
    }

    /// The value of a configuration key.
    pub(crate) fn config(&self, name: &str) -> String {
        let reply = self.cmd(&["CONFIG", "GET", name]);
        reply.field(name).text()
    }

    pub(crate) fn is_valkey(&self) -> bool {
        self.info("server").contains_key("valkey_version")
    }

    /// The server's own version. Valkey also reports a Redis version for old clients; that one is not meant.
    pub(crate) fn version(&self) -> (u32, u32, u32) {
        let info = self.info("server");
        let text =
            info.get("valkey_version").or_else(|| info.get("redis_version")).expect("a version in INFO");
        let mut parts = text.split('.').map(|part| part.parse().expect("a number in the version"));
        let mut next = || parts.next().expect("three parts in the version");
        (next(), next(), next())
    }

    /// Sends the process a signal by name, such as `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Stops the process and leaves its directory as it is.
    pub(crate) fn stop(&mut self, how: Stop) {
        match how {
            Stop::Kill => self.child.kill().expect("kill the server"),
            Stop::Save => self.connect().send(&["SHUTDOWN", "SAVE"]),
        }
        wait_for("the server to end", || self.child.try_wait().expect("wait for the server"));
    }

    /// Stops it and starts it again on the same directory and, if it is still free, the same port.
    pub(crate) fn restart(&mut self, how: Stop) {
        self.stop(how);
        self.start_again();
    }

    /// Starts a stopped server again on the same directory; panics with the log when it does not come up.
    pub(crate) fn start_again(&mut self) {
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
        if std::thread::panicking() {
            eprintln!("--- log of the server on port {} ---\n{}--- end of log ---", self.port, self.log());
        }
    }
}
