//! How each server is started: on loopback, with a port and a directory of its own.

use anyhow::{anyhow, bail, ensure, Context, Result};
use nix::sys::signal::{kill, Signal};
use nix::unistd::{Pid, Uid};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use testbed::wait::poll;
use testbed::{free_port, Server, Setup};

/// The Java server and a first start of `MariaDB` take seconds on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// `PostgreSQL` refuses to run as root.
const NOBODY: u32 = 65_534;
const CLIENTS: &str = "1200";

/// A server. It ends with this.
pub(super) enum Process {
    Redis(Box<Server>),
    Other(Other),
}

/// One that speaks another protocol.
pub(super) struct Other {
    child: Child,
    port: u16,
    ends: Signal,
    dir: TempDir,
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Redis(server) => server.pid(),
            Self::Other(other) => other.child.id(),
        }
    }

    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Redis(server) => server.port(),
            Self::Other(other) => other.port,
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Nothing on disk is wanted, so the quick way that leaves no shared memory behind.
        let _ = kill(Pid::from_raw(self.child.id() as i32), self.ends);
        let _ = self.child.wait();
    }
}

pub(super) fn redis(program: &Path, options: &[&str]) -> Result<Process> {
    // One that is not installed is a reason here.
    version(program, "--version")?;
    // It runs in a directory of its own.
    let is_path = program.components().nth(1).is_some();
    let program = if is_path { std::path::absolute(program)? } else { program.to_owned() };
    let setup =
        Setup::bare(&program).conf(&["save \"\"", "appendonly no", "maxclients 10000"]).words(options);
    let server = setup.patience(START_TIMEOUT).try_start();
    let server = server.map_err(|log| anyhow!("{} does not start:\n{log}", program.display()))?;
    Ok(Process::Redis(Box::new(server)))
}

pub(super) fn mariadb(options: &[&str]) -> Result<Process> {
    let dir = directory()?;
    let port = free_port();
    let data = format!("--datadir={}", dir.path().join("data").display());
    let user = if Uid::effective().is_root() { "root" } else { "" };
    let user = format!("--user={user}");
    run(Command::new("mariadb-install-db").args([
        "--no-defaults",
        &data,
        &user,
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ]))?;
    let mut command = Command::new("mariadbd");
    command
        .args(["--no-defaults", &data, &user, "--bind-address=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--socket={}", dir.path().join("socket").display()))
        .arg(format!("--max-connections={CLIENTS}"))
        .args(options);
    spawn(command, port, Signal::SIGKILL, dir)
}

pub(super) fn postgres(options: &[&str]) -> Result<Process> {
    let dir = directory()?;
    let port = free_port();
    let as_nobody = |program: PathBuf| {
        let mut command = Command::new(program);
        if Uid::effective().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    if Uid::effective().is_root() {
        chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
    }
    let data = dir.path().join("data");
    run(as_nobody(postgres_program("initdb")?)
        .current_dir(dir.path())
        .args(["-A", "trust", "-U", "postgres", "-D"])
        .arg(&data))?;
    let mut command = as_nobody(postgres_program("postgres")?);
    command.current_dir(dir.path()).arg("-D").arg(&data).arg("-p").arg(port.to_string());
    let here = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=1200"];
    for setting in here.iter().chain(options) {
        command.args(["-c", setting]);
    }
    // An immediate shutdown, which the children follow.
    spawn(command, port, Signal::SIGQUIT, dir)
}

pub(super) fn etcd(program: &Path, dir: TempDir) -> Result<Process> {
    let (port, peer) = (free_port(), free_port());
    let (client_url, peer_url) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(dir.path().join("data"));
    command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    command.args(["--initial-cluster", &format!("default={peer_url}")]);
    spawn(command, port, Signal::SIGKILL, dir)
}

pub(super) fn zookeeper(dir: TempDir, sync: &str) -> Result<Process> {
    const JARS: &str = "/usr/share/java/zookeeper.jar";
    ensure!(Path::new(JARS).exists(), "the package zookeeper is not installed");
    let port = free_port();
    let config = dir.path().join("zoo.cfg");
    let data = dir.path().join("data");
    let lines = format!(
        "tickTime=500\nminSessionTimeout=1000\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         clientPortAddress=127.0.0.1\nclientPort={port}\ndataDir={}\n",
        data.display()
    );
    fs::write(&config, lines)?;
    let mut command = Command::new("java");
    command.arg(format!("-Dzookeeper.forceSync={sync}"));
    command.args(["-Xmx1g", "-cp", JARS, "org.apache.zookeeper.server.ZooKeeperServerMain"]).arg(config);
    spawn(command, port, Signal::SIGKILL, dir)
}

/// Starts it and waits until it listens; that it answers, the first client finds out.
fn spawn(mut command: Command, port: u16, ends: Signal, dir: TempDir) -> Result<Process> {
    let log = fs::File::create(dir.path().join("log"))?;
    command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn().with_context(|| format!("{name} does not start"))?;
    let mut server = Other { child, port, ends, dir };
    let listens = poll(START_TIMEOUT, || match server.child.try_wait() {
        Ok(None) => TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok().then_some(true),
        _ => Some(false),
    });
    let log = || fs::read_to_string(server.dir.path().join("log")).unwrap_or_default();
    match listens {
        Some(true) => Ok(Process::Other(server)),
        Some(false) => bail!("{name} ended at once:\n{}", log()),
        None => bail!("{name} does not listen:\n{}", log()),
    }
}

pub(super) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{name} is not installed"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{name}: {}", if complained.is_empty() { said } else { complained });
    Ok(said)
}

/// The first thing with a digit and a dot in the first line that has one.
pub(super) fn version(program: &Path, option: &str) -> Result<String> {
    let text = run(Command::new(program).arg(option))?;
    let is_version = |word: &&str| word.contains('.') && word.chars().any(|c| c.is_ascii_digit());
    let word = text.split([' ', '\n', '=']).find(|word| is_version(word) && !word.contains('/'));
    Ok(word.unwrap_or("unknown").trim_end_matches(',').split('-').next().unwrap_or_default().to_string())
}

pub(super) fn zookeeper_version() -> String {
    let package = run(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", "zookeeper"]));
    package.unwrap_or_else(|_| "unknown".into()).split('-').next().unwrap_or_default().to_string()
}

/// Debian keeps `PostgreSQL`'s programs apart from the others.
pub(super) fn postgres_program(program: &str) -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("the package postgresql is not installed")?;
    let newest = versions.flatten().map(|entry| entry.path()).max().context("no version of PostgreSQL")?;
    Ok(newest.join("bin").join(program))
}

/// For servers that are to write without a disk.
pub(super) fn in_memory() -> Result<TempDir> {
    Ok(TempDir::with_prefix_in("lock-compare-", "/dev/shm")?)
}

pub(super) fn directory() -> Result<TempDir> {
    Ok(TempDir::with_prefix("lock-compare-")?)
}
