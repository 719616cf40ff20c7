//! One server process: its own directory, its own port on loopback or in a namespace of its own, ended by its process id, whatever happens to this
//! program.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;
use testbed::{free_port, wait::poll};

use crate::conn::{Conn, Reply, PATIENCE};
use crate::space::Space;

/// Long enough for a slow, busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Which server, and which module in it.
#[derive(Clone)]
pub(crate) struct Programs {
    pub(crate) server: PathBuf,
    pub(crate) module: PathBuf,
    /// `lock.default-lease-ms`: the least that the recovery window lasts.
    pub(crate) lease_ms: u64,
}

/// Where a server runs.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) port: u16,
    /// Where clients find it.
    pub(crate) clients: Ipv4Addr,
    /// Where other servers find it.
    pub(crate) servers: SocketAddr,
    /// The namespace it is in, unless that is the one of this program.
    pub(crate) space: Option<Arc<Space>>,
}

impl Seat {
    /// One on loopback.
    pub(crate) fn free() -> Seat {
        let (port, clients) = (free_port(), Ipv4Addr::LOCALHOST);
        Seat { port, clients, servers: SocketAddr::from((clients, port)), space: None }
    }

    /// What a server that replicates tells of itself, where others do not find it where it is.
    fn announces(&self) -> Vec<String> {
        if self.servers == SocketAddr::from((self.clients, self.port)) {
            return Vec::new();
        }
        let (ip, port) = (self.servers.ip(), self.servers.port());
        vec![format!("replica-announce-ip {ip}"), format!("replica-announce-port {port}")]
    }
}

pub(crate) struct Node {
    dir: TempDir,
    seat: Seat,
    programs: Programs,
    args: Vec<String>,
    child: Child,
    guard: Child,
}

impl Node {
    /// Starts a server with the module and these lines of configuration, and waits until it serves.
    pub(crate) fn start(programs: &Programs, lines: &[&str]) -> Result<Node> {
        Node::start_at(Seat::free(), programs, lines)
    }

    pub(crate) fn start_at(seat: Seat, programs: &Programs, lines: &[&str]) -> Result<Node> {
        let module = format!("loadmodule {}", programs.module.display());
        let lease = format!("lock.default-lease-ms {}", programs.lease_ms);
        let announces = seat.announces();
        let own = [module.as_str(), &lease].into_iter().chain(announces.iter().map(String::as_str));
        let lines: Vec<&str> = own.chain(lines.iter().copied()).collect();
        Node::start_as(seat, programs, &lines, &[])
    }

    /// Starts the program with these lines and words: a server without the module, or a Sentinel.
    pub(crate) fn start_as(seat: Seat, programs: &Programs, lines: &[&str], words: &[&str]) -> Result<Node> {
        let dir = tempfile::Builder::new().prefix("lock-deployment-").tempdir()?;
        let base = [
            "protected-mode no",
            "daemonize no",
            "save \"\"",
            "enable-debug-command yes",
            "repl-diskless-sync-delay 0",
        ];
        // A Sentinel knows none of these.
        let base = if words.is_empty() { &base[..] } else { &base[..2] };
        let place = [
            format!("bind {}", seat.clients),
            format!("port {}", seat.port),
            format!("dir {}", dir.path().display()),
            String::new(),
        ];
        let place: Vec<&str> = place.iter().map(String::as_str).collect();
        std::fs::write(dir.path().join("server.conf"), [base, lines, &place].concat().join("\n"))?;
        let args = words.iter().map(|word| (*word).to_owned()).collect();
        let (child, guard) = launch(programs, dir.path(), &seat, words)?;
        let node = Node { dir, seat, programs: programs.clone(), args, child, guard };
        node.wait_serving()?;
        Ok(node)
    }

    pub(crate) fn port(&self) -> u16 {
        self.seat.port
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((self.seat.clients, self.seat.port))
    }

