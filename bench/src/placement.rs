//! Where processes run: servers on one CPU, the driver on another ("split"), as users have them on two machines.
//! On a machine with one CPU nothing is pinned, and the report says so.

use anyhow::{Context, Result};
use nix::sched::{sched_getaffinity, sched_setaffinity, CpuSet};
use nix::unistd::Pid;
use std::{fmt, io};

const SELF: i32 = 0;

#[derive(Clone, Copy)]
pub(crate) enum Placement {
    Split { server: usize, driver: usize },
    Free,
}

impl Placement {
    /// The first two CPUs this process may use.
    pub(crate) fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(SELF)).context("asking for the CPUs we may use")?;
        let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
        Ok(match (cpus.next(), cpus.next()) {
            (Some(server), Some(driver)) => Self::Split { server, driver },
            _ => Self::Free,
        })
    }

    /// Starts a process on the server's CPU: it inherits ours, threads and later children included.
    pub(crate) fn on_server_cpu<T>(self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Self::Split { server, driver } = self else {
            return start();
        };
        pin(server)?;
        let started = start();
        pin(driver)?;
        started
    }

    pub(crate) fn take_driver_cpu(self) -> Result<()> {
        match self {
            Self::Split { driver, .. } => Ok(pin(driver)?),
            Self::Free => Ok(()),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split { server, driver } => {
                write!(f, "split: servers on CPU {server}, driver on CPU {driver}")
            }
            Self::Free => write!(f, "one CPU only, nothing pinned"),
        }
    }
}

fn pin(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    let pinned = only.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(SELF), &only));
    pinned.map_err(|error| io::Error::other(format!("pinning to CPU {cpu}: {error}")))
}
