//! The real servers: each on loopback, with a directory and a port of its own, ended by its process id.
//! A server that is not installed is a reason, not an error: its peers are then named as not measured.

use anyhow::{ensure, Context, Result};
use nix::sys::signal::{kill, Signal};
use nix::time::clock_getcpuclockid;
use nix::unistd::{Pid, Uid};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The Java server and a first start of MariaDB take seconds on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;
const CLIENTS: &str = "1200";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Redis with this module.
    Module,
    /// The same, and a reply only when the write is on the disk.
    ModuleSynced,
    /// Valkey with this module.
    ModuleValkey,
    /// Redis alone.
    Redis,
    Valkey,
    /// Three Redis servers that know nothing of each other.
    Redlock,
    MariaDb,
    /// As fast as it can be set, without waiting for the disk; so are the others of this name.
    MariaDbFast,
    Postgres,
    PostgresFast,
    Etcd,
    EtcdFast,
    ZooKeeper,
    ZooKeeperFast,
    /// Redis, for what the locks protect.
    Store,
}

pub const KINDS: [Kind; 15] = [
    Kind::Module,
    Kind::ModuleSynced,
    Kind::ModuleValkey,
    Kind::Redis,
    Kind::Valkey,
    Kind::Redlock,
    Kind::MariaDb,
    Kind::MariaDbFast,
    Kind::Postgres,
    Kind::PostgresFast,
    Kind::Etcd,
    Kind::EtcdFast,
    Kind::ZooKeeper,
    Kind::ZooKeeperFast,
    Kind::Store,
];

/// Where the programs are.
pub struct Programs {
    pub module: PathBuf,
    pub redis: PathBuf,
    pub valkey: PathBuf,
    pub etcd: PathBuf,
}

pub struct Servers {
    groups: Vec<(Kind, Result<Group>)>,
}

/// The processes of one kind.
pub struct Group {
    kind: Kind,
    processes: Vec<Process>,
    pub version: String,
    pub settings: &'static str,
}

struct Process {
    child: Child,
    port: u16,
    ends: Signal,
    dir: TempDir,
}

impl Servers {
    pub fn start(programs: &Programs, wanted: impl Fn(Kind) -> bool) -> Self {
        let start = |kind| {
            eprintln!("starting {kind:?}");
            (kind, Group::start(kind, programs))
        };
        Self { groups: KINDS.into_iter().filter(|kind| wanted(*kind)).map(start).collect() }
    }

    /// The group, or why there is none.
    pub fn group(&self, kind: Kind) -> Result<&Group, String> {
        let (_, group) = self.groups.iter().find(|(of, _)| *of == kind).ok_or("not asked for")?;
        group.as_ref().map_err(|error| format!("{error:#}"))
    }
}