    /// Where other servers find it.
    pub(crate) fn peers(&self) -> SocketAddr {
        self.seat.servers
    }

    /// The same, as commands and configurations want it.
    pub(crate) fn host_and_port(&self) -> String {
        format!("{} {}", self.seat.servers.ip(), self.seat.servers.port())
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Asks it something, on a connection of its own.
    pub(crate) fn ask(&self, line: &str) -> Reply {
        let words: Vec<&str> = line.split(' ').collect();
        Conn::open(self.address()).map_or(Reply::Unknown, |mut conn| conn.ask(&words, PATIENCE * 4))
    }

    /// The same, until it says OK.
    pub(crate) fn order(&self, line: &str) -> Result<()> {
        let mut last = Reply::Unknown;
        wait_for(&format!("OK to {line}"), || {
            last = self.ask(line);
            last.text().starts_with("OK")
        })
        .with_context(|| format!("{last:?}"))
    }

    /// Waits until grants are made again.
    pub(crate) fn wait_window_over(&self) -> Result<()> {
        let mut last = Reply::Unknown;
        wait_for("the window to be over", || {
            last = self.ask("LOCK.RECOVERY");
            last == Reply::Int(0)
        })
        .with_context(|| format!("{last:?}"))
    }

    /// A field of INFO.
    pub(crate) fn info(&self, field: &str) -> String {
        let text = self.ask("INFO everything");
        let lines = text.text().lines();
        let value = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| *name == field);
        value.map(|(_, value)| value.to_owned()).unwrap_or_default()
    }

    pub(crate) fn info_int(&self, field: &str) -> i64 {
        self.info(field).parse().unwrap_or(-1)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id() as i32), signal)?)
    }

    /// Ends the process at once. What it has on disk stays.
    pub(crate) fn kill(&mut self) {
        end(&mut self.child, &mut self.guard);
    }

    /// Tells the server to save and to end, and waits until it has.
    pub(crate) fn shut_down(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let child = &mut self.child;
        wait_for("the server to end", || !matches!(child.try_wait(), Ok(None)))?;
        self.kill();
        Ok(())
    }

    /// Starts it again on its own files and its own port.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let words: Vec<&str> = self.args.iter().map(String::as_str).collect();
        (self.child, self.guard) = launch(&self.programs, self.dir.path(), &self.seat, &words)?;
        self.wait_serving()
    }

    fn wait_serving(&self) -> Result<()> {
        wait_for("the server to serve", || self.ask("PING").text() == "PONG")
            .with_context(|| std::fs::read_to_string(self.dir().join("log")).unwrap_or_default())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server, and a shell that kills it when this program is gone: then nobody holds the other end of its input.
fn launch(programs: &Programs, dir: &Path, seat: &Seat, words: &[&str]) -> Result<(Child, Child)> {
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    let mut command = Command::new(&programs.server);
    command.arg("server.conf").args(words).current_dir(dir);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut spawn = || command.spawn().with_context(|| format!("cannot run {}", programs.server.display()));
    let child = match &seat.space {
        Some(space) => space.within(spawn),
        None => spawn(),
    }?;
    let guard = Command::new("sh")
        .args([
            "-c",
            "trap '' INT TERM; read -r _; kill -KILL \"$1\" 2>/dev/null",
            "guard",
            &child.id().to_string(),
        ])
        .stdin(Stdio::piped())
        .spawn()?;
    Ok((child, guard))
}

/// Both are waited for last, so that their ids belong to nobody else before that.
fn end(child: &mut Child, guard: &mut Child) {
    let _ = child.kill();
    drop(guard.stdin.take());
    let _ = guard.wait();
    let _ = child.wait();
}

/// Looks again and again until `is_so`; fails when it has not become so in a minute.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    poll(DEADLINE, || is_so().then_some(()))
        .with_context(|| format!("waited {DEADLINE:?} in vain for {what}"))
}
