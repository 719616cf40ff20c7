//! The real servers: each on loopback, with a directory and a port of its own, ended by its process id.
//! A server that is not installed is a reason, not an error: its peers are then named as not measured.

mod count;
mod start;

use anyhow::{Context, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use start::{directory, in_memory, postgres_program, version, zookeeper_version, Process};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Module => "Redis with this module",
            Self::ModuleSynced => "Redis with this module, synced",
            Self::ModuleValkey => "Valkey with this module",
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
            Self::Redlock => "Redis for Redlock",
            Self::MariaDb => "MariaDB",
            Self::MariaDbFast => "MariaDB, not synced",
            Self::Postgres => "PostgreSQL",
            Self::PostgresFast => "PostgreSQL, not synced",
            Self::Etcd => "etcd",
            Self::EtcdFast => "etcd, not synced",
            Self::ZooKeeper => "ZooKeeper",
            Self::ZooKeeperFast => "ZooKeeper, not synced",
            Self::Store => "Redis for what the locks protect",
        })
    }
}

pub(crate) const KINDS: [Kind; 15] = [
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
pub(crate) struct Programs {
    pub module: PathBuf,
    pub redis: PathBuf,
    pub valkey: PathBuf,
    pub etcd: PathBuf,
}

pub(crate) struct Servers {
    groups: Vec<(Kind, Result<Group>)>,
}

/// The processes of one kind.
pub(crate) struct Group {
    kind: Kind,
    processes: Vec<Process>,
    pub version: String,
    pub settings: &'static str,
}

impl Servers {
    pub(crate) fn start(programs: &Programs, wanted: impl Fn(Kind) -> bool) -> Self {
        let start = |kind| {
            eprintln!("starting {kind:?}");
            (kind, Group::start(kind, programs))
        };
        Self { groups: KINDS.into_iter().filter(|kind| wanted(*kind)).map(start).collect() }
    }

    /// The group, or why there is none.
    pub(crate) fn group(&self, kind: Kind) -> Result<&Group, String> {
        let (_, group) = self.groups.iter().find(|(of, _)| *of == kind).ok_or("not asked for")?;
        group.as_ref().map_err(|error| format!("{error:#}"))
    }
}

impl Group {
    pub(crate) fn start(kind: Kind, programs: &Programs) -> Result<Self> {
        let redis = |options: &[&str]| start::redis(&programs.redis, options);
        let module = ["--loadmodule", programs.module.to_str().context("a path of the module in UTF-8")?];
        let of = |program: &Path| version(program, "--version");
        let (processes, version, settings) = match kind {
            Kind::Module => (vec![redis(&module)?], of(&programs.redis)?, "no persistence"),
            Kind::ModuleSynced => {
                let synced = [&module[..], &["--appendonly", "yes", "--appendfsync", "always"]].concat();
                (vec![redis(&synced)?], of(&programs.redis)?, "appendonly yes, appendfsync always")
            }
            Kind::ModuleValkey => {
                (vec![start::redis(&programs.valkey, &module)?], of(&programs.valkey)?, "no persistence")
            }
            Kind::Valkey => {
                (vec![start::redis(&programs.valkey, &[])?], of(&programs.valkey)?, "no persistence")
            }
            Kind::Redis | Kind::Store => (vec![redis(&[])?], of(&programs.redis)?, "no persistence"),
            Kind::Redlock => {
                let three = vec![redis(&[])?, redis(&[])?, redis(&[])?];
                (three, of(&programs.redis)?, "three servers, no persistence")
            }
            Kind::MariaDb => (
                vec![start::mariadb(&[])?],
                of(Path::new("mariadbd"))?,
                "compiled defaults: every commit is synced to disk; GET_LOCK touches no disk",
            ),
            Kind::MariaDbFast => (
                vec![start::mariadb(&["--innodb-flush-log-at-trx-commit=0"])?],
                of(Path::new("mariadbd"))?,
                "innodb_flush_log_at_trx_commit 0",
            ),
            Kind::Postgres => (
                vec![start::postgres(&[])?],
                of(&postgres_program("postgres")?)?,
                "defaults: fsync, synchronous_commit; advisory locks write nothing",
            ),
            Kind::PostgresFast => (
                vec![start::postgres(&["fsync=off", "synchronous_commit=off", "full_page_writes=off"])?],
                of(&postgres_program("postgres")?)?,
                "fsync off, synchronous_commit off, full_page_writes off",
            ),
            Kind::Etcd => (
                vec![start::etcd(&programs.etcd, directory()?)?],
                of(&programs.etcd)?,
                "defaults, one member: fsync",
            ),
            Kind::EtcdFast => (
                vec![start::etcd(&programs.etcd, in_memory()?)?],
                of(&programs.etcd)?,
                "defaults, one member, its data in memory",
            ),
            Kind::ZooKeeper => (
                vec![start::zookeeper(directory()?, "yes")?],
                zookeeper_version(),
                "one server, fsync, tickTime 500, maxClientCnxns 0, heap 1 GiB",
            ),
            Kind::ZooKeeperFast => (
                vec![start::zookeeper(in_memory()?, "no")?],
                zookeeper_version(),
                "forceSync no, its data in memory, the rest as above",
            ),
        };
        Ok(Self { kind, processes, version, settings })
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.processes.iter().map(Process::port).collect()
    }

    /// CPU time of all processes and of the children that serve single clients.
    pub(crate) fn cpu(&self) -> Duration {
        self.pids()
            .into_iter()
            .filter_map(|pid| clock_getcpuclockid(Pid::from_raw(pid)).ok()?.now().ok())
            .map(Duration::from)
            .sum()
    }

    /// Resident memory, with shared pages counted once; of a Java server what lives in its heap.
    pub(crate) fn memory(&self) -> Result<u64> {
        if matches!(self.kind, Kind::ZooKeeper | Kind::ZooKeeperFast) {
            return self.processes.iter().map(|process| count::live_heap(process.pid())).sum();
        }
        let of = |pid: i32| -> Option<u64> {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Ok(self.pids().into_iter().filter_map(of).sum::<u64>() * 1024)
    }

    /// Requests that the servers have read so far, for those that count them.
    pub(crate) fn requests(&self) -> Result<u64> {
        let of = |port| match self.kind {
            Kind::ZooKeeper | Kind::ZooKeeperFast => count::zookeeper_received(port),
            _ => count::redis_reads(port),
        };
        self.ports().into_iter().map(of).sum()
    }

    fn pids(&self) -> Vec<i32> {
        self.processes.iter().flat_map(|process| family(process.pid())).collect()
    }
}

/// A process and its children.
fn family(pid: u32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    std::iter::once(pid as i32).chain(children).collect()
}