impl Group {
    pub fn start(kind: Kind, programs: &Programs) -> Result<Self> {
        let redis = |options: &[&str]| start_redis(&programs.redis, options);
        let module = ["--loadmodule", programs.module.to_str().context("a path of the module in UTF-8")?];
        let of = |program: &Path| version(program, "--version");
        let (processes, version, settings) = match kind {
            Kind::Module => (vec![redis(&module)?], of(&programs.redis)?, "no persistence"),
            Kind::ModuleSynced => {
                let synced = [&module[..], &["--appendonly", "yes", "--appendfsync", "always"]].concat();
                (vec![redis(&synced)?], of(&programs.redis)?, "appendonly yes, appendfsync always")
            }
            Kind::ModuleValkey => {
                (vec![start_redis(&programs.valkey, &module)?], of(&programs.valkey)?, "no persistence")
            }
            Kind::Valkey => {
                (vec![start_redis(&programs.valkey, &[])?], of(&programs.valkey)?, "no persistence")
            }
            Kind::Redis | Kind::Store => (vec![redis(&[])?], of(&programs.redis)?, "no persistence"),
            Kind::Redlock => {
                let three = vec![redis(&[])?, redis(&[])?, redis(&[])?];
                (three, of(&programs.redis)?, "three servers, no persistence")
            }
            Kind::MariaDb => (
                vec![start_mariadb(&[])?],
                of(Path::new("mariadbd"))?,
                "compiled defaults: every commit is synced to disk; GET_LOCK touches no disk",
            ),
            Kind::MariaDbFast => (
                vec![start_mariadb(&["--innodb-flush-log-at-trx-commit=0"])?],
                of(Path::new("mariadbd"))?,
                "innodb_flush_log_at_trx_commit 0",
            ),
            Kind::Postgres => (
                vec![start_postgres(&[])?],
                of(&postgres("postgres")?)?,
                "defaults: fsync, synchronous_commit; advisory locks write nothing",
            ),
            Kind::PostgresFast => (
                vec![start_postgres(&["fsync=off", "synchronous_commit=off", "full_page_writes=off"])?],
                of(&postgres("postgres")?)?,
                "fsync off, synchronous_commit off, full_page_writes off",
            ),
            Kind::Etcd => (
                vec![start_etcd(&programs.etcd, directory()?)?],
                of(&programs.etcd)?,
                "defaults, one member: fsync",
            ),
            Kind::EtcdFast => (
                vec![start_etcd(&programs.etcd, in_memory()?)?],
                of(&programs.etcd)?,
                "defaults, one member, its data in memory",
            ),
            Kind::ZooKeeper => (
                vec![start_zookeeper(directory()?, "yes")?],
                zookeeper_version(),
                "one server, fsync, tickTime 500, maxClientCnxns 0, heap 1 GiB",
            ),
            Kind::ZooKeeperFast => (
                vec![start_zookeeper(in_memory()?, "no")?],
                zookeeper_version(),
                "forceSync no, its data in memory, the rest as above",
            ),
        };
        Ok(Self { kind, processes, version, settings })
    }

    pub fn ports(&self) -> Vec<u16> {
        self.processes.iter().map(|process| process.port).collect()
    }

    /// CPU time of all processes and of the children that serve single clients.
    pub fn cpu(&self) -> Duration {
        self.pids()
            .into_iter()
            .filter_map(|pid| clock_getcpuclockid(Pid::from_raw(pid)).ok()?.now().ok())
            .map(Duration::from)
            .sum()
    }

    /// Resident memory, with shared pages counted once; of a Java server what lives in its heap.
    pub fn memory(&self) -> Result<u64> {
        if matches!(self.kind, Kind::ZooKeeper | Kind::ZooKeeperFast) {
            return self.processes.iter().map(|process| live_heap(process.child.id())).sum();
        }
        let of = |pid: i32| -> Option<u64> {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Ok(self.pids().into_iter().filter_map(of).sum::<u64>() * 1024)
    }

    /// Requests that the servers have read so far, for those that count them.
    pub fn requests(&self) -> Result<u64> {
        let of = |port| match self.kind {
            Kind::ZooKeeper | Kind::ZooKeeperFast => zookeeper_received(port),
            _ => redis_reads(port),
        };
        self.ports().into_iter().map(of).sum()
    }

    fn pids(&self) -> Vec<i32> {
        self.processes.iter().flat_map(|process| family(process.child.id())).collect()
    }
}

/// A process and its children.
fn family(pid: u32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    std::iter::once(pid as i32).chain(children).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing on disk is wanted, so the quick way that leaves no shared memory behind.
        let _ = kill(Pid::from_raw(self.child.id() as i32), self.ends);
        let _ = self.child.wait();
    }
}

fn start_redis(program: &Path, options: &[&str]) -> Result<Process> {
    let dir = directory()?;
    let port = free_port()?;
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxclients", "4000"]);
    command.arg("--port").arg(port.to_string()).arg("--dir").arg(dir.path()).args(options);
    spawn(command, port, Signal::SIGKILL, dir)
}

