//! The words that a server is started with, and the start itself: the process is ours, answers, and has loaded its
//! data.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::ports::free_port;
use crate::resp::{Connection, Value};
use crate::server::{parse_info, Server};
use crate::wait::{poll, DEADLINE};

/// How often a start is tried again because somebody else took the port first.
const PORT_ATTEMPTS: u32 = 20;

const CONF: &str = "server.conf";
pub(crate) const LOG: &str = "server.log";

/// Grants at once after a promotion or a start, as most tests are about something else than the recovery window. A later line
/// wins.
const NO_WINDOW: &str = "lock.recovery-window-ms 0";

/// The settings of the server of a test, unless a later line says otherwise.
const TEST_CONF: &[&str] = &[
    "save \"\"",
    "appendonly no",
    "enable-debug-command yes",
    "enable-module-command yes",
    // A replica's full sync is to start at once, not after waiting for more replicas.
    "repl-diskless-sync-delay 0",
];

/// Runs the command of a server, elsewhere if it likes: on a CPU of its own, say.
type Spawn = dyn Fn(&mut Command) -> io::Result<Child> + Send + Sync;

/// All that a server is started with.
#[derive(Clone)]
pub struct Setup {
    binary: PathBuf,
    under: Vec<String>,
    words: Vec<String>,
    conf: Vec<String>,
    env: Vec<(String, String)>,
    files: Vec<(PathBuf, String)>,
    patience: Duration,
    spawn: Option<Arc<Spawn>>,
}

impl Setup {
    /// The server under test with the module under test.
    pub fn new() -> Setup {
        Setup::plain().module(&module()).conf(&[NO_WINDOW])
    }

    /// The server under test without the module: a peer to compare with.
    pub fn plain() -> Setup {
        Setup::bare(binary()).conf(TEST_CONF)
    }

    /// A Sentinel with these lines of configuration, which say whom it watches.
    pub fn sentinel<S: AsRef<str>>(conf: &[S]) -> Setup {
        Setup::bare(binary()).conf(conf).words(&["--sentinel"])
    }

    /// This program as it is, with nothing set but its place.
    pub fn bare(binary: impl Into<PathBuf>) -> Setup {
        Setup {
            binary: binary.into(),
            under: Vec::new(),
            words: Vec::new(),
            conf: Vec::new(),
            env: Vec::new(),
            files: Vec::new(),
            patience: DEADLINE,
            spawn: None,
        }
    }

    /// Loads a module.
    pub fn module(self, path: &Path) -> Setup {
        self.conf(&[format!("loadmodule {}", path.display())])
    }

    /// Adds lines to the configuration file, such as `"appendonly yes"` or `"lock.max-waiters 3"`.
    pub fn conf<S: AsRef<str>>(mut self, lines: &[S]) -> Setup {
        self.conf.extend(lines.iter().map(|line| line.as_ref().to_owned()));
        self
    }

