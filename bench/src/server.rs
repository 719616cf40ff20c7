//! One real server per value: own directory, free loopback port, the server's CPU, killed when dropped.
//! Set-up and questions go over an ordinary client; the measured load never does.

use crate::placement::Placement;
use anyhow::{bail, ensure, Context, Result};
use redis::{Connection, InfoDict};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Under valgrind on a busy machine a start takes many seconds; this only ends a run that would hang.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);
/// A busy server may take long over one INFO; a dead one must not hang the run.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Another process can take the free port before the server binds it.
const ATTEMPTS: usize = 3;

/// What every server of a run is started with.
#[derive(Clone)]
pub(crate) struct Launch {
    pub binary: PathBuf,
    pub modules: Vec<PathBuf>,
    /// Extra `--option value` words.
    pub options: Vec<String>,
    /// A program that runs the server, with its own words; none for the server itself.
    pub under: Vec<String>,
    pub placement: Placement,
}

pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
    dir: TempDir,
}

impl Launch {
    pub(crate) fn with(&self, options: &[&str]) -> Self {
        let mut launch = self.clone();
        launch.options.extend(options.iter().map(|word| (*word).to_string()));
        launch
    }

    /// The same server, run by another program.
    pub(crate) fn under(&self, words: &[&str]) -> Self {
        let mut launch = self.clone();
        launch.under = words.iter().map(|word| (*word).to_string()).collect();
        launch
    }

    pub(crate) fn start(&self) -> Result<Server> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.try_start() {
                Ok(server) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt to start a server")?)
    }

    fn try_start(&self) -> Result<Server> {
        let dir = TempDir::with_prefix("lock-bench-").context("a directory for the server")?;
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = File::create(log_path(dir.path()))?;
        let mut words = self.under.iter().map(OsStr::new).chain([self.binary.as_os_str()]);
        let mut command = Command::new(words.next().context("a program")?);
        command
            .args(words)
            .current_dir(dir.path())
            .args(["--bind", "127.0.0.1", "--port", &addr.port().to_string()])
            .arg("--dir")
            .arg(dir.path())
            .args(["--save", "", "--appendonly", "no"])
            .args(&self.options);
        for module in &self.modules {
            command.arg("--loadmodule").arg(module);
        }
        command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
        let child = self
            .placement
            .on_server_cpu(|| command.spawn())?
            .with_context(|| format!("starting {}", self.binary.display()))?;
        let mut server = Server { child, addr, dir };
        server.wait_until_ready()?;
        Ok(server)
    }
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A connection for set-up and questions.
    pub(crate) fn control(&self) -> Result<Connection> {
        let client = redis::Client::open(("127.0.0.1", self.addr.port()))?;
        let control = client.get_connection_with_timeout(ANSWER_TIMEOUT)?;
        control.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(control)
    }

    /// What it is, with its version.
    pub(crate) fn name(&self) -> Result<String> {
        let about = info(&mut self.control()?, "server")?;
        let field = |name: &str| about.get::<String>(name);
        Ok(match field("valkey_version") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", field("redis_version").context("no version in INFO")?),
        })
    }

    /// Ready means: answers, and is the process we started, not one that was left on the port.
    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at once ({status}); its log:\n{}", self.log());
            }
            if let Ok(pid) = self.control().and_then(|mut c| info_number(&mut c, "server", "process_id")) {
                ensure!(pid as u32 == self.pid(), "another server answers on port {}", self.addr.port());
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the server does not answer; its log:\n{}", self.log());
            thread::sleep(POLL);
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(log_path(self.dir.path())).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing on disk is wanted, so the quick way. An error here means it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("server.log")
}

/// One INFO section.
pub(crate) fn info(control: &mut Connection, section: &str) -> Result<InfoDict> {
    Ok(redis::cmd("INFO").arg(section).query(control)?)
}

/// One number of an INFO section.
pub(crate) fn info_number(control: &mut Connection, section: &str, field: &str) -> Result<u64> {
    info(control, section)?.get(field).with_context(|| format!("INFO {section} has no number {field}"))
}

/// A number of the module's own INFO section, if this build of the module shows it.
pub(crate) fn lock_number(control: &mut Connection, field: &str) -> Option<u64> {
    // `everything` is the one selector that includes module sections on every server.
    info(control, "everything").ok()?.get(field)
}

/// How often a command was called since the last `CONFIG RESETSTAT`.
pub(crate) fn calls(control: &mut Connection, command: &str) -> Result<u64> {
    let stats: Option<String> = info(control, "commandstats")?.get(&format!("cmdstat_{command}"));
    let calls = stats.as_deref().and_then(|s| s.strip_prefix("calls=")?.split(',').next()?.parse().ok());
    Ok(calls.unwrap_or(0))
}

/// Waits until `condition` holds.
pub(crate) fn wait_for(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + within;
    while !condition()? {
        ensure!(Instant::now() < deadline, "gave up waiting for {what}");
        thread::sleep(POLL);
    }
    Ok(())
}