fn start_mariadb(options: &[&str]) -> Result<Process> {
    let dir = directory()?;
    let port = free_port()?;
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

fn start_postgres(options: &[&str]) -> Result<Process> {
    let dir = directory()?;
    let port = free_port()?;
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
    run(as_nobody(postgres("initdb")?)
        .current_dir(dir.path())
        .args(["-A", "trust", "-U", "postgres", "-D"])
        .arg(&data))?;
    let mut command = as_nobody(postgres("postgres")?);
    command.current_dir(dir.path()).arg("-D").arg(&data).arg("-p").arg(port.to_string());
    let here = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=1200"];
    for setting in here.iter().chain(options) {
        command.args(["-c", setting]);
    }
    // An immediate shutdown, which the children follow.
    spawn(command, port, Signal::SIGQUIT, dir)
}

fn start_etcd(program: &Path, dir: TempDir) -> Result<Process> {
    let (port, peer) = (free_port()?, free_port()?);
    let (client_url, peer_url) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(dir.path().join("data"));
    command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    command.args(["--initial-cluster", &format!("default={peer_url}")]);
    spawn(command, port, Signal::SIGKILL, dir)
}

fn start_zookeeper(dir: TempDir, sync: &str) -> Result<Process> {
    const JARS: &str = "/usr/share/java/zookeeper.jar";
    ensure!(Path::new(JARS).exists(), "the package zookeeper is not installed");
    let port = free_port()?;
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
    let mut process = Process { child, port, ends, dir };
    let deadline = Instant::now() + START_TIMEOUT;
    while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err() {
        let log = || fs::read_to_string(process.dir.path().join("log")).unwrap_or_default();
        ensure!(process.child.try_wait()?.is_none(), "{name} ended at once:\n{}", log());
        ensure!(Instant::now() < deadline, "{name} does not listen:\n{}", log());
        std::thread::sleep(POLL);
    }
    Ok(process)
}

fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{name} is not installed"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{name}: {}", if complained.is_empty() { said } else { complained });
    Ok(said)
}

/// The first thing with a digit and a dot in the first line that has one.
fn version(program: &Path, option: &str) -> Result<String> {
    let text = run(Command::new(program).arg(option))?;
    let is_version = |word: &&str| word.contains('.') && word.chars().any(|c| c.is_ascii_digit());
    let word = text.split([' ', '\n', '=']).find(|word| is_version(word) && !word.contains('/'));
    Ok(word.unwrap_or("unknown").trim_end_matches(',').split('-').next().unwrap_or_default().to_string())
}

fn zookeeper_version() -> String {
    let package = run(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", "zookeeper"]));
    package.unwrap_or_else(|_| "unknown".into()).split('-').next().unwrap_or_default().to_string()
}

/// Debian keeps PostgreSQL's programs apart from the others.
fn postgres(program: &str) -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("the package postgresql is not installed")?;
    let newest = versions.flatten().map(|entry| entry.path()).max().context("no version of PostgreSQL")?;
    Ok(newest.join("bin").join(program))
}

/// The first line of what it answers to a word of four letters has this number, among others.
fn zookeeper_received(port: u16) -> Result<u64> {
    let mut link = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    link.write_all(b"srvr")?;
    let mut said = String::new();
    link.read_to_string(&mut said)?;
    field(&said, "Received: ")
}

/// Times that the server has read from a client: once for each request of who waits for the reply before the next.
fn redis_reads(port: u16) -> Result<u64> {
    let mut link = redis::Client::open(("127.0.0.1", port))?.get_connection()?;
    let said: String = redis::cmd("INFO").arg("stats").query(&mut link)?;
    field(&said, "total_reads_processed:")
}

fn field(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.with_context(|| format!("no {name}"))?.trim().parse()?)
}

/// What is left after a collection.
fn live_heap(pid: u32) -> Result<u64> {
    let table = run(Command::new("jcmd").arg(pid.to_string()).arg("GC.class_histogram"))?;
    let total = table.lines().rev().find_map(|line| line.trim().strip_prefix("Total")).context("no total")?;
    Ok(total.split_whitespace().nth(1).context("no bytes")?.parse()?)
}

/// For servers that are to write without a disk.
fn in_memory() -> Result<TempDir> {
    Ok(TempDir::with_prefix_in("lock-compare-", "/dev/shm")?)
}

fn directory() -> Result<TempDir> {
    Ok(TempDir::with_prefix("lock-compare-")?)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