    /// Adds words to the command line, such as `"--appendonly", "yes"`. They win over the configuration file.
    pub fn words<S: AsRef<str>>(mut self, words: &[S]) -> Setup {
        self.words.extend(words.iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Has another program run the server, with these words before the server's own.
    pub fn under<S: AsRef<str>>(mut self, words: &[S]) -> Setup {
        self.under = words.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Sets an environment variable, such as `LD_PRELOAD`.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// All settings of the module as they are by default, that of the recovery window among them.
    pub fn with_defaults(mut self) -> Setup {
        self.conf.retain(|line| line != NO_WINDOW);
        self
    }

    /// Copies a file or a directory into the new server's directory before the start, such as an RDB file as `dump.rdb`.
    pub fn file(mut self, source: &Path, name: &str) -> Setup {
        self.files.push((source.to_owned(), name.to_owned()));
        self
    }

    /// How long a start may take.
    pub fn patience(mut self, patience: Duration) -> Setup {
        self.patience = patience;
        self
    }

    /// Has the process made by this.
    pub fn spawned_by(
        mut self,
        spawn: impl Fn(&mut Command) -> io::Result<Child> + Send + Sync + 'static,
    ) -> Setup {
        self.spawn = Some(Arc::new(spawn));
        self
    }

    /// Starts it in a new directory; panics with the log when it does not come up.
    pub fn start(self) -> Server {
        self.try_start().unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// Starts it in a new directory; `Err` is the log of a server that did not come up.
    pub fn try_start(self) -> Result<Server, String> {
        let dir =
            tempfile::Builder::new().prefix("lock-server-").tempdir().expect("a directory for the server");
        for (source, name) in &self.files {
            copy(source, &dir.path().join(name));
        }
        std::fs::write(dir.path().join(CONF), self.conf_text(dir.path())).expect("write the configuration");
        let launched = self.launch(dir.path(), free_port())?;
        Ok(Server::new(self, dir, launched))
    }

    /// Starts the process on the configuration file that is there, which CONFIG REWRITE may have changed meanwhile.
    pub(crate) fn launch(&self, dir: &Path, mut port: u16) -> Result<Launched, String> {
        for _ in 0..PORT_ATTEMPTS {
            match self.launch_once(dir, port) {
                Err(log) if log.contains("Address already in use") => port = free_port(),
                outcome => return outcome,
            }
        }
        panic!("no free port in {PORT_ATTEMPTS} attempts");
    }

    fn launch_once(&self, dir: &Path, port: u16) -> Result<Launched, String> {
        let log_path = dir.join(LOG);
        let log = File::options().create(true).append(true).open(&log_path).expect("open the log");
        let log_start = log.metadata().expect("look at the log").len() as usize;
        let mut words = self.under.iter().map(OsStr::new).chain([self.binary.as_os_str()]);
        let mut command = Command::new(words.next().expect("a program"));
        command
            .args(words)
            .args([CONF, "--port", &port.to_string()])
            .args(&self.words)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log);
        let spawned = match &self.spawn {
            Some(spawn) => spawn(&mut command),
            None => command.spawn(),
        };
        let mut child =
            spawned.unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()));

        let outcome = poll(self.patience, || match child.try_wait() {
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
        let mut lines = vec![format!("bind {}", Ipv4Addr::LOCALHOST), "daemonize no".to_owned()];
        lines.push(format!("dir {}", dir.display()));
        lines.extend(self.conf.iter().cloned());
        lines.join("\n")
    }
}

impl Default for Setup {
    fn default() -> Setup {
        Setup::new()
    }
}

/// A server that serves.
pub(crate) struct Launched {
    pub(crate) child: Child,
    pub(crate) port: u16,
    pub(crate) conn: Connection,
}

/// A connection to the server with this process id, once it has loaded its data. `None` for as long as it has not, and
/// when the port belongs to another process.
fn ready_connection(port: u16, pid: u32) -> Option<Connection> {
    let mut conn = Connection::open(port).ok()?;
    // Another process that holds the port may never answer.
    conn.set_deadline(Duration::from_millis(200));
    // A server that is about to refuse its configuration may be gone between the two.
    conn.try_send(&["INFO"]).ok()?;
    let info = conn.try_read().ok()?;
    if !matches!(info, Value::Bulk(_)) {
        return None;
    }
    let fields = parse_info(&info.text());
    // A Sentinel has no data, and does not say that it loads any.
    let is_loading = fields.get("loading").is_some_and(|loading| loading != "0");
    if is_loading || fields.get("process_id") != Some(&pid.to_string()) {
        return None;
    }
    conn.set_deadline(DEADLINE);
    Some(conn)
}

/// The program of the server under test.
pub fn binary() -> PathBuf {
    from_env("SERVER_BIN")
}

/// The module under test.
pub fn module() -> PathBuf {
    from_env("MODULE_PATH")
}

fn from_env(name: &str) -> PathBuf {
    let value =
        std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set; the targets of make set it"));
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
